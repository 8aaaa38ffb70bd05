"""The course of the search: how much may go is bracketed first, then other ways of doing it are tried at the border.

Where a drop is allowed, a smaller share is asked for as long as the drop stays within it. With a target alone, the
largest share that meets it is the one, and ways of doing it are compared by what they leave of the accuracy. What comes
out is recovered for all its epochs and judged again; where its drop is too large by then, the next larger one is, and
where there is room, a smaller one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from modelopt_cli.workflows.compression.target.bracketing import LEAST, Border, largest_within, smallest
from modelopt_cli.workflows.compression.target.demands import MaxDrop, is_latency
from modelopt_cli.workflows.compression.target.settings import AS_BEGUN, Axis, Recovery, Setting
from modelopt_cli.workflows.compression.target.tries import FULL, Tries, Try

LEAST_TRIALS = 4
"""Fewer tries than this are no search."""
_NEAR = 0.7  # a full recovery allows somewhat less than a short one, so the next share to ask about is not far off
_LAST_STEP = 0.9  # a share that takes too long after all is followed by this part of it


@dataclass(frozen=True)
class Result:
    """`chosen` meets all demands; None: nothing does. Then `at_target` meets the target with the least drop,
    `within_drop` is the smallest whose drop is allowed, and `nearest` the one that came nearest where neither is.
    """

    chosen: Try | None = None
    at_target: Try | None = None
    within_drop: Try | None = None
    nearest: Try | None = None

    @property
    def told(self) -> Try | None:
        """The model that the report is about."""
        return self.chosen or self.within_drop or self.at_target or self.nearest

    @property
    def written(self) -> Mapping[str, Try]:
        """What is written: the model's name -> the try that it comes from."""
        if self.chosen is not None:
            return {"model": self.chosen}
        named = {"at_target": self.at_target, "within_drop": self.within_drop, "nearest": self.nearest}
        return {name: one for name, one in named.items() if one is not None}


