"""What the tests of pruning in place share: the networks of scripts/bench, and a module with what is known of it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from modelopt_cli.models.graph.analysis import Analysis, attribute
from modelopt_cli.models.graph.bundles import InPlace, in_place
from modelopt_cli.models.graph.capture import Captured, capture
from modelopt_cli.models.graph.groups import Grouping, grouping
from modelopt_cli.models.graph.ties import connected, losing


class Case:
    """A module, its graph, and what can be done to it in place."""

    def __init__(self, module: nn.Module, example: Tensor) -> None:
        self.module = module.eval()
        self.captured: Captured = capture(module, example)
        self.analysis = Analysis(self.captured.graph)
        self.grouping: Grouping = grouping(self.captured.graph, self.analysis)

    def plan(self) -> InPlace:
        return in_place(self.module, self.captured, self.analysis, self.grouping.groups)

    def keep(self, plan: InPlace, share: float, seed: int = 0) -> dict[Any, Any]:
        generator = np.random.default_rng(seed)
        shares: dict[Any, Any] = {}
        for bundle in connected(plan.groups, plan.ties):
            shares.update(losing(bundle, share, generator))
        return shares


def random(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def pruned_state(module: nn.Module, names: Iterable[str] = ()) -> dict[str, Tensor]:
    """The module's state dict, and of `names` (tensors that were pruned) what a state dict leaves out.

    That is, buffers that are not persistent (the frequencies of rotary positions) and tensors that are neither buffers
    nor parameters. `load_shapes` takes them back.
    """
    state: dict[str, Tensor] = dict(module.state_dict())
    for name in names:
        if name not in state:
            state[name] = attribute(module, name).detach()
    return state
