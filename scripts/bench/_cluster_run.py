"""One simulated search: `_cluster_run.py METHOD TRIALS WORKERS STEP DECIDING`. Prints JSON.

METHOD is random (trials report once, at their end), random27 (after each of 27 steps, which nobody looks at) or asha
(which decides after each of up to 27 steps). A step takes STEP seconds on average, drawn from a wide distribution for
each trial. DECIDING: seconds on the virtual clock that the search takes for an event.
"""

from __future__ import annotations

import json
import math
import random
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from modelopt_cli.tuning.search.simulator import Curve, simulate
from modelopt_cli.tuning.stoppers.asha import Asha
from modelopt_cli.tuning.study.study import Study
from modelopt_cli.tuning.trials.trial import Params

SPACE: dict[str, Any] = {
    "lr": {"float": [1e-4, 1.0], "log": True},
    "momentum": {"float": [0.0, 0.99]},
    "dropout": {"float": [0.0, 0.5]},
    "width": {"int": [16, 256], "log": True},
    "batch": [16, 32, 64, 128],
}
STEPS = {"random": 1, "random27": 27, "asha": 27}
SPREAD = 0.8


@dataclass
class Timed:
    """A function whose calls are timed."""

    work: Callable[..., Any]
    seconds: list[float] = field(default_factory=list)

    def __call__(self, *args: Any, **named: Any) -> Any:
        start = time.process_time()
        try:
            return self.work(*args, **named)
        finally:
            self.seconds.append(time.process_time() - start)

    def milliseconds(self) -> dict[str, float]:
        """A call: on average, in the first and in the last tenth, and the longest."""
        tenth = max(1, len(self.seconds) // 10)
        first, last = self.seconds[:tenth], self.seconds[-tenth:]
        mean = sum(self.seconds) / max(1, len(self.seconds))
        parts = {"mean": mean, "first": sum(first) / tenth, "last": sum(last) / tenth}
        return {name: 1000 * value for name, value in {**parts, "most": max(self.seconds, default=0.0)}.items()}


def curve_of(step: float, steps: int) -> Callable[[Params], Curve]:
    def curve(params: Params) -> Curve:
        draw = random.Random(repr(params))
        seconds = step * draw.lognormvariate(-(SPREAD**2) / 2, SPREAD)
        level = (math.log10(params["lr"]) + 1.5) ** 2 + (params["momentum"] - 0.8) ** 2
        return [(seconds, {"loss": level + 3 / number + 0.1 * draw.random()}) for number in range(1, steps + 1)]

    return curve


def main() -> None:
    method, (trials, workers), (step, deciding) = sys.argv[1], map(int, sys.argv[2:4]), map(float, sys.argv[4:6])
    study = Study(SPACE, "random", "minimize loss")
    ask, curve = Timed(study.ask), Timed(curve_of(step, STEPS[method]))
    decide = Timed(Asha.reason)
    study.ask = ask  # type: ignore[method-assign]
    Asha.reason = lambda *args: decide(*args)  # type: ignore[method-assign]
    start = time.process_time()
    simulated = simulate(
        study, curve, trials=trials, workers=workers, stopper=Asha() if method == "asha" else None, deciding=deciding
    )
    driver = time.process_time() - start - sum(curve.seconds)
    print(
        json.dumps(
            {
                "method": method,
                "trials": len(study.history),
                "workers": workers,
                "steps": len(simulated.history),
                "events": simulated.events,
                "driver": driver,
                "event": driver / simulated.events,
                "ask": ask.milliseconds(),
                "decision": decide.milliseconds(),
                "utilisation": simulated.utilisation,
                "seconds": simulated.seconds,
                "trial": simulated.computed / trials,
                "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            }
        )
    )


if __name__ == "__main__":
    main()
