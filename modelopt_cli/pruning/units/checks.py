"""A pruning of units checks itself: the smaller graph runs, and gives what silencing the units would have given."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from modelopt_cli.core.errors import UsageError
from modelopt_cli.models.graph.axes import Keep
from modelopt_cli.models.graph.groups import Group
from modelopt_cli.models.graph.network import Network
from modelopt_cli.models.graph.rewriting import error

TOLERANCE = 1e-4  # of the largest output, in float32: removing what is silent changes sums' order alone
_SAMPLES = 8


def faults(network: Network, keep: Keep, groups: Sequence[Group], inputs: Tensor) -> dict[str, str]:
    """Groups whose units cannot go as `keep` says, and why; empty when all is well.

    All together first; where that fails, each group by itself, to name those at fault.
    """
    few = inputs[:_SAMPLES] if network.captured.dynamic else network.captured.example
    changed = [group for group in groups if group.prime in keep]
    wrong = _fault(network, keep, changed, few)
    if wrong is None:
        return {}
    reasons = {}
    for group in changed:
        alone = {**network.held, group.prime: keep[group.prime]}
        reason = _fault(network, alone, [group], few)
        if reason is not None:
            reasons[group.name] = f"{group.name}: {reason}"
    if not reasons:
        names = ", ".join(group.name for group in changed)
        raise UsageError(
            f"units of {names} can go one group at a time, but not together: {wrong}; exclude some of them"
        )
    return reasons


def _fault(network: Network, keep: Keep, groups: Sequence[Group], inputs: Tensor) -> str | None:
    """What is wrong with removing these; of units that statistics run over only whether the graph runs."""
    exact = {**network.held, **{group.prime: keep[group.prime] for group in groups if not group.shifts}}
    try:
        network.without(keep)(inputs)
        off = error(network.captured.graph, network.analysis, exact, inputs, network.held)
    except Exception as problem:  # whatever an operator says of sizes that do not fit
        return f"the smaller network does not run ({str(problem).splitlines()[0]})"
    if off <= TOLERANCE:
        return None
    return f"the smaller network's outputs are off by {off:.1e} of the largest, where they should not change"
