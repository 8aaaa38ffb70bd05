"""A module whose weights become 0: what prunes it, what is saved of it, and what it costs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, TypedDict

from modelopt_cli.experiment.expected_metrics import RATIO
from modelopt_cli.models.files.packed import pack_masks, unpack_masks
from modelopt_cli.models.measure import zeros
from modelopt_cli.models.summary import count_parameters, summarise
from modelopt_cli.workflows.pruning import tables
from modelopt_cli.workflows.pruning.amounts import search_amount
from modelopt_cli.workflows.pruning.snapshots import Snapshots
from modelopt_cli.workflows.shared.earlier_pruning import earlier_masks

if TYPE_CHECKING:
    from torch import Tensor, nn

    from modelopt_cli.data.raw import Task
    from modelopt_cli.experiment.experiment import Experiment
    from modelopt_cli.models.files.checkpoints import Checkpoint
    from modelopt_cli.models.graph.rewriting import Slices
    from modelopt_cli.pruning.weights.selection import Selection
    from modelopt_cli.results.report import Cell, Table
    from modelopt_cli.training.batches import Batch
    from modelopt_cli.training.hooks import StepHook
    from modelopt_cli.training.losses import Loss


_MUCH = 0.05  # of them: more than that is said even where it is less than one block
_NOISE = 0.001  # of the weights that may go: a share that each tensor rounds is missed by that much without a word


class MaskedState(TypedDict, total=False):
    """What a saved run holds of a masked model. Runs of earlier versions have no `asked` and `most_bytes`."""

    masks: dict[str, Tensor]
    states: dict[str, dict[str, Tensor]]
    rounds: list[dict[str, Cell]]
    asked: float | None
    most_bytes: float | None
    movement: dict[str, Tensor]
    sensitivity: list[list[str | float]]
    passes: float  # runs of earlier versions have none


class MaskedModel:
    """Pruned by a MaskStructure. The module that it is made for stays the one that is pruned."""

    def __init__(
        self,
        experiment: Experiment,
        module: nn.Module,
        *,
        samples: Callable[[int], Sequence[Batch]],
        loss: Loss,
        task: Task,
        validation_loss: Callable[[], float],
        bare: bool,
        masks: Mapping[str, Tensor] | None = None,
    ) -> None:
        """`samples`: so many train samples; `bare`: the weights come from a bare file, so its rules say which may go.

        `masks`: packed, of the file that the module came from. Raises UsageError where nothing can go.
        """
        from modelopt_cli.pruning.common.distances import distance_for
        from modelopt_cli.pruning.weights.collection import MovementMeter
        from modelopt_cli.pruning.weights.masking import Masking
        from modelopt_cli.pruning.weights.pruner import WeightPruner

        self._module, self._samples = module, samples
        settings = self._settings = experiment.require_pruning()
        parameters = dict(module.named_parameters())
        self._selection = _selected(experiment, parameters, bare=bare)
        self._zeros = {name: zeros(parameter) for name, parameter in parameters.items()}
        weights = {name: parameters[name] for name in self._selection.taken}
        held = unpack_masks(masks, parameters) if masks else earlier_masks(experiment.require_model(), parameters)
        spared = {name: parameters[name] for name in held if name not in weights}
        self.masking = Masking(weights, {name: mask for name, mask in held.items() if name in weights})
        self._earlier = Masking(spared, {name: held[name] for name in spared})  # what is left alone keeps its zeros
        self._meter = MovementMeter(weights) if "movement" in settings.weight_importance.needs else None
        self._asked: float | None = None  # the share that the last pruning was to reach
        self._most_bytes: float | None = None  # of a budget
        self._bytes: float | None = None  # that the compressed model takes, as last measured
        self.snapshots: Snapshots[dict[str, Tensor]] = Snapshots(_copied_state, self._copy_with)
        self._pruner = WeightPruner(
            module,
            settings,
            self.masking,
            batches=lambda: samples(settings.calibration),
            loss=loss,
            distance=distance_for(task),
            validation_loss=validation_loss,
            movement=self._meter.sums if self._meter else None,
        )

    # What prunes

    def prune(self, module: nn.Module, target: float) -> tuple[nn.Module, Slices]:
        """Prune to the share `target` of all that may go, or by this threshold; the module, which is the same.

        Then batch normalisation is measured anew, where the file asks for it. No tensor changes its shape.
        """
        from modelopt_cli.pruning.weights.pruner import recalibrate

        self._asked = target if self._settings.threshold is None and not self._settings.structure.fixed else None
        self._pruner.prune(target)
        if self._settings.recalibrate_batch_norm:
            recalibrate(module, self._samples(self._settings.calibration))
        return module, {}

    def hooks(self, *more: StepHook) -> list[StepHook]:
        """What takes part in every optimizer step: the meter sees gradients before they are masked; masks come last."""
        return [*([self._meter] if self._meter else []), *more, self.masking, self._earlier]

    def settle(self) -> None:
        """After training: apply the masks."""
        self.masking.apply()

    @property
    def counts(self) -> tuple[int, int]:
        """(weights that are 0 by a mask, weights that may be)"""
        return self.masking.counts

    @property
    def spared(self) -> Mapping[str, str]:
        """Tensor -> the rule that spares it."""
        return self._selection.spared

    def expected(self) -> tuple[float, float]:
        """(passes, seconds) that the allocation is likely to take in one pruning."""
        import time

        import torch

        from modelopt_cli.models.modes import evaluating

        allocation = self._settings.chosen_allocation
        tries = 0.0 if allocation is None else allocation.tries()
        if not tries:
            return 0.0, 0.0
        passes = tries * len(self.masking.weights) + 1.0
        batches = self._samples(self._settings.calibration)
        start = time.perf_counter()
        with torch.no_grad(), evaluating(self._module):
            self._module(batches[0].inputs)
        seconds = (time.perf_counter() - start) / len(batches[0].inputs)
        return passes, passes * seconds * sum(len(batch.inputs) for batch in batches)

    @property
    def probed(self) -> tuple[int, float]:
        """(cuts that the allocation tried out, passes over all its samples that it took for that)"""
        return len(self._pruner.sensitivity), self._pruner.passes

    def progress(self, module: nn.Module) -> dict[str, float]:
        """`model.sparsity`: the share of all parameters that is gone."""
        return {"model.sparsity": self.masking.counts[0] / max(count_parameters(module), 1)}

    def round_row(self, module: nn.Module) -> dict[str, Cell]:
        """How far a round went."""
        removed, total = self.masking.counts
        return {"weights gone": removed, "sparsity": removed / total}

    @property
    def warnings(self) -> list[str]:
        """No layer becomes all zeros silently, and no amount is missed without a word."""
        names = [name for name, mask in self.masking.masks.items() if mask.numel() and not bool(mask.any())]
        emptied = f"nothing is left of: {', '.join(names)}; set pruning.keep_at_least (e.g. 0.01)"
        return [*[emptied] * bool(names), *self._missed()]

    def _missed(self) -> list[str]:
        """What was asked and is not reached, beyond one unit of what goes together."""
        settings, (removed, total) = self._settings, self.masking.counts
        missed: list[str] = []
        together = settings.mask_structure.weights(self.masking.weights)
        let_pass = max(1.0, min(max(together, _NOISE * total), _MUCH * total))
        if self._asked is not None and abs(removed - self._asked * total) > let_pass:
            what = "amount" if settings.budget is None else f"budget.{settings.budget.of}"
            missed.append(
                f"pruning.{what} asks that {self._asked * total:,.0f} of the {total:,} weights that may go are gone, "
                f"but {removed:,} are ({removed / max(total, 1):.1%}): "
                f"{', '.join(self._holding(removed > self._asked * total))}"
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

    # What it costs

    noise: Sequence[str] = ()
    """Nothing is timed."""

    details: Mapping[str, object] = MappingProxyType({})

    def sizes(self, checkpoint: Checkpoint) -> dict[str, float]:
        """Parameters, what is not 0, the share that is 0, the bytes of the compressed model.pt; shares of what was.

        `checkpoint`: of the model, with numbers that stand for its metrics.
        """
        from modelopt_cli.models.files.checkpoints import file_sizes

        summary = summarise(self._module)
        removed, total = self.masking.counts
        share = 1.0 - summary["model.nonzero"] / max(summary["model.parameters"], 1.0)
        self._bytes = float(file_sizes(self.recorded(checkpoint))[1])
        packed = {"model.compressed_bytes": self._bytes}
        before = self.snapshots.module("before") or self._module
        were = {
            "model.nonzero": summarise(before)["model.nonzero"],
            "model.compressed_bytes": float(file_sizes(replace(checkpoint, model=before))[1]),
        }
        packed |= {name + RATIO: {**summary, **packed}[name] / value for name, value in were.items() if value}
        return {**summary, "model.sparsity": share, "pruning.sparsity": removed / max(total, 1), **packed}

    def speed(self, module: nn.Module) -> dict[str, float]:
        """Nothing: zeros make a model no faster."""
        return {}

    def amount_for_size(self, checkpoint: Checkpoint) -> float:
        """The share whose removal brings the compressed model.pt to the budget; by magnitude, which decides little."""
        import torch

        from modelopt_cli.models.files.checkpoints import file_sizes
        from modelopt_cli.pruning.allocations.global_ import Global

        budget, structure = self._settings.budget, self._settings.mask_structure
        assert budget is not None
        dense = {name: weight.detach().clone() for name, weight in self.masking.weights.items()}
        counts = {name: weight.numel() for name, weight in dense.items()}
        magnitudes = {name: weight.abs() for name, weight in dense.items()}
        floor = self._settings.keep_at_least

        def size(share: float) -> int:
            kept = structure.keep(
                magnitudes,
                torch.abs,
                self.masking.removed,
                lambda scores: Global().allocate_weights(scores, counts, share, keep_at_least=floor),
            )
            for name, weight in self.masking.weights.items():
                weight.data.masked_fill_(~kept[name], 0.0)
            try:
                return file_sizes(self.recorded(checkpoint))[1]
            finally:
                for name, weight in self.masking.weights.items():
                    weight.data.copy_(dense[name])

        self._most_bytes = budget.left(size(0.0))
        return search_amount(size, self._most_bytes, budget.described(self._most_bytes))

    def tables(self, module: nn.Module) -> dict[str, Table]:
        """`stages`: before, straight after the last pruning, at the end; `layers`; `rounds`; `sensitivity`."""
        names = [name for name, _ in module.named_parameters()]

        def left(saved: Mapping[str, Tensor] | None) -> dict[str, float]:
            state = saved or module.state_dict()
            kept = [state[name] for name in names]
            count = sum(tensor.numel() for tensor in kept)
            nonzero = count - sum(map(zeros, kept))
            return {"model.nonzero": nonzero, "model.sparsity": 1.0 - nonzero / max(count, 1)}

        columns = ("tensor", "sparsity", "validation.loss")
        return {
            "stages": self.snapshots.table(left),
            "layers": tables.masked_layers(module, self._zeros, self.spared),
            **tables.course_tables(
                self.snapshots.rounds, self._pruner.sensitivity, columns, self._settings.chosen_allocation
            ),
        }

    # What is saved

    def recorded(self, checkpoint: Checkpoint) -> Checkpoint:
        """The checkpoint with the masks, and what was done, so that it can be loaded and gone on with."""
        done = self._settings.model_dump(mode="json")
        masks = pack_masks(
            {**self.masking.masks, **self._earlier.masks}, {**self.masking.weights, **self._earlier.weights}
        )
        return replace(checkpoint, extra={**checkpoint.extra, "pruning": done, "masks": masks})

    def restore(self, module: nn.Module, trained: Checkpoint) -> nn.Module:
        """Take over the weights and masks of a model that was pruned before from the same setting; the module."""
        module.load_state_dict(trained.model.state_dict())
        self.masking.set(unpack_masks(trained.extra["masks"], self.masking.weights))
        return module

    def state(self, module: nn.Module) -> MaskedState:
        """What `load_state` needs to go on, beside the module's own."""
        from modelopt_cli.training.copies import copied

        return {
            "masks": copied(self.masking.masks, "cpu"),
            "states": self.snapshots.saved,
            "rounds": self.snapshots.rounds,
            "asked": self._asked,
            "most_bytes": self._most_bytes,
            "movement": copied(self._meter.sums, "cpu") if self._meter else {},
            "sensitivity": [list(row) for row in self._pruner.sensitivity],
            "passes": self._pruner.passes,
        }

    def load_state(self, module: nn.Module, state: MaskedState) -> nn.Module:
        """Go on from what `state` gave; the module, which is the same."""
        self.masking.set(state["masks"])
        self._asked, self._most_bytes = state.get("asked"), state.get("most_bytes")
        self.snapshots.load(state["states"], state["rounds"])
        self._pruner.passes = float(state.get("passes", 0.0))
        self._pruner.sensitivity = [
            (str(name), float(share), float(loss)) for name, share, loss in state["sensitivity"]
        ]
        if self._meter:
            self._meter.load(state["movement"])
        return module

    def _copy_with(self, weights: Mapping[str, Tensor]) -> nn.Module:
        """A copy of the module with the weights of a snapshot."""
        from modelopt_cli.models.duplicates import duplicate

        module = duplicate(self._module)
        module.load_state_dict(weights)
        return module


def _copied_state(module: nn.Module) -> dict[str, Tensor]:
    from modelopt_cli.training.copies import copied

    state: dict[str, Tensor] = copied(module.state_dict(), "cpu")
    return state


def _selected(experiment: Experiment, parameters: Mapping[str, nn.Parameter], *, bare: bool) -> Selection:
    """Which parameters may go. Raises UsageError when none may, or a glob matches nothing."""
    from modelopt_cli.pruning.weights.selection import choose

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
