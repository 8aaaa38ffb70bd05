"""Units taken out of a module, step by step: the network it was captured as, what is gone, and the form it has now.

`prune` is the way in: it asks the pruner (pruner.py), by way of a budget where there is one (budget.py), what goes, and
takes it out of the module itself, or puts the captured graph in the module's place.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, TypedDict

import torch

from modelopt_cli.core.errors import UsageError
from modelopt_cli.models.duplicates import duplicate
from modelopt_cli.models.graph.analysis import attribute
from modelopt_cli.models.graph.bundles import in_place
from modelopt_cli.models.graph.caches import captured_without, empty, switched
from modelopt_cli.models.graph.capture import EXAMPLES, fixed_by
from modelopt_cli.models.graph.edits import Edit, merged
from modelopt_cli.models.graph.emitted import Emitted
from modelopt_cli.models.graph.rewriting import Slices, slices
from modelopt_cli.models.graph.surgery import AGREES, copied, difference, operate, trial
from modelopt_cli.models.graph.unit_selection import Form, UnitSelection, emitted, rebuilt
from modelopt_cli.pruning.allocations import ProbedCuts
from modelopt_cli.pruning.common.distances import distance_for
from modelopt_cli.pruning.units.budget import BudgetState, UnitBudget
from modelopt_cli.pruning.units.cut_store import CutStore
from modelopt_cli.pruning.units.pruner import Removal, UnitPruner
from modelopt_cli.pruning.units.selection import choose_groups
from modelopt_cli.pruning.units.sensitivity import expected_passes
from modelopt_cli.results.report import Cell, Table
from modelopt_cli.training.batches import Batch

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor, nn

    from modelopt_cli.data.raw import Task
    from modelopt_cli.models.graph.attributes import Links
    from modelopt_cli.models.graph.groups import Group
    from modelopt_cli.models.graph.network import Network
    from modelopt_cli.pruning.settings import PruningSettings
    from modelopt_cli.training.losses import Loss


_TIMED = 64  # samples by which the time of a pass is estimated
BATCH_SIZES = (1, 3, 17)
"""On these it is tried whether a graph, or a module that was shrunk, takes any batch."""


class SessionState(TypedDict):
    """What a saved run holds of a session, beside the selection of units that are left."""

    refused: dict[str, str]
    warnings: list[str]
    sensitivity: list[list[str | float]]
    passes: float  # runs of earlier versions have none
    budget: BudgetState | None


class UnitPruningSession:
    """`groups`: those that may lose units; `spared`: the others, and why. Captures the module when it is made."""

    def __init__(
        self,
        settings: PruningSettings,
        module: nn.Module,
        samples: Callable[[int], Sequence[Batch]],
        loss: Loss,
        task: Task,
        *,
        cuts: Path | None = None,
    ) -> None:
        """`samples`: so many train samples, as the module takes them. Raises UsageError where nothing can go.

        `cuts`: a folder for what cuts on trial did to a network, so that other prunings of the same one need not try
        them again; those of this process know of one another anyway.
        """
        self._settings, self._samples = settings, samples
        self._example = joined(samples(EXAMPLES))
        self.network, self._emptied, self._baked = captured_without(module, self._example)
        self._warnings: list[str] = []
        self._form: Form = "graph" if isinstance(module, Emitted) else "module"
        self._edits: list[Edit] = []
        self._links: Links | None = None
        self._replacing = ""  # said when the graph takes the module's place
        self.fixed = "" if self.network.captured.dynamic else fixed_by(module, self._example)
        if self.fixed:
            self._samples = lambda count: in_pieces(samples(count), len(self._example))
            if settings.budget is not None and settings.budget.of == "latency_ms":
                raise UsageError(f"pruning.budget.latency_ms takes a graph of any batch size, but {self.fixed}")
        chosen, self.spared = choose_groups(self.network, settings)
        ties = self._settle_form(module, chosen)
        self._pruner = UnitPruner(
            self.network,
            settings,
            self.groups,
            batches=lambda: self._samples(settings.calibration),
            loss=loss,
            distance=distance_for(task),
            ties=ties,
            store=lambda network: CutStore(network, cuts),
        )
        self._budget = UnitBudget(settings, self.network, self.groups) if settings.budget is not None else None

    def _settle_form(self, module: nn.Module, chosen: Sequence[Group]) -> tuple[frozenset[str], ...]:
        """Whether the module can do it, or the graph has to; the groups that may go, and which are tied."""
        self.groups = list(chosen)
        apply = self._settings.neurons.apply
        if apply == "graph" or self._form == "graph":
            wrong = self._graph_fault(module)
            if wrong:
                raise UsageError(
                    f"the exported graph cannot take the model's place: {wrong}; use structure.apply: module"
                )
            self._form = "graph"
            return ()
        plan = in_place(module, self.network.captured, self.network.analysis, chosen, self._example)
        self._links = plan.links
        if not plan.refused:
            return plan.ties
        reasons = "; ".join(f"{name}: {reason}" for name, reason in list(plan.refused.items())[:3])
        wrong = "" if apply == "module" else self._graph_fault(module)
        if apply == "module" or wrong:
            self.groups = list(plan.groups)
            self.spared |= plan.refused
            remedy = f"nor can its exported graph take its place: {wrong}" if wrong else "use structure.apply: graph"
            if not self.groups:
                raise UsageError(f"the model's own modules can lose no units ({reasons}); {remedy}")
            if wrong:
                self._warnings.append(
                    f"the model's own code cannot do with fewer units in {len(plan.refused)} of {len(chosen)} groups, "
                    f"which are left alone ({reasons}); {remedy}"
                )
            return plan.ties
        self._form = "graph"
        self._replacing = (
            f"the model's own code cannot do with fewer units in {len(plan.refused)} of {len(chosen)} groups "
            f"({reasons}); its exported graph takes its place, and is trained and saved like it; structure.apply: "
            "module would leave those groups alone"
        )
        return ()

    def _graph_fault(self, module: nn.Module) -> str:
        """Why the captured graph is no model in the module's place: one of a single batch size, or without some of its
        parameters. "": it is one.
        """
        if self.fixed:
            return f"it would take batches of {len(self._example)} alone, since {self.fixed}"
        if self._baked:
            return self._baked
        for size in BATCH_SIZES:
            batch = tiled(self._example, size)
            if not runs(copied(module), batch):
                continue  # nor does the module take it
            try:
                wrong = difference(copied(module), self.network.captured.graph, batch) > AGREES
                what = "it gives something else"
            except Exception as error:  # whatever an operator says of sizes
                wrong, what = True, f"it fails ({str(error).splitlines()[0]})"
            if wrong:
                return f"{what} on a batch of {size}, as what is captured depends on the batch size"
        return ""

    @property
    def counts(self) -> tuple[int, int]:
        """(units that are gone, units that may go)"""
        total = sum(group.size for group in self.groups)
        return total - sum(self.network.left(group) for group in self.groups), total

    @property
    def warnings(self) -> list[str]:
        """What could not be done, and what was done in its place; at the end also how much of the amount was not."""
        (removed, total), asked = self.counts, self._settings.amount or 0.0
        if self._budget is not None:
            return [*self._warnings, *[self._budget.remark] * bool(self._budget.remark)]
        step = max(1, self._settings.neurons.round_to)  # may be rounded off
        if removed >= asked * total - step:
            return list(self._warnings)
        reached = f"{removed:,} of {total:,} are gone ({removed / total:.1%})"
        why = ", ".join(self._holding())
        return [*self._warnings, f"pruning.amount asks for {asked:.1%} of the units, but {reached}: {why}"]

    def _holding(self) -> list[str]:
        """What keeps units that an amount asks for."""
        structure = self._settings.neurons
        rules = {
            "the last unit of a group stays": any(self.network.left(group) == 1 for group in self.groups),
            "structure.limits hold": bool(structure.limits),
            f"structure.round_to is {structure.round_to}": structure.round_to > 1,
            f"keep_at_least is {self._settings.keep_at_least:g}": self._settings.keep_at_least > 0.0,
            "tied groups lose equal shares": bool(self._pruner.ties),
        }
        return [rule for rule, holds in rules.items() if holds] or ["groups that failed a check were left alone"]

    @property
    def sensitivity(self) -> ProbedCuts:
        """As an allocation measured it."""
        return self._pruner.sensitivity

    @property
    def passes(self) -> float:
        """Passes over all calibration samples that measuring took."""
        return self._pruner.passes

    def expected(self) -> tuple[float, float]:
        """(passes over the calibration samples, seconds) that the allocation is likely to take to try cuts out."""
        passes = expected_passes(self.network, self.groups, self._settings)
        if not passes:
            return 0.0, 0.0
        few, count = joined(self._samples(min(_TIMED, self._settings.calibration))), self._settings.calibration
        graph = self.network.current()
        with torch.no_grad():
            graph(few)  # the first one pays for warm-up
            start = time.perf_counter()
            graph(few)
        return passes, passes * (time.perf_counter() - start) * count / len(few)

    def groups_table(self) -> Table:
        """A row for each group: units before and left, the tensors that hold them, why it was spared."""
        free = {group.name for group in self.groups}
        rows: list[list[Cell]] = []
        for group in self.network.groups:
            left = self.network.left(group)
            tensors = ", ".join(dict.fromkeys(place.tensor for place in group.places))
            reason = None if group.name in free else self.spared.get(group.name)
            rows.append([group.name, group.size, left, 1.0 - left / group.size, tensors, reason])
        return Table(columns=["group", "units", "left", "share removed", "tensors", "spared"], rows=rows)

    def check(self, module: nn.Module) -> None:
        """Raise UsageError for what no training changes: units without scores, a budget that cannot be met."""
        few = self._samples(EXAMPLES)
        if self._budget is None:
            self._pruner.check(few)
        else:
            self._budget.check(self._pruner, few, module, in_place=self._form == "module")

    def note_file(self, size: int) -> None:
        """Bytes of model.pt before anything has gone."""
        assert self._budget is not None
        self._budget.note_file(size)

    def prune(self, target: float, module: nn.Module) -> tuple[Slices, nn.Module]:
        """Take units out; what stayed of each tensor, and the module, which is another one when its form changes."""
        self.network.pull(module)
        removal: Removal | None
        if self._budget is None:
            removal = self._pruner.prune(target)
        else:
            batches = self._samples(max(EXAMPLES, self._budget.samples))
            removal = self._budget.met(target, self._pruner, batches, module, in_place=self._form == "module")
        if removal is None:  # what there is meets the budget
            return slices(self.network.analysis, self.network.held, self.network.held), module
        for name, reason in self._pruner.refused.items():
            if name not in self.spared:
                self.spared[name] = reason
                self._warnings.append(f"{reason}; its units were left alone")
        self.groups = list(self._pruner.groups)
        cut = slices(self.network.analysis, removal.keep, self.network.held)
        module = self._applied(removal, module)
        self.network.held = removal.keep
        return cut, module

    def _applied(self, removal: Removal, module: nn.Module) -> nn.Module:
        network = self.network
        if self._form == "module":
            switched(module)  # what it keeps for evaluation may have the sizes of units that go
            empty(module, self._emptied)
            captured = network.captured
            batches = [self._example, self._example[:3]] if captured.dynamic else [captured.example]
            tried = trial(module, captured.graph, network.analysis, removal.keep, batches, self._links, network.held)
            if tried.ok:
                sizes = [size for size in BATCH_SIZES if runs(copied(module), tiled(self._example, size))]
                edits = operate(module, captured.graph, network.analysis, removal.keep, network.held, self._links)
                self._edits = merged(self._edits, edits)
                _take_over(module, removal, network)
                for size in sizes:
                    if not runs(copied(module), tiled(self._example, size)):
                        raise UsageError(f"the smaller model fails on batches of {size}, which the model takes")
                return module
            wrong = (
                "use structure.apply: graph" if self._settings.neurons.apply == "module" else self._graph_fault(module)
            )
            if wrong:
                raise UsageError(f"the smaller model is not what it should be: {tried.reason}; {wrong}")
            self._form = "graph"
            self._warnings.append(
                f"the model's own code fails when smaller ({tried.reason}); its graph takes its place"
            )
        if self._replacing and self._replacing not in self._warnings:
            self._warnings.append(self._replacing)
        if isinstance(module, Emitted):
            module.become(removal.graph)
            return module
        return Emitted(removal.graph).train(module.training)

    def selection(self) -> UnitSelection:
        """What has been done to the module so far."""
        return UnitSelection(self.network.kept(), tuple(self._edits), self._form if self.network.held else "module")

    def with_unsaved(self, module: nn.Module) -> UnitSelection:
        """The same, with the tensors that the module's state dict leaves out."""
        selection, state = self.selection(), module.state_dict()
        if selection.form == "graph":
            return selection
        names = [name for name in slices(self.network.analysis, self.network.held) if name not in state]
        unsaved = {name: attribute(module, name) for name in names}
        return UnitSelection(selection.kept, selection.edits, selection.form, unsaved)

    def rebuilt(self, origin: nn.Module, selection: UnitSelection, state: Mapping[str, Tensor]) -> nn.Module:
        """The module that shrinking began with, as it was at that point."""
        module = duplicate(origin)
        if not selection.kept and selection.form == "module":
            module.load_state_dict(state)
            return module
        if selection.form == "graph":
            return emitted(self.network.of(module), selection, state)
        return rebuilt(module, selection, state, lambda: self._example)

    def adopt(self, selection: UnitSelection) -> None:
        """Go on from there."""
        self.network.hold(selection.kept)
        self._edits = list(selection.edits)
        if selection.kept:
            self._form = selection.form

    def state(self) -> SessionState:
        """What `load_state` needs beside the selection."""
        return {
            "refused": dict(self._pruner.refused),
            "warnings": list(self._warnings),
            "sensitivity": [list(row) for row in self.sensitivity],
            "passes": self.passes,
            "budget": None if self._budget is None else self._budget.state,
        }

    def load_state(self, state: SessionState) -> None:
        """Go on from what `state` gave."""
        self._pruner.refused = dict(state["refused"])
        self._pruner.groups = [group for group in self._pruner.groups if group.name not in state["refused"]]
        self.groups = list(self._pruner.groups)
        self._warnings = list(state["warnings"])
        self._pruner.sensitivity = [
            (str(name), float(share), float(loss)) for name, share, loss in state["sensitivity"]
        ]
        self._pruner.passes = float(state.get("passes", 0.0))
        if self._budget is not None and state["budget"] is not None:
            self._budget.state = state["budget"]


