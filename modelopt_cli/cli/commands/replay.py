"""`modelopt replay`: does a run's log of decisions come out again?"""

from __future__ import annotations

from modelopt_cli.cli.options import Json, Quiet, Run
from modelopt_cli.cli.running import runs_root
from modelopt_cli.cli.running import show as show_report


def replay(
    run: Run,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Ask a search's sampler and scheduler again, from its log, and compare every answer; exit 1 when one differs.

    Examples:
      modelopt replay digits-mlp
      modelopt replay runs/digits-mlp/2 --json
    """
    from modelopt_cli.cli.running import run_in_memory
    from modelopt_cli.core.errors import ReplayError
    from modelopt_cli.results.listing import find_run
    from modelopt_cli.workflows import replay as workflow

    path = find_run(run, runs_root())
    report = run_in_memory(lambda context: workflow.run(path, context), (), quiet=quiet or json)
    show_report(report, as_json=json, quiet=quiet)
    if not report.details["agrees"]:
        first = report.details["first"]
        raise ReplayError(f"event {first['event']} of {path / 'study.sqlite'} differs: {first['what']}")
