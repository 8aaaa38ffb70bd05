"""What becomes of a study's trials: every change an event of its log, and its history what the events leave."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

from modelopt_cli.core.conditions import Condition, Goal
from modelopt_cli.core.errors import InputError, UsageError
from modelopt_cli.tuning.objective import StepReport
from modelopt_cli.tuning.schedulers import Decision, SchedulerContext, plain
from modelopt_cli.tuning.space.space import Space
from modelopt_cli.tuning.study.events import NO_TRIAL, History
from modelopt_cli.tuning.study.store import Store
from modelopt_cli.tuning.trials.evaluator import ObjectiveEvaluator, Result
from modelopt_cli.tuning.trials.trial import State, Trial


class TrialLog:
    """The part of a study that takes note. A context manager: leaving it lets go of the file."""

    def __init__(self, space: Space, evaluator: ObjectiveEvaluator, store: Store, history: History) -> None:
        """`history`: what the events of `store` have left."""
        self.space, self._evaluator, self._store, self._history = space, evaluator, store, history
        self._trials = history.trials  # that very list
        self._seen = {space.canonical(trial.params) for trial in self._trials}

    @property
    def goals(self) -> tuple[Goal, ...]:
        """The objectives."""
        return self._evaluator.goals

    @property
    def constraints(self) -> tuple[Condition, ...]:
        """The constraints."""
        return self._evaluator.constraints

    @property
    def trials(self) -> tuple[Trial, ...]:
        """All trials, in order of number."""
        return tuple(self._trials)

    def report(self, trial: Trial | int, step: int, metrics: Mapping[str, float] | float) -> Trial:
        """Add a point to a running trial's curve: what its metrics are after `step` steps."""
        return self.report_many(trial, [(step, self._evaluator.metrics(metrics))])

    def report_many(self, trial: Trial | int, reports: Sequence[StepReport], total: int | None = None) -> Trial:
        """Several points at once. `total`: the steps of a complete run, where they are known."""
        number = self._expect(trial, State.RUNNING)
        points = []
        for step, metrics in reports:
            if step < 0 or step != int(step):
                raise UsageError(f"trial {number} reported step {step!r}, but steps are whole and not negative")
            plain = self._evaluator.metrics(metrics)
            points.append((int(step), plain, self._evaluator.losses(plain)))
        known = {} if total is None or total == self._trials[number].total else {"total": total}
        return self._record("reported", number, {"points": points, **known}, commit=False)

    def pause(self, trial: Trial | int) -> Trial:
        """Mark a running trial as paused; `resume` marks it as running again."""
        return self._record("paused", self._expect(trial, State.RUNNING), {})

    def resume(self, trial: Trial | int) -> Trial:
        """Mark a paused trial as running again; its curve goes on."""
        return self._record("started", self._expect(trial, State.PAUSED), {})

    def requeue(self, trial: Trial | int | None = None) -> None:
        """Let a trial that is under way be asked for again, first, and run from the start.

        None: all that run; one that was paused before is paused again, as it was then.
        """
        if trial is not None:
            self._record("requeued", self._expect(trial, State.RUNNING, State.PAUSED), {})
            return
        for each in [each for each in self._trials if each.state is State.RUNNING]:
            self._record("suspended" if each.kept or each.parent is not None else "requeued", each.number, {})

    def tell(
        self,
        trial: Trial | int,
        result: Result,
        *,
        stopped: str = "",
        seconds: float = 0.0,
        counts: bool = True,
        total: int | None = None,
    ) -> Trial:
        """End a trial with its value (one objective), its metrics, or the exception it failed with.

        A failure of a certain kind: `TrialError("timeout", "took too long")`. `stopped`: why it was ended early; with
        `counts` False what it tells, of a part of the folds or of the data, is no candidate for the best. `total`: the
        steps of a complete run, where they are known by now. A value that is NaN or infinite, or metrics without the
        objective, make the trial a failed one. Raises UsageError for a trial that is not under way.
        """
        number = self._expect(trial, State.RUNNING, State.PAUSED)
        verdict = self._evaluator.verdict(result, stopped, seconds)
        known = {} if total is None or total == self._trials[number].total else {"total": total}
        return self._record("told", number, {**verdict, **({} if counts else {"losses": None}), **known})

    def note(self, context: SchedulerContext, decisions: Sequence[Decision]) -> None:
        """Keep what a scheduler was asked and what it decided, so that `modelopt replay` can ask it again."""
        if decisions:
            asked = {name: getattr(context, name) for name in ("slots", "left", "planned", "ending")}
            if context.open_ended:
                asked |= {"open_ended": True, "told": context.told, "committed": context.committed}
            payload = {"waiting": list(context.waiting), **asked, "decisions": plain(decisions)}
            self._store.append("decided", NO_TRIAL, payload, commit=False)

    def follow(self, kind: str, number: int, payload: dict[str, Any]) -> None:
        """Take over an event of another study's log, unasked. Raises ValueError when it makes no sense here."""
        try:
            problem = self.space.problem(payload["params"]) if kind == "queued" else None
            if problem is None:
                self._record(kind, number, payload, commit=False)
        except (LookupError, TypeError, AttributeError) as error:
            raise ValueError(f"{type(error).__name__}: {error}") from None
        if problem is not None:
            raise ValueError(problem)

    def close(self) -> None:
        """Let go of the file."""
        self._store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _expect(self, trial: Trial | int, *states: State) -> int:
        number = trial.number if isinstance(trial, Trial) else trial
        if not 0 <= number < len(self._trials):
            raise UsageError(f"there is no trial {number}; the study has {len(self._trials)}")
        state = self._trials[number].state
        if state not in states:
            raise UsageError(f"trial {number} is {state}, but must be {' or '.join(states)}; ask for a new one")
        return number

    def _record(self, kind: str, number: int, payload: dict[str, Any], *, commit: bool = True) -> Trial:
        try:
            written = self._store.append(kind, number, payload, commit=commit)
        except TypeError as error:
            text = "use plain numbers, text, booleans, null, lists or mappings"
            raise InputError(f"trial {number}: {error}; {text}") from None
        self._history.apply(kind, number, written)
        if kind == "queued":
            self._seen.add(self.space.canonical(self._trials[number].params))
        return self._trials[number]
