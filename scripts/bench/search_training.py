"""Searches over real training: CPU seconds and epochs until a validation accuracy is reached, beside random search.

Small networks on scikit-learn's digits and on 4,000 images of MNIST (`--mnist DIR`; left out without it), 8 parameters
over wide ranges, 27 epochs a complete trial. CPU seconds are those of training, validation and search together, counted
in this process alike for all; what a search imports is imported before. One thread.

Accuracies are sought: the medians of what random searches of five seeds of their own, not those that are compared,
have reached after half of the budget and after all of it (or after as many complete trials as `--after` says). A search
that has not reached one by its last epoch counts as if it had done so just then (the number stands beside it), which
flatters the slow. Ratios are of means and of medians over seeds; in brackets the bootstrap's 95% interval. Contenders
take turns. `--runs` keeps what was measured.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import mean, median
from typing import Any

import numpy as np
import torch
from _common import ONE_THREAD, show, write
from _methods import method_of, strategies
from _suggest import suggest
from _training_run import EPOCHS, Data, Meter, Search, SpentError, Trainings, digits, epochs, mnist, space

from modelopt_cli.core.seeds import derive
from modelopt_cli.tuning.executors.serial import Serial
from modelopt_cli.tuning.search import search
from modelopt_cli.tuning.study.study import Study

METHODS = ("random", "bayesian", "bayesian, asha", "bohb", "freeze_thaw")
OPTUNA = "Optuna TPE, Hyperband"
PROBLEMS: dict[str, tuple[tuple[int, int], int]] = {"digits": ((32, 256), 20), "mnist": ((64, 512), 20)}
"""Batch sizes; complete trials that a search may spend the epochs of."""
OTHER_SEEDS = range(1000, 1005)  # of the random searches that set the targets


def ours(method: dict[str, Any], planned: int) -> Search:
    """A search of modelopt's, in this process."""

    def run(space: dict[str, Any], trainings: Trainings, meter: Meter, seed: int) -> None:
        study = Study(space, method["sampler"], "maximize accuracy", seed=seed)
        trials = None if "stopper" in method else planned
        search.Search(
            study, Serial().open(trainings), trials=trials, stop=lambda: meter.over, **strategies(method)
        ).run()

    return run


def optuna_hyperband(space: dict[str, Any], trainings: Trainings, meter: Meter, seed: int) -> None:
    """Optuna's default TPE with its Hyperband pruner, which stops trials for good."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    pruner = optuna.pruners.HyperbandPruner(min_resource=1, max_resource=EPOCHS, reduction_factor=3)
    sampler = optuna.samplers.TPESampler(seed=seed)
    study = optuna.create_study(direction="maximize", sampler=sampler, pruner=pruner, study_name=f"seed {seed}")
    while not meter.over:
        trial = study.ask()
        params = {name: suggest(trial, name, spec) for name, spec in space.items()}
        state, accuracy = optuna.trial.TrialState.COMPLETE, 0.0
        for epoch, accuracy in epochs(trainings.open(params, derive(seed, "trial", trial.number))):
            trial.report(accuracy, epoch)
            if meter.over or trial.should_prune():
                state = optuna.trial.TrialState.PRUNED
                break
        study.tell(trial, accuracy if state == optuna.trial.TrialState.COMPLETE else None, state=state)


def measured(
    find: Search, problem: str, data: Data | None, seed: int, most: int, target: float | None
) -> dict[str, Any]:
    """What one search spent until the target, or in all."""
    meter = Meter(most * EPOCHS, target)
    with contextlib.suppress(SpentError):
        find(space(PROBLEMS[problem][0]), Trainings(data, meter), meter, seed)
    return {"seconds": meter.seconds, "epochs": meter.epochs, "rises": meter.rises}


class Kept:
    """Figures by what was run, in a file of JSON lines."""

    def __init__(self, file: Path | None) -> None:
        self._file, self._found = file, {}
        if file is not None and file.exists():
            self._found = dict(map(json.loads, file.read_text(encoding="utf-8").splitlines()))

    def get(self, key: str, measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Kept, or measured now."""
        if key not in self._found:
            self._found[key] = measure()
            print(key, json.dumps(self._found[key])[:100], file=sys.stderr, flush=True)
            if self._file is not None:
                self._file.parent.mkdir(parents=True, exist_ok=True)
                with self._file.open("a", encoding="utf-8") as file:
                    file.write(json.dumps([key, self._found[key]]) + "\n")
        return dict(self._found[key])


def first(run: dict[str, Any], target: float) -> tuple[float, int, bool]:
    """(seconds, epochs, whether it was reached) at the first epoch as good as the target; all of them where none is."""
    for seconds, count, best in run["rises"]:
        if best >= target:
            return seconds, count, True
    return run["seconds"], run["epochs"], False


def reached(run: dict[str, Any], count: int) -> float:
    """The best accuracy within the first epochs."""
    return max((best for _, at, best in run["rises"] if at <= count), default=0.0)


def ratio(values: Sequence[float], others: Sequence[float], of: Callable[..., Any]) -> tuple[float, float, float]:
    """of(values) / of(others), and the bootstrap's 95% interval: both are drawn again, each by itself."""
    rng = np.random.default_rng(0)
    draws = [of(rng.choice(np.asarray(each), (10_000, len(each))), axis=1) for each in (values, others)]
    low, high = np.quantile(draws[0] / draws[1], (0.025, 0.975))
    return float(of(values) / of(others)), float(low), float(high)


