"""What `Report.details` holds, for each kind of report. Keys are those of report.json; old files may lack some."""

from __future__ import annotations

from typing import Any, TypedDict


class EarlyStopping(TypedDict):
    """Which samples a booster's early stopping went by."""

    samples: int
    of: int
    split: str
    drawn: str


class DataDetails(TypedDict):
    """What a report's data are. Of very many columns the first are named, those with missing cells before others."""

    source: str  # data.type
    samples: int
    inputs: list[str] | list[int]  # names of a table's columns, or the shape of a sample
    columns: int | None  # of a table, also those that are not named; None: no table
    task: str
    classes: int | None  # or labels; None: a regression
    targets: int | None  # values that a regression predicts; None: another task
    weighted: bool  # whether samples have weights, by which metrics are reckoned


class TrainingDetails(TypedDict, total=False):
    """Of a training, and of the model that other runs ended with."""

    data: DataDetails
    calibration_error: dict[str, float]  # split -> expected calibration error
    positive_class: str  # which one the metrics of two classes are about
    data_fingerprint: str  # a hash of the data's content
    early_stopping: EarlyStopping
    seeds: list[int]  # where the run was repeated
    latency: str  # how it was measured


class BestPosterior(TypedDict):
    """What the best setting of a search with noisy results is thought to be worth."""

    metric: str
    times: int
    mean: float
    deviation: float | None
    believed: float
    uncertainty: float
    noise: float


class Baseline(TypedDict):
    """The trial that had the file's own values."""

    trial: int
    state: str
    metrics: dict[str, float]


class SearchSummary(TypedDict, total=False):
    """What a search came to, also one that has not ended."""

    trials: dict[str, int]  # state -> how many
    failures: dict[str, int]  # nan | memory | crash | timeout | error -> how many failed thus
    baseline: Baseline
    improvement: dict[str, float]  # objective -> by how much the best trial is better than the baseline, in its unit


class SearchDetails(TrainingDetails, SearchSummary, total=False):
    """Of a search; `workflow` is the command that runs its best setting."""

    objective: list[str]
    space: list[dict[str, str]]  # path, kind, range, when: of each parameter
    workflow: str
    ended: str
    why: str
    importance_missing: dict[str, str]  # metric -> why nothing can be said
    front: list[int]  # numbers of trials
    hypervolume: float
    reference: dict[str, float]  # metric -> the corner up to which the hypervolume goes
    believed: BestPosterior


class PickDetails(TrainingDetails, total=False):
    """Of one trial that was picked out of a search."""

    search: str  # the run directory
    trial: int
    workflow: str  # the command that runs its setting
    objective: list[str]  # of the search
    where: list[str]  # conditions that it had to meet
    by: list[str]  # what decided among those that met them
    why: str  # both in words
    meeting: int  # how many met them
    among: int  # of how many
    refined: bool
    changed: dict[str, Any]  # path -> value, of what was trained out
    gain: dict[str, float]  # metric -> value now less the trial's


class PlanDetails(TypedDict, total=False):
    """Of a dry run."""

    space: list[dict[str, str]]  # path, kind, range, when: of each parameter
    objective: list[str]
    dry_run: bool


class PruningDetails(TrainingDetails, total=False):
    """Of a pruning by an experiment file, of weights or of units."""

    pruning: dict[str, Any]  # the section, resolved
    asked: dict[str, Any]  # threshold, amount or budget; or the structure, where that says how much
    reached: dict[str, float]
    spared: dict[str, int]  # rule -> how many tensors or groups
    probed: dict[str, float]  # cuts and passes, where the allocation tried any out
    dry_run: bool
    note: str


class WeightsFileDetails(TypedDict):
    """Of a file of weights that was pruned as it is."""

    before: dict[str, float]  # metrics
    spared: dict[str, int]
    spared_names: dict[str, list[str]]  # rule -> the first of them
    kind: str  # of the file
    dry_run: bool
    note: str
    compressed_estimated: bool


class DistillationDetails(TrainingDetails, total=False):
    """Of a distillation."""

    distillation: dict[str, Any]  # the section, resolved
    members: list[str]
    cached: bool
    dry_run: bool


class CompressionDetails(TrainingDetails, total=False):
    """Of a compression."""

    pipeline: list[str]  # the stages, in order
    taken: list[str]  # those that an earlier run had done
    dry_run: bool


class Measured(TypedDict, total=False):
    """How forward passes were timed, and against what."""

    device: str
    threads: int
    dtype: str
    runs: dict[str, int]  # batch size -> warm runs
    baseline: dict[str, Any]  # file, and its metrics
    runtimes: list[str]  # eager, compiled, onnxruntime


class EvaluationDetails(TypedDict, total=False):
    """Of a saved model that was judged."""

    positive_class: str
    model: str
    on: str
    samples: int
    undefined: list[str]  # metrics that these data do not allow
    measured: Measured  # how latency was measured
    calibration_error: dict[str, float]  # split -> expected calibration error


class InspectionDetails(TypedDict, total=False):
    """Of a file of weights that was looked into."""

    kind: str
    note: str
    histograms: dict[str, list[int]]
    compressed_estimated: bool
    measured: Measured


class Reason(TypedDict):
    """How much stays for one reason."""

    parameters: int
    share: float


class Coverage(TypedDict):
    """How many of a model's parameters its units hold."""

    parameters: int
    share: float
    share_without_shifts: float
    reasons: dict[str, Reason]


class GroupsDetails(TypedDict):
    """Of a model's units."""

    coverage: Coverage
    unknown_operators: dict[str, int]


class Inputs(TypedDict, total=False):
    """What an exported program takes."""

    name: str
    shape: list[int]
    dtype: str
    kind: str  # images, numbers, arrays, tokens
    raw: bool
    layout: str  # of images
    columns: list[str]  # of a table, in order
    categories: dict[str, list[str]]  # column -> texts, by their position


class Output(TypedDict):
    """What an exported program gives, for one sample."""

    name: str
    shape: list[int]


class ExportDetails(TypedDict):
    """Of a model that was written in another format."""

    model: str
    format: str
    any_batch_size: bool
    runtime: str
    bare: bool
    task: str
    inputs: Inputs
    outputs: list[Output]
    label_names: list[str]


class ComparisonDetails(TypedDict):
    """Of runs side by side."""

    runs: dict[str, str]  # letter -> name; the first is the one that others are compared with
    main: list[str]  # metrics that the summary is about
    confidence: float  # of the intervals of differences
    summary: list[str]  # a sentence for each main metric and run


class StorageDetails(TypedDict):
    """Of a search whose trials were written as another tool's study."""

    run: str
    format: str
    study: str  # the study's name
    objective: list[str]
    states: dict[str, int]  # state -> trials, in that tool's words
    best: list[int]  # numbers of the trials that are best, or on the front
    best_there: list[int]  # those that the other tool finds


class Asked(TypedDict):
    """How many questions a replay asked, and how many answers were those of the log."""

    asked: int
    agreed: int


class Difference(TypedDict):
    """The first answer that was another one."""

    event: int
    what: str
    logged: Any
    now: Any


class ReplayDetails(TypedDict):
    """Of a search's log that was asked again."""

    sampler: dict[str, Any]
    events: int
    suggestions: Asked
    decisions: Asked
    endings: Asked
    agrees: bool
    first: Difference | None
