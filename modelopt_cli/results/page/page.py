"""report.html: the whole page as text, made of a report and of what its run directory holds."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelopt_cli.core.readable import duration
from modelopt_cli.core.references import redacted, without_values
from modelopt_cli.results import charts
from modelopt_cli.results.charts._curves import curves_of
from modelopt_cli.results.charts._trials import trials_of
from modelopt_cli.results.charts.chart import VEGA_LITE, Chart, fit
from modelopt_cli.results.charts.failures import without_figures
from modelopt_cli.results.charts.theme import config
from modelopt_cli.results.page import sections, vega, words
from modelopt_cli.results.page.parts import Part, Section

if TYPE_CHECKING:
    from jinja2 import BytecodeCache, Template

    from modelopt_cli.results.report import GateResult, Report

_FOLDER = Path(__file__).parent


@dataclass
class _Gate:
    met: bool
    condition: str
    text: str


@dataclass
class _Drawn:
    """The charts of a page, and the data sets that they draw."""

    charts: dict[str, Chart] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, report: Report) -> _Drawn:
        drawn = cls(charts.all_of(report))
        for chart in drawn.charts.values():
            drawn.data |= chart.data
        return drawn


def render(report: Report, folder: Path | None = None, *, live: bool = False) -> str:
    """The page of a report. `folder`: its run directory, for the experiment and the environment; by default the one
    that the report names, where it is there. `live`: for a server that gives new data from /data.json."""
    drawn = _Drawn.of(report)
    shown = sections.of(report, drawn.charts, _folder(report, folder))
    heading = report.name or report.workflow
    context = {
        "title": f"{heading}: modelopt {report.workflow}",
        "heading": heading,
        "kicker": words.kicker(report),
        "status": report.status if not live else "running",
        "when": " · ".join(filter(None, [_date(report.started), duration(report.seconds) if report.seconds else ""])),
        "paragraphs": words.paragraphs(report),
        "tiles": words.tiles(report),
        "gates": [_gate(gate) for gate in report.gates],
        "warnings": _grouped(report.warnings),
        "sections": [section for section in shown if section.parts],
        "version": version("modelopt-cli"),
        "data": _embedded(_data(report, drawn)),
        "css": _text("page.css"),
        "script": _text("page.js"),
        "vega": vega.script(),
        "live": live,
        "live_script": _text("live.js") if live else "",
    }
    return _template().render(**_marked(context))


def data_of(report: Report) -> dict[str, Any]:
    """What the page's script draws, as plain values: what a served page asks for again while its run goes on."""
    return _data(report, _Drawn.of(report))


def _data(report: Report, drawn: _Drawn) -> dict[str, Any]:
    trials = trials_of(report)
    described: dict[str, Any] | None = None
    sets = dict(drawn.data)
    if trials is not None:
        best = trials.best()
        if "trials" not in sets:  # no chart draws them
            sets["trials"] = fit(trials.data())
        curves, _ = ({}, 1) if "curves" in sets else curves_of(report)
        if curves:
            sets["curves"] = curves
        described = {
            "schema": VEGA_LITE,
            "goals": [[column, goal.metric] for goal, column in trials.goals],
            "settings": [[setting.column, setting.path] for setting in trials.settings],
            "metrics": [[column, name] for column, name in trials.metrics.items()],
            "curve": trials.goals[0][0].metric,
            "hasReasons": any(row.get("reason") for row in trials.rows),
            "best": (report.best or {}).get("number", None if best is None else best["trial"]),
        }
    return {
        "themes": {theme: {**config(theme), "background": "transparent"} for theme in ("light", "dark")},
        "charts": {
            kind: {
                "panels": [
                    {"spec": _with_schema(panel.spec), "height": panel.height, "sets": _sets(panel.spec, sets)}
                    for panel in chart.panels
                ]
            }
            for kind, chart in drawn.charts.items()
        },
        "data": sets,
        "trials": described,
    }


def _with_schema(spec: dict[str, Any]) -> dict[str, Any]:
    return {"$schema": VEGA_LITE, **spec}


def _sets(spec: Any, known: dict[str, Any]) -> list[str]:
    """The names of the data sets that a specification refers to."""
    names: set[str] = set()

    def visit(node: Any) -> None:
        if isinstance(node, dict):
            data = node.get("data")
            if isinstance(data, dict) and data.get("name") in known:
                names.add(data["name"])
            for value in node.values():
                visit(value)
        elif isinstance(node, list):
            for value in node:
                visit(value)

    visit(spec)
    return sorted(names)


def _embedded(content: dict[str, Any]) -> str:
    """JSON that may stand in a script element: nothing in it ends the element or begins a comment."""
    text = json.dumps(without_values(content), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _marked(context: dict[str, Any]) -> dict[str, Any]:
    """The page's own scripts and styles go into it as they are; everything else is escaped."""
    from markupsafe import Markup

    own = ("data", "css", "script", "vega", "live_script")
    return {name: Markup(value) if name in own else value for name, value in context.items()}


def _gate(gate: GateResult) -> _Gate:
    if gate.value is None or gate.margin is None:
        return _Gate(gate.met, gate.condition, "the report has no such metric, or it is undefined here")
    return _Gate(gate.met, gate.condition, f"value {gate.value:.4g}, margin {gate.margin:+.2g}")


def _grouped(warnings: Sequence[str]) -> list[str]:
    """Each kind of warning once: those that differ by figures alone are counted at the first of them."""
    alike: dict[str, list[str]] = {}
    for text in warnings:
        alike.setdefault(without_figures(text), []).append(text)
    return [
        texts[0] if len(texts) == 1 else f"{texts[0]} (and {len(texts) - 1} more like it)" for texts in alike.values()
    ]


def _date(text: str) -> str:
    """2026-11-30T14:00:27+00:00 as people read it."""
    from datetime import datetime

    try:
        return datetime.fromisoformat(text).strftime("%-d %B %Y, %H:%M (UTC%z)").replace("+0000", "")
    except ValueError:
        return text


def _folder(report: Report, folder: Path | None) -> Path | None:
    if folder is not None:
        return folder
    named = report.artefacts.get("directory")
    return Path(named) if named and Path(named).is_dir() else None


@cache
def _text(name: str) -> str:
    return (_FOLDER / name).read_text(encoding="utf-8")


@cache
def _template() -> Template:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_without_secrets,
        loader=FileSystemLoader(_FOLDER),
        bytecode_cache=_compiled_before(),
    )
    return environment.get_template("page.html")


def _compiled_before() -> BytecodeCache | None:
    """Where the compiled template is kept, which saves a third of what a page takes; None where nothing can be kept."""
    from jinja2 import FileSystemBytecodeCache

    folder = vega.cache_folder() / f"jinja-{version('jinja2')}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    return FileSystemBytecodeCache(str(folder)) if os.access(folder, os.W_OK) else None


def _without_secrets(value: Any) -> Any:
    """A text of the report without the values that came from the environment; the page's own scripts as they are."""
    return redacted(value) if type(value) is str else value


__all__ = ["Part", "Section", "data_of", "render"]
