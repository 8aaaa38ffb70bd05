"""Which groups can be taken out of the module itself, and which of them only together, by the same share.

Every group is tried on a copy and compared with the graph: first all at once, each losing another number of units; where
that fails, kind by kind and group by group. Sizes that come out of one attribute (the width of a head, of queries and of
values) tie their groups. Groups that fail alone and meet in one attribute are tried tied; if that fails too, without
those that are inner factors of others (heads x width: widths), as no two factors can shrink by the same share.
"""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, fx, nn

from modelopt_cli.core.errors import ModeloptError
from modelopt_cli.pruning.graph.analysis import Analysis, attribute
from modelopt_cli.pruning.graph.attributes import Links, Question, questions, read_by
from modelopt_cli.pruning.graph.axes import Mask, factors
from modelopt_cli.pruning.graph.capture import Captured
from modelopt_cli.pruning.graph.constants import Constant, Constants
from modelopt_cli.pruning.graph.groups import Group
from modelopt_cli.pruning.graph.rewriting import Keep, set_tensor
from modelopt_cli.pruning.graph.surgery import Trial, copied, trial

Bundle = tuple[Group, ...]
"""Groups that lose units by the same share; most often one alone."""
_SHARES = (1 / 3, 1 / 2)


@dataclass(frozen=True)
class InPlace:
    """What can be done to a module. `operate` needs the links."""

    groups: tuple[Group, ...]
    refused: Mapping[str, str]  # group -> why not
    ties: tuple[frozenset[str], ...]  # groups of which equal shares must stay: see `tied_counts`
    links: Links


