"""Whether all settings of a search are measured on the same thing: samples, targets and splits are no setting.

A search that may choose its own validation samples finds the luckiest ones, and those that one trial is tested on are
others' training samples.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from modelopt_cli.data.sources import DataSource
from modelopt_cli.experiment.document.marks import Finding
from modelopt_cli.experiment.sections import Sections

_WHY = "results on different samples cannot be compared, and the best of them would be the luckiest"


def measured_path(experiment: Sections, path: str) -> tuple[str, str] | None:
    """(rule, remedy): why a search may not try values at this path; None where it may, or where nothing tells."""
    head, _, rest = path.partition(".")
    option = rest.partition(".")[0]
    data = experiment.data
    if head != "data" or data is None or not option or option in data.changes_inputs:
        return None
    if option != "type" and option not in type(data).model_fields:
        return None  # no option of this data set at all
    return f"a search cannot change data.{option}: {_WHY}", _may(data)


def measured_findings(experiment: Sections, trial: Sections, setting: Mapping[str, Any]) -> Iterator[Finding]:
    """What a setting changes of what is measured. `trial`: the experiment with the setting's values."""
    if experiment.data is not None and trial.data is not None and "data" in setting:
        yield from _data(experiment.data, trial.data)
    yield from _loss(experiment, setting)


def _data(before: DataSource, now: DataSource) -> Iterator[Finding]:
    """Between whole sections: what is not as in the file's own."""
    if type(now) is not type(before):
        rule = f"a search cannot change the data set ({before.name()} in this file, {now.name()} here): {_WHY}"
        yield Finding(("data",), rule, _may(before))
        return
    for option in type(now).model_fields:
        if option not in now.changes_inputs and getattr(now, option) != getattr(before, option):
            rule = f"data.{option} is not what it is in the file's own data section: {_WHY}"
            yield Finding(("data",), rule, f"write it alike in every branch; {_may(now)}")


def _may(data: DataSource) -> str:
    return f"of these data, a search may try: {', '.join(sorted(data.changes_inputs))}"


def _loss(experiment: Sections, setting: Mapping[str, Any]) -> Iterator[Finding]:
    """The loss that is descended is also the one that models are judged by, in its own unit."""
    tuning = experiment.require_tuning()
    judged = [goal.metric for goal in tuning.goals] + [condition.metric for condition in tuning.conditions]
    looked_at = [name for name in judged if name.rpartition(".")[2] in ("loss", "loss_rise")]
    whole = setting.get("training")
    chosen = "training.loss" in setting or (isinstance(whole, Mapping) and "loss" in whole)
    if chosen and looked_at:
        yield Finding(
            ("training", "loss"),
            f"{looked_at[0]} is what settings are compared by, but training.loss changes what that is",
            "search for a metric that is the same for every loss, such as validation.rmse",
        )
