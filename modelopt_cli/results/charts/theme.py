"""Colours, fonts and grids of all charts, on light and on dark paper.

Categories take the colours of Okabe and Ito (2008), which people with any kind of colour blindness can tell apart, made
a little darker on light paper. States of trials have a colour and a shape each, so that they differ in black and white,
too."""

from __future__ import annotations

from typing import Any

Config = dict[str, Any]

STATES = ("completed", "stopped", "paused", "running", "failed")
"""States of trials in the order in which legends name them."""
STATE_COLOURS = ("#2f7ed8", "#d98a00", "#8a63d2", "#12a594", "#d6336c")
STATE_SHAPES = ("circle", "triangle-down", "square", "diamond", "cross")

_CATEGORIES = ("#2f7ed8", "#d55e00", "#009e73", "#b86bb0", "#b58900", "#3aa6d0", "#7a5195", "#6c757d")
_FONT = "system-ui, -apple-system, Segoe UI, Roboto, Helvetica, Arial, sans-serif"
PAPER = {"light": "#ffffff", "dark": "#12161d"}
"""What a chart is drawn on."""
_INK = {
    "light": {"text": "#1f2430", "soft": "#5b6472", "grid": "#e6e9ef", "line": "#b9c0cc", "best": "#1f2430"},
    "dark": {"text": "#e8ebf2", "soft": "#a2abba", "grid": "#2c3340", "line": "#4a5466", "best": "#f4f6fb"},
}
_RAMP = {
    "light": ["#eef4fb", "#bcd7f2", "#7fb2e5", "#3f86cf", "#1c5ba3", "#0c3468"],
    "dark": ["#1b2636", "#1f4470", "#2b68ab", "#4a92dc", "#8dbdf0", "#dcebfb"],
}


def config(theme: str, width: int = 640) -> Config:
    """A Vega-Lite config. `theme` is light or dark; `width`, in pixels, says how long labels may be."""
    ink = _INK[theme]
    halo = {"fill": PAPER[theme], "stroke": PAPER[theme], "strokeWidth": 3, "strokeOpacity": 0.85}
    return {
        "background": "transparent",
        "font": _FONT,
        "padding": 4,
        "view": {"stroke": None},
        "title": {"color": ink["text"], "fontSize": 13, "fontWeight": 600, "anchor": "start", "offset": 8},
        "axis": {
            "labelColor": ink["soft"],
            "titleColor": ink["soft"],
            "gridColor": ink["grid"],
            "domainColor": ink["line"],
            "tickColor": ink["line"],
            "labelFontSize": 11,
            "titleFontSize": 11.5,
            "titleFontWeight": 500,
            "titlePadding": 8,
            "labelLimit": 180,
            "labelOverlap": True,
            "labelFlush": False,
            "tickCount": 6,
        },
        "axisX": {"grid": False},
        "axisY": {"domain": False, "ticks": False, "labelLimit": max(90, min(260, int(0.4 * width)))},
        "axisBand": {"grid": False, "domain": True},
        "legend": {
            "labelColor": ink["text"],
            "titleColor": ink["soft"],
            "orient": "top",
            "direction": "horizontal",
            "labelFontSize": 11,
            "titleFontSize": 11,
            "titleFontWeight": 500,
            "symbolSize": 60,
            "labelLimit": 160,
            "columns": 4,
        },
        "header": {"labelColor": ink["text"], "titleColor": ink["soft"]},
        "params": [{"name": "ink", "value": ink["best"]}, {"name": "paper", "value": PAPER[theme]}],
        "mark": {"color": _CATEGORIES[0]},
        "text": {"color": ink["text"]},
        "rule": {"color": ink["line"]},
        "line": {"strokeWidth": 2},
        "style": {
            "best": {"stroke": ink["best"]},
            "soft": {"stroke": ink["line"]},
            "label": {"fill": ink["text"]},
            "halo": halo,
        },
        "range": {
            "category": list(_CATEGORIES),
            "heatmap": list(_RAMP[theme]),
            "ramp": list(_RAMP[theme]),
            "ordinal": list(_RAMP[theme]),
            "diverging": ["#d55e00", "#efb98c", ink["grid"], "#8fb9ea", "#2f7ed8"],
        },
    }
