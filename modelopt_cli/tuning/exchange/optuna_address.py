"""Where a study of Optuna's lies, as `tuning.warm_start` names it: `optuna:sqlite:///old.db#study`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

PREFIX = "optuna:"
_SQLITE = "sqlite:///"


@dataclass(frozen=True)
class OptunaAddress:
    """A SQLite file of Optuna's, and the name of a study in it; without one, the only study there is."""

    file: str
    study: str = ""

    @classmethod
    def parse(cls, text: str) -> OptunaAddress | None:
        """None for what does not begin with `optuna:`. Raises ValueError for storages that cannot be read."""
        if not text.startswith(PREFIX):
            return None
        url, _, study = text.removeprefix(PREFIX).partition("#")
        file = url.removeprefix(_SQLITE)
        if "://" in file or not file:
            raise ValueError(
                f"'{text}' names no file; of Optuna's storages those in SQLite files are read: write "
                f"{PREFIX}{_SQLITE}old.db, or {PREFIX}{_SQLITE}old.db#STUDY"
            )
        return cls(file, study)

    def __str__(self) -> str:
        return f"{PREFIX}{_SQLITE}{self.file}" + (f"#{self.study}" if self.study else "")

    def joined(self, join: Callable[[str], str]) -> OptunaAddress:
        """The same with `join` of its file."""
        return OptunaAddress(join(self.file), self.study)

    @property
    def path(self) -> Path:
        """The file."""
        return Path(self.file)
