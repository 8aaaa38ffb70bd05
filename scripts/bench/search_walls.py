"""Memory walls: trials that a search wastes on settings that do not fit, and what it finds, beside Optuna and random.

Six made-up trainings whose memory follows the formulas of real ones (activations by batch size, width and depth;
attention by the square of the length; a volume by the cube of its side) and whose settings fail beyond a budget that
the search is not told of: 45 to 65% of even draws do. Bigger is better in the loss, so that the best setting lies at
the wall; learning rates and the like have an optimum of their own that moves with the size. A little noise.

A trial beyond the wall fails with the kind `memory`, as an executor records it; Optuna is told that it failed, or, as
some of its users do, an infinite loss. Wasted: the share of trials that failed, of all and of those after the first 20.
Gap: the true loss of the best setting that fits above the best known, as a share of random search's mean gap. Variants
were chosen on the first three problems; the others ("kept") were looked at afterwards.
"""

from __future__ import annotations

import argparse
import importlib.util
import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from _common import show, write
from _suggest import suggest
from search_training import Kept

from modelopt_cli.core.errors import TrialError
from modelopt_cli.core.seeds import derive
from modelopt_cli.tuning.space.space import Space
from modelopt_cli.tuning.study.study import Study

TRIALS, FIRST = 60, 20
Setting = Mapping[str, Any]
Search = Callable[[str, int], list[Setting]]
"""Of a problem by a seed: the settings that were tried, in order."""
_DRAWS = 20_000  # even draws that the budget is a quantile of, and as many about the best for the best known


@dataclass(frozen=True)
class Wall:
    """A training that fits in memory or does not. `failing`: share of even draws that do not."""

    space: dict[str, Any]
    memory: Callable[[Setting], float]
    loss: Callable[[Setting], float]
    failing: float
    half: str = "chosen"


def _off(value: float, best: float, weight: float = 1.0) -> float:
    """The loss of a setting whose logarithm to base 10 lies off its best."""
    return float(weight * (math.log10(value) - best) ** 2)


def mlp_memory(p: Setting) -> float:
    return float(8.0 * p["batch_size"] * p["width"] * p["depth"] + 16.0 * p["width"] ** 2 * p["depth"])


def mlp_loss(p: Setting) -> float:
    size = math.log2(p["width"] / 16) / 8 + 0.5 * math.log2(p["depth"]) / 3.6
    rate = -2.2 - 0.35 * math.log2(p["width"] / 256) + (0.6 if p["optimizer"] == "sgd" else -0.4)
    batch = 0.05 * abs(math.log2(p["batch_size"] / 512)) ** 1.5 / 5
    regular = 0.3 * (p["dropout"] - 0.15 * size) ** 2
    return float(0.2 + math.exp(-1.4 * size) + _off(p["learning_rate"], rate, 0.12) + batch + regular)


def convnet_memory(p: Setting) -> float:
    return float(4.0 * p["batch_size"] * p["resolution"] ** 2 * p["channels"] * (1 + 0.4 * p["blocks"]))


def convnet_loss(p: Setting) -> float:
    sight = math.log2(p["resolution"] / 32) / 3.5
    size = math.log2(p["channels"] / 8) / 4 + 0.3 * math.log2(p["blocks"]) / 3
    rate = -1.5 + 0.3 * math.log10(p["batch_size"] / 64)
    narrow = 0.08 * max(math.log2(32 / p["batch_size"]), 0.0)
    return float(
        0.15
        + 0.8 * math.exp(-1.2 * sight - 0.9 * size)
        + _off(p["learning_rate"], rate, 0.1)
        + _off(p["weight_decay"], -3.5, 0.02)
        + narrow
        + 0.1 * (p["mixup"] - 0.25 * size) ** 2
    )


def transformer_memory(p: Setting) -> float:
    width, length = int(p["width"]), p["length"]
    activations = p["batch_size"] * p["layers"] * (p["heads"] * length**2 + 14.0 * length * width)
    return float((2 if p["precision"] == "bf16" else 4) * activations + 16.0 * 12.0 * p["layers"] * width**2)


