"""One training of a torch module as a run: a step is an epoch."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from modelopt_cli.core.warning_log import WarningLog
from modelopt_cli.tuning.objective import StepReport
from modelopt_cli.workflows.runs.base import RestorableRun
from modelopt_cli.workflows.runs.trainers import trainer_of
from modelopt_cli.workflows.shared.data_cache import data_seed, raw_data, source_of
from modelopt_cli.workflows.shared.earlier_pruning import earlier_masks, earlier_units, underlying

if TYPE_CHECKING:
    from torch import nn

    from modelopt_cli.data.prepared import Prepared
    from modelopt_cli.experiment.experiment import Experiment
    from modelopt_cli.models.files.checkpoints import Checkpoint
    from modelopt_cli.pruning.weights.masking import Masking
    from modelopt_cli.training.guidance import Guide


class TorchRun(RestorableRun):
    """Builds the model from `seed`, trains it on the train split, judges it on the validation split."""

    def __init__(
        self,
        experiment: Experiment,
        prepared: Prepared,
        *,
        seed: int,
        monitor: str | Sequence[str] | None = None,
        state: Mapping[str, Any] | None = None,
        guide: Guide | None = None,
    ) -> None:
        """`guide`: gives the loss that is descended, in place of the targets."""
        import torch

        from modelopt_cli.core.device import choose

        self._experiment, self._prepared, self._seed = experiment, prepared, seed
        self._log = WarningLog(() if state is None else state.get("warnings", ()))
        torch.manual_seed(seed)
        with self._log.recording():
            module = experiment.require_model().build(prepared.shapes, seed).to(choose(experiment.device))
            self._masking = _masking(experiment, module)
            self.trainer = trainer_of(
                experiment,
                prepared,
                module,
                experiment.require_training(),
                seed=seed,
                monitor=monitor,
                hooks=[self._masking] if self._masking else [],
                guide=guide,
            )
        self.seconds = 0.0  # that training took
        if state is not None:
            self.trainer.load_state(state["trainer"])
            self.seconds = float(state["seconds"])
        self._note()

    def _note(self) -> None:
        self.step = self.trainer.epoch
        self.total = self.trainer.epoch if self.trainer.stopped_early else self.trainer.epochs

    def advance(self, until: int) -> list[StepReport]:
        """Train up to epoch `until`."""
        start = time.perf_counter()
        with self._log.recording():
            reports = self.trainer.advance(until)
        self.seconds += time.perf_counter() - start
        self._note()
        return list(reports)

    @property
    def warnings(self) -> list[str]:
        """What the model and its training told."""
        return self._log.texts

    def metrics(self) -> Mapping[str, float]:
        """Every metric on the validation split, the model's size, and the seconds that training took."""
        from modelopt_cli.models.summary import summarise

        self.trainer.finish()
        return {
            **self.full_metrics(),
            **summarise(self.trainer.module),
            "train.seconds": self.seconds,
            "train.epochs": float(self.trainer.best_epoch or self.trainer.epoch),
        }

    def restore(self, trained: Checkpoint) -> None:
        """Take the weights of a model that was trained before from the same setting and seed."""
        self.trainer.module.load_state_dict(trained.model.state_dict())
        self._log.add(trained.warnings)

    def full_metrics(self) -> dict[str, float]:
        """Every metric on the validation split; empty when there is none."""
        return self._evaluate("validation")

    def test_metrics(self) -> dict[str, float]:
        """Every metric on the test split; empty when there is none. Read once, after every choice is made."""
        return self._evaluate("test")

    def _evaluate(self, split: str) -> dict[str, float]:
        if getattr(self._prepared, split) is None:
            return {}
        with self._log.recording():
            return self.trainer.evaluate(split)

    def checkpoint(self, metrics: Mapping[str, float]) -> Checkpoint:
        """The trained model with all that using it needs."""
        found = checkpoint_of(self._experiment, self._prepared, self.trainer.module, metrics, self.warnings)
        if self._masking:
            from modelopt_cli.models.files.packed import pack_masks

            self._masking.apply()
            found.extra["masks"] = pack_masks(self._masking.masks, self._masking.weights)
        return found

    def state(self) -> Any:
        """Trainer state and the time used."""
        return {"trainer": self.trainer.state(), "seconds": self.seconds, "warnings": self.warnings}


def _masking(experiment: Experiment, module: nn.Module) -> Masking | None:
    """What keeps the zeros of a model that was pruned before, while it is trained on."""
    masks = earlier_masks(experiment.require_model(), dict(module.named_parameters()))
    if not masks:
        return None
    from modelopt_cli.pruning.weights.masking import Masking

    parameters = dict(module.named_parameters())
    return Masking({name: parameters[name] for name in masks}, masks)


def checkpoint_of(
    experiment: Experiment, prepared: Prepared, model: Any, metrics: Mapping[str, float], warnings: Sequence[str] = ()
) -> Checkpoint:
    """A trained model (module or estimator) with all that using it needs, and what its training told."""
    from modelopt_cli.models.files.checkpoints import Checkpoint

    units = earlier_units(experiment.require_model())
    extra: dict[str, Any] = {} if units is None else {"slimming": units}
    training, torch = experiment.training, experiment.require_model().framework == "torch"
    if torch and training is not None and training.loss != "auto":  # what `modelopt evaluate` judges it by
        extra["loss"] = training.loss
    return Checkpoint(
        model=model,
        architecture=underlying(experiment.require_model()),
        shapes=prepared.shapes,
        preprocessing=prepared.preprocessing.to_plain(),
        label_names=prepared.label_names,
        task=prepared.task,
        metrics=dict(metrics),
        data=pinned_data(experiment, prepared),
        extra=extra,
        warnings=list(warnings),
        references=experiment.references,
        own_metrics=_own_metrics(experiment),
    )


def _own_metrics(experiment: Experiment) -> tuple[tuple[str, str], ...]:
    """(import path, folder) of the user's own metrics, what came in by ${NAME} as that."""
    section = experiment.evaluation.model_dump(mode="json", include={"metrics", "folder"})
    section = experiment.written(section, ("evaluation",))
    return tuple((str(target), str(section["folder"])) for target in section["metrics"])


def pinned_data(experiment: Experiment, prepared: Prepared | None = None) -> dict[str, Any]:
    """The data section with its splits written out, defaults and seed included, so that it gives the same anywhere.

    `prepared`: what a model was trained on. Where that had no validation split (a final fit on all but the test
    samples, as after cross-validation), the section has none either: nobody is to judge a model on what it learnt from.
    """
    from modelopt_cli.data.splits import Splits, pinned

    source, raw, seed = source_of(experiment), raw_data(experiment), data_seed(experiment)
    section = dict(source.model_dump(mode="json"))
    if prepared is not None and prepared.validation is None:
        asked = pinned(raw, source.splits or Splits(), seed)
        changes: dict[str, Any] = {"validation": 0.0}
        if isinstance(asked.validation, tuple) and asked.test is not None:  # a fraction would be drawn from others
            changes["test"] = () if prepared.test is None else tuple(sorted(prepared.test.indices.tolist()))
        section["splits"] = asked.model_copy(update=changes).model_dump(mode="json")
    elif source.splits is not None or experiment.evaluation.cv is None:
        section["splits"] = pinned(raw, source.splits, seed).model_dump(mode="json")
    return section
