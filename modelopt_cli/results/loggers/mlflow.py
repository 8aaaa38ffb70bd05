"""MLflow: a run with its settings, metrics and tags; children are nested runs."""

from __future__ import annotations

import contextlib
import fcntl
import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from shlex import quote
from typing import Any, ClassVar, TypeVar, final
from urllib.parse import urlsplit, urlunsplit

from pydantic import Field, field_validator

from modelopt_cli.core.errors import UsageError
from modelopt_cli.results.loggers import OWN, Begun, Ended, Location, Logger, Points, Session, Status, without
from modelopt_cli.results.loggers._names import Names, shortened

T = TypeVar("T")

_SCHEMES = ("http", "https", "sqlite", "file", "postgresql", "mysql", "mssql")
_WHO = (  # variables that say who one is, and how to reach the server that the file names
    "MLFLOW_TRACKING_USERNAME",
    "MLFLOW_TRACKING_PASSWORD",
    "MLFLOW_TRACKING_TOKEN",
    "MLFLOW_TRACKING_AWS_SIGV4",
    "MLFLOW_TRACKING_INSECURE_TLS",
    "MLFLOW_TRACKING_SERVER_CERT_PATH",
    "MLFLOW_TRACKING_CLIENT_CERT_PATH",
    "MLFLOW_S3_ENDPOINT_URL",
    "MLFLOW_S3_IGNORE_TLS",
)
_METRICS, _PARAMS = 1000, 100  # in one request, as the server takes them
_NAME, _VALUE, _SHORT_VALUE, _TAG = 250, 6000, 500, 5000  # characters; older servers take only short values
_ODD = r"[^\w\-. /]|[^\x00-\x7f]"
_STATUS: Mapping[Status, str] = {
    "completed": "FINISHED",
    "stopped": "FINISHED",
    "failed": "FAILED",
    "interrupted": "KILLED",
}


@final
class Mlflow(Logger):
    """MLflow runs: trials are nested runs of the search."""

    package: ClassVar[str] = "mlflow"
    extra: ClassVar[str] = "mlflow"

    uri: str | None = Field(
        None,
        description="Where to: http://..., sqlite:///FILE and the like; null: mlflow.db in the folder of all runs.",
    )
    experiment: str | None = Field(None, description="MLflow's experiment; null: the name of this one.")
    artefacts: bool = Field(False, description="Upload report.json and model.pt, too, else only tell their paths.")

    @field_validator("uri")
    @classmethod
    def _has_a_scheme(cls, uri: str | None) -> str | None:
        if uri is not None and uri.partition(":")[0].partition("+")[0] not in _SCHEMES:
            raise ValueError(
                f"'{_public(uri)}' is no address of MLflow; write http://127.0.0.1:5000, sqlite:///mlflow.db "
                "or the like"
            )
        return uri

    def environment(self, variables: Mapping[str, str]) -> dict[str, str]:
        """Only who one is; nothing is sent to MLflow's makers; fewer attempts at a server that does not answer."""
        own = {
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "MLFLOW_ALLOW_FILE_STORE": "true",
            "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
            "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
        }
        return {**without(variables, "MLFLOW_", _WHO), **own}

    def open(self, location: Location) -> Session:
        """See Logger."""
        uri, files = self.uri, None
        if uri is None:
            if location.root is None:
                raise UsageError("there is no run folder to write into; name a `uri`")
            uri, files = f"sqlite:///{location.root / 'mlflow.db'}", location.root / "mlflow-artefacts"
        with _alone(location.root if self.uri is None else None):
            return _Session(uri, files, self.experiment or location.name, location.title, self.artefacts)


