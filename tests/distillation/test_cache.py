"""Outputs that are computed once: the same student as with a teacher that is asked, and views that never mix."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from modelopt_cli.core.errors import StorageError, TrialError, UsageError
from modelopt_cli.data.augmentations._random import uniform
from modelopt_cli.data.augmentations.jitter import Jitter
from modelopt_cli.data.augmentations.mixup import Mixup
from modelopt_cli.distillation import cache as row_cache
from modelopt_cli.distillation.teacher_criterion import TeacherCriterion
from modelopt_cli.distillation.teacher_outputs import pack, unpack
from tests.support.teaching_fakes import (
    JITTER,
    SAMPLES,
    Counting,
    assert_same,
    criterion,
    differ,
    forget,
    images,
    teacher,
    trained,
    trainer,
)
from tests.support.waiting import PATIENCE

FITNETS = [{"type": "soft_targets", "weight": 0.5}, {"type": "fitnets", "taps": ["0"], "weight": 0.5}]
NONE, MEMORY, DISK = ({"where": where} for where in ("none", "memory", "disk"))


@pytest.fixture(autouse=True)
def _nothing_kept() -> Iterator[None]:
    forget()
    yield
    forget()


@pytest.mark.slow
@pytest.mark.parametrize("losses", [None, FITNETS], ids=["outputs", "features"])
@pytest.mark.parametrize("options", [{}, {"augment": JITTER}], ids=["as they are", "augmented"])
def test_cached_and_live_give_the_same_student_bit_for_bit(losses: Any, options: Any, tmp_path: Path) -> None:
    """In the same blocks of indices: the teacher's matrix products round the same."""
    views = {"views": 2} if options else {}
    trained_states = [
        trained(criterion(losses=losses, cache={**cache, **views}, folder=tmp_path), shuffle=False, **options)
        for cache in (NONE, MEMORY, DISK)
    ]
    assert_same(trained_states[0], trained_states[1])
    assert_same(trained_states[0], trained_states[2])


