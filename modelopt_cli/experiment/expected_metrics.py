"""Which metrics a run will report, before it runs: from the file alone, or from what is known of the data.

A metric's name follows from few things: the workflow, the kind of model, the task, the splits that there are. What is
named in an objective, a constraint, a gate or a monitor can so be refused before anything is trained. The tests run
every workflow and compare what it reports with what is said here.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import cache
from typing import TYPE_CHECKING, Literal

from modelopt_cli.experiment.evaluation import LATENCY, LatencySettings
from modelopt_cli.pruning.structures import UnitStructure
from modelopt_cli.training.metrics.names import LOWER_IS_BETTER, RANKED, metric_name, names

if TYPE_CHECKING:
    from modelopt_cli.data.raw import Task
    from modelopt_cli.data.sources import DataSource
    from modelopt_cli.distillation.settings import DistillationSettings
    from modelopt_cli.experiment.sections import Sections

Workflow = Literal["train", "prune", "distill", "compress", "command"]

SPLITS = ("validation", "test")
"""Those that a report has metrics of. (`modelopt evaluate --split train` judges the third.)"""
CHANGES = ("_drop", "_rise")
"""What the metrics end with that tell what a pruning cost, by whether more is better or less."""
RATIO = "_ratio"
"""What a cost's name ends with that is a share of the same of the model before, or of the teacher: 0.1 is a tenth."""
GAP = "gap_closed"
"""The metric of a distillation, after the split: the share of the way from student alone to teacher."""
SAMPLES = "train.samples"
"""The metric that tells how many samples a size of tuning.fidelity is."""
DEVIATION = "_std"
"""What a standard deviation's name ends with, after the name of what deviates."""

_SIZES = ("model.parameters", "model.nonzero", "model.size_bytes")
EARLY_COSTS = (*_SIZES, "model.macs", "model.flops")
"""Costs, beside latencies, that follow from a module's shape: a trial that may be stopped tells them as it goes on."""
_MASKED = (*_SIZES, "model.sparsity", "model.compressed_bytes", "pruning.sparsity")
_MEASURED = ("model.macs", "model.flops", "model.file_bytes")
_SMALLER = ("model.compressed_bytes", "pruning.units_removed")
_NEEDED = ("model.parameters", "model.size_bytes", *_MEASURED)
"""What a model needs, beside time: each is compared with what another model needs."""


def is_latency(metric: str) -> bool:
    """Whether it is a time of a forward pass, or its ratio to another model's."""
    return metric == LATENCY or metric.startswith((f"{LATENCY}_", f"{LATENCY}{RATIO}"))


def is_cost(metric: str) -> bool:
    """Whether it is about what a model costs, and takes time to measure, or another model to compare with."""
    return is_latency(metric) or metric in _MEASURED or (metric.startswith("model.") and metric.endswith(RATIO))


@dataclass(frozen=True)
class DataFacts:
    """What the data say once they are read. `lacking`: metrics of the task that this estimator cannot have."""

    task: Task
    classes: int
    splits: frozenset[str]
    lacking: frozenset[str] = frozenset()


