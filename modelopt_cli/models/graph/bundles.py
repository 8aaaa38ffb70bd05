"""Which groups can be taken out of the module itself, and which of them only together, by the same share.

Every group is tried on a copy that is compared with the graph: first all at once, each losing another number of units;
where that fails, kind by kind and group by group. Sizes that come out of one attribute (the width of a head, of queries
and of values) tie their groups. Groups that fail alone and meet in one attribute, or in numbers of one size, are tried
tied; if that fails too, without those that are inner factors of others (heads x width: widths), for with both of them
their product shrinks by another share.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from modelopt_cli.core.errors import ModeloptError
from modelopt_cli.models.graph.analysis import Analysis
from modelopt_cli.models.graph.attributes import Links, Question, questions, written_out
from modelopt_cli.models.graph.axes import factors
from modelopt_cli.models.graph.capture import Captured
from modelopt_cli.models.graph.constants import Constant
from modelopt_cli.models.graph.groups import Group
from modelopt_cli.models.graph.ties import Bundle, connected, losing
from modelopt_cli.models.graph.trials import SHARES, Trials


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
    return _Finder(module, captured, analysis, captured.example if inputs is None else inputs).plan(groups)


class _Finder:
    def __init__(self, module: nn.Module, captured: Captured, analysis: Analysis, inputs: Tensor) -> None:
        self.analysis = analysis
        self.trials = Trials(module, captured, analysis, inputs)
        self.module, self.constants = self.trials.module, self.trials.constants
        self.answers: dict[Question, int] = {}
        self.reasons: dict[str, str] = {}

    def plan(self, groups: Sequence[Group]) -> InPlace:
        changes = self._changes(groups)
        writable = [group for group in groups if group.name not in self.reasons]
        influences: dict[Constant, set[str]] = {}
        for name, constants in changes.items():
            for constant in constants:
                influences.setdefault(constant, set()).add(name)
        fixed = {constant: frozenset(names) for constant, names in influences.items()}
        self.answers = dict.fromkeys(questions(self.module, fixed, self.trials.reads()), 0)
        bundles = self._tied(writable, fixed)
        if self.trials.fails(self._links(), bundles):
            self._ask(writable, fixed)
            bundles = self._working(self._tied(writable, fixed), changes)
        bundles = [bundle for bundle in bundles if self._divides(bundle)]
        good = tuple(group for bundle in bundles for group in bundle)
        ties = tuple(frozenset(group.name for group in bundle) for bundle in bundles if len(bundle) > 1)
        names = {group.name for group in good}
        refused = {group.name: self.reasons[group.name] for group in groups if group.name not in names}
        order = tuple(group for group in groups if group.name in names)
        return InPlace(order, refused, ties, self._links())

    def _changes(self, groups: Sequence[Group]) -> dict[str, dict[Constant, int]]:
        """Constants that change with each group alone."""
        changes: dict[str, dict[Constant, int]] = {}
        for group in groups:
            try:
                changes[group.name] = self.constants.changed(losing([group], SHARES[1]))
            except ModeloptError as error:
                self.reasons[group.name] = str(error)
        return changes

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
                tied = self._tied(groups, influences)
                if not self.trials.fails(self._links(), _with(tied, concerned)):
                    break
            else:
                self.answers.update(dict.fromkeys(alike, 0))

    def _working(self, bundles: Sequence[Bundle], changes: Mapping[str, Mapping[Constant, int]]) -> list[Bundle]:
        good, bad = self._sorted(bundles, changes)
        left = [group for bundle in bad for group in bundle]
        for meeting in (self._touched, self._sizes):
            for bundle in self._meeting(left, meeting, changes):
                for attempt in (bundle, self._outermost(bundle)):
                    if len(attempt) > 1 and not self.trials.fails_alone(self._links(), attempt):
                        good.append(attempt)
                        left = [group for group in left if group not in attempt]
                        break
        return good if not self.trials.fails(self._links(), good) else self._together(good)

    def _together(self, bundles: Sequence[Bundle]) -> list[Bundle]:
        """Those that work although others before them are taken out too."""
        good: list[Bundle] = []
        for bundle in bundles:
            reason = self.trials.fails(self._links(), [*good, bundle])
            if reason:
                self.reasons.update({group.name: f"not together with other groups: {reason}" for group in bundle})
            else:
                good.append(bundle)
        return good

    def _divides(self, bundle: Bundle) -> bool:
        sizes = [group.size for group in bundle]
        if math.gcd(*sizes) > 1:
            return True
        reason = f"tied by one attribute, but sizes {', '.join(map(str, sizes))} have no common divisor"
        self.reasons.update({group.name: reason for group in bundle})
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
            if len(alike) > 1 and not self.trials.fails(self._links(), alike):
                good += alike
                continue
            failed = ""
            for bundle in alike:
                reason = failed or self.trials.fails_alone(self._links(), bundle)
                failed = reason
                (bad if reason else good).append(bundle)
                if reason:
                    self._explain(bundle, changes, reason)
        return good, bad

    def _kind(self, bundle: Bundle, changes: Mapping[str, Mapping[Constant, int]]) -> object:
        """Equal for groups of the same layers of alike blocks: what they are called and what is written for them."""
        constants = [constant for group in bundle for constant in changes[group.name]]
        written = sorted(
            {(constant.operator, constant.position, constant.old, constant.line) for constant in constants}
        )
        return tuple(sorted(re.sub(r"\d+", "*", group.name) for group in bundle)), tuple(written)

    def _meeting(
        self,
        groups: Sequence[Group],
        meeting: Callable[[Group, Collection[Constant]], set[object]],
        changes: Mapping[str, Mapping[Constant, int]],
    ) -> list[Bundle]:
        """Bundles of groups that have something in common."""
        of_each = {group.name: meeting(group, changes[group.name]) for group in groups}
        every = set[object]().union(*of_each.values())
        return connected(groups, [[name for name, met in of_each.items() if each in met] for each in every])

    def _touched(self, group: Group, changed: Collection[Constant]) -> set[object]:
        """Attributes that would change with the group."""
        keep, slots = losing([group], SHARES[1]), self._links().slots
        own: set[object] = {(path, name) for path, name, _ in self.trials.operated(keep).edits}
        return own | {(slot.path, slot.name) for slot, each in slots.items() if not set(changed).isdisjoint(each)}

    def _sizes(self, group: Group, changed: Collection[Constant]) -> set[object]:
        """Its size, and the numbers in code that would change with it: they may be read off a shape that has it."""
        return {group.size, *(constant.old for constant in changed)}

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
            blamed = [written_out(self.module, each) for each in links.loose(changes[group.name])]
            scaled = self.constants.pins(losing([group], SHARES[1]))
            if scaled is not None:
                blamed.append(
                    f"{scaled or 'the model'} leaves it to torch to scale its attention by the width of a head"
                )
            self.reasons[group.name] = "; ".join(dict.fromkeys([reason, *filter(None, blamed)]))


def _with(bundles: Iterable[Bundle], names: Collection[str]) -> list[Bundle]:
    return [bundle for bundle in bundles if any(group.name in names for group in bundle)]
