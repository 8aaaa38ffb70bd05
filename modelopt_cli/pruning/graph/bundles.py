"""Which groups can be taken out of the module itself, and which of them only together, by the same share.

Every group is tried on a copy that is compared with the graph: first all at once, each losing another number of units;
where that fails, kind by kind and group by group. Sizes that come out of one attribute (the width of a head, of queries
and of values) tie their groups. Groups that fail alone and meet in one attribute are tried tied; if that fails too,
without those that are inner factors of others (heads x width: widths), for then their product shrinks by another share.
"""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from modelopt_cli.core.errors import ModeloptError
from modelopt_cli.pruning.graph.analysis import Analysis
from modelopt_cli.pruning.graph.attributes import Links, Question, questions, written_out
from modelopt_cli.pruning.graph.axes import Mask, Prime, factors
from modelopt_cli.pruning.graph.capture import Captured
from modelopt_cli.pruning.graph.constants import Constant, Constants
from modelopt_cli.pruning.graph.groups import Group
from modelopt_cli.pruning.graph.reads import Reads, read_by
from modelopt_cli.pruning.graph.rewriting import Keep
from modelopt_cli.pruning.graph.surgery import Trial, stirred, trial
from modelopt_cli.pruning.graph.ties import Bundle, connected, losing

_SHARES = (1 / 3, 1 / 2)


@dataclass(frozen=True)
class InPlace:
    """What can be done to a module. `operate` needs the links."""

    groups: tuple[Group, ...]
    refused: Mapping[str, str]  # group -> why not
    ties: tuple[frozenset[str], ...]  # groups of which equal shares must stay: see `ties.tied_counts`
    links: Links


def in_place(
    module: nn.Module,
    captured: Captured,
    analysis: Analysis,
    groups: Sequence[Group],
    inputs: Tensor | None = None,
) -> InPlace:
    """Find out by trials on copies of the module, which is as it was captured, and stays so.

    `inputs`: (B, *inputs), B at least 2, instead of the example it was captured with.
    """
    return _Finder(module, captured, analysis, captured.example if inputs is None else inputs).found(groups)


class _Finder:
    def __init__(self, module: nn.Module, captured: Captured, analysis: Analysis, inputs: Tensor) -> None:
        self.analysis = analysis
        self.module, self.graph = stirred(module, captured.graph)
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
        bundles = [bundle for bundle in bundles if self._divides(bundle)]
        good = tuple(group for bundle in bundles for group in bundle)
        ties = tuple(frozenset(group.name for group in bundle) for bundle in bundles if len(bundle) > 1)
        names = {group.name for group in good}
        refused = {group.name: self.reasons[group.name] for group in groups if group.name not in names}
        order = tuple(group for group in groups if group.name in names)
        return InPlace(order, refused, ties, self._links())

    def _reads(self) -> Reads | None:
        def run() -> object:
            with torch.no_grad(), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return self.module(self.batches[0])

        try:
            return read_by(self.module, run)
        except Exception:  # a class that cannot be exchanged, or code that takes no integers but plain ones
            return None

    def _changes(self, groups: Sequence[Group]) -> dict[str, dict[Constant, int]]:
        """Constants that change with each group alone."""
        found: dict[str, dict[Constant, int]] = {}
        for group in groups:
            try:
                found[group.name] = self.constants.changed(losing([group], _SHARES[1]))
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
        return connected(groups, joined)

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
        touched = {group.name: self._touched(group, changes[group.name]) for group in again}
        every = set[tuple[str, str]]().union(*touched.values())
        shared = [[name for name, slots in touched.items() if slot in slots] for slot in every]
        for bundle in connected(again, shared):
            for attempt in (bundle, self._outermost(bundle)):
                if len(attempt) > 1 and not self._fails_alone(attempt):
                    good.append(attempt)
                    break
        return good if not self._fails(good) else self._together(good)

    def _together(self, bundles: Sequence[Bundle]) -> list[Bundle]:
        """Those that work although others before them are taken out too."""
        good: list[Bundle] = []
        for bundle in bundles:
            reason = self._fails([*good, bundle])
            if reason:
                self.reasons.update({group.name: f"not together with other groups: {reason}" for group in bundle})
            else:
                good.append(bundle)
        return good

    def _divides(self, bundle: Bundle) -> bool:
        sizes = [group.size for group in bundle]
        if math.gcd(*sizes) > 1:
            return True
        told = f"tied by one attribute, but sizes {', '.join(map(str, sizes))} have no common divisor"
        self.reasons.update({group.name: told for group in bundle})
        return False

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
            failed = ""
            for bundle in alike:
                reason = failed or self._fails_alone(bundle)
                failed = reason
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
            keep: dict[Prime, Mask] = {}
            for bundle in listed:
                share = float(generator.uniform(0.2, 0.6))
                keep.update(losing(bundle, share, generator))
            found = self._tried(keep)
            if not found.ok:
                return found.reason
        return ""

    def _fails_alone(self, bundle: Bundle) -> str:
        for share in _SHARES:
            keep = losing(bundle, share, np.random.default_rng(0))
            found = self._tried(keep)
            if not found.ok:
                return found.reason
        return ""

    def _tried(self, keep: Keep) -> Trial:
        return trial(self.module, self.graph, self.analysis, keep, self.batches, self._links())

    def _touched(self, group: Group, changed: Collection[Constant]) -> set[tuple[str, str]]:
        """Attributes that would change with the group."""
        keep, slots = losing([group], _SHARES[1]), self._links().slots
        found = trial(self.module, self.graph, self.analysis, keep, (), Links(self.constants, {}))
        own = {(path, name) for path, name, _ in found.edits}
        return own | {(slot.path, slot.name) for slot, each in slots.items() if not set(changed).isdisjoint(each)}

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
            told = [written_out(self.module, each) for each in links.loose(changes[group.name])]
            scaled = self.constants.pins(losing([group], _SHARES[1]))
            if scaled is not None:
                told.append(f"{scaled or 'the model'} leaves it to torch to scale its attention by the width of a head")
            self.reasons[group.name] = "; ".join(dict.fromkeys([reason, *filter(None, told)]))
