"""Saving and loading trained models: one container, `model.pt`, for torch modules and scikit-learn estimators.

The file is a dict of plain values and tensors that `torch.load(weights_only=True)` reads; an estimator lies in it as
the bytes of a skops file. Reading runs no code that the file names, unless the user agreed to it (core/consent.py), and
takes no more memory than the file holds.
"""

from __future__ import annotations

import dataclasses
import io
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelopt_cli.core.consent import NOTHING, Consent, refusal
from modelopt_cli.core.errors import InputError, ModeloptError, RefusedError
from modelopt_cli.core.references import Path as ValuePath
from modelopt_cli.core.references import Reference, Written, put_back, substitute, variables_in
from modelopt_cli.core.scalars import resolve
from modelopt_cli.core.strategy import Family, Named, Strategy, asked_first
from modelopt_cli.models.architectures import Architecture, Shapes
from modelopt_cli.models.files.archives import read_pickle, write_pickle
from modelopt_cli.results.files import write_whole

if TYPE_CHECKING:
    from modelopt_cli.data.raw import Task

FORMAT = 1
MARK = "modelopt"
_SECTIONS = {"architecture": "model", "data": "data"}  # a file's section -> the experiment's
_OWN_METRICS = "own_metrics"
_NESTED = 8  # files whose architecture is that of another file


@dataclass
class Checkpoint:
    """A trained model and what using it needs."""

    model: Any  # nn.Module | fitted estimator
    architecture: Architecture
    shapes: Shapes
    preprocessing: dict[str, Any]  # plain values
    label_names: tuple[str, ...]
    task: Task
    metrics: dict[str, float] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)  # the data section, seeds written out
    extra: dict[str, Any] = field(default_factory=dict)  # plain values and tensors: masks, kept indices
    warnings: list[str] = field(default_factory=list)  # what was told while it was trained
    references: Mapping[ValuePath, Reference] = field(default_factory=dict)
    """What of `data` and of the architecture came in by ${NAME}, by its path in the experiment file."""
    own_metrics: tuple[tuple[str, str], ...] = ()  # the user's own: (module:function, folder to import from)

    def data_section(self) -> dict[str, Any]:
        """`data` to be read by. Raises InputError where an environment variable that it refers to is not set."""
        for path, reference in self.references.items():
            if path[:1] == ("data",) and reference.value == reference.text:
                raise InputError(
                    f"{'.'.join(map(str, path))} of the model is {reference.text}, as when it was trained, and that "
                    "environment variable is not set; set it, or name a file of data"
                )
        return self.data


def save(path: str | Path, checkpoint: Checkpoint, *, durable: bool = True) -> None:
    """Write `checkpoint` to `path`, whole or not at all. Raises StorageError."""
    content = _content(checkpoint)
    write_whole(Path(path), lambda stream: write_pickle(content, stream), durable=durable)


def file_sizes(checkpoint: Checkpoint) -> tuple[int, int]:
    """(bytes, bytes after zlib at its fastest) that the checkpoint takes as a file; nothing is written."""
    import torch

    stream = io.BytesIO()
    torch.save(_content(checkpoint), stream)
    data = stream.getbuffer()
    return len(data), len(zlib.compress(data, 1))


def estimator_bytes(estimator: Any) -> int:
    """Bytes of the estimator as it is stored in a file, without what stands beside it there."""
    return int(_state(estimator, "sklearn").numel())


