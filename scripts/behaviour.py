"""Record what modelopt does, and compare two recordings: proof that a change of its code changed no behaviour.

    PYTHONPATH=OLD_TREE python scripts/behaviour.py record old.json
    PYTHONPATH=NEW_TREE python scripts/behaviour.py record new.json
    python scripts/behaviour.py compare old.json new.json        # exit 1, and what differs, is missing or new

A recording is a JSON file of thousands of entries, `section/case/part`, each the SHA-256 of some outcome in canonical
form (floats by repr, tensors by their bytes, keys sorted) with that form's beginning, so that a difference can be read.
`record --only NAME` (repeatable) records the sections, or the cases, whose names begin with NAME; `compare
--only NAME` compares these alone. Compare recordings of the same machine and versions of libraries: sums of floats
depend on these. (With `--work DIR` files are kept; names of folders of another length change sizes of files.)

It goes through the public face alone, so that it runs on any arrangement of the code: the command `modelopt` (found in
pyproject.toml beside the package, and called in this process), `from modelopt_cli import load, train, ...`, and the
files that both write. Strategies are those that `modelopt list` names.

Left out, since they differ from one run to the next: durations, dates, measured latency and remarks about its noise,
estimates of time and memory, sizes of compressed files (these hold durations), versions, the folder that is worked in,
and, where trials run in several processes, the order of events. Exceptions are recorded by their message and
exit code, not by their class.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import fcntl
import gzip
import hashlib
import importlib
import io
import itertools
import json
import math
import os
import random
import re
import shutil
import sqlite3
import struct
import sys
import tempfile
import time
import tomllib
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

os.environ.update(OMP_NUM_THREADS="1", COLUMNS="120", TERMINAL_WIDTH="120", TERM="dumb", NO_COLOR="1", LC_ALL="C.UTF-8")
for _name in ("MODELOPT_RUNS", "MODELOPT_DEBUG", "FORCE_COLOR", "GITHUB_ACTIONS"):
    os.environ.pop(_name, None)

import numpy as np  # noqa: E402  after the number of threads is set

_KEPT = 6000  # characters of an entry's canonical form that stand in the recording
_TIMED = re.compile(r"second|latency|(^|[ _.])ms($|[ _])|^started$|^time$|duration|compressed", re.IGNORECASE)
_NOISY = re.compile(r"latency|noisy|noise|milliseconds|\bms\b|seconds|measuring is off", re.IGNORECASE)
_DURATION = re.compile(r"\d[\d.,]*( ?)(ms|µs|s|sec|seconds?|min|minutes?|h|hours?)\b")
_MEMORY = re.compile(r"\d[\d.,]*( ?)(kB|KB|MB|GB|KiB|MiB|GiB|TB)\b")
_NUMBER = re.compile(r"\d[\d_]*(\.\d+)?(e[+-]?\d+)?")
_WORK = Path()  # where files are written; set once, at the start

Section = Callable[["Recorder"], None]
SECTIONS: dict[str, Section] = {}


def section(function: Section) -> Section:
    """Make a function a section of the recording, by its name."""
    SECTIONS[function.__name__] = function
    return function


# ---------------------------------------------------------------------------------------------------------------------
# Canonical form
# ---------------------------------------------------------------------------------------------------------------------


def plain(value: Any) -> Any:
    """`value` as JSON can hold it: floats by repr, tensors and bytes by hash, the work folder's name left out."""
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, str):
        return value.replace(str(_WORK), "<work>")
    if isinstance(value, Mapping):
        return {
            key if isinstance(key, str) else f"{type(key).__name__}:{plain(key)}": plain(each)
            for key, each in value.items()
        }
    if isinstance(value, (bytes, bytearray)):
        return f"bytes {len(value)} {_digest(bytes(value))}"
    if type(value).__module__.startswith("torch") and hasattr(value, "detach"):
        return _tensor(value)
    if isinstance(value, np.ndarray):
        return f"array {value.dtype} {list(value.shape)} {_digest(np.ascontiguousarray(value).tobytes())}"
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, (set, frozenset)):
        return sorted(json.dumps(plain(each), sort_keys=True) for each in value)
    if isinstance(value, Sequence):
        return [plain(each) for each in value]
    return f"object {value}" if "__str__" in type(value).__dict__ else f"object of {type(value).__name__}"


def _digest(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()[:24]


def _tensor(value: Any) -> str:
    import torch

    tensor = value.detach().cpu()
    if tensor.is_sparse or tensor.layout is not torch.strided:
        tensor = tensor.to_dense()
    raw = tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes() if tensor.numel() else b""
    return f"tensor {tensor.dtype} {list(tensor.shape)} {_digest(raw)}"


def keys_of(value: Any) -> Any:
    """The keys of nested mappings, in their order, without what they hold; of a list its distinct items' keys."""
    if isinstance(value, Mapping):
        return [[str(key), keys_of(each)] for key, each in value.items()]
    if isinstance(value, (list, tuple)):
        distinct = {json.dumps(keys_of(each)): None for each in value}
        return ["list of", [json.loads(each) for each in sorted(distinct)]]
    return type(value).__name__ if value is None or isinstance(value, (bool, int, float, str, bytes)) else "object"


def steady(value: Any, key: str = "") -> Any:
    """A JSON document without what a clock decides: such numbers are 1.0, such texts empty, noisy remarks left out."""
    if isinstance(value, Mapping):
        if set(value) >= {"columns", "rows"} and isinstance(value["rows"], list):
            return {**value, "rows": [_steady_row(value["columns"], row) for row in value["rows"]]}
        what = value.get("what")  # a row of a table of costs
        timed = isinstance(what, str) and _TIMED.search(what) is not None
        return {
            each: 1.0 if timed and isinstance(item, float) else steady(item, str(each)) for each, item in value.items()
        }
    if isinstance(value, list):
        if key == "warnings":
            value = [_DURATION.sub("# s", str(each)) for each in value if not _NOISY.search(str(each))]
        return [steady(each, key) for each in value]
    if key and _TIMED.search(key):
        return "" if isinstance(value, str) else 1.0 if isinstance(value, (int, float)) else value
    return value


def _steady_row(columns: Sequence[str], row: Sequence[Any]) -> list[Any]:
    timed = bool(row) and isinstance(row[0], str) and _TIMED.search(row[0]) is not None
    return [
        1.0 if isinstance(cell, float) and (timed or _TIMED.search(column)) else cell
        for column, cell in zip(columns, row, strict=True)
    ]


def steady_report(document: Mapping[str, Any]) -> dict[str, Any]:
    """A report without times, estimates and paths of artefacts (their names remain)."""
    record: dict[str, Any] = steady(document)
    record.pop("kind", None)  # these two came when the form of a report was no longer guessed (issue 15)
    record.get("details", {}).pop("workflow", None)
    record["plan"] = sorted(record.get("plan") or {})
    record["artefacts"] = {name: Path(str(path)).name for name, path in (record.get("artefacts") or {}).items()}
    return record


def steady_text(text: str, *, numbers: bool = True, memory: bool = False) -> str:
    """What a command prints, without durations (and, on request, memory or any number), spaces and rules closed up."""
    text = _DURATION.sub(r"#\1\2", text.replace(str(_WORK), "<work>"))
    text = _MEMORY.sub(r"#\1B", text) if memory else text
    text = text if numbers else _NUMBER.sub("#", text)
    return re.sub(r"([─━═])\1+", r"\1", re.sub(r" {2,}", "  ", re.sub(r" +$", "", text, flags=re.MULTILINE)))


# ---------------------------------------------------------------------------------------------------------------------
# The recording
# ---------------------------------------------------------------------------------------------------------------------


class Recorder:
    """Takes entries in; every case starts with the same random state, in an empty folder of its own."""

    def __init__(self, only: Sequence[str] = ()) -> None:
        self.entries: dict[str, dict[str, Any]] = {}
        self.seconds: dict[str, float] = {}
        self._only = tuple(only)

    def wanted(self, name: str) -> bool:
        """Whether the case is to be recorded (or, of a section, one of its cases may be)."""
        return not self._only or any(name.startswith(each) or each.startswith(name + "/") for each in self._only)

    def add(self, name: str, value: Any) -> None:
        """Record one outcome."""
        if name in self.entries:
            raise ValueError(f"two entries are called {name}")
        text = json.dumps(plain(value), sort_keys=True, ensure_ascii=False)
        digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
        self.entries[name] = {"sha256": digest, "length": len(text), "content": text[:_KEPT]}

    def case(self, name: str, work: Callable[..., Mapping[str, Any]], *arguments: Any, **options: Any) -> None:
        """Record each part of what `work(folder, ...)` gives, or the message it ends with."""
        if not self.wanted(name):
            return
        folder = _WORK / "case"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        _same_start()
        begun = time.perf_counter()
        try:
            with (
                contextlib.chdir(folder),
                contextlib.redirect_stdout(io.StringIO()),
                contextlib.redirect_stderr(io.StringIO()),
            ):
                parts = dict(work(folder, *arguments, **options))
        except Exception as error:
            code = getattr(error, "exit_code", None)
            if code is None and not isinstance(error, (ValueError, LookupError)):
                traceback.print_exc()
                print(f"{name}: an error that modelopt does not announce", file=sys.stderr)
            parts = {"error": {"message": steady_text(str(error)), "exit_code": code}}
        for part, value in parts.items():
            self.add(f"{name}/{part}", value)
        self.seconds[name] = round(time.perf_counter() - begun, 2)


def _same_start() -> None:
    random.seed(0)
    np.random.seed(0)
    import torch

    torch.manual_seed(0)
    torch.set_num_threads(1)


class Outcome(NamedTuple):
    """What a command did."""

    code: int
    out: str
    err: str


def _entry_point() -> Callable[[], None]:
    import modelopt_cli

    assert modelopt_cli.__file__ is not None
    project = Path(modelopt_cli.__file__).parents[1] / "pyproject.toml"
    target = "modelopt_cli.cli.main:main"
    if project.is_file():
        target = tomllib.loads(project.read_text(encoding="utf-8"))["project"]["scripts"]["modelopt"]
    module, _, name = target.partition(":")
    function: Callable[[], None] = getattr(importlib.import_module(module), name)
    return function


def cli(*words: object, stdin: str = "") -> Outcome:
    """Run `modelopt WORDS...` in this process."""
    before = sys.argv, sys.stdin, sys.stdout, sys.stderr
    streams = [io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True) for _ in range(2)]
    sys.argv = ["modelopt", *map(str, words)]
    sys.stdin, sys.stdout, sys.stderr = io.TextIOWrapper(io.BytesIO(stdin.encode()), encoding="utf-8"), *streams
    code = 0
    try:
        _entry_point()()
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    finally:
        sys.argv, sys.stdin, sys.stdout, sys.stderr = before
    out, err = (stream.buffer.getvalue().decode("utf-8", "replace") for stream in streams)
    return Outcome(code, out, err)


def shown(outcome: Outcome, **options: bool) -> dict[str, Any]:
    """Exit code and what was printed; of standard error what is no warning of Python's."""
    texts = [
        "\n".join(line for line in text.splitlines() if not (line.startswith("warning:") and _NOISY.search(line)))
        for text in outcome[1:]
    ]
    err = "\n".join(line for line in texts[1].splitlines() if "Warning" not in line and "warnings." not in line)
    return {"code": outcome.code, "out": steady_text(texts[0], **options), "err": steady_text(err, **options)}


def document(*words: object) -> Any:
    """The JSON document that a command prints."""
    outcome = cli(*words, "--json")
    try:
        return json.loads(outcome.out)
    except ValueError:
        return shown(outcome)


def strategies(family: str) -> list[str]:
    """The names of a family, as `modelopt list` gives them."""
    listing = document("list", family)
    listing = listing.get(family, listing)
    return list(listing)


def saved_model(path: Path) -> dict[str, Any]:
    """A model.pt: its nested content by parts, without versions; metrics without what a clock decides."""
    import torch

    content = torch.load(path, weights_only=True, map_location="cpu")
    if not isinstance(content, dict):
        return {"state": content}
    content.pop("versions", None)
    if content.get("framework") == "sklearn":
        content["state"] = "an archive"  # its bytes hold dates; predictions are compared instead
    return {key: steady(each, str(key)) if key in ("metrics", "warnings") else each for key, each in content.items()}


