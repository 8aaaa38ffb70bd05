"""A module as a graph of ATen operators (torch.export, training IR), with the batch size left open."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn
from torch.export import Dim, ExportedProgram

from modelopt_cli.core.errors import UsageError

_LEAST = 2  # torch.export takes sizes of 0 and 1 for constants


@dataclass(frozen=True)
class Captured:
    """`graph` computes what the module does in evaluation mode, from tensors of the same names as the module's."""

    graph: fx.GraphModule
    example: Tensor
    dynamic: bool  # whether any batch size may be given; else only the example's


def capture(module: nn.Module, example: Tensor) -> Captured:
    """Export `module` in evaluation mode. `example`: (B, *inputs), B at least 2 where the batch size shall be open.

    Raises UsageError with what stopped it: the operator or the line of code, and what can be done.
    """
    program, dynamic = exported(module, example)
    with _quiet():
        graph = program.module(check_guards=False)
    assert isinstance(graph, fx.GraphModule)
    return Captured(_plain(graph), example, dynamic)


def exported(module: nn.Module, example: Tensor) -> tuple[ExportedProgram, bool]:
    """(the module as a program, whether it takes any batch size). See `capture`."""
    if len(example) < _LEAST:
        raise UsageError(
            f"the example has a batch size of {len(example)}, but torch.export takes a size of 0 or 1 for a constant "
            "of the network; give at least 2 samples"
        )
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        with _quiet(), torch.no_grad():
            try:
                return _export(module, example, ({0: Dim.DYNAMIC},)), True
            except Exception:  # code that works with one batch size only, or that cannot be exported at all
                return _export(module, example, None), False
    except Exception as error:
        raise UsageError(_explained(error)) from error
    finally:
        for part, mode in modes:
            part.training = mode


def _export(module: nn.Module, example: Tensor, dynamic: tuple[dict[int, object]] | None) -> ExportedProgram:
    return torch.export.export(module, (example,), dynamic_shapes=dynamic, strict=False)


def _plain(graph: fx.GraphModule) -> fx.GraphModule:
    """Without the checks of the example's sizes, which shrink; a GraphModule that can be copied, trained, evaluated."""
    for node in list(graph.graph.nodes):
        if node.op == "call_module" and not node.users:
            graph.graph.erase_node(node)
    return fx.GraphModule(graph, graph.graph)


@contextmanager
def _quiet() -> Iterator[None]:
    """Plain operators instead of fused ones for nn.TransformerEncoderLayer, and no warnings about the export."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


def _explained(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    place = next((line for line in lines if line.startswith('File "') and "/torch/" not in line), "")
    first = lines[0] if lines else type(error).__name__
    told = f"{first} ({place})" if place else first
    return (
        f"the network cannot be captured as a graph: {told}. Which operators run must not depend on the data; rewrite "
        "that line (torch.where, torch.cond), or prune single weights: pruning.structure: weights"
    )