class _Session(Session):
    def __init__(self, uri: str, files: Path | None, experiment: str, title: str, artefacts: bool) -> None:
        from mlflow import MlflowClient

        self._client = MlflowClient(tracking_uri=uri)
        self._title, self._artefacts = title, artefacts
        self._experiment = _experiment(self._client, experiment, files)
        self._names = Names(_ODD, _NAME)
        self._ids: dict[str, str] = {}
        self._last: dict[str, int] = {}
        http = uri.startswith("http")
        self.where = _public(uri) if http else f"mlflow ui --backend-store-uri {quote(_public(uri))}"

    def begin(self, begun: Begun, known: str | None) -> str:
        if known is not None:
            self._client.update_run(known, "RUNNING")
            self._ids[begun.run] = known
            return known
        tags = {"mlflow.source.name": "modelopt", "mlflow.source.type": "LOCAL", **begun.tags}
        if begun.run != OWN:
            tags["mlflow.parentRunId"] = self._ids[OWN]
        title = self._title if begun.run == OWN else begun.run
        run = self._client.create_run(self._experiment, tags=self._tags(tags), run_name=title)
        self._ids[begun.run] = str(run.info.run_id)
        for some in _batches(begun.settings.items(), _PARAMS):
            self._settings(self._ids[begun.run], dict(some))
        return self._ids[begun.run]

    def log(self, points: Points) -> None:
        self._last[points.run] = points.points[-1][0]
        self._metrics(points.run, points.points)

    def end(self, ended: Ended) -> None:
        from mlflow.entities import RunTag

        run = self._ids[ended.run]
        self._metrics(ended.run, [(self._last.get(ended.run, 0), ended.metrics)])
        tags = {"modelopt.status": ended.status, "modelopt.reason": ended.reason, **ended.tags}
        tags |= {f"modelopt.{what}": path for what, path in ended.files.items()}
        if self._names.changed:
            tags["modelopt.renamed"] = json.dumps(self._names.changed)
        some = [RunTag(*tag) for tag in self._tags({name: text for name, text in tags.items() if text}).items()]
        for batch in _batches(some, _PARAMS):
            self._client.log_batch(run, tags=batch)
        if self._artefacts and ended.run == OWN:
            for path in ended.files.values():
                if Path(path).is_file():
                    self._client.log_artifact(run, path)
        self._client.set_terminated(run, _STATUS[ended.status])

    def close(self) -> None:
        return None  # nothing is held back

    def _metrics(self, run: str, points: Sequence[tuple[int, Mapping[str, float]]]) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        rows = [
            Metric(self._names.of(name), value, now, step)
            for step, metrics in points
            for name, value in metrics.items()
        ]
        for some in _batches(rows, _METRICS):
            self._client.log_batch(self._ids[run], metrics=some)

    def _settings(self, run: str, settings: Mapping[str, Any]) -> None:
        from mlflow.entities import Param
        from mlflow.exceptions import MlflowException

        def params(limit: int) -> list[Any]:
            texts = {self._names.of(name): shortened(str(value), limit) for name, value in settings.items()}
            return [Param(name, text) for name, text in texts.items()]

        try:
            self._client.log_batch(run, params=params(_VALUE))
        except MlflowException:
            if all(len(str(value)) <= _SHORT_VALUE for value in settings.values()):
                raise
            self._client.log_batch(run, params=params(_SHORT_VALUE))

    def _tags(self, tags: Mapping[str, str]) -> dict[str, str]:
        return {self._names.of(name): shortened(text, _TAG) for name, text in tags.items()}


def _experiment(client: Any, name: str, files: Path | None) -> str:
    """The identifier of MLflow's experiment of this name, made where there is none."""
    from mlflow.exceptions import MlflowException

    existing = client.get_experiment_by_name(name)
    if existing is None:
        try:
            return str(client.create_experiment(name, artifact_location=None if files is None else files.as_uri()))
        except MlflowException:  # another run made it just now
            existing = client.get_experiment_by_name(name)
            if existing is None:
                raise
    if existing.lifecycle_stage == "deleted":
        raise UsageError(f"MLflow's experiment '{name}' is deleted there; restore it, or name another in `experiment`")
    return str(existing.experiment_id)


@contextlib.contextmanager
def _alone(root: Path | None) -> Iterator[None]:
    """One process at a time makes a new store."""
    if root is None:
        yield
        return
    with (root / ".mlflow.lock").open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def _batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    rest = iter(items)
    while batch := list(islice(rest, size)):
        yield batch


def _public(uri: str) -> str:
    """Without name and password."""
    parts = urlsplit(uri)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2])) if "@" in parts.netloc else uri
