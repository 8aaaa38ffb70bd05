"""A report in a notebook: what came out, the main figures beside their baseline, gates, warnings, files."""

from __future__ import annotations

from modelopt_cli.core import markup
from modelopt_cli.core.readable import duration
from modelopt_cli.results.page.words import kicker, main_metric, paragraphs, tiles, value_of
from modelopt_cli.results.report import Report

_COLORS = {"completed": markup.GOOD, "interrupted": markup.PENDING, "failed": markup.BAD}
_MOST_WARNINGS = 5


def as_html(report: Report) -> str:
    """A short piece of HTML: without scripts, and with every text of others escaped."""
    heading = markup.heading(
        report.name,
        kicker(report),
        duration(report.seconds) if report.seconds else "",
        state=report.status,
        color=_COLORS[report.status],
    )
    sentences = [*map(str, report.details.get("summary") or [])] or paragraphs(report)
    shown = [] if report.kind == "comparison" else [(tile.label, tile.value, tile.beside) for tile in tiles(report)]
    return markup.card(
        heading,
        *(markup.paragraph(text) for text in sentences[:3]),
        markup.figures(shown),
        _gates(report),
        *(markup.paragraph(f"⚠ {text}") for text in report.warnings[:_MOST_WARNINGS]),
        markup.paragraph(_left_out(len(report.warnings)), muted=True),
        markup.folded("settings of the best", markup.facts((report.best or {}).get("params") or {})),
        markup.folded("files", markup.facts(report.artefacts)),
        markup.paragraph(_tables(report), muted=True),
    )


def in_a_line(report: Report) -> str:
    """`Report(tune digits-mlp: completed, validation.accuracy 0.972, 12 trials)`."""
    parts: list[str] = [report.status]
    metric = None if report.kind == "comparison" else main_metric(report)
    if metric is not None:
        parts.append(f"{metric} {value_of(metric, report.metrics[metric])}")
    trials = len(report.tables["trials"].rows) if "trials" in report.tables else 0
    parts += [f"{trials} trial{'s' * (trials != 1)}"] if trials else []
    missed = sum(not gate.met for gate in report.gates)
    parts += [f"{missed} of {len(report.gates)} gates not met"] if missed else []
    return f"Report({report.workflow} {report.name}: {', '.join(parts)})"


def _gates(report: Report) -> str:
    lines = []
    for gate in report.gates:
        what = "no such metric" if gate.value is None else f"value {gate.value:.6g}, margin {gate.margin or 0.0:+.6g}"
        color, mark = (markup.GOOD, "✓") if gate.met else (markup.BAD, "✗")
        why = markup.plain(f"{gate.condition} ({gate.reason or what})")
        lines.append(f'<div><b style="color:{color}">{mark}</b> gate {why}</div>')
    return "".join(lines)


def _left_out(warnings: int) -> str:
    left = warnings - _MOST_WARNINGS
    return f"and {left} more warning{'s' * (left != 1)}: report.warnings" if left > 0 else ""


def _tables(report: Report) -> str:
    names = [name for name, table in report.tables.items() if table.rows]
    return f"report.to_pandas(name): {', '.join(names)}" if names else ""
