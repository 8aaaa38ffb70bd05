"""A study's log as its file keeps it, and that log asked again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from modelopt_cli.tuning.schedulers import Scheduler
from modelopt_cli.tuning.search.replay import Replayed, replay
from modelopt_cli.tuning.study.header import Header, whole_header
from modelopt_cli.tuning.study.log import Event
from modelopt_cli.tuning.study.store import Store


def logged(path: Path) -> tuple[list[Event], Header]:
    """The events of the study at `path`, and what it was begun with."""
    store = Store(path, write=False)
    try:
        return list(store.events()), whole_header(store)
    finally:
        store.close()


def replayed(path: Path, scheduler: Scheduler, *, sizes: Sequence[int] | None = None) -> Replayed:
    """What comes of asking the study at `path` again."""
    events, header = logged(path)
    return replay(events, header, scheduler, sizes=sizes)