def _content(checkpoint: Checkpoint) -> dict[str, Any]:
    import torch

    framework = checkpoint.architecture.framework
    sections = {"architecture": checkpoint.architecture.model_dump(mode="json"), "data": _plain(checkpoint.data)}
    marks = [_put_back(sections, key, name, checkpoint.references) for key, name in _SECTIONS.items()]
    referring = [mark for section_marks in marks for mark in section_marks]
    content = {
        MARK: FORMAT,
        "framework": framework,
        "architecture": sections["architecture"],
        "shapes": _plain(dataclasses.asdict(checkpoint.shapes)),
        "state": _state(checkpoint.model, framework),
        "preprocessing": _plain(checkpoint.preprocessing),
        "label_names": list(checkpoint.label_names),
        "task": checkpoint.task,
        "metrics": {name: float(value) for name, value in checkpoint.metrics.items()},
        "data": sections["data"],
        "extra": checkpoint.extra,
        "warnings": list(checkpoint.warnings),
        "versions": {"torch": str(torch.__version__)},
        **({"references": referring} if referring else {}),
    }
    if checkpoint.own_metrics:
        content[_OWN_METRICS] = [{"target": target, "folder": folder} for target, folder in checkpoint.own_metrics]
    return content


def _put_back(sections: dict[str, Any], key: str, name: str, references: Mapping[ValuePath, Reference]) -> list[Any]:
    """Write references in place of what came in by them; where they stand now: [path below the content, plain]."""
    if not references:
        return []
    marks: list[Any] = []

    def plain(value: Any, path: ValuePath) -> Any:
        if isinstance(value, dict):
            return {each: plain(item, (*path, each)) for each, item in value.items()}
        if isinstance(value, list):
            return [plain(item, (*path, index)) for index, item in enumerate(value)]
        if isinstance(value, Written):
            marks.append([list(path), value.plain])
            return str(value)
        return value

    sections[key] = plain(put_back(sections[key], references, (name,)), (key,))
    return marks


def _taken_in(content: dict[str, Any]) -> dict[ValuePath, Reference]:
    """Replace the references in a file's sections by what they stand for here; by their paths in an experiment.

    One that stands for nothing here is left as it is. What would be sent to a server is: a file must not make anyone
    send what is in his environment.
    """
    references: dict[ValuePath, Reference] = {}
    for path, plain in content.get("references", ()):
        key, *below = path
        holder: Any = content
        for part in path[:-1]:
            holder = holder[part]
        text = holder[path[-1]]
        try:
            value: Any = text if content["data"].get("type") == "openml" and key == "data" else substitute(text)
        except ValueError:
            value = text
        if value != text:
            holder[path[-1]] = value = resolve(value) if plain else value
        variables = variables_in(text) or {text: ""}
        references[(_SECTIONS[key], *below)] = Reference(text, value, variables, bool(plain))
    return references


def load(path: str | Path, consent: Consent = NOTHING) -> Checkpoint:
    """The model at `path`, on the CPU, ready for inference.

    Raises InputError (exit 2) for a file that is missing, damaged or no model of modelopt, RefusedError (exit 5) for
    one that would run code without `consent` to it, such as a model of type `python`, or that wants more memory than
    it holds.
    """
    content = read(path)
    try:
        references = _taken_in(content)
        shapes = Shapes.from_plain(content["shapes"])
        architecture = _architecture(content["architecture"], path, consent)
        model = _restore(content, architecture, shapes, path, consent)
        return Checkpoint(
            model,
            architecture,
            shapes,
            content["preprocessing"],
            _label_names(content, shapes),
            shapes.task,
            content["metrics"],
            content["data"],
            content["extra"],
            [str(text) for text in content.get("warnings", ())],  # files of earlier versions have none
            references,
            tuple((str(one["target"]), str(one["folder"])) for one in content.get(_OWN_METRICS, ())),
        )
    except ModeloptError:
        raise
    except (KeyError, TypeError, ValueError, RuntimeError, AssertionError, OverflowError, AttributeError) as error:
        raise InputError(
            f"{path} is damaged: {str(error).splitlines()[0] if str(error) else type(error).__name__}"
        ) from None


def _label_names(content: dict[str, Any], shapes: Shapes) -> tuple[str, ...]:
    """One an output, or none. Raises ValueError for others, and where the file names two tasks."""
    names, task = tuple(content["label_names"]), content["task"]
    if task != shapes.task:
        raise ValueError(f"it says {task!r:.100}, but its model is for {shapes.task}")
    if not all(isinstance(name, str) for name in names):
        raise ValueError("the names of its labels are no texts")
    if task != "regression" and names and len(names) != shapes.outputs:
        raise ValueError(f"it names {len(names)} labels, but its model gives {shapes.outputs}")
    return names