def transformer_loss(p: Setting) -> float:
    size = math.log2(p["width"] / 128) / 3 + 0.6 * math.log2(p["layers"]) / 3.6
    context = math.log2(p["length"] / 64) / 5
    rate = -3.0 - 0.3 * math.log2(p["width"] / 384) / 2
    batch = 0.03 * (math.log2(p["batch_size"]) - 5) ** 2
    heads = 0.02 * abs(math.log2(p["heads"]) - 3)
    rounding = 0.03 if p["precision"] == "bf16" else 0.0
    return float(
        0.3
        + 0.7 * math.exp(-size)
        + 0.3 * math.exp(-1.5 * context)
        + _off(p["learning_rate"], rate, 0.15)
        + batch
        + heads
        + rounding
    )


def boosting_memory(p: Setting) -> float:
    if p["model"]["type"] == "linear":
        return 0.0
    return float(2.0 ** min(p["model.depth"], 18) * p["model.bins"] * (20.0 + 0.3 * p["model.trees"]))


def boosting_loss(p: Setting) -> float:
    if p["model"]["type"] == "linear":
        return float(0.62 + _off(p["model.l2"], -2.0, 0.02))
    depth, trees = p["model.depth"], p["model.trees"]
    rate = -0.6 - 0.7 * math.log10(trees / 100)
    return float(
        0.2
        + 0.35 * math.exp(-0.22 * depth)
        + 0.15 * math.exp(-1.2 * math.log10(trees / 50))
        + 0.1 * math.exp(-0.6 * math.log2(p["model.bins"] / 16))
        + _off(p["model.learning_rate"], rate, 0.12)
        + 0.1 * (p["model.rows"] - 0.7) ** 2
    )


def kernel_memory(p: Setting) -> float:
    return float(8.0 * p["rows"] * p["features"] * (2 if p["kernel"] == "laplace" else 1))


def kernel_loss(p: Setting) -> float:
    enough = math.exp(-1.1 * math.log10(p["rows"] / 1000)) + 0.8 * math.exp(-0.9 * math.log10(p["features"] / 64))
    width = -1.0 - 0.2 * math.log10(p["features"] / 64) + (0.5 if p["kernel"] == "laplace" else 0.0)
    kind = {"gauss": 0.03, "laplace": 0.0, "cauchy": 0.05}[p["kernel"]]
    return float(0.1 + 0.3 * enough + _off(p["gamma"], width, 0.1) + _off(p["ridge"], -4.0, 0.015) + kind)


def volume_memory(p: Setting) -> float:
    return float(4.0 * p["batch_size"] * p["patch"] ** 3 * p["channels"] * (2 if p["norm"] == "instance" else 1.5))


def volume_loss(p: Setting) -> float:
    sight = math.log2(p["patch"] / 16) / 3.3
    size = math.log2(p["channels"] / 4) / 4
    levels = 0.02 * (p["levels"] - 2 - 2.5 * sight) ** 2
    noisy = 0.12 / p["batch_size"] if p["norm"] == "batch" else 0.04
    return float(
        0.1
        + 0.5 * math.exp(-1.8 * sight)
        + 0.3 * math.exp(-1.5 * size)
        + _off(p["learning_rate"], -2.6 - 0.3 * size, 0.1)
        + levels
        + noisy
        + 0.1 * (p["flips"] - 0.5) ** 2
    )


def _log(low: float, high: float) -> dict[str, Any]:
    return {"int" if isinstance(low, int) else "float": [low, high], "log": True}


