"""What the benchmarks of `modelopt compress` share: contenders made of one experiment file, searches, hypervolumes.

A contender is a search of the same number of trials, in each of which the network that comes out was descended for the
same number of epochs; what it lacks is taken out of the file. The teacher's own training, once for a search, comes on
top for all but the small model that is trained alone.
"""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import yaml
from _common import MODELOPT, ROOT, run

from modelopt_cli.tuning.analysis.hypervolume import hypervolume

Mapped = dict[str, Any]

CONTENDERS = (
    "alone",
    "distill",
    "prune, labels",
    "prune",
    "prune, int8",
    "one after another",
    "joint, labels",
    "joint",
    "joint, int8",
    "from the teacher, int8",
)


DIGITS_WIDTHS = {"model.channels.0": [4, 12], "model.channels.1": [6, 24]}
"""Widths of a small network that is not pruned: what the reference's bytes hold, and somewhat more."""


def contender(name: str, base: Mapping[str, Any], widths: Mapping[str, Sequence[int]] = DIGITS_WIDTHS) -> Mapped:
    """The experiment of this contender, out of one that has everything and searches everything.

    `widths`: what those search that train a small network and do not prune it: path -> least and most.
    """
    made: Mapped = copy.deepcopy(dict(base))
    made["name"] = name.replace(", ", "-").replace(" ", "-")
    made.pop("gates", None)
    together = made["training"]["epochs"] + made["pruning"]["recovery"]["epochs"]
    if "int8" not in name:
        made.pop("quantization", None)
    if "labels" in name:
        made["pruning"]["recovery"].pop("distillation", None)
    if name.startswith("from the teacher"):
        teacher = made["distillation"]["teacher"]
        made["model"], made["distillation"]["start"] = copy.deepcopy(teacher["model"]), "teacher"
        made["training"]["optimizer"] = copy.deepcopy(teacher["training"]["optimizer"])
        return _only(made, "compress", ("pruning.", "quantization."), without=())
    if name in ("alone", "distill"):
        whole = {path: {"int": list(ends), "log": True} for path, ends in widths.items()}
        others = {path: tried for path, tried in made["tuning"]["space"].items() if not path.startswith("model.")}
        made["tuning"]["space"] = {**whole, **others}
    if name == "alone":
        made["training"]["epochs"] = together
        return _only(made, "train", ("model.", "training."), without=("distillation", "pruning"))
    if name == "distill":
        made["training"]["epochs"] = together
        made["distillation"]["baseline"] = False
        return _only(made, "distill", ("model.", "training.", "distillation."), without=("pruning",))
    if name.startswith("prune"):
        teacher = made["distillation"]["teacher"]
        made["pruning"]["recovery"] = {**_recovery(made), "epochs": together}
        made["model"], made["training"] = teacher["model"], teacher["training"]
        kind = "compress" if "int8" in name else "prune"
        return _only(made, kind, ("pruning.", "quantization."), without=("distillation",))
    early = () if name == "one after another" else ("model.", "training.", "distillation.")
    return _only(made, "compress", (*early, "pruning.", "quantization."), without=())


def _recovery(made: Mapping[str, Any]) -> Mapped:
    """The recovery with what it would have taken from the student's training, written out."""
    training = made["training"]
    taken = {key: training[key] for key in ("batch_size", "optimizer", "schedule") if key in training}
    return {**taken, **made["pruning"]["recovery"]}


def _only(made: Mapped, workflow: str, kept: Sequence[str], without: Sequence[str]) -> Mapped:
    """`made` for this workflow, without these sections, searching only paths that begin so."""
    for section in without:
        made.pop(section, None)
    tuning = made["tuning"]
    tuning["workflow"] = workflow
    tuning["space"] = {
        path: values
        for path, values in tuning["space"].items()
        if path.startswith(tuple(kept)) and path.partition(".")[0] in made
    }
    return made


def search(name: str, experiment: Mapping[str, Any], seed: int, folder: Path, trials: int | None = None) -> Mapped:
    """`modelopt tune` of this experiment, or what it came to before: trials, front, CPU and wall seconds.

    Everything of a search lies in `folder`/NAME-SEED; one that is there with a report is not repeated.
    """
    out = folder / f"{experiment['name']}-{seed}"
    kept = out / "searched.json"
    if not kept.exists():
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir(parents=True)
        file = out / "experiment-file.yaml"
        file.write_text(yaml.safe_dump(dict(experiment), sort_keys=False), encoding="utf-8")
        command: list[str | Path] = [MODELOPT, "tune", file, "--set", f"seed={seed}", "--out", out / "run", "--quiet"]
        command += ["--set", f"tuning.trials={trials}"] if trials else []
        ran = run(command, cwd=out, env={"PYTHONPATH": str(ROOT)})
        (out / "log.txt").write_text(ran.output, encoding="utf-8")
        rows = json.loads((out / "run" / "trials.json").read_text(encoding="utf-8"))
        report = json.loads((out / "run" / "report.json").read_text(encoding="utf-8"))
        outcome = {"contender": name, "seed": seed, "cpu": ran.cpu, "wall": ran.wall, "trials": rows}
        outcome |= {name: report["details"].get(name) for name in ("hypervolume", "reference")}
        kept.write_text(json.dumps(outcome), encoding="utf-8")
    searched: Mapped = json.loads(kept.read_text(encoding="utf-8"))
    return searched


def points(trials: Sequence[Mapping[str, Any]], goals: Sequence[str]) -> list[tuple[float, ...]]:
    """The losses of the complete trials: what is maximised has its sign changed."""
    read = [goal.split() for goal in goals]
    return [
        tuple(-trial[metric] if way == "maximize" else trial[metric] for way, metric in read)
        for trial in trials
        if trial["state"] == "completed" and all(trial.get(metric) is not None for _, metric in read)
    ]


def front(losses: Sequence[tuple[float, ...]], reference: Sequence[float]) -> list[tuple[float, ...]]:
    """Those better than the reference in all, which no other one dominates, once each, in order."""
    inside = sorted({x for x in losses if all(a < r for a, r in zip(x, reference, strict=True))})
    return [x for x in inside if not any(y != x and all(b <= a for a, b in zip(x, y, strict=True)) for y in inside)]


def volume(losses: Sequence[tuple[float, ...]], reference: Sequence[float]) -> float:
    return hypervolume([tuple(x) for x in losses], tuple(reference))


def spread(values: Sequence[float]) -> str:
    """Mean ± deviation of the sample."""
    deviation = stdev(values) if len(values) > 1 else 0.0
    return f"{mean(values):.4g} ± {deviation:.2g}"