def run_files(folder: Path, *, order: bool = True) -> dict[str, Any]:
    """Everything that is comparable in a run's folder."""
    names = sorted(str(each.relative_to(folder)) for each in folder.rglob("*") if each.is_file())
    names = [name for name in names if order or not name.startswith(".models")]
    parts: dict[str, Any] = {"files": [name for name in names if not name.startswith(".stages")]}
    for path in sorted(folder.glob("*.json")):
        content = json.loads(path.read_text())
        if path.name == "environment.json":
            parts["keys of environment.json"] = keys_of(content)
        elif path.name == "report.json":
            parts["report.json"] = steady_report(content)
            parts["keys of report.json"] = [key for key in content if key != "kind"]
        else:
            parts[path.name] = steady(content)
            parts[path.name.replace(".json", ".csv")] = _steady_csv(path.with_suffix(".csv"))
    for path in sorted(folder.glob("*.yaml")):
        parts[path.name] = path.read_text()
    for path in sorted(folder.glob("*.pt")):
        content = saved_model(path)
        parts[path.name] = content
        parts[f"keys of {path.name}"] = keys_of(content)
    if (folder / "study.sqlite").is_file():
        parts |= study_file(folder / "study.sqlite", order=order)
    return parts


def _steady_csv(path: Path) -> Any:
    if not path.is_file():
        return "none"
    header, *rows = csv.reader(path.read_text().splitlines())
    return [
        header,
        *(
            [
                "~" if _TIMED.search(name) or _TIMED.search(row[0]) else cell
                for name, cell in zip(header, row, strict=True)
            ]
            for row in rows
        ),
    ]


def study_file(path: Path, *, order: bool = True) -> dict[str, Any]:
    """The schema, the keys and the events of a study's file; without `order` events only by kind."""
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        schema = [
            row[0] for row in connection.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY name")
        ]
        pragmas = [
            connection.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("application_id", "user_version", "journal_mode")
        ]
        meta = {key: json.loads(value) for key, value in connection.execute("SELECT key, value FROM meta ORDER BY key")}
        events = [
            (kind, trial, json.loads(payload))
            for kind, trial, payload in connection.execute("SELECT kind, trial, payload FROM events ORDER BY sequence")
        ]
    whole: list[tuple[str, int, dict[str, Any]]] = []
    for kind, trial, payload in events:  # how many reports make an event, a clock decides
        if kind == "reported" and whole and whole[-1][:2] == (kind, trial):
            points = [*whole[-1][2]["points"], *payload["points"]]
            whole[-1] = (kind, trial, {**whole[-1][2], **payload, "points": points})
        else:
            whole.append((kind, trial, payload))
    events = whole
    kinds: dict[str, set[str]] = {}
    for kind, _, payload in events:
        kinds.setdefault(kind, set()).update(payload)
    parts = {
        "schema of study.sqlite": [schema, pragmas, keys_of(meta)],
        "meta of study.sqlite": steady(meta),
        "kinds of study.sqlite": {kind: sorted(each) for kind, each in kinds.items()} if order else sorted(kinds),
    }
    if order:
        parts["events of study.sqlite"] = [[kind, trial, steady(payload)] for kind, trial, payload in events]
    return parts


# ---------------------------------------------------------------------------------------------------------------------
# Search: samplers, stoppers, schedulers, executors
# ---------------------------------------------------------------------------------------------------------------------

LR: dict[str, Any] = {"float": [1e-4, 1.0], "log": True}
SPACES: dict[str, tuple[dict[str, Any], list[str]]] = {
    "float": ({"x": {"float": [-1.0, 2.0]}}, []),
    "numbers": (
        {
            "lr": LR,
            "width": {"int": [4, 256], "log": True},
            "share": {"float": [0.0, 1.0], "step": 0.1},
            "depth": {"int": [1, 5]},
        },
        [],
    ),
    "choices": (
        {
            "kind": ["a", "b", "c"],
            "size": {"ordinal": ["small", "medium", "large"]},
            "on": [True, False],
            "n": [None, 1, 2],
        },
        [],
    ),
    "sections": (
        {
            "optimizer": {
                "choice": [
                    {"type": "sgd", "momentum": {"float": [0.0, 0.99]}},
                    {"type": "adamw", "weight_decay": {"float": [1e-6, 0.1], "log": True}},
                    {"type": "adam"},
                ]
            },
            "lr": LR,
        },
        [],
    ),
    "rules": ({"a": {"int": [1, 8]}, "b": {"int": [1, 8]}, "c": {"float": [0.0, 1.0]}}, ["a >= b", "a * c <= 6"]),
    "prior": (
        {
            "lr": {**LR, "prior": 0.01, "confidence": 0.8},
            "kind": {"choice": ["a", "b", "c"], "prior": "b", "confidence": 0.5},
        },
        [],
    ),
    "finite": ({"a": {"int": [1, 3]}, "b": ["u", "v"], "c": {"float": [0.0, 1.0], "count": 3}}, []),
}
SAMPLER_OPTIONS: dict[str, list[dict[str, Any]]] = {
    "bayesian": [{"initial_points": 4}, {"initial_points": 4, "patience": 2}],
    "tpe": [{"initial_points": 4}, {"good": 0.3}],
    "evolution": [{"population": 5, "tournament": 2}],
    "cmaes": [{"population": 4}],
    "sobol": [{"seed": 7}],
    "skopt": [
        {"initial_points": 4, "points": 50},
        {"surrogate": "forest", "initial_points": 4, "points": 50},
        {"surrogate": "gbrt", "acquisition": "lcb", "initial_points": 4, "points": 50},
        {
            "surrogate": "extra_trees",
            "acquisition": "pi",
            "initial_design": "random",
            "initial_points": 4,
            "points": 50,
        },
    ],
    "optuna": [{"sampler": "RandomSampler"}, {"sampler": "NSGAIISampler", "options": {"population_size": 4}}],
}


def unit(value: Any) -> float:
    """A number in (-1, 1) for any searched value."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return value / (1.0 + abs(value))
    return sum(json.dumps(value, sort_keys=True, default=str).encode()) % 17 / 17


def metrics_of(params: Mapping[str, Any]) -> dict[str, float]:
    """What a setting is worth, in closed form."""
    units = [unit(value) for _, value in sorted(params.items())]
    loss = sum((each - 0.3 - 0.05 * number) ** 2 for number, each in enumerate(units))
    return {"loss": loss, "gain": math.sin(3 * sum(units)), "cost": abs(sum(units))}


def trial_record(trial: Any) -> dict[str, Any]:
    """What is public of a trial."""
    names = (
        "number",
        "params",
        "seed",
        "metrics",
        "losses",
        "violation",
        "margins",
        "failure",
        "reason",
        "origin",
        "total",
        "parent",
        "step",
    )
    return {**{name: getattr(trial, name) for name in names}, "state": str(trial.state)}


def asked(_: Path, count: int, failing: bool = False, parallel: int = 1, **arguments: Any) -> dict[str, Any]:
    """Trials asked for one after another, or several at a time, and told."""
    from modelopt_cli import Study

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        study = Study(**arguments)
        with contextlib.suppress(LookupError):
            while len(study.trials) < count:
                for trial in study.ask_many(parallel):
                    metrics = metrics_of(trial.params)
                    if failing and trial.number % 5 == 2:
                        study.tell(
                            trial, ValueError("no such thing") if trial.number % 2 else {**metrics, "loss": math.nan}
                        )
                    else:
                        study.tell(trial, metrics)
        best = study.best
        return {
            "trials": [trial_record(trial) for trial in study.trials],
            "best": None if best is None else best.number,
            "front": [trial.number for trial in study.front],
        }


@section
def samplers(record: Recorder) -> None:
    """Suggestions of every sampler, in several kinds of space, for one and two objectives, with constraints."""
    for name in strategies("samplers"):
        options = SAMPLER_OPTIONS.get(name, [])
        for index, chosen in enumerate([{}, *options]):
            sampler = {"type": name, **chosen}
            label = name if not index else f"{name}-{index}"
            slow = name in ("skopt", "optuna") or label == "bayesian"
            count = 6 if name == "skopt" and index > 1 else 14 if slow else 18
            for kind, (space, rules) in SPACES.items():
                if index > 1 and kind not in ("numbers", "sections"):
                    continue
                common: dict[str, Any] = {"space": space, "sampler": sampler, "rules": rules}
                record.case(f"samplers/{label}/{kind}", asked, count, seed=1, **common)
            space, rules = SPACES["sections"]
            common = {"space": space, "sampler": sampler}
            more: dict[str, dict[str, Any]] = {
                "two objectives": {"objective": ["minimize loss", "maximize gain"]},
                "constraints": {"constraints": ["cost <= 0.8", "gain >= -0.9"]},
                "failures": {"failing": True},
                "parallel": {"parallel": 3},
                "repeats": {"repeats": True},
                "initial": {
                    "initial": [
                        {"lr": 0.01, "optimizer": {"type": "adam"}},
                        {"lr": 0.5, "optimizer": {"type": "adamw"}, "optimizer.weight_decay": 0.01},
                    ]
                },
            }
            for kind, arguments in more.items():
                if index > 1:
                    continue
                record.case(f"samplers/{label}/{kind}", asked, count, seed=2, **common, **arguments)
    record.case("samplers/resumed", _resumed_study)
    record.case("samplers/earlier", _earlier_study)


def _resumed_study(folder: Path) -> dict[str, Any]:
    from modelopt_cli import Study

    for part in range(2):
        study = Study(SPACES["numbers"][0], "tpe", "minimize loss", seed=3, path=folder / "study.sqlite")
        while len(study.trials) < 8 + 8 * part:
            trial = study.ask()
            study.report(trial, 1, metrics_of(trial.params))
            if trial.number != 7:
                study.tell(trial, metrics_of(trial.params), seconds=1.0)
        records = [trial_record(trial) for trial in study.trials]
        study.close()
    opened = Study.open(folder / "study.sqlite")
    asked_next = trial_record(opened.ask())
    opened.close()
    return {"trials": records, "next": asked_next, **study_file(folder / "study.sqlite")}


def _earlier_study(folder: Path) -> dict[str, Any]:
    from modelopt_cli import Study

    space = SPACES["numbers"][0]
    with Study(space, "random", "minimize loss", seed=3, path=folder / "study.sqlite") as study:
        for _ in range(10):
            trial = study.ask()
            study.tell(trial, metrics_of(trial.params))
    return asked(folder, 8, space=space, sampler="bayesian", seed=4, earlier=[folder / "study.sqlite"])


STOPPERS: dict[str, list[dict[str, Any]]] = {
    "asha": [{}, {"min_steps": 2, "factor": 2}],
    "hyperband": [{}, {"factor": 2, "brackets": 2}],
    "median": [{}, {"warmup_steps": 2, "startup_trials": 3, "interval": 2}],
    "patience": [{"reports": 2}, {"reports": 2, "min_delta": 0.1}],
    "threshold": [{"condition": "loss <= 0.9", "warmup_steps": 2}],
    "wilcoxon": [{}, {"p": 0.3, "min_steps": 3, "reports": "values"}],
}


def stopped(_: Path, stopper: Mapping[str, Any], **arguments: Any) -> dict[str, Any]:
    """Trials that report nine steps, as far as the stopper lets them."""
    from modelopt_cli import Study

    study = Study(SPACES["numbers"][0], "random", seed=5, stopper=stopper, **arguments)
    while len(study.trials) < 16:
        trial = study.ask()
        final, reason = metrics_of(trial.params), None
        for step in range(1, 10):
            shift = math.sin(7 * trial.number + 3 * step) / (2 + step)
            points = {name: value + shift for name, value in final.items()}
            study.report_many(trial, [(step, points)], total=9)
            reason = study.should_stop(trial)
            if reason is not None:
                study.tell(trial, points, stopped=reason)
                break
        if reason is None:
            study.tell(trial, points)
    best = study.best
    return {"trials": [trial_record(trial) for trial in study.trials], "best": None if best is None else best.number}


@section
def stoppers(record: Recorder) -> None:
    """When every stopper ends trials whose curves are known."""
    for name in strategies("stoppers"):
        for index, options in enumerate(STOPPERS.get(name, [{}])):
            stopper = {"type": name, **options}
            record.case(f"stoppers/{name}-{index}", stopped, stopper)
            record.case(
                f"stoppers/{name}-{index}/two objectives",
                stopped,
                stopper,
                objective=["minimize loss", "maximize gain"],
            )


IRIS: dict[str, Any] = {
    "name": "case",
    "data": {"type": "iris", "splits": {"validation": 0.2, "test": 0.2, "seed": 0}},
    "model": {"type": "mlp", "hidden": [4]},
    "training": {"epochs": 9, "batch_size": 32, "optimizer": {"type": "adam", "lr": 0.01}},
}
SEARCH: dict[str, Any] = {
    "objective": "minimize validation.loss",
    "sampler": "random",
    "trials": 5,
    "executor": "serial",
    "space": {"training.optimizer.lr": {"float": [1e-3, 0.3], "log": True}, "model.hidden.0": [2, 4, 8]},
}
FOREST: dict[str, Any] = {
    "name": "case",
    "data": {"type": "iris", "splits": {"validation": 0.2, "test": 0.2, "seed": 0}},
    "model": {"type": "sklearn", "estimator": "sklearn.ensemble.RandomForestClassifier", "n_estimators": 3},
    "tuning": {
        "objective": "maximize validation.accuracy",
        "sampler": "random",
        "trials": 4,
        "executor": "serial",
        "space": {"model.n_estimators": {"int": [1, 6]}, "model.max_depth": [None, 1, 2]},
    },
}


def merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with `changes` over it, mappings merged (a mapping with a `type` takes the place of what was there)."""
    joined = dict(base)
    for key, value in changes.items():
        old: Any = joined.get(key)
        replaces = not isinstance(value, Mapping) or not isinstance(old, Mapping) or "type" in value or key == "space"
        joined[key] = value if replaces else merged(old, value)
    return joined


