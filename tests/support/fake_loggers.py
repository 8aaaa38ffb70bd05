"""Loggers that write down what they are handed, and fail where they are told to."""

from __future__ import annotations

import json
import os
import sys
import time
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Any

from modelopt_cli.results.loggers import Begun, Ended, Location, Logger, Points, Session


class Noted(Logger):
    """Appends every call to a file; `fails`: the call that raises, or `CALL:WAY` for another way to go wrong."""

    path: str = ""
    fails: str = ""
    times: int = 1_000_000  # how often

    @classmethod
    def name(cls) -> str:
        return "noted"

    def open(self, location: Location) -> Session:
        session = NotedSession(self)
        session.note("open", {"title": location.title})
        return session


class NotedSession(Session):
    def __init__(self, options: Noted) -> None:
        self._options = options
        self._call, _, self._way = options.fails.partition(":")
        self._left = options.times
        self.where = f"cat {options.path}"

    def note(self, call: str, content: dict[str, Any]) -> None:
        if call == self._call and self._left > 0:
            self._left -= 1
            go_wrong(self._way or "raise")
        with Path(self._options.path).open("a") as stream:
            stream.write(json.dumps({"call": call, **content}) + "\n")

    def begin(self, begun: Begun, known: str | None) -> str:
        self.note("begin" if known is None else "go on", {**asdict(begun), "known": known})
        return f"id of {begun.run}"

    def log(self, points: Points) -> None:
        self.note("log", asdict(points))

    def end(self, ended: Ended) -> None:
        self.note("end", asdict(ended))

    def close(self) -> None:
        self.note("close", {})


def go_wrong(way: str) -> None:
    """One of the ways in which packages go wrong."""
    match way:
        case "raise":
            raise ConnectionError("http://user:secret@127.0.0.1 refused\nand more lines")
        case "exit":
            sys.exit(3)
        case "crash":
            sys.stderr.write("Fatal: the package crashed\n")
            sys.stderr.flush()
            os._exit(7)
        case "hang":
            time.sleep(1000)
        case "slow":
            time.sleep(0.3)
        case "print":
            print("a package prints", flush=True)
            warnings.warn("a package warns", DeprecationWarning, stacklevel=1)
        case _:
            raise AssertionError(way)


def calls(path: Path) -> list[dict[str, Any]]:
    """What a `Noted` logger was handed so far."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
