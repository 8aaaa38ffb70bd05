"""A chart: a specification of Vega-Lite (or Vega), the data that it draws, and what it says in words.

https://vega.github.io/vega-lite/docs/ has the words of a specification. Colours, fonts and grids come from theme.py, so
that one specification is drawn on light and on dark paper; sizes come from whoever draws it."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from modelopt_cli.core.text import printable
from modelopt_cli.results.charts.theme import PAPER, config

Spec = dict[str, Any]
Columns = Mapping[str, Sequence[Any]]
"""Column name -> a value for each row; all columns are of one length. Names are plain (no dots): Vega would read these
as paths into objects."""

VEGA_LITE = "https://vega.github.io/schema/vega-lite/v6.json"
INK = {"expr": "ink"}
"""The colour of the theme's own lines and texts, in a mark of Vega-Lite."""
VEGA = "https://vega.github.io/schema/vega/v6.json"


@dataclass(frozen=True)
class Panel:
    """One drawing. It is as wide as there is room; `height` in pixels. `title` stands above it where there are
    several.
    """

    spec: Spec
    height: int = 260
    title: str = ""

    @property
    def is_vega(self) -> bool:
        """Whether it is written in Vega's own, wider language."""
        return self.spec.get("$schema") == VEGA


@dataclass(frozen=True)
class Chart:
    """See the module docstring.

    `alt`: what it shows, in a sentence with the figures that matter, for whoever cannot see it. `note`: a sentence
    below it. `data`: data sets by name, to which the panels refer by `{"data": {"name": ...}}`; sets of the same name
    that charts of one report have must be equal. Rows with a column `trial` can be clicked: the page shows that trial.
    `least`: pixels that a panel needs beside others; 0: each has a line of its own."""

    kind: str
    title: str
    alt: str
    panels: tuple[Panel, ...]
    data: Mapping[str, Columns] = field(default_factory=dict)
    note: str = ""
    least: int = 0

    def __post_init__(self) -> None:
        """Names from files may hold what ends a line of JavaScript, into which Vega-Lite writes them."""
        panels = tuple(Panel(fit(panel.spec), panel.height, fit(panel.title)) for panel in self.panels)
        object.__setattr__(self, "panels", panels)
        for name in ("data", "alt", "note", "title"):
            object.__setattr__(self, name, fit(getattr(self, name)))

    def to_dict(self, *, width: int = 640, theme: str = "light") -> Spec:
        """The whole chart as one specification with its data in it, `width` pixels wide, for tools that draw Vega-Lite.

        A chart of several panels has them below one another, or side by side where `least` allows it. One in Vega's own
        language is given as it is.
        """
        beside = max(1, min(len(self.panels), width // self.least)) if self.least else 1
        each = (width - 60 * (beside - 1)) // beside
        if self.panels[0].is_vega:
            panel = self.panels[0]
            data = [
                {**entry, "values": records(self.data[entry["name"]])} if entry["name"] in self.data else entry
                for entry in panel.spec["data"]
            ]
            whole = {**panel.spec, "data": data, "width": width, "height": panel.height, "config": config(theme, width)}
            return {**whole, "description": self.alt, "title": self.title, "autosize": {"type": "pad"}}
        drawn = [
            {**panel.spec, "width": each, "height": panel.height, **({"title": panel.title} if panel.title else {})}
            for panel in self.panels
        ]
        body: Spec = drawn[0] if len(drawn) == 1 else {"concat": drawn, "columns": beside, "spacing": 30}
        return {
            "$schema": VEGA_LITE,
            "title": {"text": self.title, "anchor": "start"},
            "description": self.alt,
            "datasets": {name: records(columns) for name, columns in self.data.items()},
            **({"resolve": {"scale": {"color": "independent", "shape": "independent"}}} if len(drawn) > 1 else {}),
            **body,
            "config": config(theme, each),
        }

    def render(self, form: str = "svg", *, width: int = 640, theme: str = "light", scale: float = 2.0) -> bytes:
        """A picture as the bytes of a file: svg, png or pdf. Drawn by vl-convert, without a browser or network.

        `scale`: pixels of a PNG for one of `width`.
        """
        import vl_convert

        spec = self.to_dict(width=width, theme=theme)
        of_vega = self.panels[0].is_vega
        svg: str = vl_convert.vega_to_svg(spec) if of_vega else vl_convert.vegalite_to_svg(spec)
        svg = svg.replace(">", f'><rect width="100%" height="100%" fill="{PAPER[theme]}"/>', 1)
        if form == "svg":
            return svg.encode()
        content: bytes = vl_convert.svg_to_png(svg, scale=scale) if form == "png" else vl_convert.svg_to_pdf(svg)
        return content

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, Any]:
        """What a notebook shows: the live chart where it knows Vega-Lite, else a picture; the sentence as text."""
        bundle: dict[str, Any] = {"image/svg+xml": self.render().decode(), "text/plain": f"{self.title}: {self.alt}"}
        if not self.panels[0].is_vega:
            bundle["application/vnd.vegalite.v6+json"] = self.to_dict()
        return bundle

    def _repr_html_(self) -> str:
        return f'<div role="img" aria-label="{html.escape(self.alt)}">{self.render().decode()}</div>'

    def __repr__(self) -> str:
        return f"Chart({self.kind}: {self.alt})"


def fit(content: Any) -> Any:
    """Plain nested values with every text made printable."""
    if isinstance(content, str):
        return printable(content)
    if isinstance(content, Mapping):
        return {fit(key): fit(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [fit(item) for item in content]
    return content


def records(columns: Columns) -> list[dict[str, Any]]:
    """The rows of columns, as mappings."""
    names = list(columns)
    return [dict(zip(names, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def columns_of(rows: Sequence[Mapping[str, Any]], names: Sequence[str] | None = None) -> dict[str, list[Any]]:
    """Rows as columns; of `names`, or of all that occur. Numbers are kept to six digits, NaN and infinity become
    null.
    """
    chosen = list(dict.fromkeys(key for row in rows for key in row)) if names is None else names
    return {name: [plain(row.get(name)) for row in rows] for name in chosen}


def plain(value: Any) -> Any:
    """A value as it stands in the page: floats to six digits, none that JSON cannot hold."""
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value


def layer(mark: Any, encoding: Mapping[str, Any], **more: Any) -> Spec:
    """A layer of a Vega-Lite specification."""
    return {"mark": mark, "encoding": dict(encoding), **more}


def quantitative(name: str, title: str | None, **more: Any) -> Spec:
    """An axis (or colour) of numbers that need not begin at 0."""
    return {"field": name, "type": "quantitative", "title": title, "scale": {"zero": False}, **more}


def nominal(name: str, title: str | None, **more: Any) -> Spec:
    """An axis (or colour) of names."""
    return {"field": name, "type": "nominal", "title": title, **more}


def tooltip(*fields: tuple[str, str]) -> list[Spec]:
    """What is shown under the pointer: (column, label) pairs."""
    return [{"field": name, "title": title} for name, title in fields]
