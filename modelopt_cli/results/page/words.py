"""A report in sentences: what was asked, what came out, against which baseline, and how sure that is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import stdev
from typing import Any

from modelopt_cli.core.conditions import Goal
from modelopt_cli.core.intervals import wilson
from modelopt_cli.core.readable import count, duration, number, short, size
from modelopt_cli.results.charts.learners import GAPS
from modelopt_cli.results.page.parts import Tile
from modelopt_cli.results.report import GateResult, Report
from modelopt_cli.results.tables import DEVIATION, column_of

_KINDS = {
    "training": "A training",
    "search": "A search",
    "pruning": "Weights set to zero",
    "units": "Units taken out of a model",
    "weights_file": "A pruned file of weights",
    "distillation": "A distillation",
    "compression": "A model made smaller in stages",
    "evaluation": "A saved model judged",
    "inspection": "A model looked into",
    "groups": "A model's units",
    "export": "A model exported",
    "pick": "A model picked out of a search",
    "replay": "A search asked again",
    "plan": "A plan",
    "comparison": "Runs side by side",
}
_MAIN = ("accuracy", "balanced_accuracy", "f1", "r2", "rmse", "mae", "loss")
"""Measures by which a model is spoken of, the first that it has."""
_SPLITS = ("test", "validation")
_COSTS = ("parameters", "multiply-accumulates", "bytes of tensors")
_BYTES, _SECONDS = ("size_bytes", "bytes"), ("seconds",)


def kicker(report: Report) -> str:
    """The kind of report, above the heading."""
    return f"modelopt {report.workflow} · {_KINDS.get(report.kind, report.kind)}"


def paragraphs(report: Report) -> list[str]:
    """The first says what came out; those after it how sure that is, and what was demanded."""
    if report.status == "failed":
        return [f"The run failed: {report.reason or 'nothing says why'}.", *filter(None, [_so_far(report)])]
    if report.kind == "search":
        lead = _search(report)
    elif report.kind in ("pruning", "units"):
        lead = _pruning(report)
    elif report.kind == "weights_file":
        lead = _weights_file(report)
    elif report.kind == "distillation":
        lead = _distillation(report)
    elif report.kind == "compression":
        lead = _compression(report)
    elif report.kind == "pick":
        lead = _pick(report)
    elif report.kind in ("training", "evaluation"):
        lead = _training(report)
    elif report.kind == "comparison":
        names = report.details.get("runs", {})
        named = listed([f"{key} is {name}" for key, name in names.items()])
        lead = [f"{len(names)} runs side by side: {named}." if names else "Runs side by side."]
        said = [f"{text.rstrip('.')}." for text in report.details.get("summary", [])]
        return [*lead, *said, *filter(None, [_gates(report)])]
    else:
        lead = [f"{_KINDS.get(report.kind, report.kind)}, by modelopt {report.workflow}."]
    if report.status == "interrupted":
        lead.append("The run has not come to its end: this is what it had found by then.")
    return [" ".join(lead), *filter(None, [_certainty(report), _gates(report)])]


def tiles(report: Report) -> list[Tile]:
    """Three to six figures that are seen first."""
    if report.kind == "comparison":
        return _compared(report)
    shown: list[Tile] = []
    metric = main_metric(report)
    if metric is not None:
        shown.append(Tile(metric, value_of(metric, report.metrics[metric]), _beside(report, metric)))
    test = _sibling(metric, "test", report.metrics)
    if test is not None and test != metric:
        shown.append(Tile(test, value_of(test, report.metrics[test]), "read once, after all choices"))
    if report.kind == "search":
        trials = report.records("trials")
        ended = sum(row["state"] in ("completed", "stopped", "failed") for row in trials)
        failed = sum(row["state"] == "failed" for row in trials)
        stopped = sum(row["state"] == "stopped" for row in trials)
        early = [f"{stopped} stopped early"] if stopped else []
        shown.append(Tile("trials", str(ended), ", ".join([*early, f"{failed} failed" if failed else "none failed"])))
    for name in ("model.parameters", "model.size_bytes", "model.flops", "model.sparsity"):
        if name in report.metrics:
            shown.append(Tile(name, value_of(name, report.metrics[name]), _cost_beside(report, name)))
    if report.seconds:
        shown.append(Tile("time", duration(report.seconds)))
    return shown[:6]


def _compared(report: Report) -> list[Tile]:
    """Of a comparison: each main metric of each run."""
    rows = {row["metric"]: row for row in report.records("metrics")}
    return [
        Tile(f"{metric} of {letter}", value_of(metric, rows[metric][letter]), name)
        for metric in report.details.get("main", [])[:2]
        for letter, name in report.details.get("runs", {}).items()
        if metric in rows and rows[metric].get(letter) is not None
    ][:6]


def main_metric(report: Report) -> str | None:
    """The metric that the report is about: its objective, else the first of those that models are spoken of by."""
    goals = [Goal.parse(text) for text in report.details.get("objective", [])]
    for goal in goals:
        if goal.metric in report.metrics:
            return goal.metric
    for split in _SPLITS:
        for measure in _MAIN:
            if f"{split}.{measure}" in report.metrics:
                return f"{split}.{measure}"
    return next(iter(report.metrics), None)


def value_of(metric: str, value: float) -> str:
    """A metric's value as text, with its unit where its name says one."""
    last = metric.rpartition(".")[2]
    if last in _BYTES:
        return size(value)
    if last in _SECONDS:
        return duration(value)
    if last == "sparsity":
        return f"{value:.1%}"
    return count(value) if float(value).is_integer() and abs(value) >= 1000 else number(float(value))