@pytest.mark.parametrize("options", [{}, {"augment": JITTER}], ids=["as they are", "augmented"])
def test_memory_and_disk_give_the_same_student_when_shuffled(options: Any, tmp_path: Path) -> None:
    views = {"views": 3} if options else {}
    first = trained(criterion(losses=FITNETS, cache={**MEMORY, **views}), **options)
    forget()
    second = trained(criterion(losses=FITNETS, cache={**DISK, **views}, folder=tmp_path), **options)
    assert_same(first, second)
    live = trained(criterion(losses=FITNETS, cache={**NONE, **views}), **options)
    for name, tensor in live.items():
        torch.testing.assert_close(tensor, first[name], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("cache", [MEMORY, DISK], ids=["memory", "disk"])
def test_the_teacher_is_asked_once_for_all_epochs_and_trainings(cache: Any, tmp_path: Path) -> None:
    asked = Counting(teacher())
    trained(criterion(asked, cache=cache, folder=tmp_path))
    sizes = [len(one) for one in asked.asked if len(one) not in (1, 2)]  # apart from dry passes
    assert sizes == [8, 8, 8]
    assert sum(map(len, asked.asked)) <= SAMPLES + 4
    asked.asked.clear()
    trained(criterion(asked, cache=cache, folder=tmp_path), seed=99)
    assert sum(map(len, asked.asked)) <= 4, "without augmentation the seed does not matter"


class Watched(TeacherCriterion):
    """Keeps what it taught: (epoch, sample) -> (inputs, outputs)."""

    def teacher_output(self, batch: Any, step_info: Any) -> Any:
        given_output = super().teacher_output(batch, step_info)
        for row, index in enumerate(batch.indices.tolist()):
            self.seen[step_info.epoch, index] = batch.inputs[row].clone(), given_output.outputs[row].clone()
        return given_output

    seen: dict[tuple[int, int], tuple[Tensor, Tensor]]


def watched(cache: Any, *, seed: int = 3, folder: Path | None = None, epochs: int = 5) -> Watched:
    counting = criterion(cache=cache, folder=folder)
    counting.__class__ = Watched
    assert isinstance(counting, Watched)
    counting.seen = {}
    trained(counting, seed=seed, epochs=epochs, augment=JITTER)
    return counting


@pytest.mark.parametrize("cache", [NONE, MEMORY, DISK], ids=["live", "memory", "disk"])
def test_epoch_e_sees_exactly_its_view_and_what_the_teacher_says_about_it(cache: Any, tmp_path: Path) -> None:
    seen = watched({**cache, "views": 2}, folder=tmp_path).seen
    data, asked = images().train, teacher()
    assert len(seen) == 5 * SAMPLES
    for epoch in range(1, 6):
        view = (epoch - 1) % 2 + 1
        places = torch.as_tensor(data.indices)
        targets = torch.zeros(SAMPLES, 4)
        expected, _ = JITTER[0].apply(torch.from_numpy(data.inputs), targets, uniform(3, view, places, 0))
        with torch.no_grad():
            answers = asked(expected)
        for row, index in enumerate(data.indices.tolist()):
            inputs, teacher_output = seen[epoch, index]
            assert torch.equal(inputs, expected[row])
            torch.testing.assert_close(teacher_output, answers[row], rtol=1e-4, atol=1e-5)
    one, other = ({index: seen[epoch, index][0] for index in data.indices.tolist()} for epoch in (1, 2))
    moved = sum(not torch.equal(one[index], other[index]) for index in one)
    assert moved > SAMPLES / 2, "the views differ"


def folders(path: Path) -> set[str]:
    return {one.name for one in path.iterdir()}


def test_whatever_differs_has_another_key(tmp_path: Path) -> None:
    def filled(**given: Any) -> set[str]:
        options = {name: given.pop(name) for name in ("seed", "augment", "batch_size", "data_") if name in given}
        cache = {**DISK, **given.pop("cache", {"views": 1} if options.get("augment") else {})}
        before = folders(tmp_path)
        chosen = criterion(given.pop("teacher", teacher()), cache=cache, folder=tmp_path, **given)
        trained(chosen, epochs=2, data=options.pop("data_", None), **options)
        return folders(tmp_path) - before

    assert len(filled()) == 1
    assert len(filled(seed=4)) == 0, "inputs are the same"
    assert len(filled(data="other data")) == 1
    assert len(filled(data="d/cat")) == 1, "a class is left out"
    assert len(filled(teacher=teacher(6))) == 1
    assert len(filled(losses=FITNETS)) == 1, "other taps"
    assert len(filled(cache={"top_k": 2})) == 1
    assert len(filled(batch_size=13)) == 1, "other blocks, which round differently"
    assert len(filled(augment=JITTER)) == 1
    assert len(filled(augment=JITTER, cache={"views": 2})) == 1, "its second view"
    assert len(filled(augment=JITTER, seed=4)) == 1
    assert len(filled(augment=(Jitter(pixels=1),))) == 1, "other augmentations make other views"
    assert len(filled(augment=(Jitter(pixels=2, fill="edge"),))) == 1
    assert len(filled(augment=JITTER)) == 0


def test_views_without_augmentation_are_all_the_same() -> None:
    asked = Counting(teacher())
    first = trained(criterion(asked, cache={**MEMORY, "views": 3}))
    assert sum(map(len, asked.asked)) <= SAMPLES + 4
    assert_same(first, trained(criterion(cache=MEMORY)))


@pytest.mark.parametrize("where", ["memory", "disk"])
def test_endless_augmentation_is_refused_and_auto_asks_the_teacher(where: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=rf"cache\.where is {where}, but data\.augment makes new .* \{{views: 4\}}"):
        trainer(criterion(cache={"where": where}, folder=tmp_path), augment=JITTER)
    chosen = criterion()
    trainer(chosen, augment=JITTER).advance(1)
    assert not chosen.cached
    assert not row_cache.MEMORY.keys
    chosen = criterion(cache={"views": 4})
    trainer(chosen, augment=JITTER).advance(1)
    assert chosen.cached


@pytest.mark.parametrize("views", [None, 2])
def test_mixup_is_refused(views: int | None, tmp_path: Path) -> None:
    mixing = (*JITTER, Mixup())
    with pytest.raises(UsageError, match="leave out mixup"):
        trainer(criterion(cache={"where": "memory", "views": views}), augment=mixing)
    chosen = criterion(cache={"views": views})
    trainer(chosen, augment=mixing).advance(1)
    assert not chosen.cached
    crd = [{"type": "soft_targets"}, {"type": "crd", "taps": ["0"], "negatives": 4}]
    with pytest.raises(UsageError, match="crd remembers what each sample is"):
        trainer(criterion(losses=crd), augment=mixing)


def test_a_cache_on_disk_needs_a_folder() -> None:
    with pytest.raises(UsageError, match="nothing is written here; use memory"):
        trainer(criterion(cache=DISK))


class Breaks(nn.Module):
    """Fails at a block of three samples, the last of 27 in eights."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module, self.breaks = module, True

    def forward(self, inputs: Tensor) -> Tensor:
        if self.breaks and len(inputs) == 3:
            raise RuntimeError("the power went out")
        answers: Tensor = self.module(inputs)
        return answers


def test_rows_appear_on_disk_whole_or_not_at_all(tmp_path: Path) -> None:
    data, breaks = images(samples=27), Breaks(teacher())
    with pytest.raises(TrialError, match="the power went out"):
        trained(criterion(breaks, cache=DISK, folder=tmp_path), data=data)
    assert folders(tmp_path) == set()
    breaks.breaks = False
    second = trained(criterion(breaks, cache=DISK, folder=tmp_path), data=data)
    assert len(folders(tmp_path)) == 1
    assert_same(second, trained(criterion(breaks, cache=MEMORY), data=data))


SCRIPT = """
import os, sys, time
from pathlib import Path

sys.path.insert(0, sys.argv[1])
folder = Path(sys.argv[2])
import torch
from tests.support.teaching_fakes import criterion, trained
from modelopt_cli.distillation import cache

torch.set_num_threads(1)

def student():
    found = trained(criterion(cache={"where": "disk"}, folder=folder))
    return float(sum(tensor.double().sum() for tensor in found.values())).hex()

def killed(folder, blocks, count):
    def some():
        for place, block in enumerate(blocks):
            if place == 2:
                os._exit(9)
            yield block
    write(folder, some(), count)

child = os.fork()
if child == 0:
    write, cache.write_rows = cache.write_rows, killed
    student()
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
print([name.name.startswith(".") for name in folder.iterdir()], flush=True)

def slowly(folder, blocks, count):  # so that both are at it at once
    write(folder, blocks, count)
    folder.parent.parent.joinpath(f"here-{os.getpid()}").touch()
    while len(list(folder.parent.parent.glob("here-*"))) < 2:
        time.sleep(0.01)

write, cache.write_rows = cache.write_rows, slowly
child = os.fork()
os.write(1, f"{student()}\\n".encode())  # in one piece
if child == 0:
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
"""


@pytest.mark.slow
def test_two_processes_write_the_same_rows_at_once_and_one_that_was_killed_leaves_none(tmp_path: Path) -> None:
    arguments = [sys.executable, "-c", SCRIPT, str(Path(__file__).parents[2]), str(tmp_path)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    ended = subprocess.run(arguments, capture_output=True, text=True, env=environment, timeout=PATIENCE)
    assert ended.returncode == 0, ended.stderr
    expected = trained(criterion(cache=MEMORY))
    total = float(sum(tensor.double().sum() for tensor in expected.values())).hex()
    assert ended.stdout.splitlines() == ["[True]", total, total], "what is unfinished is hidden, and never read"
    assert len([name for name in folders(tmp_path) if not name.startswith((".", "here"))]) == 1


def test_a_full_disk_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np.lib.format, "open_memmap", full)
    with pytest.raises(StorageError, match=r"cannot hold the teacher's outputs \(No space left on device\)"):
        trained(criterion(cache=DISK, folder=tmp_path))
    assert folders(tmp_path) == set()


def test_memory_holds_as_much_as_is_allowed_and_the_last_view_in_any_case(monkeypatch: pytest.MonkeyPatch) -> None:
    memory, one = row_cache.RowMemory(), {"outputs": torch.zeros(10, 4)}  # 160 bytes
    monkeypatch.setattr(row_cache, "free_bytes", lambda _: 4 * 400)
    for name in "abc":
        memory.get(name, lambda: dict(one))
    assert memory.keys == ["b", "c"], "two take 320 bytes of 400"
    memory.get("b", lambda: dict(one))
    memory.get("d", lambda: dict(one))
    assert memory.keys == ["b", "d"], "the one that was asked for last stays"
    memory.get("large", lambda: {"outputs": torch.zeros(1000)})
    assert memory.keys == ["large"]


def test_auto_asks_the_teacher_where_outputs_would_take_too_much(monkeypatch: pytest.MonkeyPatch) -> None:
    """A row is 4 logits of 4 bytes, at the tap 6 x 4 x 4 numbers more."""
    for free, losses, views, kept in (
        (4 * 16 * SAMPLES, None, None, True),
        (4 * 16 * SAMPLES - 4, None, None, False),
        (4 * 16 * SAMPLES, None, 2, False),
        (4 * 16 * SAMPLES, FITNETS, None, False),
        (4 * (16 + 4 * 96) * SAMPLES, FITNETS, None, True),
    ):
        monkeypatch.setattr("modelopt_cli.distillation.teacher_criterion.free_bytes", lambda _, free=free: free)
        chosen = criterion(losses=losses, cache={"views": views})
        trainer(chosen, augment=JITTER if views else ())
        assert chosen.cached is kept, (free, losses, views)


def test_top_k_counts_what_it_keeps(monkeypatch: pytest.MonkeyPatch) -> None:
    """k values and k class numbers of 4 bytes, and the rest: 12 bytes in place of 16."""
    monkeypatch.setattr("modelopt_cli.distillation.teacher_criterion.free_bytes", lambda _: 4 * 12 * SAMPLES)
    chosen = criterion(cache={"top_k": 1})
    trainer(chosen)
    assert chosen.cached


def test_the_largest_are_exact_and_the_others_in_sum() -> None:
    logits = torch.randn(50, 9, generator=torch.Generator().manual_seed(0)) * 8
    logits[0] = torch.tensor([200.0, -200, 0, 0, 0, 0, 0, 0, 0])
    logs = torch.log_softmax(logits, 1)
    for k in (1, 3, 8):
        unpacked = unpack(pack(logits, k), 9)
        values, classes = logs.topk(k, 1)
        assert torch.equal(unpacked.gather(1, classes), values)
        assert bool(unpacked.isfinite().all())
        torch.testing.assert_close(unpacked.exp().sum(1), torch.ones(50))
        rest = 1 - values.double().exp().sum(1)
        others = unpacked.double().exp().sum(1) - unpacked.gather(1, classes).double().exp().sum(1)
        torch.testing.assert_close(others, rest, rtol=1e-4, atol=1e-6)
        spread = unpacked.scatter(1, classes, float("nan"))
        for row in spread:
            left = row[~row.isnan()]
            assert bool((left == left[0]).all()), "what is left is shared out evenly"
    torch.testing.assert_close(unpack(pack(logits, 8), 9), logs, rtol=1e-4, atol=1e-4)


def test_of_all_classes_but_one_training_is_as_with_all() -> None:
    whole, sparse = (trained(criterion(cache=MEMORY | more)) for more in ({}, {"top_k": 3}))
    for name, tensor in whole.items():
        torch.testing.assert_close(sparse[name], tensor, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("where", ["none", "disk"])
def test_the_largest_alone_are_taught_wherever_they_are_kept(where: str, tmp_path: Path) -> None:
    """So that what `auto` decides on changes no student."""
    kept = trained(criterion(cache={**MEMORY, "top_k": 1}), shuffle=False)
    other = trained(criterion(cache={"where": where, "top_k": 1}, folder=tmp_path), shuffle=False)
    assert_same(kept, other)
    assert differ(kept, trained(criterion(cache=MEMORY), shuffle=False))


def test_top_k_is_refused_where_it_keeps_all_or_there_are_no_classes() -> None:
    for k in (4, 100):
        with pytest.raises(UsageError, match=rf"top_k is {k}, but must be below the number of classes \(4\)"):
            trainer(criterion(cache={"top_k": k}))
    chosen = criterion(losses=[{"type": "mse"}], cache={"top_k": 1})
    chosen._task = "regression"  # private: no option makes a criterion of another task
    with pytest.raises(UsageError, match="top_k is 1, but must be below the number of classes, and the task is regr"):
        trainer(chosen, data=images("regression"))


def test_the_digest_follows_weights_buffers_form_and_estimators() -> None:
    from sklearn.tree import DecisionTreeClassifier

    from modelopt_cli.distillation.adapting import EstimatorModule

    first = row_cache.digest(teacher())
    assert row_cache.digest(teacher()) == first
    moved: Any = teacher()
    moved[1].running_mean += 1e-3
    weighed: Any = teacher()
    with torch.no_grad():
        weighed[5].bias[0] += 1e-6
    formed = teacher()
    formed[2] = nn.Tanh()
    inputs = np.arange(20.0).reshape(10, 2)
    trees = [
        EstimatorModule(
            DecisionTreeClassifier(max_depth=depth, random_state=0).fit(inputs, [0, 1] * 5), "classification", 2
        )
        for depth in (1, 1, 2)
    ]
    digests = [row_cache.digest(one) for one in (moved, weighed, formed, *trees)]
    assert digests[3] == digests[4]
    assert len({first, *digests}) == 6
