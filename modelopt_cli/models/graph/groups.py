"""Groups: the units that stand or fall together, the slices of tensors that they are, and what is frozen, and why."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import numpy as np
import torch
from torch import Tensor, fx, nn

from modelopt_cli.models.graph.analysis import INPUT, OUTPUT, Analysis, attribute
from modelopt_cli.models.graph.axes import Axis, Keep, Mask, Prime, owners, primes, unit_places

_NO_PRODUCER = "no parameter makes it"
_NO_CONSUMER = "no parameter of a later layer takes it"


@dataclass(frozen=True)
class Place:
    """A dimension of a tensor in which the units of a group lie. `producer`: they are made there, else taken."""

    tensor: str
    dim: int
    producer: bool

    def __str__(self) -> str:
        """`fc.weight[0]`"""
        return f"{self.tensor}[{self.dim}]"


@dataclass(frozen=True, eq=False)
class Group:
    """Unit u stands or falls in all of its places together."""

    name: str
    prime: Prime
    places: tuple[Place, ...]

    @property
    def size(self) -> int:
        """Units that there are."""
        return self.prime.size

    @property
    def shifts(self) -> frozenset[str]:
        """What is computed over all units, and so changes even when silent ones go."""
        return self.prime.shifts

    @property
    def producers(self) -> tuple[Place, ...]:
        """Places where its units are made."""
        return tuple(place for place in self.places if place.producer)


@dataclass(frozen=True, eq=False)
class Frozen:
    """Units that cannot go: where they lie, and why."""

    prime: Prime
    places: tuple[Place, ...]
    reasons: tuple[str, ...]

    @property
    def size(self) -> int:
        """Units that there are."""
        return self.prime.size


@dataclass(frozen=True)
class Grouping:
    """All groups of a network, and what is frozen."""

    groups: tuple[Group, ...]
    frozen: tuple[Frozen, ...]

    def named(self, name: str) -> Group:
        """The group of that name. Raises KeyError."""
        for group in self.groups:
            if group.name == name:
                return group
        raise KeyError(name)


def grouping(module: fx.GraphModule, analysis: Analysis) -> Grouping:
    """The groups of an analysed graph: primes that a live parameter makes and something later sums over."""
    consumed = analysis.consumed()
    contracted = {prime for each in analysis.contractions for prime in primes(each.axis)}
    places: dict[Prime, list[Place]] = {}
    for name, dims in analysis.own_tensors():
        for dim, axis in enumerate(dims):
            for prime in dict.fromkeys(primes(axis)):
                taken = prime in consumed.get((name, dim), ())
                places.setdefault(prime, []).append(Place(name, dim, not taken))
    groups, frozen = [], []
    names: dict[str, int] = {}
    for prime, own in places.items():
        if prime.size < 2:
            continue
        reasons = set(prime.frozen)
        if INPUT not in reasons and not any(place.producer and _live(module, place.tensor) for place in own):
            reasons.add(_NO_PRODUCER)
        if OUTPUT not in reasons and prime not in contracted:
            reasons.add(_NO_CONSUMER)
        if reasons:
            frozen.append(Frozen(prime, tuple(own), tuple(sorted(reasons))))
        else:
            groups.append(Group(_name(own, names), prime, tuple(own)))
    return Grouping(tuple(groups), tuple(frozen))


def _live(module: fx.GraphModule, name: str) -> bool:
    tensor = attribute(module, name)
    return isinstance(tensor, nn.Parameter) and tensor.is_floating_point()


def _name(places: Sequence[Place], taken: dict[str, int]) -> str:
    """The path of the module that makes the units; a number behind it for the second group that it makes, and so on."""
    tensor = next(place.tensor for place in places if place.producer)
    path = tensor.rpartition(".")[0] or tensor
    taken[path] = taken.get(path, 0) + 1
    return path if taken[path] == 1 else f"{path}#{taken[path]}"


def matches(group: Group, patterns: Sequence[str]) -> bool:
    """Whether a glob matches the group's name, or a module or parameter that makes its units."""
    if any(fnmatchcase(group.name, pattern) for pattern in patterns):
        return True
    return any(under(place.tensor, patterns) for place in group.producers)


def under(path: str, patterns: Sequence[str]) -> bool:
    """Whether a glob matches the tensor's path, or that of a module that holds it."""
    while path:
        if any(fnmatchcase(path, pattern) for pattern in patterns):
            return True
        path = path.rpartition(".")[0]
    return False


def coverage(
    module: fx.GraphModule, analysis: Analysis, grouped: Grouping, groups: Sequence[Group], exclude: Sequence[str] = ()
) -> tuple[float, Mapping[str, int]]:
    """(share of parameters that units of `groups` hold, reason -> parameters that stay). `exclude`: globs of names."""
    free = {group.prime for group in groups}
    why = {place: each.reasons for each in grouped.frozen for place in each.places}
    total = covered = 0
    reasons: dict[str, int] = {}
    for name, dims in analysis.own_tensors():
        tensor = attribute(module, name)
        if not isinstance(tensor, nn.Parameter) or any(fnmatchcase(name, pattern) for pattern in exclude):
            continue
        left = 1
        for axis in dims:
            left *= int((~held(axis, free)).sum())
        total += tensor.numel()
        covered += tensor.numel() - left
        if left:
            why_not = {
                reason
                for dim in range(len(dims))
                for flag in (True, False)
                for reason in why.get(Place(name, dim, flag), ())
            }
            reason = "; ".join(sorted(why_not)) or "not asked for"
            reasons[reason] = reasons.get(reason, 0) + left
    return covered / max(total, 1), reasons


def unit_rows(tensor: Tensor, analysis: Analysis, group: Group, place: Place, keep: Keep) -> Tensor:
    """(units that stay, numbers of each) what the tensor holds of each unit; `tensor` has what `keep` leaves."""
    index = unit_places(analysis.tensors[place.tensor][place.dim], group.prime, keep)  # (units, r)
    rows = tensor.index_select(place.dim, torch.from_numpy(index.reshape(-1)).to(tensor.device))
    return rows.movedim(place.dim, 0).reshape(index.shape[0], -1)


def held(axis: Axis, free: Collection[Prime]) -> Mask:
    """(size of the axis,) whether a unit of one of these primes lies there."""
    mask = np.zeros(axis.size, dtype=np.bool_)
    for prime in dict.fromkeys(primes(axis)):
        if prime in free:
            mask |= owners(axis, prime) >= 0
    return mask
