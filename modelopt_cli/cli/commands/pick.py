"""`modelopt pick`: one point of a search's front, judged on test."""

from __future__ import annotations

from typing import Annotated

import typer

from modelopt_cli.cli.options import Gate, Json, Junit, Out, Quiet, TrustCode
from modelopt_cli.cli.running import check_junit, conditions, open_directory, runs_root, work_in


def pick(
    run: Annotated[
        str,
        typer.Argument(
            metavar="RUN",
            help="A search: its folder, name/number, or a name (its newest search).",
            show_default=False,
        ),
    ],
    where: Annotated[
        list[str] | None,
        typer.Option(
            "--where",
            metavar="CONDITION",
            help='What the trial\'s figures must meet, e.g. "validation.accuracy >= 0.97"; several: all of them.',
        ),
    ] = None,
    minimize: Annotated[
        list[str] | None,
        typer.Option("--minimize", metavar="METRIC", help="The lowest is taken, of those that meet --where."),
    ] = None,
    maximize: Annotated[
        list[str] | None,
        typer.Option(
            "--maximize",
            metavar="METRIC",
            help="The highest is taken; of several --minimize and --maximize the first decides, --minimize before. "
            "Default: the search's own objectives, in their order.",
        ),
    ] = None,
    trial: Annotated[
        int | None, typer.Option("--trial", metavar="N", min=0, help="This trial, in place of conditions.")
    ] = None,
    refine: Annotated[
        bool,
        typer.Option(
            "--refine",
            help="Run its setting again to the end before it is judged; recover for as many epochs as it was trained.",
        ),
    ] = False,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="PATH=VALUE", help="With --refine: change a value, e.g. pruning.recovery.epochs=30."
        ),
    ] = None,
    out: Out = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with a --refine that was interrupted (the newest, or at --out).")
    ] = False,
    gate: Gate = None,
    junit: Junit = None,
    trust_code: TrustCode = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Take one model out of a search by what it measured on validation, judge it on test, save it as a run of its own.

    Examples:
      modelopt pick digits --where "model.latency_ms <= 2"
      modelopt pick digits --where "model.size_bytes <= 20_000" --refine
      modelopt pick digits/2 --trial 17 --refine --set training.epochs=30
    """
    from modelopt_cli.core.errors import UsageError
    from modelopt_cli.results.listing import find_search
    from modelopt_cli.workflows import pick as workflow
    from modelopt_cli.workflows.search.choosing import Wish

    if resume and not refine:
        raise UsageError("--resume goes on with a training, and a kept model is judged at once; add --refine")
    wish = Wish.parse(where or (), minimize or (), maximize or ())
    asked = workflow.Asked(wish, trial, refine, tuple(set_ or ()), trust_code)
    asked.check()
    demanded = conditions(gate)
    path = find_search(run, runs_root())
    searched = workflow.Searched.read(path, asked)
    searched.chosen(asked)  # raises before anything is made
    check_junit(junit, [*searched.experiment.gates, *demanded])
    work_in(
        open_directory(f"{searched.experiment.name}-pick", out, resume=resume, workflow="pick"),
        "pick",
        lambda context: workflow.run(path, asked, context, among=searched),
        demanded,
        resume=resume,
        junit=junit,
        as_json=json,
        quiet=quiet,
    )