def agreed(family: str, section: Any, path: str | Path, consent: Consent, more: str = "") -> Strategy:
    """What a section in the file at `path` says: a strategy that runs no code but what `consent` is given to.

    Raises RefusedError, which `more` gives another remedy, before anything is imported; ValueError for what is none.
    """

    def ask(family: Family, name: str, entry_point: str) -> None:
        if not (consent.whole or (family.name, name) in consent.strategies):
            raise refusal(path, f"the {family.noun} {name!r}, which is {entry_point!r} of another package", more)

    with asked_first(ask):
        strategy = Named(family).parse(section)
    code = strategy.code()
    if code is None:
        return strategy
    own = consent.agreed(code)
    if own is None:
        raise refusal(path, f"the {family.removesuffix('s')} {code}", more)
    return strategy.model_copy(update={"folder": own.folder, "arguments": dict(own.arguments)})


def _architecture(given: Any, path: str | Path, consent: Consent, depth: int = 0) -> Architecture:
    try:
        if isinstance(given, dict) and given.get("type") == "checkpoint":  # as files of the first versions have it
            if depth >= _NESTED:
                raise InputError(f"{path} is damaged: it stands for a model that stands for itself")
            other = str(given["path"])
            return _architecture(read(other)["architecture"], other, consent, depth + 1)
        architecture = agreed("models", given, path, consent)
    except ValueError as error:
        raise InputError(
            f"{path} holds a model that cannot be built here: {str(error).splitlines()[0]}; install the package that "
            "the model comes from, or use the modelopt that wrote the file"
        ) from None
    assert isinstance(architecture, Architecture)
    return architecture


def read(path: str | Path) -> dict[str, Any]:
    """The plain content of a model.pt. Raises InputError or RefusedError; never runs code from the file."""
    content = read_pickle(Path(path))
    if not isinstance(content, dict) or MARK not in content:
        what = "a bare state dict" if isinstance(content, dict) else f"a {type(content).__name__}"
        raise InputError(f"{path} is {what}, not a model.pt that modelopt wrote; train one with: modelopt train FILE")
    if content[MARK] != FORMAT:
        raise InputError(
            f"{path} has format {content[MARK]}, but this modelopt reads {FORMAT}; use the version that wrote it"
        )
    return content


def _state(model: Any, framework: str) -> Any:
    """Tensors by name; for an estimator the bytes of its skops file as a uint8 tensor."""
    import torch

    if framework == "torch":
        return {name: tensor.detach().cpu() for name, tensor in model.state_dict().items()}
    from modelopt_cli.models.files.estimator_files import dumped

    return torch.frombuffer(bytearray(dumped(model)), dtype=torch.uint8)


def _restore(
    content: dict[str, Any], architecture: Architecture, shapes: Shapes, path: str | Path, consent: Consent
) -> Any:
    if content["framework"] != architecture.framework:
        raise ValueError(f"it says {content['framework']!r}, but its model is of {architecture.framework}")
    if content["framework"] == "sklearn":
        from modelopt_cli.models.files.estimator_files import loaded

        return loaded(content["state"].numpy().tobytes(), path, consent, architecture.check)
    from modelopt_cli.models.files.restoring import restored

    try:
        return restored(architecture, shapes, content["state"], content["extra"].get("slimming"))
    except (RuntimeError, ValueError, TypeError, OverflowError, ModeloptError) as error:
        if isinstance(error, RefusedError):
            raise
        raise InputError(f"{path}: the weights do not fit the model: {_told(error)}") from None


def _told(error: Exception) -> str:
    """The line that says most: of several misfits that torch lists the last one, else the first."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return lines[-1] if lines[0].startswith("Error(s) in loading") else lines[0]


def _plain(value: Any) -> Any:
    """Tuples become lists, so that the content is the same after a round trip."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
