"""Teacher outputs that are computed once: a row for each train sample and view, in memory or mapped from disk.

A view is computed when it is first asked for, in blocks of samples in the order of the split, whatever the order in
which the student sees them. Its key names the teacher, the data, the taps and the view's own random numbers, so two
that differ in anything never meet; equal ones serve all trials of a search, in memory within a process.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from modelopt_cli.core.errors import StorageError
from modelopt_cli.distillation.teacher_outputs import Teacher, TeacherOutput, TeacherOutputs, TopLogits, pack, unpack

if TYPE_CHECKING:
    from torch import Tensor, nn

    from modelopt_cli.training.batches import Batch
    from modelopt_cli.training.criterion import CriterionContext

Rows = dict[str, "Tensor"]
_NAMES = "names.json"


class RowMemory:
    """Rows that this process keeps; the oldest go when all together take more than a quarter of what is free."""

    def __init__(self) -> None:
        self._rows: OrderedDict[str, Rows] = OrderedDict()  # key -> rows of a view

    @property
    def keys(self) -> list[str]:
        """Of the rows that are kept; those that were asked for last come last."""
        return list(self._rows)

    def get(self, key: str, compute: Callable[[], Rows]) -> Rows:
        """The rows of that key, computed where they are not there."""
        if key not in self._rows:
            self._rows[key] = compute()
            device = next(iter(self._rows[key].values())).device
            while len(self._rows) > 1 and sum(map(_bytes, self._rows.values())) > free_bytes(device) // 4:
                self._rows.popitem(last=False)
        self._rows.move_to_end(key)
        return self._rows[key]

    def clear(self) -> None:
        """Let go of all rows."""
        self._rows.clear()


MEMORY = RowMemory()


def digest(module: nn.Module) -> str:
    """A hash of the module's form and state, hex. A module with parts that are no tensors hashes their pickle."""
    import pickle

    total = hashlib.sha256(repr(module).encode())
    for name, tensor in module.state_dict().items():
        total.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        total.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    for name, part in module.named_modules():
        estimator = getattr(part, "estimator", None)
        if estimator is not None:
            total.update(name.encode() + pickle.dumps(estimator))
    return total.hexdigest()[:24]


class CachedTeacher(TeacherOutputs):
    """Looks answers up; asks the teacher once for each view."""

    def __init__(
        self, teacher: Teacher, context: CriterionContext, key: str, *, folder: Path | None, top_k: int | None
    ) -> None:
        """`key`: of teacher and data. `folder`: where rows are mapped from; None: they are kept in memory."""
        self._teacher, self._batches, self._folder, self._top_k = teacher, context.batches, folder, top_k
        self._block = context.settings.batch_size
        options = (str(top_k), str(self._block), str(context.autocast), repr(self._batches.augment))
        self._key = hashlib.sha256("/".join((key, ",".join(teacher.paths), *options)).encode()).hexdigest()[:24]
        self._view: tuple[str, Rows] | None = None

    def of(self, batch: Batch, view: int) -> TeacherOutput:
        """See the base class."""
        rows = self._rows(view)
        positions = self._batches.split.positions[batch.indices]
        taken = {name: _take(rows[name], positions, batch.inputs.device) for name in rows}
        features = {path: taken[f"tap:{path}"] for path in self._teacher.paths}
        if self._top_k is None:
            return TeacherOutput(taken["outputs"], features)
        kept = TopLogits(taken["values"], taken["classes"], taken["rest"])
        return TeacherOutput(unpack(kept, self._batches.outputs), features)

    def _rows(self, view: int) -> Rows:
        seed = f"-{self._batches.seed}-{view}" if self._batches.augment else ""
        key = self._key + seed
        if self._view is None or self._view[0] != key:
            rows = MEMORY.get(key, lambda: self._computed(view)) if self._folder is None else self._mapped(key, view)
            self._view = (key, rows)
        return self._view[1]

    def _computed(self, view: int) -> Rows:
        parts: dict[str, list[Tensor]] = {}
        for block in self._blocks(view):
            for name, part in block.items():
                parts.setdefault(name, []).append(part)
        train = self._batches.split
        device = train.device if train.resident else torch.device("cpu")
        return {name: torch.cat([part.to(device) for part in blocks]) for name, blocks in parts.items()}

    def _mapped(self, key: str, view: int) -> Rows:
        """Rows mapped from a folder, which appears whole or not at all."""
        assert self._folder is not None
        here = self._folder / key
        if not here.is_dir():
            self._folder.mkdir(parents=True, exist_ok=True)
            with TemporaryDirectory(prefix=f".{key}.", dir=self._folder) as scratch:
                unfinished = Path(scratch, "rows")
                unfinished.mkdir()
                write_rows(unfinished, self._blocks(view), len(self._batches.split))
                with contextlib.suppress(OSError):  # another process was faster
                    unfinished.rename(here)
        names = json.loads((here / _NAMES).read_text(encoding="utf-8"))
        return {name: torch.from_numpy(np.load(here / file, mmap_mode="c")) for name, file in names.items()}

    def _blocks(self, view: int) -> Iterator[Rows]:
        """Every train sample's answer, block after block."""
        batches, train = self._batches, self._batches.split
        whole, rest = divmod(len(train), self._block)
        sizes = [self._block] * whole + ([rest] if rest else [])
        for batch in train.batches(torch.arange(len(train)), sizes, batches.transform):
            inputs = (batches.augmented(batch, view) if batches.augment else batch).inputs
            yield _row(self._teacher.answer(inputs), self._top_k)


def row_bytes(teacher: Teacher, sample: Tensor, top_k: int | None) -> int:
    """Bytes that a sample's answer takes, from one sample (1, ...)."""
    return _bytes(_row(teacher.answer(sample), top_k))


def _row(answer: TeacherOutput, top_k: int | None) -> Rows:
    """What is kept of an answer."""
    kept = {"outputs": answer.outputs} if top_k is None else pack(answer.outputs, top_k)._asdict()
    return kept | {f"tap:{path}": feature for path, feature in answer.features.items()}


def free_bytes(device: torch.device) -> int:
    """Free memory of the device, or of the machine."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _bytes(rows: Mapping[str, Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in rows.values())


def write_rows(folder: Path, blocks: Iterator[Rows], count: int) -> None:
    """One .npy a name, (count, ...), filled block by block, and a file that says which is which."""
    arrays: dict[str, np.memmap[Any, Any]] = {}
    done = 0
    try:
        for block in blocks:
            values = {name: part.float() if part.dtype == torch.bfloat16 else part for name, part in block.items()}
            rows = {name: part.cpu().numpy() for name, part in values.items()}
            for number, (name, part) in enumerate(rows.items()):
                if name not in arrays:
                    file, shape = folder / f"{number}.npy", (count, *part.shape[1:])
                    arrays[name] = np.lib.format.open_memmap(file, mode="w+", dtype=part.dtype, shape=shape)
                arrays[name][done : done + len(part)] = part
            done += len(next(iter(rows.values())))
        for array in arrays.values():
            array.flush()
        (folder / _NAMES).write_text(
            json.dumps({name: f"{number}.npy" for number, name in enumerate(arrays)}), encoding="utf-8"
        )
    except OSError as error:
        raise StorageError(
            f"{folder.parent} cannot hold the teacher's outputs ({error.strerror}); set distillation.cache.where: "
            "memory or none"
        ) from None


def _take(rows: Tensor, positions: Tensor, device: torch.device) -> Tensor:
    return rows.index_select(0, positions.to(rows.device)).to(device, non_blocking=True)
