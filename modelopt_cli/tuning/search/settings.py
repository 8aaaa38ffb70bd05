"""The `tuning:` section: what is searched, by which sampler, how long, and where."""

from __future__ import annotations

import re
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from modelopt_cli.core.conditions import Condition, Goal
from modelopt_cli.core.errors import did_you_mean
from modelopt_cli.core.strategy import FAMILIES, Named, Settings
from modelopt_cli.core.types import Count, Items, Positive
from modelopt_cli.tuning.exchange.optuna_address import OptunaAddress
from modelopt_cli.tuning.executors import Executor
from modelopt_cli.tuning.samplers import Sampler
from modelopt_cli.tuning.schedulers import Scheduler
from modelopt_cli.tuning.search.fidelity import Fidelity
from modelopt_cli.tuning.search.stop_when import StopWhen
from modelopt_cli.tuning.space.rules import Rule
from modelopt_cli.tuning.stoppers import Stopper

__all__ = ["TuningSettings"]

_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}
_SIZE = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*([KMG]?i?B)?\s*$", re.IGNORECASE)


def _is_rule(text: str) -> bool:
    """Whether a text is no condition on a metric, but a rule between paths."""
    for kind in (Condition, Rule):
        try:
            kind.parse(text)
        except ValueError:
            continue
        return kind is Rule
    return False


def _default_sampler() -> Any:
    return FAMILIES["samplers"].get("bayesian")()