WALLS: dict[str, Wall] = {
    "mlp": Wall(
        {
            "batch_size": _log(16, 4096),
            "width": _log(16, 4096),
            "depth": {"int": [1, 12]},
            "learning_rate": _log(1e-5, 1.0),
            "dropout": {"float": [0.0, 0.8]},
            "optimizer": {"choice": ["sgd", "adam"]},
        },
        mlp_memory,
        mlp_loss,
        0.55,
    ),
    "convnet": Wall(
        {
            "batch_size": _log(4, 512),
            "resolution": _log(32, 384),
            "channels": _log(8, 128),
            "blocks": {"int": [1, 8]},
            "learning_rate": _log(1e-4, 1.0),
            "weight_decay": _log(1e-6, 1e-1),
            "mixup": {"float": [0.0, 1.0]},
        },
        convnet_memory,
        convnet_loss,
        0.65,
    ),
    "transformer": Wall(
        {
            "length": _log(64, 2048),
            "batch_size": _log(4, 256),
            "width": {"choice": [128, 256, 384, 512, 768, 1024]},
            "layers": {"int": [1, 12]},
            "heads": {"choice": [2, 4, 8, 16]},
            "precision": {"choice": ["fp32", "bf16"]},
            "learning_rate": _log(1e-5, 1e-1),
        },
        transformer_memory,
        transformer_loss,
        0.45,
    ),
    "boosting": Wall(
        {
            "model": {
                "choice": [
                    {
                        "type": "trees",
                        "depth": {"int": [2, 18]},
                        "bins": _log(16, 1024),
                        "trees": _log(50, 5000),
                        "learning_rate": _log(1e-3, 1.0),
                        "rows": {"float": [0.2, 1.0]},
                    },
                    {"type": "linear", "l2": _log(1e-6, 1e2)},
                ]
            }
        },
        boosting_memory,
        boosting_loss,
        0.45,
        "kept",
    ),
    "kernel": Wall(
        {
            "rows": _log(1000, 1_000_000),
            "features": _log(64, 32_768),
            "gamma": _log(1e-4, 1e1),
            "ridge": _log(1e-8, 1e0),
            "kernel": {"choice": ["gauss", "laplace", "cauchy"]},
        },
        kernel_memory,
        kernel_loss,
        0.60,
        "kept",
    ),
    "volume": Wall(
        {
            "patch": {"int": [16, 160]},
            "batch_size": _log(1, 16),
            "channels": _log(4, 64),
            "levels": {"int": [2, 6]},
            "norm": {"choice": ["batch", "instance"]},
            "learning_rate": _log(1e-5, 1e-1),
            "flips": {"float": [0.0, 1.0]},
        },
        volume_memory,
        volume_loss,
        0.65,
        "kept",
    ),
}


@cache
def spaces(problem: str) -> Space:
    return Space.from_spec(WALLS[problem].space)


@cache
def budget(problem: str) -> float:
    """What fits; the share of even draws beyond it is as the problem says."""
    rng, wall = np.random.default_rng(0), WALLS[problem]
    needs = [wall.memory(spaces(problem).sample(rng)) for _ in range(_DRAWS)]
    return float(np.quantile(needs, 1 - wall.failing))


@cache
def best_known(problem: str) -> float:
    """The least loss of a setting that fits: of even draws, then of steps from the best."""
    rng, wall, space = np.random.default_rng(1), WALLS[problem], spaces(problem)
    best, code = math.inf, np.full(space.dim, 0.5)
    for draw in range(2 * _DRAWS):
        point = rng.random(space.dim)
        if draw >= _DRAWS:
            width = 0.3 * 10 ** (-3 * (draw - _DRAWS) / _DRAWS)
            start = np.where(np.isnan(code), point, code)
            moved = start + width * rng.standard_normal(space.dim) * (rng.random(space.dim) < 0.5)
            point = np.where(rng.random(space.dim) < 0.05, point, np.clip(moved, 0, 1))
        setting = space.decode(point)
        if wall.memory(setting) <= budget(problem) and wall.loss(setting) < best:
            best, code = wall.loss(setting), space.encode(setting)
    return best


def observed(problem: str, setting: Setting, seed: int, number: int) -> float | None:
    """The loss with its noise; None: out of memory."""
    if WALLS[problem].memory(setting) > budget(problem):
        return None
    noise = np.random.default_rng(derive(seed, "noise", number)).standard_normal()
    return WALLS[problem].loss(setting) + 0.003 * float(noise)


def ours(sampler: str) -> Search:
    def run(problem: str, seed: int) -> list[Setting]:
        study = Study(WALLS[problem].space, sampler, seed=seed)
        for number in range(TRIALS):
            trial = study.ask()
            loss = observed(problem, trial.params, seed, number)
            study.tell(trial, TrialError("memory", "out of memory") if loss is None else loss)
        return [trial.params for trial in study.trials]

    return run


