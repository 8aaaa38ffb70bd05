"""What was taken for `auto`: put into the experiment that is run, written down with it, and taken again on --resume.

The run's experiment.yaml names what was taken, so that replay and everything that reads a run need no `auto`; its
environment.json has the reasons, and tells that the file left it open. Where trials run is decided anew: it changes no
result but by how many trials run at a time.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypedDict

from modelopt_cli.core.strategy import FAMILIES

if TYPE_CHECKING:
    from modelopt_cli.experiment.experiment import Experiment
    from modelopt_cli.tuning.search.automatic import Choice
    from modelopt_cli.workflows.shared.context import Context


class Taken(TypedDict):
    """`value`: the strategy with its options, None for none. `reason`: the end of a sentence that begins with it."""

    value: dict[str, Any] | None
    reason: str


def reason_of(auto: Taken) -> str:
    """`asha, by auto: trials report 20 epochs, ...`."""
    return f"{'none' if auto['value'] is None else auto['value']['type']}, by auto: {auto['reason']}"


KEPT = ("stopper", "scheduler")
"""Options of `tuning` of which a search that goes on keeps what was taken when it began."""


def taken(option: str, choice: Choice) -> Taken:
    """The choice with the options that its strategy has by default."""
    value = None if choice.value is None else FAMILIES[f"{option}s"].get(choice.value)().model_dump(mode="json")
    return {"value": value, "reason": choice.reason}


def with_taken(experiment: Experiment, auto: Mapping[str, Taken]) -> Experiment:
    """The experiment with what was taken in place of `auto`, wherever it says that."""
    tuning = experiment.require_tuning()
    open_ones = [name for name in KEPT if name in auto and getattr(tuning, name) == "auto"]
    if not open_ones:
        return experiment
    return experiment.with_values({f"tuning.{name}": auto[name]["value"] for name in open_ones})


def taken_before(context: Context) -> dict[str, Taken]:
    """What the search that goes on took when it began; empty for one that begins, or whose file left nothing open."""
    if not context.resume or context.directory is None:
        return {}
    try:
        kept = json.loads(context.directory.path_of("environment.json").read_text(encoding="utf-8"))["auto"]
        return {name: Taken(value=kept[name]["value"], reason=kept[name]["reason"]) for name in KEPT if name in kept}
    except (OSError, ValueError, LookupError, TypeError):
        return {}