class TuningSettings(Settings):
    """Options of a search."""

    path_fields: ClassVar[tuple[str, ...]] = ("warm_start",)

    workflow: Literal["train", "prune", "distill", "compress", "command"] = Field(
        "train", description="The workflow that a trial runs."
    )
    objective: str | Items[str] = Field(
        description="maximize METRIC or minimize METRIC; a list of them searches for the best compromises."
    )
    constraints: Items[str] = Field((), description="Conditions that a setting must meet to be best.")
    rules: Items[str] = Field(
        (),
        description="What must hold between searched values, such as model.hidden.0 >= model.hidden.1: combinations "
        "that are never tried.",
    )
    reference: Items[float] | None = Field(
        None,
        description="Several objectives: the worst values worth having, one each: the front's hypervolume is "
        "measured from there; null: a tenth of the front's range beyond its worst values.",
    )
    sampler: Annotated[Sampler, Named("samplers")] = Field(
        default_factory=_default_sampler, description="What chooses the next setting."
    )
    stopper: Literal["auto"] | Annotated[Stopper, Named("stoppers")] | None = Field(
        None,
        description="What ends a trial that is not worth going on with; auto: one that suits what trials report, or "
        "none, as the plan says.",
    )
    scheduler: Literal["auto"] | Annotated[Scheduler, Named("schedulers")] | None = Field(
        None,
        description="What shares out the steps of all trials, where that is not left to sampler and stopper; auto: one "
        "that suits the steps, their time and the trials, or none, as the plan says.",
    )
    fidelity: Fidelity | None = Field(
        None, description="Steps that are parts of the train split, for models without epochs or dear data."
    )
    executor: Literal["auto"] | Annotated[Executor, Named("executors")] = Field(
        "auto",
        description="Where trials run; auto: worker processes where they save time, as many as cores, GPUs and free "
        "memory allow, else this process; never ray.",
    )
    trials: Count | None = Field(
        None, description="Trials in all; null: every setting of a finite space, else until timeout or stop_when."
    )
    stop_when: StopWhen | None = Field(None, description="What ends the search before its last trial.")
    workers: Count | None = Field(None, description="Trials at a time; null: as many as the cores allow.")
    timeout: Positive | None = Field(None, description="Seconds after which no trial goes on.")
    trial_timeout: Positive | None = Field(None, description="Seconds after which a trial has failed.")
    trial_memory: str | int | None = Field(
        None, description="Memory above which a trial has failed: bytes, or a text such as 2GB or 512MiB."
    )
    max_failures: Count | None = Field(10, description="Failures in a row after which the search ends.")
    cheap_first: Literal["auto", False] | Count = Field(
        "auto",
        description="First trials that keep the file's own values of what early stages depend on, and vary the later "
        "ones alone; auto: a third of the trials, at least 4.",
    )
    start_from_file: bool = Field(True, description="Trial 0 is the file's own values (not for a grid).")
    initial: Items[dict[str, Any]] = Field((), description="Settings to try first: a list of {path: value}.")
    warm_start: Items[str] = Field(
        (),
        description="Earlier runs whose trials the sampler shall know: directories, study.sqlite files, or studies of "
        "Optuna's, such as optuna:sqlite:///old.db.",
    )
    refit: Literal["train+validation"] | None = Field(
        None, description="Train the best setting again on both splits before it is saved."
    )
    repeats: bool = Field(
        False,
        description="Noisy results: try a setting again where that teaches more than a new one; best is then what is "
        "believed best.",
    )
    space: dict[str, Any] = Field(default_factory=dict, description="Dotted path into this file -> what to try there.")

    @field_validator("objective")
    @classmethod
    def _goals_parse(cls, value: str | tuple[str, ...]) -> str | tuple[str, ...]:
        texts = [value] if isinstance(value, str) else value
        if not texts:
            raise ValueError("objective is empty; write e.g. maximize validation.accuracy")
        for text in texts:
            split = Goal.parse(text).metric.partition(".")[0]
            if split == "test":
                raise ValueError(
                    f"the objective '{text}' looks at the test split, which is read only after every choice is made; "
                    "use validation instead"
                )
        return value

    @field_validator("constraints")
    @classmethod
    def _conditions_parse(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for text in value:
            if _is_rule(text):
                raise ValueError(f"the constraint '{text}' compares no metric with a number; write it to tuning.rules")
            if Condition.parse(text).metric.startswith("test."):
                raise ValueError(f"the constraint '{text}' looks at the test split; use validation instead")
        return value

    @field_validator("rules")
    @classmethod
    def _rules_parse(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for text in value:
            Rule.parse(text)
        return value

    @field_validator("warm_start")
    @classmethod
    def _addresses_parse(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for text in value:
            OptunaAddress.parse(text)
        return value

    @field_validator("reference")
    @classmethod
    def _reference_fits(cls, value: tuple[float, ...] | None, info: ValidationInfo) -> tuple[float, ...] | None:
        objective = info.data.get("objective", ())
        count = 1 if isinstance(objective, str) else len(objective)
        if value is not None and count == 1:
            raise ValueError(f"reference is {list(value)}, but serves several objectives only; leave it out")
        if value is not None and count and len(value) != count:
            raise ValueError(f"reference is {list(value)}, but must be {count} numbers, one for each objective")
        return value

    @field_validator("cheap_first", mode="before")
    @classmethod
    def _is_no_yes(cls, value: Any) -> Any:
        if value is True:
            raise ValueError("cheap_first is true, but must be auto, false, or how many trials come first")
        return value

    @field_validator("trial_memory")
    @classmethod
    def _memory_parses(cls, value: str | int | None) -> str | int | None:
        if isinstance(value, str) and not _SIZE.match(value):
            raise ValueError(f"trial_memory is '{value}', but must be bytes or a text such as 2GB or 512MiB")
        if isinstance(value, int) and value < 1:
            raise ValueError(f"trial_memory is {value}, but must be above 0")
        return value

    @field_validator("stopper", "scheduler", "executor", mode="before")
    @classmethod
    def _auto_is_known(cls, value: Any, info: ValidationInfo) -> Any:
        """The family's names, which an error lists, lack `auto`."""
        names = FAMILIES[f"{info.field_name}s"].names()
        if isinstance(value, str) and value not in names:
            hint = did_you_mean(value, ["auto"])
            if hint and value != "auto" and not did_you_mean(value, names):
                raise ValueError(f"unknown {info.field_name} '{value}'.{hint}")
        return value

    @field_validator("stopper", "scheduler", mode="before")
    @classmethod
    def _of_that_kind(cls, value: Any, info: ValidationInfo) -> Any:
        """Both end trials early, so that one is easily written for the other."""
        name = value.get("type") if isinstance(value, dict) else value
        other = "scheduler" if info.field_name == "stopper" else "stopper"
        if (
            isinstance(name, str)
            and name in FAMILIES[f"{other}s"].names()
            and (name not in FAMILIES[f"{info.field_name}s"].names())
        ):
            raise ValueError(f"'{name}' is a {other}; write {other}: {name}")
        return value

    @model_validator(mode="after")
    def _scheduler_fits(self) -> Self:
        if self.scheduler == "auto" and isinstance(self.stopper, Stopper):
            raise ValueError(
                f"scheduler is auto, but the stopper {self.stopper.name()} ends trials already; leave out one of them, "
                "or write stopper: auto, which serves where no scheduler suits"
            )
        if not isinstance(self.scheduler, Scheduler):
            return self
        name = self.scheduler.name()
        if self.stopper is not None:
            raise ValueError(f"the scheduler {name} decides itself which trials stop; remove tuning.stopper")
        if not self.scheduler.several_objectives and (len(self.goals) > 1 or self.constraints):
            raise ValueError(
                f"the scheduler {name} looks at one objective and at no constraints; use a stopper such as asha instead"
            )
        if self.trials is None and self.timeout is None:
            raise ValueError(f"the scheduler {name} shares out the steps of tuning.trials; write it, or tuning.timeout")
        return self

    @model_validator(mode="after")
    def _fidelity_fits(self) -> Self:
        if self.fidelity is None:
            return self
        if self.workflow != "train":
            raise ValueError(
                f"fidelity trains on parts of the train split, but trials run the workflow {self.workflow}; leave it "
                "out: stoppers and schedulers look at what such a trial reports by itself"
            )
        if "auto" in (self.stopper, self.scheduler):
            return self
        looking = self.named_stopper or self.named_scheduler
        if looking is None:
            raise ValueError(
                "fidelity lets trials report from parts of the train split, but nothing looks at that; "
                "write stopper: asha, or scheduler: bohb, or leave it out"
            )
        if not looking.sizes:
            raise ValueError(
                f"{looking.name()} makes no sense of trials that train on growing parts of the data; "
                "write stopper: asha, or leave out fidelity"
            )
        return self

    @model_validator(mode="after")
    def _repeats_fit(self) -> Self:
        if self.repeats and len(self.goals) > 1:
            raise ValueError(
                f"repeats looks for the setting that is believed best in one objective, but there are "
                f"{len(self.goals)}; leave repeats out, or name one objective"
            )
        return self

    @model_validator(mode="after")
    def _stop_when_fits(self) -> Self:
        problem = None if self.stop_when is None else self.stop_when.problem(len(self.goals))
        if problem is not None:
            raise ValueError(problem)
        return self

    @property
    def named_stopper(self) -> Stopper | None:
        """The stopper; None: there is none, or `auto` has not been decided."""
        return self.stopper if isinstance(self.stopper, Stopper) else None

    @property
    def named_scheduler(self) -> Scheduler | None:
        """The scheduler; None: there is none, or `auto` has not been decided."""
        return self.scheduler if isinstance(self.scheduler, Scheduler) else None

    @property
    def goals(self) -> tuple[Goal, ...]:
        """The objectives, parsed."""
        texts = [self.objective] if isinstance(self.objective, str) else self.objective
        return tuple(Goal.parse(text) for text in texts)

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """The constraints, parsed."""
        return tuple(Condition.parse(text) for text in self.constraints)

    @property
    def metrics(self) -> list[str]:
        """What the objectives, the constraints and `stop_when` look at."""
        names = [goal.metric for goal in self.goals] + [condition.metric for condition in self.conditions]
        return names + ([] if self.stop_when is None else self.stop_when.metrics())

    @property
    def trial_memory_bytes(self) -> int | None:
        """`trial_memory` in bytes."""
        if not isinstance(self.trial_memory, str):
            return self.trial_memory
        match = _SIZE.match(self.trial_memory)
        return None if match is None else int(float(match[1]) * _UNITS[(match[2] or "").upper()])
