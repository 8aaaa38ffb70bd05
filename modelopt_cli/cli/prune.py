"""`modelopt prune`: zero the least important weights of a file of weights."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from modelopt_cli.cli.running import Gate, Json, Quiet, Weights, demand, judge, show

if TYPE_CHECKING:
    from modelopt_cli.pruning.allocations import Allocation
    from modelopt_cli.pruning.structures import Structure


def prune(
    model: Weights,
    threshold: Annotated[float | None, typer.Option(help="Weights with |w| below this become 0.")] = None,
    amount: Annotated[float | None, typer.Option(help="Share of the weights to remove, 0 to 1.")] = None,
    pattern: Annotated[str | None, typer.Option(metavar="N:M", help="Keep N of every M inputs, e.g. 2:4.")] = None,
    scope: Annotated[
        Literal["layer", "global"], typer.Option(help="Rank the weights of --amount in each tensor, or all together.")
    ] = "global",
    include: Annotated[list[str] | None, typer.Option(metavar="GLOB", help="Prune these tensors only.")] = None,
    exclude: Annotated[list[str] | None, typer.Option(metavar="GLOB", help="Leave these tensors alone.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Spare no tensor by its name, shape or place.")] = False,
    out: Annotated[Path | None, typer.Option(help="Where to write; default: model.pruned.pt beside it.")] = None,
    gate: Gate = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be done; write nothing.")] = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Zero the least important weights of a model; what comes out is a file of the same kind."""
    from modelopt_cli.pruning.importances.magnitude import Magnitude
    from modelopt_cli.workflows import prune_file as workflow

    structure, allocation = _how_much(threshold, amount, pattern, scope)
    pruning = workflow.FilePruning(
        Magnitude(),
        structure,
        allocation,
        include=tuple(include or ()),
        exclude=tuple(exclude or ()),
        everything=everything,
    )
    report = judge(workflow.run(model, pruning, out, dry_run=dry_run), gate or [])
    show(report, as_json=json, quiet=quiet)
    demand(report)


def _how_much(
    threshold: float | None, amount: float | None, pattern: str | None, scope: str
) -> tuple[Structure, Allocation | None]:
    """What the options say. Raises UsageError."""
    from modelopt_cli.core.errors import UsageError
    from modelopt_cli.pruning.allocations.global_ import Global
    from modelopt_cli.pruning.allocations.threshold import Threshold
    from modelopt_cli.pruning.allocations.uniform import Uniform
    from modelopt_cli.pruning.structures.weights import Weights as SingleWeights
    from modelopt_cli.workflows.prune_file import pattern as pattern_structure

    given = [
        name
        for name, value in (("threshold", threshold), ("amount", amount), ("pattern", pattern))
        if value is not None
    ]
    if len(given) != 1:
        found = " and ".join(f"--{name}" for name in given) or "none of them"
        raise UsageError(f"say how much goes by exactly one of --threshold, --amount and --pattern; found {found}")
    if threshold is not None and not 0.0 <= threshold < math.inf:
        raise UsageError(f"--threshold {threshold:g}: must be a number, 0 or more, e.g. --threshold 0.01")
    if amount is not None and not 0.0 <= amount <= 1.0:
        raise UsageError(f"--amount {amount:g}: must be a share from 0 to 1, e.g. --amount 0.9 for 90%")
    if pattern is not None:
        return pattern_structure(pattern), None
    if threshold is not None:
        return SingleWeights(), Threshold(value=threshold)
    share = amount or 0.0
    return SingleWeights(), Global(amount=share) if scope == "global" else Uniform(amount=share)
