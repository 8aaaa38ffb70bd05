"""Looking at a model's units: which stand or fall together, what one of them costs, what is frozen, and why."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from torch import nn

from modelopt_cli.models.files.state_files import open_state
from modelopt_cli.models.graph.axes import owners
from modelopt_cli.models.graph.bundles import in_place
from modelopt_cli.models.graph.capture import EXAMPLES
from modelopt_cli.models.graph.emitted import Emitted
from modelopt_cli.models.graph.groups import Group, coverage, held
from modelopt_cli.models.graph.network import Network
from modelopt_cli.models.measure import example
from modelopt_cli.results.details import Coverage, GroupsDetails, Reason
from modelopt_cli.results.report import Cell, Report, Table
from modelopt_cli.workflows.shared.module_of_file import build
from modelopt_cli.workflows.shared.reporting import Outcome, Reporting
from modelopt_cli.workflows.shared.run_scope import one_run

if TYPE_CHECKING:
    from modelopt_cli.models.graph.axes import Prime
    from modelopt_cli.models.graph.groups import Place


@one_run()
def run(path: Path, *, experiment: Path | None = None, key: str | None = None, trust_code: bool = False) -> Report:
    """Tables `groups`, `places` and `frozen`; `details.coverage`: which share of the parameters units hold.

    The module is that of a model.pt of modelopt, or what the `model:` and `data:` sections of the experiment file say.
    `trust_code` runs what code a model.pt names. Raises InputError or UsageError (exit 2), also where the module cannot
    be captured, or RefusedError (exit 5).
    """
    from modelopt_cli.experiment.experiment import Experiment

    reporting = Reporting(None, name=path.name)
    with reporting.log.recording():
        loaded = None if experiment is None else Experiment.load(experiment)
        if loaded is not None:
            loaded.require("model", "data")
        module, shapes = build(open_state(path, key=key), loaded, trust_code=trust_code)
        outcome = _outcome(module.eval(), Network(module, example(shapes, EXAMPLES)))
    return reporting.report("groups", "inspect", outcome)


def _outcome(module: nn.Module, network: Network) -> Outcome:
    """The metrics and tables of a module that was captured as `network`."""
    shares = _coverage(network)
    metrics = {
        "model.parameters": float(network.costs.parameters({})),
        "model.macs": float(network.costs.macs({})),
        "model.groups": float(len(network.groups)),
        "model.shrinkable": shares["share"],
    }
    details: GroupsDetails = {"coverage": shares, "unknown_operators": dict(network.analysis.unknown)}
    return Outcome(
        metrics,
        tables={"groups": _groups(module, network), "places": _places(network), "frozen": _frozen(network)},
        details=details,
    )


def _groups(module: nn.Module, network: Network) -> Table:
    """A row for each group; what one of its units costs is counted with all others in place."""
    hows = _hows(module, network)
    parameters, macs = network.costs.parameters({}), network.costs.macs({})
    rows: list[list[Cell]] = []
    for group in network.groups:
        less = {group.prime: group.size - 1}
        cost = [parameters - network.costs.parameters(less), macs - network.costs.macs(less)]
        sides = [_listed(place for place in group.places if place.producer is made) for made in (True, False)]
        rows.append([group.name, group.size, *cost, *sides, ", ".join(sorted(group.shifts)) or None, *hows[group.name]])
    columns = ["group", "units", "parameters of a unit", "macs of a unit", "made in", "taken in", "computed over"]
    return Table(columns=[*columns, "how", "why not in place", "tied to"], rows=rows)


def _hows(module: nn.Module, network: Network) -> Mapping[str, tuple[str, str | None, str | None]]:
    """Group -> whether the module's own code can do with fewer units, why not, and which groups go with it."""
    if isinstance(module, Emitted):
        return {group.name: ("graph", "the model is a graph already", None) for group in network.groups}
    plan = in_place(module, network.captured, network.analysis, network.groups)
    tied = {name: ", ".join(sorted(names - {name})) for names in plan.ties for name in names}
    return {
        group.name: ("graph", plan.refused[group.name], None)
        if group.name in plan.refused
        else ("in place", None, tied.get(group.name))
        for group in network.groups
    }


def _places(network: Network) -> Table:
    """A row for each dimension of a tensor in which the units of a group lie."""
    rows: list[list[Cell]] = [
        [group.name, place.tensor, place.dim, "made" if place.producer else "taken"]
        for group in network.groups
        for place in group.places
    ]
    return Table(columns=["group", "tensor", "dimension", "role"], rows=rows)


def _frozen(network: Network) -> Table:
    """A row for each dimension that stays as it is, with the parameters along it; what no group holds either first."""
    rows: list[tuple[str, int, int, int, str, str | None]] = []
    for frozen in network.grouping.frozen:
        there = {(place.tensor, place.dim): place for place in frozen.places}
        counts = [_counted(network, place, frozen.prime) for place in there.values()]
        totals = [sum(count[side] for count in counts) for side in (0, 1)]
        where = list(there.values())
        reasons, others = "; ".join(frozen.reasons), _listed(where[1:]) or None
        rows.append((str(where[0]), frozen.size, totals[0], totals[1], reasons, others))
    rows.sort(key=lambda row: (-row[3], -row[2]))
    return Table(
        columns=["where", "units", "parameters", "in no group", "why", "also in"], rows=[list(row) for row in rows]
    )


def _counted(network: Network, place: Place, prime: Prime) -> tuple[int, int]:
    """(parameters of the tensor that lie along the prime there, those of them that units of no group hold)"""
    tensor = network.tensor(place.tensor)
    if not isinstance(tensor, nn.Parameter):
        return 0, 0
    dims = network.analysis.tensors[place.tensor]
    free = {group.prime for group in network.groups}
    along, left = 1, 1
    for dim, axis in enumerate(dims):
        mine = owners(axis, prime) >= 0 if dim == place.dim else np.ones(axis.size, dtype=np.bool_)
        along *= int(mine.sum())
        left *= int((mine & ~held(axis, free)).sum())
    return along, left


def _coverage(network: Network) -> Coverage:
    """The share of the parameters that units hold, of those whose going changes no statistics, and why others stay."""
    graph, total = network.captured.graph, network.costs.parameters({})

    def share(groups: Iterable[Group]) -> tuple[float, Mapping[str, int]]:
        return coverage(graph, network.analysis, network.grouping, tuple(groups))

    covered, reasons = share(network.groups)
    exact, _ = share(group for group in network.groups if not group.shifts)
    by_reason: dict[str, Reason] = {
        reason: {"parameters": count, "share": count / max(total, 1)}
        for reason, count in sorted(reasons.items(), key=lambda item: -item[1])
    }
    return {"parameters": total, "share": covered, "share_without_shifts": exact, "reasons": by_reason}


def _listed(places: Iterable[Place]) -> str:
    return ", ".join(map(str, places))
