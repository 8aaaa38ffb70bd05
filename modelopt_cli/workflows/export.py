"""A model as a file that runs without its code (.pt2, .onnx), compared with the model before it is written."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelopt_cli.core.errors import ModeloptError, UsageError
from modelopt_cli.models.files.exporting import about_model, exported_bytes, format_of
from modelopt_cli.models.files.state_files import open_state
from modelopt_cli.results.details import ExportDetails
from modelopt_cli.results.files import write_whole
from modelopt_cli.results.report import Cell, Report, Table
from modelopt_cli.workflows.shared.module_of_file import build, consent_of
from modelopt_cli.workflows.shared.reporting import Outcome, Reporting
from modelopt_cli.workflows.shared.run_scope import one_run

if TYPE_CHECKING:
    from torch import nn

    from modelopt_cli.models.architectures import Shapes
    from modelopt_cli.models.files.exported_files import Check

EXAMPLES = 4  # samples that a module is captured with
BATCH_SIZES = (1, 7)  # of the random batches on which it is compared: neither is EXAMPLES


@one_run()
def run(
    path: Path, out: Path, *, experiment: Path | None = None, force: bool = False, trust_code: bool = False
) -> Report:
    """Write the model at `path` to `out`, in the format of its suffix.

    The module is that of a model.pt of modelopt, slim or masked ones included, or what the `model:` and `data:`
    sections of the experiment file say. `trust_code` runs what code a model.pt names. Raises UsageError (exit 2) for
    what cannot be exported, RefusedError (exit 5) for code without that, and ModeloptError (exit 1), with nothing
    written, where what came out computes something else.
    """
    reporting = Reporting(None, name=path.name)
    if out.exists() and not force:
        raise UsageError(f"{out} exists; choose another file, or overwrite it with --force")
    with reporting.log.recording():
        outcome = _exported(path, out, experiment, trust_code)
    return reporting.report("export", "export", outcome, artefacts={"exported": str(out)})


def _exported(path: Path, out: Path, experiment: Path | None, trust_code: bool) -> Outcome:
    """What the written file is, and how it compares with the model."""
    from modelopt_cli.models.files.exported_files import Ran, checks
    from modelopt_cli.models.graph.capture import fixed_by
    from modelopt_cli.models.measure import count, example

    module, shapes, about = _model(path, experiment, trust_code)
    suffix = format_of(out)
    module.eval()
    inputs = example(shapes, EXAMPLES)
    content, dynamic = exported_bytes(module, inputs, suffix, about)
    ran = Ran(content, suffix)
    sizes = BATCH_SIZES if dynamic else (EXAMPLES,)
    compared = checks(module, ran, [example(shapes, size, seed=1) for size in sizes])
    warnings = _warnings(compared, "" if dynamic else fixed_by(module, inputs), out)
    write_whole(out, lambda stream: stream.write(content))
    rows: list[list[Cell]] = [[check.batch_size, check.error] for check in compared]
    size, error = float(len(content)), _worst(compared)
    details: ExportDetails = {
        "model": str(path),
        "format": suffix[1:],
        "any_batch_size": dynamic,
        "runtime": ran.runtime,
        "task": about["task"],
        "inputs": about["inputs"],
        "label_names": about["label_names"],
    }
    return Outcome(
        metrics={**count(module.parameters()), "export.size_bytes": size, "export.error": error},
        tables={"checks": Table(columns=["batch size", "relative error"], rows=rows)},
        details=details,
        warnings=warnings,
    )


def _model(path: Path, experiment_file: Path | None, trust_code: bool) -> tuple[nn.Module, Shapes, dict[str, Any]]:
    """The module with its shapes, and what the exported file says about itself: plain values."""
    from modelopt_cli.experiment.experiment import Experiment
    from modelopt_cli.models.files import checkpoints
    from modelopt_cli.workflows.shared.data_cache import prepared_data

    file = open_state(path)
    experiment = None if experiment_file is None else Experiment.load(experiment_file)
    if not file.bare:
        saved = checkpoints.load(path, consent_of(experiment, trust_code))
        return saved.model, saved.shapes, about_model(saved.shapes, saved.label_names, saved.preprocessing)
    if experiment is not None:
        experiment.require("model", "data")
    module, shapes = build(file, experiment)
    assert experiment is not None
    data = prepared_data(experiment)
    return module, shapes, about_model(shapes, data.label_names, data.preprocessing.to_plain())


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
