"""One quantization of a torch module as a run: recovered where needed, quantized, then judged as the file it is.

A step is an epoch of recovery or a quantization. With `recovery.when: auto` the first step is a quantization on trial,
which says whether a recovery is needed; it then takes its epochs, and the last step quantizes what came of them. What
is judged is the file's own answers, through its runtime, on the CPU, beside those of the module in float.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, TypedDict

from modelopt_cli.core.seeds import derive
from modelopt_cli.core.warning_log import WarningLog
from modelopt_cli.models.duplicates import duplicate
from modelopt_cli.results.files import write_whole
from modelopt_cli.results.report import Table
from modelopt_cli.tuning.objective import Part, StepReport
from modelopt_cli.workflows.quantization.recovery import recovery_criterion
from modelopt_cli.workflows.runs.base import RestorableRun, checkpoint_of
from modelopt_cli.workflows.runs.torch import trainer_of
from modelopt_cli.workflows.shared.changes import changes
from modelopt_cli.workflows.shared.earlier_pruning import earlier_masks

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor, nn

    from modelopt_cli.data.prepared import Prepared
    from modelopt_cli.experiment.experiment import Experiment
    from modelopt_cli.models.files.checkpoints import Checkpoint
    from modelopt_cli.pruning.weights.masking import Masking
    from modelopt_cli.quantization.fake import FakeQuantization
    from modelopt_cli.quantization.quantizing import Judge, Quantized
    from modelopt_cli.quantization.settings import QuantizationSettings
    from modelopt_cli.training.criterion import Criterion
    from modelopt_cli.training.evaluation import Evaluator
    from modelopt_cli.training.metrics.answers import Answers
    from modelopt_cli.training.settings import TrainingSettings
    from modelopt_cli.training.trainer import Trainer, TrainerState

PRINCIPAL = {"classification": "accuracy", "multilabel": "accuracy", "regression": "r2"}
"""Task -> the metric that quantization.max_drop is about. More is better."""

Kind = Literal["try", "recover", "quantize"]
_DOING = {"try": "quantization on trial", "recover": "recovery", "quantize": "quantization"}
_COSTS: dict[str, tuple[tuple[tuple[str, float], ...], float | None]] = {"recover": ((("train", 1.5),), None)}


class QuantizeState(TypedDict):
    """A saved run. `module`: the weights, in float; `done`: the kinds of steps that were taken."""

    module: dict[str, Tensor]
    done: list[Kind]
    left: list[Kind]
    trainer: TrainerState | None
    ranges: dict[str, tuple[float, float]]
    seconds: float
    warnings: list[str]


class QuantizeRun(RestorableRun):
    """Quantizes a finished module by the quantization section; judged on the validation split."""

    def __init__(
        self,
        experiment: Experiment,
        prepared: Prepared,
        *,
        seed: int,
        module: nn.Module,
        dense: nn.Module | None = None,
        masks: Mapping[str, Tensor] | None = None,
        state: QuantizeState | None = None,
        monitor: str | Sequence[str] | None = None,
        warnings: Sequence[str] = (),
    ) -> None:
        """`module`: trained; it is copied. `dense`: what teaches in a recovery, by default `module` as it is now.

        `masks`: of an earlier pruning, True stays, by the parameters' names; None: those of the model section's file.
        `warnings`: of the checkpoint that the module came from. Raises UsageError, MissingExtraError.
        """
        from modelopt_cli.training.settings import TrainingSettings

        self._experiment, self._prepared, self._seed, self._monitor = experiment, prepared, seed, monitor
        self._settings = experiment.require_quantization()
        self._settings.method.check()
        self._training = experiment.training or TrainingSettings()
        self._log = WarningLog(warnings if state is None else state["warnings"])
        self.answers: dict[str, Answers] = {}
        self.module = duplicate(module).eval()
        self._before = duplicate(self.module)  # what the drop is measured against
        self._dense = self._before if dense is None else dense
        self._masking = _masking(experiment, self.module, masks)
        self.quantized: Quantized | None = None
        self._trainer: Trainer | None = None
        self._fake: FakeQuantization | None = None
        self._criterion: Criterion | None = None
        self._judged: dict[str, dict[str, dict[str, float]]] = {}  # split -> stage -> metrics
        self._done: list[Kind] = []
        self._left: list[Kind] = self._first_plan()
        self._seconds = 0.0
        if state is not None:
            self._load_state(state)
        self._note()

    def _first_plan(self) -> list[Kind]:
        recovery = self._settings.recovery
        if recovery is None:
            return ["quantize"]
        if recovery.when == "auto" and self._prepared.validation is not None:
            return ["try"]
        return self._recovering()

    def _recovering(self) -> list[Kind]:
        return [*(["recover"] * self._recovery.epochs), "quantize"]  # type: ignore[list-item]

    @property
    def _recovery(self) -> TrainingSettings:
        recovery = self._settings.recovery
        assert recovery is not None
        return recovery.over(self._training)

    # Step by step

    def advance(self, until: int) -> list[StepReport]:
        """Recover and quantize up to step `until`."""
        start = time.perf_counter()
        reports: list[StepReport] = []
        while self.step < min(until, self.total):
            with self._log.recording():
                metrics = self._next()
            self._note()
            reports.append((self.step, metrics))
        self._seconds += time.perf_counter() - start
        return reports

    def _note(self) -> None:
        self.step, self.total = len(self._done), len(self._done) + len(self._left)
        self.doing = _DOING[self._left[0]] if self._left else ""

    @property
    def ahead(self) -> list[Part]:
        """See the base class."""
        parts = []
        for kind in dict.fromkeys(self._left):
            like, seconds = _COSTS.get(kind, ((), None))
            parts.append(Part(kind, self._left.count(kind), like, seconds, "batches" if kind == "recover" else ""))
        return parts

    def _next(self) -> dict[str, float]:
        kind = self._left[0]
        if kind == "recover":
            return self._epoch()
        quantized = self._quantize(search=kind == "quantize")
        self._done.append(self._left.pop(0))
        if kind == "try" and self._loses_much(quantized):
            self._left = self._recovering()
        else:
            self.quantized = quantized
        return self._quick(quantized)

    def _loses_much(self, quantized: Quantized) -> bool:
        most, before, now = self._settings.max_drop, quantized.float_score, quantized.score
        return most is not None and before is not None and now is not None and before - now > most

    def _epoch(self) -> dict[str, float]:
        """One epoch of recovery, with rounding in its forward passes."""
        if self._trainer is None:
            self._open()
        trainer = self._trainer
        assert trainer is not None
        [(_, metrics)] = trainer.advance(trainer.epoch + 1)
        self._done.append(self._left.pop(0))
        if trainer.stopped_early:
            self._left = ["quantize"]
        if self._left[0] != "recover":
            trainer.finish()
            self._settle()
            self._close()
        return metrics

    def _open(self) -> None:
        """The trainer of the recovery, and what rounds while it trains."""
        from modelopt_cli.quantization.fake import fake_quantized

        seed = derive(self._seed, "quantization")
        self._criterion = recovery_criterion(self._experiment, self._prepared, self._dense, seed)
        hooks = [self._masking] if self._masking else []
        self._trainer = trainer_of(
            self._experiment,
            self._prepared,
            self.module,
            self._recovery,
            seed=seed,
            monitor=self._monitor,
            hooks=hooks,
            criterion=self._criterion,
        )
        self._fake = fake_quantized(self.module, self._settings, self._samples())

    def _settle(self) -> None:
        if self._masking:
            self._masking.apply()

    def _close(self) -> None:
        """The recovery has ended, or is let go of: the module computes in float again."""
        if self._fake is not None:
            self._fake.close()
        if self._criterion is not None:
            self._criterion.close()
        self._trainer = self._fake = self._criterion = None

    def close(self) -> None:
        """Let go of the module."""
        self._close()

    def _quantize(self, *, search: bool) -> Quantized:
        """The module as a file; `search`: leave layers in float where too much is lost."""
        from modelopt_cli.models.files.exporting import about_model
        from modelopt_cli.models.measure import example
        from modelopt_cli.quantization.quantizing import quantize

        self.module.cpu().eval()
        data = self._prepared
        settings: QuantizationSettings = self._settings
        if not search:
            settings = settings.model_copy(update={"max_drop": None})
        return quantize(
            self.module,
            settings,
            calibration=self._samples(),
            example=example(data.shapes, 4),
            about=about_model(data.shapes, data.label_names, data.preprocessing.to_plain()),
            judge=self._judge(),
        )

    def _samples(self) -> Tensor:
        """(N, *inputs) samples of the train split, drawn by the seed, preprocessed."""
        import torch

        from modelopt_cli.training.inference import as_tensor, input_transform

        inputs = self._prepared.train.inputs
        generator = torch.Generator().manual_seed(derive(self._seed, "calibration"))
        order = torch.randperm(len(inputs), generator=generator)[: self._settings.samples]
        cpu = torch.device("cpu")
        return input_transform(self._prepared.preprocessing, cpu)(as_tensor(inputs[order.numpy()]))

    # How it is judged

    def _judge(self) -> Judge | None:
        """The first metric of the task on validation; None: there is no such split."""
        if self._prepared.validation is None:
            return None
        name = f"validation.{PRINCIPAL[self._prepared.task]}"

        def judge(module: nn.Module) -> float:
            return self._evaluator.measure(module, "validation", [name]).get(name, math.nan)

        return judge

    @property
    def _evaluator(self) -> Evaluator:
        """On the CPU, where the file runs, whatever device trained it."""
        if not hasattr(self, "_own_evaluator"):
            self._own_evaluator = _evaluator(self._experiment, self._prepared, self._training)
        return self._own_evaluator

    def _quick(self, quantized: Quantized) -> dict[str, float]:
        """The loss and the first metric of what was quantized."""
        split = "validation" if self._prepared.validation is not None else "train"
        names = [f"{split}.{name}" for name in ("loss", PRINCIPAL[self._prepared.task])]
        metrics = self._evaluator.measure(quantized.module, split, names)
        return {f"validation.{name.partition('.')[2]}": value for name, value in metrics.items()}

    def metrics(self) -> Mapping[str, float]:
        """Every metric of the file on the validation split, its change by quantization, its costs."""
        return {
            **self.full_metrics(),
            **self.costs({}),
            "train.seconds": self._seconds,
            "train.epochs": float(self._done.count("recover")),
        }

    def costs(self, judged: Mapping[str, float]) -> dict[str, float]:
        """Parameters and MACs of the module in float; bytes of the file, and of the tensors in it."""
        from modelopt_cli.models.measure import example, macs
        from modelopt_cli.models.summary import summarise

        quantized = self._finished()
        products = float(macs(self.module, example(self._prepared.shapes, 1))[""])
        return {
            **summarise(self.module),
            "model.size_bytes": float(quantized.size_bytes),
            "model.file_bytes": float(len(self.file)),
            "model.macs": products,
            "model.flops": 2.0 * products,
        }

    def full_metrics(self) -> dict[str, float]:
        """Every metric of the file on the validation split, and its change by quantization; empty without one."""
        return self._both("validation")

    def test_metrics(self) -> dict[str, float]:
        """The same on the test split; reads it once for the float model and once for the file."""
        return self._both("test")

    def _both(self, split: str) -> dict[str, float]:
        if getattr(self._prepared, split) is None:
            return {}
        quantized = self._finished()
        stages: dict[str, nn.Module] = {"float": self._before}
        if "recover" in self._done:
            stages["recovered"] = self.module
        with self._log.recording():
            judged = {name: self._evaluator.measure(module.cpu(), split) for name, module in stages.items()}

            def keep(answers: Answers) -> None:
                self.answers[split] = answers

            judged["int8"] = self._evaluator.measure(quantized.module, split, keep=keep)
        self._judged[split] = judged
        return {**judged["int8"], **changes(judged["int8"], judged["float"])}

    def tables(self) -> dict[str, Table]:
        """`quantization`: a row for each layer; `quantization_stages`: in float, recovered, as the file."""
        stages: dict[str, dict[str, Any]] = {}
        for judged in self._judged.values():
            for name, metrics in judged.items():
                stages.setdefault(name, {"stage": name}).update(metrics)
        return {
            "quantization": Table.from_records(self._finished().layers),
            **({"quantization_stages": Table.from_records(list(stages.values()))} if stages else {}),
        }

    @property
    def warnings(self) -> list[str]:
        """What the recovery told, and what the method left in float."""
        own = [] if self.quantized is None else self.quantized.warnings
        return [*self._log.texts, *(text for text in own if text not in self._log.texts)]

    def _finished(self) -> Quantized:
        """What came of it; of a run that was stopped before, the module as it is now."""
        if self.quantized is None:
            self._close()
            with self._log.recording():
                self.quantized = self._quantize(search=True)
        return self.quantized

    # What is saved

    @property
    def file(self) -> bytes:
        """The file that is handed on: it takes raw inputs, as what `modelopt export` writes."""
        if self._file is None or self._file[0] is not self._finished():
            data = self._prepared
            made = self._finished().deliverable(data.preprocessing, data.shapes, data.label_names)
            self._file = (self._finished(), made)
        return self._file[1]

    _file: tuple[Quantized, bytes] | None = None

    def write_program(self, path: Path) -> dict[str, str]:
        """Write the quantized file beside `path`, with the suffix of its kind."""
        path = path.with_suffix(f".int8{self._settings.method.suffix}")
        content = self.file
        write_whole(path, lambda stream: stream.write(content))
        return {"quantized": str(path)}

    def checkpoint(self, metrics: Mapping[str, float]) -> Checkpoint:
        """The module in float that the file was made of, with the section that it was quantized by."""
        saved = checkpoint_of(self._experiment, self._prepared, self.module, metrics, self.warnings)
        extra: dict[str, Any] = {**saved.extra, "quantization": self._settings.model_dump(mode="json")}
        if self._masking:
            from modelopt_cli.models.files.packed import pack_masks

            extra["masks"] = pack_masks(self._masking.masks, self._masking.weights)
        return replace(saved, extra=extra)

    def restore(self, trained: Checkpoint) -> None:
        """See the base class: the weights are taken over, and quantized again."""
        self._close()
        self.module.load_state_dict(trained.model.state_dict())
        self._left = ["quantize"]
        self._log.add(trained.warnings)
        self.advance(self.step + 1)

    def state(self) -> QuantizeState:
        """What going on from here needs; the file itself is made again."""
        from modelopt_cli.training.copies import copied

        return {
            "module": copied(self.module.state_dict(), "cpu"),
            "done": list(self._done),
            "left": list(self._left),
            "trainer": None if self._trainer is None else self._trainer.state(),
            "ranges": {} if self._fake is None else self._fake.state(),
            "seconds": self._seconds,
            "warnings": self._log.texts,
        }

    def _load_state(self, state: QuantizeState) -> None:
        self.module.load_state_dict(state["module"])
        self._done, self._left, self._seconds = list(state["done"]), list(state["left"]), float(state["seconds"])
        if state["trainer"] is not None:
            self._open()
            assert self._trainer is not None
            assert self._fake is not None
            self._trainer.load_state(state["trainer"])
            self._fake.load_state(state["ranges"])


def _masking(experiment: Experiment, module: nn.Module, masks: Mapping[str, Tensor] | None) -> Masking | None:
    """What keeps the zeros of an earlier pruning; None: there are none."""
    parameters = dict(module.named_parameters())
    held = earlier_masks(experiment.require_model(), parameters) if masks is None else dict(masks)
    if not held:
        return None
    from modelopt_cli.pruning.weights.masking import Masking

    return Masking({name: parameters[name] for name in held}, held)


def _evaluator(experiment: Experiment, prepared: Prepared, training: TrainingSettings) -> Evaluator:
    import torch

    from modelopt_cli.training import losses
    from modelopt_cli.training.batches import Split
    from modelopt_cli.training.evaluation import Evaluator
    from modelopt_cli.training.inference import input_transform, scale_targets

    cpu = torch.device("cpu")
    targets = scale_targets(prepared.train.targets, prepared.preprocessing)
    train = Split(prepared.train, targets, cpu, resident=False)
    plain = losses.make(training, prepared.task, prepared.shapes.outputs, targets, cpu).plain
    transform = input_transform(prepared.preprocessing, cpu)
    return Evaluator(prepared, train, plain, transform, extra=experiment.evaluation.own)
