"""A dry run: the space that would be searched, what was planned, where, and what it is thought to take."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from rich.console import Console
from rich.text import Text

from modelopt_cli.cli.render import parts
from modelopt_cli.core.readable import duration, size
from modelopt_cli.results.details import PlanDetails
from modelopt_cli.results.report import Report


def render(console: Console, report: Report, *, quiet: bool) -> None:
    """Print the report; `quiet` leaves out the space."""
    details = cast(PlanDetails, report.details)
    if "space" in details and not quiet:
        rows = [[row["path"], row["kind"], row["range"], row["when"] or "always"] for row in details["space"]]
        parts.cells(console, "search space", ["path", "kind", "range", "searched when"], rows)
    if report.plan:
        planned(console, report.plan)
    parts.warnings(console, report)


def planned(console: Console, plan: Mapping[str, Any]) -> None:
    """What was to be done, where, and what it was thought to take; of a run that has ended, also what it took."""
    console.print(Text("plan", style="bold"))
    if "trials" in plan:
        settings = "infinitely many settings" if plan["space_size"] is None else f"{plan['space_size']:,} settings"
        trials = plan["trials"] if plan["trials"] is not None else "open number of"
        where = (
            f"{plan['workers']} at a time in worker processes"
            if plan["executor"] == "processes"
            else "one after another"
        )
        stopper = "".join(f", {kind} {plan[kind]}" for kind in ("stopper", "scheduler") if plan.get(kind))
        console.print(f"  space: {plan['parameters']} parameters, {settings}")
        share = "the steps of " if plan.get("scheduler") else ""  # which are divided among more trials
        console.print(f"  {share}{trials} trials by {plan['sampler']}{stopper}, {where}, on {plan['device']}")
        if plan.get("sizes"):
            _sizes(console, plan["sizes"], plan["samples"])
    if "epochs" in plan:
        console.print(f"  {plan['epochs']} epochs in all")
    _estimate(console, "time", plan.get("estimated_seconds"), plan.get("actual_seconds"), duration)
    if "estimated_bytes" in plan:
        _estimate(console, "memory", plan["estimated_bytes"], plan.get("actual_bytes"), size)


def _sizes(console: Console, sizes: Sequence[int], samples: Sequence[int]) -> None:
    shares = [f"{count:,} samples (1/{sizes[-1] // size})" for size, count in zip(sizes, samples, strict=True)]
    text = f"each trained on {', '.join(shares[:-1])} and, the best of them, on all {samples[-1]:,}"
    console.print(f"  {text}; a step is 1/{sizes[-1]}", soft_wrap=True)


def _estimate(
    console: Console, what: str, estimated: float | None, actual: float | None, show: Callable[[float], str]
) -> None:
    guess = show(estimated) if estimated is not None else "unknown before a trial has run"
    took = f"; took {show(actual)}" if actual else ""
    console.print(f"  {what}: estimated {guess}{took}")
