"""Weights as people have them: a state dict in a file of torch's or in safetensors, read and written back as it was.

What is written is of the same kind as what was read: container, keys, dtypes, key order, entries that are no tensors,
and tensors that share memory. Change the tensors in place, then `save`.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, final

from modelopt_cli.core.errors import InputError, StorageError, UsageError
from modelopt_cli.models.archives import read_pickle
from modelopt_cli.models.checkpoints import MARK
from modelopt_cli.results.files import write_whole

if TYPE_CHECKING:
    from torch import Tensor

_NESTED = ("state_dict", "model_state_dict", "model", "module", "network", "net", "params", "weights")
_INDEX = "model.safetensors.index.json"
_CHUNK = 1 << 20


class StateFile(ABC):
    """A file (or folder) of weights. `tensors`: name -> tensor, in the file's order; they are the file's content."""

    kind: ClassVar[str]

    def __init__(self, path: Path, tensors: dict[str, Tensor], note: str = "", *, bare: bool = True) -> None:
        self.path, self.tensors = path, tensors
        self.note = note  # which part of the file the tensors are
        self.bare = bare  # a state dict without the model's architecture

    @abstractmethod
    def save(self, path: Path, done: Mapping[str, Any]) -> None:
        """Write the tensors, as they are now, in the form in which they were read; whole or not at all.

        `done`: what was done to them, plain values; kept where the format has a place for it.
        """


@final
class PickleFile(StateFile):
    """What torch.save wrote: a state dict, bare or nested, or a model.pt of modelopt."""

    kind = "torch"

    def __init__(self, path: Path) -> None:
        self._content = read_pickle(path)
        key = _state_key(self._content, path)
        state = self._content if key is None else self._content[key]
        note = "" if key is None else f"the weights under '{key}'"
        note += _other_weights(self._content, key)
        super().__init__(path, _tensors(state), note, bare=MARK not in self._content)

    def save(self, path: Path, done: Mapping[str, Any]) -> None:
        """See the base class. A file in torch's older format stays in it.

        A model.pt of modelopt loses the metrics that were measured before, which no longer hold.
        """
        import torch

        content = self._content
        if not self.bare:
            content = {**content, "metrics": {}, "extra": {**content.get("extra", {}), "pruning": dict(done)}}
        modern = zipfile.is_zipfile(self.path)
        write_whole(path, lambda stream: torch.save(content, stream, _use_new_zipfile_serialization=modern))


@final
class SafetensorsFile(StateFile):
    """One .safetensors file."""

    kind = "safetensors"

    def __init__(self, path: Path) -> None:
        tensors, self._metadata = _read_safetensors(path)
        super().__init__(path, tensors)

    def save(self, path: Path, done: Mapping[str, Any]) -> None:
        """See the base class."""
        _write_safetensors(path, self.tensors, self._metadata)


@final
class ShardedFolder(StateFile):
    """A folder of .safetensors shards with their index; its other files (config.json, ...) are copied along."""

    kind = "sharded safetensors"

    def __init__(self, path: Path) -> None:
        index = path / _INDEX
        try:
            weight_map = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
            self._shard_of: dict[str, str] = {str(name): str(shard) for name, shard in weight_map.items()}
        except (ValueError, KeyError, AttributeError, TypeError):
            raise InputError(f"{index} is no index of shards: it has no weight_map of name -> file") from None
        self._shards: dict[str, tuple[dict[str, Tensor], dict[str, str] | None]] = {}
        for shard in dict.fromkeys(self._shard_of.values()):
            if Path(shard).name != shard:
                raise InputError(f"{index} names the shard '{shard}', which lies outside its folder")
            self._shards[shard] = _read_safetensors(path / shard)
        for name, shard in self._shard_of.items():
            if name not in self._shards[shard][0]:
                raise InputError(f"{index} says that {shard} holds '{name}', but it does not")
        super().__init__(path, {name: self._shards[shard][0][name] for name, shard in self._shard_of.items()})

    def save(self, path: Path, done: Mapping[str, Any]) -> None:
        """See the base class; the folder appears whole."""
        with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as scratch:
            folder = Path(scratch) / "whole"
            folder.mkdir()
            for other in self.path.iterdir():
                if other.is_file() and other.name not in self._shards:
                    shutil.copy2(other, folder / other.name)
            for shard, (tensors, metadata) in self._shards.items():
                _write_safetensors(folder / shard, tensors, metadata)
            try:
                folder.rename(path)
            except OSError as error:
                raise StorageError(f"{path} cannot be written ({error.strerror}); choose another place") from None


def open_state(path: str | Path) -> StateFile:
    """The weights at `path`. Raises InputError (exit 2) or RefusedError (exit 5); never runs code from the file."""
    path = Path(path)
    if path.is_dir():
        if (path / _INDEX).exists():
            return ShardedFolder(path)
        raise InputError(f"{path} is a folder without {_INDEX}; name a file of weights, e.g. model.pt")
    if not path.exists():
        raise InputError(f"{path} does not exist; name a file of weights: .pt, .pth, .bin or .safetensors")
    return SafetensorsFile(path) if path.suffix == ".safetensors" else PickleFile(path)


def beside(path: Path, word: str) -> Path:
    """`model.pt` -> `model.WORD.pt`; a folder -> `folder.WORD`."""
    return path.with_name(f"{path.name}.{word}" if path.is_dir() else f"{path.stem}.{word}{path.suffix}")


def sizes(path: Path) -> tuple[int, int]:
    """(bytes, bytes after zlib at its fastest) of the file, or of all files in the folder."""
    files = sorted(path.glob("*.safetensors")) if path.is_dir() else [path]
    plain = packed = 0
    for file in files:
        packer = zlib.compressobj(1)
        with file.open("rb") as stream:
            while chunk := stream.read(_CHUNK):
                plain += len(chunk)
                packed += len(packer.compress(chunk))
        packed += len(packer.flush())
    return plain, packed


def _state_key(content: Any, path: Path) -> str | None:
    """The key under which the weights lie; None when `content` is the state dict itself."""
    if not isinstance(content, Mapping):
        raise InputError(f"{path} holds a {type(content).__name__}, not a state dict; save module.state_dict()")
    if MARK in content:
        if content.get("framework") != "torch":
            raise UsageError(f"{path} is a scikit-learn estimator, which has no weights to prune; name a torch model")
        return "state"
    if _tensors(content):
        return None
    known = [key for key in _NESTED if isinstance(content.get(key), Mapping) and _tensors(content[key])]
    others = [key for key, item in content.items() if isinstance(item, Mapping) and _tensors(item)]
    if not known and len(others) != 1:
        keys = ", ".join(map(str, list(content)[:8])) or "none"
        raise InputError(f"{path} holds no state dict that can be told from the rest; its keys are: {keys}")
    return (known or others)[0]


def _other_weights(content: Any, key: str | None) -> str:
    """What else in the file looks like a copy of the weights, and is left as it is."""
    if key is None or MARK in content:
        return ""
    others = [
        str(name) for name, item in content.items() if name != key and isinstance(item, Mapping) and _tensors(item)
    ]
    return f"; the tensors under {', '.join(others)} stay as they are" if others else ""


def _tensors(state: Mapping[Any, Any]) -> dict[str, Tensor]:
    import torch

    return {str(name): item for name, item in state.items() if isinstance(item, torch.Tensor)}


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str] | None]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118
    except FileNotFoundError:
        raise InputError(f"{path} does not exist; the folder's index names it") from None
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as safetensors ({error}): it is truncated or damaged") from None


def _write_safetensors(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str] | None) -> None:
    from safetensors.torch import save

    content = save(dict(tensors), metadata)
    write_whole(path, lambda stream: stream.write(content))
