"""The `modelopt` command. Commands import what they need when they run, so that --help and completion stay fast."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Annotated

import typer

from modelopt_cli.cli.commands import (
    clean,
    compare,
    compress,
    distill,
    evaluate,
    export,
    init,
    inspect_,
    list_,
    pick,
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
from modelopt_cli.cli.help import PlainCommand, PlainGroup

_HELP = """Tune, prune and distill models: one YAML file, one command, a result that can be trusted.

Examples:
  modelopt init digits_mlp > experiment.yaml
  modelopt tune experiment.yaml
  modelopt report digits-mlp --open
"""

app = typer.Typer(
    name="modelopt",
    help=_HELP,
    cls=PlainGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_PANELS: dict[str, dict[str, Callable[..., None]]] = {
    "Work": {
        "train": train.train,
        "tune": tune.tune,
        "prune": prune.prune,
        "distill": distill.distill,
        "compress": compress.compress,
        "pick": pick.pick,
    },
    "Look at what came out": {
        "runs": runs.runs,
        "show": show.show,
        "watch": watch.watch,
        "report": report.report,
        "plot": plot.plot,
        "compare": compare.compare,
        "inspect": inspect_.inspect_,
    },
    "Use a model": {"predict": predict.predict, "evaluate": evaluate.evaluate, "export": export.export},
    "Experiment files": {
        "init": init.init,
        "validate": validate.validate,
        "list": list_.list_,
        "schema": schema.schema,
    },
    "Keep runs": {"replay": replay.replay, "clean": clean.clean},
}

for _panel, _commands in _PANELS.items():
    for _name, _function in _commands.items():
        app.command(_name, cls=PlainCommand, rich_help_panel=_panel)(command(_function))


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
    sys.exit(guarded(lambda: app(prog_name="modelopt", standalone_mode=False), as_json="--json" in sys.argv[1:]))