# What came out


def _training(report: Report) -> list[str]:
    about = report.details.get("data", {})
    where = f" on {count(about['samples'])} samples of {about['source']}" if {"samples", "source"} <= set(about) else ""
    epochs = report.metrics.get("train.epochs")
    lasting = f" for {epochs:.0f} epochs" if epochs and report.kind == "training" else ""
    what = "A saved model was judged" if report.kind == "evaluation" else "A model was trained"
    sentences = [f"{what}{where}{lasting}."]
    metric = main_metric(report)
    if metric is not None:
        sentences.append(f"{_capital(_reading(report, metric))}{_baseline_of_data(report, metric)}.")
        other = _sibling(metric, "validation" if metric.startswith("test.") else "test", report.metrics)
        train = _sibling(metric, "train", report.metrics)
        rest = [_reading(report, name) for name in (other, train) if name is not None and name != metric]
        if rest:
            sentences.append(f"{_capital(' and '.join(rest))}.")
    return sentences


def _search(report: Report) -> list[str]:
    goals = [Goal.parse(text) for text in report.details.get("objective", [])]
    trials = report.records("trials")
    ended = [row for row in trials if row["state"] in ("completed", "stopped", "failed")]
    states = {state: sum(row["state"] == state for row in trials) for state in ("stopped", "failed")}
    early = [f"{n} of them {'ended early' if state == 'stopped' else 'failed'}" for state, n in states.items() if n]
    sampler = report.plan.get("sampler")
    searched = report.details.get("space") or list((report.best or {}).get("params", {}))
    asked = " and ".join(f"{'highest' if goal.maximize else 'lowest'} {goal.metric}" for goal in goals)
    by = f" by {sampler}" if sampler else ""
    over = f" over {len(searched)} setting{'s' * (len(searched) != 1)}" if searched else ""
    sentences = [f"The search asked for the {asked}{over}, and tried {len(ended)} trial{'s' * (len(ended) != 1)}{by}"]
    sentences[0] += f" ({', '.join(early)})." if early else "."
    if report.best is None:
        return [*sentences, "No trial ended with a value."]
    for goal in goals[:1]:
        value = report.best["metrics"].get(goal.metric)
        if value is None:
            continue
        sentences.append(
            f"Trial {report.best['number']} is the best, with {goal.metric} {number(value)}{_against(report, goal)}."
        )
    if report.best.get("params"):
        sentences.append(f"Its settings: {_settings(report.best['params'])}.")
    if len(goals) > 1:
        front = report.details.get("front", [])
        volume = report.details.get("hypervolume")
        worth = f" (hypervolume {number(volume)})" if volume is not None else ""
        again = len(front) - len(report.records("front") or front)
        worth += f"; {again} of them came to the very same values as another" if again else ""
        sentences.append(
            f"That is by the first objective alone: {len(front)} trials are best compromises between all{worth}."
        )
    test = _sibling(goals[0].metric if goals else None, "test", report.metrics)
    if test is not None:
        sentences.append(
            f"On the test split, which no choice has seen, {test.removeprefix('test.')} is "
            f"{number(report.metrics[test])}."
        )
    important = [row for row in report.records("importance") if row.get("importance") is not None][:2]
    if important:
        paths = [row["path"] for row in report.records("importance")]
        readings = " and ".join(f"{short(row['path'], paths)} ({row['importance']:.0%})" for row in important)
        sentences.append(f"What mattered most: {readings}.")
    return sentences


