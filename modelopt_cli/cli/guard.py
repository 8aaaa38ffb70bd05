"""What stands between an error and the user: one clear message, the documented exit code, never a traceback."""

from __future__ import annotations

import contextlib
import errno
import functools
import json
import os
import re
import sys
import tempfile
import traceback
from collections.abc import Callable
from typing import Any

from modelopt_cli.cli import output
from modelopt_cli.core.references import redacted

_PIPE_CLOSED = 141  # 128 + SIGPIPE, as a shell counts it
_FULL = (errno.ENOSPC, errno.EDQUOT)
_STORAGE = {
    errno.EROFS: "it is mounted read-only; write elsewhere (--out, $MODELOPT_RUNS, $TMPDIR)",
    errno.EIO: "the device reports an error; check it, or write elsewhere (--out, $MODELOPT_RUNS, $TMPDIR)",
    errno.ESTALE: "the network file system has lost it; mount it again, or write elsewhere (--out, $MODELOPT_RUNS)",
    errno.ENOLCK: "the file system gives no locks; write to a local one (--out, $MODELOPT_RUNS)",
    errno.EMFILE: "too many files are open; raise the limit (ulimit -n)",
    errno.ENFILE: "too many files are open on this machine",
}


def guarded(action: Callable[[], Any], *, as_json: bool = False) -> int:
    """Run a command; its exit code (core/errors.py). With `as_json` an error is a JSON document on stdout,
    but not where the report is there already: one command prints one document.
    """
    from modelopt_cli.core.processes.interrupts import noting_interrupts

    try:
        with noting_interrupts(), output.one_document() if as_json else contextlib.nullcontext():
            code = _run(action, as_json)
        sys.stdout.flush()
        return code
    except OSError as error:  # of writing to standard output itself
        output.discard()
        if error.errno == errno.EPIPE:
            return _PIPE_CLOSED  # whoever read our output has gone; there is nobody left to tell
        if error.errno in _FULL:
            return _tell("standard output cannot be written: the disk is full; free some space", 6, "StorageError")
        return _tell(f"standard output cannot be written ({error.strerror})", 6, "StorageError")


def _run(action: Callable[[], Any], as_json: bool) -> int:
    """The exit code. Raises OSError where standard output cannot be written."""
    import typer

    from modelopt_cli.core.errors import ModeloptError

    # typer carries click inside it since 0.17 or so, and used the package before: this finds the base in either.
    usage_error: Any = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")
    try:
        code = action()
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except ModeloptError as error:
        return _tell(str(error), error.exit_code, type(error).__name__, as_json and not error.after_report)
    except typer.Exit as error:
        return int(error.exit_code)
    except typer.Abort:
        return _tell("aborted", 130, "Aborted", as_json)
    except usage_error as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            typer.echo(error.format_message())
            return int(error.exit_code)
        return _tell(_misuse(error), int(error.exit_code), "UsageError", as_json)
    except KeyboardInterrupt:
        return _tell("interrupted", 130, "InterruptedRunError", as_json)
    except SystemExit as error:
        if isinstance(error.__context__, OSError) and error.__context__.errno == errno.EPIPE:
            raise error.__context__ from None  # typer makes an exit code of 1 of it
        return error.code if isinstance(error.code, int) else 1
    except Exception as error:
        if os.environ.get("MODELOPT_DEBUG"):
            raise
        return _unexpected(error, as_json)


def _misuse(error: Any) -> str:
    """What is wrong with what was typed, in the form of every other message: what, the nearest, where to look."""
    from modelopt_cli.core.errors import did_you_mean

    context: Any = getattr(error, "ctx", None)
    nearest = ""
    message = error.format_message().replace("Value error, ", "").replace("argument(s)", "arguments")
    typed = getattr(error, "option_name", None)
    if typed and hasattr(error, "possibilities"):
        message = f"there is no option {typed}"
        nearest = did_you_mean(typed, error.possibilities or ())
    elif unknown := re.match(r"No such command '(.*?)'\.", message, re.DOTALL):
        message = f"there is no command '{unknown[1]}'"
        nearest = did_you_mean(unknown[1], context.command.list_commands(context))
    message = message.replace(" (env var: 'None')", "")  # of Typer 0.19
    message = re.sub(r"'(-[\w-]+)'", r"\1", message.rstrip("."))
    message = re.sub(r"(^|: )(Input|[A-Z])", lambda start: start[0].lower(), message, count=2)
    return f"{message}.{nearest} See: {_program(context)} --help"


