"""A module that loses units: in place where that works, else the graph that was captured of it stands in its place."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypedDict

from modelopt_cli.experiment.expected_metrics import RATIO
from modelopt_cli.models.duplicates import duplicate
from modelopt_cli.models.summary import count_parameters
from modelopt_cli.pruning.units.budget import FINAL
from modelopt_cli.results.report import Table
from modelopt_cli.workflows.pruning import tables
from modelopt_cli.workflows.pruning.snapshots import Snapshots
from modelopt_cli.workflows.shared import costs
from modelopt_cli.workflows.shared.earlier_pruning import earlier_masks, earlier_units

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor, nn

    from modelopt_cli.data.raw import Task
    from modelopt_cli.experiment.experiment import Experiment
    from modelopt_cli.models.files.checkpoints import Checkpoint
    from modelopt_cli.models.graph.rewriting import Slices
    from modelopt_cli.models.graph.unit_selection import UnitSelection
    from modelopt_cli.pruning.units.session import SessionState
    from modelopt_cli.results.report import Cell
    from modelopt_cli.training.batches import Batch
    from modelopt_cli.training.hooks import StepHook
    from modelopt_cli.training.losses import Loss
    from modelopt_cli.workflows.shared.latencies import Latencies


class UnitSnapshot(TypedDict):
    """A module without some of its units, as plain values and tensors: which units are left, and its state dict."""

    slimming: Any  # UnitSelection.to_plain
    state: dict[str, Tensor]


class UnitPrunedState(TypedDict):
    """What a saved run holds of a model that loses units."""

    now: UnitSnapshot
    states: dict[str, UnitSnapshot]
    rounds: list[dict[str, Cell]]
    masks: dict[str, Tensor]  # of an earlier pruning
    shrinking: SessionState


class UnitPrunedModel:
    """Pruned by a UnitStructure. Kept units count in the module it was given; in its checkpoint, in the code's."""

    def __init__(
        self,
        experiment: Experiment,
        module: nn.Module,
        *,
        samples: Callable[[int], Sequence[Batch]],
        loss: Loss,
        task: Task,
        extra: Mapping[str, Any] | None = None,
        check: bool = False,
        cuts: Path | None = None,
    ) -> None:
        """`samples`: so many train samples; `extra`: of the checkpoint that the module came from.

        `cuts`: a folder that prunings of the same module share; see UnitPruningSession.

        `check`: look for what training does not change and would stop the pruning after it. Raises UsageError where
        nothing can go.
        """
        from modelopt_cli.models.files.packed import unpack_masks
        from modelopt_cli.models.graph.unit_selection import UnitSelection
        from modelopt_cli.pruning.units.session import UnitPruningSession
        from modelopt_cli.pruning.weights.masking import Masking

        self._settings, self._samples = experiment.require_pruning(), samples
        self._origin = duplicate(module)
        parameters = dict(module.named_parameters())
        packed = (extra or {}).get("masks")
        model = experiment.require_model()
        masks = unpack_masks(packed, parameters) if packed else earlier_masks(model, parameters)
        self._earlier = Masking({name: parameters[name] for name in masks}, masks)
        plain = (extra or {}).get("slimming") or earlier_units(model)
        self._base = UnitSelection.from_plain(plain) if plain else UnitSelection({})
        self._session = UnitPruningSession(self._settings, module, samples, loss, task, cuts=cuts)
        self.snapshots: Snapshots[UnitSnapshot] = Snapshots(self._captured, self._rebuilt, rebuilt_once=True)
        self._timing = costs.timing(experiment)
        self._sizes: list[dict[str, Any]] = []  # records of the table `costs`
        self._times: list[dict[str, Any]] = []
        self._latencies: Latencies | None = None
        if check:
            self._session.check(module)

    # What prunes

    def prune(self, module: nn.Module, target: float) -> tuple[nn.Module, Slices]:
        """Prune to the share `target` of all units, or by this threshold; the module, and what stayed of its tensors.

        The module may be another one: a graph in place of the one that was captured. Batch normalisation is measured
        anew on the way, where the file asks for it.
        """
        from modelopt_cli.models.graph.rewriting import sliced

        slices, pruned = self._session.prune(target, module)
        masks = self._earlier.masks  # lose what their weights lost; a trainer at work goes on to apply them
        masks |= {name: sliced(mask, slices[name]) for name, mask in masks.items() if name in slices}
        self._hold(pruned, masks)
        return pruned, slices

    def _hold(self, module: nn.Module, masks: Mapping[str, Tensor]) -> None:
        """The masks of an earlier pruning are those of this module's parameters."""
        parameters = dict(module.named_parameters())
        self._earlier.weights = {name: parameters[name] for name in masks}
        self._earlier.set(masks)

    def hooks(self, *more: StepHook) -> list[StepHook]:
        """What takes part in every optimizer step while it is trained: earlier masks come last."""
        return [*more, self._earlier]

    def settle(self) -> None:
        """After training: earlier masks hold."""
        self._earlier.apply()

    @property
    def counts(self) -> tuple[int, int]:
        """(units that are gone, units that may go)"""
        return self._session.counts

    @property
    def spared(self) -> Mapping[str, str]:
        """Group or tensor -> why its units stay."""
        return self._session.spared

    def expected(self) -> tuple[float, float]:
        """(passes, seconds) that the allocation is likely to take in one pruning."""
        return self._session.expected()

    @property
    def probed(self) -> tuple[int, float]:
        """(cuts that the allocation tried out, passes over all calibration samples that it took for that)"""
        return len(self._session.sensitivity), self._session.passes

    def progress(self, module: nn.Module) -> dict[str, float]:
        """`model.parameters`"""
        return {"model.parameters": float(count_parameters(module))}

    def round_row(self, module: nn.Module) -> dict[str, Cell]:
        """How far a round went."""
        removed, total = self.counts
        return {"units gone": removed, "share": removed / max(total, 1), **self.progress(module)}

    @property
    def warnings(self) -> list[str]:
        """What could not be done, and what was done in its place."""
        fixed = self._session.fixed
        program = [f"there is no model.pt2, as it would take batches of one size alone: {fixed}"] if fixed else []
        return [*self._session.warnings, *program]

    # What it costs

    def sizes(self, checkpoint: Checkpoint) -> dict[str, float]:
        """Parameters, bytes, multiply-accumulates, FLOPs; `pruning.units_removed`, a share.

        `checkpoint`: of the model, with numbers that stand for its metrics.
        """
        from modelopt_cli.models.files.checkpoints import file_sizes
        from modelopt_cli.pruning.units.session import joined

        removed, total = self.counts
        module: nn.Module = checkpoint.model
        before = self.snapshots.module("before") or module
        files = file_sizes(replace(checkpoint, model=before)), file_sizes(self.recorded(checkpoint))
        inputs = joined(self._samples(1))
        self._sizes = costs.sizes(before, module, inputs, (files[0][0], files[1][0]))
        return {
            **costs.metrics(self._sizes),
            "pruning.units_removed": removed / max(total, 1),
            "model.compressed_bytes": float(files[1][1]),
            "model.compressed_bytes" + RATIO: files[1][1] / files[0][1],
        }

    def speed(self, module: nn.Module) -> dict[str, float]:
        """Milliseconds for a batch, of each size, measured in turns with the model before pruning."""
        from modelopt_cli.pruning.units.session import joined

        inputs = joined(self._samples(max(self._timing.batch_sizes)))
        before = self.snapshots.module("before") or module
        self._times, self._latencies = costs.times(before, module, inputs, self._timing)
        return costs.metrics(self._times)

    @property
    def noise(self) -> Sequence[str]:
        """What made timings unsure, or could not be timed."""
        return () if self._latencies is None else self._latencies.warnings

    @property
    def details(self) -> Mapping[str, object]:
        """How it was timed, where it was."""
        return {} if self._latencies is None else self._latencies.told

    def amount_for_size(self, checkpoint: Checkpoint) -> float:
        """Budgets of units are met while pruning; the share that stands for all of it."""
        from modelopt_cli.models.files.checkpoints import file_sizes

        self._session.note_file(file_sizes(self.recorded(checkpoint))[0])
        return FINAL

    def tables(self, module: nn.Module) -> dict[str, Table]:
        """`stages`, `costs`, `latency` where it was measured, `groups`, `layers`, `rounds`, `sensitivity`."""
        names = {name for name, _ in module.named_parameters()}

        def left(saved: UnitSnapshot | None) -> dict[str, float]:
            state = module.state_dict() if saved is None else saved["state"]
            return {"model.parameters": sum(tensor.numel() for name, tensor in state.items() if name in names)}

        columns = ("group", "share removed", "loss")
        return {
            "stages": self.snapshots.table(left),
            "costs": Table.from_records([*self._sizes, *self._times]),
            **({} if self._latencies is None else {"latency": self._latencies.table()}),
            "groups": self._session.groups_table(),
            "layers": tables.smaller_layers(self._origin, module),
            **tables.course_tables(
                self.snapshots.rounds, self._session.sensitivity, columns, self._settings.chosen_allocation
            ),
        }

    # What is saved

    def recorded(self, checkpoint: Checkpoint) -> Checkpoint:
        """The checkpoint with the units that are kept, and masks of an earlier pruning."""
        from modelopt_cli.models.files.packed import pack_masks

        extra: dict[str, Any] = {**checkpoint.extra, "pruning": self._settings.model_dump(mode="json")}
        whole = self._base.then(self._session.with_unsaved(checkpoint.model))
        if whole.kept or whole.form == "graph":
            extra["slimming"] = whole.to_plain()
        if self._earlier.masks:
            extra["masks"] = pack_masks(self._earlier.masks, self._earlier.weights)
        return replace(checkpoint, extra=extra)

    def restore(self, module: nn.Module, trained: Checkpoint) -> nn.Module:
        """What a model that was pruned before from the same setting has in this module's place."""
        from modelopt_cli.models.files.packed import unpack_masks
        from modelopt_cli.models.graph.unit_selection import UnitSelection

        plain = trained.extra.get("slimming")
        selection = UnitSelection.from_plain(plain) if plain else UnitSelection({})
        smaller = self._become(trained.model, selection.since(self._base))
        self._hold(smaller, unpack_masks(trained.extra.get("masks", {}), dict(smaller.named_parameters())))
        return smaller

    def state(self, module: nn.Module) -> UnitPrunedState:
        """What `load_state` needs to go on."""
        from modelopt_cli.training.copies import copied

        return {
            "now": self._captured(module),
            "states": self.snapshots.saved,
            "rounds": self.snapshots.rounds,
            "masks": copied(self._earlier.masks, "cpu"),
            "shrinking": self._session.state(),
        }

    def load_state(self, module: nn.Module, state: UnitPrunedState) -> nn.Module:
        """Go on from what `state` gave; the module as it was then."""
        from modelopt_cli.models.graph.unit_selection import UnitSelection

        self.snapshots.load(state["states"], state["rounds"])
        self._session.load_state(state["shrinking"])
        selection = UnitSelection.from_plain(state["now"]["slimming"])
        if selection.kept:
            module = self._become(self._rebuilt(state["now"]), selection)
        self._hold(module, state["masks"])
        return module

    def _become(self, module: nn.Module, selection: UnitSelection) -> nn.Module:
        """Go on with this module."""
        self._session.adopt(selection)
        return self._placed(module)

    def _placed(self, module: nn.Module) -> nn.Module:
        """On the device of the module that was captured."""
        return module.to(next(self._origin.parameters()).device)

    def _captured(self, module: nn.Module) -> UnitSnapshot:
        from modelopt_cli.training.copies import copied

        selection = self._session.with_unsaved(module)
        return {"slimming": selection.to_plain(), "state": copied(dict(module.state_dict()), "cpu")}

    def _rebuilt(self, snapshot: UnitSnapshot) -> nn.Module:
        """A module with the units and weights of a snapshot."""
        from modelopt_cli.models.graph.unit_selection import UnitSelection

        selection = UnitSelection.from_plain(snapshot["slimming"])
        return self._placed(self._session.rebuilt(self._origin, selection, snapshot["state"]))
