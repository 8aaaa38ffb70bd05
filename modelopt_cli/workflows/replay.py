"""The replay workflow: a finished or running search's log asked again, suggestion by suggestion."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from modelopt_cli.core.errors import InputError
from modelopt_cli.core.work import tell
from modelopt_cli.experiment.experiment import Experiment
from modelopt_cli.results.details import Asked, Difference, ReplayDetails
from modelopt_cli.results.environment import environment
from modelopt_cli.tuning.schedulers import Scheduler
from modelopt_cli.tuning.schedulers._sampler_and_stopper import SamplerAndStopper
from modelopt_cli.tuning.search.replay import Replayed, replay
from modelopt_cli.tuning.study import header
from modelopt_cli.tuning.study.store import Store
from modelopt_cli.workflows.shared.context import Context, StageBegun
from modelopt_cli.workflows.shared.reporting import Outcome, Reporting

if TYPE_CHECKING:
    from collections.abc import Sequence

    from modelopt_cli.results.report import Report
    from modelopt_cli.tuning.study.header import Header
    from modelopt_cli.tuning.study.log import Event


def run(path: Path, context: Context) -> Report:
    """Replay the search in the run directory `path`; nothing is written.

    Raises InputError when it holds no study, StorageError when the log makes no sense.
    """
    if not (path / "study.sqlite").exists():
        raise InputError(f"{path} holds no study.sqlite, so it is no search; name a run of modelopt tune")
    store = Store(path / "study.sqlite", write=False)
    try:
        begun_with, events = header.whole_header(store), list(store.events())
        file = path / "experiment.yaml"
        experiment = Experiment.load(file, checked=False) if file.exists() else None
        name = path.name if experiment is None else experiment.name
        reporting = Reporting(None, name=name, seed=int(begun_with["seed"]))
        with reporting.log.recording():
            scheduler = _scheduler(experiment, begun_with)
            replayed = _replayed(events, begun_with, scheduler, context, _sizes(experiment))
    except ValueError as error:
        raise store.damaged(str(error)) from None
    finally:
        store.close()
    details = _details(begun_with, replayed)
    outcome = Outcome(details=details, warnings=_remarks(path, replayed))
    return reporting.report("replay", "replay", outcome, artefacts={"directory": str(path)})


def _replayed(
    events: list[Event],
    begun_with: Header,
    scheduler: Scheduler,
    context: Context,
    sizes: Sequence[int] | None,
) -> Replayed:
    def on_event(event: int) -> None:
        tell("events of the log asked again", event, len(events))

    context.emit(StageBegun("replaying the search", whole=True))
    return replay(events, begun_with, scheduler, sizes=sizes, on_event=on_event)


def _sizes(experiment: Experiment | None) -> Sequence[int] | None:
    fidelity = None if experiment is None else experiment.require_tuning().fidelity
    return None if fidelity is None else fidelity.sizes


def _scheduler(experiment: Experiment | None, begun_with: Header) -> Scheduler:
    """What the search was run by: as its experiment says, or, for a study used by hand, its own stopper."""
    if experiment is not None:
        settings = experiment.require_tuning()
        return settings.named_scheduler or SamplerAndStopper(stopper=settings.named_stopper)
    stopper = begun_with["stopper"]
    return SamplerAndStopper(stopper=None if stopper is None else header.strategy("stoppers", stopper))


def _details(begun_with: Header, replayed: Replayed) -> ReplayDetails:
    def answers(kind: str) -> Asked:
        return {"asked": replayed.asked[kind], "agreed": replayed.agreed[kind]}

    first = replayed.first
    difference: Difference | None = None
    if first is not None:
        difference = {"event": first.event, "what": first.what, "logged": first.logged, "now": first.now}
    return {
        "sampler": begun_with["sampler"],
        "events": replayed.events,
        "suggestions": answers("suggestions"),
        "decisions": answers("decisions"),
        "endings": answers("endings"),
        "agrees": difference is None,
        "first": difference,
    }


def _remarks(path: Path, replayed: Replayed) -> list[str]:
    remarks = []
    if not replayed.asked["decisions"]:
        remarks.append("the log holds no decisions of a scheduler (a study used by hand, or an older version)")
    if replayed.first is not None:
        changed = _otherwise(path)
        remarks.append(
            f"the search ran elsewhere than this replay, which may be why: {'; '.join(changed)}"
            if changed
            else "the search ran on the same versions and machine as this replay, as far as environment.json tells"
        )
    return remarks


def _otherwise(path: Path) -> list[str]:
    """What the run's environment.json has otherwise than it is now."""
    try:
        before = json.loads((path / "environment.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return ["environment.json cannot be read"]
    now = environment(0, "")
    pairs = [(name, before.get(name), now[name]) for name in ("python", "platform", "cores")]
    versions = (before.get("packages") or {}, now["packages"])
    pairs += [(name, *(each.get(name) for each in versions)) for name in sorted({*versions[0], *versions[1]})]
    return [f"{name} was {old}, is {new}" for name, old, new in pairs if old != new]
