"""The `modelopt` command. Commands import what they need when they run, so that --help and completion stay fast."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from modelopt_cli.cli.commands import (
    clean,
    compare,
    distill,
    evaluate,
    export,
    init,
    inspect_,
    list_,
    plot,
    predict,
    prune,
    replay,
    report,
    runs,
    schema,
    show,
    train,
    tune,
    validate,
    watch,
)
from modelopt_cli.cli.guard import command, guarded

app = typer.Typer(
    name="modelopt",
    help="Tune, prune and distill models: one YAML file, one command, a result that can be trusted.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Start with: modelopt init digits_mlp > experiment.yaml",
)

app.command("tune")(command(tune.tune))
app.command("train")(command(train.train))
app.command("prune")(command(prune.prune))
app.command("distill")(command(distill.distill))
app.command("inspect")(command(inspect_.inspect_))
app.command("export")(command(export.export))
app.command("evaluate")(command(evaluate.evaluate))
app.command("predict")(command(predict.predict))
app.command("validate")(command(validate.validate))
app.command("init")(command(init.init))
app.command("list")(command(list_.list_))
app.command("schema")(command(schema.schema))
app.command("runs")(command(runs.runs))
app.command("show")(command(show.show))
app.command("report")(command(report.report))
app.command("plot")(command(plot.plot))
app.command("compare")(command(compare.compare))
app.command("watch")(command(watch.watch))
app.command("replay")(command(replay.replay))
app.command("clean")(command(clean.clean))


def _version(value: bool) -> None:
    if value:
        from importlib.metadata import version

        typer.echo(f"modelopt {version('modelopt-cli')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Entry point. Every expected error ends with its documented exit code and no traceback."""
    from modelopt_cli.cli.output import open_standard_streams

    open_standard_streams()
    sys.exit(guarded(lambda: app(standalone_mode=False), as_json="--json" in sys.argv[1:]))
