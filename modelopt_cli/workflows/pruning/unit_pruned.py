"""A module that loses units: in place where that works, else the graph that was captured of it stands in its place."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from modelopt_cli.models.duplicates import duplicate
from modelopt_cli.pruning.units import tables as group_tables
from modelopt_cli.pruning.units.budget import FINAL
from modelopt_cli.results.report import Table
from modelopt_cli.workflows.pruning import unit_tables
from modelopt_cli.workflows.pruning.pruned_model import PrunedModel
from modelopt_cli.workflows.shared import costs
from modelopt_cli.workflows.shared.earlier_pruning import earlier_masks, earlier_units

if TYPE_CHECKING:
    from torch import Tensor, nn

    from modelopt_cli.experiment.experiment import Experiment
    from modelopt_cli.models.files.checkpoints import Checkpoint
    from modelopt_cli.models.graph.unit_selection import UnitSelection
    from modelopt_cli.training.batches import Batch
    from modelopt_cli.training.hooks import StepHook
    from modelopt_cli.training.trainer import Trainer


class UnitPrunedModel(PrunedModel):
    """Pruned by a UnitStructure. Kept units count in the module it was given; in its checkpoint, in the code's."""

    def __init__(
        self,
        experiment: Experiment,
        trainer: Trainer,
        trainer_of: Callable[[nn.Module], Trainer],
        *,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        """`extra`: of the checkpoint that the module came from. Raises UsageError where nothing can go."""
        from modelopt_cli.models.files.packed import unpack_masks
        from modelopt_cli.models.graph.unit_selection import UnitSelection
        from modelopt_cli.pruning.units.session import UnitPruningSession
        from modelopt_cli.pruning.weights.masking import Masking

        super().__init__(trainer)
        self._settings, self._trainer_of = experiment.require_pruning(), trainer_of
        self._origin = duplicate(self.module)
        parameters = dict(self.module.named_parameters())
        packed = (extra or {}).get("masks")
        model = experiment.require_model()
        masks = unpack_masks(packed, parameters) if packed else earlier_masks(model, parameters)
        self._earlier = Masking({name: parameters[name] for name in masks}, masks)
        plain = (extra or {}).get("slimming") or earlier_units(model)
        self._base = UnitSelection.from_plain(plain) if plain else UnitSelection({})
        samples: Callable[[int], Sequence[Batch]] = lambda count: self.trainer.samples(count)  # noqa: E731
        self._session = UnitPruningSession(self._settings, self.module, samples, trainer.loss, trainer.task)
        self._sizes: list[dict[str, Any]] = []
        self._times: list[dict[str, Any]] = []
        self._rebuilt: dict[str, nn.Module] = {}  # states, once they were asked for

    @property
    def gone(self) -> tuple[int, int]:
        """(units that are gone, units that may go)"""
        return self._session.gone

    @property
    def spared(self) -> Mapping[str, str]:
        """Group or tensor -> why its units stay."""
        return self._session.spared

    @property
    def warnings(self) -> list[str]:
        """What could not be done, and what was done in its place."""
        fixed = self._session.fixed
        told = [f"there is no model.pt2, as it would take batches of one size alone: {fixed}"] if fixed else []
        return [*self._session.warnings, *told]

    def check(self) -> None:
        """See the base class."""
        self._session.check(self.module)

    def prune(self, target: float) -> None:
        """See the base class. Batch normalisation is measured anew on the way, where the file asks for it."""
        slices, module = self._session.prune(target, self.module)
        if module is self.module:
            self.trainer.shrink(slices)
        else:
            self.module = module
            self.trainer = self._trainer_of(module)
        self._follow_masks(slices)

    def _follow_masks(self, slices: Mapping[str, list[Tensor | None]]) -> None:
        """Masks of an earlier pruning lose what their weights lost; a trainer at work goes on to apply them."""
        from modelopt_cli.models.graph.rewriting import sliced

        masks = self._earlier.masks
        masks |= {name: sliced(mask, slices[name]) for name, mask in masks.items() if name in slices}
        self._hold(masks)

    def _hold(self, masks: Mapping[str, Tensor]) -> None:
        parameters = dict(self.module.named_parameters())
        self._earlier.weights = {name: parameters[name] for name in masks}
        self._earlier.set(masks)

    def hooks(self, *more: StepHook) -> list[StepHook]:
        """Earlier masks come last."""
        return [*more, self._earlier]

    def settle(self) -> None:
        """Earlier masks hold."""
        self._earlier.apply()

    def progress(self) -> dict[str, float]:
        """`model.parameters`"""
        return {"model.parameters": float(sum(parameter.numel() for parameter in self.module.parameters()))}

    def sizes(self, checkpoint: Checkpoint) -> dict[str, float]:
        """Parameters, bytes, multiply-accumulates, FLOPs; `pruning.units_removed`, a share."""
        from modelopt_cli.models.files.checkpoints import file_sizes
        from modelopt_cli.pruning.units.session import joined

        gone, total = self.gone
        before = self.as_it_was("before") or self.module
        files = file_sizes(replace(checkpoint, model=before)), file_sizes(self.recorded(checkpoint))
        inputs = joined(self.trainer.samples(1))
        self._sizes = costs.sizes(before, self.module, inputs, (files[0][0], files[1][0]))
        removed = {"pruning.units_removed": gone / max(total, 1), "model.compressed_bytes": float(files[1][1])}
        return {**costs.metrics(self._sizes), **removed}

    def speed(self) -> dict[str, float]:
        """Milliseconds for a batch of 1 and of 64, measured in turns with the model before pruning."""
        from modelopt_cli.pruning.units.session import joined

        inputs = joined(self.trainer.samples(max(costs.BATCH_SIZES)))
        before = self.as_it_was("before") or self.module
        self._times, self.noise = costs.times(before, self.module, inputs)
        return costs.metrics(self._times)

    def recorded(self, checkpoint: Checkpoint) -> Checkpoint:
        """The checkpoint with the units that are kept, and masks of an earlier pruning."""
        from modelopt_cli.models.files.packed import pack_masks

        extra: dict[str, Any] = {**checkpoint.extra, "pruning": self._settings.model_dump(mode="json")}
        whole = self._base.then(self._session.with_unsaved(self.module))
        if whole.kept or whole.form == "graph":
            extra["slimming"] = whole.to_plain()
        if self._earlier.masks:
            extra["masks"] = pack_masks(self._earlier.masks, self._earlier.weights)
        return replace(checkpoint, extra=extra)

    def amount_for_size(self, checkpoint: Checkpoint) -> float:
        """Budgets of units are met while pruning; the share that stands for all of it."""
        from modelopt_cli.models.files.checkpoints import file_sizes

        self._session.note_file(file_sizes(self.recorded(checkpoint))[0])
        return FINAL

    def tables(self) -> dict[str, Table]:
        """`stages`, `costs`, `groups`, `layers`, `rounds`, `sensitivity`."""
        states = {name: self._states.get(name) for name in self._judged}
        found = {
            "stages": unit_tables.stages(self.module, self._judged, states),
            "costs": Table.from_records([*self._sizes, *self._times]),
            "groups": group_tables.groups(self._session.network, self._session.groups, self.spared),
            "layers": unit_tables.layers(self._origin, self.module),
        }
        return found | self._round_tables(self._session.sensitivity, ("group", "share removed", "loss"))

    def restore(self, trained: Checkpoint) -> None:
        """Become its model."""
        from modelopt_cli.models.files.packed import unpack_masks
        from modelopt_cli.models.graph.unit_selection import UnitSelection

        plain = trained.extra.get("slimming")
        selection = UnitSelection.from_plain(plain) if plain else UnitSelection({})
        self._become(trained.model, selection.since(self._base))
        self._hold(unpack_masks(trained.extra.get("masks", {}), dict(self.module.named_parameters())))

    def _become(self, module: nn.Module, selection: UnitSelection) -> None:
        self._session.adopt(selection)
        self.module = module
        self.trainer = self._trainer_of(module)

    def as_it_was(self, name: str) -> nn.Module | None:
        """A module with the units and weights of that state; the same one each time."""
        from modelopt_cli.models.graph.unit_selection import UnitSelection

        if name in self._states and name not in self._rebuilt:
            kept = self._states[name]
            selection = UnitSelection.from_plain(kept["slimming"])
            self._rebuilt[name] = self._session.rebuilt(self._origin, selection, kept["state"])
        return self._rebuilt.get(name)

    def note(self, name: str) -> None:
        """See the base class."""
        super().note(name)
        self._rebuilt.pop(name, None)

    def _snapshot(self) -> dict[str, Any]:
        from modelopt_cli.training.copies import copied

        selection = self._session.with_unsaved(self.module)
        return {"slimming": selection.to_plain(), "state": copied(dict(self.module.state_dict()), "cpu")}

    @contextmanager
    def _standing_at(self, name: str) -> Iterator[Trainer]:
        module = self.as_it_was(name)
        assert module is not None
        yield self._trainer_of(module)

    def _went(self) -> dict[str, Any]:
        gone, total = self.gone
        return {"units gone": gone, "share": gone / max(total, 1), **self.progress()}

    def state(self) -> dict[str, Any]:
        """What `load_state` needs to go on."""
        from modelopt_cli.training.copies import copied

        return {
            "now": self._snapshot(),
            "states": self._states,
            "rounds": self._rounds,
            "masks": copied(self._earlier.masks, "cpu"),
            "shrinking": self._session.state(),
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """See the base class."""
        from modelopt_cli.models.graph.unit_selection import UnitSelection

        self._states, self._rounds = dict(state["states"]), [dict(row) for row in state["rounds"]]
        self._rebuilt.clear()
        self._session.load_state(state["shrinking"])
        now = UnitSelection.from_plain(state["now"]["slimming"])
        if now.kept:
            self._become(self._session.rebuilt(self._origin, now, state["now"]["state"]), now)
        self._hold(state["masks"])
