"""Weights as people have them: a state dict in a file of torch's or in safetensors, read and written back as it was.

What is written is of the same kind as what was read: container, keys, dtypes, key order, entries that are no tensors,
and tensors that share memory. How the tensors change is said by a function, so that large files can be streamed.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, final

from modelopt_cli.core.errors import InputError, RefusedError, StorageError, UsageError, did_you_mean
from modelopt_cli.models.files.archives import read_pickle, write_pickle
from modelopt_cli.models.files.checkpoints import MARK
from modelopt_cli.models.files.kinds import HEAD, is_safetensors, is_zip
from modelopt_cli.models.files.safetensors_files import LONGEST_JSON, Change, Mapped, Tensors, unique
from modelopt_cli.results.files import write_whole

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Change", "PickleFile", "SafetensorsFile", "ShardedFolder", "StateFile", "beside", "open_state"]

_NESTED = ("state_dict", "model_state_dict", "model", "module", "network", "net", "params", "weights")
_INDEX = "model.safetensors.index.json"
_INDEX_END = ".index.json"
_ZIP = b"PK\x03\x04"


class StateFile(ABC):
    """A file (or folder) of weights. `tensors`: name -> tensor, in the file's order, read when they are used."""

    kind: ClassVar[str]
    in_place: ClassVar[bool] = False
    """True when a change is made in `tensors` themselves, so that what shares their memory follows."""

    def __init__(self, path: Path, tensors: Mapping[str, Tensor], note: str = "", *, bare: bool = True) -> None:
        self.path, self.tensors = path, tensors
        self.note = note  # which part of the file the tensors are
        self.bare = bare  # no model.pt of modelopt: a state dict without the model's architecture
        self.extra: Mapping[str, Any] = {}  # what else a model.pt of modelopt holds: masks, how it was pruned

    def apply(self, change: Change) -> None:
        """Go through with `change`, and write nothing."""
        for name, tensor in self.tensors.items():
            for _ in change(name, tensor):
                pass

    @abstractmethod
    def save(self, path: Path, done: Mapping[str, Any], change: Change) -> None:
        """Write the tensors, each changed by `change`, in the form in which they were read; whole or not at all.

        `done`: what was done to them, plain values and tensors; kept where the format has a place for it, and looked
        at after the last change, which may add to it. Raises StorageError.
        """


@final
class PickleFile(StateFile):
    """What torch.save wrote: a state dict, bare or nested, or a model.pt of modelopt; if trusted also a module."""

    kind = "torch"
    in_place = True

    def __init__(self, path: Path, *, trust: bool = False, key: str | None = None) -> None:
        import torch

        content = self._content = read_pickle(path, trust=trust)
        if isinstance(content, torch.nn.Module) and not isinstance(content, torch.jit.ScriptModule):
            super().__init__(path, _tensors(content.state_dict()), f"a whole module, {type(content).__name__}")
            return
        name = None if key is None else _asked(content, key, path)
        key = _state_key(content, path) if name is None else name
        state = content if key is None else content[key]
        note = "" if key is None else f"the weights under '{key}'"
        super().__init__(path, _tensors(state), note + _other_weights(content, key), bare=MARK not in content)
        self.extra = {} if self.bare else content.get("extra", {})

    def apply(self, change: Change) -> None:
        """See the base class."""
        for name, tensor in self.tensors.items():
            _replace(tensor, change(name, tensor))

    def save(self, path: Path, done: Mapping[str, Any], change: Change) -> None:
        """See the base class. A file in torch's older format stays in it.

        A model.pt of modelopt loses the metrics that were measured before, which no longer hold.
        """
        self.apply(change)
        content = self._content
        if not self.bare:
            content = {**content, "metrics": {}, "extra": {**self.extra, **done}}
        with self.path.open("rb") as stream:
            modern = stream.read(len(_ZIP)) == _ZIP
        write_whole(path, lambda stream: write_pickle(content, stream, modern=modern))


@final
class SafetensorsFile(StateFile):
    """One .safetensors file."""

    kind = "safetensors"

    def __init__(self, path: Path) -> None:
        self._mapped = Mapped(path)
        super().__init__(path, self._mapped.tensors)

    def save(self, path: Path, done: Mapping[str, Any], change: Change) -> None:
        """See the base class."""
        self._mapped.write(path, change)