@dataclass(frozen=True)
class ExpectedMetrics:
    """All that decides which metrics a run reports. `tasks` and `perhaps` (splits) hold what is not known yet."""

    workflow: Workflow
    framework: Literal["torch", "sklearn"]
    tasks: tuple[Task, ...]
    classes: int | None  # None: not known
    splits: frozenset[str]
    perhaps: frozenset[str] = frozenset()
    lacking: frozenset[str] | None = None  # None: not known
    own: tuple[str, ...] = ()
    folded: bool = False
    units: bool = False
    taught: bool = False  # by a teacher, with the student alone beside it
    sized: bool = False
    latency: tuple[str, ...] = ()  # the metrics of the times that are measured
    compared: bool = False  # with a teacher that is a torch module, as far as is known

    def knowing(self, facts: DataFacts) -> ExpectedMetrics:
        """The same once the data have been read."""
        return replace(
            self,
            tasks=(facts.task,),
            classes=facts.classes,
            splits=facts.splits,
            perhaps=frozenset(),
            lacking=facts.lacking,
        )

    @property
    def possible(self) -> frozenset[str]:
        """Every metric that the report may hold, as far as is known. Some are undefined for the samples at hand."""
        return _possible(self)

    @property
    def certain(self) -> frozenset[str]:
        """Those of `possible` that reading the data takes away no more."""
        known = [replace(self, tasks=(task,), classes=self.classes or 0, perhaps=frozenset()) for task in self.tasks]
        if self.framework == "sklearn" and self.lacking is None:
            known = [replace(each, lacking=RANKED) for each in known]
        return frozenset.intersection(*(each.possible for each in known))

    @property
    def early(self) -> frozenset[str]:
        """Metrics that a run reports while it is under way, by which trials can be ended."""
        if self.framework == "sklearn" or self.folded or self.sized:
            return frozenset(name for name in self.possible if not name.startswith("test."))
        costs = {*EARLY_COSTS, *self.latency} & self.possible
        progress = {"prune": {"model.parameters"} if self.units else {"model.sparsity"}}.get(self.workflow, set())
        return frozenset({"train.loss", *progress, *costs}) | (self._scores & self.possible)

    @property
    def monitored(self) -> frozenset[str]:
        """Metrics that an epoch can be judged by."""
        splits = ("train", "validation") if self.judged("validation") else ("train",)
        return frozenset(f"{split}.{name}" for split in splits for name in self._plain_names)

    def judged(self, split: str) -> bool:
        """Whether there may be such a split."""
        return split in self.splits or split in self.perhaps

    @property
    def _plain_names(self) -> tuple[str, ...]:
        """Metrics of a model on some samples, without the split."""
        by_task = [name for task in self.tasks for name in names(task, 2 if self.classes is None else self.classes)]
        loss = ["loss"] if self.framework == "torch" else []
        kept = [name for name in (*loss, *by_task) if name not in (self.lacking or ())]
        return tuple(dict.fromkeys([*kept, *self.own]))

    @property
    def _scores(self) -> frozenset[str]:
        return frozenset(f"validation.{name}" for name in self._plain_names)


@cache
def _possible(run: ExpectedMetrics) -> frozenset[str]:
    possible: set[str] = {"train.seconds"}
    for split in SPLITS:
        if run.judged(split):
            possible |= {f"{split}.{name}" for name in run._plain_names}
            changes = run.workflow in ("prune", "compress") or run.compared
            possible |= {f"{split}.{_change(name)}" for name in run._plain_names if changes}
            possible |= {f"{split}.{GAP}"} if run.taught else set()
    if run.folded:
        possible |= {f"validation.{name}{DEVIATION}" for name in run._plain_names}
    if run.framework == "sklearn":
        possible.add("model.size_bytes")
    else:
        possible.add("train.epochs")
        costs = {*_NEEDED, *run.latency}
        if run.workflow == "prune" and run.units:
            possible |= {*costs, *_SMALLER, *_ratios({*costs, "model.compressed_bytes"})}
        elif run.workflow == "prune":
            possible |= {*_MASKED, *_ratios(("model.nonzero", "model.compressed_bytes"))}
        elif run.workflow == "distill":
            possible |= {*_SIZES, *costs, *(_ratios(costs) if run.compared else ())}
        elif run.workflow == "compress":
            costs |= {"model.nonzero", "model.compressed_bytes"}
            possible |= {*costs, "model.sparsity", *_ratios(costs)}
        else:
            possible |= {*_SIZES, *run.latency}
    return frozenset(possible | ({SAMPLES} if run.sized else set()))


def _ratios(costs: Iterable[str]) -> set[str]:
    return {name + RATIO for name in costs}


def _change(name: str) -> str:
    return name + CHANGES[name in LOWER_IS_BETTER]


