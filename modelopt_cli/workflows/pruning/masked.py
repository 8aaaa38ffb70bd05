"""A module whose weights become 0: its masks, and what they leave."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from modelopt_cli.models.files.packed import pack_masks, unpack_masks
from modelopt_cli.models.measure import zeros
from modelopt_cli.models.summary import summarise
from modelopt_cli.workflows.pruning import tables
from modelopt_cli.workflows.pruning.amounts import search_amount
from modelopt_cli.workflows.pruning.pruned_model import PrunedModel
from modelopt_cli.workflows.shared.earlier_pruning import earlier_masks

if TYPE_CHECKING:
    from torch import Tensor, nn

    from modelopt_cli.experiment.experiment import Experiment
    from modelopt_cli.models.files.checkpoints import Checkpoint
    from modelopt_cli.pruning.common.selection import Selection
    from modelopt_cli.results.report import Table
    from modelopt_cli.training.hooks import StepHook
    from modelopt_cli.training.trainer import Trainer


_MUCH = 0.05  # of them: more than that is told even where it is less than one block
_NOISE = 0.001  # of the weights that may go: a share that each tensor rounds is missed by that much without a word


class MaskedModel(PrunedModel):
    """Pruned by a MaskStructure."""

    def __init__(
        self, experiment: Experiment, trainer: Trainer, *, bare: bool, masks: Mapping[str, Tensor] | None = None
    ) -> None:
        """`bare`: the weights come from a bare file, so its rules say which may go; `masks`: packed, of the file."""
        from modelopt_cli.pruning.common.distances import distance_for
        from modelopt_cli.pruning.weights.masking import Masking
        from modelopt_cli.pruning.weights.movement import MovementMeter
        from modelopt_cli.pruning.weights.pruner import Pruner
        from modelopt_cli.training.hooks import StepHook

        super().__init__(trainer)
        settings = self._settings = experiment.require_pruning()
        parameters = dict(self.module.named_parameters())
        self._selection = _selected(experiment, parameters, bare=bare)
        self._zeros = {name: zeros(parameter) for name, parameter in parameters.items()}
        weights = {name: parameters[name] for name in self._selection.taken}
        found = unpack_masks(masks, parameters) if masks else earlier_masks(experiment.require_model(), parameters)
        kept = {name: parameters[name] for name in found if name not in weights}
        self.masking = Masking(weights, {name: mask for name, mask in found.items() if name in weights})
        self._earlier = Masking(kept, {name: found[name] for name in kept})  # what is left alone keeps its zeros
        moving = MovementMeter(weights) if "movement" in settings.weight_importance.needs else None
        self._meter: StepHook = moving or StepHook()
        self._moving = moving
        self._asked: float | None = None  # the share that the last pruning was to reach
        self._most_bytes: float | None = None  # of a budget
        self._bytes: float | None = None  # that the compressed model takes, as last measured
        self._pruner = Pruner(
            self.module,
            settings,
            self.masking,
            batches=lambda: self.trainer.samples(settings.calibration),
            loss=trainer.loss,
            distance=distance_for(trainer.task),
            validation_loss=lambda: self.quick_metrics()["validation.loss"],
            movement=moving.sums if moving else None,
        )

    @property
    def gone(self) -> tuple[int, int]:
        """(weights that are 0 by a mask, weights that may be)"""
        return self.masking.gone

    @property
    def spared(self) -> Mapping[str, str]:
        """Tensor -> the rule that spares it."""
        return self._selection.spared

    @property
    def warnings(self) -> list[str]:
        """No layer becomes all zeros silently, and no amount is missed without a word."""
        names = [name for name, mask in self.masking.masks.items() if mask.numel() and not bool(mask.any())]
        emptied = f"nothing is left of: {', '.join(names)}; set pruning.keep_at_least (e.g. 0.01)"
        return [*[emptied] * bool(names), *self._missed()]

    def _missed(self) -> list[str]:
        """What was asked and is not reached, beyond one unit of what goes together."""
        settings, (gone, total) = self._settings, self.masking.gone
        missed: list[str] = []
        unit = settings.mask_structure.weights(self.masking.weights)
        let_pass = max(1.0, min(max(unit, _NOISE * total), _MUCH * total))
        if self._asked is not None and abs(gone - self._asked * total) > let_pass:
            what = "amount" if settings.budget is None else f"budget.{settings.budget.of}"
            missed.append(
                f"pruning.{what} asks that {self._asked * total:,.0f} of the {total:,} weights that may go are gone, "
                f"but {gone:,} are ({gone / max(total, 1):.1%}): {', '.join(self._holding(gone > self._asked * total))}"
            )
        if self._most_bytes is not None and self._bytes is not None and self._bytes > self._most_bytes:
            missed.append(
                f"pruning.budget.size_bytes asks for at most {self._most_bytes:,.0f} bytes, but the compressed model "
                f"takes {self._bytes:,.0f}; ask for fewer"
            )
        return missed

    def _holding(self, more: bool) -> list[str]:
        """Why other than the amount asked for is gone."""
        settings = self._settings
        if more:
            return ["what an earlier pruning took stays gone"]
        rules = {
            f"keep_at_least is {settings.keep_at_least:g}": settings.keep_at_least > 0.0,
            "every tensor gives a whole number of blocks": settings.structure.name() == "block",
        }
        return [rule for rule, holds in rules.items() if holds] or ["every tensor gives a whole number"]

    def hooks(self, *more: StepHook) -> list[StepHook]:
        """The meter sees gradients before they are masked; masks come last."""
        return [self._meter, *more, self.masking, self._earlier]

    def settle(self) -> None:
        """Apply the masks."""
        self.masking.apply()

    def progress(self) -> dict[str, float]:
        """`model.sparsity`: the share of all parameters that is gone."""
        return {"model.sparsity": self.masking.gone[0] / max(self.parameters, 1)}

    @property
    def parameters(self) -> int:
        """All parameters of the module."""
        return sum(parameter.numel() for parameter in self.module.parameters())

    def prune(self, target: float) -> None:
        """See Pruner.prune; then batch normalisation is measured anew, where the file asks for it."""
        from modelopt_cli.pruning.weights.pruner import recalibrate

        self._asked = target if self._settings.threshold is None and not self._settings.structure.fixed else None
        self._pruner.prune(target)
        if self._settings.recalibrate_batch_norm:
            recalibrate(self.module, self.trainer.samples(self._settings.calibration))

    def _went(self) -> dict[str, Any]:
        gone, total = self.masking.gone
        return {"weights gone": gone, "sparsity": gone / total}

    def _snapshot(self) -> dict[str, Any]:
        from modelopt_cli.training.copies import copied

        found: dict[str, Any] = copied(self.module.state_dict(), "cpu")
        return found

    @contextmanager
    def _standing_at(self, name: str) -> Iterator[Trainer]:
        from modelopt_cli.training.copies import copied

        now = copied(self.module.state_dict())
        try:
            self.module.load_state_dict(self._states[name])
            yield self.trainer
        finally:
            self.module.load_state_dict(now)

    def sizes(self, checkpoint: Checkpoint) -> dict[str, float]:
        """Parameters, what is not 0, the share that is 0, and the bytes of the compressed model.pt."""
        from modelopt_cli.models.files.checkpoints import file_sizes

        found = summarise(self.module)
        gone, total = self.masking.gone
        share = 1.0 - found["model.nonzero"] / max(found["model.parameters"], 1.0)
        self._bytes = float(file_sizes(self.recorded(checkpoint))[1])
        packed = {"model.compressed_bytes": self._bytes}
        return {**found, "model.sparsity": share, "pruning.sparsity": gone / max(total, 1), **packed}

    def recorded(self, checkpoint: Checkpoint) -> Checkpoint:
        """The checkpoint with the masks, and what was done."""
        done = self._settings.model_dump(mode="json")
        masks = pack_masks(
            {**self.masking.masks, **self._earlier.masks}, {**self.masking.weights, **self._earlier.weights}
        )
        return replace(checkpoint, extra={**checkpoint.extra, "pruning": done, "masks": masks})

    def as_it_was(self, name: str) -> nn.Module | None:
        """A copy with the weights of that state."""
        from modelopt_cli.models.duplicates import duplicate

        if name not in self._states:
            return None
        module = duplicate(self.module)
        module.load_state_dict(self._states[name])
        return module

    def restore(self, trained: Checkpoint) -> None:
        """Take over its weights and masks."""
        self.module.load_state_dict(trained.model.state_dict())
        self.masking.set(unpack_masks(trained.extra["masks"], self.masking.weights))

    def amount_for_size(self, checkpoint: Checkpoint) -> float:
        """The share whose removal brings the compressed model.pt to the budget; by magnitude, which decides little."""
        import torch

        from modelopt_cli.models.files.checkpoints import file_sizes
        from modelopt_cli.pruning.allocating import allocate_weights
        from modelopt_cli.pruning.allocations.global_ import Global

        budget, structure = self._settings.budget, self._settings.mask_structure
        assert budget is not None
        dense = {name: weight.detach().clone() for name, weight in self.masking.weights.items()}
        sizes = {name: weight.numel() for name, weight in dense.items()}
        magnitudes = {name: weight.abs() for name, weight in dense.items()}
        floor = self._settings.keep_at_least

        def size(share: float) -> int:
            kept = structure.keep(
                magnitudes,
                torch.abs,
                self.masking.removed,
                lambda scores: allocate_weights(Global(), scores, sizes, share, keep_at_least=floor),
            )
            for name, weight in self.masking.weights.items():
                weight.data.masked_fill_(~kept[name], 0.0)
            try:
                return file_sizes(self.recorded(checkpoint))[1]
            finally:
                for name, weight in self.masking.weights.items():
                    weight.data.copy_(dense[name])

        self._most_bytes = budget.left(size(0.0))
        return search_amount(size, self._most_bytes, budget.told(self._most_bytes))

    def tables(self) -> dict[str, Table]:
        """`stages`: before, straight after the last pruning, at the end; `layers`; `rounds`; `sensitivity`."""
        states = {name: self._states.get(name) or self.module.state_dict() for name in self._judged}
        found = {
            "stages": tables.stages(self.module, self._judged, states),
            "layers": tables.layers(self.module, self._zeros, self.spared),
        }
        return found | self._round_tables(self._pruner.sensitivity, ("tensor", "sparsity", "validation.loss"))

    def state(self) -> dict[str, Any]:
        """What `load_state` needs to go on."""
        from modelopt_cli.training.copies import copied

        moved = copied(self._moving.sums, "cpu") if self._moving else {}
        return {
            "masks": copied(self.masking.masks, "cpu"),
            "states": self._states,
            "rounds": self._rounds,
            "asked": self._asked,
            "most_bytes": self._most_bytes,
            "movement": moved,
            "sensitivity": [list(row) for row in self._pruner.sensitivity],
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` gave."""
        self.masking.set(state["masks"])
        self._asked, self._most_bytes = state.get("asked"), state.get("most_bytes")
        self._states, self._rounds = dict(state["states"]), [dict(row) for row in state["rounds"]]
        self._pruner.sensitivity = [
            (str(name), float(share), float(loss)) for name, share, loss in state["sensitivity"]
        ]
        if self._moving:
            self._moving.load(state["movement"])


def _selected(experiment: Experiment, parameters: Mapping[str, nn.Parameter], *, bare: bool) -> Selection:
    """Which parameters may go. Raises UsageError when none may, or a glob matches nothing."""
    from modelopt_cli.pruning.weights.choice import choose

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