def _against(report: Report, goal: Goal) -> str:
    """What the best is compared with: the file's own values, where they were tried; else the middle of all."""
    best = report.best
    assert best is not None
    value = best["metrics"][goal.metric]
    baseline = report.details.get("baseline") or {}
    before = (baseline.get("metrics") or {}).get(goal.metric)
    if before is not None and baseline.get("trial") == best["number"]:
        return ", which are the file's own values: the search found nothing better"
    if before is None:
        return ""
    gain = (value - before) if goal.maximize else (before - value)
    own = f"the file's own values (trial {baseline.get('trial')}) gave {number(before)}"
    return f"; {own}, so it is better by {number(gain)}"


def _pick(report: Report) -> list[str]:
    details = report.details
    which = f"Trial {details.get('trial')} of the search {details.get('search')}"
    sentences = [f"{which} was picked: {details.get('why')}."]
    if details.get("refined"):
        changed = ", ".join(f"{path} {number(value)}" for path, value in details.get("changed", {}).items())
        gains = details.get("gain", {})
        changes = [f"{name} by {'+' if change > 0 else ''}{number(change)}" for name, change in gains.items() if change]
        sentences.append(f"Its setting was run again to the end{f' ({changed})' if changed else ''}.")
        sentences.append(f"That changed {listed(changes)}." if changes else "That changed none of these figures.")
    else:
        sentences.append("Its model is judged as the search left it.")
    rows = [row for row in report.records("picked") if row.get("on test") is not None]
    readings = [f"{row['metric'].removeprefix('validation.')} {number(row['on test'])}" for row in rows]
    if readings:
        sentences.append(f"On the test split, which the choice has not seen: {listed(readings)}.")
    return sentences


def _pruning(report: Report) -> list[str]:
    stages = {row["stage"]: row for row in report.records("stages")}
    details = report.details
    asked = ", ".join(f"{key} {_option(value)}" for key, value in (details.get("asked") or {}).items())
    sparsity = report.metrics.get("model.sparsity")
    what = (
        "Units were taken out of a trained model"
        if report.kind == "units"
        else "Weights of a trained model were set to zero"
    )
    sentences = [f"{what}{f' ({asked})' if asked else ''}."]
    cheaper = [
        f"{row['what']} from {_cost(row['what'], row['before'])} to {_cost(row['what'], row['after'])}"
        f"{_less(row['before'], row['after'])}"
        for row in report.records("costs")
        if row["what"] in ("parameters", "flops", "bytes", "size")
        and row.get("before")
        and row.get("after") is not None
    ]
    if cheaper:
        sentences.append(f"It went down in {', '.join(cheaper)}.")
    elif sparsity is not None:
        sentences.append(f"{sparsity:.1%} of its weights are zero now.")
    metric = _stage_metric(stages)
    if metric is not None:
        readings = [
            f"{number(row[metric])} {_WHEN.get(stage, stage)}"
            for stage, row in stages.items()
            if row.get(metric) is not None
        ]
        sentences.append(f"Its {metric} was {', '.join(readings)}.")
    return sentences


def _less(before: float, after: float) -> str:
    return f" ({1 - after / before:.0%} less)" if after < before else ""


_WHEN = {"before": "before", "pruned": "right after pruning", "recovered": "after recovery", "final": "at the end"}


def _weights_file(report: Report) -> list[str]:
    before = report.details.get("before", {})
    sparsity = report.metrics.get("model.sparsity")
    sentences = ["A file of weights was pruned as it is, without its model's code."]
    if sparsity is not None:
        was = f", {before['model.sparsity']:.1%} before" if "model.sparsity" in before else ""
        sentences.append(f"{sparsity:.1%} of its weights are zero now{was}.")
    sentences.append("What that does to its predictions was not judged: give --experiment FILE to judge it.")
    return sentences


def _distillation(report: Report) -> list[str]:
    rows = {row["learner"]: row for row in report.records("learners") if row.get("kept", True) is not False}
    metric = next(
        (f"{s}.{m}" for s in _SPLITS for m in _MAIN if any(row.get(f"{s}.{m}") is not None for row in rows.values())),
        None,
    )
    sentences = ["A student learned from a teacher's outputs, and is compared with the same student trained alone."]
    if metric is not None:
        readings = [f"{name} {_plus_minus(row, metric)}" for name, row in rows.items() if row.get(metric) is not None]
        sentences.append(f"By {metric}: {', '.join(readings)}.")
    sizes = next((row for row in report.records("costs") if row["what"] == "parameters" and row.get("student")), None)
    if sizes is not None and sizes.get("teacher"):
        times = sizes["teacher"] / sizes["student"]
        sentences.append(
            f"The student has {count(sizes['student'])} parameters, {times:.3g} times fewer than the teacher."
        )
    gap = next((name for name in GAPS if name in report.metrics), None)
    if gap is not None:
        closed, where = report.metrics[gap], gap.partition(".")[0]
        sentences.append(
            f"On the {where} split it closed {closed:.0%} of the gap between the student alone and the teacher."
            if closed > 0
            else f"On the {where} split it did no better than the student alone: the teacher did not help it."
        )
    return sentences


