"""A model as a file that runs without its code (.pt2, .onnx), compared with the model before it is written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelopt_cli.core.errors import ModeloptError, UsageError
from modelopt_cli.models.files.exporting import about_model, about_raw_model, exported_bytes, format_of
from modelopt_cli.models.files.state_files import open_state
from modelopt_cli.results.details import ExportDetails
from modelopt_cli.results.files import write_whole
from modelopt_cli.results.report import Cell, Report, Table
from modelopt_cli.workflows.shared.module_of_file import build, consent_of
from modelopt_cli.workflows.shared.reporting import Outcome, Reporting
from modelopt_cli.workflows.shared.run_scope import one_run

if TYPE_CHECKING:
    from torch import Tensor, nn

    from modelopt_cli.data.preprocessing import Preprocessing
    from modelopt_cli.models.architectures import Shapes
    from modelopt_cli.models.files.exported_files import Check

EXAMPLES = 4  # samples that a module is captured with
BATCH_SIZES = (1, 7)  # of the random batches on which it is compared: neither is EXAMPLES


@one_run()
def run(
    path: Path,
    out: Path,
    *,
    experiment: Path | None = None,
    force: bool = False,
    trust_code: bool = False,
    bare: bool = False,
) -> Report:
    """Write the model at `path` to `out`, in the format of its suffix. It takes raw inputs; `bare`: preprocessed ones.

    The module is that of a model.pt of modelopt, slim or masked ones included, or what the `model:` and `data:`
    sections of the experiment file say. `trust_code` runs what code a model.pt names. Raises UsageError (exit 2) for
    what cannot be exported, RefusedError (exit 5) for code without that, and ModeloptError (exit 1), with nothing
    written, where what came out computes something else.
    """
    reporting = Reporting(None, name=path.name)
    if out.exists() and not force:
        raise UsageError(f"{out} exists; choose another file, or overwrite it with --force")
    with reporting.log.recording():
        outcome = _exported(path, out, experiment, trust_code, bare)
    return reporting.report("export", "export", outcome, artefacts={"exported": str(out)})


def _exported(path: Path, out: Path, experiment: Path | None, trust_code: bool, bare: bool) -> Outcome:
    """What the written file is, and how it compares with the model."""
    from modelopt_cli.models.files.exported_files import Ran, checks
    from modelopt_cli.models.graph.capture import fixed_by
    from modelopt_cli.models.measure import count

    model = _model(path, experiment, trust_code)
    suffix = format_of(out)
    model.module.eval()
    exported = _bare(model) if bare else _with_preprocessing(model)
    inputs = exported.example(EXAMPLES, 0)
    content, dynamic = exported_bytes(exported.program, inputs, suffix, exported.about)
    ran = Ran(content, suffix)
    sizes = BATCH_SIZES if dynamic else (EXAMPLES,)
    compared = checks(exported.reference, ran, [exported.example(size, 1) for size in sizes])
    warnings = _warnings(compared, "" if dynamic else fixed_by(exported.program, inputs), out)
    write_whole(out, lambda stream: stream.write(content))
    rows: list[list[Cell]] = [[check.batch_size, check.error] for check in compared]
    size, error = float(len(content)), _worst(compared)
    details: ExportDetails = {
        "model": str(path),
        "format": suffix[1:],
        "any_batch_size": dynamic,
        "runtime": ran.runtime,
        "bare": bare,
        "task": exported.about["task"],
        "inputs": exported.about["inputs"],
        "outputs": exported.about.get("outputs", []),
        "label_names": exported.about["label_names"],
    }
    return Outcome(
        metrics={**count(model.module.parameters()), "export.size_bytes": size, "export.error": error},
        tables={"checks": Table(columns=["batch size", "relative error"], rows=rows)},
        details=details,
        warnings=warnings,
    )


@dataclass(frozen=True)
class _Model:
    module: nn.Module
    shapes: Shapes
    label_names: Sequence[str]
    preprocessing: Preprocessing


@dataclass(frozen=True)
class _Program:
    """What is exported, what that is held against, random inputs by number and seed, and what the file tells."""

    program: nn.Module
    reference: nn.Module
    example: Callable[[int, int], Tensor]
    about: dict[str, Any]


def _bare(model: _Model) -> _Program:
    from modelopt_cli.models.measure import example

    about = about_model(model.shapes, model.label_names, model.preprocessing.to_plain())
    return _Program(model.module, model.module, lambda size, seed: example(model.shapes, size, seed), about)


def _with_preprocessing(model: _Model) -> _Program:
    from modelopt_cli.training.raw_inputs import AsPredicted, WithPreprocessing, about_raw, raw_example

    module, preprocessing, task = model.module, model.preprocessing, model.shapes.task
    raw = about_raw(preprocessing, task, model.shapes.outputs)
    return _Program(
        WithPreprocessing(module, preprocessing, task).eval(),
        AsPredicted(module, preprocessing, task).eval(),
        lambda size, seed: raw_example(preprocessing, size, seed),
        about_raw_model(model.shapes, model.label_names, raw, preprocessing.to_plain()),
    )


def _model(path: Path, experiment_file: Path | None, trust_code: bool) -> _Model:
    """The module with its shapes, its labels and how its data are preprocessed."""
    from modelopt_cli.data.preprocessing import Preprocessing
    from modelopt_cli.experiment.experiment import Experiment
    from modelopt_cli.models.files import checkpoints
    from modelopt_cli.workflows.shared.data_cache import prepared_data

    file = open_state(path)
    experiment = None if experiment_file is None else Experiment.load(experiment_file)
    if not file.bare:
        saved = checkpoints.load(path, consent_of(experiment, trust_code))
        preprocessing = Preprocessing.from_plain(saved.preprocessing)
        return _Model(saved.model, saved.shapes, saved.label_names, preprocessing)
    if experiment is not None:
        experiment.require("model", "data")
    module, shapes = build(file, experiment)
    assert experiment is not None
    data = prepared_data(experiment)
    return _Model(module, shapes, data.label_names, data.preprocessing)


def _warnings(compared: Sequence[Check], fixed: str, out: Path) -> list[str]:
    """What is restricted. Raises ModeloptError where the file would be wrong."""
    from modelopt_cli.models.graph.surgery import AGREES

    restrictions = [f"{out.name} takes batches of {EXAMPLES} samples alone: {fixed}"] if fixed else []
    for check in compared:
        if check.error <= AGREES:
            continue
        if check.reason and check.batch_size == 1 and len(compared) > 1:
            restrictions.append(f"it takes no batch of a single sample ({check.reason})")
            continue
        what = f"fails ({check.reason})" if check.reason else f"differs from the model's by {check.error:.1%}"
        raise ModeloptError(
            f"what was exported {what} on a batch of {check.batch_size}, so {out} was not written; does the model draw "
            "random numbers, or keep something between its calls?"
        )
    return restrictions


def _worst(compared: Sequence[Check]) -> float:
    return max(check.error for check in compared if not check.reason)
