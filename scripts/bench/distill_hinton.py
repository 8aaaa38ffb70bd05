"""Hinton et al. (2015), section 3, by configs/mnist_hinton.yaml: test errors of teacher, student alone and student.

`--without 3` takes a digit out of what the student learns from, and then adds one number to that class's logit, so that
most of the 60,000 training images are right (the paper chose it on the test set): errors, and those on that digit.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from _common import CONFIGS, show, write

from modelopt_cli.experiment.experiment import Experiment
from modelopt_cli.training.inference import predict
from modelopt_cli.workflows.distillation.run import DistillRun
from modelopt_cli.workflows.shared import data_cache

PAPER = {"teacher": 67, "student alone": 146, "student": 74}
SHIFTS = np.linspace(0.0, 20.0, 401)


def errors(logits: np.ndarray[Any, Any], targets: np.ndarray[Any, Any], of: int | None = None) -> int:
    """Wrong ones of (N, classes) logits, or of those whose target is `of`."""
    wrong = logits.argmax(1) != targets
    return int((wrong if of is None else wrong & (targets == of)).sum())


def learn(experiment: Experiment, without: int | None, folder: Path) -> list[dict[str, Any]]:
    """A row for each model: errors on test, with `without` also on that digit, before and after."""
    run = DistillRun(experiment, seed=experiment.seed, folder=folder, costed=False)
    while run.step < run.total:
        run.advance(run.step + 1)
        if run.step % 10 == 0:
            print(f"  step {run.step} of {run.total}", flush=True)
    prepared = data_cache.prepared_data(experiment)
    assert prepared.test is not None
    rows = []
    for one in run.trained.values():
        predicted, seen = (
            predict(one.checkpoint.model, part.inputs, prepared.preprocessing)
            for part in (prepared.test, prepared.train)
        )
        row: dict[str, Any] = {"model": one.name, "errors": errors(predicted, prepared.test.targets)}
        if without is not None:
            row["on the digit"] = errors(predicted, prepared.test.targets, without)
            step = np.zeros(predicted.shape[1], np.float32)
            step[without] = 1.0
            best = min(SHIFTS, key=lambda shift: errors(seen + shift * step, prepared.train.targets))
            moved = predicted + np.float32(best) * step
            row |= {"moved by": float(best), "errors then": errors(moved, prepared.test.targets)}
            row["on the digit then"] = errors(moved, prepared.test.targets, without)
        rows.append(row)
    return rows


def main() -> None:
    """Run, print, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--mnist", default=os.environ.get("MNIST"), help="folder of MNIST's IDX files; default: $MNIST")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1], help="default: 0 1")
    parser.add_argument("--without", type=int, help="a digit that the student's images lack")
    parser.add_argument("--set", action="append", default=[], metavar="PATH=VALUE", help="as modelopt has it")
    parser.add_argument("--out", type=Path, help="file for the figures as JSON; default: print the table only")
    given = parser.parse_args()
    os.environ["MNIST"] = str(given.mnist)
    left = [] if given.without is None else [f"distillation.leave_out={json.dumps([str(given.without)])}"]
    rows: list[dict[str, Any]] = []
    for seed in given.seeds:
        experiment = Experiment.load(CONFIGS / "mnist_hinton.yaml", [f"seed={seed}", "seeds=1", *left, *given.set])
        with TemporaryDirectory() as folder:
            rows += [{"seed": seed, **row} for row in learn(experiment, given.without, Path(folder))]
    columns = list(rows[0])
    shown = [[*(str(row[name]) for name in columns), str(PAPER.get(row["model"], ""))] for row in rows]
    show("MNIST: test errors of 10,000", [*columns, "paper (all digits)"], shown)
    write(given.out, "distill_hinton", rows, paper=PAPER)


if __name__ == "__main__":
    main()
