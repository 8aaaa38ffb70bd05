"""Where the search for a smaller model begins, and what it tries besides: values of the experiment's pruning section.

What the file's own section says is the beginning, as far as it can be; what it leaves open is what the measurements in
docs/pruning.md and docs/measurements.md speak for: units by what they are worth to the layers that take them (obs), the
layers fitted anew (least_squares), cuts shared out by what they do to the outputs (divergence), recovery by the dense
model.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from modelopt_cli.core.errors import UsageError
from modelopt_cli.pruning.compensations import UnitCompensation
from modelopt_cli.pruning.importances import UnitImportance
from modelopt_cli.pruning.structures import UnitStructure
from modelopt_cli.training.settings import TrainingSettings
from modelopt_cli.workflows.compression.target.demands import is_latency

if TYPE_CHECKING:
    from modelopt_cli.experiment.experiment import Experiment
    from modelopt_cli.pruning.settings import PruningSettings

Recovery = Literal["none", "short", "full"]
"""How a try recovers: not at all; for a few epochs, by which settings are compared; or for all its epochs."""

IMPORTANCE, COMPENSATION, ALLOCATION = "obs", "least_squares", "divergence"
_CALIBRATION = 1024
_SHORT = 6  # a short recovery is this part of a full one, ...
_LEAST_SHORT, _MOST_SHORT = 2, 5  # ... but at least and at most so many epochs
_OF_TRAINING = 2  # a full recovery is this part of the training, where nothing says how long it is
_SLOWER = 5.0  # a model that was trained already may be spoilt by the learning rate that training began with
_ROUNDINGS = (16, 8)  # to multiples of which kernels of CPUs count channels: others can take longer than the whole
_IMPORTANCES = ("obs", "taylor", "l2")
_ALLOCATIONS = ("divergence", "global", "uniform")


@dataclass(frozen=True)
class Setting:
    """Values of the pruning section that one try has, beside how much goes and how long it recovers."""

    name: str
    values: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))

    def also(self, name: str, values: Mapping[str, Any]) -> Setting:
        """With other values in place of its own."""
        names = [each for each in self.name.split(", ") if each and each != AS_BEGUN]
        return Setting(", ".join([*names, name]), {**self.values, **values})


AS_BEGUN = "as begun"


@dataclass(frozen=True)
class Start:
    """The experiment to begin with. `schedule`: of the file's pruning, where it is not in one shot."""

    experiment: Experiment
    short: int  # epochs of a recovery
    full: int
    schedule: Mapping[str, Any] | None
    notes: tuple[str, ...]

    def epochs(self, recovery: Recovery) -> int:
        """Of a recovery."""
        return {"none": 0, "short": self.short, "full": self.full}[recovery]


def starting(experiment: Experiment) -> Start:
    """The experiment with a pruning section from which units can be taken out. Raises UsageError for what cannot be."""
    given = experiment.pruning
    notes: list[str] = []
    values: dict[str, Any] = {"pruning.budget": {"flops": "50%"}, "pruning.amount": None, "pruning.threshold": None}
    schedule: Mapping[str, Any] | None = None
    if given is None:
        values = {"pruning": {"budget": {"flops": "50%"}, **_defaults()}}
    else:
        if given.start == "initial":
            raise UsageError(
                f"{experiment.origin}: pruning.start is initial, which trains a model anew, but compress begins with "
                "the given one; leave it out"
            )
        values |= _fitting(given, notes)
        stages = given.schedule.stages(0.5)
        values["pruning.schedule"] = "one_shot"
        if any(stage.rewind is not None for stage in stages):
            notes.append(
                f"pruning.schedule is {given.schedule.name()}, which trains the model anew: it is not used here"
            )
        elif given.schedule.name() != "one_shot":
            schedule = given.schedule.model_dump(mode="json")
    training = experiment.training or TrainingSettings()
    own = None if given is None or given.recovery is None else given.recovery
    full = (own.epochs if own is not None else None) or math.ceil(training.epochs / _OF_TRAINING)
    short = min(full, max(_LEAST_SHORT, min(_MOST_SHORT, math.ceil(full / _SHORT))))
    if own is None:
        rate = _rate(training)
        slower = {} if rate is None else {"lr": rate / _SLOWER}
        values["pruning.recovery"] = {"epochs": full, "distillation": {}, **slower}
        if given is None:
            values["pruning"]["recovery"] = values.pop("pruning.recovery")
    else:
        values["pruning.recovery.epochs"] = full
    return Start(experiment.with_values(values), short, full, schedule, tuple(notes))


