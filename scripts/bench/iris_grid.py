"""The grid search of configs/iris_grid.yaml (48 settings, 5 folds) as a command, beside scikit-learn's GridSearchCV.

Wall time of whole processes, imports included; both use all cores, refit the best setting and score it on the test
split, and modelopt also writes its run directory. The 48 mean scores must be equal. Goal: at most 1.1 times.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from tempfile import TemporaryDirectory

from _common import CONFIGS, HERE, MODELOPT, PYTHON, interleave, options, ratio, rows, run, show, verdict, write

NAMES = ("n_estimators", "max_depth", "min_samples_split")
OURS, THEIRS = "modelopt tune", "GridSearchCV"


def ours(cpu: list[float], scores: dict[tuple[int | None, ...], float]) -> float:
    with TemporaryDirectory() as folder:
        command: list[str | Path] = [
            MODELOPT,
            "tune",
            CONFIGS / "iris_grid.yaml",
            "--quiet",
            "--out",
            Path(folder, "run"),
        ]
        done = run(command, cwd=Path(folder))
        trials = json.loads(Path(folder, "run", "trials.json").read_text(encoding="utf-8"))
    scores.update({tuple(trial[f"model.{name}"] for name in NAMES): trial["validation.accuracy"] for trial in trials})
    cpu.append(done.cpu)
    return done.wall


def theirs(cpu: list[float], scores: dict[tuple[int | None, ...], float]) -> float:
    done = run([PYTHON, HERE / "_iris_sklearn.py"])
    scores.update({tuple(params[name] for name in NAMES): mean for params, mean in done.json()["scores"]})
    cpu.append(done.cpu)
    return done.wall


def main() -> None:
    args = options(__doc__, repeats=5)
    cpu: dict[str, list[float]] = {OURS: [], THEIRS: []}
    scores: dict[str, dict[tuple[int | None, ...], float]] = {OURS: {}, THEIRS: {}}
    figures = interleave(
        {OURS: lambda: ours(cpu[OURS], scores[OURS]), THEIRS: lambda: theirs(cpu[THEIRS], scores[THEIRS])}, args.repeats
    )
    columns = ["process", "median s", "least", "most", "modelopt / it"]
    show("Grid search on iris, wall time", columns, rows(figures, OURS))
    show("The same, CPU time", columns, rows(cpu, OURS))
    both = scores[OURS].keys() & scores[THEIRS].keys()
    exact = sum(scores[OURS][key] == scores[THEIRS][key] for key in both)
    close = sum(math.isclose(scores[OURS][key], scores[THEIRS][key], rel_tol=1e-12) for key in both)
    print(f"mean scores: {exact} of {len(scores[THEIRS])} equal to the last bit, {close} to 1e-12")
    goals = [verdict("modelopt tune / GridSearchCV, wall", ratio(figures, OURS, THEIRS), 1.1)]
    write(args.out, "iris_grid", {"wall": figures, "cpu": cpu}, goals, scores={"equal": exact, "close": close})


if __name__ == "__main__":
    main()
