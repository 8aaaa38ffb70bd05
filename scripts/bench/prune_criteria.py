"""Every importance with every allocation at 90, 95, 98 and 99% of LeNet-300-100's weights: one shot and 3 epochs.

All start from the same trained model of a seed; the table is Markdown, test accuracy in %, the mean over the seeds.
`lamp` takes no scores that rank by their sign, so these cells are empty. Criteria made for untrained models (snip,
grasp, synflow) are judged on the trained one like the others.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from _common import write
from _lenet import arguments, averaged, dense, pruned

from modelopt_cli.core.errors import UsageError
from modelopt_cli.core.strategy import FAMILIES

AMOUNTS = [0.9, 0.95, 0.98, 0.99]


def main() -> None:
    args = arguments(__doc__).parse_args()
    torch.set_num_threads(1)
    allocations = [name for name in FAMILIES["allocations"].names() if name != "threshold"]
    figures: dict[str, dict[str, dict[float, float | None]]] = {}
    with TemporaryDirectory() as folder:
        for importance in FAMILIES["importances"].names():
            figures[importance] = {allocation: {} for allocation in allocations}
            for allocation in allocations:
                for amount in AMOUNTS:
                    cell = [
                        _accuracy(args.mnist, seed, Path(folder), importance, allocation, amount)
                        for seed in range(args.seeds)
                    ]
                    numbers = [value for value in cell if value is not None]
                    figures[importance][allocation][amount] = averaged(numbers) if numbers else None
            print(_lines(importance, figures[importance]), flush=True)
    print(table(figures, allocations))
    write(args.out, "prune_criteria", figures, seeds=args.seeds)


def _accuracy(mnist: str, seed: int, folder: Path, importance: str, allocation: str, amount: float) -> float | None:
    start = dense(mnist, seed, folder)
    changed = [
        f"pruning.importance={importance}",
        f"pruning.allocation={allocation}",
        f"pruning.amount={amount}",
        "pruning.schedule=one_shot",
        "pruning.recovery.epochs=3",
    ]
    try:
        return pruned(mnist, seed, start, *changed)["test.accuracy"]
    except UsageError:
        return None  # lamp with signed scores


def _lines(importance: str, row: dict[str, dict[float, float | None]]) -> str:
    return f"{importance}: " + "; ".join(f"{name} {list(cells.values())}" for name, cells in row.items())


def table(figures: dict[str, dict[str, dict[float, float | None]]], allocations: list[str]) -> str:
    """A row an importance; in each cell the accuracies at the four amounts."""
    lines = [f"| importance | {' | '.join(allocations)} |", f"|---|{'---|' * len(allocations)}"]
    for importance, row in figures.items():
        cells = [
            " / ".join("–" if value is None else f"{100 * value:.1f}" for value in row[allocation].values())
            for allocation in allocations
        ]
        lines.append(f"| `{importance}` | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
