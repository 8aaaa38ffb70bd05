"""A dry run: the space that would be searched, what was planned, where, and what it is thought to take."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import floor, log10
from typing import Any, cast

from rich.console import Console
from rich.text import Text

from modelopt_cli.cli.render import parts
from modelopt_cli.core.readable import duration, plural, size
from modelopt_cli.results.details import PlanDetails
from modelopt_cli.results.report import Report
from modelopt_cli.workflows.search.taken import reason_of


def render(console: Console, report: Report, *, quiet: bool) -> None:
    """Print the report; `quiet` leaves out the space."""
    details = cast(PlanDetails, report.details)
    if "space" in details and not quiet:
        rows = [[row["path"], row["kind"], row["range"], row["when"] or None] for row in details["space"]]
        if any(row[3] for row in rows):
            rows = [[*row[:3], row[3] or "always"] for row in rows]
        parts.cells(console, "search space", ["path", "kind", "range", "searched when"], rows)
    parts.warnings(console, report)
    console.print(Text("plan", style="bold"))
    if report.plan:
        planned(console, report.plan)
        for option, auto in report.plan.get("auto", {}).items():
            parts.line(console, f"{option}: ", reason_of(auto))
        for text in report.plan.get("advice", ()):
            parts.line(console, "advice: ", text)
    parts.line(console, "", "dry run: everything was checked, nothing was run")


_WHERE = {"processes": "in worker processes", "ray": "on Ray"}


def planned(console: Console, plan: Mapping[str, Any]) -> None:
    """What was to be done, where, and what it was thought to take; of a run that has ended, also what it took."""
    if "trials" in plan:
        trials = "an open number of trials" if plan["trials"] is None else plural(plan["trials"], "trial")
        settings = "infinitely many settings" if plan["space_size"] is None else plural(plan["space_size"], "setting")
        where = f"{plan['workers']} at a time {_WHERE.get(plan['executor'], 'by ' + plan['executor'])}"
        where = "one after another" if plan["executor"] == "serial" else where
        device = "" if plan["device"] == "none" else f", on {plan['device']}"  # a script chooses its own
        stopper = "".join(f", {kind} {plan[kind]}" for kind in ("stopper", "scheduler") if plan.get(kind))
        share = "the steps of " if plan.get("scheduler") else ""  # which are divided among more trials
        parts.line(console, "search: ", f"{share}{trials} by {plan['sampler']}{stopper}, {where}{device}")
        parts.line(console, "space: ", f"{plural(plan['parameters'], 'parameter')}, {settings}")
        if plan.get("cheap"):
            first = plural(plan["cheap"], "trial")
            parts.line(console, "first: ", f"{first} with the file's own early stages, which are made once for them")
        if plan.get("sizes"):
            _sizes(console, plan["sizes"], plan["samples"])
    if "tries" in plan:
        parts.line(console, "search: ", f"at most {plural(plan['tries'], 'smaller model')}, one after another")
    if "epochs" in plan:
        parts.line(console, "training: ", f"{plural(plan['epochs'], 'epoch')} in all")
    if plan.get("allocation_passes"):
        took = _about(plan["allocation_seconds"], duration)
        passes = f"about {plan['allocation_passes']:,.0f} passes over its samples to try cuts out, {took}"
        search = "trials" in plan
        each = "at most " if search else ""
        shared = " a trial; less where others have pruned the same model" if search else ""
        parts.line(console, "allocation: ", f"{each}{passes}{shared}")
    _estimate(console, "time", plan, "seconds", duration)
    _estimate(console, "memory", plan, "bytes", size)


def times(console: Console, report: Report) -> None:
    """How long a run was thought to take, where that was asked beforehand, and how long it took."""
    plan = {"actual_seconds": report.seconds, **report.plan}
    if plan.get("estimated_seconds") is None:
        plan.pop("estimated_seconds", None)
    _estimate(console, "time", plan, "seconds", duration)


def _sizes(console: Console, sizes: Sequence[int], samples: Sequence[int]) -> None:
    shares = [f"{plural(count, 'sample')} (1/{sizes[-1] // size})" for size, count in zip(sizes, samples, strict=True)]
    text = f"each trained on {', '.join(shares[:-1])} and, the best of them, on all {samples[-1]:,}"
    parts.line(console, "sizes: ", f"{text}; a step is 1/{sizes[-1]}")


def _estimate(console: Console, what: str, plan: Mapping[str, Any], unit: str, show: Callable[[float], str]) -> None:
    """`time: about 12 s; took 15 s`; what is not there is left out."""
    texts = []
    if f"estimated_{unit}" in plan:
        guess = plan[f"estimated_{unit}"]
        texts.append("unknown before a trial has run" if guess is None else _about(guess, show))
    if plan.get(f"actual_{unit}"):
        texts.append(f"took {show(plan[f'actual_{unit}'])}")
    if texts:
        parts.line(console, f"{what}: ", "; ".join(texts))


def _about(value: float, show: Callable[[float], str]) -> str:
    """An estimate is not known to more than two digits."""
    rounded = round(value, 1 - floor(log10(value))) if value > 0 else 0.0
    return "about " + show(rounded).replace(".0 ", " ")
