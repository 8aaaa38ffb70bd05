"""LeNet-300-100 on MNIST at 90 to 99% sparsity: configs/mnist_lenet_prune.yaml beside a loop with torch.nn.utils.prune.

Both start from the same trained weights (25 epochs) and have 33 epochs: modelopt prunes gradually during them, for each
amount anew; the loop prunes to 11 levels, one after another, with 3 epochs after each (so it had fewer epochs at its
lower levels). Test accuracy, mean and deviation over seeds. Goals: 95% >= 98.2, 98% >= 97.5, 99% >= 96.5.
"""

from __future__ import annotations

import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from _common import show, write
from _lenet import arguments, averaged, dense, iterative, mean_and_deviation, pruned, tensors

AMOUNTS = [0.9, 0.95, 0.98, 0.99]
GOALS = {0.95: 0.982, 0.98: 0.975, 0.99: 0.965}


def main() -> None:
    args = arguments(__doc__).parse_args()
    torch.set_num_threads(1)
    ours: dict[float, list[float]] = {amount: [] for amount in AMOUNTS}
    loop: dict[float, list[float]] = {amount: [] for amount in AMOUNTS}
    before: list[float] = []
    seconds: dict[str, list[float]] = {"modelopt, 33 epochs": [], "loop, 33 epochs": []}
    with TemporaryDirectory() as folder:
        for seed in range(args.seeds):
            start = dense(args.mnist, seed, Path(folder))
            data = tensors(args.mnist, seed)
            for amount in AMOUNTS:
                metrics = pruned(args.mnist, seed, start, f"pruning.amount={amount}")
                assert abs(metrics["pruning.sparsity"] - amount) < 1e-4
                ours[amount].append(metrics["test.accuracy"])
                seconds["modelopt, 33 epochs"].append(metrics["train.seconds"])
            before.append(metrics["test.accuracy"] + metrics["test.accuracy_drop"])
            clock = time.perf_counter()
            levels = iterative(start, data, seed)
            seconds["loop, 33 epochs"].append(time.perf_counter() - clock)
            for amount in AMOUNTS:
                loop[amount].append(levels[amount])
            print(f"seed {seed}: {ours} {loop}", flush=True)
    lines = [
        [f"{amount:.0%}", mean_and_deviation(ours[amount]), mean_and_deviation(loop[amount]), goal(amount)]
        for amount in AMOUNTS
    ]
    title = f"LeNet-300-100 on MNIST, test accuracy in %, {args.seeds} seeds; dense {mean_and_deviation(before)}"
    show(title, ["sparsity", "modelopt", "loop with torch.nn.utils.prune", "goal"], lines)
    ratio = averaged(seconds["modelopt, 33 epochs"]) / averaged(seconds["loop, 33 epochs"])
    print(f"time of 33 epochs, modelopt / loop: {ratio:.3f}")
    goals: list[Any] = [
        {"amount": amount, "goal": least, "value": averaged(ours[amount]), "met": averaged(ours[amount]) >= least}
        for amount, least in GOALS.items()
    ]
    for each in goals:
        result = "met" if each["met"] else "MISSED"
        print(f"{each['amount']:.0%}: {each['value']:.4f}, goal at least {each['goal']}: {result}")
    figures = {"dense": before, "modelopt": ours, "loop": loop, "seconds": seconds, "time ratio": ratio}
    write(args.out, "lenet_prune", figures, goals)


def goal(amount: float) -> str:
    """As text."""
    return f"{100 * GOALS[amount]:.1f}" if amount in GOALS else ""


if __name__ == "__main__":
    main()