def _defaults() -> dict[str, Any]:
    """Of a pruning section that says nothing."""
    return {
        "structure": "neurons",
        "importance": IMPORTANCE,
        "allocation": ALLOCATION,
        "compensation": COMPENSATION,
        "calibration": _CALIBRATION,
    }


def _fitting(given: PruningSettings, notes: list[str]) -> dict[str, Any]:
    """What has to be other than the file says, so that units can go; `notes` are told why."""
    values: dict[str, Any] = {}
    if not isinstance(given.structure, UnitStructure):
        values["pruning.structure"] = "neurons"
        notes.append(
            f"pruning.structure is {given.structure.name()}, which sets zeros and makes nothing smaller or faster; "
            "neurons are taken out instead"
        )
    if not isinstance(given.importance, UnitImportance) or values:
        values["pruning.importance"] = IMPORTANCE
    if not isinstance(given.compensation, UnitCompensation) or values:
        values["pruning.compensation"] = COMPENSATION
    if values or given.allocation is None or given.allocation.absolute:
        values["pruning.allocation"] = ALLOCATION
    return values


@dataclass(frozen=True)
class Axis:
    """One thing that is tried in other ways. `resizes`: at the same share the models differ in what they cost."""

    name: str
    choices: tuple[tuple[str, Mapping[str, Any]], ...]
    resizes: bool = False


def axes(start: Start, metric: str, held: bool) -> list[Axis]:
    """What is tried besides the amount, in this order; `metric`: what is to be small.

    `held`: there are units that stay because statistics run over them.
    """
    pruning = start.experiment.require_pruning()
    guided = pruning.guidance is not None
    recovery: list[tuple[str, Mapping[str, Any]]] = [
        ("recovery from labels", {"pruning.recovery.distillation": None})
        if guided
        else ("recovery from the dense model", {"pruning.recovery.distillation": {}})
    ]
    training = start.experiment.training or TrainingSettings()
    own, whole = (_rate(each) for each in (pruning.recovery_over(training), training))
    if own is not None and own == whole:
        recovery.append(("a fifth of the learning rate", {"pruning.recovery.lr": own / _SLOWER}))
    elif own is not None and whole is not None and whole > own:
        recovery.append(("the training's learning rate", {"pruning.recovery.lr": whole}))
    allocation = pruning.chosen_allocation
    tried = [
        Axis("recovery", tuple(recovery)),
        Axis("allocation", _others("allocation", _ALLOCATIONS, allocation.name() if allocation else "")),
        Axis("importance", _others("importance", _IMPORTANCES, pruning.importance.name())),
    ]
    structures: list[tuple[str, Mapping[str, Any]]] = []
    if held:
        structures.append(("shift_statistics", {"pruning.structure.shift_statistics": True}))
    if is_latency(metric):
        structures += [_rounded(size) for size in _ROUNDINGS if size != pruning.neurons.round_to]
    return [Axis("structure", tuple(structures), resizes=True), *tried] if structures else tried


def _rate(training: TrainingSettings | None) -> float | None:
    """The learning rate of a training; None where its optimizer has none of its own."""
    rate = getattr(training.optimizer, "lr", None) if training is not None else None
    return float(rate) if isinstance(rate, int | float) else None


def beginnings(start: Start, metric: str, written: bool) -> list[Setting]:
    """With which ways of doing it the search begins, the first that is able to; `metric`: what is to be small.

    `written`: the file says what the structure is. Where it does not, and a time is to be small, channels are rounded.
    """
    begun = Setting(AS_BEGUN)
    if written or not is_latency(metric):
        return [begun]
    return [*(begun.also(*_rounded(size)) for size in _ROUNDINGS), begun]


def _rounded(size: int) -> tuple[str, Mapping[str, Any]]:
    return f"round_to {size}", {"pruning.structure.round_to": size}


def _others(what: str, names: tuple[str, ...], own: str) -> tuple[tuple[str, Mapping[str, Any]], ...]:
    return tuple((f"{what} {name}", {f"pruning.{what}": name}) for name in names if name != own)
