"""What a search for a smaller model came to: metrics, tables, gates and sentences of its report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from modelopt_cli.experiment.expected_metrics import RATIO
from modelopt_cli.results.report import Cell, GateResult, Table
from modelopt_cli.results.tables import curve_table
from modelopt_cli.workflows.compression.target.demands import Demands, MaxDrop, described, is_latency
from modelopt_cli.workflows.shared.answer_tables import answer_tables
from modelopt_cli.workflows.shared.changes import changes
from modelopt_cli.workflows.shared.reporting import Outcome

if TYPE_CHECKING:
    from modelopt_cli.training.metrics.answers import Answers
    from modelopt_cli.workflows.compression.target.search import Result
    from modelopt_cli.workflows.compression.target.settings import Start
    from modelopt_cli.workflows.compression.target.timing import Timing
    from modelopt_cli.workflows.compression.target.tries import Given, Tries, Try

_NAMES = {"before": "dense", "pruned": "pruned", "final": "recovered"}
"""A snapshot of a pruning -> the stage in the table."""
_SHOWN = ("model.parameters", "model.macs", "model.size_bytes", "model.file_bytes")


def given_outcome(given: Given, demands: Demands) -> Outcome:
    """Of a model that meets its target as it is: nothing is searched and nothing written."""
    target = demands.target
    assert target is not None
    has = described(target.metric, given.costs[target.metric])
    text = f"the given model has {has} of {target.metric}, which meets {target} as it is: nothing was done or written"
    ratios = {name + RATIO: 1.0 for name in given.costs if name.startswith("model.")}
    return Outcome({**given.metrics, **given.costs, **ratios}, {}, {"demands": demands.in_words}, [text])


def unfinished(tries: Tries) -> Outcome:
    """Of a search that was stopped."""
    return Outcome({}, {"tries": tries.table()}, {"demands": tries.demands.in_words})


def chosen_outcome(result: Result, tries: Tries, timing: Timing, start: Start) -> Outcome:
    """Of a search that came to its end; reads the test split, once for each model that the report names."""
    reported, demands = result.told, tries.demands
    notes = [*start.notes, *_sentences(result, tries)]
    details: dict[str, object] = {"demands": demands.in_words, "tries": len(tries.all)}
    if reported is None:
        return Outcome({}, {"tries": tries.table()}, details, notes)
    for name, one in result.written.items():
        one.verdict = f"{'chosen' if name == 'model' else name.replace('_', ' ')}: {one.verdict}"
    answers_of: dict[str, Answers] = {}
    run = tries.again(reported)
    metrics = {**run.metrics(), **run.test_metrics()}
    judged = run.tables()
    float_metrics, int8 = dict(metrics), reported.int8
    if int8 is not None:
        own_metrics = {**int8.metrics, **int8.judge("test", partial(answers_of.__setitem__, "test"))}
        dense = next(row for row in judged["stages"].records() if row["stage"] == "before")
        given = {name: value for name, value in dense.items() if isinstance(value, float)}
        metrics |= {**own_metrics, **changes(own_metrics, given), **int8.costs}
    beside, own = timing(run.module if int8 is None else int8.content)
    before = {**tries.given.costs, **beside}
    metrics |= own
    metrics |= {name + RATIO: metrics[name] / before[name] for name in before if name in metrics and before[name]}
    if result.chosen is not None:  # what was decided by: a time that is measured once more is another one
        metrics |= {name: value for name, value in reported.costs.items() if is_latency(name)}
        metrics |= {
            name + RATIO: reported.ratio(name)
            for name in reported.costs
            if is_latency(name) and name in reported.beside
        }
    model = run.checkpoint(metrics)
    answers, calibration = answer_tables(answers_of or run.answers, model.label_names)
    tables = {
        "stages": _stages(judged["stages"], before, metrics, float_metrics if int8 is not None else None),
        "tries": tries.table(),
        "costs": _costs(before, metrics),
        **({} if timing.table is None else {"latency": timing.table}),
        **{name: judged[name] for name in ("groups", "layers", "sensitivity") if name in judged},
        **({} if int8 is None else {"quantization": int8.run.tables()["quantization"]}),
        **({"curve": curve_table(reported.curve, "step")} if reported.curve else {}),
    }
    about = {**details, **calibration, "pruning": model.extra["pruning"], "chosen": reported.number}
    warnings = [*notes, *run.warnings, *(() if int8 is None else int8.run.warnings), *timing.noise]
    return Outcome(metrics, tables, about, warnings, model, answers)


def _stages(
    judged: Table, before: Mapping[str, float], after: Mapping[str, float], in_float: Mapping[str, float] | None
) -> Table:
    """The given model, the one that was left of it, and the same after recovery: what each is worth and costs.

    `in_float`: metrics of the float model, where `after` are those of the int8 file that was made of it.
    """
    rows = []
    for row in judged.records():
        costs = before if row["stage"] == "before" else after if in_float is None else in_float
        sizes = {name: costs[name] for name in (*_SHOWN, *filter(is_latency, costs)) if name in costs}
        plain = {name: value for name, value in row.items() if name.partition(".")[0] in ("validation", "test")}
        rows.append({"stage": _NAMES[row["stage"]], **plain, **sizes})
    if in_float is not None:
        names = [name for name in after if name in rows[0]]
        rows.append({"stage": "int8", **{name: after[name] for name in names}})
    return Table.from_records(rows)


def _costs(before: Mapping[str, float], after: Mapping[str, float]) -> Table:
    """What the model costs before and after, as the table of a pruning has it."""
    words = {
        "model.parameters": "parameters",
        "model.macs": "multiply-accumulates",
        "model.size_bytes": "bytes of tensors",
        "model.file_bytes": "bytes of model.pt",
    }
    words |= {name: f"ms for a batch of {name.rpartition('_')[2]}" for name in before if is_latency(name)}
    words["model.latency_ms"] = "ms for a batch of 1"
    rows: list[list[Cell]] = [
        [text, before[name], after[name], before[name] / after[name] if after[name] else None]
        for name, text in words.items()
        if name in before and name in after
    ]
    return Table(columns=["what", "before", "after", "times less"], rows=rows)


def verdicts(demands: Demands, metrics: Mapping[str, float], given: Given, result: Result | None) -> list[GateResult]:
    """The target and the drops as gates; `result` None: the given model is the one."""
    lacking = result is not None and result.told is None
    nothing = result is not None and result.chosen is None
    judged = []
    for each in (demand.gate for demand in demands.all):
        met = False if lacking else each.met(metrics)
        judged.append(
            GateResult(
                condition=str(each),
                met=met,
                value=metrics.get(each.metric),
                margin=each.margin(metrics),
                reason="no smaller model could be made" if lacking else "",
            )
        )
    if nothing and all(each.met for each in judged):  # a time that came out otherwise when it was measured again
        judged[0] = judged[0].model_copy(update={"met": False, "reason": "nothing met it when it was searched for"})
    return judged


def _sentences(result: Result, tries: Tries) -> list[str]:
    """What came nearest where nothing meets all demands, and whether the search was cut short."""
    demands, texts = tries.demands, list[str]()
    if tries.out_of_time:
        texts.append(f"the time was over after {len(tries.all)} tries; a longer --timeout may find a smaller model")
    if result.chosen is not None:
        return texts
    if result.told is None:
        problems = list(dict.fromkeys(one.problem for one in tries.all if one.problem))
        return [*texts, f"no smaller model could be made: {'; '.join(problems[:2])}"]
    where = " and ".join(f"{name}.pt" for name in result.written)
    texts.append(f"no model is what was asked for ({demands.in_words}); there is no model.pt, but {where}")
    if result.at_target is not None:
        texts.append(f"at_target.pt meets {demands.target}, {_drops(result.at_target, tries)}")
    if result.within_drop is not None:
        texts.append(f"within_drop.pt has {_size(result.within_drop, demands)}, {_drops(result.within_drop, tries)}")
    elif demands.target is not None and demands.drops:
        texts.append("no model smaller than the given one was found whose drop is allowed")
    if result.nearest is not None:
        text = f"nearest.pt has {_size(result.nearest, demands)}, {_drops(result.nearest, tries)}"
        texts.append(text)
    return texts


def _drops(one: Try, tries: Tries) -> str:
    """By how much the metrics that count are worse."""
    drops: Sequence[MaxDrop] = tries.demands.drops or (MaxDrop(tries.given.main, 0.0),)
    changes = [(each, each.drop(one.metrics, tries.given.metrics)) for each in drops]
    return " and ".join(
        f"its {each.metric} {'rises' if each.lower_is_better else 'drops'} by {drop:.4g}" for each, drop in changes
    )


def _size(one: Try, demands: Demands) -> str:
    metric = demands.minimized if demands.target is None else demands.target.metric
    return f"{one.ratio(metric):.1%} of the given model's {metric} ({described(metric, one.costs[metric])})"
