"""How the best trial came about, where it went on from another one's state: which settings held from step to step."""

from __future__ import annotations

import json
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from modelopt_cli.cli.render import number
from modelopt_cli.cli.render.importance import short
from modelopt_cli.results.report import Report

_WHERE = ("from_step", "to_step", "trial")


def render_schedule(console: Console, report: Report) -> None:
    """A row a part, with the settings that change; nothing without the table `schedule`."""
    schedule = report.tables.get("schedule")
    if schedule is None:
        return
    rows = schedule.records()
    changing = [
        name for name in schedule.columns if name not in _WHERE and len({json.dumps(row[name]) for row in rows}) > 1
    ]
    title = f"schedule of the best trial: {len(rows)} settings, one after the other"
    console.print(Text(title, style="bold"), soft_wrap=True)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("steps", "trial", *(short(name, changing) for name in changing)):
        table.add_column(Text(name), justify="right", overflow="fold")
    for row in rows:
        steps = f"{row['from_step']} to {row['to_step']}"
        table.add_row(Text(steps), Text(str(row["trial"])), *(Text(_value(row[name])) for name in changing))
    console.print(table)


def _value(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else number(value)
