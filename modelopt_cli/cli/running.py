"""How a command runs a workflow: in a run directory, with progress and signals; then report, gates and exit code."""

from __future__ import annotations

import os
import shlex
import signal
import sys
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import FrameType

    from modelopt_cli.core.conditions import Condition
    from modelopt_cli.results.report import GateResult, Report
    from modelopt_cli.results.run_directory import RunDirectory
    from modelopt_cli.workflows.shared.context import Context, StopFlag, Workflow
    from modelopt_cli.workflows.shared.latencies import TimingOptions

_HARD_STOP = 8.0  # seconds after a signal; everything on disk is whole at any time, so leaving is safe


def runs_root() -> Path:
    """Where runs lie: $MODELOPT_RUNS, or runs/ in the current folder."""
    from modelopt_cli.results import listing

    return listing.runs_root()


def execute(
    workflow: Workflow,
    file: Path,
    overrides: Sequence[str] | None,
    gates: Sequence[str] | None,
    *,
    out: Path | None,
    resume: bool,
    dry_run: bool,
    trust_code: bool,
    junit: Path | None,
    as_json: bool,
    quiet: bool,
    judged: Collection[object] = (),
) -> None:
    """Load, run in a run directory (or check and estimate, `dry_run`), show; ends the command with its exit code.

    `judged`: what the workflow judges by itself, as gates beside those of the file and of the command line.
    """
    from modelopt_cli.experiment.experiment import Experiment
    from modelopt_cli.workflows.shared.context import Context

    demanded = conditions(gates)
    experiment = Experiment.load(file, overrides or (), trust_code=trust_code)
    check_junit(junit, [*experiment.gates, *demanded, *judged], dry_run=dry_run)
    if dry_run:
        show(workflow.dry_run(experiment, Context(gates=demanded)), as_json=as_json, quiet=quiet)
        return
    name = workflow.__name__.rpartition(".")[2]
    directory = open_directory(experiment.name, out, resume=resume, workflow=name)
    work_in(
        directory,
        name,
        lambda context: workflow.run(experiment, context),
        demanded,
        resume=resume,
        junit=junit,
        as_json=as_json,
        quiet=quiet,
    )


