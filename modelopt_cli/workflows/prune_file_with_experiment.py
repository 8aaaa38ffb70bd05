"""Pruning a file of weights with the model's code and data at hand: validated before and after, written as it came.

The experiment file gives `data:`, of a bare file the `model:` (a model.pt of modelopt has its own), and in `pruning:`
the criterion, the schedule and the recovery, where there is such a section.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from modelopt_cli.core.errors import InterruptedRunError, UsageError
from modelopt_cli.experiment.expected_metrics import RATIO
from modelopt_cli.models.files.masked_pairs import MaskedPairs
from modelopt_cli.models.files.state_files import beside, open_state
from modelopt_cli.pruning.structures import UnitStructure
from modelopt_cli.workflows import prune
from modelopt_cli.workflows.prune_file import SIZES, check_free, output, sizes_of
from modelopt_cli.workflows.pruning.run import PruneRun
from modelopt_cli.workflows.shared import data_cache
from modelopt_cli.workflows.shared.changes import ratios
from modelopt_cli.workflows.shared.metric_checks import check_metrics
from modelopt_cli.workflows.shared.model_workflow import advance
from modelopt_cli.workflows.shared.module_of_file import build, own_names, with_own_model
from modelopt_cli.workflows.shared.reporting import Reporting
from modelopt_cli.workflows.shared.run_scope import one_run

if TYPE_CHECKING:
    from torch import Tensor

    from modelopt_cli.experiment.experiment import Experiment
    from modelopt_cli.models.files.checkpoints import Checkpoint
    from modelopt_cli.models.files.state_files import StateFile
    from modelopt_cli.results.report import Report
    from modelopt_cli.workflows.shared.context import Context

_PROGRAM = ".pt2"
_SUFFIXES = (".pt", ".pth", ".bin")


@one_run()
def run(
    path: Path,
    experiment: Experiment,
    context: Context,
    out: Path | None = None,
    *,
    dry_run: bool = False,
    force: bool = False,
    key: str | None = None,
    trust_code: bool = False,
) -> Report:
    """Prune (and recover) the weights at `path` into `out` (default: model.pruned.pt beside it); judge both.

    Where units go, their program is written beside it (model.pruned.pt2). `dry_run`: all but the writing.
    `trust_code`: run what code a model.pt names. Raises UsageError, before any work, where the weights are not the
    model's, or what would be written exists.
    """
    reporting = Reporting(experiment, context)
    units = isinstance(experiment.require_pruning().structure, UnitStructure)
    choose = _units_output if units else output
    target = choose(path, out, force=force, dry_run=dry_run)
    experiment.require("data")
    experiment.require_one_seed("a file's weights are pruned once")
    with reporting.log.recording():
        file = open_state(path, key=key)
        experiment = with_own_model(file, experiment, trust_code=trust_code)
        check_metrics(experiment, context, "prune")
        prune.check_parts(experiment)
        module, shapes = build(file, experiment, trust_code=True)
        prepared = data_cache.prepared_data(experiment)
        shapes.check_fit(prepared.shapes, path)
        current = PruneRun(
            experiment,
            prepared,
            seed=experiment.seed,
            dense=module,
            bare=file.bare,
            extra=file.extra,
        )
        advance(current, [], context)
        if context.stop:
            raise InterruptedRunError("interrupted; nothing was written", context.stop.signal_number or 2)
        outcome = prune.judged(experiment, current)
        artefacts, sizes = {}, {}
        if not dry_run:
            artefacts = _write_units(target, outcome.model, current) if units else _write_weights(target, file, current)
            sizes = sizes_of(target)
            known = [name for name in SIZES if name + RATIO in outcome.metrics]
            sizes |= ratios(sizes, sizes_of(path), known)
    details = {**outcome.details, "dry_run": dry_run, "note": file.note}
    outcome = replace(outcome, metrics={**outcome.metrics, **sizes}, details=details)
    report = reporting.report(prune.kind_of(experiment), "prune", outcome, interrupted=False, artefacts=artefacts)
    return report.model_copy(update={"name": path.name}).with_model(outcome.model)


def _units_output(path: Path, out: Path | None, *, force: bool, dry_run: bool) -> Path:
    """Where the smaller model goes; the program stands beside it. Raises UsageError where either must not be."""
    target = out if out is not None else beside(path, "pruned").with_suffix(".pt")
    if target.suffix not in _SUFFIXES:
        raise UsageError(
            f"{target} is no name for a smaller model, which is written as a model.pt; let it end in "
            f"{', '.join(_SUFFIXES)} (its program goes to {target.with_suffix(_PROGRAM)})"
        )
    if not dry_run:
        for each in (target, target.with_suffix(_PROGRAM)):
            check_free(path, each, force=force)
    return target


def _write_weights(target: Path, file: StateFile, current: PruneRun) -> dict[str, str]:
    """The weights in the form in which they came."""
    extra = current.checkpoint({}).extra
    done = {name: extra[name] for name in ("pruning",) if name in extra} | (
        {} if file.bare else {"masks": extra["masks"]}
    )
    state = current.module.state_dict()
    names = own_names(file.tensors, state)
    masks = MaskedPairs(file.tensors).masks  # ... -> the values that they are of

    def change(name: str, tensor: Tensor) -> Iterator[Tensor]:
        """The module's values, in the file's own dtype; of a mask, where they are not 0."""
        own = state.get(names[name])
        if own is None and name in masks:
            weight = state.get(names[masks[name]])
            own = None if weight is None else weight != 0
        yield tensor if own is None else own.detach().cpu().to(tensor.dtype)

    file.save(target, done, change)
    return {"model": str(target)}


def _write_units(target: Path, model: Checkpoint | None, current: PruneRun) -> dict[str, str]:
    """The smaller model as a model.pt, since its code alone takes it no more, and as a program without code."""
    from modelopt_cli.models.files import checkpoints

    assert model is not None
    checkpoints.save(target, model)
    return {"model": str(target), **current.write_program(target.with_suffix(_PROGRAM))}
