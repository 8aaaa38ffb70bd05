"""CPU seconds of freeze_thaw's decisions on made curves: `_decision_run.py SEED OBJECTIVES`. Prints JSON.

Seven parameters, 27 steps, the budget of 70 complete trials, on a virtual clock. Of each decision that gave a free slot
away: how many trials there were, and what it took.
"""

from __future__ import annotations

import json
import math
import sys
import time
from typing import Any

from modelopt_cli.tuning.schedulers import SchedulerContext
from modelopt_cli.tuning.schedulers.freeze_thaw import FreezeThaw
from modelopt_cli.tuning.search.simulator import simulate
from modelopt_cli.tuning.study.study import Study

STEPS, WHOLE = 27, 70
SPACE: dict[str, Any] = {
    "width": {"int": [4, 512], "log": True},
    "lr": {"float": [1e-4, 1], "log": True},
    **{f"x{i}": {"float": [0, 1]} for i in range(4)},
    "act": ["a", "b", "c"],
}


def curve(params: Any) -> list[tuple[float, dict[str, float]]]:
    width, rate = math.log(params["width"] / 4) / math.log(128), (math.log10(params["lr"]) + 4) / 4
    away = sum((params[f"x{i}"] - 0.2 - 0.2 * i) ** 2 for i in range(4))
    end = 0.05 + 0.3 * (1 - width) ** 2 + 0.8 * (rate - 0.6 + 0.2 * width) ** 2 + 0.2 * away
    end += 0.05 * "abc".index(params["act"])
    errors = (end + (0.9 - end) * math.exp(-(0.3 + 1.5 * rate) * step**0.6) for step in range(1, STEPS + 1))
    return [(1.0, {"error": error, "size": float(params["width"])}) for error in errors]


def main() -> None:
    seed, objectives = int(sys.argv[1]), int(sys.argv[2])
    study = Study(SPACE, "random", ["minimize error", "minimize size"][:objectives], seed=seed)
    scheduler, taken = FreezeThaw(), []
    decide = FreezeThaw.next

    def timed(self: FreezeThaw, context: SchedulerContext) -> Any:
        start = time.process_time()
        decisions = decide(self, context)
        if decisions:
            taken.append([len(context.trials), time.process_time() - start])
        return decisions

    FreezeThaw.next = timed  # type: ignore[method-assign]
    simulate(study, curve, trials=WHOLE, scheduler=scheduler)
    print(json.dumps(taken))


if __name__ == "__main__":
    main()
