"""A module while it is pruned: its masks, what it was before, and how it did at each turn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from modelopt_cli.models.measure import zeros
from modelopt_cli.models.packed import pack_masks, unpack_masks
from modelopt_cli.models.summary import summarise
from modelopt_cli.results.report import Table
from modelopt_cli.training.metrics import LOWER_IS_BETTER
from modelopt_cli.workflows import prune_tables as tables
from modelopt_cli.workflows.earlier_masks import earlier_masks
from modelopt_cli.workflows.prune_amounts import search_amount

if TYPE_CHECKING:
    from torch import Tensor, nn

    from modelopt_cli.experiment.experiment import Experiment
    from modelopt_cli.models.checkpoints import Checkpoint
    from modelopt_cli.pruning.selection import Selection
    from modelopt_cli.training.trainer import Trainer

_PRIMARY = ("accuracy", "r2")  # the metric that stands in the table of rounds beside the loss


class PrunedModel:
    """`trainer` is the one at work: it evaluates. `note` keeps a state by name (before, pruned)."""

    def __init__(
        self, experiment: Experiment, trainer: Trainer, *, bare: bool, masks: Mapping[str, Tensor] | None = None
    ) -> None:
        from modelopt_cli.pruning.masking import Masking
        from modelopt_cli.pruning.movement_meter import MovementMeter
        from modelopt_cli.pruning.pruner import Pruner
        from modelopt_cli.training.hooks import StepHook

        self.trainer, self.module = trainer, trainer.module
        settings = self._settings = experiment.require_pruning()
        parameters = dict(self.module.named_parameters())
        self.selection = _selected(experiment, parameters, bare=bare)
        self._zeros = {name: zeros(parameter) for name, parameter in parameters.items()}
        weights = {name: parameters[name] for name in self.selection.taken}
        found = unpack_masks(masks, parameters) if masks else earlier_masks(experiment.require_model(), parameters)
        spared = {name: parameters[name] for name in found if name not in weights}
        self.masking = Masking(weights, {name: mask for name, mask in found.items() if name in weights})
        self.earlier = Masking(spared, {name: found[name] for name in spared})  # what is left alone keeps its zeros
        moving = MovementMeter(weights) if "movement" in settings.weight_importance.needs else None
        self.meter: StepHook = moving or StepHook()
        self._moving = moving
        self._pruner = Pruner(
            self.module,
            settings,
            self.masking,
            batches=lambda: self.trainer.samples(settings.calibration),
            loss=trainer.loss,
            validation_loss=lambda: self.quick_metrics()["validation.loss"],
            movement=moving.sums if moving else None,
        )
        self._states: dict[str, dict[str, Any]] = {}
        self._rounds: list[dict[str, Any]] = []
        self._judged: dict[str, dict[str, float]] = {"before": {}, "pruned": {}, "final": {}}

    @property
    def parameters(self) -> int:
        """All parameters of the module."""
        return sum(parameter.numel() for parameter in self.module.parameters())

    @property
    def sparsity(self) -> float:
        """Share of all parameters that is gone."""
        return self.masking.gone[0] / max(self.parameters, 1)

    def prune(self, target: float) -> None:
        """See Pruner.prune; then batch normalisation is measured anew, where the file asks for it."""
        from modelopt_cli.pruning.pruner import recalibrate

        self._pruner.prune(target)
        if self._settings.recalibrate_batch_norm:
            recalibrate(self.module, self.trainer.samples(self._settings.calibration))

    def note(self, name: str) -> None:
        """Keep the module's state, as it is now, under this name; `before` once."""
        from modelopt_cli.training.copies import copied

        if name != "before" or name not in self._states:
            self._states[name] = copied(self.module.state_dict(), "cpu")

    def begin_round(self, stage: int) -> None:
        """A stage is about to prune."""
        self._rounds.append({"round": stage + 1})

    def end_round(self, stage: int, *, recovered: bool) -> None:
        """A stage has ended: how far it went, and how the model does."""
        gone, total = self.masking.gone
        row = self._rounds[stage]
        row |= {"weights gone": gone, "sparsity": gone / total, "recovered": recovered, **self.quick_metrics()}

    def quick_metrics(self) -> dict[str, float]:
        """The loss, and the task's first metric, on the validation split (without one, on the train split)."""
        split = "validation" if self.trainer.has("validation") else "train"
        found = self.trainer.evaluate(split, [f"{split}.loss", *(f"{split}.{name}" for name in _PRIMARY)])
        return {f"validation.{name.partition('.')[2]}": value for name, value in found.items()}

    def judge(self, split: str) -> dict[str, float]:
        """Every metric of the module on `split`; beside it the drop (for losses and errors the rise) since before."""
        from modelopt_cli.training.copies import copied

        now = copied(self.module.state_dict())
        try:
            for name, state in self._states.items():
                self.module.load_state_dict(state)
                self._judged[name] |= self.trainer.evaluate(split)
        finally:
            self.module.load_state_dict(now)
        found = self.trainer.evaluate(split)
        self._judged["final"] |= found
        before = self._judged["before"]
        return {**found, **{key: value for name in found for key, value in _change(name, found, before)}}

    def sizes(self) -> dict[str, float]:
        """Parameters, what is not 0, and the share that is 0."""
        found = summarise(self.module)
        gone, total = self.masking.gone
        share = 1.0 - found["model.nonzero"] / max(found["model.parameters"], 1.0)
        return {**found, "model.sparsity": share, "pruning.sparsity": gone / max(total, 1)}

    def with_masks(self, checkpoint: Checkpoint) -> Checkpoint:
        """The checkpoint with the masks, and what was done."""
        done = self._settings.model_dump(mode="json")
        masks = pack_masks(
            {**self.masking.masks, **self.earlier.masks}, {**self.masking.weights, **self.earlier.weights}
        )
        return replace(checkpoint, extra={**checkpoint.extra, "pruning": done, "masks": masks})

    def with_state(self, name: str, checkpoint: Checkpoint) -> Checkpoint | None:
        """The checkpoint with the state that was kept under this name in place of the module's."""
        from copy import deepcopy

        if name not in self._states:
            return None
        module = deepcopy(self.module)
        module.load_state_dict(self._states[name])
        return replace(checkpoint, model=module, metrics=dict(self._judged[name]))

    def amount_for_size(self, checkpoint: Checkpoint) -> float:
        """The share whose removal brings the compressed model.pt to the budget; by magnitude, which decides little."""
        from modelopt_cli.models.checkpoints import file_sizes
        from modelopt_cli.pruning.cuts import joint

        budget = self._settings.budget
        assert budget is not None
        dense = {name: weight.detach().clone() for name, weight in self.masking.weights.items()}
        scores = {name: weight.abs() for name, weight in dense.items()}
        total = sum(score.numel() for score in scores.values())

        def size(share: float) -> int:
            cuts = joint(scores, round(share * total))
            for name, weight in self.masking.weights.items():
                weight.data.masked_fill_(cuts[name].removes(scores[name]), 0.0)
            try:
                return file_sizes(self.with_masks(checkpoint))[1]
            finally:
                for name, weight in self.masking.weights.items():
                    weight.data.copy_(dense[name])

        return search_amount(size, budget.left(size(0.0)))

    def tables(self) -> dict[str, Table]:
        """`stages`: before, straight after the last pruning, at the end; `layers`; `rounds`; `sensitivity`."""
        states = {name: self._states.get(name) or self.module.state_dict() for name in self._judged}
        found = {
            "stages": tables.stages(self.module, self._judged, states),
            "layers": tables.layers(self.module, self._zeros, self.selection.spared),
        }
        if self._rounds:
            found["rounds"] = tables.from_records(self._rounds)
        if self._pruner.sensitivity:
            rows: list[list[Any]] = [list(row) for row in self._pruner.sensitivity]
            found["sensitivity"] = Table(columns=["tensor", "sparsity", "validation.loss"], rows=rows)
        return found

    @property
    def emptied(self) -> list[str]:
        """Tensors of which nothing is left."""
        return [name for name, mask in self.masking.masks.items() if mask.numel() and not bool(mask.any())]

    def state(self) -> dict[str, Any]:
        """What `load_state` needs to go on."""
        from modelopt_cli.training.copies import copied

        moved = copied(self._moving.sums, "cpu") if self._moving else {}
        return {
            "masks": copied(self.masking.masks, "cpu"),
            "states": self._states,
            "rounds": self._rounds,
            "movement": moved,
            "sensitivity": [list(row) for row in self._pruner.sensitivity],
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` gave."""
        self.masking.set(state["masks"])
        self._states, self._rounds = dict(state["states"]), [dict(row) for row in state["rounds"]]
        self._pruner.sensitivity = [
            (str(name), float(share), float(loss)) for name, share, loss in state["sensitivity"]
        ]
        if self._moving:
            self._moving.load(state["movement"])


def _selected(experiment: Experiment, parameters: Mapping[str, nn.Parameter], *, bare: bool) -> Selection:
    """Which parameters may go. Raises UsageError when none may, or a glob matches nothing."""
    from modelopt_cli.pruning.choosing import choose

    settings = experiment.require_pruning()
    return choose(
        parameters,
        settings.mask_structure.problem,
        include=settings.include,
        exclude=settings.exclude,
        everything=settings.all,
        bare=bare,
        where="the model",
    )


def _change(name: str, now: Mapping[str, float], before: Mapping[str, float]) -> list[tuple[str, float]]:
    if name not in before:
        return []
    lower = name.rpartition(".")[2] in LOWER_IS_BETTER
    return [(f"{name}_rise", now[name] - before[name]) if lower else (f"{name}_drop", before[name] - now[name])]