def _compression(report: Report) -> list[str]:
    rows = report.records("stages")
    if len(rows) < 2:
        return ["A model is made smaller in stages; none of them has been compared with another yet."]
    first, last = rows[0], rows[-1]
    stages = [str(row["stage"]) for row in rows]
    sentences = [f"A model was made smaller in stages: {listed(stages)}."]
    metric = next((f"{s}.{m}" for s in _SPLITS for m in _MAIN if last.get(f"{s}.{m}") is not None), None)
    if metric is not None and first.get(metric) is not None:
        sentences.append(
            f"Its {metric} is {_plus_minus(last, metric)}; that of the first model was {_plus_minus(first, metric)}."
        )
    less = [
        what.format(f"{first[name] / last[name]:.3g}")
        for name, what in _LESS.items()
        if first.get(name) and last.get(name) and first[name] > last[name]
    ]
    if less:
        sentences.append(f"Beside the first model it has {listed(less)}.")
    return sentences


_LESS = {
    "model.parameters": "{} times fewer parameters",
    "model.macs": "{} times fewer multiply-accumulates",
    "model.file_bytes": "a file {} times smaller",
    "model.latency_ms": "a latency {} times shorter",
}


def _settings(params: Mapping[str, Any]) -> str:
    """The first settings by their short names."""
    shown = [f"{short(path, params)} {number(value)}" for path, value in list(params.items())[:8]]
    left = len(params) - len(shown)
    return ", ".join(shown) + (f" and {left} more" if left else "")


def _so_far(report: Report) -> str:
    trials = report.records("trials")
    if not trials:
        return ""
    failed = sum(row["state"] == "failed" for row in trials)
    return f"{len(trials)} trials had begun, {failed} of them failed; the tables below have what is known of them."


# How sure it is


def _certainty(report: Report) -> str:
    metric = main_metric(report)
    if metric is None:
        return ""
    best = report.details.get("believed")
    if best:
        return (
            f"Results are noisy: {best['metric']} of the best setting is believed to be {number(best['believed'])} ± "
            f"{number(best['uncertainty'])}, and one trial deviates by {number(best['noise'])}."
        )
    seeds = report.details.get("seeds")
    deviation = _over_seeds(report, metric)
    if seeds and deviation is not None:
        return f"All figures are means over {len(seeds)} seeds; {metric} deviates by {deviation:.2g} between them."
    shown = metric if metric.startswith("test.") else _sibling(metric, "test", report.metrics) or metric
    split, _, measure = shown.partition(".")
    samples = next((row["samples"] for row in report.records("splits") if row["split"] == split), None)
    if samples and measure == "accuracy":
        low, high = wilson(report.metrics[shown], int(samples))
        return (
            f"How sure that is: with {samples:,} samples in the {split} split, an accuracy of "
            f"{number(report.metrics[shown])} stands for one between {number(low)} and {number(high)} (95%, Wilson). "
            f"{_one_seed(report)}"
        ).rstrip()
    return _one_seed(report)


def _one_seed(report: Report) -> str:
    """What it takes to see how much another seed changes; nothing of runs that have one seed by their nature."""
    if report.kind == "search":
        command = f"modelopt {report.details.get('workflow', 'train')} best.yaml --set seeds=3"
        return f"One seed only: {command} would show how much results vary from run to run."
    of_file = "demands" in report.details or "note" in report.details  # a search for a target, a pruned file of weights
    if of_file or report.kind not in _OVER_SEEDS:
        return ""
    return "One seed only: seeds: 3 in the file would show how much results vary from run to run."


_OVER_SEEDS = ("training", "pruning", "units", "distillation", "compression")


def _over_seeds(report: Report, metric: str) -> float | None:
    """By how much the metric deviates between seeds; None where there is one."""
    column = column_of(metric, report.tables["seeds"].columns) if "seeds" in report.tables else metric
    rows = [row for row in report.records("seeds") if isinstance(row.get("seed"), int)]
    values = [row[column] for row in rows if isinstance(row.get(column), int | float)]
    return stdev(values) if len(values) > 1 else report.metrics.get(metric + DEVIATION)


