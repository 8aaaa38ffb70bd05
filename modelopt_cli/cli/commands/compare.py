"""`modelopt compare`: runs side by side, and gates between them."""

from __future__ import annotations

from typing import Annotated

import typer

from modelopt_cli.cli.options import Json, Junit, Quiet
from modelopt_cli.cli.running import check_junit, demand, runs_root
from modelopt_cli.cli.running import show as show_report


def compare(
    runs: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN RUN...",
            help="Two or more runs: a folder, name/number, a name (its newest run), or a report.json. The first is A, "
            "which the others are compared with, the second B.",
            show_default=False,
        ),
    ],
    gate: Annotated[
        list[str] | None,
        typer.Option(
            "--gate",
            metavar="CONDITION",
            help='E.g. "B.test.accuracy >= A.test.accuracy - 0.005" or "B.model.size_bytes <= 0.5 * '
            'A.model.size_bytes"; exit 3 when not met.',
        ),
    ] = None,
    junit: Junit = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Show runs side by side: settings that differ, metrics, and whether differences are larger than chance.

    Examples:
      modelopt compare digits-mlp/1 digits-mlp/2
      modelopt compare old new --gate "B.test.accuracy >= A.test.accuracy - 0.005"
      modelopt compare old new --gate "B.test.loss <= A.test.loss" --junit gates.xml
    """
    from modelopt_cli.workflows.compare import compare as compared

    check_junit(junit, gate or ())
    report = compared(runs, gate or (), root=runs_root())
    show_report(report, as_json=json, quiet=quiet)
    demand(report, junit)
