"""What people see: results on standard output, progress and errors on standard error. The only importer of rich.

One file a kind of report, in what it is called; text.py and parts.py hold what they share. From elsewhere come
`show`, `progress.shown`, `console.error` and the tables of lists.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from modelopt_cli.results.report import Report


def show(report: Report, *, quiet: bool) -> None:
    """A report on standard output, in the form of its kind; what is unfinished, in that of a training."""
    from modelopt_cli.cli.render import (
        comparison,
        compression,
        distillation,
        export,
        failed,
        groups,
        inspection,
        pick,
        plan,
        pruning,
        replay,
        search,
        storage,
        training,
        units,
        weights_file,
    )
    from modelopt_cli.cli.render.console import console

    forms = {
        "training": training.render,
        "search": search.render,
        "pruning": pruning.render,
        "units": units.render,
        "weights_file": weights_file.render,
        "distillation": distillation.render,
        "compression": compression.render,
        "evaluation": training.render,
        "inspection": inspection.render,
        "groups": groups.render,
        "export": export.render,
        "storage": storage.render,
        "pick": pick.render,
        "replay": replay.render,
        "comparison": comparison.render,
        "plan": plan.render,
    }
    whole = report.status == "completed" or report.kind == "search"
    form = forms[report.kind] if whole else training.render
    if report.status == "failed":
        failed.render(console(), report)
    form(console(), report, quiet=quiet)
