"""What a model costs before and after: parameters, operations, bytes, milliseconds, side by side."""

from __future__ import annotations

from modelopt_cli.core.readable import count, number, size
from modelopt_cli.results.charts.chart import INK, Chart, Panel, columns_of, layer, tooltip
from modelopt_cli.results.report import Report

_PAIRS = (("before", "after"), ("teacher", "student"))
_BYTES = ("bytes", "size", "file")


def draw(report: Report) -> Chart | None:
    """Of a report with costs of two models: each as a share of the first one's."""
    table = report.records("costs")
    pair = next((pair for pair in _PAIRS if table and pair[0] in table[0] and pair[1] in table[0]), None)
    if pair is None:
        return None
    first, second = pair
    rows = []
    for row in table:
        before, after = row[first], row[second]
        if not before or after is None:
            continue
        texts = _text(row["what"], before), _text(row["what"], after)
        rows.append({"what": row["what"], "which": first, "share": 1.0, "text": texts[0]})
        rows.append({"what": row["what"], "which": second, "share": after / before, "text": texts[1]})
    if not rows:
        return None
    names = list(dict.fromkeys(row["what"] for row in rows))
    y = {"field": "what", "type": "nominal", "title": None, "sort": names}
    offset = {"field": "which", "sort": list(pair)}
    x = {
        "field": "share",
        "type": "quantitative",
        "title": "share of what it was" if first == "before" else f"share of the {first}",
        "axis": {"format": "%"},
    }
    colour = {"field": "which", "type": "nominal", "title": None, "scale": {"domain": list(pair)}}
    labels = tooltip(("what", "what"), ("which", "of"), ("text", "value"), ("share", f"share of {first}"))
    layers = [
        layer(
            {"type": "bar", "cornerRadiusEnd": 3},
            {"y": y, "yOffset": offset, "x": x, "color": colour, "tooltip": labels},
        ),
        layer(
            {"type": "text", "align": "left", "dx": 5, "fontSize": 11, "color": INK},
            {"y": y, "yOffset": offset, "x": x, "text": {"field": "text"}},
        ),
    ]
    readings = [
        f"{name} {one['text']} to {two['text']}" for name, one, two in zip(names, rows[::2], rows[1::2], strict=True)
    ]
    return Chart(
        kind="costs",
        title="Costs",
        alt=f"{first.capitalize()} to {second}: {'; '.join(readings)}.",
        panels=(Panel({"data": {"name": "costs"}, "layer": layers}, 50 + 46 * len(names)),),
        data={"costs": columns_of(rows)},
    )


def _text(what: str, value: float) -> str:
    if any(word in what for word in _BYTES):
        return size(value)
    return f"{number(float(value))} ms" if what.startswith("ms") or "latency" in what else count(value)
