"""What a run's page and progress cost: `modelopt train` on digits_mlp.yaml with `report: true` beside `report: false`.

Wall and CPU time (user + system) of the whole command. Goal: the page adds at most 3% of wall time; CPU time says the
same with less noise on a shared machine. `--before DIR`, a checkout of an older version, joins in: `git worktree add
DIR ce7dc7b` is the last one without page, charts and tables beside the report. It is run as it stands, for it may know
no `report`. Ctrl-C ends it early: whole turns count.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from _common import CONFIGS, MODELOPT, ONE_THREAD, ROOT, Run, ratio, rows, run, show, verdict, write

ON, OFF, BEFORE = "report: true", "report: false", "before"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=10, help="turns for each contender; default 10")
    parser.add_argument("--before", type=Path, metavar="DIR", help="a checkout of an older version; default: none")
    parser.add_argument("--config", type=Path, default=CONFIGS / "digits_mlp.yaml", help="default: digits_mlp.yaml")
    parser.add_argument("--out", type=Path, help="file for the figures as JSON; default: print the tables only")
    return parser.parse_args()


def main() -> None:
    args = _options()
    with TemporaryDirectory() as folder:
        numbers = count()

        def training(code: Path, *settings: str) -> Callable[[], Run]:
            environment = {**ONE_THREAD, "PYTHONPATH": str(code.resolve())}
            command = [MODELOPT, "train", args.config, *(part for text in settings for part in ("--set", text))]
            return lambda: run([*command, "--out", Path(folder, str(next(numbers)))], env=environment, cwd=Path(folder))

        contenders = {ON: training(ROOT, "report=true"), OFF: training(ROOT, "report=false")}
        if args.before is not None:
            contenders[BEFORE] = training(args.before)
        turns: dict[str, list[Run]] = {name: [] for name in contenders}
        with suppress(KeyboardInterrupt):
            for turn in range(args.repeats + 1):  # the first, which fills caches and compiles modules, does not count
                spent = {name: train() for name, train in contenders.items()}
                figures_now = (f"{name} {each.wall:.2f} s, CPU {each.cpu:.2f} s" for name, each in spent.items())
                print(f"turn {turn}: {'; '.join(figures_now)}", file=sys.stderr, flush=True)
                if turn:
                    for name, each in spent.items():
                        turns[name].append(each)
    if not turns[ON]:
        sys.exit("no turn came to its end, so there is nothing to compare")
    figures: dict[str, Any] = {
        "wall": {name: [each.wall for each in done] for name, done in turns.items()},
        "cpu": {name: [each.cpu for each in done] for name, done in turns.items()},
    }
    for kind, seconds in figures.items():
        columns = ["contender", "median s", "least", "most", "report: true / it"]
        show(f"{args.config.stem}, {kind} time of `modelopt train`", columns, rows(seconds, ON))
    goals = [verdict("wall time, page / none", ratio(figures["wall"], ON, OFF), 1.03)]
    for name in turns:
        if name != ON:
            extra = median(a - b for a, b in zip(figures["cpu"][ON], figures["cpu"][name], strict=True))
            print(f"CPU time, beside {name}: {1000 * extra:+.0f} ms, {ratio(figures['cpu'], ON, name):.3f}x")
    write(args.out, "report_cost", figures, goals)


if __name__ == "__main__":
    main()
