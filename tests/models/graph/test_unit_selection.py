"""What a checkpoint keeps of a smaller module: there and back as plain values, one after another, and rebuilt."""

from __future__ import annotations

import io
from copy import deepcopy
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from modelopt_cli.models.graph.axes import Mask, Prime
from modelopt_cli.models.graph.bundles import in_place
from modelopt_cli.models.graph.edits import Edit, merged
from modelopt_cli.models.graph.emitted import Emitted
from modelopt_cli.models.graph.network import Network
from modelopt_cli.models.graph.surgery import operate
from modelopt_cli.models.graph.unit_selection import UnitSelection, emitted, rebuilt
from tests.support import zoo as ZOO

Keep = dict[Prime, Mask]


class Attention(nn.Module):
    """Three heads of width 4 out of layers of their own, so that a head lies in dimensions that others share."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.out, self.head = nn.Linear(5, 12), nn.Linear(12, 12), nn.Linear(12, 4)
        self.query, self.key, self.value = (nn.Linear(12, 12) for _ in range(3))

    def forward(self, inputs: Tensor) -> Tensor:
        """(B, N, 5) -> (B, 4)."""
        hidden = torch.tanh(self.embed(inputs))
        query, key, value = (
            layer(hidden).unflatten(-1, (3, -1)).transpose(1, 2) for layer in (self.query, self.key, self.value)
        )
        mixed = F.scaled_dot_product_attention(query, key, value, scale=0.5).transpose(1, 2).flatten(2)
        return self.head(torch.relu(self.out(mixed) + hidden).mean(1))


class Constant(nn.Module):
    """Tensors that no state dict holds run along its units: an attribute, and one that the code makes."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.head, self.factor = nn.Linear(5, 6), nn.Linear(6, 4), torch.linspace(0.5, 1.5, 6)

    def forward(self, inputs: Tensor) -> Tensor:
        """(B, 5) -> (B, 4)."""
        hidden = torch.relu(self.first(inputs)) * self.factor
        return self.head(hidden + torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]))


BUILT = {"attention": (Attention, (6, 5)), "cnn": (ZOO.modelopt_cnn, (1, 28, 28)), "mlp": (ZOO.mlp, (20,))}
BUILT |= {"shortcut A": (lambda: ZOO.CifarResNet("A"), (3, 32, 32)), "constant": (Constant, (5,))}


def inputs_of(name: str) -> Tensor:
    return torch.randn(3, *BUILT[name][1], generator=torch.Generator().manual_seed(1))


def make(name: str) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return ZOO.prepare(BUILT[name][0]())


@cache
def network_of(name: str) -> Network:
    return Network(make(name), inputs_of(name))


def random_keep(network: Network, seed: int, held: Keep | None = None) -> Keep:
    """Of some groups some units go, of what `held` leaves; one stays."""
    generator = np.random.default_rng(seed)
    keep: Keep = dict(held or {})
    for group in network.groups:
        mask = keep.get(group.prime, np.ones(group.size, bool)).copy()
        left = np.flatnonzero(mask)
        going = generator.integers(0, len(left)) if generator.random() < 0.6 else 0
        mask[generator.permutation(left)[:going]] = False
        if not mask.all():
            keep[group.prime] = mask
    return keep


def selection_of(network: Network, held: Keep, edits: tuple[Edit, ...] = (), form: Any = "graph") -> UnitSelection:
    before, network.held = network.held, held
    try:
        return UnitSelection(network.kept(), edits, form)
    finally:
        network.held = before


def alike(one: UnitSelection, other: UnitSelection) -> bool:
    if (one.edits, one.form, one.kept.keys()) != (other.edits, other.form, other.kept.keys()):
        return False
    return all(
        one.kept[name].keys() == other.kept[name].keys()
        and all(torch.equal(one.kept[name][dim].long(), places.long()) for dim, places in other.kept[name].items())
        for name in one.kept
    )


def same(one: Keep, other: Keep) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[prime], other[prime]) for prime in one)


EDITS: tuple[Edit, ...] = (("0", "out_features", 3), ("", "sizes", [2, 6]), ("norm", "scale", 0.5))


@pytest.mark.slow
@settings(deadline=None, max_examples=25)
@given(name=st.sampled_from(list(BUILT)), seed=st.integers(0, 10_000))
def test_plain_values_there_and_back(name: str, seed: int) -> None:
    """Through torch.save and weights_only; the units that are held then are those that were."""
    network = network_of(name)
    held = random_keep(network, seed)
    before = selection_of(network, held, EDITS)
    file = io.BytesIO()
    torch.save(before.to_plain(), file)
    file.seek(0)
    after = UnitSelection.from_plain(torch.load(file, weights_only=True))
    assert alike(before, after)
    other = Network.__new__(Network)
    other.__dict__.update(network.__dict__)
    other.hold(after.kept)
    assert same(other.held, held)