@torch.no_grad()
def _take_over(module: nn.Module, removal: Removal, network: Network) -> None:
    """The tensors of the compensated graph, into the module's own."""
    for name in network.analysis.tensors:
        try:
            own = attribute(module, name)
        except AttributeError:
            continue  # a constant that the code makes on the way: it is made anew in every call
        new = attribute(removal.graph, name)
        if own.data_ptr() != new.data_ptr():
            own.data.copy_(new)


def tiled(batch: Tensor, size: int) -> Tensor:
    """So many of the samples, from the start again where there are too few."""
    return batch[torch.arange(size, device=batch.device) % len(batch)]


def in_pieces(batches: Sequence[Batch], size: int) -> list[Batch]:
    """The samples in batches of this size alone; what does not fill the last one is left out."""
    pieces = []
    for batch in batches:
        for start in range(0, len(batch.inputs) - size + 1, size):
            part = slice(start, start + size)
            weights = None if batch.weights is None else batch.weights[part]
            pieces.append(Batch(batch.inputs[part], batch.targets[part], weights, batch.indices[part]))
    return pieces


@torch.no_grad()
def runs(module: nn.Module, inputs: Tensor) -> bool:
    """Whether the module takes this batch."""
    try:
        module(inputs)
    except Exception:  # whatever its code raises
        return False
    return True


def joined(batches: Sequence[Batch]) -> Tensor:
    """(N, *inputs) of all batches."""
    return torch.cat([batch.inputs for batch in batches])
