"""What is known of cuts is used by who prunes the same network again, and by nobody else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from modelopt_cli.pruning.settings import PruningSettings
from modelopt_cli.pruning.units import cut_store
from modelopt_cli.pruning.units.cut_store import CutStore, digest
from modelopt_cli.pruning.units.session import UnitPruningSession
from tests.support.unit_cases import batches, inputs_of, loss, make


@pytest.fixture(autouse=True)
def _alone() -> Iterator[None]:
    """Other tests of this process do not know of these, nor these of them."""
    cut_store.forget()
    yield
    cut_store.forget()


def pruned(module: nn.Module, folder: Path | None = None, count: int = 40, **options: object) -> UnitPruningSession:
    """A session that has pruned a module on so many samples."""
    settings = PruningSettings.model_validate(
        {
            "structure": "neurons",
            "importance": "magnitude",
            "allocation": "divergence",
            "compensation": "least_squares",
            "budget": {"flops": "60%"},
            **options,
        }
    )
    given = batches(inputs_of("cnn", count))
    session = UnitPruningSession(settings, module, lambda most: given, loss, "classification", cuts=folder)
    session.prune(0.5, module)
    return session


def kept(session: UnitPruningSession) -> dict[str, dict[int, Tensor]]:
    return session.network.kept()


def same(one: UnitPruningSession, other: UnitPruningSession) -> bool:
    first, second = kept(one), kept(other)
    return first.keys() == second.keys() and all(
        torch.equal(places, second[name][dim]) for name, dims in first.items() for dim, places in dims.items()
    )


@pytest.mark.slow
def test_the_same_network_is_not_tried_again_and_gives_the_same() -> None:
    first, second = pruned(make("cnn")), pruned(make("cnn"))
    assert first.passes > 1
    assert second.passes == 0
    assert second.sensitivity == first.sensitivity
    assert same(first, second)


@pytest.mark.slow
def test_another_budget_goes_on_from_what_is_known() -> None:
    first = pruned(make("cnn"))
    second = pruned(make("cnn"), budget={"flops": "30%"})
    cut_store.forget()
    alone = pruned(make("cnn"), budget={"flops": "30%"})
    assert second.passes < alone.passes <= first.passes + 2
    assert same(second, alone)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("what", "options"),
    [("weights", {}), ("samples", {"count": 39}), ("compensation", {"compensation": "bias"})],
)
def test_what_decides_what_a_cut_does_misses(what: str, options: dict[str, object]) -> None:
    pruned(make("cnn"))
    module = make("cnn")
    if what == "weights":
        with torch.no_grad():
            next(module.parameters()).view(-1)[0] += 1e-6
    assert pruned(module, **options).passes > 1  # type: ignore[arg-type]


@pytest.mark.slow
def test_another_process_reads_the_folder(tmp_path: Path) -> None:
    first = pruned(make("cnn"), tmp_path)
    cut_store.forget()
    second = pruned(make("cnn"), tmp_path)
    assert second.passes == 0
    assert same(first, second)
    cut_store.forget()
    assert pruned(make("cnn")).passes == first.passes  # negative control: without the folder


@pytest.mark.slow
@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b'{"a": "x", "b": true, "c": NaN}', b"\xff\x00"])
def test_a_damaged_file_is_as_none(tmp_path: Path, content: bytes) -> None:
    first = pruned(make("cnn"), tmp_path)
    [file] = tmp_path.iterdir()
    file.write_bytes(content)
    cut_store.forget()
    second = pruned(make("cnn"), tmp_path)
    assert second.passes == first.passes
    assert same(first, second)


def test_a_folder_that_cannot_be_written_costs_time_alone(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    assert pruned(make("cnn"), tmp_path / "taken" / "cuts").passes > 1


def test_two_processes_do_not_lose_what_each_other_knows(tmp_path: Path) -> None:
    stays = torch.tensor([True, False])
    one, other = CutStore("n", tmp_path), CutStore("n", tmp_path)
    cut_store.forget()
    apart = CutStore("n", tmp_path)
    one.put("error", "a", stays, 1.0)
    one.save()
    apart.put("error", "b", stays, 2.0)
    apart.save()
    cut_store.forget()
    again = CutStore("n", tmp_path)
    assert (again.get("error", "a", stays), again.get("error", "b", stays)) == (1.0, 2.0)
    assert again.get("lost", "a", stays) is None
    assert again.get("error", "a", ~stays) is None
    assert other.get("error", "a", stays) == 1.0


def test_a_digest_tells_types_and_names_apart() -> None:
    values = torch.tensor([1, 2])
    digests = [
        digest({"a": values}, [], []),
        digest({"b": values}, [], []),
        digest({"a": values.int()}, [], []),
        digest({"a": values[None]}, [], []),
        digest({}, [values], []),
        digest({"a": values}, [], ["x"]),
    ]
    assert len(set(digests)) == len(digests)
    assert digest({"a": values.clone()}, [], []) == digests[0]
    assert digest({"a": torch.ones((), dtype=torch.bfloat16)}, [], [])
