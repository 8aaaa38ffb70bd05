"""What stands between an error and the user: one clear message, the documented exit code, never a traceback."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import traceback
from collections.abc import Callable
from typing import Any


def guarded(action: Callable[[], Any], *, as_json: bool = False) -> int:
    """Run a command; its exit code (core/errors.py). With `as_json` an error is a JSON document on stdout,
    but not where the report is there already: one command prints one document.
    """
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
        if as_json:
            return _tell(error.format_message(), error.exit_code, "UsageError", as_json)
        error.show()
        return int(error.exit_code)
    except BrokenPipeError:
        # Whoever read our output has gone; there is nobody left to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except KeyboardInterrupt:
        return _tell("interrupted", 130, "InterruptedRunError", as_json)
    except Exception as error:
        if os.environ.get("MODELOPT_DEBUG"):
            raise
        from modelopt_cli.tuning.failures import classify

        kind, reason = classify(error)
        if kind == "memory":
            return _tell(f"{reason}; use a smaller model or batch size", 1, "MemoryError", as_json)
        return _tell(
            f"internal error: {type(error).__name__}: {error} (please report it, with {_log()})",
            1,
            "InternalError",
            as_json,
        )


def _tell(message: str, code: int, kind: str, as_json: bool) -> int:
    if as_json:
        print(json.dumps({"error": {"type": kind, "message": message, "exit_code": code}}))
    from modelopt_cli.cli.render import error

    error(message)
    return code


def _log() -> str:
    """Write the traceback to a file of its own and name it."""
    with tempfile.NamedTemporaryFile("w", prefix="modelopt-error-", suffix=".log", delete=False) as stream:
        traceback.print_exc(file=stream)
    return stream.name