def ran(workflow: str, experiment: Mapping[str, Any], folder: Path, **options: Any) -> dict[str, Any]:
    """One of the public functions on an experiment; everything in its run's folder."""
    import modelopt_cli

    order = options.pop("order", True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loaded = modelopt_cli.load(experiment, trust_code=True)
        report = getattr(modelopt_cli, workflow)(loaded, out=folder / "run")
    parts = run_files(folder / "run", order=order)
    returned = steady_report(json.loads(report.to_json()))
    if returned != parts["report.json"]:
        parts["report returned"] = returned
    return parts


def _tuned(
    folder: Path, changes: Mapping[str, Any], base: Mapping[str, Any] | None = None, **options: Any
) -> dict[str, Any]:
    whole = merged({**IRIS, "tuning": SEARCH} if base is None else base, changes)
    return ran("tune", whole, folder, **options)


@section
def schedulers(record: Recorder) -> None:
    """Whole searches: every scheduler, with several samplers; stoppers; sizes of the data as steps."""
    for name in strategies("schedulers"):
        scheduler: dict[str, Any] = {"type": name, **({"population": 4, "interval": 2} if name == "pbt" else {})}
        count = 4 if name == "pbt" else 5
        for sampler in ("random", "bayesian", "tpe", "sobol"):
            change: dict[str, Any] = {"tuning": {"scheduler": scheduler, "sampler": sampler, "trials": count}}
            record.case(f"schedulers/{name}/{sampler}", _tuned, change)
        change = {
            "tuning": {
                "scheduler": scheduler,
                "trials": count,
                "objective": ["minimize validation.loss", "maximize validation.accuracy"],
            }
        }
        record.case(f"schedulers/{name}/two objectives", _tuned, change)
        record.case(
            f"schedulers/{name}/sizes",
            _tuned,
            {"tuning": {"scheduler": scheduler, "fidelity": {"least": 0.1, "factor": 3}, "trials": count}},
        )
        record.case(
            f"schedulers/{name}/forest sizes", _tuned, {"tuning": {"scheduler": scheduler, "fidelity": {}}}, FOREST
        )
        record.case(
            f"schedulers/{name}/folds",
            _tuned,
            {"evaluation": {"cv": 3}, "tuning": {"scheduler": scheduler, "trials": count}},
        )
    for name in strategies("stoppers"):
        stopper = {"type": name, **({"condition": "validation.loss <= 1.0"} if name == "threshold" else {})}
        record.case(f"schedulers/stopper {name}", _tuned, {"tuning": {"stopper": stopper, "trials": 8}})
        record.case(
            f"schedulers/stopper {name} folds",
            _tuned,
            {"evaluation": {"cv": 5}, "tuning": {"stopper": stopper, "trials": 6}},
            FOREST,
        )


@section
def searches(record: Recorder) -> None:
    """Whole searches: executors, options of the tuning section, kinds of runs, analyses, replay."""
    for name in strategies("executors"):
        record.case(
            f"searches/executor {name}",
            _tuned,
            {"tuning": {"executor": name, "workers": 2 if name != "serial" else 1}},
            order=name == "serial",
        )
        change = {"tuning": {"executor": name, "workers": 1, "scheduler": "successive_halving"}}
        record.case(f"searches/executor {name} paused", _tuned, change, order=name == "serial")
    changes: dict[str, dict[str, Any]] = {
        "initial": {"initial": [{"training.optimizer.lr": 0.05, "model.hidden.0": 8}]},
        "no file": {"start_from_file": False},
        "stop target": {"trials": 20, "stop_when": {"target": "validation.loss <= 0.6"}},
        "stop improvement": {"trials": 20, "stop_when": {"no_improvement": 3, "min_delta": 0.01}},
        "repeats": {"repeats": True, "trials": 10},
        "refit": {"refit": "train+validation"},
        "front": {
            "objective": ["maximize validation.accuracy", "minimize model.size_bytes"],
            "sampler": "bayesian",
            "trials": 14,
            "reference": [0.1, 1000],
        },
        "constraints": {"constraints": ["model.parameters <= 60"], "sampler": "bayesian", "trials": 12},
        "rules": {"rules": ["model.hidden.0 <= 4"], "trials": 6},
        "analysis": {"sampler": "sobol", "trials": 16},
        "grid": {
            "sampler": "grid",
            "trials": None,
            "space": {
                "training.optimizer.lr": {"float": [1e-3, 0.1], "log": True, "count": 2},
                "model.hidden.0": [2, 4],
            },
        },
        "sections": {
            "space": {
                "training.optimizer": {"choice": [{"type": "sgd", "lr": {"float": [0.01, 0.3]}}, {"type": "adam"}]}
            },
            "trials": 8,
        },
        "all fail": {"space": {"training.optimizer.lr": {"float": [1e30, 1e35], "log": True}}, "trials": 3},
    }
    for name, change in changes.items():
        record.case(f"searches/{name}", _tuned, {"training": {"epochs": 2}, "tuning": change})
    record.case(
        "searches/folds",
        _tuned,
        {"evaluation": {"cv": 3, "repeats": 2}, "training": {"epochs": 2}, "tuning": {"trials": 3}},
    )
    record.case("searches/forest", _tuned, {}, FOREST)
    record.case(
        "searches/forest folds", _tuned, {"evaluation": {"cv": 3}, "tuning": {"refit": "train+validation"}}, FOREST
    )
    record.case("searches/script", _scripted, {})
    record.case(
        "searches/script stopped",
        _scripted,
        {"tuning": {"stopper": "median", "trials": 7}},
    )
    record.case("searches/warm start", _warm_start)
    record.case("searches/replay", _replayed)
    record.case("searches/resumed", _resumed_search)


def _scripted(folder: Path, changes: Mapping[str, Any]) -> dict[str, Any]:
    return ran("tune", merged(_script(folder), changes), folder, order=False)


def _script(folder: Path) -> dict[str, Any]:
    (folder / "program.py").write_text(
        "import json, sys\nlr = float(sys.argv[1])\n"
        "for step in range(1, 5):\n    "
        "print(json.dumps({'step': step, 'loss': (lr - 0.1) ** 2 + 1 / step}), flush=True)\n"
    )
    tuning = {
        "workflow": "command",
        "objective": "minimize loss",
        "sampler": "random",
        "trials": 4,
        "executor": "serial",
    }
    command = {"argv": [sys.executable, "program.py", "{lr}"], "parameters": {"lr": 0.5}, "cwd": str(folder)}
    return {
        "name": "case",
        "command": command,
        "tuning": {**tuning, "space": {"command.parameters.lr": {"float": [0.01, 1.0]}}},
    }


def _warm_start(folder: Path) -> dict[str, Any]:
    import modelopt_cli

    first = merged({**IRIS, "tuning": SEARCH}, {"training": {"epochs": 2}})
    modelopt_cli.tune(modelopt_cli.load(first), out=folder / "first")
    return ran(
        "tune", merged(first, {"tuning": {"warm_start": [str(folder / "first")], "sampler": "bayesian"}}), folder
    )


def _replayed(folder: Path) -> dict[str, Any]:
    import modelopt_cli

    whole = merged(
        {**IRIS, "tuning": SEARCH},
        {"training": {"epochs": 3}, "tuning": {"sampler": "tpe", "scheduler": "freeze_thaw"}},
    )
    modelopt_cli.tune(modelopt_cli.load(whole), out=folder / "run")
    return {"shown": shown(cli("replay", "run")), "json": steady_report(document("replay", "run"))}


def _resumed_search(folder: Path) -> dict[str, Any]:
    import modelopt_cli

    first = merged({**IRIS, "tuning": SEARCH}, {"training": {"epochs": 2}, "tuning": {"sampler": "bayesian"}})
    modelopt_cli.tune(modelopt_cli.load(first), out=folder / "run")
    more = merged(first, {"tuning": {"trials": 9}})
    modelopt_cli.tune(modelopt_cli.load(more), out=folder / "run", resume=True)
    other = merged(first, {"tuning": {"trials": 9}, "seed": 5})
    try:
        modelopt_cli.tune(modelopt_cli.load(other), out=folder / "run", resume=True)
        refused = "taken"
    except Exception as error:
        refused = str(error)
    return {**run_files(folder / "run"), "another": refused}


# ---------------------------------------------------------------------------------------------------------------------
# Training: optimizers, schedules, models, data, metrics
# ---------------------------------------------------------------------------------------------------------------------

ZOO = '''\
"""Models and data of a user's own."""

import numpy as np
import torch
from torch import nn


class Small(nn.Module):
    """Convolutions with a grouped one, batch norm, a residual and a linear layer, on digits as images."""

    def __init__(self, width=4):
        super().__init__()
        self.first = nn.Conv2d(1, width, 3, padding=1)
        self.norm = nn.BatchNorm2d(width)
        self.second = nn.Conv2d(width, width, 3, padding=1, groups=2)
        self.last = nn.Conv2d(width, 8, 3, stride=2)
        self.hidden = nn.Linear(8 * 9, 12)
        self.head = nn.Linear(12, 10)

    def forward(self, x):
        x = torch.relu(self.norm(self.first(x)))
        x = torch.relu(x + self.second(x))
        x = torch.relu(self.last(x)).flatten(1)
        return self.head(torch.relu(self.hidden(x)))


def labels():
    generator = np.random.default_rng(0)
    x = generator.normal(size=(120, 6)).astype("float32")
    return x, (x[:, :3] > 0).astype("float32")


def quantities():
    generator = np.random.default_rng(0)
    x = generator.normal(size=(150, 5)).astype("float32")
    return x, (x @ np.arange(1, 6) + 0.1 * generator.normal(size=150)).astype("float32")


def tokens():
    generator = np.random.default_rng(0)
    x = generator.integers(0, 12, size=(120, 7))
    return x, (x[:, 0] > 5).astype("int64")


def cost(targets, predictions):
    return float(np.mean(np.asarray(targets) != np.asarray(predictions)) * 3)
'''


def _prepare() -> None:
    """Files that cases share: a user's module, fake MNIST and CIFAR-100, tables, trained models."""
    shared = _WORK / "shared"
    shutil.rmtree(shared, ignore_errors=True)
    shared.mkdir(parents=True)
    (shared / "behaviour_zoo.py").write_text(ZOO)
    generator = np.random.default_rng(0)
    for part, count in (("train", 160), ("t10k", 40)):
        labels = np.arange(count, dtype=np.uint8) % 10
        images = generator.integers(0, 30, (count, 28, 28), dtype=np.uint8)
        images[np.arange(count), 2 * labels + 4] = 255
        for name, array in ((f"{part}-images-idx3-ubyte.gz", images), (f"{part}-labels-idx1-ubyte.gz", labels)):
            header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
            (shared / name).write_bytes(gzip.compress(header + array.tobytes(), mtime=0))
    from PIL import Image

    for part, count in (("train", 10), ("test", 4)):
        for brightness, name in ((40, "apple"), (200, "whale")):
            folder = shared / "cifar100" / part / name
            folder.mkdir(parents=True)
            for number in range(count):
                noise = generator.integers(0, 50, (32, 32, 3), dtype=np.uint8)
                Image.fromarray(noise + np.uint8(brightness)).save(folder / f"{number}.png")
    rows = [["size", "colour", "weight", "when", "owner", "price"]]
    for number in range(90):
        colour = ["red", "green", "blue"][number % 3]
        size = "" if number % 17 == 0 else f"{generator.normal():.4f}"
        rows.append(
            [
                size,
                colour,
                f"{1 + number % 4}",
                f"2024-{1 + number % 12:02d}-{1 + number % 28:02d}",
                f"o{number % 9}",
                f"{number % 7 + 0.5}",
            ]
        )
    (shared / "table.csv").write_text("\n".join(",".join(row) for row in rows) + "\n")
    (shared / "table.jsonl").write_text(
        "".join(
            json.dumps({"a": number / 7, "b": number % 5, "y": "yes" if number % 3 else "no"}) + "\n"
            for number in range(80)
        )
    )
    np.savez(shared / "arrays.npz", x=generator.normal(size=(90, 4)).astype("float32"), y=np.arange(90) % 3)
    with contextlib.suppress(ImportError):
        import pandas

        pandas.DataFrame({"a": np.arange(60) / 7, "b": ["u", "v", "w"] * 20, "y": np.arange(60) % 2}).to_parquet(
            shared / "table.parquet"
        )
    os.environ.update(MNIST=str(shared), CIFAR100=str(shared / "cifar100"))
    sys.path.insert(0, str(shared))


def shared(name: str) -> str:
    """The path of a file that cases share."""
    return str(_WORK / "shared" / name)


def digits(model: Mapping[str, Any] | None = None, **sections: Any) -> dict[str, Any]:
    """A small experiment on the bundled digits."""
    training = {"epochs": 2, "batch_size": 64, "optimizer": {"type": "sgd", "lr": 0.1, "momentum": 0.9}}
    model = {"type": "mlp", "hidden": [16, 8]} if model is None else model
    data: dict[str, Any] = {"type": "digits", "splits": {"validation": 0.2, "test": 0.2, "seed": 0}}
    if model["type"] in ("cnn", "cifar_resnet", "transformer", "python"):
        data["shape"] = "image"
    return {"name": "case", "data": data, "model": model, "training": training, **sections}


PYTHON: dict[str, Any] = {"type": "python", "target": "behaviour_zoo:Small"}


def trained(name: str, experiment: Mapping[str, Any]) -> str:
    """The path of a model.pt that cases share, trained when it is first asked for."""
    path = _WORK / "shared" / name / "model.pt"
    if not path.is_file():
        import modelopt_cli

        _same_start()
        shutil.rmtree(path.parent, ignore_errors=True)
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            modelopt_cli.train(modelopt_cli.load(experiment, trust_code=True), out=path.parent)
    return str(path)


def dense_mlp() -> str:
    """A trained MLP on digits."""
    return trained("dense-mlp", digits())


def dense_cnn() -> str:
    """A trained network of a user's own."""
    return trained("dense-cnn", digits(PYTHON | {"folder": shared("")}))


@section
def training(record: Recorder) -> None:
    """Trained models: every optimizer, schedule, augmentation, architecture, kind of data; options of training."""

    def trains(name: str, experiment: Mapping[str, Any]) -> None:
        record.case(f"training/{name}", lambda folder: ran("train", experiment, folder))

    small = merged(IRIS, {"training": {"epochs": 3}})
    for name in strategies("optimizers"):
        options: dict[str, Any] = {"lr": 0.01} if name not in ("lbfgs", "adadelta") else {}
        trains(f"optimizer {name}", merged(small, {"training": {"optimizer": {"type": name, **options}}}))
    for name in strategies("schedules"):
        options = {"milestones": [1, 2]} if name == "multi_step" else {"then": "cosine"} if name == "warmup" else {}
        trains(f"schedule {name}", merged(small, {"training": {"schedule": {"type": name, **options}}}))
    image = digits({"type": "cnn", "channels": [4], "hidden": [8]})
    for name in strategies("augmentations"):
        trains(f"augmentation {name}", merged(image, {"data": {"augment": [{"type": name}]}}))
    models: dict[str, dict[str, Any]] = {
        "mlp": {"hidden": [8, 8], "batch_norm": True, "dropout": 0.2, "input_dropout": 0.1, "activation": "gelu"},
        "mlp xavier": {"type": "mlp", "initialization": "xavier_uniform", "hidden": []},
        "cnn": {"channels": [4, 6], "convolutions": 2, "pool": "average", "dropout": 0.1},
        "cifar_resnet": {"depth": 8, "width": 4},
        "cifar_resnet B": {"type": "cifar_resnet", "depth": 8, "width": 4, "shortcut": "B"},
        "transformer": {"width": 8, "depth": 1, "heads": 2, "patch": 4},
        "transformer cls": {
            "type": "transformer",
            "width": 8,
            "depth": 1,
            "heads": 2,
            "patch": 2,
            "pooling": "cls",
            "dropout": 0.1,
        },
        "python": {**PYTHON, "folder": shared("")},
    }
    for name, model in models.items():
        trains(f"model {name}", merged(digits({"type": name, **model}), {"training": {"epochs": 1, "batch_size": 128}}))
    options_of: dict[str, dict[str, Any]] = {
        "clipping": {"clip_norm": 0.5, "clip_value": 0.1},
        "smoothing": {"label_smoothing": 0.1, "class_weights": "balanced"},
        "weights": {"class_weights": [1, 2, 3]},
        "patience": {"patience": 1, "epochs": 6, "optimizer": {"type": "sgd", "lr": 3.0}},
        "best": {"keep": "best", "monitor": "validation.accuracy"},
        "bfloat16": {"precision": "bfloat16"},
        "streamed": {"data_on_device": False, "drop_last": True, "shuffle": False, "evaluate_every": 2},
    }
    for name, options in options_of.items():
        trains(f"option {name}", merged(small, {"training": options}))
    trains("seeds", merged(small, {"seeds": 2, "seed": 3}))
    trains("folds", merged(small, {"evaluation": {"cv": 3}}))
    trains("gates", merged(small, {"gates": ["test.accuracy >= 0.1", "model.parameters < 1000"]}))
    trains("metrics", merged(small, {"evaluation": {"metrics": ["behaviour_zoo:cost"], "folder": shared("")}}))
    mlp, splits = {"type": "mlp", "hidden": [6]}, {"validation": 0.2, "test": 0.2, "seed": 0}
    sources: dict[str, dict[str, Any]] = {
        "breast_cancer": {"positive": None},
        "diabetes": {},
        "wine": {"standardize": False},
        "csv": {"path": shared("table.csv"), "target": "price", "drop": ["when", "owner"]},
        "csv classes": {
            "type": "csv",
            "path": shared("table.csv"),
            "target": "colour",
            "weights": "weight",
            "missing": "drop",
            "drop": ["when"],
        },
        "csv groups": {
            "type": "csv",
            "path": shared("table.csv"),
            "target": "price",
            "drop": ["when"],
            "splits": {**splits, "groups": "owner"},
        },
        "csv time": {
            "type": "csv",
            "path": shared("table.csv"),
            "target": "price",
            "drop": ["owner"],
            "time": "when",
            "splits": {**splits, "order": "time"},
        },
        "jsonl": {"type": "csv", "path": shared("table.jsonl"), "target": "y", "positive": "no"},
        "parquet": {"path": shared("table.parquet"), "target": "y"},
        "npz": {"path": shared("arrays.npz"), "inputs": "x", "targets": "y"},
        "idx": {"path": shared("")},
        "images": {"path": shared("cifar100"), "size": [8, 8]},
        "labels": {"type": "python", "target": "behaviour_zoo:labels", "folder": shared("")},
        "quantities": {"type": "python", "target": "behaviour_zoo:quantities", "folder": shared("")},
    }
    for name, source in sources.items():
        default = {} if name in ("idx", "images") else {"splits": splits}
        trains(f"data {name}", {**small, "model": mlp, "data": {"type": name, **default, **source}})
    tokens = {"type": "python", "target": "behaviour_zoo:tokens", "tokens": True, "folder": shared("")}
    trains(
        "data tokens", {**small, "model": {"type": "transformer", "width": 8, "depth": 1, "heads": 2}, "data": tokens}
    )
    estimators: dict[str, dict[str, Any]] = {
        "forest": {"estimator": "sklearn.ensemble.RandomForestClassifier", "n_estimators": 3},
        "svc": {"estimator": "sklearn.svm.SVC", "C": 2.0},
        "pipeline": {
            "steps": [
                {"estimator": "sklearn.preprocessing.StandardScaler"},
                {"estimator": "sklearn.linear_model.LogisticRegression", "C": 0.5},
            ]
        },
        "nested": {
            "estimator": "sklearn.calibration.CalibratedClassifierCV",
            "arguments": {"estimator": {"estimator": "sklearn.svm.LinearSVC", "C": 0.5}},
        },
        "xgboost": {"estimator": "xgboost.XGBClassifier", "n_estimators": 4, "early_stopping_rounds": 2},
        "lightgbm": {"estimator": "lightgbm.LGBMClassifier", "n_estimators": 4},
        "catboost": {"estimator": "catboost.CatBoostClassifier", "iterations": 4},
    }
    for name, estimator in estimators.items():
        whole = {"name": "case", "data": {"type": "iris", "splits": splits}, "model": {"type": "sklearn", **estimator}}
        record.case(f"training/estimator {name}", _fitted, whole)
    whole = {
        "name": "case",
        "data": {"type": "diabetes", "splits": splits},
        "model": {"type": "sklearn", "estimator": "sklearn.linear_model.Ridge"},
    }
    record.case(
        "training/estimator ridge folds", lambda folder: ran("train", {**whole, "evaluation": {"cv": 3}}, folder)
    )


def _fitted(folder: Path, experiment: Mapping[str, Any]) -> dict[str, Any]:
    return {**ran("train", experiment, folder), **_predicted(folder)}


def _predicted(folder: Path) -> dict[str, Any]:
    rows = ["sepal length (cm),sepal width (cm),petal length (cm),petal width (cm)"]
    rows += [f"{4 + number / 5},{2 + number / 9},{1 + number / 3},{number / 8}" for number in range(12)]
    (folder / "new.csv").write_text("\n".join(rows) + "\n")
    model = folder / "run" / "model.pt"
    return {
        "predict": shown(cli("predict", model, folder / "new.csv")),
        "evaluate": steady_report(document("evaluate", model, "--split", "validation")),
    }


# ---------------------------------------------------------------------------------------------------------------------
# Pruning
# ---------------------------------------------------------------------------------------------------------------------


def _pruned(
    folder: Path, pruning: Mapping[str, Any], model: Mapping[str, Any] | None = None, **sections: Any
) -> dict[str, Any]:
    chosen = {"type": "checkpoint", "path": dense_mlp()} if model is None else dict(model)
    experiment = {**digits(chosen), "pruning": {"calibration": 64, **pruning}, **sections}
    if chosen.get("path") == shared("dense-cnn/model.pt"):
        experiment = merged(experiment, {"data": {"shape": "image"}})
    parts = ran("prune", experiment, folder)
    dropped = ("dense.pt", "keys of dense.pt", "experiment.yaml", "keys of environment.json")
    return {name: each for name, each in parts.items() if name not in dropped}


@section
def weights(record: Recorder) -> None:
    """Pruned weights: every importance with every structure and allocation; compensations, schedules, budgets."""
    own = {"type": "checkpoint", "path": dense_cnn()}
    importances, structures = strategies("importances"), strategies("structures")
    allocations, compensations = strategies("allocations"), strategies("compensations")
    masks = [name for name in structures if name != "neurons"]
    for importance in importances:
        options: dict[str, Any] = {"type": importance}
        if importance == "synflow":
            options["iterations"] = 10
        for structure in masks:
            much: dict[str, Any] = {} if structure == "nm" else {"amount": 0.5}
            for allocation in [None, *allocations]:
                if structure == "nm" and allocation not in (None, "global"):
                    continue
                if structure == "block" and allocation not in (None, "uniform", "lamp", "threshold"):
                    continue
                if allocation == "threshold":
                    much = {"threshold": 0.05}
                elif allocation == "sensitivity" and importance in ("movement", "hessian"):
                    continue
                else:
                    much = {} if structure == "nm" else {"amount": 0.5}
                pruning = {"importance": options, "structure": structure, **much}
                pruning |= (
                    {}
                    if allocation is None
                    else {
                        "allocation": {
                            "type": allocation,
                            **({"levels": [0.3, 0.7]} if allocation == "sensitivity" else {}),
                        }
                    }
                )
                record.case(f"weights/{importance}/{structure}/{allocation or 'default'}", _pruned, pruning)
        for compensation in compensations:
            pruning = {"importance": options, "amount": 0.5, "allocation": "uniform", "compensation": compensation}
            record.case(f"weights/{importance}/compensation {compensation}", _pruned, pruning)
        pruning = {"importance": options, "amount": 0.4, "recalibrate_batch_norm": True, "compensation": "bias"}
        record.case(f"weights/{importance}/own model", _pruned, pruning, own)
    recovery = {"epochs": 2, "lr": 0.05}
    for schedule in strategies("pruning_schedules"):
        for structure, importance in itertools.product(masks, ("magnitude", "taylor")):
            much = {} if structure == "nm" else {"amount": 0.6}
            pruning = {
                "structure": structure,
                "importance": importance,
                **much,
                "schedule": {"type": schedule, **({} if schedule == "one_shot" else {"rounds": 2})},
            }
            pruning |= {} if schedule == "lottery" else {"recovery": recovery}
            record.case(
                f"weights/schedule {schedule}/{structure} {importance}",
                _pruned,
                pruning,
                {"type": "mlp", "hidden": [16, 8]},
            )
    more: dict[str, dict[str, Any]] = {
        "nonzero": {"budget": {"nonzero": "20%"}},
        "size": {"budget": {"size_bytes": "60%"}},
        "erk budget": {"budget": {"nonzero": 300}, "allocation": "erk"},
        "keep": {"amount": 0.9, "keep_at_least": 0.2},
        "include": {"amount": 0.9, "include": ["*0.weight"]},
        "exclude": {"amount": 0.9, "exclude": ["*0.weight"], "all": True},
        "nm 1:4": {"structure": {"type": "nm", "n": 1, "m": 4}, "compensation": "sparsegpt", "importance": "sparsegpt"},
        "block 2x8": {"structure": {"type": "block", "rows": 2, "columns": 8}, "amount": 0.5},
        "rounds listed": {
            "amount": 0.8,
            "schedule": {"type": "rounds", "rounds": 2, "amounts": [0.4, 0.8]},
            "recovery": {"epochs": 1},
        },
        "distilled": {"amount": 0.8, "recovery": {"epochs": 2, "distillation": {}}},
        "distilled cubic": {
            "amount": 0.8,
            "schedule": {"type": "cubic", "rounds": 3},
            "recovery": {"epochs": 2, "distillation": {"losses": [{"type": "dkd"}]}},
        },
        "patience": {
            "amount": 0.8,
            "recovery": {"epochs": 5, "patience": 1, "keep": "best", "optimizer": {"type": "adam", "lr": 0.5}},
        },
    }
    for name, pruning in more.items():
        record.case(f"weights/option {name}", _pruned, pruning)
    fresh = {"type": "mlp", "hidden": [16, 8]}
    for importance in ("snip", "grasp", "synflow", "movement", "random"):
        record.case(
            f"weights/initial {importance}",
            _pruned,
            {"amount": 0.6, "importance": importance, "start": "initial", "recovery": {"epochs": 2}},
            fresh,
        )
    rewound = {"amount": 0.8, "schedule": {"type": "lottery", "rounds": 2, "rewind": 1, "shape": "linear"}}
    record.case("weights/option lottery rewind", _pruned, rewound, fresh)
    record.case("weights/seeds", _pruned, {"amount": 0.6}, fresh, seeds=2)
    record.case("weights/gates", _pruned, {"amount": 0.6}, fresh, gates=["test.accuracy_drop <= 0.9"])
    record.case(
        "weights/again",
        _pruned_again,
    )
    record.case("weights/trained on", _trained_on)
    space = {
        "pruning.amount": {"float": [0.3, 0.9]},
        "pruning.importance": ["magnitude", "taylor"],
        "pruning.schedule": ["one_shot", "rounds"],
    }
    tuning = {
        "workflow": "prune",
        "objective": "maximize validation.accuracy",
        "sampler": "random",
        "trials": 5,
        "executor": "serial",
        "space": space,
    }
    search = {**digits(), "pruning": {"amount": 0.5, "recovery": {"epochs": 1}}, "tuning": tuning}
    record.case("weights/search", lambda folder: ran("tune", search, folder))


def _first_pruning(folder: Path) -> str:
    import modelopt_cli

    first = {**digits({"type": "checkpoint", "path": dense_mlp()}), "pruning": {"amount": 0.5, "importance": "random"}}
    modelopt_cli.prune(modelopt_cli.load(first), out=folder / "first")
    return str(folder / "first" / "model.pt")


def _pruned_again(folder: Path) -> dict[str, Any]:
    return _pruned(folder, {"amount": 0.8}, {"type": "checkpoint", "path": _first_pruning(folder)})


def _trained_on(folder: Path) -> dict[str, Any]:
    return ran("train", digits({"type": "checkpoint", "path": _first_pruning(folder)}), folder)


def _modules() -> dict[str, tuple[Any, Any, Any]]:
    """Small modules with their calibration inputs and targets."""
    import torch
    from torch import nn

    sys.modules.pop("behaviour_zoo", None)
    zoo = importlib.import_module("behaviour_zoo")
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    mlp = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 12), nn.LayerNorm(12), nn.ReLU(), nn.Linear(12, 4))
    conv = zoo.Small(8)
    attention = nn.Sequential(
        nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, dropout=0.0), nn.Flatten(), nn.Linear(40, 3)
    )
    return {
        "mlp": (mlp, torch.randn(64, 8, generator=generator), torch.randint(0, 4, (64,), generator=generator)),
        "conv": (
            conv.eval(),
            torch.randn(48, 1, 8, 8, generator=generator),
            torch.randint(0, 10, (48,), generator=generator),
        ),
        "attention": (
            attention,
            torch.randn(32, 5, 8, generator=generator),
            torch.randint(0, 3, (32,), generator=generator),
        ),
    }


