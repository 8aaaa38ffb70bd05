"""The openml source against a server of our own on 127.0.0.1 that speaks OpenML's API."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modelopt_cli.core.errors import InputError
from modelopt_cli.core.strategy import FAMILIES

ROWS = [(20.5, "sunny", "play"), (14.0, "rain", "stay"), ("?", "sunny", "play"), (9.0, "rain", "stay")]
ARFF = (
    "@RELATION weather\n@ATTRIBUTE degrees NUMERIC\n@ATTRIBUTE sky {sunny,rain}\n@ATTRIBUTE plan {play,stay}\n@DATA\n"
    + "\n".join(",".join(map(str, row)) for row in ROWS)
    + "\n"
)


def feature(index: int, name: str, kind: str, target: str, values: list[str] | None = None) -> dict[str, Any]:
    base = {"index": str(index), "name": name, "data_type": kind, "is_target": target, "number_of_missing_values": "0"}
    return {**base, "is_ignore": "false", "is_row_identifier": "false", "nominal_value": values or []}


class OpenMLServer:
    """Answers for the data set 'weather' (id 7); counts what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked.append(self.path)
                code, body = outer.answer(self.path)
                self.send_response(code)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                """Keep the tests' output clean."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.root = f"http://127.0.0.1:{self.server.server_port}/api/v1/json/data"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def answer(self, path: str) -> tuple[int, bytes]:
        document: dict[str, Any]
        if path.startswith("/api/v1/json/data/list/data_name/weather/"):
            document = {"data": {"dataset": [{"did": 7, "name": "weather", "version": 1, "status": "active"}]}}
        elif path == "/api/v1/json/data/7":
            digest = hashlib.md5(ARFF.encode()).hexdigest()
            document = {"id": "7", "name": "weather", "version": "1", "format": "ARFF", "status": "active"}
            document |= {
                "file_id": "7",
                "description": "Four days.",
                "md5_checksum": digest,
                "default_target_attribute": "plan",
            }
            document |= {"url": f"{self.root}/file/weather.arff"}
            document = {"data_set_description": document}
        elif path == "/api/v1/json/data/features/7":
            features = [feature(0, "degrees", "numeric", "false")]
            features += [feature(1, "sky", "nominal", "false", ["sunny", "rain"])]
            features += [feature(2, "plan", "nominal", "true", ["play", "stay"])]
            document = {"data_features": {"feature": features}}
        elif path == "/api/v1/json/data/qualities/7":
            document = {"data_qualities": {"quality": [{"name": "NumberOfInstances", "value": "4"}]}}
        elif path.endswith("weather.arff"):
            return 200, ARFF.encode()
        else:
            return 412, json.dumps({"error": {"code": "372", "message": "No results"}}).encode()
        return 200, json.dumps(document).encode()


@pytest.fixture
def openml(monkeypatch: pytest.MonkeyPatch) -> Iterator[OpenMLServer]:
    from sklearn.datasets import _openml as module

    openml = OpenMLServer()
    monkeypatch.setattr(module, "_SEARCH_NAME", openml.root + "/list/data_name/{}/limit/2")
    monkeypatch.setattr(module, "_DATA_INFO", openml.root + "/{}")
    monkeypatch.setattr(module, "_DATA_FEATURES", openml.root + "/features/{}")
    monkeypatch.setattr(module, "_DATA_QUALITIES", openml.root + "/qualities/{}")
    yield openml
    openml.server.shutdown()
    openml.server.server_close()


def source(**options: Any) -> Any:
    return FAMILIES["data"].get("openml").model_validate(options)


def test_a_data_set_is_downloaded_once_and_read_from_the_cache_after(openml: OpenMLServer, tmp_path: Path) -> None:
    first = source(dataset="weather", cache=str(tmp_path)).load(0)
    assert first.task == "classification"
    assert list(first.label_names) == ["play", "stay"]
    np.testing.assert_array_equal(first.targets, [0, 1, 0, 1])
    asked = len(openml.asked)
    openml.server.shutdown()
    openml.server.server_close()
    again = source(dataset="weather", cache=str(tmp_path)).load(0)
    assert len(openml.asked) == asked
    assert again.fingerprint == first.fingerprint


def test_by_number_and_with_another_target(openml: OpenMLServer, tmp_path: Path) -> None:
    raw = source(data_id=7, target="sky", cache=str(tmp_path)).load(0)
    assert sorted(raw.label_names) == ["rain", "sunny"]
    assert len(raw) == 4


def test_a_name_that_openml_does_not_know(openml: OpenMLServer, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="OpenML data set 'whether' cannot be read: No active dataset whether found"):
        source(dataset="whether", cache=str(tmp_path)).load(0)


def test_no_network_and_no_cache(openml: OpenMLServer, tmp_path: Path) -> None:
    openml.server.shutdown()
    openml.server.server_close()
    with pytest.raises(InputError, match=r"cannot be downloaded .* and is not in the cache") as caught:
        source(dataset="weather", cache=str(tmp_path)).load(0)
    assert caught.value.exit_code == 2


def test_a_download_that_is_cut_short(openml: OpenMLServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = openml.answer
    monkeypatch.setattr(
        openml, "answer", lambda path: (200, ARFF[:120].encode()) if path.endswith(".arff") else whole(path)
    )
    with pytest.raises(InputError, match="'weather' cannot be read"):
        source(dataset="weather", cache=str(tmp_path)).load(0)
