"""A module as a graph of ATen operators (torch.export, training IR), with the batch size left open."""

from __future__ import annotations

import inspect
import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.export import Dim, ExportedProgram
from torch.fx.experimental.symbolic_shapes import free_unbacked_symbols

from modelopt_cli.core.errors import UsageError
from modelopt_cli.models.graph.explaining import explained, explained_size, fixed_sizes
from modelopt_cli.models.modes import evaluating

_WITHOUT = "pruning.structure: weights needs no graph"
EXAMPLES = 4
"""Samples that a module is captured with, where nothing else is said."""
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
    program, dynamic = exported(module, example, otherwise=_WITHOUT)
    with quiet():
        graph = program.module(check_guards=False)
    assert isinstance(graph, fx.GraphModule)
    node = next((node for node in graph.graph.nodes if _size_unknown(node)), None)
    if node is not None:
        raise UsageError(explained_size(node, _WITHOUT))
    return Captured(_plain(graph), example, dynamic)


def exported(module: nn.Module, example: Tensor, *, otherwise: str = "") -> tuple[ExportedProgram, bool]:
    """(the module as a program, whether it takes any batch size). See `capture`.

    `otherwise`: for the message of the error, what can be done without a graph.
    """
    if len(example) < _LEAST:
        raise UsageError(
            f"the example has a batch size of {len(example)}, but torch.export takes a size of 0 or 1 for a constant "
            "of the network; give at least 2 samples"
        )
    with evaluating(module):
        try:
            with quiet(), torch.no_grad():
                try:
                    return _export(module, example, _open_batch(module)), True
                except Exception:  # code that works with one batch size only, or that cannot be exported at all
                    return _export(module, example, None), False
        except Exception as error:
            with quiet():
                raise UsageError(explained(error, module, example, otherwise)) from error


def fixed_by(module: nn.Module, example: Tensor) -> str:
    """Why a graph of the module takes batches of one size only: the line of code, and what to write; "": any size."""
    with evaluating(module), quiet(), torch.no_grad(), fixed_sizes() as lines:
        try:
            _export(module, example, _open_batch(module))
        except Exception as error:
            first = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
            where = f"{lines[0]} makes a constant of the batch size" if lines else first.rstrip(".")
            return f"{where} (len(inputs) and int(inputs.shape[0]) do, inputs.shape[0] does not)"
    return ""


def _open_batch(module: nn.Module) -> tuple[Any]:
    """What says that the batch size is open: of the first argument, which may be the first of `*inputs`."""
    first = next(iter(inspect.signature(module.forward).parameters.values()), None)
    sizes = {0: Dim.DYNAMIC}
    return ((sizes,),) if first is not None and first.kind is first.VAR_POSITIONAL else (sizes,)


def _export(module: nn.Module, example: Tensor, dynamic: tuple[Any] | None) -> ExportedProgram:
    marked = example.clone()  # torch writes into it which of its sizes are open, and would find that there next time
    return torch.export.export(module, (marked,), dynamic_shapes=dynamic, strict=False)


def _plain(graph: fx.GraphModule) -> fx.GraphModule:
    """Without the checks of the example's sizes, which shrink, and without what is computed for nothing, such as the
    row in `weight[0].numel()`; a GraphModule that can be copied, trained, evaluated.
    """
    for node in reversed(graph.graph.nodes):
        if not node.users and (node.op == "call_module" or _without_effect(node)):
            graph.graph.erase_node(node)
    for part in graph.modules():
        if isinstance(part, fx.GraphModule):  # also the branches of a torch.cond
            part.graph._tracer_cls = part._tracer_cls = (
                None  # that of torch.export can trace nothing anew, as pickle does
            )
    return fx.GraphModule(graph, graph.graph)


def _without_effect(node: fx.Node) -> bool:
    """Whether it is an operator that does no more than give values."""
    target = node.target
    return (
        isinstance(target, torch._ops.OpOverload)
        and bool(target._schema.returns)
        and not target._schema.is_mutable
        and not node.is_impure()
    )


def _size_unknown(node: fx.Node) -> bool:
    """Whether it gives a tensor whose size depends on the numbers in another: there is no telling what it costs."""
    value = node.meta.get("val")
    return isinstance(value, Tensor) and bool(free_unbacked_symbols(value))


@contextmanager
def quiet() -> Iterator[None]:
    """Plain operators instead of fused ones for nn.TransformerEncoderLayer, and `silent`."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with silent():
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


@contextmanager
def silent() -> Iterator[None]:
    """Nothing of what torch tells about capturing, or the module's code prints, when there are no numbers yet."""
    level = logging.root.manager.disable
    logging.disable(logging.ERROR)
    nowhere = io.StringIO()
    try:
        with warnings.catch_warnings(), redirect_stdout(nowhere), redirect_stderr(nowhere):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