def _shrunk(_: Path, model: str, pruning: Mapping[str, Any]) -> dict[str, Any]:
    import torch

    import modelopt_cli

    module, inputs, targets = _modules()[model]
    _same_start()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        shrunk = modelopt_cli.shrink(module, inputs, pruning, targets=targets)
        with torch.no_grad():
            outputs = shrunk.module(inputs[:5])
    notes = [text for text in shrunk.warnings if not _NOISY.search(text)]
    return {
        "state": shrunk.module.state_dict(),
        "outputs": outputs,
        "groups": shrunk.groups.model_dump(),
        "warnings": notes,
    }


@section
def units(record: Recorder) -> None:
    """Pruned units: every importance with every allocation and compensation, options of the structure, budgets."""
    own = {"type": "checkpoint", "path": dense_cnn()}
    importances, allocations, compensations = (
        strategies("importances"),
        strategies("allocations"),
        strategies("compensations"),
    )
    for importance in importances:
        chosen: dict[str, Any] = {"type": importance, **({"probes": 2} if importance == "hessian" else {})}
        for allocation in allocations:
            much = {"threshold": 0.1} if allocation == "threshold" else {"amount": 0.5}
            options = (
                {"levels": 4}
                if allocation == "divergence"
                else {"levels": [0.3, 0.7]}
                if allocation == "sensitivity"
                else {}
            )
            pruning = {"importance": chosen, "allocation": {"type": allocation, **options}, **much}
            record.case(f"units/{importance}/{allocation}", _shrunk, "mlp", pruning)
        for compensation in compensations:
            record.case(
                f"units/{importance}/compensation {compensation}",
                _shrunk,
                "conv",
                {"importance": chosen, "compensation": compensation, "amount": 0.4},
            )
        record.case(f"units/{importance}/attention", _shrunk, "attention", {"importance": chosen, "amount": 0.5})
    more: dict[str, dict[str, Any]] = {
        "round": {"structure": {"type": "neurons", "round_to": 4}, "amount": 0.4},
        "limits": {"structure": {"type": "neurons", "limits": {"*": 0.25}}, "amount": 0.5},
        "sum": {"structure": {"type": "neurons", "aggregate": "sum", "normalize": "max"}, "amount": 0.5},
        "max": {"structure": {"type": "neurons", "aggregate": "max", "normalize": "none"}, "amount": 0.5},
        "shift": {"structure": {"type": "neurons", "shift_statistics": True}, "amount": 0.5},
        "graph": {"structure": {"type": "neurons", "apply": "graph"}, "amount": 0.5},
        "module": {"structure": {"type": "neurons", "apply": "module"}, "amount": 0.5},
        "flops": {"budget": {"flops": "50%"}},
        "parameters": {
            "budget": {"parameters": "40%"},
            "importance": "obs",
            "allocation": "divergence",
            "compensation": "least_squares",
        },
        "size": {"budget": {"size_bytes": "70%"}},
        "exclude": {"exclude": ["0*", "first*"], "amount": 0.5},
        "consumers": {"importance": {"type": "l2", "consumers": True}, "amount": 0.5},
        "statistics": {"amount": 0.5, "recalibrate_batch_norm": True},
        "nothing": {"amount": 0.0},
    }
    for (name, pruning), model in itertools.product(more.items(), ("mlp", "conv", "attention")):
        record.case(f"units/option {name}/{model}", _shrunk, model, {"importance": "l2", **pruning})
    runs: dict[str, dict[str, Any]] = {
        "one shot": {"amount": 0.5, "importance": "l1"},
        "rounds": {
            "amount": 0.5,
            "schedule": {"type": "rounds", "rounds": 2},
            "recovery": {"epochs": 1},
            "importance": "taylor",
        },
        "cubic": {
            "amount": 0.5,
            "schedule": {"type": "cubic", "rounds": 2},
            "recovery": {"epochs": 2},
            "importance": "l2",
        },
        "lottery": {"amount": 0.5, "schedule": {"type": "lottery", "rounds": 2}, "importance": "l2"},
        "budget": {
            "budget": {"flops": "50%"},
            "importance": "obs",
            "allocation": "divergence",
            "compensation": "least_squares",
        },
        "graph": {
            "structure": {"type": "neurons", "apply": "graph"},
            "amount": 0.5,
            "importance": "l2",
            "recovery": {"epochs": 1},
        },
        "distilled": {"amount": 0.5, "importance": "l2", "recovery": {"epochs": 1, "distillation": {}}},
    }
    for name, pruning in runs.items():
        record.case(
            f"units/run {name}", _pruned, {"structure": "neurons", **pruning}, {"type": "mlp", "hidden": [16, 8]}
        )
        record.case(f"units/run {name} own", _pruned, {"structure": "neurons", **pruning}, own)
    space = {"pruning.amount": {"float": [0.2, 0.7]}, "pruning.importance": ["l1", "l2", "taylor"]}
    tuning = {
        "workflow": "prune",
        "objective": "maximize validation.accuracy",
        "sampler": "random",
        "trials": 4,
        "executor": "serial",
        "space": space,
    }
    search = {**digits(), "pruning": {"structure": "neurons", "amount": 0.5, "importance": "l1"}, "tuning": tuning}
    record.case("units/search", lambda folder: ran("tune", search, folder))
    record.case("units/used", _used)