def optunas(sampler: str, infinite: bool) -> Search:
    """`infinite`: told an infinite loss, not that the trial failed."""

    def asked(trial: Any, spec: Mapping[str, Any]) -> Setting:
        setting: dict[str, Any] = {}
        for name, part in spec.items():
            branches = part.get("choice", [])
            if branches and isinstance(branches[0], dict):
                kind = trial.suggest_categorical(name, [branch["type"] for branch in branches])
                chosen = next(branch for branch in branches if branch["type"] == kind)
                inner = {f"{name}.{key}": value for key, value in chosen.items() if key != "type"}
                setting |= {name: {"type": kind}, **asked(trial, inner)}
            else:
                setting[name] = suggest(trial, name, part)
        return setting

    def run(problem: str, seed: int) -> list[Setting]:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        study = optuna.create_study(sampler=getattr(optuna.samplers, sampler)(seed=seed))
        settings = []
        for number in range(TRIALS):
            trial = study.ask()
            settings.append(asked(trial, WALLS[problem].space))
            loss = observed(problem, settings[-1], seed, number)
            if loss is None and not infinite:
                study.tell(trial, state=optuna.trial.TrialState.FAIL)
            else:
                study.tell(trial, math.inf if loss is None else loss)
        return settings

    return run


SEARCHES: dict[str, Search] = {
    **{sampler: ours(sampler) for sampler in ("random", "bayesian", "tpe")},
    "Optuna TPE": optunas("TPESampler", infinite=False),
    "Optuna TPE, told inf": optunas("TPESampler", infinite=True),
}


def figures_of(problem: str, settings: list[Setting]) -> dict[str, Any]:
    """Which trials failed, and the best true loss of those that fit, above the best known."""
    wall = WALLS[problem]
    failed = [wall.memory(setting) > budget(problem) for setting in settings]
    losses = [wall.loss(setting) for setting, fails in zip(settings, failed, strict=True) if not fails]
    return {
        "wasted": float(np.mean(failed)),
        "late": float(np.mean(failed[FIRST:])),
        "gap": min(losses, default=math.nan) - best_known(problem),
    }


def main() -> None:
    """Run, print, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--problems", nargs="+", choices=WALLS, default=list(WALLS))
    parser.add_argument("--searches", nargs="+", choices=SEARCHES, default=list(SEARCHES))
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--runs", type=Path, help="file of JSON lines for what was measured; not measured again")
    parser.add_argument("--out", type=Path, help="file for the figures as JSON; default: print the tables only")
    args = parser.parse_args()
    if importlib.util.find_spec("optuna") is None:
        print("Optuna is left out: it is not installed here (pip install optuna).", file=sys.stderr)
        args.searches = [name for name in args.searches if not name.startswith("Optuna")]
    names = list(dict.fromkeys(["random", *args.searches]))
    kept, runs = Kept(args.runs), dict[str, dict[str, list[dict[str, Any]]]]()

    def measured(problem: str, name: str, seed: int) -> dict[str, Any]:
        key = f"{problem}, {name}, {seed}"
        return kept.get(key, lambda: figures_of(problem, SEARCHES[name](problem, seed)))

    for problem in args.problems:
        runs[problem] = {name: [] for name in names}
        for seed in range(args.seeds):
            for name in names:
                runs[problem][name].append(measured(problem, name, seed))
    shares: dict[str, dict[str, dict[str, float]]] = {}
    for problem, of in runs.items():
        random = float(np.nanmean([run["gap"] for run in of["random"]]))
        shares[problem] = {
            name: {key: float(np.nanmean([run[key] for run in each])) for key in ("wasted", "late", "gap")}
            for name, each in of.items()
        }
        for mean in shares[problem].values():
            mean["share"] = mean["gap"] / random
        _table(f"{problem} ({WALLS[problem].half}), {args.seeds} seeds", shares[problem])
    overall = {
        name: {
            key: float(np.mean([each[name][key] for each in shares.values()])) for key in ("wasted", "late", "share")
        }
        for name in names
    }
    _table(f"mean of {len(shares)} problems", overall)
    write(args.out, "search_walls", {"runs": runs, "problems": shares, "mean": overall})


def _table(title: str, rows: Mapping[str, Mapping[str, float]]) -> None:
    columns = ["search", "wasted", f"after {FIRST}", "gap", "of random's"]
    lines = [
        [
            name,
            f"{row['wasted']:.1%}",
            f"{row['late']:.1%}",
            f"{row['gap']:.4f}" if "gap" in row else "",
            f"{row['share']:.3f}",
        ]
        for name, row in rows.items()
    ]
    show(title, columns, lines)


if __name__ == "__main__":
    main()
