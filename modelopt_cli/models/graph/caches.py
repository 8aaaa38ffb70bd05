"""Tensors that a module keeps from one call to the next, computed from its parameters (LeViT's biases of attention).

In a graph such a tensor is a constant, and the parameter that it came from has no part in anything. So what is kept is
dropped before a module is captured: by its own code, when it is switched to training and back, or by emptying the
attribute, where the module then computes the same and more of its parameters take part.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, fx, nn

from modelopt_cli.models.duplicates import duplicate, tensors_in
from modelopt_cli.models.graph.network import Network
from modelopt_cli.models.graph.rewriting import first_tensor
from modelopt_cli.models.graph.surgery import AGREES, copied, difference
from modelopt_cli.models.graph.walk import writes

Attribute = tuple[str, str]
"""(path of the module, name)"""


def switched(module: nn.Module) -> None:
    """Let its code drop what it keeps for evaluation; every part is then in the mode that it was in."""
    modes = [(part, part.training) for part in module.modules()]
    with suppress(Exception):  # whatever a module's own train() raises: it is not what was asked for
        module.train()
        module.eval()
        module.train(modes[0][1])
    for part, mode in modes:
        part.training = mode


def captured_without(module: nn.Module, example: Tensor) -> tuple[Network, list[Attribute], str]:
    """(the network, attributes that were emptied, why its graph is not what the module is).

    The last is "" but where a parameter that the module learns by takes no part in the graph.
    """
    switched(module)
    network = Network(module, example)
    unused = _unused(module, network)
    kept = list(_keeping(module, network)) if unused else []
    if not unused:
        return network, [], ""
    if kept:
        before = [(path, name, getattr(module.get_submodule(path), name)) for path, name in kept]
        reference = copied(module)
        empty(module, kept)
        with suppress(Exception):  # code that cannot do without what it keeps
            if difference(copied(module), reference, example) <= AGREES:
                empty(module, kept)
                again = Network(module, example)
                if len(_unused(module, again)) < len(unused):
                    empty(module, kept)
                    return again, kept, ""
        for path, name, value in before:
            setattr(module.get_submodule(path), name, value)
    learned = _learned(module, example, unused) if kept else []
    if not learned:
        return network, [], ""
    places = ", ".join(f"{path}.{name}".removeprefix(".") for path, name in kept[:3])
    return (
        network,
        [],
        f"{learned[0]} would have no part in it, since the module keeps in {places} what it has computed before; empty "
        "that first, or give a module that has not been called",
    )


def empty(module: nn.Module, kept: Sequence[Attribute]) -> None:
    """Drop what these attributes hold: None, or a container with nothing in it."""
    for path, name in kept:
        part = module.get_submodule(path)
        value = getattr(part, name, None)
        setattr(part, name, type(value)() if isinstance(value, dict | list | set) else None)


def _unused(module: nn.Module, network: Network) -> list[str]:
    """Parameters that have no part in what the graph gives."""
    named = dict(module.named_parameters(remove_duplicate=False))
    live: set[fx.Node] = set()
    for node in reversed(network.captured.graph.graph.nodes):
        if node.op == "output" or node in live or writes(node):
            live.update((node, *node.all_input_nodes))
    used = {id(named.get(str(node.target))) for node in live if node.op == "get_attr"}
    return [name for name, parameter in module.named_parameters() if id(parameter) not in used]


def _keeping(module: nn.Module, network: Network) -> Iterator[Attribute]:
    """Attributes that hold a constant of the graph: neither parameters, nor buffers that are saved."""
    saved = {id(tensor) for tensor in (*module.parameters(), *module.buffers())}
    own = module.state_dict()
    constants = [network.tensor(name) for name in network.analysis.tensors if name not in own]
    internal = set(vars(nn.Module()))
    for path, part in module.named_modules():
        unsaved = {name: part._buffers[name] for name in part._non_persistent_buffers_set if name in part._buffers}
        plain = {name: value for name, value in vars(part).items() if name not in internal}
        for name, value in {**plain, **unsaved}.items():
            for tensor in _within(value):
                listed = name in unsaved or id(tensor) not in saved
                if listed and any(_same(tensor, constant) for constant in constants):
                    yield path, name
                    break


def _within(value: Any) -> Iterator[Tensor]:
    holder = nn.Module()
    holder.__dict__["held"] = value
    yield from tensors_in(holder)


def _same(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and one.dtype == other.dtype and torch.equal(one, other)


def _learned(module: nn.Module, example: Tensor, names: Sequence[str]) -> list[str]:
    """Those that get a gradient when the module is trained."""
    other = duplicate(module).train()
    parameters = dict(other.named_parameters())
    with torch.random.fork_rng(devices=[]), torch.enable_grad(), suppress(Exception):
        value = first_tensor(other(example.clone())).float().sum()
        slopes = torch.autograd.grad(value, [parameters[name] for name in names], allow_unused=True)
        return [name for name, slope in zip(names, slopes, strict=True) if slope is not None]
    return []