def _used(folder: Path) -> dict[str, Any]:
    """A model without some of its units is trained on, pruned on, evaluated, looked into and exported."""
    import modelopt_cli

    first = {**digits(), "pruning": {"structure": "neurons", "amount": 0.5, "importance": "l2"}}
    modelopt_cli.prune(modelopt_cli.load(first), out=folder / "first")
    path = folder / "first" / "model.pt"
    parts = {
        f"trained {name}": each
        for name, each in ran("train", digits({"type": "checkpoint", "path": str(path)}), folder).items()
    }
    parts["evaluate"] = steady_report(document("evaluate", path, "--split", "test"))
    parts["inspect"] = shown(cli("inspect", path))
    parts["groups"] = steady_report(document("inspect", path, "--groups"))
    return {**parts, **_exported(path, folder)}


def _exported(path: Path, folder: Path) -> dict[str, Any]:
    import torch

    parts: dict[str, Any] = {"export": shown(cli("export", path, folder / "small.pt2"))}
    about = {"modelopt.json": ""}
    program = torch.export.load(folder / "small.pt2", extra_files=about)
    parts["export state"] = program.state_dict
    parts["export about"] = json.loads(about["modelopt.json"])
    parts["onnx"] = shown(cli("export", path, folder / "small.onnx"), numbers=False)
    return parts


