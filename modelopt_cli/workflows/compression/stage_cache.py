"""Stages that are finished, each in a folder named by the digest of all that it depends on.

A folder holds the stage's model.pt, stage.json (its curve, its seconds) and what its report consists of; it appears
whole or not at all, so several processes may make the same stage.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from types import MappingProxyType
from typing import TYPE_CHECKING

from modelopt_cli.core.errors import StorageError
from modelopt_cli.results.files import write_json

if TYPE_CHECKING:
    from modelopt_cli.models.files.checkpoints import Checkpoint

MODEL = "model.pt"
_RECORD = "stage.json"
Curve = Sequence[tuple[int, Mapping[str, float]]]
Judged = Mapping[str, Mapping[str, float]]
"""What a stage's report has a row of (prune, recover) -> its metrics on every split."""


@dataclass(frozen=True)
class StageRecord:
    """What is known of a finished stage beside its model."""

    folder: Path
    curve: list[tuple[int, dict[str, float]]]  # (step of the stage, metrics)
    seconds: float
    judged: dict[str, dict[str, float]]  # see Judged; empty for a trial's

    @property
    def model(self) -> Path:
        """Its model.pt."""
        return self.folder / MODEL


@dataclass(frozen=True)
class StageCache:
    """`folder`: where stages lie; `own`: where those lie that are a trial's alone, None: with the others."""

    folder: Path
    own: Path | None = None

    def record(self, digest: str, *, own: bool = False) -> StageRecord | None:
        """The finished stage; None: there is none, or it cannot be read."""
        folder = self._home(own) / digest
        try:
            content = json.loads((folder / _RECORD).read_text(encoding="utf-8"))
            curve = [(int(step), _metrics(row)) for step, row in content["curve"]]
            judged = {str(row): _metrics(metrics) for row, metrics in content["judged"].items()}
            whole = (folder / MODEL).exists()
            return StageRecord(folder, curve, float(content["seconds"]), judged) if whole else None
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None

    def keep(
        self,
        digest: str,
        checkpoint: Checkpoint,
        curve: Curve,
        seconds: float,
        *,
        judged: Judged = MappingProxyType({}),
        own: bool = False,
        more: Callable[[Path], None] | None = None,
    ) -> StageRecord:
        """Keep a stage; `more` writes what else it leaves into the folder. Raises StorageError."""
        from modelopt_cli.models.files import checkpoints

        home = self._home(own)
        try:
            home.mkdir(parents=True, exist_ok=True)
            scratch = Path(mkdtemp(prefix=".making-", dir=home))
        except OSError as error:
            raise StorageError(f"{home} cannot be written ({error.strerror}); free space, or run elsewhere") from None
        try:
            checkpoints.save(scratch / MODEL, checkpoint)
            if more is not None:
                more(scratch)
            rows = {row: dict(metrics) for row, metrics in judged.items()}
            steps = [[step, dict(metrics)] for step, metrics in curve]
            write_json(scratch / _RECORD, {"curve": steps, "seconds": seconds, "judged": rows})
            scratch.chmod(0o755)
            _put(scratch, home / digest)
        finally:
            rmtree(scratch, ignore_errors=True)
        return StageRecord(home / digest, [(step, dict(metrics)) for step, metrics in curve], seconds, rows)

    def forget_own(self) -> None:
        """Remove what is a trial's alone."""
        if self.own is not None:
            rmtree(self.own, ignore_errors=True)

    def _home(self, own: bool) -> Path:
        return self.own if own and self.own is not None else self.folder


def _metrics(content: Mapping[str, object]) -> dict[str, float]:
    return {name: float(value) for name, value in content.items() if isinstance(value, int | float)}


def _put(scratch: Path, target: Path) -> None:
    """Another process may have made the same meanwhile: then that one stays. A damaged one is replaced."""
    try:
        scratch.rename(target)
    except OSError:
        if (target / _RECORD).exists() and (target / MODEL).exists():
            return
        rmtree(target, ignore_errors=True)
        try:
            scratch.rename(target)
        except OSError as error:
            raise StorageError(f"{target} cannot be written ({os.strerror(error.errno or 0)})") from None