class TargetSearch:
    """One search. It knows tries by their numbers only; what they are made of is theirs."""

    def __init__(self, tries: Tries, ways: Sequence[Axis], begun: Sequence[Setting] = (Setting(AS_BEGUN),)) -> None:
        """`ways`: what is tried besides the amount, in this order; `begun`: the first of these that can begins it."""
        self._begun = tuple(begun)
        self._way = self._begun[-1]  # the one that was able to
        self._tries, self._ways, self._demands = tries, ways, tries.demands
        self._dense = tries.given.metrics
        self._reserve = max(1, min(FULL, tries.left() // LEAST_TRIALS))

    def run(self) -> Result:
        """Search to the end. Raises Stopped where the user asked for one."""
        begun, whole = self._begun[-1], 1.0
        costs = given = self._tries.given.costs
        if self._tries.quantizes:
            alone = self._recovered("quantized alone", 1.0, begun, "none", final=True)
            if alone.form == "int8":
                self._tries.foresee(alone)
                costs = alone.costs
            if not self._demands.drops and self._meets(alone):
                return Result(chosen=alone)
        if not self._demands.met(costs, given):
            within: float | None = None
            for begun in self._begun:
                within = self._within_target("meets the target?", begun, self._first_share())
                if within is not None or not self._go_on():
                    break
            if within is None:
                return self._unreachable(begun)
            whole = within
        else:
            begun = self._able()
        self._way = begun
        if not self._demands.drops:
            return self._most_accurate(begun, whole)
        return self._smallest(begun, whole)

    def _able(self) -> Setting:
        """The first way of beginning by which a half can be made, and is smaller."""
        for begun in self._begun[:-1]:
            one = self._recovered("can it be done so?", 0.5, begun, "none")
            if one.made and one.ratio(self._demands.minimized) < 1.0:
                return begun
        return self._begun[-1]

    def _go_on(self) -> bool:
        """Whether there may be another try that only compares."""
        return self._tries.left(self._reserve) > 0

    def _train_on(self) -> bool:
        """Whether another model may be trained out."""
        return self._tries.left() > 0 and sum(one.final and one.share < 1.0 for one in self._tries.all) < FULL

    # A target

    @property
    def _whole(self) -> float:
        """What of the target's metric there is before anything is taken out; where models are quantized, after that."""
        assert self._demands.target is not None
        return self._tries.foreseen(self._tries.given.costs)[self._demands.target.metric]

    def _first_share(self) -> float:
        """What a target asks for, were the cost in proportion to what is left."""
        target = self._demands.target
        assert target is not None
        dense = self._tries.given.costs[target.metric]
        return max(LEAST, min(1.0, target.limit(dense) / self._whole))

    def _within_target(self, what: str, setting: Setting, first: float) -> float | None:
        """The largest share that meets the target, by models that are not recovered; None: none does."""
        target = self._demands.target
        assert target is not None
        limit = target.bound if target.share else 1.0  # in shares of the given model's, or of what is asked for

        def cost(share: float) -> float | None:
            one = self._tries.attempt(what, share, setting, "none")
            if not one.made:
                one.verdict = self._verdict(one)
                return None
            value = one.ratio(target.metric) if target.share else one.costs[target.metric] / target.bound
            met = target.met(one.costs[target.metric], one.beside[target.metric])
            one.verdict = f"target {'met' if met else 'missed'}"
            return min(value, limit) if met else max(value, limit * (1.0 + 1e-9))

        whole = self._whole / (self._tries.given.costs[target.metric] if target.share else target.bound)
        exact = not (is_latency(target.metric) or self._tries.quantizes)
        return largest_within(cost, limit, self._go_on, whole=whole, first=first, exact=exact)

    def _unreachable(self, setting: Setting) -> Result:
        """The smallest that could be made comes nearest; beside it the smallest whose drop is allowed."""
        made = [one for one in self._tries.all if one.made]
        if not made:
            return Result()
        least = min(made, key=lambda one: one.costs[self._demands.minimized])
        nearest = self._trained("nearest to the target", least.share, setting)
        if not self._demands.drops:
            return Result(nearest=nearest)
        within = nearest if self._fits(nearest) else self._within_drop(setting, Border(1.0, least.share))
        return Result(nearest=nearest, within_drop=within)

    def _most_accurate(self, setting: Setting, share: float) -> Result:
        """The ways of doing it compared at the target; the best one trained out."""
        best = self._recovered("at the target", share, setting, "short")
        for way in self._ways:
            best = min([best, *self._other_ways(way, best.setting, best.share)], key=self._by_accuracy)
        one, share = best, best.share
        for _ in range(FULL):
            one = self._trained("trained out", share, best.setting)
            if self._meets(one) or not self._tries.left():
                break
            share *= _LAST_STEP  # a time that was measured again
        if one.made and self._by_accuracy(one) > min(self._by_accuracy(best), self._raw(one)):
            one = min([one, *self._gentler(one)], key=self._by_accuracy)
        return Result(chosen=one) if self._meets(one) else Result(nearest=one if one.made else best)

    def _raw(self, one: Try) -> tuple[bool, float, float]:
        """`_by_accuracy` of the same model before it recovered."""
        return self._by_accuracy(replace(one, after={})) if one.before else (True, 0.0, 0.0)

    def _other_ways(self, way: Axis, setting: Setting, share: float) -> Iterator[Try]:
        """Tries of what the axis has, at the target."""
        for name, values in way.choices:
            if not self._go_on():
                return
            if setting.values.items() >= values.items():
                continue
            other, at = setting.also(name, values), share
            if way.resizes and self._demands.target is not None:
                fitting = self._within_target(f"{name} meets the target?", other, share)
                if fitting is None or not self._go_on():
                    continue
                at = fitting
            yield self._recovered(name, at, other, "short")

    def _by_accuracy(self, one: Try) -> tuple[bool, float, float]:
        """The order of models that are to be accurate: those that meet the target, then by drop, then by loss."""
        if not one.made:
            return True, 0.0, 0.0
        drop = MaxDrop(self._tries.given.main, 0.0).drop(one.metrics, self._dense)
        return not self._meets(one), round(drop, 9), one.metrics.get("validation.loss", 0.0)

    # A drop

    def _smallest(self, setting: Setting, most: float) -> Result:
        """The smallest whose drop is allowed, at most of the share `most`, which meets the target."""
        border = Border(1.0) if most == 1.0 else None
        if border is None:
            border = Border(most) if self._passes(most, setting, "short") else Border(1.0, most)
        if border.passing <= most:
            border = smallest(lambda share: self._passes(share, setting, "short"), border, self._go_on)
        way, varied = self._varied(setting, border)
        if varied != border:
            varied = smallest(lambda share: self._passes(share, way, "short"), varied, self._go_on)
        return self._trained_out(way, varied, most)

    def _passes(self, share: float, setting: Setting, recovery: Recovery) -> bool:
        """Whether the drop is allowed; without recovery, where that is enough to know it."""
        if recovery == "short":
            return self._fits(self._recovered("drop allowed?", share, setting, "short"))
        one = self._trained("trained out", share, setting)
        if not self._fits(one):
            one = next(filter(self._fits, self._gentler(one)), one)
        return self._fits(one)

    def _gentler(self, one: Try) -> Iterator[Try]:
        """The same model with less recovery or none, as far as that may do: long ones can make it worse."""
        for other in [each for each in self._tries.all if each.share == one.share and each.setting == one.setting]:
            if other.recovery == "short" and other.after and self._train_on():
                if not self._demands.drops or self._demands.allowed(other.after, self._dense):
                    yield self._recovered("recovered shortly", one.share, one.setting, "short", final=True)
                break
        if one.before and self._train_on() and self._demands.allowed(one.before, self._dense):
            yield self._recovered("as it was pruned", one.share, one.setting, "none", final=True)

    def _varied(self, setting: Setting, border: Border) -> tuple[Setting, Border]:
        """The best way of doing it, and the border by that.

        Ways are compared where the drop is just too large, since there it shows which is better; those by which models
        of one share cost differently, where it is allowed.
        """
        best = {one.share: one for one in self._tries.all if one.recovery == "short" and one.made}
        for way in self._ways:
            share = border.passing if way.resizes and border.passing < 1.0 else border.failing or border.passing
            for name, values in way.choices:
                if not self._go_on():
                    return setting, border
                if setting.values.items() >= values.items():
                    continue
                other = self._recovered(name, share, setting.also(name, values), "short")
                beside = best.get(other.share)
                if not other.made or (beside is not None and self._by_demands(other) >= self._by_demands(beside)):
                    continue
                best[other.share], setting = other, other.setting
                if self._fits(other) and other.share < border.passing:
                    border = Border(other.share)
        return setting, border

    def _by_demands(self, one: Try) -> tuple[bool, float, float]:
        """The order of models whose drop counts: by how far it goes too far, then by what they cost."""
        if not one.made:
            return True, 0.0, 0.0
        return False, self._demands.excess(one.metrics, self._dense), one.costs[self._demands.minimized]

    def _trained_out(self, setting: Setting, border: Border, most: float) -> Result:
        """What came of bracketing, recovered for all epochs and judged again."""

        def full(share: float) -> bool:
            return self._passes(share, setting, "full")

        begin = (border.passing if border.passing < 1.0 else border.failing) or border.between()
        if full(begin):
            smallest(full, Border(begin), self._train_on, step=_NEAR)
        elif begin < most:
            smallest(full, Border(most, begin), self._train_on)
            if self._chosen() is None and most < 1.0 and self._train_on():
                full(most)
        chosen = self._chosen()
        if chosen is not None:
            return Result(chosen=chosen)
        return self._missed(most)

    def _chosen(self) -> Try | None:
        """The smallest of those that are recovered for all epochs and meet all demands."""
        fitting = [one for one in self._tries.all if one.final and self._fits(one) and self._meets(one)]
        return min(fitting, key=lambda one: one.costs[self._demands.minimized], default=None)

    def _missed(self, most: float) -> Result:
        """Nothing meets all demands: which drop there is at the target, and which size within the drop."""
        final = [one for one in self._tries.all if one.final and one.made]
        if self._demands.target is None:
            return Result(nearest=min(final, key=self._by_demands, default=None))
        at_target = min(filter(self._meets, final), key=self._by_demands, default=None)
        above = at_target.share if at_target is not None else most
        within = None if above == 1.0 else self._within_drop(self._way, Border(1.0, above))
        if within is None:
            within = min(filter(self._fits, final), key=self._by_demands, default=None)
        nearest = None if at_target or within else min(final, key=self._by_demands, default=None)
        return Result(at_target=at_target, within_drop=within, nearest=nearest)

    def _within_drop(self, setting: Setting, border: Border) -> Try | None:
        """The smallest whose drop is allowed, whatever its size; None: none was made."""
        known = [one.share for one in self._smaller() if one.share > border.failing]
        border = Border(min([1.0, *known]), border.failing)
        border = smallest(lambda share: self._passes(share, setting, "short"), border, lambda: self._tries.left(1) > 0)
        while border.passing < 1.0 and self._tries.left():
            one = self._trained("trained out", border.passing, setting)
            if self._fits(one):
                return one
            border = Border((1.0 + border.passing) / 2.0, border.passing)
        return min(self._smaller(), key=self._by_demands, default=None)

    def _smaller(self) -> list[Try]:
        """All whose drop is allowed and that cost less than the given model."""
        return [one for one in self._tries.all if self._fits(one) and one.ratio(self._demands.minimized) < 1.0]

    # One try

    def _recovered(self, what: str, share: float, setting: Setting, recovery: Recovery, *, final: bool = False) -> Try:
        """A try with its verdict."""
        needed = bool(self._demands.drops) and what == "drop allowed?"
        one = self._tries.attempt(what, share, setting, recovery, if_needed=needed, final=final)
        one.verdict = self._verdict(one)
        return one

    def _trained(self, what: str, share: float, setting: Setting) -> Try:
        """A model that may be the one in the end."""
        return self._recovered(what, share, setting, "full", final=True)

    def _fits(self, one: Try) -> bool:
        """Whether there is such a model, and its drop is allowed."""
        return one.made and self._demands.allowed(one.metrics, self._dense)

    def _meets(self, one: Try) -> bool:
        """Whether there is such a model, and it meets the target."""
        return one.made and self._demands.met(one.costs, one.beside)

    def _verdict(self, one: Try) -> str:
        if not one.made:
            return f"cannot be made: {one.problem}"
        parts = []
        if self._demands.target is not None:
            parts.append("target met" if self._meets(one) else "target missed")
        for each in self._demands.drops:
            change = "rise" if each.lower_is_better else "drop"
            name = f" of {each.metric}" if len(self._demands.drops) > 1 else ""
            allowed = each.allowed(each.drop(one.metrics, self._dense))
            parts.append(f"{change}{name} {'allowed' if allowed else 'too large'}")
        return ", ".join(parts)