@section
def files(record: Recorder) -> None:
    """Bare files of weights, and model.pt: pruned, inspected, exported, evaluated, predicted with."""

    def state(folder: Path) -> dict[str, Any]:
        import torch

        generator = torch.Generator().manual_seed(0)
        shapes = {
            "embed.weight": (20, 8),
            "layers.0.weight": (16, 8),
            "layers.0.bias": (16,),
            "layers.1.weight": (16, 16),
            "norm.weight": (16,),
            "conv.weight": (4, 2, 3, 3),
            "head.weight": (5, 16),
        }
        tensors: dict[str, Any] = {name: torch.randn(*shape, generator=generator) for name, shape in shapes.items()}
        tensors["layers.2.weight"] = tensors["layers.1.weight"].to(torch.bfloat16)
        tensors["steps"] = torch.tensor(3)
        return tensors

    def work(suffix: str, *options: str) -> Callable[[Path], dict[str, Any]]:
        def pruned(folder: Path) -> dict[str, Any]:
            import torch
            from safetensors.torch import load_file, save_file

            tensors = state(folder)
            source, target = folder / f"weights.{suffix}", folder / f"out.{suffix}"
            if suffix == "safetensors":
                save_file(tensors, source, metadata={"format": "pt"})
            else:
                torch.save({"state_dict": tensors, "epoch": 3} if suffix == "pth" else tensors, source)
            outcome = cli("prune", source, *options, "--out", target)
            parts: dict[str, Any] = {"shown": shown(outcome)}
            if target.exists():
                content = load_file(target) if suffix == "safetensors" else torch.load(target, weights_only=True)
                parts |= {"tensors": content, "keys": keys_of(content), "inspect": shown(cli("inspect", target))}
                parts["inspect json"] = steady_report(document("inspect", target))
            again = document("prune", source, *options, "--out", target, "--force")
            return {**parts, "json": steady_report(again)}

        return pruned

    choices: dict[str, tuple[str, ...]] = {
        "threshold": ("--threshold", "0.3"),
        "amount": ("--amount", "0.6"),
        "layer": ("--amount", "0.5", "--scope", "layer"),
        "pattern": ("--pattern", "2:4"),
        "all": ("--amount", "0.5", "--all", "--keep-at-least", "0.3"),
        "include": ("--amount", "0.5", "--include", "layers.*", "--exclude", "*.1.*"),
        "dry": ("--amount", "0.5", "--dry-run"),
        "gate": ("--amount", "0.5", "--gate", "model.sparsity >= 0.9"),
        "wrong": ("--amount", "0.5", "--threshold", "0.1"),
    }
    for suffix, (name, options) in itertools.product(("pt", "pth", "safetensors"), choices.items()):
        record.case(f"files/{suffix}/{name}", work(suffix, *options))
    for name, path in (("mlp", dense_mlp), ("own", dense_cnn)):
        record.case(f"files/model {name}", _model_file, Path(path()))
    record.case("files/judged", _judged_file)


def _model_file(folder: Path, path: Path) -> dict[str, Any]:
    import torch

    trust = ["--trust-code"]
    rows = [",".join(f"pixel_{row}_{column}" for row in range(8) for column in range(8))]
    rows += [",".join(str((7 * number + 3 * column) % 17) for column in range(64)) for number in range(9)]
    (folder / "new.csv").write_text("\n".join(rows) + "\n")
    np.save(
        folder / "new.npy", np.array([[float(cell) for cell in row.split(",")] for row in rows[1:]], dtype="float32")
    )
    parts: dict[str, Any] = {
        "inspect": shown(cli("inspect", path, *trust)),
        "inspect json": steady_report(document("inspect", path, *trust)),
        "groups": shown(cli("inspect", path, "--groups", *trust)),
        "groups json": steady_report(document("inspect", path, "--groups", *trust)),
        "evaluate": shown(cli("evaluate", path, *trust)),
        "evaluate json": steady_report(document("evaluate", path, "--split", "train", *trust)),
        "predict csv": shown(cli("predict", path, folder / "new.csv", *trust)),
        "predict npy": shown(cli("predict", path, folder / "new.npy", *trust)),
        "untrusted": shown(cli("evaluate", path)),
        "prune": shown(cli("prune", path, "--amount", "0.5", "--out", folder / "masked.pt")),
    }
    if (folder / "masked.pt").exists():
        parts["masked.pt"] = saved_model(folder / "masked.pt")
        parts["keys of masked.pt"] = keys_of(torch.load(folder / "masked.pt", weights_only=True))
    parts["export"] = shown(cli("export", path, folder / "out.pt2", *trust))
    if (folder / "out.pt2").exists():
        about = {"modelopt.json": ""}
        parts["export state"] = torch.export.load(folder / "out.pt2", extra_files=about).state_dict
        parts["export about"] = json.loads(about["modelopt.json"])
    parts["onnx"] = shown(cli("export", path, folder / "out.onnx", *trust), numbers=False)
    return parts


def _judged_file(folder: Path) -> dict[str, Any]:
    """A bare state dict with an experiment that says what it is of."""
    import torch

    state = torch.load(dense_mlp(), weights_only=True)["state"]
    torch.save({f"module.{name}": tensor for name, tensor in state.items()}, folder / "bare.pt")
    experiment = digits()
    (folder / "file.yaml").write_text(json.dumps(experiment))
    parts: dict[str, Any] = {}
    for name, options in {
        "weights": ("--amount", "0.8"),
        "neurons": ("--amount", "0.5", "--structure", "neurons", "--importance", "l2"),
        "recovered": ("--amount", "0.8", "--set", "pruning.recovery={epochs: 1}"),
    }.items():
        outcome = cli(
            "prune",
            folder / "bare.pt",
            "--experiment",
            folder / "file.yaml",
            *options,
            "--out",
            folder / f"{name}.pt",
            "--json",
            "--quiet",
        )
        try:
            parts[name] = steady_report(json.loads(outcome.out))
        except ValueError:
            parts[name] = shown(outcome)
        if (folder / f"{name}.pt").is_file():
            parts[f"{name}.pt"] = saved_model(folder / f"{name}.pt")
    return parts


# ---------------------------------------------------------------------------------------------------------------------
# Distillation
# ---------------------------------------------------------------------------------------------------------------------


def _distilled(
    folder: Path, distillation: Mapping[str, Any], base: Mapping[str, Any], **sections: Any
) -> dict[str, Any]:
    return ran("distill", {**base, "distillation": distillation, **sections}, folder)


@section
def distillation(record: Recorder) -> None:
    """Students: every loss, every kind of teacher, caches, assistants, generations, searches."""
    quick = {"baseline": False}
    student: dict[str, Any] = digits({"type": "mlp", "hidden": [6]})
    image = digits({"type": "cnn", "channels": [4], "hidden": [8]})
    image["training"] = {**image["training"], "epochs": 1, "batch_size": 128}

    teacher = {"teacher": dense_mlp(), **quick}
    model = {"type": "cnn", "channels": [6], "hidden": [8]}
    wide = {"teacher": trained("wide-cnn", {**digits(model), "training": image["training"]}), **quick}
    for name in strategies("distillation_losses"):
        outcome = [{"type": "labels", "weight": 0.3}, {"type": name}]
        record.case(
            f"distillation/loss {name}",
            _distilled,
            {**teacher, "losses": outcome},
            student,
        )
        standard = [{"type": name, "standardize": True, "schedule": {"type": "warmup", "epochs": 1}}]
        record.case(
            f"distillation/loss {name} standardized",
            _distilled,
            {**teacher, "losses": standard},
            student,
        )
        features = [{"type": "labels", "weight": 0.3}, {"type": name, "taps": ["layers.0"], "weight": 0.1}]
        record.case(
            f"distillation/loss {name} features",
            _distilled,
            {**teacher, "losses": features},
            student,
        )
        taps = [{"type": "labels", "weight": 0.3}, {"type": name, "taps": ["features.0"], "weight": 0.1}]
        record.case(f"distillation/loss {name} maps", _distilled, {**wide, "losses": taps}, image)
    mlp = {"type": "mlp", "hidden": [12], "dropout": 0.1}
    training = {"epochs": 1, "batch_size": 64, "optimizer": {"type": "adam", "lr": 0.01}}
    first = {"model": mlp, "training": training}
    forest = {"model": {"type": "sklearn", "estimator": "sklearn.ensemble.RandomForestClassifier", "n_estimators": 3}}
    cases: dict[str, dict[str, Any]] = {
        "file": {"teacher": dense_mlp()},
        "trained first": {"teacher": first},
        "seed": {"teacher": {**first, "seed": 4}},
        "estimator": {"teacher": forest},
        "mean": {"teachers": [dense_mlp(), {"model": mlp, "training": training}], **quick},
        "weighted": {
            "teachers": [{"path": dense_mlp(), "weight": 2.0}, first, forest],
            "combine": "weighted",
            **quick,
        },
        "confidence": {"teachers": [dense_mlp(), first], "combine": "confidence", **quick},
        "ema": {"ema": {"decay": 0.9}, **quick},
        "mutual": {"mutual": {"count": 3}, **quick},
        "mutual models": {"mutual": {"models": [mlp]}, **quick},
        "generations": {"generations": 2},
        "assistants": {
            "teacher": dense_mlp(),
            "assistants": [{"model": {"type": "mlp", "hidden": [8]}}],
            **quick,
        },
        "top k": {"teacher": dense_mlp(), "cache": {"where": "memory", "top_k": 3}, **quick},
        "disk": {"teacher": dense_mlp(), "cache": {"where": "disk"}, **quick},
        "no cache": {"teacher": dense_mlp(), "cache": {"where": "none"}, **quick},
        "leave out": {"teacher": dense_mlp(), "leave_out": ["3"], **quick},
        "weights": {
            "teacher": {"model": {"type": "mlp", "hidden": [16, 8]}, "weights": _bare_weights()},
            **quick,
        },
    }
    for name, chosen in cases.items():
        record.case(f"distillation/teacher {name}", _distilled, chosen, student)
    record.case("distillation/seeds", _distilled, {"teacher": first}, student, seeds=2)
    record.case(
        "distillation/pruned student",
        _taught_again,
    )
    views = merged(image, {"data": {"augment": [{"type": "jitter", "pixels": 1}]}, "training": {"epochs": 3}})
    record.case("distillation/views", _distilled, {**wide, "cache": {"views": 2}}, views)
    quantities = {**student, "data": {"type": "diabetes", "splits": {"validation": 0.2, "test": 0.2, "seed": 0}}}
    for losses in (None, [{"type": "mse"}]):
        chosen = {} if losses is None else {"losses": losses}
        record.case(
            f"distillation/regression {losses is not None}",
            _distilled,
            {"teacher": first, **chosen},
            quantities,
        )
    space = {"distillation.losses.1.temperature": {"float": [1.0, 20.0], "log": True}, "model.hidden.0": [4, 6]}
    tuning = {
        "workflow": "distill",
        "objective": "maximize validation.accuracy",
        "sampler": "random",
        "trials": 3,
        "executor": "serial",
        "space": space,
    }
    record.case(
        "distillation/search",
        lambda folder: ran("tune", {**student, "distillation": {"teacher": first}, "tuning": tuning}, folder),
    )


def _taught_again(folder: Path) -> dict[str, Any]:
    """A pruned student."""
    student = digits({"type": "checkpoint", "path": _first_pruning(folder)})
    return _distilled(folder, {"teacher": dense_mlp()}, student)


def _bare_weights() -> str:
    import torch

    path = _WORK / "shared" / "bare.pt"
    if not path.is_file():
        torch.save(torch.load(dense_mlp(), weights_only=True)["state"], path)
    return str(path)


# ---------------------------------------------------------------------------------------------------------------------
# The command line
# ---------------------------------------------------------------------------------------------------------------------

