"""What a logger has kept, read back through its own package: `python -m tests.support.logger_readers NAME FOLDER`.

Run as a program, so that what the packages warn of and leave behind stays out of the tests' process. Prints JSON: name
of a run -> `Kept`.
"""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypedDict


class Kept(TypedDict):
    """One run as its package knows it."""

    settings: dict[str, Any]
    curves: dict[str, list[list[float]]]  # metric -> [step, value] each, in order
    final: dict[str, Any]  # metric -> last value
    texts: list[str]  # tags, notes and the like
    status: str
    group: str  # what a child has in common with its parent


def read(name: str, folder: Path) -> dict[str, Kept]:
    """What the logger `name` kept of the runs of experiment `n` under `folder` (`folder/n/1` is the run's)."""
    program = [sys.executable, "-W", "ignore", "-m", "tests.support.logger_readers", name, str(folder)]
    done = subprocess.run(program, capture_output=True, text=True, check=False, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]
    kept: dict[str, Kept] = json.loads(done.stdout.splitlines()[-1])
    return kept


def of_tensorboard(root: Path) -> dict[str, Kept]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams.metadata import SESSION_END_INFO_TAG, SESSION_START_INFO_TAG
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    kept: dict[str, Kept] = {}
    for folder in sorted((root / "n" / "1" / "tensorboard").iterdir()):
        events = EventAccumulator(str(folder), size_guidance={"scalars": 0})
        events.Reload()
        plugin = events.PluginTagToContent("hparams")
        begun = HParamsPluginData.FromString(plugin[SESSION_START_INFO_TAG]).session_start_info
        ended = HParamsPluginData.FromString(plugin.get(SESSION_END_INFO_TAG, b"")).session_end_info
        scalars = {tag: events.Scalars(tag) for tag in events.Tags()["scalars"]}
        kept[folder.name] = Kept(
            settings={key: getattr(value, value.WhichOneof("kind")) for key, value in begun.hparams.items()},
            curves={tag: [[event.step, event.value] for event in some] for tag, some in scalars.items()},
            final={tag: some[-1].value for tag, some in scalars.items()},
            texts=[events.Tensors(tag)[-1].tensor_proto.string_val[0].decode() for tag in events.Tags()["tensors"]],
            status=str(ended.status),
            group="",
        )
    return kept


def of_mlflow(root: Path) -> dict[str, Kept]:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{root / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("n")
    assert experiment is not None
    kept: dict[str, Kept] = {}
    for run in client.search_runs([experiment.experiment_id], max_results=5000):
        curves = {name: client.get_metric_history(run.info.run_id, name) for name in run.data.metrics}
        parent = run.data.tags.get("mlflow.parentRunId")
        kept[str(run.info.run_name)] = Kept(
            settings=dict(run.data.params),
            curves={name: [[each.step, each.value] for each in some] for name, some in curves.items()},
            final=dict(run.data.metrics),
            texts=[f"{name}: {text}" for name, text in run.data.tags.items()],
            status=run.info.status,
            group="" if parent is None else str(client.get_run(parent).info.run_name),
        )
    return kept


def of_wandb(root: Path) -> dict[str, Kept]:
    """Of offline runs: the records that `wandb sync` sends."""
    from wandb.proto.wandb_internal_pb2 import Record

    kept: dict[str, Kept] = {}
    for file in sorted((root / "n" / "1" / "wandb").glob("offline-run-*/*.wandb"), key=lambda path: path.parent.name):
        records = [Record.FromString(content) for content in _wandb_records(file.read_bytes())]
        run = next(record.run for record in records if record.HasField("run"))
        name = run.display_name
        one = kept.setdefault(name, Kept(settings={}, curves={}, final={}, texts=[], status="", group=run.run_group))
        one["texts"].append(run.notes)
        one["settings"] |= {each.key: json.loads(each.value_json) for each in run.config.update if each.key != "_wandb"}
        for record in records:
            if record.HasField("history"):
                items = record.history.item
                row = {(each.key or each.nested_key[-1]): json.loads(each.value_json) for each in items}
                for key, value in row.items():
                    if not key.startswith("_"):
                        one["curves"].setdefault(key, []).append([row["_step"], value])
                        one["final"][key] = value
            if record.HasField("summary"):
                for each in record.summary.update:
                    one["final"][each.key or each.nested_key[-1]] = json.loads(each.value_json)
            if record.HasField("exit"):
                one["status"] = str(record.exit.exit_code)
        one["texts"] += [f"{key}: {value}" for key, value in one["final"].items() if isinstance(value, str)]
    return kept


def _wandb_records(content: bytes) -> Iterator[bytes]:
    """The records of a .wandb file: LevelDB's log format, after a header of seven bytes."""
    block, at, parts = 32768, 7, b""
    while at + 7 <= len(content):
        if block - at % block < 7:
            at += block - at % block
            continue
        _, length, kind = struct.unpack_from("<IHB", content, at)
        if kind == 0:
            at += block - at % block
            continue
        parts += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):
            yield parts
            parts = b""


def of_trackio(root: Path) -> dict[str, Kept]:
    os.environ["TRACKIO_DIR"] = str(root / "trackio")
    import trackio
    from trackio.sqlite_storage import SQLiteStorage

    kept: dict[str, Kept] = {}
    for run in trackio.Api().runs("n"):
        rows = SQLiteStorage.get_logs("n", run.name)
        curves: dict[str, list[list[float]]] = {}
        texts, final = [f"{key}: {value}" for key, value in (run.config or {}).items()], {}
        for row in rows:
            for key, value in row.items():
                if isinstance(value, str) and value not in ("NaN", "Infinity", "-Infinity"):
                    texts.append(f"{key}: {value}")
                elif key not in ("step", "timestamp"):
                    curves.setdefault(key, []).append([row["step"], float(value)])
                    final[key] = float(value)
        kept[run.name.rpartition("/")[2] if run.name.count("/") > 1 else run.name] = Kept(
            settings=dict(run.config or {}), curves=curves, final=final, texts=texts, status="", group=""
        )
    return kept


READERS = {"tensorboard": of_tensorboard, "mlflow": of_mlflow, "wandb": of_wandb, "trackio": of_trackio}

if __name__ == "__main__":
    print()
    print(json.dumps(READERS[sys.argv[1]](Path(sys.argv[2]))))
