"""The models of a compression side by side: what each stage left, judged on every split, priced, and shown in tables.

All are compared with the first one: the teacher, the dense model, or the model that was loaded.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelopt_cli.experiment.evaluation import Runtime
from modelopt_cli.experiment.expected_metrics import CHANGES, GAP, RATIO, is_latency
from modelopt_cli.models.architectures.checkpoint import Checkpoint as CheckpointModel
from modelopt_cli.results.report import Table
from modelopt_cli.workflows.compression.quantized_file import KEY as QUANTIZED
from modelopt_cli.workflows.compression.quantized_file import QuantizedFile
from modelopt_cli.workflows.shared.changes import changes, ratios
from modelopt_cli.workflows.shared.costs import timing
from modelopt_cli.workflows.shared.latencies import Latencies, joint_runtime, measured

if TYPE_CHECKING:
    from torch import nn

    from modelopt_cli.core.warning_log import WarningLog
    from modelopt_cli.data.prepared import Prepared
    from modelopt_cli.experiment.experiment import Experiment
    from modelopt_cli.models.files.checkpoints import Checkpoint
    from modelopt_cli.training.metrics.answers import Answers
    from modelopt_cli.workflows.compression.stage_cache import StageRecord
    from modelopt_cli.workflows.compression.stages import Stage

GIVEN = "given"
"""What the first model is called where no stage has made it."""
_SPLITS = ("validation", "test")


@dataclass
class StageModel:
    """What a stage left. `judged`: split -> its metrics there, as soon as they are known."""

    name: str
    checkpoint: Checkpoint
    seconds: float = 0.0
    record: StageRecord | None = None
    judged: dict[str, dict[str, float]] = field(default_factory=dict)
    priced: dict[str, float] | None = None
    quantized: QuantizedFile | None = None

    @property
    def module(self) -> nn.Module:
        """What answers: of a quantized model, the quantized file."""
        module: nn.Module = self.checkpoint.model if self.quantized is None else self.quantized.module
        return module

    @property
    def entrant(self) -> nn.Module | bytes:
        """What is timed, on the CPU: a module, or the file of ONNX Runtime."""
        if self.quantized is not None and self.quantized.suffix == ".onnx":
            return self.quantized.network
        return self.module.to("cpu")


class StageModels:
    """Grows stage by stage."""

    def __init__(
        self,
        experiment: Experiment,
        prepared: Prepared,
        stages: Sequence[Stage],
        log: WarningLog,
        *,
        wanted: Sequence[str] | None,
    ) -> None:
        """`wanted`: metrics that are asked for; None: all."""
        self._experiment, self._prepared, self._stages = experiment, prepared, stages
        self._log, self._wanted = log, wanted
        self._timed = wanted is None or any(map(is_latency, wanted))
        self._made: list[StageModel] = []
        self._given: StageModel | None = None
        self._looked = False  # whether there is a given one
        self._timing = timing(experiment)
        self._latencies: Latencies | None = None
        self.answers: dict[str, Answers] = {}
        self.details: dict[str, object] = {}

    # What there is

    @property
    def records(self) -> list[StageRecord]:
        """Of the stages that are finished."""
        return [model.record for model in self._made if model.record is not None]

    def add(self, record: StageRecord, checkpoint: Checkpoint | None = None) -> None:
        """The next stage is finished. `checkpoint`: its model, where it is at hand."""
        from modelopt_cli.models.files import checkpoints

        stage = self._stages[len(self._made)]
        if checkpoint is None:
            checkpoint = checkpoints.load(record.model, stage.experiment.consent.also(True))  # modelopt wrote it itself
        model = StageModel(stage.name, checkpoint, record.seconds, record)
        if stage.name == "quantize":
            model.quantized = QuantizedFile.load(record.folder)
        if record.judged:  # the model's own row is the last one
            model.judged = _by_split(list(record.judged.values())[-1])
        self._made.append(model)
        self.answers.clear()  # they are the last model's

    def restore(self, trained: Checkpoint) -> None:
        """What the stages that are left would leave."""
        model = StageModel(self._stages[-1].name, trained)
        plain = trained.extra.get(QUANTIZED)
        if plain is not None:
            model.quantized = QuantizedFile.from_plain(plain)
            own = {name: value for name, value in trained.extra.items() if name != QUANTIZED}
            model.checkpoint = replace(trained, extra=own)
        self._made.append(model)
        self.answers.clear()

    def path_before(self, number: int) -> Path | None:
        """The model.pt of the stage before; None: there is none."""
        record = self._made[number - 1].record if 0 < number <= len(self._made) else None
        return None if record is None else record.model

    def before(self, number: int) -> Checkpoint | None:
        """The model of the stage before."""
        return self._made[number - 1].checkpoint if 0 < number <= len(self._made) else None

    @property
    def first(self) -> StageModel | None:
        """What all are compared with; None: the compression begins with a model that nothing has trained."""
        if self._stages[0].name == "train":
            return self._made[0] if self._made else None
        if not self._looked:
            self._looked, self._given = True, self._read_given()
        return self._given

    @property
    def reference(self) -> Checkpoint | None:
        """The checkpoint of `first`."""
        return None if self.first is None else self.first.checkpoint

    def _read_given(self) -> StageModel | None:
        """The teacher of a distillation that is there, or the model that the file loads."""
        stage, experiment = self._stages[0], self._experiment
        if stage.name == "distill":
            from modelopt_cli.workflows.distillation.teachers import given

            teachers = [each for each in experiment.require_distillation().given_teachers if not each.trained_here]
            if not teachers:
                return None
            teacher = given(teachers[0], "teacher", stage.seed, self._prepared, experiment.consent)
            torch = teacher.checkpoint.architecture.framework == "torch"
            return StageModel(GIVEN, teacher.checkpoint) if torch else None
        model = experiment.require_model()
        if isinstance(model, CheckpointModel):
            return StageModel(GIVEN, model.saved())
        if not model.is_trained:
            return None
        from modelopt_cli.workflows.runs.base import checkpoint_of

        module = model.build(self._prepared.shapes, stage.seed)
        return StageModel(GIVEN, checkpoint_of(experiment, self._prepared, module, {}))

    # How well they do

    def judge(self, model: StageModel, split: str) -> dict[str, float]:
        """Every metric of a model on a split; read once, then remembered. Empty without the split."""
        from modelopt_cli.core.device import choose
        from modelopt_cli.training.evaluation import evaluate

        if getattr(self._prepared, split) is None:
            return {}
        asked = model is self.last and split not in self.answers  # for what it answers sample by sample
        if split not in model.judged or asked:
            device, own = choose(self._experiment.device), self._experiment.evaluation.own
            keep = partial(self.answers.__setitem__, split) if asked else None
            with self._log.recording():
                module = model.module.to(device)
                model.judged[split] = evaluate(module, self._prepared, split, device, own, keep)
        return model.judged[split]

    @property
    def last(self) -> StageModel | None:
        """The model that the last finished stage left."""
        return self._made[-1] if self._made else None

    def judge_last(self, split: str) -> dict[str, float]:
        """Every metric of the last model, and its change since the first."""
        if self.last is None:
            return {}
        metrics = self.judge(self.last, split)
        return {**metrics, **self.changes(metrics, split)}

    def changes(self, metrics: Mapping[str, float], split: str) -> dict[str, float]:
        """How far metrics are from those of the first model: drops, and of losses and errors rises."""
        return {} if self.first is None else changes(metrics, self.judge(self.first, split))

    # What they cost

    def _sizes(self, module: nn.Module, checkpoint: Checkpoint | None) -> dict[str, float]:
        """Parameters, MACs and FLOPs, bytes of tensors; with its `checkpoint` also zeros and bytes of the file."""
        from modelopt_cli.models.files.checkpoints import file_sizes
        from modelopt_cli.models.measure import count, device_of, example, macs
        from modelopt_cli.models.summary import summarise

        operations = float(macs(module, example(self._prepared.shapes, 1).to(device_of(module)))[""])
        sizes = {**summarise(module), "model.macs": operations, "model.flops": 2.0 * operations}
        if checkpoint is not None:
            plain, packed = file_sizes(replace(checkpoint, metrics={}))
            sizes |= {**count(module.parameters()), "model.file_bytes": float(plain)}
            sizes["model.compressed_bytes"] = float(packed)
        return sizes

    def price(self, model: StageModel) -> dict[str, float]:
        """What a model costs but time; measured once."""
        if model.priced is None:
            model.priced = self._sizes(model.checkpoint.model, model.checkpoint)
            if model.quantized is not None:
                file = model.quantized.file
                model.priced["model.size_bytes"] = float(model.quantized.tensor_bytes)
                model.priced["model.file_bytes"] = float(len(file))
                model.priced["model.compressed_bytes"] = float(len(zlib.compress(file, 1)))
        return model.priced

    def costs(self, under_way: Checkpoint | None) -> dict[str, float]:
        """Of the last model, or of the one `under_way`: sizes and times, and their ratios to the first one's."""
        last = self.last if under_way is None else StageModel("now", under_way)
        if last is None:
            return {}
        self._time(last)
        figures = {**self.price(last), **self._times(last)}
        first = self.first
        if first is None:
            return figures
        costs = [name for name in figures if name != "model.sparsity"]  # a share itself
        return {**figures, **ratios(figures, {**self.price(first), **self._times(first)}, costs)}

    def _time(self, last: StageModel) -> None:
        """Measure latencies where they are asked for, in turns, on the CPU: of all models, or of what is asked for."""
        from modelopt_cli.models.measure import example

        if not self._timed:
            return
        compared = [self.first] if self.first is not None else []
        if self._wanted is None:
            compared += self._made
        elif not any(is_latency(name) and name.endswith(RATIO) for name in self._wanted):
            compared = []  # nothing is asked for beside the model's own
        models = {model.name: model for model in [*compared, last]}
        # Both float and int8 run in the joint runtime; a file that it does not run is compared as torch runs it.
        foreign = any(model.quantized is not None and model.quantized.suffix != ".onnx" for model in models.values())
        runtime = self._timing.run_by("eager" if foreign else joint_runtime())
        ways: list[Runtime] = [runtime] if self._wanted is not None else list(dict.fromkeys((runtime, "eager")))
        inputs = example(self._prepared.shapes, max(self._timing.batch_sizes))
        entrants = {name: model.entrant for name, model in models.items()}
        self._latencies = measured(entrants, inputs, self._timing, ways)
        self.details["latency"] = self._latencies.how

    def _times(self, model: StageModel) -> dict[str, float]:
        """Its latencies, as far as they were measured."""
        return {} if self._latencies is None else self._latencies.metrics(model.name)

    @property
    def noise(self) -> list[str]:
        """What made timings unsure, or could not be timed."""
        return [] if self._latencies is None else list(self._latencies.warnings)

    # What is shown and kept

    @property
    def warnings(self) -> list[str]:
        """What each stage told."""
        return [f"{model.name}: {text}" for model in self._made for text in model.checkpoint.warnings]

    def tables(self) -> dict[str, Table]:
        """`stages`: a row for each model; `latency`, where it was measured."""
        rows: list[dict[str, Any]] = []
        given = [] if self._given is None else [self._given]
        for model in [*given, *self._made]:
            judged = {name: value for split in _SPLITS for name, value in self.judge(model, split).items()}
            kept = {} if model.record is None else dict(model.record.judged)
            costs = {**self.price(model), **self._times(model)}
            *before, last = kept or {model.name: judged}
            for name in before:  # what was judged on the way to it, such as straight after pruning
                metrics = {key: value for key, value in kept[name].items() if key in judged}
                rows.append({"stage": name, **metrics, **costs, "seconds": None})
            rows.append({"stage": last, **judged, **costs, "seconds": model.seconds})
        tables = {"stages": Table.from_records(rows)}
        return tables if self._latencies is None else {**tables, "latency": self._latencies.table()}

    def checkpoint(self, metrics: Mapping[str, float], *, whole: bool) -> Checkpoint:
        """The last model of floating point; `whole`: with the quantized file in it."""
        assert self.last is not None
        checkpoint = replace(self.last.checkpoint, metrics=dict(metrics))
        if whole and self.last.quantized is not None:
            plain = self.last.quantized.to_plain()
            checkpoint = replace(checkpoint, extra={**checkpoint.extra, QUANTIZED: plain})
        return checkpoint

    def write_quantized(self, folder: Path, stem: str) -> dict[str, Path]:
        """The quantized file, where there is one."""
        if self.last is None or self.last.quantized is None:
            return {}
        return {"int8": self.last.quantized.write(folder, stem)}


def _by_split(metrics: Mapping[str, float]) -> dict[str, dict[str, float]]:
    """The model's own metrics, without how they changed."""
    plain = {name: value for name, value in metrics.items() if not name.endswith((*CHANGES, GAP))}
    parts = {split: {name: value for name, value in plain.items() if name.startswith(f"{split}.")} for split in _SPLITS}
    return {split: part for split, part in parts.items() if part}
