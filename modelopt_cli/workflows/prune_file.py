"""Pruning a file of weights, without the model's code: read, mask, write back in the same form, and say what it did."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelopt_cli.core.errors import UsageError
from modelopt_cli.experiment.expected_metrics import RATIO
from modelopt_cli.models.duplicates import memory_of
from modelopt_cli.models.files.masked_pairs import MaskedPairs
from modelopt_cli.models.files.sizes import estimated, quick_sizes
from modelopt_cli.models.files.state_files import StateFile, beside, open_state
from modelopt_cli.pruning.weights.files import FilePruner, FilePruning, ZeroCount
from modelopt_cli.pruning.weights.selection import FEW_AXES, NOT_FINITE, Selection, choose
from modelopt_cli.results.details import WeightsFileDetails
from modelopt_cli.results.report import Cell, Table
from modelopt_cli.workflows.shared.changes import ratios
from modelopt_cli.workflows.shared.context import Context
from modelopt_cli.workflows.shared.module_of_file import shape_text
from modelopt_cli.workflows.shared.reporting import Outcome, Reporting

if TYPE_CHECKING:
    from torch import Tensor

    from modelopt_cli.core.conditions import Condition
    from modelopt_cli.pruning.structures import MaskStructure
    from modelopt_cli.results.report import Report

__all__ = ["FilePruning", "pattern", "run"]

SIZES = ("model.size_bytes", "model.compressed_bytes")
COUNTED = ("model.parameters", "model.nonzero", "model.sparsity", "model.nonzero" + RATIO)
WRITTEN = (*SIZES, *(name + RATIO for name in SIZES))
"""Metrics of the report; those of the written file are not there after a dry run."""

_MASK = "a mask, which takes what its weight loses"
_NAMED = 5
_HONEST = "zeros make the file no smaller unless it is compressed, and dense kernels do not run them faster"
_TRUSTED = "--trust-pickle: whatever code the file names was run when it was read"


def run(
    path: Path,
    pruning: FilePruning,
    out: Path | None = None,
    *,
    dry_run: bool = False,
    force: bool = False,
    trust: bool = False,
    measure_compressed: bool = False,
    key: str | None = None,
    gates: Sequence[Condition] = (),
) -> Report:
    """Prune the weights at `path` into `out` (default: model.pruned.pt beside it).

    `force` overwrites `out`, `trust` runs code that the file names, `measure_compressed` compresses all of a large
    file to tell its size. `key`: the part of the file that holds the weights. `gates` are judged on the metrics. Raises
    UsageError when nothing can be pruned, a glob matches nothing, or `out` exists.
    """
    reporting = Reporting(None, Context(gates=tuple(gates)), name=path.name)
    target = output(path, out, force=force, dry_run=dry_run)
    with reporting.log.recording():
        file = open_state(path, trust=trust, key=key)
        tensors = MaskedPairs(file.tensors)
        selection = choose(
            tensors,
            pruning.structure.problem,
            include=pruning.include,
            exclude=pruning.exclude,
            everything=pruning.everything,
            bare=file.bare,
            where=str(path),
            apart=tensors.unfit,
        )
        counts = _prune(file, tensors, pruning, selection.taken, None if dry_run else target)
        spared = {**selection.spared, **dict.fromkeys(tensors.masks, _MASK)}
        layers = _layers(file, counts, spared)
        before, after = _totals(tensors, counts)
        before |= sizes_of(path, exact=measure_compressed)
        after |= {} if dry_run else sizes_of(target, exact=measure_compressed)
        after |= ratios(after, before, ("model.nonzero", *SIZES))
    details: WeightsFileDetails = {
        "before": before,
        "spared": dict(Counter(spared.values())),
        "spared_names": _names(spared),
        "kind": file.kind,
        "dry_run": dry_run,
        "note": "; ".join(filter(None, (file.note, tensors.note))),
        "compressed_estimated": estimated(path, exact=measure_compressed),
    }
    warnings = [_HONEST, *[_TRUSTED] * trust, *_not_finite(selection), *_collapsed(layers)]
    outcome = Outcome(after, {"layers": layers}, details, warnings)
    return reporting.report("weights_file", "prune", outcome, artefacts={} if dry_run else {"model": str(target)})


def output(path: Path, out: Path | None, *, force: bool, dry_run: bool) -> Path:
    """Where to write (default: model.pruned.pt beside it). Raises UsageError where that must not be."""
    target = out if out is not None else beside(path, "pruned")
    if not dry_run:
        check_free(path, target, force=force, folder=path.is_dir())
    return target


def check_free(path: Path, target: Path, *, force: bool, folder: bool = False) -> None:
    """Raise UsageError where the target is the input at `path` or in it, or is there and must not be overwritten.

    `folder`: a folder is to be written, not a file.
    """
    if target.exists() and path.exists() and target.samefile(path):
        raise UsageError(f"{target} is the input, which is never overwritten; choose another place with --out")
    if path.is_dir() and path.resolve() in target.absolute().parents:
        raise UsageError(f"{target} lies in the input's folder; choose another place with --out")
    there = target.exists() or target.is_symlink()
    if there and not force:
        raise UsageError(f"{target} exists already and is not overwritten; choose another with --out, or say --force")
    if there and target.is_dir() != folder:
        present, wanted = ("a folder", "a file") if target.is_dir() else ("no folder", "a folder")
        raise UsageError(f"{target} is {present}, but {wanted} is to be written there; use --out")


def _prune(
    file: StateFile, tensors: MaskedPairs, pruning: FilePruning, names: Sequence[str], out: Path | None
) -> dict[str, ZeroCount]:
    pruner = FilePruner(file, pruning, names, tensors)
    if out is None:
        file.apply(pruner.change)
    else:
        file.save(out, {"pruning": pruning.as_dict(), "masks": pruner.masks}, pruner.change)
    pruner.finish()
    return pruner.counts


def _layers(file: StateFile, counts: Mapping[str, ZeroCount], spared: Mapping[str, str]) -> Table:
    """A row for every tensor."""
    columns = ["tensor", "shape", "weights", "zero before", "zeroed", "sparsity", "spared"]
    rows: list[list[Cell]] = []
    for name, tensor in file.tensors.items():
        count = counts[name]
        share = count.after / count.weights if count.weights else 0.0
        shape = shape_text(tensor)
        zeroed = count.after - count.before
        rows.append([name, shape, count.weights, count.before, zeroed, share, spared.get(name)])
    return Table(columns=columns, rows=rows)


def _names(spared: Mapping[str, str]) -> dict[str, list[str]]:
    """The first names that each rule spared, where the rule is not about shapes alone."""
    rules = dict.fromkeys(rule for rule in spared.values() if rule != FEW_AXES)
    return {rule: [name for name, own in spared.items() if own == rule][:_NAMED] for rule in rules}


def _totals(
    tensors: Mapping[str, Tensor], counts: Mapping[str, ZeroCount]
) -> tuple[dict[str, float], dict[str, float]]:
    """Before and after; tied tensors count once, floating-point ones only."""
    unique = {
        memory_of(tensor): counts[name] for name, tensor in tensors.items() if tensor.is_floating_point()
    }.values()
    total = sum(count.weights for count in unique)

    def counted(zero: int) -> dict[str, float]:
        share = zero / total if total else 0.0
        return {"model.parameters": float(total), "model.nonzero": float(total - zero), "model.sparsity": share}

    return counted(sum(count.before for count in unique)), counted(sum(count.after for count in unique))


def sizes_of(path: Path, *, exact: bool = False) -> dict[str, float]:
    """Bytes of the file as it is, and compressed; the latter an estimate for a large file, unless `exact`."""
    plain, packed = quick_sizes(path, exact=exact)
    return {"model.size_bytes": float(plain), "model.compressed_bytes": float(packed)}


def _not_finite(selection: Selection) -> list[str]:
    names = [name for name, rule in selection.spared.items() if rule == NOT_FINITE]
    return [f"NaN or infinite values in: {', '.join(names)}; these stay as they are, and are not ranked"] * bool(names)


def _collapsed(table: Table) -> list[str]:
    """No layer becomes all zeros silently."""
    names = [str(row["tensor"]) for row in table.records() if row["spared"] is None and row["sparsity"] == 1.0]
    return [f"nothing is left of: {', '.join(names)}; the model's output no longer depends on them"] if names else []


def pattern(text: str) -> MaskStructure:
    """`2:4` as a structure. Raises UsageError."""
    from modelopt_cli.pruning.structures.nm import Nm

    n, colon, m = text.partition(":")
    try:
        if not colon:
            raise ValueError(f"'{text}' is no pattern")
        return Nm(n=int(n), m=int(m))
    except ValueError as error:
        errors: Sequence[Any] = error.errors() if hasattr(error, "errors") else ()
        reason = str(errors[0]["msg"]).removeprefix("Value error, ") if errors else f"'{text}' is no pattern"
        raise UsageError(f"--pattern {text}: {reason}; write N:M with 0 < N < M, e.g. 2:4") from None
