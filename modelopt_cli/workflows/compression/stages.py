"""The stages of a compression: what each runs, with which seed, and the digest of all that its model depends on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from modelopt_cli.core.consent import NOTHING
from modelopt_cli.experiment.pipeline import stages_of, trains_teacher
from modelopt_cli.models.architectures.checkpoint import Checkpoint as CheckpointModel
from modelopt_cli.workflows.distillation.jobs import stamp, training_jobs, with_shared_seed
from modelopt_cli.workflows.shared import data_cache

if TYPE_CHECKING:
    from modelopt_cli.experiment.experiment import Experiment
    from modelopt_cli.experiment.stages import StageName

Work = Literal["train", "distill", "prune", "quantize"]
"""Stages that make a model; `recover` is the end of `prune`, `export` writes what is there."""


@dataclass(frozen=True)
class Stage:
    """One stage that makes a model.

    `experiment`: what it runs, but for the model that it starts from. `builds`: it makes its model itself, as the model
    section says, rather than going on with the one of the stage before.
    """

    name: Work
    experiment: Experiment
    seed: int
    builds: bool
    teaches: bool = False  # the model is no part of what goes on: it teaches the next stage's
    taught: bool = False  # by the model of the stage before
    recovers: bool = False
    trial: bool = False  # of a search: nobody is trained for comparison alone
    own: bool = False  # that trial's alone: others hardly have the same, so it is not kept for them

    @property
    def title(self) -> str:
        """What it is called where stages are listed."""
        return "prune and recover" if self.recovers else self.name

    @property
    def sections(self) -> tuple[str, ...]:
        """Paths into the file that its model depends on, beside the data and the stages before."""
        if self.teaches:
            return ("distillation.teacher", "distillation.teachers")
        own = {"train": ("training",), "distill": ("training", "distillation"), "prune": ("training", "pruning")}
        return ("model", *own.get(self.name, ("training", "quantization")))

    def after(self, model: Path | None) -> Experiment:
        """Its experiment once the stage before has left its model at `model`."""
        trusted = self.experiment.consent != NOTHING  # the file was made from this very experiment
        if model is None:
            return self.experiment
        if self.taught:
            settings = self.experiment.require_distillation()
            [teacher] = settings.given_teachers
            given = type(teacher)(path=str(model), trust_code=trusted, weight=teacher.weight)
            changed = settings.model_copy(update={"teacher": given, "teachers": ()})
            return self.experiment.model_copy(update={"distillation": changed})
        if self.builds:
            return self.experiment
        return self.experiment.model_copy(update={"model": CheckpointModel(path=str(model), trust_code=trusted)})


def plan_stages(experiment: Experiment, *, trial: bool = False) -> list[Stage]:
    """The stages that make a model, in order.

    `trial`: of a search. All trials have the experiment's seed: those that agree in a stage share its model, and what
    sets their prunings apart is their settings, not the samples that these were calibrated on.
    """
    names = tuple(name for name in stages_of(experiment) if _wanted(experiment, name))
    teaches = trains_teacher(experiment, names)
    stages: list[Stage] = []
    builds = True  # nobody has built the model yet
    for number, name in enumerate(names):
        if name == "recover" or name == "export":
            continue
        own = trial and bool({"prune", "quantize"} & {*names[: number + 1]})
        stage = Stage(name, experiment, experiment.seed, builds, trial=trial, own=own)
        if name == "train" and teaches:
            job = next(
                job for job in training_jobs(experiment, experiment.seed, baseline=False) if job.role == "teacher"
            )
            job = with_shared_seed(job, experiment.seed)
            stages.append(replace(stage, experiment=job.experiment, seed=job.seed, teaches=True))
            continue
        if name == "distill":
            stage = replace(stage, taught=teaches)
        if name == "prune":
            stage = replace(stage, recovers="recover" in names)
            if not stage.recovers:
                left_out = experiment.require_pruning().model_copy(update={"recovery": None})
                stage = replace(stage, experiment=experiment.model_copy(update={"pruning": left_out}))
        stages.append(stage)
        builds = False
    return stages


def _wanted(experiment: Experiment, name: StageName) -> bool:
    """Not where a search has set the stage's section to null."""
    section = {"distill": "distillation", "prune": "pruning", "recover": "pruning", "quantize": "quantization"}.get(
        name
    )
    return section is None or getattr(experiment, section) is not None


def digests(stages: Sequence[Stage]) -> list[str]:
    """Of each stage: all that its model depends on, the stages before it included."""
    made: list[str] = []
    for stage in stages:
        content = json.dumps({**_parts(stage), "before": made[-1:]}, sort_keys=True)
        made.append(hashlib.sha256(content.encode()).hexdigest()[:16])
    return made


def _parts(stage: Stage) -> dict[str, Any]:
    experiment = stage.experiment
    parts: dict[str, Any] = {
        "version": version("modelopt-cli"),
        "stage": stage.name,
        "seed": stage.seed,
        "data": data_cache.pinned_data(experiment),
        "fingerprint": data_cache.prepared_data(experiment).fingerprint,
    }
    files: list[str | None] = []
    if stage.builds:
        model = experiment.require_model()
        parts["model"] = model.model_dump(mode="json")
        files += [getattr(model, field, None) for field in model.path_fields]
    parts["training"] = None if experiment.training is None else experiment.training.deciding()
    own = {"distill": "distillation", "prune": "pruning", "quantize": "quantization"}.get(stage.name)
    if own is not None:
        section = getattr(experiment, own)
        parts[own] = None if section is None else section.model_dump(mode="json")
    if stage.name == "distill":
        for teacher in experiment.require_distillation().given_teachers:
            files += [teacher.path, teacher.weights]
    parts["files"] = [stamp(path) for path in files if path]
    return parts