def figures_of(runs: dict[str, list[dict[str, Any]]], target: float) -> dict[str, Any]:
    """Of each contender, seconds and epochs until the target, with their ratios to random search."""
    ratios: dict[str, Any] = {}
    spent = {name: [first(run, target) for run in each] for name, each in runs.items()}
    for name, each in spent.items():
        ratios[name] = {"missed": sum(not hit for *_, hit in each), "seeds": len(each)}
        for column, unit in enumerate(("seconds", "epochs")):
            values, others = ([float(run[column]) for run in those] for those in (each, spent["random"]))
            ratios[name][unit] = {"values": values, "mean": mean(values), "median": median(values)}
            ratios[name][unit] |= {"of_means": ratio(values, others, np.mean)}
            ratios[name][unit] |= {"of_medians": ratio(values, others, np.median)}
    return ratios


def lines_of(figures: dict[str, Any]) -> list[list[str]]:
    def bracket(three: Sequence[float]) -> str:
        return "{:.2f} ({:.2f}, {:.2f})".format(*three)

    return [
        [
            name,
            *(f"{row['seconds'][kind]:.1f}" for kind in ("mean", "median")),
            f"{row['missed']}/{row['seeds']}",
            *(bracket(row["seconds"][kind]) for kind in ("of_means", "of_medians")),
            f"{row['epochs']['mean']:.0f}",
            bracket(row["epochs"]["of_means"]),
        ]
        for name, row in figures.items()
    ]


COLUMNS = ["search", "CPU s, mean", "median", "missed", "means' ratio", "medians'", "epochs", "means' ratio"]


def compare(
    problem: str, data: Data, searches: dict[str, Search], kept: Kept, seeds: int, most: int, after: Sequence[int]
) -> dict[str, Any]:
    """All of one problem: the targets first, then the contenders in turns. `after`: see the module docstring."""
    for find in searches.values():  # imports what they need
        measured(find, problem, None, 0, 12, None)
    measured(searches["random"], problem, data, 0, 2, None)

    def spent(name: str, seed: int, target: float | None) -> dict[str, Any]:
        key = f"{problem}, {name}, {seed}, {most}, {target}"
        return kept.get(key, lambda: measured(searches[name], problem, data, seed, most, target))

    others = [spent("random", seed, None) for seed in OTHER_SEEDS]
    targets = [median(reached(run, trials * EPOCHS) for run in others) for trials in after]
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in searches}
    for seed in range(seeds):
        for name in searches:
            runs[name].append(spent(name, seed, max(targets)))
    accuracies: dict[str, Any] = {}
    for trials, target in zip(after, targets, strict=True):
        accuracies[f"after {trials}"] = {"target": target, "figures": figures_of(runs, target)}
        title = f"{problem}: until {target:.4f}, random search's after {trials} trials; at most {most}; {seeds} seeds"
        show(title, COLUMNS, lines_of(accuracies[f"after {trials}"]["figures"]))
    return accuracies


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--problems", nargs="+", choices=PROBLEMS, default=list(PROBLEMS))
    parser.add_argument("--methods", nargs="*", default=list(METHODS), help="by name, or as a tuning section in JSON")
    parser.add_argument("--mnist", default=os.environ.get("MNIST"), help="folder of the IDX files; default: $MNIST")
    parser.add_argument("--images", type=int, default=4000, help="of MNIST, to train on; default 4,000")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--most", type=int, help="budget in complete trials; default: 20")
    parser.add_argument("--after", nargs="+", type=int, help="complete trials of random search; default: half, and all")
    parser.add_argument("--rivals", nargs="*", choices=[OPTUNA], default=[OPTUNA], help="none: without Optuna")
    parser.add_argument("--runs", type=Path, help="file of JSON lines for what was measured; not measured again")
    parser.add_argument("--out", type=Path, help="file for the figures as JSON; default: print the tables only")
    given = parser.parse_args()
    if any(os.environ.get(name) != value for name, value in ONE_THREAD.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **ONE_THREAD})
    torch.set_num_threads(1)
    kept, everything = Kept(given.runs), {}
    for problem in given.problems:
        if problem == "mnist" and not given.mnist:
            print("MNIST is left out: --mnist DIR, or $MNIST, says where its IDX files are.", file=sys.stderr)
            continue
        data = digits() if problem == "digits" else mnist(Path(given.mnist), given.images)
        most = given.most or PROBLEMS[problem][1]
        searches = {name: ours(method_of(name), most) for name in dict.fromkeys(["random", *given.methods])}
        if given.rivals and importlib.util.find_spec("optuna"):
            searches[OPTUNA] = optuna_hyperband
        elif given.rivals:
            print("Optuna is left out: it is not installed here (pip install optuna).", file=sys.stderr)
        after = sorted(given.after or (most // 2, most))
        if not 0 < after[0] <= after[-1] <= most:
            parser.error(f"--after {after}: complete trials, from 1 to the {most} of the budget (--most).")
        everything[problem] = compare(problem, data, searches, kept, given.seeds, most, after)
    write(given.out, "search_training", everything, images=given.images)


if __name__ == "__main__":
    main()