@final
class ShardedFolder(StateFile):
    """A folder of .safetensors shards with their index; its other files (config.json, ...) are copied along."""

    kind = "sharded safetensors"

    def __init__(self, path: Path) -> None:
        index = path / _INDEX
        try:
            if index.stat().st_size > LONGEST_JSON:
                raise RefusedError(f"{index} has more than {LONGEST_JSON:,} bytes, so it is refused")
            weight_map = json.loads(index.read_text(encoding="utf-8"), object_pairs_hook=unique)["weight_map"]
            shard_of = {str(name): str(shard) for name, shard in weight_map.items()}
        except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
            raise InputError(f"{index} is no index of shards: it has no weight_map of name -> file") from None
        except OSError as error:
            raise InputError(f"{index} cannot be read ({error.strerror})") from None
        self._shards: dict[str, Mapped] = {}
        for shard in dict.fromkeys(shard_of.values()):
            if Path(shard).name != shard or shard in ("", ".", ".."):
                raise InputError(f"{index} names the shard {shard[:200]!r}, which lies outside its folder")
            self._shards[shard] = Mapped(path / shard)
        for name, shard in shard_of.items():
            if name not in self._shards[shard].tensors:
                raise InputError(f"{index} says that {shard} holds '{name}', but it does not")
        entries = {name: self._shards[shard].tensors.entries[name] for name, shard in shard_of.items()}
        self._indexed = set(shard_of.items())
        super().__init__(path, Tensors(entries))

    def save(self, path: Path, done: Mapping[str, Any], change: Change) -> None:
        """See the base class; the folder appears whole."""
        try:
            with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as scratch:
                whole, replaced = Path(scratch) / "whole", Path(scratch) / "replaced"
                whole.mkdir()
                for other in self.path.iterdir():
                    if other.is_file() and other.name not in self._shards:
                        shutil.copy2(other, whole / other.name)
                for shard, mapped in self._shards.items():
                    mapped.write(whole / shard, self._indexed_only(shard, change))
                if path.exists():
                    path.rename(replaced)
                whole.rename(path)
        except OSError as error:
            reason = error.strerror or str(error)
            raise StorageError(f"{path} cannot be written ({reason}); choose another place, or free some") from None

    def _indexed_only(self, shard: str, change: Change) -> Change:
        """A shard may hold tensors that the index does not name (or names elsewhere); these stay."""
        return lambda name, tensor: change(name, tensor) if (name, shard) in self._indexed else [tensor]


def open_state(path: str | Path, *, trust: bool = False, key: str | None = None) -> StateFile:
    """The weights at `path`. Raises InputError (exit 2) or RefusedError (exit 5); never runs code from the file.

    But with `trust` it does: a pickle is read whatever it holds, a whole module too. `key`: the part of the file that
    holds the weights, where it has several.
    """
    path = Path(path)
    if path.is_dir():
        if (path / _INDEX).exists():
            _no_key(path, key)
            return ShardedFolder(path)
        raise InputError(f"{path} is a folder without {_INDEX}; name a file of weights, e.g. model.pt")
    if not path.exists():
        raise InputError(f"{path} does not exist; name a file of weights: .pt, .pth, .bin or .safetensors")
    if path.name.endswith(_INDEX_END):
        raise InputError(f"{path} is an index of shards and holds no weights; name its folder: {path.parent}")
    if _is_safetensors(path):
        _no_key(path, key)
        return SafetensorsFile(path)
    return PickleFile(path, trust=trust, key=key)


def _is_safetensors(path: Path) -> bool:
    """By the first bytes; by its name where they tell nothing."""
    try:
        with path.open("rb") as stream:
            head = stream.read(HEAD)
        return is_safetensors(head, path.stat().st_size) or (path.suffix == ".safetensors" and not is_zip(head))
    except OSError:
        return path.suffix == ".safetensors"


def _no_key(path: Path, key: str | None) -> None:
    if key is not None:
        raise UsageError(f"--key {key}: {path} is safetensors, which holds one set of tensors; leave out --key")


def beside(path: Path, word: str) -> Path:
    """`model.pt` -> `model.WORD.pt`; a folder -> `folder.WORD`."""
    return path.with_name(f"{path.name}.{word}" if path.is_dir() else f"{path.stem}.{word}{path.suffix}")


def _replace(tensor: Tensor, pieces: Iterable[Tensor]) -> None:
    """Write pieces into the tensor, each as soon as it is made."""
    import torch

    start, rest = 0, []
    with torch.no_grad():
        for piece in pieces:
            if piece is tensor:
                return
            if tensor.is_contiguous():
                tensor.view(-1)[start : start + piece.numel()] = piece.reshape(-1)
            else:
                rest.append(piece.reshape(-1))
            start += piece.numel()
        if rest:
            tensor.copy_(torch.cat(rest).view(tensor.shape))


def _asked(content: Any, key: str, path: Path) -> Any:
    """The key that is called so. Raises UsageError where no weights lie there."""
    if isinstance(content, Mapping) and MARK in content:
        raise UsageError(f"--key {key}: {path} is a model.pt of modelopt, which holds one model; leave out --key")
    items = content.items() if isinstance(content, Mapping) else ()
    named = {str(name): name for name, item in items if isinstance(item, Mapping) and _tensors(item)}
    if key not in named:
        names = ", ".join(named) or "none"
        raise UsageError(
            f"--key {key}: no state dict lies under it in {path}; there are some under: {names}."
            f"{did_you_mean(key, named)}"
        )
    return named[key]


def _state_key(content: Any, path: Path) -> str | None:
    """The key under which the weights lie; None when `content` is the state dict itself."""
    if not isinstance(content, Mapping):
        raise InputError(f"{path} holds a {type(content).__name__}, not a state dict; save module.state_dict()")
    if MARK in content:
        if content.get("framework") != "torch":
            raise UsageError(
                f"{path} is a scikit-learn estimator, which has no tensors to prune, export or look at; use it with "
                "modelopt predict and evaluate, or name a torch model"
            )
        return "state"
    if _tensors(content):
        return None
    known = [key for key in _NESTED if isinstance(content.get(key), Mapping) and _tensors(content[key])]
    others = [key for key, item in content.items() if isinstance(item, Mapping) and _tensors(item)]
    if not known and len(others) != 1:
        keys = ", ".join(map(str, list(content)[:8])) or "none"
        several = f"; choose one with --key, e.g. --key {others[0]}" if others else ""
        raise InputError(f"{path} holds no state dict that can be told from the rest; its keys are: {keys}{several}")
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