def smaller(network: Network, held: Keep, name: str) -> Network:
    """What is left, captured anew: its places count in what is left."""
    return Network(network.without(held, fresh=True), inputs_of(name))


@pytest.mark.slow
@settings(deadline=None, max_examples=8)
@given(name=st.sampled_from(list(BUILT)), seeds=st.tuples(st.integers(0, 10_000), st.integers(0, 10_000)))
def test_one_after_another_is_one(name: str, seeds: tuple[int, int]) -> None:
    """A module that was pruned from a file, and then again, is told in places of the code's module."""
    network = network_of(name)
    first = random_keep(network, seeds[0])
    again = smaller(network, first, name)
    second = random_keep(again, seeds[1])
    whole = selection_of(network, first).then(selection_of(again, second))
    other = Network.__new__(Network)
    other.__dict__.update(network.__dict__)
    other.hold(whole.kept)
    expected = again.without(second, fresh=True)
    at_once = network.without(other.held, fresh=True)
    inputs = inputs_of(name)
    with torch.no_grad():
        assert torch.equal(at_once(inputs), expected(inputs))
    assert all(torch.equal(tensor, at_once.state_dict()[key]) for key, tensor in expected.state_dict().items())


@pytest.mark.slow
def test_a_group_of_which_one_unit_is_left_and_its_neighbours_later() -> None:
    """The second time the width of values is no group, and what they hold of heads is told by the queries."""
    network = network_of("attention")
    width = next(group for group in network.groups if group.name.startswith("value"))
    first = {width.prime: np.array([False, False, True, False])}
    again = smaller(network, first, "attention")
    heads = next(group for group in again.groups if group.size == 3)
    whole = selection_of(network, first).then(selection_of(again, {heads.prime: np.array([False, True, False])}))
    other = Network(make("attention"), inputs_of("attention"))
    other.hold(whole.kept)
    value = other.without(other.held, fresh=True).get_submodule("value")
    assert isinstance(value.weight, Tensor)
    assert value.weight.shape == (1, 12)


@pytest.mark.slow
def test_heads_first_and_the_width_of_values_later() -> None:
    """The values' dimension holds both, and the second time only its width is told there."""
    network = network_of("attention")
    heads = next(group for group in network.groups if group.size == 3)
    first = {heads.prime: np.array([True, False, True])}
    again = smaller(network, first, "attention")
    width = next(group for group in again.groups if group.name.startswith("value"))
    second = {width.prime: np.array([True, False, True, True])}
    whole = selection_of(network, first).then(selection_of(again, second))
    assert whole.kept["value.weight"][0].tolist() == [0, 2, 3, 8, 10, 11]
    assert whole.kept["query.weight"][0].tolist() == [0, 1, 2, 3, 8, 9, 10, 11]


@pytest.mark.slow
@settings(deadline=None, max_examples=25)
@given(name=st.sampled_from(list(BUILT)), seeds=st.tuples(st.integers(0, 10_000), st.integers(0, 10_000)))
def test_since_undoes_then(name: str, seeds: tuple[int, int]) -> None:
    network = network_of(name)
    first = random_keep(network, seeds[0])
    second = random_keep(network, seeds[1], first)
    earlier, whole = selection_of(network, first), selection_of(network, second)
    assert alike(earlier.then(whole.since(earlier)), whole)
    assert whole.since(whole).kept == {}
    assert alike(whole.since(UnitSelection({})), whole)


def test_edits_and_forms_of_both_count() -> None:
    one = UnitSelection({}, (("0", "heads", 4), ("1", "heads", 4)), "module", {"a": torch.ones(1), "b": torch.ones(1)})
    two = UnitSelection({}, (("0", "heads", 2),), "module", {"b": torch.zeros(1)})
    whole = one.then(two)
    assert list(whole.edits) == merged(one.edits, two.edits)
    assert {name: float(value) for name, value in whole.unsaved.items()} == {"a": 1.0, "b": 0.0}
    assert whole.form == "module"
    assert one.then(UnitSelection({}, form="graph")).form == "graph"
    assert UnitSelection({}, form="graph").then(two).form == "graph"


# Rebuilt