def expect_metrics(
    experiment: Sections, workflow: Workflow, *, searched: bool = False, facts: DataFacts | None = None
) -> ExpectedMetrics | None:
    """What is known beforehand of a run of the experiment; None for a script, which reports what it likes.

    `searched`: a trial of a search runs the workflow. `facts`: the data have been read.
    """
    if workflow == "command" or experiment.model is None or experiment.data is None:
        return None
    folded = experiment.evaluation.cv is not None and workflow == "train"
    sure, perhaps = _splits(experiment.data, folded=folded)
    pruning, distillation = experiment.pruning, experiment.distillation
    tuning = experiment.tuning if searched else None
    latency = experiment.evaluation.latency
    if latency is None and workflow != "train":
        latency = LatencySettings()
    expected = ExpectedMetrics(
        workflow=workflow,
        framework=experiment.model.framework,
        tasks=experiment.data.tasks(),
        classes=experiment.data.only_classes,
        splits=sure,
        perhaps=perhaps,
        own=tuple(dict.fromkeys(map(metric_name, experiment.evaluation.metrics))),
        folded=folded,
        units=workflow == "prune" and pruning is not None and isinstance(pruning.structure, UnitStructure),
        taught=workflow == "distill"
        and distillation is not None
        and bool(distillation.given_teachers)
        and (distillation.baseline or searched),
        sized=tuning is not None and tuning.fidelity is not None,
        latency=() if latency is None or folded else latency.metrics,
        compared=workflow == "distill" and distillation is not None and _compared(distillation),
    )
    return expected if facts is None else expected.knowing(facts)


def _compared(distillation: DistillationSettings) -> bool:
    """Whether the (first) teacher may be a torch module; one in a file may turn out to be an estimator."""
    first = next(iter(distillation.given_teachers), None)
    return first is not None and (first.model is None or first.model.framework == "torch")


def _splits(data: DataSource, *, folded: bool) -> tuple[frozenset[str], frozenset[str]]:
    """(splits that there are, splits that there may be)"""
    own = frozenset({"test"}) if data.brings_test else frozenset()
    if data.splits is None:
        if folded:  # all that is not the data's own test split
            return frozenset({"validation"}), own
        return frozenset(SPLITS), frozenset()
    sure = {"validation"} if folded or _some(data.splits.validation) else set()
    if data.splits.test is not None:
        return frozenset(sure | ({"test"} if _some(data.splits.test) else set())), frozenset()
    return frozenset(sure), own


def _some(part: float | Collection[int]) -> bool:
    return bool(part) if isinstance(part, int | float) else len(part) > 0


def nearest(metric: str, known: Iterable[str]) -> str | None:
    """The known metric that was probably meant: the same without its split, else the one most alike."""
    options = sorted(known, key=lambda name: (name.startswith("test."), name))  # on test only where nothing else is
    same = [name for name in options if name.partition(".")[2] == metric.rpartition(".")[2]]
    inside = [name for name in same if metric.rpartition(".")[0] in ("", "val", "valid", "dev", "eval")]
    near = get_close_matches(metric, options, n=1, cutoff=0.6)
    split = get_close_matches(metric.partition(".")[0], SPLITS, n=1)
    if near and near[0].startswith("test.") and split != ["test"]:
        near = [name for name in (near[0].replace("test.", "validation.", 1),) if name in options] or near
    return next(iter(inside or near or same), None)


def listed(known: Iterable[str]) -> str:
    """All names, in few words: `after validation. and test.: accuracy, f1; beside these: train.seconds`."""
    known = set(known)
    by_split = {split: {name.partition(".")[2] for name in known if name.startswith(f"{split}.")} for split in SPLITS}
    parts = []
    if by_split["validation"] and by_split["validation"] == by_split["test"]:
        parts.append(f"after validation. and test.: {', '.join(sorted(by_split['test']))}")
    else:
        parts += [f"after {split}.: {', '.join(sorted(names))}" for split, names in by_split.items() if names]
    rest = sorted(name for name in known if name.partition(".")[0] not in SPLITS)
    if rest:
        parts.append(f"{'beside these' if parts else 'these'}: {', '.join(rest)}")
    return "; ".join(parts) or "none"
