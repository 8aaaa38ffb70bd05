"""What `auto` takes for a search's executor, and why: by what its trials cost, and by the machine's room for them."""

from __future__ import annotations

from dataclasses import dataclass

from modelopt_cli.core.readable import plural, short_duration, size
from modelopt_cli.tuning.search.automatic import Choice

WORKER_START = 4.0
"""Seconds until worker processes have imported what they need."""


@dataclass(frozen=True)
class Machine:
    """Where a search is run. `places`: trials that its cores, or its GPUs, have room for; `what`: which of them."""

    places: int
    what: str = "core"
    free_bytes: int | None = None  # memory; None: not known
    worker_bytes: int = 0  # that a worker process takes


def choose_executor(
    machine: Machine,
    *,
    trials: int | None,
    seconds: float | None,
    workers: int | None = None,
    isolated: str = "",
    script: bool = False,
) -> Choice:
    """serial or processes, and how many. Never ray: a cluster is named by its address.

    `trials`, `seconds` of each: None where unknown. `workers`: as asked for. `isolated`: why a trial needs a process of
    its own. `script`: trials are processes that share out nothing of themselves.
    """
    if script:
        count = workers or 1
        each = (
            "as many as asked for" if workers else "one at a time, since a script may use all cores (--jobs for more)"
        )
        return Choice("processes", f"each script is a process of its own, {each}", count)
    room, limit = _room(machine)
    if isolated:
        return Choice("processes", isolated, workers or room)
    if workers == 1:
        return Choice("serial", "one trial at a time was asked for")
    if workers:
        return Choice("processes", f"{workers} at a time were asked for", workers)
    if room == 1:
        return Choice("serial", f"{limit} one trial at a time")
    if trials is not None and seconds is not None:
        saved = trials * seconds * (1 - 1 / room)
        if saved <= 2 * WORKER_START:
            work = f"{plural(trials, 'trial')} of about {short_duration(seconds)}"
            return Choice(
                "serial", f"for {work} starting {room} worker processes would take about as long as they could save"
            )
        return Choice("processes", f"{limit} {room} trials of about {short_duration(seconds)} at a time", room)
    return Choice("processes", f"{limit} {room} trials at a time", room)


def _room(machine: Machine) -> tuple[int, str]:
    """(trials at a time, what allows them)"""
    places = plural(machine.places, machine.what)
    allows = f"{places} {'allow' if machine.places != 1 else 'allows'}"
    if machine.free_bytes is None or not machine.worker_bytes:
        return machine.places, allows
    fitting = max(1, machine.free_bytes // machine.worker_bytes)
    if fitting >= machine.places:
        return machine.places, allows
    free = f"{size(machine.free_bytes)} of free memory, of which a worker process takes {size(machine.worker_bytes)}"
    return fitting, f"{free}, {'allow' if fitting != 1 else 'allows'}"


def executor_advice(executor: str, choice: Choice) -> str:
    """The same of the executor, where the file leaves the number of workers open. `choice`: what `auto` would take."""
    slower = (executor, choice.value) in (("serial", "processes"), ("processes", "serial"))
    if not slower or (executor == "serial" and choice.workers == 1):
        return ""
    return f"the executor is {executor}; `executor: auto` would take {choice.value}: {choice.reason}"
