"""Saving and loading trained models: one container, `model.pt`, for torch modules and scikit-learn estimators.

The file is a dict of plain values and tensors that `torch.load(weights_only=True)` reads; an estimator lies in it as
the bytes of a skops file. Reading never runs code from the file: a pickle that would is refused.
"""

from __future__ import annotations

import dataclasses
import io
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelopt_cli.core.errors import InputError, ModeloptError, RefusedError
from modelopt_cli.core.strategy import Named
from modelopt_cli.models.architectures import Architecture, Shapes
from modelopt_cli.models.archives import read_pickle, write_pickle
from modelopt_cli.models.estimator_archives import check_estimator
from modelopt_cli.results.files import write_whole

if TYPE_CHECKING:
    from modelopt_cli.data.raw import Task

FORMAT = 1
MARK = "modelopt"
_TRUSTED = ("sklearn.", "numpy.", "scipy.", "builtins.", "collections.")


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
    return {
        MARK: FORMAT,
        "framework": framework,
        "architecture": checkpoint.architecture.model_dump(mode="json"),
        "shapes": _plain(dataclasses.asdict(checkpoint.shapes)),
        "state": _state(checkpoint.model, framework),
        "preprocessing": _plain(checkpoint.preprocessing),
        "label_names": list(checkpoint.label_names),
        "task": checkpoint.task,
        "metrics": {name: float(value) for name, value in checkpoint.metrics.items()},
        "data": _plain(checkpoint.data),
        "extra": checkpoint.extra,
        "warnings": list(checkpoint.warnings),
        "versions": {"torch": str(torch.__version__)},
    }


def load(path: str | Path) -> Checkpoint:
    """The model at `path`, on the CPU, ready for inference.

    Raises InputError (exit 2) for a file that is missing, damaged or no model of modelopt, RefusedError (exit 5) for
    one that would run code. A model of type `python` needs its own code: it is imported from the current folder.
    """
    content = read(path)
    try:
        shapes = Shapes(**{**content["shapes"], "inputs": tuple(content["shapes"]["inputs"])})
        architecture = _architecture(content["architecture"], path)
        model = _restore(content, architecture, shapes, path)
        return Checkpoint(
            model,
            architecture,
            shapes,
            content["preprocessing"],
            tuple(content["label_names"]),
            content["task"],
            content["metrics"],
            content["data"],
            content["extra"],
            [str(text) for text in content.get("warnings", ())],  # files of earlier versions have none
        )
    except ModeloptError:
        raise
    except (KeyError, TypeError, ValueError, RuntimeError, AssertionError) as error:
        raise InputError(
            f"{path} is damaged: {str(error).splitlines()[0] if str(error) else type(error).__name__}"
        ) from None


def _architecture(given: Any, path: str | Path) -> Architecture:
    try:
        found = Named("models").parse(given)
    except ValueError as error:
        raise InputError(
            f"{path} holds a model that cannot be built here: {str(error).splitlines()[0]}; install the package that "
            "the model comes from, or use the modelopt that wrote the file"
        ) from None
    assert isinstance(found, Architecture)
    return found


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
    import skops.io

    return torch.frombuffer(bytearray(skops.io.dumps(model)), dtype=torch.uint8)


def _restore(content: dict[str, Any], architecture: Architecture, shapes: Shapes, path: str | Path) -> Any:
    if content["framework"] == "sklearn":
        return _estimator(content["state"], path)
    import torch

    with torch.random.fork_rng(devices=[]):
        module = architecture.build(shapes, 0)
    try:
        if content["extra"].get("slimming") is not None:
            return _slim(module, content, shapes)
        module.load_state_dict(content["state"])
    except (RuntimeError, ValueError) as error:
        raise InputError(f"{path}: the weights do not fit the model: {str(error).splitlines()[-1].strip()}") from None
    return module.eval()


def _slim(module: Any, content: dict[str, Any], shapes: Shapes) -> Any:
    """A model that lost units."""
    from modelopt_cli.models.graph.capture import EXAMPLES
    from modelopt_cli.models.graph.slimming import Slimming, slim
    from modelopt_cli.models.measure import example

    return slim(module, Slimming.from_plain(content["extra"]["slimming"]), content["state"], example(shapes, EXAMPLES))


def _estimator(state: Any, path: str | Path) -> Any:
    import skops.io

    data = state.numpy().tobytes()
    check_estimator(data, f"the estimator in {path}")
    try:
        unknown = skops.io.get_untrusted_types(data=data)
        foreign = [name for name in unknown if not name.startswith(_TRUSTED)]
        if foreign:
            raise RefusedError(f"{path} names types outside scikit-learn ({', '.join(foreign[:3])}), so it is refused")
        return skops.io.loads(data, trusted=unknown)
    except RefusedError:
        raise
    except Exception as error:
        raise InputError(f"{path}: the estimator in it is damaged ({type(error).__name__})") from None


def _plain(value: Any) -> Any:
    """Tuples become lists, so that the content is the same after a round trip."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
