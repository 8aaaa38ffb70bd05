"""Which groups of units may go, and by which rule each of the others is spared."""

from __future__ import annotations

from collections import Counter

from modelopt_cli.core.errors import UsageError
from modelopt_cli.models.graph.groups import Group, matches, under
from modelopt_cli.models.graph.network import Network
from modelopt_cli.pruning.settings import PruningSettings
from modelopt_cli.pruning.structures.neurons import Neurons

ALLOWING = "structure: {type: neurons, shift_statistics: true}"


def choose_groups(network: Network, settings: PruningSettings) -> tuple[list[Group], dict[str, str]]:
    """(groups that may go, name of a group or place -> why it is spared).

    Raises UsageError when a glob matches nothing, or nothing may go.
    """
    structure = settings.neurons
    places = [group.producers for group in network.groups] + [frozen.places for frozen in network.grouping.frozen]
    for pattern in [*settings.include, *settings.exclude, *structure.limits]:
        if not any(matches(group, [pattern]) for group in network.groups) and not any(
            under(place.tensor, [pattern]) for own in places for place in own
        ):
            names = ", ".join(group.name for group in network.groups[:5])
            raise UsageError(
                f"'{pattern}' matches no group of units of the model; its groups are: {names}, ... "
                "(all of them: modelopt inspect MODEL --groups)"
            )
    taken, spared = [], {}
    for group in network.groups:
        reason = _reason(group, settings, structure)
        if reason is None:
            taken.append(group)
        else:
            spared[group.name] = reason
    spared |= {str(frozen.places[0]): "; ".join(frozen.reasons) for frozen in network.grouping.frozen}
    if not taken:
        held = held_by_statistics(network, settings)
        if held:
            first = f"{ALLOWING} lets {sum(group.size for group in held)} units of {len(held)} groups go"
            what = ", ".join(dict.fromkeys(min(group.shifts) for group in held[:3]))
            spared = {name: rule for name, rule in spared.items() if name not in {group.name for group in held}}
            rest = "; ".join(f"{count} of: {rule}" for rule, count in Counter(spared.values()).most_common(5))
            raise UsageError(f"no units of the model may go: {first}, which would change {what} ({rest})")
        rules = "; ".join(f"{count} of: {rule}" for rule, count in Counter(spared.values()).most_common(5))
        raise UsageError(f"no units of the model may go ({rules or 'it has none'}); include groups, or allow more")
    return taken, spared


def held_by_statistics(network: Network, settings: PruningSettings) -> list[Group]:
    """Groups that only `shift_statistics` lets go."""
    structure = settings.neurons
    allowing = structure.model_copy(update={"shift_statistics": True})
    return [
        group
        for group in network.groups
        if _reason(group, settings, structure) is not None and _reason(group, settings, allowing) is None
    ]


def _reason(group: Group, settings: PruningSettings, structure: Neurons) -> str | None:
    if settings.exclude and matches(group, settings.exclude):
        return "excluded"
    if settings.include and not matches(group, settings.include):
        return "not included"
    if group.shifts and not structure.shift_statistics:
        return f"{min(group.shifts)} would change (structure.shift_statistics: true allows it)"
    return None