def _gates(report: Report) -> str:
    if not report.gates:
        return ""
    missed = [gate.condition for gate in report.gates if not gate.met]
    one = len(report.gates) == 1
    if missed:
        return f"{len(missed)} of {len(report.gates)} gate{'s' * (not one)} not met: {', '.join(missed)}."
    doubt = [gate.condition for gate in report.gates if _by_chance(report, gate)]
    text = f"The gate {report.gates[0].condition} is met" if one else f"All {len(report.gates)} gates are met"
    close = "its bound" if one else f"the bound of {listed(doubt)}" if doubt else ""
    return f"{text}, though {close} lies within what chance leaves open." if doubt else f"{text}."


def _by_chance(report: Report, gate: GateResult) -> bool:
    """Whether the bound of a gate on an accuracy lies in the interval that its samples leave open."""
    metric = gate.condition.split()[0]
    split, _, measure = metric.partition(".")
    samples = next((row["samples"] for row in report.records("splits") if row["split"] == split), None)
    if measure != "accuracy" or not samples or gate.value is None or gate.margin is None:
        return False
    low, high = wilson(gate.value, int(samples))
    return low <= gate.value - abs(gate.margin) <= high


# Parts of sentences


def _reading(report: Report, metric: str) -> str:
    split, _, measure = metric.partition(".")
    value = value_of(metric, report.metrics[metric])
    where = {"test": "on the test split", "validation": "on the validation split", "train": "on the train split"}
    return f"{measure} {where[split]} is {value}" if split in where else f"{metric} is {value}"


def _baseline_of_data(report: Report, metric: str) -> str:
    """What is right without any model: always the most frequent class."""
    split, _, measure = metric.partition(".")
    sizes = [row["samples"] for row in report.records("classes") if row["split"] == split]
    if measure != "accuracy" or not sizes or not sum(sizes):
        return ""
    return f"; always naming the most frequent class would give {number(max(sizes) / sum(sizes))}"


def _sibling(metric: str | None, split: str, metrics: Mapping[str, float]) -> str | None:
    """The same measure on another split, where there is one."""
    if metric is None:
        return None
    name = f"{split}.{metric.partition('.')[2]}"
    return name if name in metrics else None


def _beside(report: Report, metric: str) -> str:
    goals = [Goal.parse(text) for text in report.details.get("objective", [])]
    before = ((report.details.get("baseline") or {}).get("metrics") or {}).get(metric)
    if before is not None:
        return f"the file's own values: {number(before)}"
    deviation = _over_seeds(report, metric)
    if deviation is not None:
        return f"± {deviation:.2g}"
    stages = {row["stage"]: row for row in report.records("stages")}
    if stages.get("before", {}).get(metric) is not None:
        return f"before: {number(stages['before'][metric])}"
    alone = next((row for row in report.records("learners") if row["learner"] == "student alone"), {})
    if alone.get(metric) is not None:
        return f"student alone: {number(alone[metric])}"
    return "objective" if any(goal.metric == metric for goal in goals) else ""


def _cost_beside(report: Report, name: str) -> str:
    last = {"model.parameters": "parameters", "model.size_bytes": "bytes of tensors"}.get(name, "")
    row = next((row for row in report.records("costs") if row["what"] == last), None)
    before = None if row is None else row.get("before", row.get("teacher"))
    if before is None:
        return ""
    return f"{'teacher' if row is not None and 'teacher' in row else 'before'}: {_cost(last, before)}"


def _stage_metric(stages: Mapping[str, Mapping[str, Any]]) -> str | None:
    names = [f"{split}.{measure}" for split in _SPLITS for measure in _MAIN]
    return next((name for name in names if sum(row.get(name) is not None for row in stages.values()) > 1), None)


def _plus_minus(row: Mapping[str, Any], metric: str) -> str:
    deviation = row.get(f"{metric}_std")
    return number(row[metric]) if deviation is None else f"{number(row[metric])} ± {deviation:.2g}"


def _cost(what: str, value: float) -> str:
    return size(value) if what.startswith("bytes") else count(value)


def _option(value: Any) -> str:
    if isinstance(value, Mapping):
        return " ".join(f"{key} {item}" for key, item in value.items())
    return str(value)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def listed(names: Sequence[str]) -> str:
    """Names in a sentence: a, b and c."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
