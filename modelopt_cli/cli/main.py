"""The `modelopt` command. Commands import what they need when they run, so that --help and completion stay fast."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from modelopt_cli.cli import (
    clean,
    distill,
    evaluate,
    export,
    init,
    inspect_,
    list_,
    predict,
    prune,
    replay,
    runs,
    schema,
    show,
    train,
    tune,
    validate,
)

app = typer.Typer(
    name="modelopt",
    help="Tune, prune and distill models: one YAML file, one command, a result that can be trusted.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Start with: modelopt init digits_mlp > experiment.yaml",
)

app.command("tune")(tune.tune)
app.command("train")(train.train)
app.command("prune")(prune.prune)
app.command("distill")(distill.distill)
app.command("inspect")(inspect_.inspect_)
app.command("export")(export.export)
app.command("evaluate")(evaluate.evaluate)
app.command("predict")(predict.predict)
app.command("validate")(validate.validate)
app.command("init")(init.init)
app.command("list")(list_.list_)
app.command("schema")(schema.schema)
app.command("runs")(runs.runs)
app.command("show")(show.show)
app.command("replay")(replay.replay)
app.command("clean")(clean.clean)


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
    from modelopt_cli.cli.guard import guarded
    from modelopt_cli.cli.output import open_standard_streams

    open_standard_streams()
    sys.exit(guarded(lambda: app(standalone_mode=False), as_json="--json" in sys.argv[1:]))