RESNETS = [
    "training.batch_size=16",
    "model.depth=8",
    "distillation.teacher.model.depth=8",
    "seeds=1",
    "distillation.teacher.training={epochs: 1, batch_size: 16}",
]
SMALL: dict[str, list[str]] = {
    "mnist_prune": ["training.batch_size=16", "gates=[]"],
    "mnist_lenet_prune": ["training.batch_size=16", "pruning.recovery.epochs=2"],
    "digits_prune": ["pruning.recovery.epochs=1", "gates=[]"],
    "digits_neurons": ["pruning.threshold=0.02", "pruning.recovery.epochs=1", "gates=[]"],
    "mnist_cnn_neurons": ["training.batch_size=16", "pruning.calibration=64", "gates=[]"],
    "digits_prune_search": ["pruning.recovery.epochs=1", "tuning.constraints=[]"],
    "digits_distill": ["distillation.teacher.training.epochs=1"],
    "mnist_hinton": ["training.batch_size=16", "distillation.teacher.training={epochs: 1, batch_size: 16}", "seeds=1"],
    "cifar100_kd": RESNETS,
    "cifar100_dkd": RESNETS,
    "cifar100_dist": RESNETS,
    "iris_grid": ["tuning.space={model.n_estimators: [2, 3], model.max_depth: [null, 2]}"],
    "mnist_mlp": ["gates=[]"],
}


def templates() -> list[str]:
    """The names of the templates: those of the experiment files in configs/."""
    return re.findall(r"^ *([a-z][a-z0-9_]+)(?= )", cli("init").out, re.MULTILINE)


def _configured(folder: Path, name: str) -> dict[str, Any]:
    import yaml

    text = cli("init", name).out
    (folder / f"{name}.yaml").write_text(text)
    content = yaml.safe_load(text)
    changes = list(SMALL.get(name, []))
    changes += ["training.epochs=1"] if "training" in content else []
    command = next(
        (
            each
            for each, key in (("tune", "tuning"), ("prune", "pruning"), ("distill", "distillation"))
            if key in content
        ),
        "train",
    )
    changes += ["tuning.trials=4", "tuning.executor=serial", "gates=[]"] if command == "tune" else []
    options = [word for change in changes for word in ("--set", change)]
    planned = cli(command, f"{name}.yaml", "--dry-run", *options)
    outcome = cli(command, f"{name}.yaml", "--out", "run", "--quiet", *options)
    parts = {
        "template": text,
        "validate": shown(cli("validate", f"{name}.yaml")),
        "plan": shown(planned, memory=True),
        "code": outcome.code,
        "printed": shown(outcome, numbers=False),
    }
    if (folder / "run" / "report.json").is_file():
        parts |= run_files(folder / "run")
        report = folder / "run" / "report.json"
        report.write_text(json.dumps(steady(json.loads(report.read_text()))))
        parts["show"] = shown(cli("show", "run"), memory=True)
        parts["runs"] = shown(cli("runs"), numbers=False)
    return parts


@section
def configs(record: Recorder) -> None:
    """Every template, run small by the command line: what is printed, planned, written, and shown again."""
    for name in templates():
        record.case(f"configs/{name}", _configured, name)


COMMANDS = (
    "tune",
    "train",
    "prune",
    "distill",
    "inspect",
    "export",
    "evaluate",
    "predict",
    "validate",
    "init",
    "list",
    "schema",
    "runs",
    "show",
    "replay",
    "clean",
)


@section
def command_line(record: Recorder) -> None:
    """What modelopt lists, its schema, its help, its templates; runs, show, clean; what progress says."""
    record.case(
        "command_line/list",
        lambda _: {"text": shown(cli("list")), "json": document("list"), "schema": cli("schema").out},
    )
    for family in document("list"):
        record.case(
            f"command_line/list {family}",
            _listed,
            family,
        )
    for words in ([], *([command] for command in COMMANDS)):
        record.case(f"command_line/help {' '.join(words)}", _asked_for, *words, "--help")
    record.case("command_line/init", _asked_for, "init")
    record.case("command_line/kept", _kept)
    record.case("command_line/progress", _progress)
    record.case("command_line/from python", _from_python)


def _listed(_: Path, family: str) -> dict[str, Any]:
    return {"text": shown(cli("list", family)), "json": document("list", family)}


def _asked_for(_: Path, *words: str) -> dict[str, Any]:
    return shown(cli(*words))


def _kept(folder: Path) -> dict[str, Any]:
    (folder / "case.yaml").write_text(json.dumps(merged({**IRIS, "tuning": SEARCH}, {"training": {"epochs": 2}})))
    parts: dict[str, Any] = {}
    for name, words in {
        "train": ("train", "case.yaml", "-q"),
        "tune": ("tune", "case.yaml", "-q", "--trials", "2", "--gate", "validation.accuracy >= 0.01"),
        "gate": ("train", "case.yaml", "-q", "--gate", "test.accuracy >= 1.5"),
        "again": ("tune", "case.yaml", "-q", "--out", "runs/case/2"),
        "set": (
            "train",
            "case.yaml",
            "-q",
            "--set",
            "training.epochs=1",
            "--set",
            "model.hidden.0=3",
            "--out",
            "elsewhere",
        ),
        "best": ("train", "runs/case/2/best.yaml", "-q", "--out", "best"),
        "runs": ("runs",),
        "runs json": ("runs", "--json"),
        "show": ("show", "case"),
        "show path": ("show", "runs/case/1"),
        "clean dry": ("clean", "case", "--dry-run"),
        "evaluate run": ("evaluate", "runs/case/1", "--split", "test"),
    }.items():
        outcome = shown(cli(*words), numbers=name in ("gate", "again"))
        parts[name] = {
            "code": outcome["code"],
            "err": outcome["err"],
            "out": "" if name == "runs json" else outcome["out"],
        }
    parts["files"] = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    return parts


def _progress(folder: Path) -> dict[str, Any]:
    """The lines for each stage, where standard error is no terminal."""
    parts: dict[str, Any] = {}
    small = merged(IRIS, {"training": {"epochs": 2}})
    first = {"model": {"type": "mlp", "hidden": [8]}, "training": {"epochs": 2, "batch_size": 64}}
    commands: dict[str, dict[str, Any]] = {
        "prune": {"pruning": {"amount": 0.5, "schedule": {"type": "rounds", "rounds": 2}, "recovery": {"epochs": 1}}},
        "distill": {"distillation": {"teacher": first}},
        "train": {},
    }
    for command, more in commands.items():
        (folder / "case.yaml").write_text(json.dumps({**small, **more}))
        outcome = cli(command, "case.yaml", "--out", command)
        lines = [line.strip() for line in outcome.err.splitlines() if not line.strip().startswith(("step ", "still "))]
        parts[command] = [steady_text(line) for line in lines]
    return parts


def _from_python(folder: Path) -> dict[str, Any]:
    import modelopt_cli

    model = dense_mlp()
    inputs = np.arange(5 * 64, dtype="float32").reshape(5, 64) % 17
    names = [name for name in modelopt_cli.__all__ if name != "__version__"]
    report = json.loads(modelopt_cli.evaluate(model).to_json())
    parts: dict[str, Any] = {"names": sorted(names), "evaluate": steady_report(report)}
    np.save(folder / "new.npy", inputs)
    try:
        parts["predict"] = modelopt_cli.predict(model, folder / "new.npy")
    except Exception as error:
        parts["predict"] = str(error)
    return parts


# ---------------------------------------------------------------------------------------------------------------------
# Errors
# ---------------------------------------------------------------------------------------------------------------------

