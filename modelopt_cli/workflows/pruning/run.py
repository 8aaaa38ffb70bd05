"""One pruning of a torch module as a run: trained or loaded, then pruned and recovered, stage by stage, then judged."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from modelopt_cli.core.warning_log import WarningLog
from modelopt_cli.results.files import write_whole
from modelopt_cli.tuning.objective import StepReport
from modelopt_cli.workflows.pruning.amounts import stand_ins
from modelopt_cli.workflows.pruning.course import PruneCourse
from modelopt_cli.workflows.runs.base import RestorableRun

if TYPE_CHECKING:
    from pathlib import Path

    from modelopt_cli.data.prepared import Prepared
    from modelopt_cli.experiment.experiment import Experiment
    from modelopt_cli.models.files.checkpoints import Checkpoint
    from modelopt_cli.results.report import Table


class PruneRun(RestorableRun):
    """Trains unless given a model, prunes by the pruning section, recovers; judged on the validation split."""

    def __init__(
        self,
        experiment: Experiment,
        prepared: Prepared,
        *,
        seed: int,
        state: Mapping[str, Any] | None = None,
        timed: bool = True,
        told: Sequence[str] = (),
        **start: Any,
    ) -> None:
        """`timed`: how long the model takes is one of the metrics; `told`: warnings of the model that it starts from.

        `start`: what PruneCourse takes beside these.
        """
        self._experiment, self._prepared, self._timed = experiment, prepared, timed
        self._log = WarningLog(told if state is None else state.get("warnings", ()))
        self._restored: list[str] | None = None  # what the pruning told that this run's model comes from
        with self._log.recording():
            self._course = PruneCourse(
                experiment, prepared, seed=seed, state=None if state is None else state["course"], **start
            )
        self.model = self._course.model
        self._seconds = 0.0 if state is None else float(state["seconds"])
        self.step, self.total, self.doing = self._course.step, self._course.total, self._course.doing

    def advance(self, until: int) -> list[StepReport]:
        """Train, prune and recover up to step `until`."""
        start = time.perf_counter()
        reports: list[StepReport] = []
        while self.step < min(until, self.total):
            with self._log.recording():
                found = self._course.next()
            self.step, self.total, self.doing = self._course.step, self._course.total, self._course.doing
            reports.append((self.step, found))
        self._seconds += time.perf_counter() - start
        return reports

    @property
    def warnings(self) -> list[str]:
        """What training told, and what pruning could not do or did in its place."""
        return [*self._log.texts, *(self.model.warnings if self._restored is None else self._restored)]

    def metrics(self) -> Mapping[str, float]:
        """Every metric on the validation split, its change by pruning, the model's size, the seconds that it took."""
        self._course.trainer.finish()
        self.model.settle()
        judged = self.full_metrics()
        return {
            **judged,
            **self.costs(judged),
            "train.seconds": self._seconds,
            "train.epochs": float(self.step),
        }

    def costs(self, judged: Mapping[str, float]) -> dict[str, float]:
        """The model's sizes, and how long it takes where that is wanted. `judged`: its metrics on validation."""
        sizes = self.model.sizes(self._course.checkpoint(stand_ins(judged)))
        return {**sizes, **(self.model.speed() if self._timed else {})}

    @property
    def amount(self) -> float | None:
        """The share of what may go that goes in the end; None for a threshold or a fixed structure."""
        return self._course.amount

    def full_metrics(self) -> Mapping[str, float]:
        """Every metric on the validation split, and its change by pruning; empty when there is none."""
        return self._judge("validation")

    def test_metrics(self) -> Mapping[str, float]:
        """The same on the test split; reads it once for each of the models that the report names."""
        return self._judge("test")

    def _judge(self, split: str) -> dict[str, float]:
        if getattr(self._prepared, split) is None:
            return {}
        with self._log.recording():
            return self.model.judge(split)

    @property
    def noise(self) -> list[str]:
        """See the base class."""
        return self.model.noise

    def tables(self) -> dict[str, Table]:
        """stages, layers, rounds, and the sensitivity curve where it was measured."""
        return self.model.tables()

    def checkpoint(self, metrics: Mapping[str, float]) -> Checkpoint:
        """The pruned model with its masks."""
        return replace(self.model.recorded(self._course.checkpoint(metrics)), warnings=self.warnings)

    def dense_checkpoint(self) -> Checkpoint | None:
        """The model before pruning, where it was trained here."""
        module = self.model.as_it_was("before") if self._course.trains else None
        if module is None:
            return None
        return replace(self._course.checkpoint(self.model.judged("before")), model=module, warnings=self._log.texts)

    def write_program(self, path: Path) -> dict[str, str]:
        """Write the model as a program without code, where units were taken out: as masks, it would not be smaller.

        A program that would take batches of one size alone is not written.
        """
        from modelopt_cli.models.files.exporting import about_model, exported_bytes
        from modelopt_cli.pruning.structures import UnitStructure
        from modelopt_cli.pruning.units.session import joined

        if not isinstance(self._experiment.require_pruning().structure, UnitStructure):
            return {}
        data = self._prepared
        about = about_model(data.shapes, data.label_names, data.preprocessing.to_plain())
        example = joined(self._course.trainer.samples(2))
        content, dynamic = exported_bytes(self._course.module, example, path.suffix, about)
        if not dynamic:
            return {}  # the model's warnings say why
        write_whole(path, lambda stream: stream.write(content))
        return {"program": str(path)}

    def restore(self, trained: Checkpoint) -> None:
        """See the base class."""
        self._course.restore(trained)
        self._restored = [text for text in trained.warnings if text not in self._log.texts]

    def state(self) -> Any:
        """Everything that going on from here needs."""
        return {"course": self._course.state(), "seconds": self._seconds, "warnings": self._log.texts}
