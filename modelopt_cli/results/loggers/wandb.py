"""Weights & Biases: a run with its settings, metrics and summary; children are runs of its group."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from pathlib import Path
from shlex import quote
from typing import Any, ClassVar, Literal, final

from pydantic import Field

from modelopt_cli.core.errors import UsageError
from modelopt_cli.results.loggers import OWN, Begun, Ended, Location, Logger, Points, Session, without
from modelopt_cli.results.loggers._names import Names, shortened

_WHO = ("WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE", "WANDB_BASE_URL")
_TEXT = 10_000  # characters of a setting
_FAILURE, _NOT_ENDED = 1, 255  # exit codes


@final
class Wandb(Logger):
    """Weights & Biases runs: offline ones, to look at after `wandb sync`, unless it may go online."""

    package: ClassVar[str] = "wandb"
    extra: ClassVar[str] = "wandb"
    path_fields: ClassVar[tuple[str, ...]] = ("folder",)

    mode: Literal["offline", "online"] = Field("offline", description="online: sends while the run goes on.")
    project: str | None = Field(None, description="Of Weights & Biases; null: the experiment's name.")
    entity: str | None = Field(None, description="Whose project it is; null: the account's default.")
    folder: str | None = Field(None, description="Where its folder `wandb` is made; null: in the run's own folder.")
    artefacts: bool = Field(False, description="Keep report.json and model.pt in the run, too, else only their paths.")

    def environment(self, variables: Mapping[str, str]) -> dict[str, str]:
        """Only who one is; no reports of errors to the package's makers."""
        own = {"WANDB_MODE": self.mode, "WANDB_ERROR_REPORTING": "false", "WANDB_SILENT": "true"}
        return {**without(variables, "WANDB_", _WHO), **own}

    def open(self, location: Location) -> Session:
        """See Logger."""
        folder = location.folder if self.folder is None else Path(self.folder)
        if folder is None:
            raise UsageError("there is no run folder to write into; name one in `folder`")
        folder.mkdir(parents=True, exist_ok=True)
        return _Session(self, location, folder)


class _Session(Session):
    def __init__(self, options: Wandb, location: Location, folder: Path) -> None:
        import wandb

        self._options, self._location, self._folder = options, location, folder
        self._project = Names(r"[/\\#?%:]", 128).of(options.project or location.name)
        self._keys = Names(r"^_", 1000, "own_")  # of metrics; those that begin with _ are the package's own
        self._runs: dict[str, Any] = {}
        self._group = ""
        self._settings = wandb.Settings(
            mode=options.mode,
            silent=True,
            console="off",
            disable_git=True,
            disable_code=True,
            disable_job_creation=True,
            save_code=False,
            x_disable_stats=True,
            x_disable_meta=True,
            x_save_requirements=False,
        )
        offline = f"wandb sync {quote(str(folder / 'wandb'))}/offline-run-*"
        self.where = offline if options.mode == "offline" else f"project {self._project}"

    def begin(self, begun: Begun, known: str | None) -> str:
        import wandb

        own = begun.run == OWN
        if own:
            identifier = known or secrets.token_hex(6)
            self._group = identifier
        else:
            identifier = known or f"{self._group}-{Names(r'[^A-Za-z0-9_-]', 100).of(begun.run)}"
        self._runs[begun.run] = wandb.init(
            project=self._project,
            entity=self._options.entity,
            dir=str(self._folder),
            id=identifier,
            resume="allow",
            name=shortened(self._location.title if own else begun.run, 128),
            group=self._group,
            job_type="run" if own else "child",
            config={name: _setting(value) for name, value in begun.settings.items()},
            notes="\n".join(f"{name}: {text}" for name, text in begun.tags.items()),
            reinit="create_new",
            settings=self._settings,
        )
        return identifier

    def log(self, points: Points) -> None:
        run = self._runs[points.run]
        for step, metrics in points.points:
            run.log({self._keys.of(name): value for name, value in metrics.items()}, step=step)

    def end(self, ended: Ended) -> None:
        run = self._runs.pop(ended.run)
        run.summary.update({self._keys.of(name): value for name, value in ended.metrics.items()})
        texts = {"status": ended.status, "reason": ended.reason, **ended.files}
        texts = {f"modelopt.{name}": text for name, text in texts.items()} | dict(ended.tags)
        run.summary.update({name: text for name, text in texts.items() if text})
        if self._options.artefacts and ended.run == OWN:
            for path in map(Path, ended.files.values()):
                if path.is_file():
                    run.save(str(path), base_path=str(path.parent), policy="now")
        run.finish(exit_code={"failed": _FAILURE, "interrupted": _NOT_ENDED}.get(ended.status, 0))

    def close(self) -> None:
        for run in self._runs.values():
            run.finish(exit_code=_NOT_ENDED)


def _setting(value: Any) -> Any:
    return shortened(value, _TEXT) if isinstance(value, str) else value
