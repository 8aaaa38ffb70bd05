"""torchdistill's losses in the loop of _distill_loop.py; JSON, one line: name -> dtype -> the loss at each step.

    /path/to/peers/bin/python scripts/bench/_distill_peer.py START.pt

Runs in an environment of its own (torchdistill 1.1.5 and the same torch as modelopt's). Its losses take dictionaries of
what modules gave; its models are not used, as they need torchvision's compiled operators. START.pt holds what
projectors start from. DISTLoss multiplies by T² itself, VIDLoss is given its mean and variance. SPKDLoss calls
`normalize(G, 1)`, whose second argument is the norm's p, so that rows get an L1 norm of 1; the rows of the paper and of
RepDistiller have an L2 norm of 1, and so they do here.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from typing import Any

import torch
from _distill_loop import Contender, Features, descend
from _distill_reference import own_leaf
from torch import Tensor
from torch.nn import functional as F
from torchdistill.losses import mid_level  # type: ignore[import-not-found]

LOGITS = {
    "student_module_path": "logits",
    "student_module_io": "output",
    "teacher_module_path": "logits",
    "teacher_module_io": "output",
}
VECTORS = {"student_output_path": "vector", "teacher_output_path": "vector"}
MAPS = {"student_output_path": "high", "teacher_output_path": "high"}


def _outputs(features: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    return {name: {"output": value} for name, value in features.items()}


def _pairs(*names: str) -> dict[str, Any]:
    paths = [{"io": "output", "path": name} for name in names]
    return {f"pair{number}": {"teacher": one, "student": one, "weight": 1} for number, one in enumerate(paths)}


def _contender(loss: Any, labels: float = 0.0) -> Contender:
    def formula(s: Features, t: Features, y: Tensor) -> Tensor:
        value: Tensor = loss(_outputs(s), _outputs(t), y)
        return labels * F.cross_entropy(s["logits"], y) + value if labels else value

    return Contender(formula)


def _vid(start: Mapping[str, Tensor]) -> Contender:
    kernels = [
        own_leaf(value)[:, :, None, None].detach().requires_grad_() for name, value in start.items() if "mean" in name
    ]
    scale = own_leaf(next(value for name, value in start.items() if name.endswith("scale")))
    loss = mid_level.VIDLoss(_pairs("high"))

    def formula(s: Features, t: Features, y: Tensor) -> Tensor:
        mean = s["high"]
        for depth, kernel in enumerate(kernels):
            mean = F.conv2d(F.relu(mean) if depth else mean, kernel)
        variance = (F.softplus(scale) + 1e-5).view(1, -1, 1, 1)
        value: Tensor = loss({"high": {"output": (mean, variance)}}, _outputs(t))
        return value

    return Contender(formula, [*kernels, scale])


def _context() -> Contender:
    loss = mid_level.HierarchicalContextLoss("high", "output", "high", "output")
    return Contender(
        lambda s, t, y: loss({"high": {"output": (s["high"], None)}}, {"high": {"output": t["high"][:, :8]}})
    )


def _similarity() -> Contender:
    loss = mid_level.SPKDLoss(**MAPS, reduction="batchmean")
    loss.matmul_and_normalize = lambda maps: F.normalize(maps.flatten(1) @ maps.flatten(1).T, dim=1)
    return _contender(loss)


def contenders(start: Mapping[str, Mapping[str, Tensor]]) -> dict[str, Contender]:
    """By the names in distill_formulas.py."""
    kd: Callable[..., Any] = mid_level.KDLoss
    return {
        "soft_targets": _contender(kd(**LOGITS, temperature=4.0, alpha=0.1, beta=0.9)),
        "soft_targets, standardize": _contender(
            mid_level.LogitStdKDLoss(**LOGITS, temperature=2.0, alpha=0.1, beta=9.0)
        ),
        "dist": _contender(mid_level.DISTLoss(**LOGITS, beta=2.0, gamma=2.0, tau=4.0), 1.0),
        "attention_transfer": _contender(mid_level.ATLoss(_pairs("low", "high"), mode="code")),
        "similarity_preserving": _similarity(),
        "rkd": _contender(mid_level.RKDLoss(**VECTORS, dist_factor=25.0, angle_factor=50.0, reduction="mean")),
        "vid": _vid(start["vid"]),
        "review_kd, context": _context(),
    }


def main() -> None:
    start = torch.load(sys.argv[1], weights_only=True)
    losses_of = {
        str(dtype): {name: descend(one, dtype) for name, one in contenders(start[str(dtype)]).items()}
        for dtype in (torch.float64, torch.float32)
    }
    print(json.dumps(losses_of))


if __name__ == "__main__":
    main()
