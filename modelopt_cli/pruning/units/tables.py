"""The table of a network's groups of units: how many each had, how many are left, and why it was spared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from modelopt_cli.results.report import Table

if TYPE_CHECKING:
    from modelopt_cli.models.graph.groups import Group
    from modelopt_cli.models.graph.network import Network


def groups(network: Network, chosen: Sequence[Group], spared: Mapping[str, str]) -> Table:
    """A row for each group: units before and left, the tensors that hold them, why it was spared."""
    taken = {group.name for group in chosen}
    rows: list[list[Any]] = []
    for group in network.groups:
        left = network.left(group)
        tensors = ", ".join(dict.fromkeys(place.tensor for place in group.places))
        reason = None if group.name in taken else spared.get(group.name)
        rows.append([group.name, group.size, left, 1.0 - left / group.size, tensors, reason])
    return Table(columns=["group", "units", "left", "share removed", "tensors", "spared"], rows=rows)
