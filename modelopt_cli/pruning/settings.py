"""The `pruning:` section: what goes, by which criterion, how much, when, and how the model recovers."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from modelopt_cli.core.strategy import FAMILIES, Named, Settings, Strategy
from modelopt_cli.core.types import Count, Items
from modelopt_cli.pruning.allocations import Allocation
from modelopt_cli.pruning.allocations.global_ import Global
from modelopt_cli.pruning.allocations.threshold import Threshold
from modelopt_cli.pruning.budget import OF_MASKS, OF_UNITS, Budget
from modelopt_cli.pruning.compensations import Compensation, UnitCompensation, WeightCompensation
from modelopt_cli.pruning.compensations.none import NoCompensation
from modelopt_cli.pruning.importances import Importance, UnitImportance, WeightImportance
from modelopt_cli.pruning.importances.magnitude import Magnitude
from modelopt_cli.pruning.schedules import PruningSchedule
from modelopt_cli.pruning.schedules.one_shot import OneShot
from modelopt_cli.pruning.structures import MaskStructure, Structure, UnitStructure
from modelopt_cli.pruning.structures.neurons import Neurons
from modelopt_cli.pruning.structures.weights import Weights
from modelopt_cli.training.recovery import Recovery
from modelopt_cli.training.settings import TrainingSettings

__all__ = ["Budget", "PruningSettings", "Recovery"]

_Share = Annotated[float, Field(ge=0.0, lt=1.0)]


def _made_for(base: type[Strategy], family: str) -> list[str]:
    """The names in the family that are of the base."""
    return [name for name in FAMILIES[family].names() if issubclass(FAMILIES[family].get(name), base)]


class PruningSettings(Settings):
    """Options of pruning. Importance, structure, allocation and schedule are chosen apart from each other."""

    structure: Annotated[Structure, Named("structures")] = Field(
        Weights(),
        description="What goes on its own.",
    )
    importance: Annotated[Importance, Named("importances")] = Field(
        Magnitude(),
        description="What tells how much a weight matters.",
    )
    allocation: Annotated[Allocation, Named("allocations")] | None = Field(
        None, description="How the amount is shared out; null: global, and with a threshold: threshold."
    )
    threshold: Annotated[float, Field(ge=0.0)] | None = Field(
        None,
        description="What scores below this goes. One of threshold, amount, budget; a fixed structure has none.",
    )
    amount: _Share | None = Field(None, description="Share that goes of all that may go.")
    budget: Budget | None = Field(None, description="What may be left.")
    schedule: Annotated[PruningSchedule, Named("pruning_schedules")] = Field(
        OneShot(),
        description="When how much goes.",
    )
    recovery: Recovery | None = Field(None, description="Training after each pruning; null: none.")
    compensation: Annotated[Compensation, Named("compensations")] = Field(
        NoCompensation(),
        description="How what stays makes up for what goes, before any recovery.",
    )
    start: Literal["trained", "initial"] = Field(
        "trained", description="Prune the trained model; or the untrained one, whose recovery then is its training."
    )
    include: Items[str] = Field((), description="Globs over parameter names: prune these only.")
    exclude: Items[str] = Field((), description="Globs over parameter names: leave these alone.")
    all: bool = Field(False, description="Spare no parameter by its name or shape.")
    keep_at_least: _Share = Field(0.0, description="Share of every tensor that stays, so that none is emptied.")
    calibration: Count = Field(512, description="Train samples that importances and compensations look at.")
    recalibrate_batch_norm: bool = Field(
        False, description="Measure batch normalisation's statistics anew after pruning, on calibration samples."
    )

    @model_validator(mode="after")
    def _how_much(self) -> Self:
        given = [name for name in ("threshold", "amount", "budget") if getattr(self, name) is not None]
        named = " and ".join(given) or "none of them"
        if self.structure.fixed:
            if given:
                raise ValueError(
                    f"structure {self.structure.name()} says itself how much goes, so {named} has no meaning; "
                    "leave it out"
                )
        elif len(given) != 1:
            raise ValueError(
                f"say how much goes by exactly one of threshold, amount and budget; found {named}, "
                "e.g. pruning: {amount: 0.9}"
            )
        return self

    @model_validator(mode="after")
    def _allocation_fits(self) -> Self:
        if self.allocation is None:
            return self
        name = self.allocation.name()
        if self.structure.fixed:
            raise ValueError(f"structure {self.structure.name()} leaves nothing to allocate; leave out allocation")
        if self.allocation.absolute != (self.threshold is not None) and name != "global":
            rule = "compares scores with a threshold" if self.allocation.absolute else "shares out an amount"
            remedy = "set threshold" if self.allocation.absolute else "set amount or budget, or leave out allocation"
            raise ValueError(f"allocation {name} {rule}; {remedy}")
        return self

    @model_validator(mode="after")
    def _structure_fits(self) -> Self:
        units, what = isinstance(self.structure, UnitStructure), f"structure {self.structure.name()}"
        base = UnitImportance if units else WeightImportance
        if not isinstance(self.importance, base):
            raise ValueError(
                f"importance {self.importance.name()} scores {'weights, no units' if units else 'units, no weights'}; "
                f"with {what} use one of {', '.join(_made_for(base, 'importances'))}"
            )
        if self.budget is not None and self.budget.of not in (OF_UNITS if units else OF_MASKS):
            right = "nonzero is about zeros" if units else "zeros change neither parameters, nor flops, nor latency"
            raise ValueError(
                f"a budget of {self.budget.of} does not go with {what}: {right}; use one of "
                f"{', '.join(OF_UNITS if units else OF_MASKS)}, or {'another structure' if units else 'neurons'}"
            )
        made_for = UnitCompensation if units else WeightCompensation
        if not isinstance(self.compensation, made_for):
            raise ValueError(
                f"compensation {self.compensation.name()} makes up for {'weights' if units else 'units'}; with {what} "
                f"use one of {', '.join(_made_for(made_for, 'compensations'))}"
            )
        return self

    @model_validator(mode="after")
    def _schedule_fits(self) -> Self:
        stages = self.schedule.stages(None if self.threshold is not None or self.structure.fixed else 0.5)
        name = self.schedule.name()
        if any(stage.rewind is not None for stage in stages):
            if self.recovery is not None:
                raise ValueError(f"schedule {name} repeats the training section's training; leave out recovery")
            if self.start == "initial":
                raise ValueError(f"schedule {name} rewinds a trained model; leave out start: initial")
            if isinstance(self.structure, UnitStructure):
                raise ValueError(
                    f"schedule {name} rewinds weights, but structure {self.structure.name()} takes their places away; "
                    "use rounds"
                )
        elif self.recovery is None and any(len(stage.marks) > 1 for stage in stages) and self.start == "trained":
            raise ValueError(
                f"schedule {name} prunes while the model recovers; add recovery, e.g. recovery: {{epochs: 5}}"
            )
        return self

    @property
    def weight_importance(self) -> WeightImportance:
        """The importance, where the structure sets weights to 0."""
        assert isinstance(self.importance, WeightImportance)
        return self.importance

    @property
    def unit_importance(self) -> UnitImportance:
        """The importance, where the structure takes units out."""
        assert isinstance(self.importance, UnitImportance)
        return self.importance

    @property
    def weight_compensation(self) -> WeightCompensation:
        """The compensation, where the structure sets weights to 0."""
        assert isinstance(self.compensation, WeightCompensation)
        return self.compensation

    @property
    def unit_compensation(self) -> UnitCompensation:
        """The compensation, where the structure takes units out."""
        assert isinstance(self.compensation, UnitCompensation)
        return self.compensation

    @property
    def neurons(self) -> Neurons:
        """The structure, where it takes units out."""
        assert isinstance(self.structure, Neurons)
        return self.structure

    @property
    def mask_structure(self) -> MaskStructure:
        """The structure, where it sets weights to 0."""
        assert isinstance(self.structure, MaskStructure)
        return self.structure

    @property
    def chosen_allocation(self) -> Allocation | None:
        """The allocation, by default global or threshold; None for a structure that leaves nothing to allocate."""
        if self.structure.fixed:
            return None
        if self.threshold is not None:
            return Threshold()
        return self.allocation or Global()

    def recovery_over(self, training: TrainingSettings) -> TrainingSettings | None:
        """The settings of a recovery; None: there is none."""
        recovery = self.recovery if self.recovery is not None or self.start == "trained" else Recovery()
        return None if recovery is None else recovery.over(training)