GOOD = """\
version: 1
seed: 0
data:
  type: digits
  splits: {validation: 0.2, test: 0.2, seed: 0}
model:
  type: mlp
  hidden: [128, 64]
training:
  epochs: 30
  batch_size: 64
  optimizer: {type: sgd, lr: 0.05, momentum: 0.9}
  schedule: cosine
tuning:
  objective: maximize validation.accuracy
  sampler: random
  space:
    training.optimizer.lr: {float: [1.0e-4, 1.0], log: true}
    training.batch_size: [16, 32]
    model.hidden.0: {int: [16, 256], log: true}
    training.optimizer:
      choice:
        - {type: sgd, momentum: {float: [0.0, 0.99]}}
        - {type: adamw, weight_decay: {float: [1.0e-6, 1.0e-1], log: true}}
"""
# What a user writes in place of what.
MISTAKES: list[tuple[str, str]] = [
    ("lr: 0.05", "lerning_rate: 0.1"),
    ("training:", "trainig:"),
    ("seed: 0}", "sed: 0}"),
    ("version: 1", "version: 2"),
    ("epochs: 30", 'epochs: "30"'),
    ("epochs: 30", "epochs: 2.5"),
    ("epochs: 30", "epochs: 0"),
    ("epochs: 30", "epochs: null"),
    ("epochs: 30", "epochs: [1]"),
    ("epochs: 30", "epochs: 100_000"),
    ("epochs: 30", "epochs: 3\n  epochs: 4"),
    ("epochs: 30", "epochs: ${NO_SUCH_VARIABLE}"),
    ("epochs: 30", "epochs: *nothing"),
    ("epochs: 30", "epochs: !!python/name:os.system x"),
    ("epochs: 30", "\tepochs: 30"),
    ("lr: 0.05", "lr: '0.05'"),
    ("lr: 0.05", "lr: .inf"),
    ("epochs: 30", "shuffle: yes"),
    ("epochs: 30", "loss: entropy"),
    ("epochs: 30", "monitor: 5"),
    ("epochs: 30", "monitor: validation.acuracy"),
    ("epochs: 30", "class_weights: [1, a]"),
    ("[128, 64]", "128"),
    ("[128, 64]", "[128, x]"),
    ("validation: 0.2", "validation: 1.5"),
    ("validation: 0.2", "validation: a"),
    ("type: digits", "type: digts"),
    ("type: mlp", "type: mpl"),
    ("type: mlp", "typ: mlp"),
    ("type: sgd, lr", "type: sdg, lr"),
    ("schedule: cosine", "schedule: cosin"),
    ("schedule: cosine", "schedule: [1]"),
    ("schedule: cosine", "schedule: multi_step"),
    ("sampler: random", "executor: seriall"),
    ("sampler: random", "sampler: grid"),
    ("sampler: random", "sampler: {type: bayesian, initial_points: -1}"),
    ("sampler: random", "stopper: {type: threshold}"),
    ("sampler: random", "scheduler: pbt"),
    ("sampler: random", "scheduler: freeze_thaw\n  stopper: asha"),
    ("sampler: random", "constraints: [a]"),
    ("sampler: random", "constraints: [model.parametres <= 5]"),
    ("sampler: random", "workflow: trian"),
    ("sampler: random", "workflow: command"),
    ("sampler: random", "workflow: prune"),
    ("sampler: random", "workflow: distill"),
    ("sampler: random", "rules: [model.hidden.0 >= model.hidde.1]"),
    ("sampler: random", "rules: [model.hidden.0 >]"),
    ("sampler: random", "stop_when: {target: validation.acc >= 1}"),
    ("sampler: random", "initial: [{training.batch_size: 17}]"),
    ("sampler: random", "initial: [{training.batchsize: 16}]"),
    ("sampler: random", "trial_memory: 2 loads"),
    ("seed: 0\ndata", "device: gpu\ndata"),
    ("seed: 0\ndata", "seed: -1\ndata"),
    ("seed: 0\ndata", "name: a/b\ndata"),
    ("seed: 0\ndata", "gates: [acc >= 1, acc]\ndata"),
    ("seed: 0\ndata", "gates: [test.acuracy >= 1]\ndata"),
    ("seed: 0\ndata", "evaluation: {cv: 1}\ndata"),
    ("seed: 0\ndata", "evaluation: {repeats: 2}\ndata"),
    ("seed: 0\ndata", "evaluation: {metrics: [a.b]}\ndata"),
    ("maximize validation", "validation"),
    ("maximize validation", "maximize test"),
    ("maximize validation.accuracy", "maximize validation.acuracy"),
    ("objective: maximize validation.accuracy", "trials: 3"),
    ("training.batch_size:", "training.batchsize:"),
    ("model.hidden.0", "model.hidden.2"),
    ("model.hidden.0", "model.hidden.0.x"),
    ("training.batch_size:", "tuning.trials:"),
    ("training.batch_size:", "seed:"),
    ("training.batch_size:", "data.splits.seed:"),
    ("training.batch_size: [16, 32]", "training.batch_size: []"),
    ("[1.0e-4, 1.0]", "[1.0, 1.0e-4]"),
    ("[1.0e-4, 1.0]", "[0, 1.0]"),
    ("[1.0e-4, 1.0]", "[a, 1.0]"),
    ("[1.0e-4, 1.0], log: true", "[1.0e-4, 1.0], lg: true"),
    ("[16, 32]", "[16, 0]"),
    ("[16, 32]", "{float: [1.0, 2.0]}"),
    ("[16, 32]", "{choice: [16, 32], prior: 17, confidence: 0.5}"),
    ("[0.0, 0.99]", "[-1.0, 0.99]"),
    ("type: adamw", "type: adamv"),
    ("weight_decay:", "weight_decy:"),
    ("{type: adamw,", "{type: adamw, nestrov: 1,"),
    ("type: sgd, momentum: {", "type: sgd, nesterov: true, momentum: {"),
    ("model.hidden.0", "training.optimizer.nesterov"),
]
SECTIONS_WRONG: dict[str, str] = {
    "prune neither": "pruning: {structure: weights}",
    "prune both": "pruning: {amount: 0.5, threshold: 0.1}",
    "prune nm": "pruning: {structure: nm, amount: 0.5}",
    "prune allocation": "pruning: {amount: 0.5, allocation: threshold}",
    "prune cubic": "pruning: {amount: 0.5, schedule: cubic}",
    "prune lottery": "pruning: {amount: 0.5, schedule: lottery, recovery: {epochs: 1}}",
    "prune importance": "pruning: {amount: 0.5, importance: magnitud}",
    "prune units": "pruning: {amount: 0.5, structure: neurons, importance: obs, compensation: sparsegpt}",
    "prune activity": "pruning: {amount: 0.5, importance: apoz}",
    "prune budget": "pruning: {budget: {flops: 50%}}",
    "prune budgets": "pruning: {structure: neurons, budget: {flops: 50%, parameters: 5}}",
    "prune lamp": "pruning: {amount: 0.5, importance: grasp, allocation: lamp}",
    "prune fpgm": "pruning: {amount: 0.5, importance: fpgm}",
    "distill none": "distillation: {losses: [soft_targets]}",
    "distill two": "distillation: {teacher: a.pt, ema: {}}",
    "distill taps": "distillation: {teacher: {model: {type: mlp}, training: {epochs: 1}}, losses: [{type: fitnets}]}",
    "distill loss": "distillation: {teacher: a.pt, losses: [{type: soft_target}]}",
    "distill cache": "distillation: {teacher: a.pt, cache: {where: cloud}}",
    "distill weight": "distillation: {teacher: a.pt, losses: [{type: labels, weight: -1}]}",
    "command": "command: {argv: [python, '{lr}'], parameters: {}}",
}
ASKED_WRONG: dict[str, tuple[str, ...]] = {
    "nothing": (),
    "command": ("tuen", "x.yaml"),
    "option": ("tune", "x.yaml", "--trails", "3"),
    "no file": ("tune", "nowhere.yaml"),
    "no experiment": ("tune",),
    "a folder": ("train", "."),
    "trials": ("tune", "x.yaml", "--trials", "0"),
    "gate": ("tune", "x.yaml", "--gate", "test.accuracy"),
    "gate metric": ("tune", "x.yaml", "--gate", "test.acuracy >= 1"),
    "resume": ("tune", "x.yaml", "--resume"),
    "resume out": ("tune", "x.yaml", "--resume", "--out", "nowhere"),
    "set value": ("train", "x.yaml", "--set", "training.epochs=x"),
    "set path": ("train", "x.yaml", "--set", "training.epoch=5"),
    "set short": ("train", "x.yaml", "--set", "epochs=5"),
    "set item": ("train", "x.yaml", "--set", "model.hidden.7=5"),
    "set yaml": ("train", "x.yaml", "--set", "model.hidden=[1"),
    "set nothing": ("train", "x.yaml", "--set", "training.batch_size"),
    "set type": ("train", "x.yaml", "--set", "training.optimizer.type=adamw"),
    "no pruning": ("prune", "x.yaml"),
    "no distillation": ("distill", "x.yaml"),
    "prune nothing": ("prune", "nowhere.pt", "--amount", "0.5"),
    "prune how much": ("prune", "bad.pt"),
    "prune bad": ("prune", "bad.pt", "--amount", "0.5"),
    "inspect bad": ("inspect", "bad.pt"),
    "evaluate bad": ("evaluate", "bad.pt"),
    "evaluate text": ("evaluate", "x.yaml"),
    "predict nothing": ("predict", "nowhere.pt", "new.csv"),
    "export ending": ("export", "bad.pt", "out.tflite"),
    "init": ("init", "digits_mpl"),
    "list": ("list", "smaplers"),
    "show": ("show", "nothing"),
    "replay": ("replay", "nothing"),
    "clean": ("clean", "nothing"),
    "json": ("train", "x.yaml", "--set", "training.epochs=x", "--json"),
}


@section
def errors(record: Recorder) -> None:
    """Mistakes in files and on the command line: the text with line and column, and the exit code."""

    record.case("errors/none", _validated, GOOD)
    for number, (old, new) in enumerate(MISTAKES):
        assert old in GOOD
        name = re.sub(r"\s+", " ", new).replace("/", "|")
        record.case(f"errors/{number} {name}", _validated, GOOD.replace(old, new))
    for name, text in SECTIONS_WRONG.items():
        whole = GOOD.partition("tuning:")[0] + text + "\n"
        record.case(f"errors/{name}", _validated, whole)
    many = GOOD.replace("  epochs: 30", "\n".join(f"  wrong_{number}: {number}" for number in range(14)))
    record.case("errors/many", _validated, many)
    several = (
        GOOD.replace("epochs: 30", "epochs: x")
        .replace("seed: 0\ndata", "seed: x\ndata")
        .replace("sampler: random", "trials: 0")
    )
    record.case("errors/several", _validated, several)
    for name, words in ASKED_WRONG.items():
        record.case(f"errors/asked {name}", _asked_wrongly, *words)
    record.case("errors/data", _wrong_data)


def _validated(folder: Path, text: str) -> dict[str, Any]:
    (folder / "x.yaml").write_text(text)
    return shown(cli("validate", "x.yaml"))


def _asked_wrongly(folder: Path, *words: str) -> dict[str, Any]:
    (folder / "x.yaml").write_text(GOOD)
    (folder / "bad.pt").write_bytes(b"this is no archive")
    return {**shown(cli(*words)), "files": sorted(path.name for path in folder.iterdir())}


def _wrong_data(folder: Path) -> dict[str, Any]:
    """What shows only when data and models are looked at."""
    changes: dict[str, dict[str, Any]] = {
        "no csv": {"data": {"type": "csv", "path": "nowhere.csv", "target": "y"}},
        "no column": {"data": {"type": "csv", "path": shared("table.csv"), "target": "prise"}},
        "dates": {"data": {"type": "csv", "path": shared("table.csv"), "target": "when"}},
        "no estimator": {"model": {"type": "sklearn", "estimator": "sklearn.svm.SVCC"}},
        "no argument": {"model": {"type": "sklearn", "estimator": "sklearn.svm.SVC", "CC": 1}},
        "regressor": {"model": {"type": "sklearn", "estimator": "sklearn.svm.SVR"}},
        "no module": {"model": {"type": "python", "target": "no_such_module:Net"}},
        "batch": {"training": {"batch_size": 100000}},
        "positive": {"data": {"type": "iris", "positive": "setosa"}},
        "checkpoint": {"model": {"type": "checkpoint", "path": "nowhere.pt"}},
        "teacher": {"distillation": {"teacher": "nowhere.pt"}},
        "taps": {"distillation": {"teacher": dense_mlp(), "losses": [{"type": "fitnets", "taps": ["nowhere"]}]}},
        "other data": {"distillation": {"teacher": dense_mlp()}},
    }
    parts: dict[str, Any] = {}
    for name, change in changes.items():
        (folder / "x.yaml").write_text(json.dumps(merged(IRIS, change)))
        command = "distill" if "distillation" in change else "train"
        parts[name] = shown(cli(command, "x.yaml", "--out", f"run {name}", "--quiet"))
        parts[f"{name}, dry"] = shown(cli(command, "x.yaml", "--dry-run"), memory=True)
    return parts


# ---------------------------------------------------------------------------------------------------------------------


def record_all(out: Path, only: Sequence[str], work: Path) -> None:
    """Record, and write the recording."""
    global _WORK
    _WORK = work.resolve()
    _WORK.mkdir(parents=True, exist_ok=True)
    with (_WORK / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        import modelopt_cli

        warnings.simplefilter("ignore")
        print(f"recording {Path(str(modelopt_cli.__file__)).parent}", file=sys.stderr)
        _prepare()
        recorder, seconds = Recorder(only), {}
        for name, function in SECTIONS.items():
            if recorder.wanted(name):
                begun, before = time.perf_counter(), len(recorder.entries)
                function(recorder)
                seconds[name] = round(time.perf_counter() - begun, 1)
                print(
                    f"{name}: {len(recorder.entries) - before} entries, {seconds[name]} s", file=sys.stderr, flush=True
                )
    out.write_text(
        json.dumps(
            {"seconds": seconds, "seconds of cases": recorder.seconds, "entries": recorder.entries},
            indent=1,
            ensure_ascii=False,
            sort_keys=True,
        )
    )
    slowest = sorted(recorder.seconds.items(), key=lambda item: -item[1])[:8]
    print("slowest:", ", ".join(f"{name} {each} s" for name, each in slowest), file=sys.stderr)
    print(f"{len(recorder.entries)} entries in {sum(seconds.values()):.0f} s, written to {out}", file=sys.stderr)


def chosen(name: str, only: Sequence[str]) -> bool:
    """Whether an entry is of one of the sections or cases."""
    return not only or any(name.startswith(each) for each in only)


def _around(old: str, new: str) -> Iterator[str]:
    """The first place at which two texts differ."""
    offset = next(
        (offset for offset, (one, other) in enumerate(zip(old, new, strict=False)) if one != other),
        min(len(old), len(new)),
    )
    for label, text in (("old", old), ("new", new)):
        yield f"    {label}: {'...' if offset > 80 else ''}{text[max(0, offset - 80) : offset + 160]}"


def compare(old: Path, new: Path, only: Sequence[str] = ()) -> int:
    """Print every entry that differs, is missing or new; 1 when there is any."""
    before, after = (
        {name: entry for name, entry in json.loads(path.read_text())["entries"].items() if chosen(name, only)}
        for path in (old, new)
    )
    differing = 0
    for name in sorted({*before, *after}):
        if name not in after:
            print(f"missing: {name}")
        elif name not in before:
            print(f"new: {name}")
        elif before[name]["sha256"] != after[name]["sha256"]:
            print(f"differs: {name}")
            print("\n".join(_around(before[name]["content"], after[name]["content"])))
        else:
            continue
        differing += 1
    print(f"{len(before)} entries before, {len(after)} after; {differing} differ, are missing or new")
    return 1 if differing else 0


def main() -> int:
    """The command line of this script."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    recording = commands.add_parser("record", help="record what the modelopt on PYTHONPATH does")
    recording.add_argument("out", type=Path)
    recording.add_argument(
        "--only", action="append", default=[], metavar="NAME", help=f"of: {', '.join(SECTIONS)}, or a case"
    )
    recording.add_argument(
        "--work", type=Path, help="where files are written; default: a new folder, removed at the end"
    )
    comparing = commands.add_parser("compare", help="compare two recordings")
    comparing.add_argument("old", type=Path)
    comparing.add_argument("new", type=Path)
    comparing.add_argument("--only", action="append", default=[], metavar="NAME", help="compare these entries alone")
    arguments = parser.parse_args()
    if arguments.command == "compare":
        return compare(arguments.old, arguments.new, arguments.only)
    out, work = arguments.out.absolute(), arguments.work
    if work is not None:
        record_all(out, arguments.only, work)
        return 0
    with tempfile.TemporaryDirectory(prefix="behaviour-", ignore_cleanup_errors=True) as folder:
        record_all(out, arguments.only, Path(folder))
    return 0


if __name__ == "__main__":
    sys.exit(main())
