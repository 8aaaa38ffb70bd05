"""`modelopt list`: everything that a `type:` can name."""

from __future__ import annotations

import json as json_module
from typing import Annotated

import typer

from modelopt_cli.cli.options import Json


def list_(
    family: Annotated[
        str | None,
        typer.Argument(metavar="FAMILY", help="E.g. samplers, models, data; default: all.", show_default=False),
    ] = None,
    json: Json = False,
) -> None:
    """List every strategy with a one-line summary.

    Examples:
      modelopt list
      modelopt list samplers
      modelopt list models --json
    """
    from modelopt_cli.cli import output
    from modelopt_cli.cli.render import lists
    from modelopt_cli.core.errors import UsageError, did_you_mean
    from modelopt_cli.core.strategy import FAMILIES

    if family is not None and family not in FAMILIES:
        raise UsageError(f"there is no family '{family}'.{did_you_mean(family, FAMILIES)} Known: {', '.join(FAMILIES)}")
    if json:
        from modelopt_cli.experiment.strategies import described

        output.json_document(json_module.dumps(described([family] if family else []), indent=2))
        return
    summaries = {
        each.name: {name: each.get(name).summary() for name in each.names()}
        for each in FAMILIES.values()
        if family is None or each.name == family
    }
    lists.strategies(summaries)
