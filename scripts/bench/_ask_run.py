"""CPU seconds of random trials: `_ask_run.py modelopt|optuna STORE COUNT FOLDER`. Prints JSON.

STORE: memory, sqlite (ours: study.sqlite), or journal (Optuna's). Asks for COUNT random settings of five parameters,
one after another, and tells each.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from _sampler_run import BATCHES, FLOATS, WIDTH, value


def with_modelopt(path: Path | None) -> tuple[Callable[[], Any], Callable[[Any], object]]:
    from modelopt_cli import Study

    space: dict[str, Any] = {name: {"float": [low, high], "log": log} for name, (low, high, log) in FLOATS.items()}
    study = Study({**space, "width": {"int": list(WIDTH), "log": True}, "batch": BATCHES}, "random", path=path)
    return study.ask, lambda trial: study.tell(trial, value(trial.params))


def with_optuna(store: str, folder: Path) -> tuple[Callable[[], Any], Callable[[Any], object]]:
    import optuna
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    distributions: dict[str, Any] = {
        name: optuna.distributions.FloatDistribution(low, high, log=log) for name, (low, high, log) in FLOATS.items()
    }
    distributions["width"] = optuna.distributions.IntDistribution(*WIDTH, log=True)
    distributions["batch"] = optuna.distributions.CategoricalDistribution(BATCHES)
    storages: dict[str, Callable[[], Any]] = {
        "memory": lambda: None,
        "sqlite": lambda: f"sqlite:///{folder / 'optuna.db'}",
        "journal": lambda: optuna.storages.JournalStorage(JournalFileBackend(str(folder / "journal"))),
    }
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0), storage=storages[store]())
    return lambda: study.ask(distributions), lambda trial: study.tell(trial, value(trial.params))


def main() -> None:
    kind, store, count, folder = sys.argv[1], sys.argv[2], int(sys.argv[3]), Path(sys.argv[4])
    if kind == "modelopt":
        ask, tell = with_modelopt(folder / "study.sqlite" if store == "sqlite" else None)
    else:
        ask, tell = with_optuna(store, folder)
    asks, tells = [], []
    for _ in range(count):
        start = time.process_time()
        trial = ask()
        asked = time.process_time()
        tell(trial)
        asks.append(asked - start)
        tells.append(time.process_time() - asked)
    tenth = count // 10
    figures = {"cpu": sum(asks[1:]) + sum(tells[1:])}  # the first ask imports what it needs
    for name, seconds in (("ask", asks), ("tell", tells)):
        figures |= {f"first {name}": sum(seconds[1:tenth]) / (tenth - 1), f"last {name}": sum(seconds[-tenth:]) / tenth}
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