def _program(context: Any) -> str:
    """The command that was typed, whose help says more."""
    if context is None:
        return " ".join(["modelopt", *(word for word in sys.argv[1:2] if word.isalpha())])
    return "modelopt" if context.parent is None else f"modelopt {context.info_name}"


def command(function: Callable[..., None]) -> Callable[..., None]:
    """A command whose own code, or the user's that it calls, may raise what is no Exception (a model that calls
    sys.exit, or raises KeyboardInterrupt): that is a failed run like any other, and Ctrl-C still is Ctrl-C.

    Inside typer, which would take KeyboardInterrupt and EOFError for the user's wish to end.
    """

    @functools.wraps(function)
    def contained(*arguments: Any, **options: Any) -> None:
        import typer

        try:
            function(*arguments, **options)
        except (typer.Exit, typer.Abort):
            raise
        except BaseException as error:
            from modelopt_cli.core.errors import ModeloptError
            from modelopt_cli.core.processes.interrupts import from_outside
            from modelopt_cli.tuning.trials.failures import classify

            if from_outside(error) or (isinstance(error, Exception) and not isinstance(error, EOFError)):
                raise
            if isinstance(error.__context__, OSError) and error.__context__.errno == errno.EPIPE:
                raise  # rich ends the process by SystemExit when whoever read our output has gone
            raise ModeloptError(f"the run failed: {classify(error)[1]}") from error

    return contained


def _unexpected(error: Exception, as_json: bool) -> int:
    from modelopt_cli.tuning.trials.failures import classify

    if isinstance(error, OSError):
        if error.errno == errno.EPIPE or _of_standard_output(error):
            raise error
        if error.errno in _FULL or error.errno in _STORAGE:
            where = f"{error.filename}: " if error.filename else ""
            full = f"the disk is full; free some space (temporary files lie in {_temporary_folder()})"
            remedy = full if error.errno in _FULL else _STORAGE[error.errno]
            return _tell(f"{where}{error.strerror}: {remedy}", 6, "StorageError", as_json)
    kind, reason = classify(error)
    if kind == "memory":
        return _tell(f"{reason}; use a smaller model or batch size", 1, "MemoryError", as_json)
    return _tell(
        f"internal error: {type(error).__name__}: {error} (please report it{_log()})", 1, "InternalError", as_json
    )


def _of_standard_output(error: OSError) -> bool:
    """Whether standard output is what could not be written: the system's error does not say which file it is about."""
    last = traceback.extract_tb(error.__traceback__)[-1].filename
    return error.filename is None and (os.sep + "rich" + os.sep in last or last == output.__file__)


def _temporary_folder() -> str:
    try:
        return tempfile.gettempdir()
    except OSError:  # none of the usual ones can be written
        return os.environ.get("TMPDIR", "/tmp")


def _tell(message: str, code: int, kind: str, as_json: bool = False) -> int:
    message = redacted(message)
    if as_json:
        document = {"error": {"type": kind, "message": message, "exit_code": code}}
        output.json_document(json.dumps(document))
    from modelopt_cli.cli.render.console import error

    with contextlib.suppress(OSError, ValueError):  # standard error may be closed, too
        error(message)
    return code


def _log() -> str:
    """Write the traceback to a file of its own and name it; nothing where no file can be written."""
    try:
        with tempfile.NamedTemporaryFile("w", prefix="modelopt-error-", suffix=".log", delete=False) as stream:
            stream.write(redacted(traceback.format_exc()))
    except OSError:
        return ""
    return f", with {stream.name}"
