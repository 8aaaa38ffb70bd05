"""Taking units out of the user's own module, in place: its tensors are sliced, its attributes mended.

The graph (rewriting.py) is the reference: code may hold sizes where no attribute leads to them, and may then compute
something else without an error. So what is done to a module is tried on a copy first, and compared with the graph.
"""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn
from torch.utils._pytree import tree_leaves

from modelopt_cli.core.errors import ModeloptError
from modelopt_cli.models.duplicates import tensors_in
from modelopt_cli.models.graph.analysis import Analysis, attribute
from modelopt_cli.models.graph.attributes import Links, questions
from modelopt_cli.models.graph.axes import Keep
from modelopt_cli.models.graph.constants import Constants
from modelopt_cli.models.graph.edits import Edit, apply_edits, editable, merged
from modelopt_cli.models.graph.layer_sizes import fits
from modelopt_cli.models.graph.rewriting import off, remade, rewritten, set_tensor

AGREES = 1e-4
"""The largest difference, as a share of the largest output, at which a module computes what its graph does."""


@dataclass(frozen=True)
class Trial:
    """What came of an operation on a copy."""

    ok: bool
    error: float  # the largest difference from the graph, as a share of the largest output; inf: it does not run
    edits: tuple[Edit, ...]
    reason: str  # why it is not ok


@torch.no_grad()
def operate(
    module: nn.Module,
    graph: fx.GraphModule,
    analysis: Analysis,
    keep: Keep,
    held: Keep | None = None,
    links: Links | None = None,
) -> list[Edit]:
    """Leave in the module what `keep` leaves, and give the edits of its attributes.

    `graph` is the module's as captured, `keep` counts in what the module was then, and `held` is what earlier calls
    have left of it. `links` come from `in_place`; without them every attribute of a size's value is taken for that
    size. Parameters and buffers stay the same objects, so a captured graph that shares them shrinks with them.
    Gradients are dropped. Raises a ModeloptError, with nothing changed, where a size or a tensor cannot be written.
    """
    if links is None:
        constants = Constants(graph, analysis)
        nobody: frozenset[str] = frozenset()
        asked = questions(module, dict.fromkeys(constants.changed(keep), nobody))
        links = Links(constants, {slot: answer for each in asked for slot, answer in each.answers()[0].items()})
    numbers = links.edits(module, links.constants.changed(keep))
    values = _cut(module, analysis, keep, held)
    before = fits(module)
    for tensor, value in values:
        tensor.data = value
    module.zero_grad(set_to_none=True)
    apply_edits(module, numbers)
    fitted: list[Edit] = [
        (path, name, list(value) if isinstance(value, tuple) else value)
        for (path, name), value in fits(module).items()
        if value != before.get((path, name)) and value != editable(module.get_submodule(path), name)
    ]
    apply_edits(module, fitted)
    return merged(numbers, fitted)


def _cut(module: nn.Module, analysis: Analysis, keep: Keep, held: Keep | None) -> list[tuple[Tensor, Tensor]]:
    """Each tensor that changes, and what it becomes; tensors of the same memory become the same again."""
    try:
        made = remade(module, analysis, keep, held)
    except AttributeError as error:
        raise ModeloptError(f"the code makes a tensor that has to shrink, and no module has it ({error})") from None
    changes: dict[int, tuple[Tensor, Tensor]] = {}
    for name, value in made.items():
        tensor = attribute(module, name)
        changes[id(tensor)] = (tensor, value.detach())
    return list(changes.values())


def copied(module: nn.Module) -> nn.Module:
    """A copy in evaluation mode whose tensors are other objects with the same memory: slicing them leaves these."""
    memo: dict[int, object] = {}
    for tensor in tensors_in(module):
        data = tensor.detach()
        memo[id(tensor)] = nn.Parameter(data, False) if isinstance(tensor, nn.Parameter) else data
    return copy.deepcopy(module, memo).eval()


@torch.no_grad()
def stirred(module: nn.Module, graph: fx.GraphModule) -> tuple[nn.Module, fx.GraphModule]:
    """Copies that share the weights, but for those that are all the same (a scale of 0 hides what is behind it)."""
    mine, its = copied(module), fx.GraphModule(graph, graph.graph)
    generator = torch.Generator().manual_seed(0)
    names: dict[int, list[str]] = {}
    for name, parameter in module.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    for listed in names.values():
        old = attribute(module, listed[0])
        if not old.is_floating_point() or old.numel() < 2 or float(old.min()) != float(old.max()):
            continue
        noise = 0.3 * torch.randn(old.shape, generator=generator)
        value = nn.Parameter(old.detach() + noise.to(old), False)
        for name in listed:
            attribute(mine, name).data = value.data
            if any(node.target == name for node in graph.graph.nodes if node.op == "get_attr"):
                set_tensor(its, name, value)
    return mine, its


def trial(
    module: nn.Module,
    graph: fx.GraphModule,
    analysis: Analysis,
    keep: Keep,
    batches: Sequence[Tensor],
    links: Links | None = None,
    held: Keep | None = None,
) -> Trial:
    """Operate on a copy, and compare it with the rewritten graph on batches, best of different sizes."""
    made: tuple[Edit, ...] = ()
    try:
        expected = rewritten(graph, analysis, keep, held)
        other = copied(module)
        made = tuple(operate(other, graph, analysis, keep, held, links))
        errors = [difference(other, expected, batch, fast=number % 2 == 0) for number, batch in enumerate(batches)]
    except Exception as failure:  # whatever the module's code raises when a size is not what it expects
        lines = str(failure).strip().splitlines()
        return Trial(False, float("inf"), made, lines[0] if lines else type(failure).__name__)
    error = max(errors, default=0.0)
    ok = error <= AGREES
    return Trial(ok, error, made, "" if ok else f"its outputs differ from the graph's by {error:.1%} of the largest")


@torch.no_grad()
def difference(module: nn.Module, graph: nn.Module, inputs: Tensor, *, fast: bool = True) -> float:
    """The largest one between the outputs, as a share of the largest output; inf where shapes differ, or for NaN.

    `fast`: with the fused kernels that nn.TransformerEncoderLayer takes in evaluation mode.
    """
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(fast and before)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            outputs, expected = (_tensors(each(inputs)) for each in (module, graph))
    finally:
        torch.backends.mha.set_fastpath_enabled(before)
    if len(outputs) != len(expected):
        return math.inf
    return max((off(one, other) for one, other in zip(outputs, expected, strict=True)), default=0.0)


def _tensors(outputs: object) -> list[Tensor]:
    return [each.double() for each in tree_leaves(outputs) if isinstance(each, Tensor)]