@pytest.mark.slow
@pytest.mark.parametrize("form", ["module", "graph"])
@pytest.mark.parametrize("name", BUILT)
def test_a_module_of_the_code_becomes_the_smaller_one(name: str, form: Any) -> None:
    module, inputs = make(name), inputs_of(name)
    network = Network(module, inputs)
    plan = in_place(module, network.captured, network.analysis, network.groups, inputs)
    if form == "module" and plan.refused:
        pytest.skip("its code cannot be smaller")
    generator = np.random.default_rng(0)
    held = {group.prime: generator.permutation(group.size) >= group.size // 2 for group in network.groups}
    edits: tuple[Edit, ...] = ()
    expected: nn.Module = network.without(held)
    if form == "module":
        edits = tuple(operate(module, network.captured.graph, network.analysis, held, links=plan.links))
        expected = module.eval()
        network = Network(make(name), inputs)  # what was captured shrank with it
        held = dict(zip((group.prime for group in network.groups), held.values(), strict=True))
    plain = selection_of(network, held, edits, form).to_plain()
    state = expected.state_dict() if form == "module" else Emitted(expected).state_dict()  # type: ignore[arg-type]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(9)
        fresh = BUILT[name][0]()
    smaller = rebuilt(fresh, UnitSelection.from_plain(plain), state, lambda: inputs)
    assert not smaller.training
    assert isinstance(smaller, Emitted) == (form == "graph")
    with torch.no_grad():
        assert torch.allclose(smaller(inputs), expected(inputs), rtol=1e-6, atol=1e-6)
    assert sum(each.numel() for each in smaller.parameters()) < sum(each.numel() for each in make(name).parameters())


@pytest.mark.slow
@pytest.mark.parametrize("name", BUILT)
def test_a_network_that_has_shrunk_gives_what_it_was_without_being_captured_again(name: str) -> None:
    origin, inputs = make(name), inputs_of(name)
    network = Network(deepcopy(origin), inputs)
    network.held = random_keep(network, 0)
    small, seen = Emitted(network.without(network.held, fresh=True)), []
    for seed in (1, 2):
        network.pull(small)
        keep = random_keep(network, seed, network.held)
        small.become(network.without(keep))
        network.held = keep
        with torch.no_grad():
            state = {key: tensor.clone() for key, tensor in small.state_dict().items()}
            seen.append((UnitSelection(network.kept(), (), "graph"), state, small.eval()(inputs)))
    for selection, state, expected in seen:
        smaller = emitted(network.of(deepcopy(origin)), selection, state)
        with torch.no_grad():
            assert torch.allclose(smaller(inputs), expected, rtol=1e-6, atol=1e-6)
    fresh = make(name).state_dict()
    assert all(torch.equal(tensor, fresh[key]) for key, tensor in origin.state_dict().items())


# What does not fit


PLAIN: dict[str, Any] = {
    "kept": {"0.weight": {0: torch.tensor([0, 2, 5])}},
    "edits": [["0", "out_features", 3]],
    "form": "graph",
    "unsaved": {},
}


@pytest.mark.parametrize(
    "damage",
    [
        None,
        [],
        {"kept": None},
        {"kept": {"0.weight": [1, 2]}},
        {"kept": {"0.weight": {"first": torch.tensor([0])}}},
        {"kept": {"0.weight": {0: [0, 2]}}},
        {"edits": None},
        {"edits": [["0", "out_features"]]},
        {"edits": 3},
        {"form": "picture"},
        {"form": None},
        {"unsaved": 3},
        {"unsaved": ["a"]},
    ],
    ids=str,
)
def test_damaged_values_are_refused(damage: Any) -> None:
    assert alike(UnitSelection.from_plain(PLAIN), UnitSelection(PLAIN["kept"], (("0", "out_features", 3),), "graph"))
    with pytest.raises(ValueError):
        UnitSelection.from_plain({**PLAIN, **damage} if isinstance(damage, dict) else damage)


@pytest.mark.parametrize("missing", PLAIN)
def test_what_is_missing_is_refused(missing: str) -> None:
    with pytest.raises(ValueError, match="what is kept of it cannot be read"):
        UnitSelection.from_plain({name: value for name, value in PLAIN.items() if name != missing})


@pytest.mark.slow
@pytest.mark.parametrize(
    ("tensor", "dim", "places"),
    [
        ("0.weight", 0, [0, 99]),
        ("0.weight", 0, [-1, 3]),
        ("0.weight", 0, []),
        ("0.weight", 0, [[0, 1]]),
        ("0.weight", 0, [3, 1]),
        ("0.weight", 0, [1, 1]),
        ("0.weight", 1, [0, 1]),
        ("0.weight", 2, [0, 1]),
        ("9.weight", 0, [0, 1]),
        ("0.weight", 0, [0.5, 1.5]),
    ],
    ids=str,
)
@pytest.mark.parametrize("name", ["mlp"])
def test_places_that_are_no_units_are_refused(name: str, tensor: str, dim: int, places: list[Any]) -> None:
    network = Network(make(name), inputs_of(name))
    with pytest.raises(ValueError):
        network.hold({tensor: {dim: torch.tensor(places)}})
    assert network.held == {}
    with pytest.raises(ValueError):
        rebuilt(
            make(name),
            UnitSelection({tensor: {dim: torch.tensor(places)}}, (), "graph"),
            {},
            lambda: inputs_of(name),
        )


def test_tensors_of_other_sizes_are_refused() -> None:
    name = "mlp"
    network = network_of(name)
    selection = selection_of(network, random_keep(network, 3))
    assert selection.kept
    with pytest.raises(ValueError, match="is not what is kept of the model's"):
        rebuilt(make(name), selection, make(name).state_dict(), lambda: inputs_of(name))