def work_in(
    directory: RunDirectory,
    name: str,
    work: Callable[[Context], Report],
    demanded: tuple[Condition, ...],
    *,
    resume: bool,
    junit: Path | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Work in a run directory, with progress and signals, and show the report; ends the command with its exit code.

    `name`: the workflow's. `demanded`: the command line's gates.
    """
    from modelopt_cli.cli.render import progress
    from modelopt_cli.core.processes.family import watched_family
    from modelopt_cli.core.work import GivenUp
    from modelopt_cli.workflows.shared.context import Context, StopFlag
    from modelopt_cli.workflows.shared.progress_file import progress_file

    stop = StopFlag()
    with (
        directory,
        watched_family(),
        progress.shown(quiet=quiet or as_json) as shown,
        progress_file(directory.path, name, shown) as emit,
    ):
        _listen(stop)
        directory.workflow = name
        try:
            report = work(Context(directory, emit, stop, resume, demanded))
        except GivenUp:
            raise _interrupted(directory.path, stop) from None
    show(report, as_json=as_json, quiet=quiet)
    if report.status == "interrupted":
        raise _interrupted(directory.path, stop)
    demand(report, junit)


def _interrupted(folder: Path, stop: StopFlag) -> Exception:
    """What to say of a run that the user asked to end: what is kept of it, and how to go on."""
    from modelopt_cli.core.errors import InterruptedRunError

    command = shlex.join(["modelopt", *sys.argv[1:]])
    if stop.kept:
        hint = command if "--resume" in sys.argv else f"{command} --resume"
        text = f"interrupted; {stop.kept.removesuffix(',')} is kept in {folder}. Go on with: {hint}"
    else:
        text = f"interrupted before a step was finished, so that nothing is kept. Begin again with: {command}"
    return InterruptedRunError(text, stop.signal_number or 2)


def run_in_memory(run: Callable[[Context], Report], demanded: tuple[Condition, ...], *, quiet: bool) -> Report:
    """Run without a run directory, with progress and signals."""
    from modelopt_cli.cli.render import progress
    from modelopt_cli.core.errors import InterruptedRunError
    from modelopt_cli.core.work import GivenUp
    from modelopt_cli.workflows.shared.context import Context, StopFlag
    from modelopt_cli.workflows.shared.counting import counting

    stop = StopFlag()
    with progress.shown(quiet=quiet) as emit:
        _listen(stop)
        context = Context(None, emit, stop, False, demanded)
        try:
            with counting(context, patience=0.0):
                return run(context)
        except GivenUp:
            raise InterruptedRunError("interrupted; nothing was written", stop.signal_number or 2) from None


@contextmanager
def brief(text: str, *, quiet: bool = False) -> Iterator[None]:
    """Work that mostly takes a second or two, and may take long: what it is about and how far it is, if it does."""
    from modelopt_cli.cli.render import progress
    from modelopt_cli.workflows.shared.context import Context, StageBegun
    from modelopt_cli.workflows.shared.counting import counting

    with progress.shown(quiet=quiet, brief=True) as emit:
        emit(StageBegun(text, whole=True))
        with counting(Context(emit=emit)):
            yield


def timing_options(
    runtimes: Sequence[str] | None, threads: int | None, batch_sizes: Sequence[int] | None
) -> TimingOptions | None:
    """What --runtime, --threads and --batch-size say; None: nothing. Raises UsageError for an unknown runtime."""
    if not runtimes and threads is None and not batch_sizes:
        return None
    from modelopt_cli.workflows.shared.latencies import TimingOptions

    return TimingOptions.named(runtimes or (), threads, batch_sizes or ())


def conditions(gates: Sequence[str] | None) -> tuple[Condition, ...]:
    """The command line's gates. Raises UsageError."""
    from modelopt_cli.core.conditions import Condition
    from modelopt_cli.core.errors import UsageError

    try:
        return tuple(Condition.parse(gate) for gate in gates or ())
    except ValueError as error:
        raise UsageError(f"--gate: {error}") from None


def expect(gates: Sequence[str] | None, known: Collection[str]) -> None:
    """Raise UsageError for a gate of the command line on a metric that is not among the known ones."""
    from modelopt_cli.core.errors import UsageError
    from modelopt_cli.experiment.expected_metrics import listed, nearest

    for gate in conditions(gates):
        if gate.metric not in known:
            near = nearest(gate.metric, known)
            hint = f"did you mean '{near}'? " if near else ""
            raise UsageError(f"--gate '{gate}': there is no such metric here; {hint}there are {listed(known)}")


def check_junit(path: Path | None, gates: Collection[object], *, dry_run: bool = False) -> None:
    """Raise UsageError before any work where `--junit` names a file that cannot be, or there is no gate to write of."""
    if path is None:
        return
    from modelopt_cli.core.errors import UsageError
    from modelopt_cli.results.junit import check

    if dry_run:
        raise UsageError("--dry-run judges no gate, so there is nothing for --junit to write; leave one of them out")
    if not gates:
        raise UsageError("--junit writes a test case for each gate, but there is none; add one with --gate")
    check(path)


def demand(report: Report, junit: Path | None = None) -> None:
    """Raise GateError (exit 3) when a gate of the report was not met; `junit`: a file to tell of each before.

    In GitHub Actions, gates that were not met are annotations, and all of them a table of the step's summary.
    """
    from modelopt_cli.core.errors import GateError
    from modelopt_cli.results import github

    if junit is not None:
        from modelopt_cli.results.junit import write

        write(junit, report)
    if github.runs_here():
        sys.stdout.flush()
        for line in github.error_lines(report):
            sys.stderr.write(f"{line}\n")
        problem = github.append_summary(report)
        if problem:
            sys.stderr.write(f"warning: {problem}\n")
    missed = [gate for gate in report.gates if not gate.met]
    if missed:
        raise GateError("; ".join(_missed(gate, report) for gate in missed))


def _missed(gate: GateResult, report: Report) -> str:
    if gate.reason:
        return f"gate not met: {gate.condition} ({gate.reason})"
    if gate.value is None or gate.margin is None:
        from modelopt_cli.core.conditions import Condition
        from modelopt_cli.core.errors import did_you_mean

        near = did_you_mean(Condition.parse(gate.condition).metric, report.metrics)
        return f"gate not met: {gate.condition} (the report has no such metric, or it is undefined here).{near}"
    return f"gate not met: {gate.condition} (value {gate.value:.6g}, margin {gate.margin:.6g})"


def open_directory(name: str, out: Path | None, *, resume: bool, workflow: str) -> RunDirectory:
    """The folder of a run: `out`, or the next number below runs/NAME; with `resume` the one to go on with."""
    from modelopt_cli.results.run_directory import RunDirectory

    if out is not None:
        return RunDirectory.create_at(out, resume=resume, workflow=workflow)
    if resume:
        return RunDirectory.newest(runs_root(), name, workflow)
    return RunDirectory.create(runs_root(), name)


def show(report: Report, *, as_json: bool, quiet: bool) -> None:
    """The report on standard output: as JSON, or as tables."""
    from modelopt_cli.cli import output, render

    if as_json:
        output.json_document(report.to_json())
    else:
        render.show(report, quiet=quiet)


def _listen(stop: StopFlag) -> None:
    """SIGINT and SIGTERM end the run cleanly; a second one, or eight seconds, end the process at once."""

    def handle(number: int, frame: FrameType | None) -> None:
        if stop:
            os._exit(128 + number)
        stop.set(number)
        leave = threading.Timer(_HARD_STOP, leave_at_once, [number, stop])
        leave.daemon = True
        leave.start()

    signal.signal(signal.SIGINT, handle)
    signal.signal(signal.SIGTERM, handle)


def leave_at_once(number: int, stop: StopFlag) -> None:
    """End the process where it stands, and say what is kept."""
    kept = f"{stop.kept} is kept; go on with --resume" if stop.kept else "no step was finished, so that nothing is kept"
    sys.stderr.write(f"modelopt: a step did not end in time; left at once: {kept}\n")
    sys.stderr.flush()
    os._exit(128 + number)
