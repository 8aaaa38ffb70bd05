"""Pruning a file of weights, without the model's code: read, mask, write back in the same form, and say what it did."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelopt_cli.core.errors import UsageError
from modelopt_cli.models.state_files import StateFile, beside, open_state, sizes
from modelopt_cli.pruning.selection import Selection, place, select, unmatched
from modelopt_cli.results.report import Report, Table

if TYPE_CHECKING:
    from torch import Tensor

    from modelopt_cli.pruning.allocations import Allocation
    from modelopt_cli.pruning.importances import Importance
    from modelopt_cli.pruning.structures import Structure

_HONEST = "zeros make the file no smaller unless it is compressed, and dense kernels do not run them faster"


@dataclass(frozen=True)
class FilePruning:
    """What to do. `allocation` is None for a structure that says itself how much goes."""

    importance: Importance
    structure: Structure
    allocation: Allocation | None
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    everything: bool = False

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        parts = {"importance": self.importance, "structure": self.structure, "allocation": self.allocation}
        return {name: None if part is None else part.model_dump(mode="json") for name, part in parts.items()}


def run(path: Path, pruning: FilePruning, out: Path | None = None, *, dry_run: bool = False) -> Report:
    """Prune the weights at `path` into `out` (default: model.pruned.pt beside it), which must not exist yet.

    Raises UsageError when nothing can be pruned, a glob matches nothing, or `out` exists.
    """
    started, clock = datetime.now(UTC).astimezone(), time.perf_counter()
    file = open_state(path)
    target = out if out is not None else beside(path, "pruned")
    if not dry_run and (target.exists() or target.is_symlink()):
        raise UsageError(f"{target} exists already and is not overwritten; move it away, or choose another with --out")
    selection = _selected(file, pruning)
    before = _measures(file, path)
    rows = _apply(file, selection, pruning)
    if not dry_run:
        file.save(target, pruning.as_dict())
    return Report(
        workflow="prune",
        name=path.name,
        started=started.isoformat(timespec="seconds"),
        seconds=time.perf_counter() - clock,
        metrics=_measures(file, None if dry_run else target),
        tables={"layers": rows},
        details={
            "before": before,
            "spared": dict(Counter(selection.spared.values())),
            "kind": file.kind,
            "dry_run": dry_run,
            "note": file.note,
        },
        artefacts={} if dry_run else {"model": str(target)},
        warnings=[_HONEST, *_collapsed(rows)],
    )


def _selected(file: StateFile, pruning: FilePruning) -> Selection:
    for pattern in unmatched(file.tensors, [*pruning.include, *pruning.exclude]):
        names = ", ".join(list(file.tensors)[:5])
        raise UsageError(f"'{pattern}' matches no tensor of {file.path}; its names are: {names}, ...")
    selection = select(
        file.tensors,
        include=pruning.include,
        exclude=pruning.exclude,
        everything=pruning.everything,
        bare=file.bare,
    )
    fitting = []
    for name in selection.taken:
        problem = pruning.structure.problem(tuple(file.tensors[name].shape))
        if problem is None:
            fitting.append(name)
        else:
            selection.spared[name] = problem
    if not fitting:
        rules = "; ".join(f"{count} tensors: {rule}" for rule, count in Counter(selection.spared.values()).items())
        raise UsageError(
            f"nothing in {file.path} is to be pruned ({rules or 'it holds no tensors'}); see --include, --all"
        )
    return Selection(fitting, selection.spared)


def _apply(file: StateFile, selection: Selection, pruning: FilePruning) -> Table:
    """Zero the weights in place (tied ones follow by themselves); a row for every tensor."""
    import torch

    weights = {name: file.tensors[name] for name in selection.taken}
    zeros = {name: _zeros(tensor) for name, tensor in file.tensors.items()}
    masks = pruning.structure.keep(pruning.importance.score(weights), pruning.allocation)
    with torch.no_grad():
        for name, weight in weights.items():
            weight.masked_fill_(~masks[name], 0.0)
    columns = ["tensor", "shape", "weights", "zero before", "zeroed", "sparsity", "spared"]
    rows: list[list[Any]] = []
    for name, tensor in file.tensors.items():
        found = _zeros(tensor)
        share = found / tensor.numel() if tensor.numel() else 0.0
        shape = "x".join(map(str, tensor.shape)) or "scalar"
        rule = selection.spared.get(name)
        rows.append([name, shape, tensor.numel(), zeros[name], found - zeros[name], share, rule])
    return Table(columns=columns, rows=rows)


def _zeros(tensor: Tensor) -> int:
    dense = str(tensor.layout) == "torch.strided"
    return tensor.numel() - int(tensor.detach().count_nonzero()) if dense else 0


def _measures(file: StateFile, path: Path | None) -> dict[str, float]:
    """Sizes and zeros; tied tensors count once, floating-point ones only."""
    unique = {place(tensor): tensor for tensor in file.tensors.values() if tensor.is_floating_point()}
    count = sum(tensor.numel() for tensor in unique.values())
    nonzero = count - sum(_zeros(tensor) for tensor in unique.values())
    found = {
        "model.parameters": float(count),
        "model.nonzero": float(nonzero),
        "model.sparsity": 1.0 - nonzero / count if count else 0.0,
    }
    if path is not None:
        plain, packed = sizes(path)
        found |= {"model.size_bytes": float(plain), "model.compressed_bytes": float(packed)}
    return found


def _collapsed(table: Table) -> list[str]:
    """No layer becomes all zeros silently."""
    names = [str(row[0]) for row in table.rows if row[6] is None and row[5] == 1.0]
    return [f"nothing is left of: {', '.join(names)}; the model's output no longer depends on them"] if names else []


def pattern(text: str) -> Structure:
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
