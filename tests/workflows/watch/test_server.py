"""The served report: what it gives, and what it refuses. The page itself is a small stand-in; see results/page."""

from __future__ import annotations

import http.client
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from modelopt_cli.core.errors import InputError, UsageError
from modelopt_cli.results.report import Report
from modelopt_cli.results.run_directory import RunDirectory
from modelopt_cli.tuning.study.study import Study
from modelopt_cli.workflows.watch.server import LiveReport, ReportServer
from tests.support.waiting import PATIENCE

SECRET = "nobody reads this"


def page(report: Report, folder: Path) -> str:
    return f"<!doctype html><title>{report.name} {len(report.records('trials'))}</title>"


def data(report: Report) -> object:
    return {"trials": len(report.records("trials"))}


@pytest.fixture
def study(tmp_path: Path) -> Iterator[Study]:
    """A search that is under way, in runs/live/1."""
    (tmp_path / "secret.txt").write_text(SECRET)
    with RunDirectory.create(tmp_path / "runs", "live") as directory:
        (directory.path / "notes.txt").write_text(SECRET)
        with Study(
            {"x": {"float": [0.0, 1.0]}},
            sampler="random",
            objective="minimize loss",
            path=directory.path / "study.sqlite",
        ) as study:
            trial = study.ask()
            study.tell(trial.number, {"loss": 0.5})
            yield study


@pytest.fixture
def server(study: Study, tmp_path: Path) -> Iterator[ReportServer]:
    server = ReportServer(LiveReport(tmp_path / "runs" / "live" / "1", page, data, interval=0.0), 0)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def ask(server: ReportServer, method: str, path: str, **headers: str) -> tuple[http.client.HTTPResponse, bytes]:
    with closing(http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=PATIENCE)) as connection:
        connection.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
        response = connection.getresponse()
        return response, response.read()


def raw(server: ReportServer, request: bytes) -> bytes:
    """What comes back for these bytes, to the end of the connection."""
    with socket.create_connection(("127.0.0.1", server.server_port), timeout=PATIENCE) as connection:
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        parts = []
        while part := connection.recv(65536):
            parts.append(part)
    return b"".join(parts)


def test_it_listens_on_this_machine_alone(server: ReportServer) -> None:
    assert server.server_address[0] == "127.0.0.1"
    assert server.url == f"http://127.0.0.1:{server.server_port}/"


def test_the_page_and_its_data(server: ReportServer, study: Study) -> None:
    response, content = ask(server, "GET", "/")
    assert response.status == 200
    assert response.headers["Content-Type"] == "text/html; charset=utf-8"
    assert content == b"<!doctype html><title>live 1</title>"
    first = json.loads(ask(server, "GET", "/data.json")[1])
    assert first["status"] == "running"
    assert first["data"] == {"trials": 1}
    assert json.loads(ask(server, "GET", "/data.json?again")[1])["version"] == first["version"], "nothing has changed"
    trial = study.ask()
    study.tell(trial.number, {"loss": 0.3})
    second = json.loads(ask(server, "GET", "/data.json")[1])
    assert second["data"] == {"trials": 2}
    assert second["version"] != first["version"]


def test_head_is_the_same_without_the_content(server: ReportServer) -> None:
    response, content = ask(server, "HEAD", "/")
    whole = ask(server, "GET", "/")[1]
    assert (response.status, content, response.headers["Content-Length"]) == (200, b"", str(len(whole)))


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "BREW", "get"])
def test_nothing_but_reading(server: ReportServer, method: str) -> None:
    request = f"{method} / HTTP/1.1\r\nHost: 127.0.0.1:{server.server_port}\r\nContent-Length: 5\r\n\r\nhello"
    answer = raw(server, request.encode())
    assert answer.startswith(b"HTTP/1.1 405 ")
    assert answer.count(b"HTTP/1.1") == 1, "what follows is no request"
    assert b"Allow: GET, HEAD" in answer


