"""What the best setting of a search with noisy results is believed to be worth."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.text import Text

from modelopt_cli.cli.render import number


def render_believed(console: Console, best: Mapping[str, Any] | None) -> None:
    """One line; nothing where settings may not be repeated, or it is too early."""
    if best is None:
        return
    tried = f"tried {best['times']} times, mean {number(best['mean'])}" if best["times"] > 1 else "tried once"
    worth = f"{number(best['believed'])} ± {number(best['uncertainty'])} ({tried}); noise {number(best['noise'])}"
    console.print(Text.assemble((f"believed {best['metric']} of the best: ", "bold"), worth), soft_wrap=True)
