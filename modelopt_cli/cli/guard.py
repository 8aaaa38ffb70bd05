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
    """Run a command; its exit code (core/errors.py lists them). With `as_json` an error is a JSON document on stdout."""
    import click

    from modelopt_cli.core.errors import ModeloptError

    try:
        code = action()
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except ModeloptError as error:
        return _tell(str(error), error.exit_code, type(error).__name__, as_json)
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.exceptions.Abort:
        return _tell("aborted", 130, "Aborted", as_json)
    except click.ClickException as error:
        if as_json:
            return _tell(error.format_message(), error.exit_code, "UsageError", as_json)
        error.show()
        return error.exit_code
    except BrokenPipeError:
        # Whoever read our output has gone; there is nobody left to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except KeyboardInterrupt:
        return _tell("interrupted", 130, "InterruptedRun", as_json)
    except Exception as error:
        if os.environ.get("MODELOPT_DEBUG"):
            raise
        return _tell(f"internal error: {type(error).__name__}: {error} (please report it, with {_log()})", 1, "InternalError", as_json)


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