@pytest.mark.parametrize(
    "path",
    [
        "/index.html",
        "/report.json",
        "/study.sqlite",
        "/notes.txt",
        "/../notes.txt",
        "/..%2f..%2fsecret.txt",
        "/%2e%2e/secret.txt",
        "//etc/passwd",
        "/data.json/",
        "/data.json%00.html",
        "/./",
        "/" + "a" * 5000,
        "http://127.0.0.1/",
        "*",
    ],
)
def test_there_is_nothing_else(server: ReportServer, path: str) -> None:
    request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{server.server_port}\r\nConnection: close\r\n\r\n"
    answer = raw(server, request.encode())
    assert answer.startswith(b"HTTP/1.1 404 ")
    assert SECRET.encode() not in answer


@pytest.mark.parametrize(
    "host",
    [
        "evil.example:{port}",
        "127.0.0.1",
        "127.0.0.1:1",
        "127.0.0.1.evil.example:{port}",
        "localhost:{port}@evil",
        "[::1]:{port}",
        "",
    ],
)
def test_another_name_is_refused(server: ReportServer, host: str) -> None:
    named = host.format(port=server.server_port)
    answer = raw(server, f"GET /data.json HTTP/1.1\r\nHost: {named}\r\nConnection: close\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 403 ")
    assert b"trials" not in answer


def test_no_name_or_two_are_refused(server: ReportServer) -> None:
    right = f"Host: 127.0.0.1:{server.server_port}\r\n"
    for names in ("", right + "Host: evil.example\r\n", right + right):
        answer = raw(server, f"GET / HTTP/1.1\r\n{names}Connection: close\r\n\r\n".encode())
        assert answer.startswith(b"HTTP/1.1 403 ")


def test_localhost_is_this_machine(server: ReportServer) -> None:
    assert ask(server, "GET", "/", Host=f"LocalHost:{server.server_port}")[0].status == 200


def test_no_other_site_may_read_it(server: ReportServer) -> None:
    response, _ = ask(server, "GET", "/data.json", Origin="http://evil.example")
    names = {name.lower() for name in response.headers}
    assert not any(name.startswith("access-control") for name in names)
    assert response.headers["Cache-Control"] == "no-store"
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["Cross-Origin-Resource-Policy"] == "same-origin"
    policy = response.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy


def test_a_body_is_refused(server: ReportServer) -> None:
    for header in ("Content-Length: 5", "Transfer-Encoding: chunked"):
        request = f"GET / HTTP/1.1\r\nHost: 127.0.0.1:{server.server_port}\r\n{header}\r\n\r\nhello"
        answer = raw(server, request.encode())
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert answer.count(b"HTTP/1.1") == 1


@pytest.mark.parametrize(
    "request_", [b"\r\n\r\n", b"hello\r\n\r\n", b"GET\r\n\r\n", b"\x16\x03\x01\x02\x00", b"GET / HTTP/9.9\r\n\r\n"]
)
def test_what_is_no_request_does_no_harm(server: ReportServer, request_: bytes) -> None:
    raw(server, request_)
    raw(server, b"GET / HTTP/1.1\r\n" + b"X: " + b"y" * 70_000 + b"\r\n\r\n")
    assert ask(server, "GET", "/")[0].status == 200


def test_a_slow_client_keeps_nobody_waiting(server: ReportServer) -> None:
    with socket.create_connection(("127.0.0.1", server.server_port)) as idle:
        idle.sendall(b"GET / HT")
        assert ask(server, "GET", "/")[0].status == 200


def test_a_port_in_use_is_an_error_that_names_a_free_one(server: ReportServer, tmp_path: Path) -> None:
    report = LiveReport(tmp_path / "runs" / "live" / "1", page, data, interval=1.0)
    with pytest.raises(UsageError, match="--serve 0"):
        ReportServer(report, server.server_port)


def test_a_run_that_was_removed_is_shown_as_it_was(server: ReportServer, tmp_path: Path) -> None:
    before = ask(server, "GET", "/")[1]
    (tmp_path / "runs" / "live" / "1").rename(tmp_path / "elsewhere")
    assert ask(server, "GET", "/")[1] == before
    (tmp_path / "elsewhere").rename(tmp_path / "runs" / "live" / "1")


def test_there_must_be_a_run(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there no more"):
        LiveReport(tmp_path / "nothing", page, data, interval=1.0)
