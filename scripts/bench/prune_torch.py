"""Global magnitude pruning beside torch.nn.utils.prune: the same masks, the time of pruning, the time of recovery.

Pruning is timed on LeNet-300-100 and on a network of 11 million weights; recovery is an epoch of LeNet-300-100 with 90%
gone, in modelopt's trainer and in a plain loop over torch's reparametrised layers. One thread; contenders take turns.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import cast

import torch
from _common import interleave, ratio, rows, show, write
from _lenet import arguments, dense, linears, network, prune_to, pruned, tensors, train_plain
from torch import nn

from modelopt_cli.pruning.allocations.global_ import Global
from modelopt_cli.pruning.weights.masking import Masking

EPOCHS = 2


def ours(model: nn.Sequential, amount: float) -> dict[str, torch.Tensor]:
    """modelopt's masks, applied."""
    weights = {str(at): cast(nn.Parameter, layer.weight) for at, layer in enumerate(linears(model))}
    masking = Masking(weights)
    scores = {name: weight.detach().abs() for name, weight in weights.items()}
    cuts = Global().cuts(scores, amount)
    masking.set({name: cuts[name].removes(scores[name]).logical_not_() for name in scores})
    return masking.masks


def theirs(model: nn.Sequential, amount: float) -> dict[str, torch.Tensor]:
    """torch's."""
    prune_to(model, amount)
    return {str(number): layer.get_buffer("weight_mask").bool() for number, layer in enumerate(linears(model))}


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(1)
    figures = {}
    with TemporaryDirectory() as folder:
        start = dense(args.mnist, 0, Path(folder))
        data = tensors(args.mnist, 0)
        torch.manual_seed(0)
        large = nn.Sequential(nn.Linear(784, 3000), nn.ReLU(), nn.Linear(3000, 3000), nn.Linear(3000, 10))
        makers: dict[str, Callable[[], nn.Sequential]] = {
            "LeNet-300-100": lambda: network(start),
            "11 million weights": lambda: _copy(large),
        }
        for name, make in makers.items():
            for amount in (0.5, 0.9, 0.99):
                a, b = ours(make(), amount), theirs(make(), amount)
                assert all(torch.equal(a[key], b[key]) for key in a), f"{name}: the masks differ at {amount}"
            timed = {"modelopt": lambda: _timed(ours, make()), "torch.nn.utils.prune": lambda: _timed(theirs, make())}  # noqa: B023
            figures[name] = interleave(timed, args.repeats, warm=True)
            show(f"pruning 90% of {name}, ms", ["", "median", "least", "most", "modelopt / it"], _rows(figures[name]))

        def recover() -> float:
            changed = ["pruning.amount=0.9", "pruning.schedule=one_shot", f"pruning.recovery.epochs={EPOCHS}"]
            return pruned(args.mnist, 0, start, *changed)["train.seconds"]

        def loop() -> float:
            model = network(start)
            clock = time.perf_counter()
            prune_to(model, 0.9)
            train_plain(model, data, EPOCHS, 0)
            return time.perf_counter() - clock

        recovery = interleave({"modelopt": recover, "plain loop": loop}, args.repeats, warm=True)
    figures["recovery"] = recovery
    columns = ["", "median", "least", "most", "modelopt / it"]
    show(f"pruning and {EPOCHS} epochs, s", columns, rows(recovery, "modelopt"))
    print("masks: equal at 50, 90 and 99% for both networks")
    ratios = {name: ratio(each, "modelopt", list(each)[1]) for name, each in figures.items()}
    write(args.out, "prune_torch", figures, ratios=ratios)


def _copy(model: nn.Sequential) -> nn.Sequential:
    from copy import deepcopy

    return deepcopy(model)


def _timed(prune_it: object, model: nn.Sequential) -> float:
    clock = time.perf_counter()
    prune_it(model, 0.9)  # type: ignore[operator]
    return time.perf_counter() - clock


def _rows(seconds: dict[str, list[float]]) -> list[list[str]]:
    return rows(seconds, "modelopt", unit=1e-3)


if __name__ == "__main__":
    main()
