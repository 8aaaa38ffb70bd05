"""TensorBoard: event files in the run's folder."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from shlex import quote
from typing import Any, ClassVar, final

from pydantic import Field

from modelopt_cli.core.errors import UsageError
from modelopt_cli.results.loggers import OWN, Begun, Ended, Location, Logger, Points, Session, Status

_OPEN = 32  # event files that are open at once; the one that was used longest ago is closed, and begun anew if needed
_FINISHED, _FAILED = 1, 2  # of hparams' api_pb2.Status
_STATUS: Mapping[Status, int] = {
    "completed": _FINISHED,
    "stopped": _FINISHED,
    "failed": _FAILED,
}


@final
class Tensorboard(Logger):
    """TensorBoard event files: scalars, and trials in its HPARAMS tab."""

    package: ClassVar[str] = "tensorboard"
    extra: ClassVar[str] = "tensorboard"
    path_fields: ClassVar[tuple[str, ...]] = ("folder",)

    folder: str | None = Field(
        None, description="Where a folder for each run is made; null: `tensorboard` in the run's own folder."
    )

    def open(self, location: Location) -> Session:
        """See Logger."""
        if self.folder is not None:
            return _Session(Path(self.folder, *location.title.split("/")))
        if location.folder is None:
            raise UsageError("there is no run folder to write into; name one in `folder`")
        return _Session(location.folder / "tensorboard")


class _Session(Session):
    """A folder with event files for the run, and one for each child."""

    def __init__(self, folder: Path) -> None:
        import tensorboard.summary.writer.event_file_writer as writers

        self._make, self._folder = writers.EventFileWriter, folder
        self.where = f"tensorboard --logdir {quote(str(folder))}"
        self._writers: OrderedDict[str, Any] = OrderedDict()
        self._last: dict[str, int] = {}

    def begin(self, begun: Begun, known: str | None) -> str:
        if known is None:
            self._write(begun.run, 0, _begun(begun))
            self._text(begun.run, "begun", begun.tags)
            self._writer(begun.run).flush()  # the journal holds from now on that it has begun
        return begun.run or "run"

    def log(self, points: Points) -> None:
        for step, metrics in points.points:
            self._write(points.run, step, _scalars(metrics))
            self._last[points.run] = step
        self._writer(points.run).flush()

    def end(self, ended: Ended) -> None:
        run = ended.run
        self._write(run, self._last.get(run, 0), _scalars(ended.metrics))
        self._text(run, ended.status, {"reason": ended.reason, **ended.tags, **ended.files})
        if ended.status != "interrupted":  # the first end is the one that counts, and this one may go on
            self._write(run, 0, _ended(ended.status))
        self._close(run)

    def close(self) -> None:
        for run in list(self._writers):
            self._close(run)

    def _text(self, run: str, what: str, texts: Mapping[str, str]) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.compat.proto.tensor_pb2 import TensorProto
        from tensorboard.plugins.text.plugin_data_pb2 import TextPluginData

        lines = "\n".join(f"- {name}: {_verbatim(text)}" for name, text in texts.items() if text)
        tensor = TensorProto(dtype="DT_STRING", string_val=[lines.encode()])
        about = _about("text", TextPluginData(version=0))
        self._write(run, 0, Summary(value=[Summary.Value(tag=f"modelopt/{what}", metadata=about, tensor=tensor)]))

    def _write(self, run: str, step: int, summary: Any) -> None:
        from tensorboard.compat.proto.event_pb2 import Event

        self._writer(run).add_event(Event(wall_time=time.time(), step=step, summary=summary))

    def _writer(self, run: str) -> Any:
        if run in self._writers:
            self._writers.move_to_end(run)
        else:
            while len(self._writers) >= _OPEN:
                self._close(next(iter(self._writers)))
            self._writers[run] = self._make(str(self._folder / ("run" if run == OWN else run)))
        return self._writers[run]

    def _close(self, run: str) -> None:
        self._writers.pop(run).close()


def _begun(begun: Begun) -> Any:
    """What the HPARAMS tab shows of a run."""
    from tensorboard.plugins.hparams.plugin_data_pb2 import SessionStartInfo

    info = SessionStartInfo(group_name=begun.run or "run", start_time_secs=time.time())
    for name, value in begun.settings.items():
        if isinstance(value, bool):
            info.hparams[name].bool_value = value
        elif isinstance(value, int | float):
            info.hparams[name].number_value = value
        else:
            info.hparams[name].string_value = str(value)
    return _session("session_start_info", info)


def _ended(status: Status) -> Any:
    from tensorboard.plugins.hparams.plugin_data_pb2 import SessionEndInfo

    return _session("session_end_info", SessionEndInfo(status=_STATUS[status], end_time_secs=time.time()))


def _session(what: str, info: Any) -> Any:
    """A record of the package's plug-in for settings: what its own `hparams.summary` makes, which needs TensorFlow."""
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    data = HParamsPluginData(version=0, **{what: info})
    return Summary(value=[Summary.Value(tag=f"_hparams_/{what}", metadata=_about("hparams", data))])


def _about(plugin: str, data: Any) -> Any:
    from tensorboard.compat.proto.summary_pb2 import SummaryMetadata

    content = SummaryMetadata.PluginData(plugin_name=plugin, content=data.SerializeToString())
    return SummaryMetadata(plugin_data=content)


def _scalars(metrics: Mapping[str, float]) -> Any:
    from tensorboard.compat.proto.summary_pb2 import Summary

    values: Sequence[Any] = [Summary.Value(tag=name, simple_value=value) for name, value in metrics.items()]
    return Summary(value=values)


def _verbatim(text: str) -> str:
    """As Markdown that shows the text as it is."""
    return "`" + text.replace("`", "'").replace("\n", " ") + "`"
