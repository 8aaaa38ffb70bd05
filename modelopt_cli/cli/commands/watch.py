"""`modelopt watch`: a run that goes on in another terminal, live; on request as a page in the browser."""

from __future__ import annotations

import json as json_module
from pathlib import Path
from typing import Annotated

import typer

from modelopt_cli.cli.options import Run
from modelopt_cli.cli.running import runs_root

_PORT = 8123
_LEFT = 130  # the exit code after Ctrl-C: the run goes on


def watch(
    run: Run,
    port: Annotated[
        int | None,
        typer.Argument(
            metavar="PORT", help=f"With --serve: the port; default {_PORT}, 0: a free one.", show_default=False
        ),
    ] = None,
    serve: Annotated[
        bool, typer.Option("--serve", help="Serve the report on 127.0.0.1 as a page that updates itself.")
    ] = False,
    interval: Annotated[float, typer.Option(metavar="SECONDS", help="Between looks at the run.")] = 2.0,
    json: Annotated[bool, typer.Option("--json", help="Print how it stands as one JSON document, and end.")] = False,
) -> None:
    """Watch a run of another terminal: its trials, the best so far, the time left. It is not disturbed.

    Ends with the run. Ctrl-C leaves it alone and ends the watching, with exit code 130.

    Examples:
      modelopt watch digits-mlp
      modelopt watch digits-mlp --serve 8123
      modelopt watch runs/digits-mlp/2 --json
    """
    from modelopt_cli.cli import output
    from modelopt_cli.core.errors import UsageError
    from modelopt_cli.results.listing import find_run
    from modelopt_cli.workflows.watch.watcher import Watcher, as_json, wait_for

    if not 0.1 <= interval <= 3600.0:
        raise UsageError(f"--interval is {interval:g}, but must be between 0.1 and 3600 seconds")
    if port is not None and not serve:
        raise UsageError(f"{port} is a port, which only --serve takes; name one run")
    if port is not None and not 0 <= port <= 65535:
        raise UsageError(f"the port is {port}, but must be between 0 and 65535 (0: a free one)")
    if serve and json:
        raise UsageError("--serve shows a page, and --json prints one document; leave out one of them")
    path = find_run(run, runs_root())
    if json:
        output.json_document(json_module.dumps(as_json(Watcher(path).look()), indent=2))
        return
    try:
        if serve:
            _serve(path, _PORT if port is None else port, interval)
            return
        from modelopt_cli.cli.render import watch as render

        watcher = Watcher(path)
        with render.shown() as show:
            while True:
                snapshot = watcher.look()
                show(snapshot)
                if snapshot.status != "running":
                    return
                wait_for(path, interval)
    except KeyboardInterrupt:
        raise typer.Exit(_LEFT) from None


def _serve(path: Path, port: int, interval: float) -> None:
    """Serve the page until Ctrl-C; it stays there when the run has ended, to be looked at."""
    from modelopt_cli.results.page.page import data_of, render
    from modelopt_cli.workflows.watch.server import LiveReport, ReportServer

    report = LiveReport(path, lambda shown, folder: render(shown, folder, live=True), data_of, interval)
    server = ReportServer(report, port)
    typer.echo(f"{server.url}   (Ctrl-C ends it; the run goes on)")
    server.serve_until(lambda: False)
