"""Trackio: runs in a local SQLite file that `trackio show` opens."""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import Context
from pathlib import Path
from shlex import quote
from typing import Any, ClassVar, final

from pydantic import Field

from modelopt_cli.core.errors import UsageError
from modelopt_cli.results.loggers import OWN, Begun, Ended, Location, Logger, Points, Session, without
from modelopt_cli.results.loggers._names import Names, shortened

_TEXT = 10_000  # characters of a setting


@final
class Trackio(Logger):
    """Trackio runs in a local file, trials grouped by their search."""

    package: ClassVar[str] = "trackio"
    extra: ClassVar[str] = "trackio"
    path_fields: ClassVar[tuple[str, ...]] = ("folder",)

    project: str | None = Field(None, description="Of Trackio; null: the experiment's name.")
    folder: str | None = Field(None, description="Where its files lie; null: `trackio` in the folder of all runs.")

    def environment(self, variables: Mapping[str, str]) -> dict[str, str]:
        """Nothing that would send anything anywhere."""
        kept = without(without(variables, "TRACKIO_", ()), "HF_TOKEN", ())
        return {**kept, "HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "GRADIO_ANALYTICS_ENABLED": "False"}

    def open(self, location: Location) -> Session:
        """See Logger."""
        if self.folder is None and location.root is None:
            raise UsageError("there is no run folder to write into; name one in `folder`")
        folder = Path(self.folder) if self.folder is not None else Path(location.root or ".", "trackio")
        folder.mkdir(parents=True, exist_ok=True)
        return _Session(Names(r"[^A-Za-z0-9_. -]", 100).of(self.project or location.name), location.title, folder)


class _Session(Session):
    def __init__(self, project: str, title: str, folder: Path) -> None:
        import os

        os.environ["TRACKIO_DIR"] = str(folder)  # read when the package is imported
        import trackio

        self._trackio, self._project, self._title = trackio, project, title
        self._keys = Names(r"^_", 1000, "own_")  # what begins with _ is the package's own
        self._runs: dict[str, Any] = {}
        self._last: dict[str, int] = {}
        self.where = f"TRACKIO_DIR={quote(str(folder))} trackio show --project {quote(project)}"

    def begin(self, begun: Begun, known: str | None) -> str:
        name = self._title if begun.run == OWN else f"{self._title}/{begun.run}"
        settings = {**begun.settings, **begun.tags}
        # In a context of its own, since a second run would end the first one of the same context.
        self._runs[begun.run] = Context().run(
            self._trackio.init,
            project=self._project,
            name=known or name,
            group=self._title,
            config={self._keys.of(key): _setting(value) for key, value in settings.items()},
            resume="never" if known is None else "allow",
            embed=False,
            auto_log_gpu=False,
            auto_log_cpu=False,
        )
        return str(self._runs[begun.run].name)

    def log(self, points: Points) -> None:
        for step, metrics in points.points:
            self._runs[points.run].log(self._plain(metrics), step=step)
            self._last[points.run] = step

    def end(self, ended: Ended) -> None:
        run = self._runs.pop(ended.run)
        texts = {"status": ended.status, "reason": ended.reason, **ended.files}
        texts = {f"modelopt.{name}": text for name, text in texts.items()} | dict(ended.tags)
        final = {**self._plain(ended.metrics), **{name: text for name, text in texts.items() if text}}
        run.log(final, step=self._last.get(ended.run, 0))
        run.finish()

    def close(self) -> None:
        for run in self._runs.values():
            run.finish()

    def _plain(self, metrics: Mapping[str, float]) -> dict[str, float]:
        return {self._keys.of(name): value for name, value in metrics.items()}


def _setting(value: Any) -> Any:
    return shortened(value, _TEXT) if isinstance(value, str) else value