def tied_counts(sizes: Sequence[int], share: float) -> list[int]:
    """How many units of groups of these sizes go, that are tied: equal shares of each, next to `share`.

    Never all, so none where the sizes have no common divisor.
    """
    steps = math.gcd(*sizes)
    gone = min(max(round(steps * share), 0), steps - 1)
    return [gone * size // steps for size in sizes]


def in_place(
    module: nn.Module,
    captured: Captured,
    analysis: Analysis,
    groups: Sequence[Group],
    inputs: Tensor | None = None,
) -> InPlace:
    """Find out by trials on copies; the module is as it was captured, and stays so. `inputs`: (B, ...), B at least 2."""
    return _Finder(module, captured, analysis, captured.example if inputs is None else inputs).found(groups)


class _Finder:
    def __init__(self, module: nn.Module, captured: Captured, analysis: Analysis, inputs: Tensor) -> None:
        self.analysis = analysis
        self.module, self.graph = _stirred(module, captured.graph)
        self.constants = Constants(captured.graph, analysis)
        self.batches = [inputs[:2], torch.cat([inputs, inputs])[:3]] if captured.dynamic else [captured.example]
        self.answers: dict[Question, int] = {}
        self.reasons: dict[str, str] = {}

    def found(self, groups: Sequence[Group]) -> InPlace:
        changes = self._changes(groups)
        writable = [group for group in groups if group.name not in self.reasons]
        influences: dict[Constant, set[str]] = {}
        for name, constants in changes.items():
            for constant in constants:
                influences.setdefault(constant, set()).add(name)
        fixed = {constant: frozenset(names) for constant, names in influences.items()}
        self.answers = dict.fromkeys(questions(self.module, fixed, self._reads()), 0)
        bundles = self._tied(writable, fixed)
        if self._fails(bundles):
            self._ask(writable, fixed)
            bundles = self._working(self._tied(writable, fixed), changes)
        good = tuple(group for bundle in bundles for group in bundle)
        ties = tuple(frozenset(group.name for group in bundle) for bundle in bundles if len(bundle) > 1)
        names = {group.name for group in good}
        refused = {group.name: self.reasons[group.name] for group in groups if group.name not in names}
        order = tuple(group for group in groups if group.name in names)
        return InPlace(order, refused, ties, self._links())

    def _reads(self) -> frozenset[tuple[int, str]] | None:
        def run() -> object:
            with torch.no_grad(), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return self.module(self.batches[0])

        try:
            return read_by(self.module, run)
        except TypeError:  # a class that cannot be exchanged
            return None

    def _changes(self, groups: Sequence[Group]) -> dict[str, dict[Constant, int]]:
        """Constants that change with each group alone."""
        found: dict[str, dict[Constant, int]] = {}
        for group in groups:
            try:
                found[group.name] = self.constants.changed(_keep([group], _SHARES[1]))
            except ModeloptError as error:
                self.reasons[group.name] = str(error)
        return found

    def _links(self) -> Links:
        slots = {slot: each for asked, answer in self.answers.items() for slot, each in asked.answers()[answer].items()}
        return Links(self.constants, slots)

    def _tied(self, groups: Sequence[Group], influences: Mapping[Constant, frozenset[str]]) -> list[Bundle]:
        """Groups whose sizes come out of one attribute, but not always together, are one bundle."""
        joined = []
        for constants in self._links().slots.values():
            sets = {influences[constant] for constant in constants}
            if len(sets) > 1:
                joined.append(frozenset().union(*sets))
        return _connected(groups, joined)

    def _ask(self, groups: Sequence[Group], influences: Mapping[Constant, frozenset[str]]) -> None:
        """Where several attributes have one value: find those with which the groups in question work."""
        asked: dict[tuple[object, ...], list[Question]] = {}
        for question in self.answers:
            if len(question.answers()) > 1:
                asked.setdefault(question.kind, []).append(question)
        for alike in asked.values():
            concerned = {name for each in alike[0].classes for constant in each for name in influences[constant]}
            for answer in range(len(alike[0].answers())):
                self.answers.update(dict.fromkeys(alike, answer))
                if not self._fails(b for b in self._tied(groups, influences) if any(g.name in concerned for g in b)):
                    break
            else:
                self.answers.update(dict.fromkeys(alike, 0))

    def _working(self, bundles: Sequence[Bundle], changes: Mapping[str, Mapping[Constant, int]]) -> list[Bundle]:
        good, bad = self._sorted(bundles, changes)
        again = [group for bundle in bad for group in bundle]
        touched = {group.name: self._touched(group) for group in again}
        shared = {slot: frozenset(name for name, slots in touched.items() if slot in slots) for slot in _all(touched)}
        for bundle in _connected(again, shared.values()):
            for attempt in (bundle, self._outermost(bundle)):
                if len(attempt) > 1 and not self._fails_alone(attempt):
                    good.append(attempt)
                    break
        while good and (reason := self._fails(good)):  # they do not go together
            last = good.pop()
            self.reasons.update({group.name: f"not together with others: {reason}" for group in last})
        return good

    def _sorted(
        self, bundles: Sequence[Bundle], changes: Mapping[str, Mapping[Constant, int]]
    ) -> tuple[list[Bundle], list[Bundle]]:
        """(those that work by themselves, those that do not). One that fails speaks for all of its kind."""
        kinds: dict[object, list[Bundle]] = {}
        for bundle in bundles:
            kinds.setdefault(self._kind(bundle, changes), []).append(bundle)
        good: list[Bundle] = []
        bad: list[Bundle] = []
        for alike in kinds.values():
            if len(alike) > 1 and not self._fails(alike):
                good += alike
                continue
            failed = False
            for bundle in alike:
                reason = self._fails_alone(bundle) if not failed else self.reasons[bad[-1][0].name]
                failed = failed or bool(reason)
                (bad if reason else good).append(bundle)
                if reason:
                    self._explain(bundle, changes, reason)
        return good, bad

    def _kind(self, bundle: Bundle, changes: Mapping[str, Mapping[Constant, int]]) -> object:
        """Equal for groups of the same layers of alike blocks: what they are called and what is written for them."""
        constants = [constant for group in bundle for constant in changes[group.name]]
        written = sorted({(constant.operator, constant.place, constant.old, constant.line) for constant in constants})
        return tuple(sorted(re.sub(r"\d+", "*", group.name) for group in bundle)), tuple(written)

    def _fails(self, bundles: Iterable[Bundle]) -> str:
        """Why these fail together, each losing another number of units; "" if they work."""
        listed = list(bundles)
        for seed in (0, 1):
            generator = np.random.default_rng(seed)
            keep: dict[object, Mask] = {}
            for bundle in listed:
                share = float(generator.uniform(0.2, 0.6))
                keep.update(_keep(bundle, share, generator))  # type: ignore[arg-type]
            found = self._tried(keep)  # type: ignore[arg-type]
            if not found.ok:
                return found.reason
        return ""

    def _fails_alone(self, bundle: Bundle) -> str:
        for share in _SHARES:
            keep = _keep(bundle, share, np.random.default_rng(0))
            if all(mask.all() for mask in keep.values()):
                return f"sizes {', '.join(str(group.size) for group in bundle)} have no common divisor"
            found = self._tried(keep)
            if not found.ok:
                return found.reason
        return ""

    def _tried(self, keep: Keep) -> Trial:
        return trial(self.module, self.graph, self.analysis, keep, self.batches, self._links())

    def _touched(self, group: Group) -> set[tuple[str, str]]:
        keep = _keep([group], _SHARES[1])
        found = trial(self.module, self.graph, self.analysis, keep, (), self._links())
        return {(path, name) for path, name, _ in found.edits}

    def _outermost(self, bundle: Bundle) -> Bundle:
        """Without the groups that are inner factors of a dimension of which another is an outer one."""
        ours = {group.prime for group in bundle}
        inner = set()
        for dims in self.analysis.tensors.values():
            for axis in dims:
                inner |= set([each for each in factors(axis) if each in ours][1:])
        return tuple(group for group in bundle if group.prime not in inner)

    def _explain(self, bundle: Bundle, changes: Mapping[str, Mapping[Constant, int]], reason: str) -> None:
        """Name the modules that are to blame, as far as one can tell."""
        links = self._links()
        for group in bundle:
            loose = [each for each in links.loose(changes[group.name]) if _blamed(self.module, each)]
            told = [f"{_told(self.module, each)} has {each.old} in {each.line or each.operator}" for each in loose[:2]]
            scaled = self.constants.pins(_keep([group], _SHARES[1]))
            if scaled is not None:
                told.append(f"the attention in {scaled or 'the model'} takes its scale from the width of a head")
            self.reasons[group.name] = reason + (f" ({'; '.join(told)}, not in an attribute)" if told else "")


def _blamed(module: nn.Module, constant: Constant) -> bool:
    try:
        return not type(module.get_submodule(constant.paths[0])).__module__.startswith("torch.nn.modules.normalization")
    except AttributeError:
        return True


def _told(module: nn.Module, constant: Constant) -> str:
    path = constant.paths[0]
    return f"{path or 'the model'} ({type(module.get_submodule(path)).__name__})"


def _all(touched: Mapping[str, Collection[tuple[str, str]]]) -> set[tuple[str, str]]:
    return {slot for slots in touched.values() for slot in slots}


def _connected(groups: Sequence[Group], joined: Iterable[Collection[str]]) -> list[Bundle]:
    """Components of the groups, of which each set in `joined` belongs together."""
    component = {group.name: {group.name} for group in groups}
    for names in joined:
        ours = [name for name in names if name in component]
        union = set().union(*(component[name] for name in ours))
        for name in union:
            component[name] = union
    found: dict[int, list[Group]] = {}
    for group in groups:
        found.setdefault(id(component[group.name]), []).append(group)
    return [tuple(bundle) for bundle in found.values()]


def _keep(bundle: Sequence[Group], share: float, generator: np.random.Generator | None = None) -> dict[object, Mask]:
    """Masks without about this share of each, at least one where the ties let it; at random, or the first."""
    sizes = [group.size for group in bundle]
    steps = math.gcd(*sizes)
    found: dict[object, Mask] = {}
    for group, gone in zip(bundle, tied_counts(sizes, max(share, 1 / steps)), strict=True):
        order = np.arange(group.size) if generator is None else generator.permutation(group.size)
        mask = np.ones(group.size, dtype=np.bool_)
        mask[order[:gone]] = False
        found[group.prime] = mask
    return found


@torch.no_grad()
def _stirred(module: nn.Module, graph: fx.GraphModule) -> tuple[nn.Module, fx.GraphModule]:
    """Copies that share the weights, but for those that are all the same (a scale of 0 hides what is behind it)."""
    mine, its = copied(module), fx.GraphModule(graph, graph.graph)
    generator = torch.Generator().manual_seed(0)
    names: dict[int, list[str]] = {}
    for name, parameter in module.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    for listed in names.values():
        old = attribute(module, listed[0])
        if not old.is_floating_point() or old.numel() < 2 or float(old.min()) != float(old.max()):
            continue
        noise = 0.3 * torch.randn(old.shape, generator=generator)
        value = nn.Parameter(old.detach() + noise.to(old), False)
        for name in listed:
            attribute(mine, name).data = value.data
            if any(node.target == name for node in graph.graph.nodes if node.op == "get_attr"):
                set_tensor(its, name, value)
    return mine, its
