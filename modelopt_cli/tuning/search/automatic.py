"""What `auto` takes for a search's stopper and scheduler, and why: by what its trials are like.

Each rule is a function of what is known beforehand, and answers for the case that it is about, or leaves it to the next
one. What was measured stands in docs/measurements.md; a rule that rests on it says so in its reason.

>>> choose_stopper(Workload("epochs", steps=20, trials=30)).value
'asha'
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from modelopt_cli.core.readable import plural, short_duration

__all__ = [
    "Choice",
    "Workload",
    "choose_scheduler",
    "choose_stopper",
    "ending_advice",
]

Reports = Literal["epochs", "folds", "sizes", "steps", "nothing"]

LEAST_STEPS = 3
"""Below that a trial that is ended early saves at most half of its steps, after a single look."""
LEAST_TRIALS = 5
"""Below that there is nobody to compare with: one in three goes on at a rung. (With 6 trials asha found the same best
in seven of eight searches; on LCBench schedulers were measured from five trainings on.)"""
MANY_TRIALS = 50
"""From there on a sampler that learns from complete trials was as good as the schedulers that were measured."""
QUICK = 0.01
"""Seconds: choosing a setting takes some twice as long, so that a trial which is ended early saves next to nothing."""
DECISION = 0.004
"""Seconds of a decision of freeze_thaw, of one objective."""
LONG_STEP = 0.2
"""Seconds of a step, for each worker, from which freeze_thaw is taken: each objective takes a decision's time, one
process decides for all workers, and where epochs took 20 ms, bohb needed fewer of them, too."""
LEAST_FOLDS = 5
"""Wilcoxon's test says nothing before the fourth fold, so that with four nothing is left to be saved."""

_TRAINING = "docs/measurements.md, real training"
_LCBENCH = "docs/measurements.md, LCBench"
_UNLEARNING = ("random", "sobol")
_NAMES: dict[str, str] = {"epochs": "epoch", "folds": "fold", "sizes": "size", "steps": "step"}


@dataclass(frozen=True)
class Workload:
    """What the trials of a search are like, as far as it is known before the first one.

    `reports`: what its trials report after (a script's may turn out to report nothing). `steps`: of a complete trial;
    None: a script's, known when the first has ended. `trials`: None: until the time is up. `timed`: there is such a
    time. `seconds`: of a whole trial; None: not known. `sampler`: its name, `exact` where it tries a list. `unfit`: why
    what trials report on their way says little of what they come to; empty: it says something. `repeats`: settings may
    be tried again.
    """

    reports: Reports
    steps: int | None = 1
    trials: int | None = None
    timed: bool = False
    seconds: float | None = None
    workers: int = 1
    sampler: str = "bayesian"
    exact: bool = False
    unfit: str = ""
    repeats: bool = False

    @property
    def step(self) -> str:
        """What a step is called."""
        return _NAMES.get(self.reports, "step")

    @property
    def named_steps(self) -> str:
        """`20 epochs`; of a script whose steps are not known, `steps`."""
        return "steps" if self.steps is None else plural(self.steps, self.step)


@dataclass(frozen=True)
class Choice:
    """What was taken. `value`: the strategy's name, None for none; `reason`: the end of a sentence that begins with it.

    `workers`: of an executor.
    """

    value: str | None
    reason: str
    workers: int = 1


_Rule = Callable[[Workload], "Choice | None"]


def choose_stopper(workload: Workload) -> Choice:
    """The stopper for such trials, or none."""
    return _first(workload, (*_SILENCE, _sized, *_NOT_WORTH_IT, _folds, _unmeasured, _few_steps, _unlearning), _asha)


def choose_scheduler(workload: Workload) -> Choice:
    """The scheduler for such trials, or none. pbt is never taken: what it finds is a schedule, not a setting."""
    rules = (
        *_SILENCE,
        _halved,
        _nothing_to_share,
        *_NOT_WORTH_IT,
        _averaged,
        _unshared,
        _few_steps,
        _repeated,
        _many_trials,
        _long_steps,
    )
    return _first(workload, rules, _bohb)


def _first(workload: Workload, rules: Sequence[_Rule], otherwise: Callable[[Workload], Choice]) -> Choice:
    """What the first rule says that is about such trials."""
    answers = (rule(workload) for rule in rules)
    return next((answer for answer in answers if answer is not None), None) or otherwise(workload)


# Trials that cannot be judged before their end


def _silent(workload: Workload) -> Choice | None:
    """An estimator without folds, or a training of one epoch."""
    if workload.reports == "nothing" or (workload.steps == 1 and workload.reports != "sizes"):
        return Choice(None, "a trial reports nothing before its end, so there is nothing to end it by")
    return None


def _misleading(workload: Workload) -> Choice | None:
    """What is reported is not what is looked for."""
    return Choice(None, workload.unfit) if workload.unfit else None


# Trials of which ending early saves too little


def _listed(workload: Workload) -> Choice | None:
    """Somebody wants all of a list."""
    if workload.exact:
        return Choice(None, f"{workload.sampler} is asked for every setting of a list, each to be compared at its end")
    return None


def _few_trials(workload: Workload) -> Choice | None:
    """Nobody to compare with."""
    if workload.trials is not None and workload.trials < LEAST_TRIALS:
        few = f"{plural(workload.trials, 'trial')} {'is' if workload.trials == 1 else 'are'} too few"
        return Choice(None, f"{few} to compare them on their way (from {LEAST_TRIALS} on)")
    return None


def _quick(workload: Workload) -> Choice | None:
    """Trials of milliseconds."""
    if workload.seconds is not None and workload.seconds < QUICK:
        return Choice(
            None,
            f"a whole trial takes {short_duration(workload.seconds)}, less than choosing its setting: next to nothing "
            "is saved",
        )
    return None


def _few_steps(workload: Workload) -> Choice | None:
    """A training of two epochs."""
    if workload.steps is not None and workload.steps < LEAST_STEPS:
        return Choice(None, f"{workload.named_steps} are too few to end a trial between (from {LEAST_STEPS} on)")
    return None


_SILENCE: tuple[_Rule, ...] = (_silent, _misleading)
_NOT_WORTH_IT: tuple[_Rule, ...] = (_listed, _few_trials, _quick)


# Stoppers


def _sized(workload: Workload) -> Choice | None:
    """`tuning.fidelity`, which makes no sense without a stopper."""
    if workload.reports != "sizes":
        return None
    return Choice(
        "asha",
        "a trial trains on growing parts of the data, and the best third goes on to the next size; at equal samples "
        "random search with it was never worse than without (docs/decisions.md, growing parts)",
    )


def _folds(workload: Workload) -> Choice | None:
    """Folds of a cross-validation."""
    if workload.reports != "folds":
        return None
    if workload.steps is not None and workload.steps < LEAST_FOLDS:
        return Choice(
            None,
            f"{workload.named_steps} are too few to test which setting is worse (wilcoxon, from {LEAST_FOLDS} on)",
        )
    return Choice(
        "wilcoxon",
        f"the steps are {workload.named_steps}, the same ones in every trial, which a test compares pair by pair with "
        "the best trial's; rungs such as asha's would take the luck of the first folds for a setting's worth",
    )


def _unmeasured(workload: Workload) -> Choice | None:
    """A script of which nobody has said how many steps it takes."""
    if workload.steps is not None:
        return None
    return Choice(
        "median",
        "the script's steps are not known before it has run (command.steps says them); median needs no such number, "
        "ends what is worse than half of the others at the same step, and does nothing where no step is reported",
    )


def _unlearning(workload: Workload) -> Choice | None:
    """Random search."""
    if workload.sampler not in _UNLEARNING:
        return None
    return Choice(
        "hyperband",
        f"trials report {workload.named_steps}, and {workload.sampler} does not learn from complete trials; random "
        f"search with hyperband had a regret of 0.18 after 50 full trainings' epochs, alone 0.25 ({_LCBENCH})",
    )


def _asha(workload: Workload) -> Choice:
    """What was measured with a sampler that learns."""
    return Choice(
        "asha",
        f"trials report {workload.named_steps}, and at {_rungs(workload.steps, workload.step)} the best third goes on; "
        f"with it bayesian came to an accuracy in 0.61 to 0.94 of random search's time ({_TRAINING})",
    )


def _rungs(steps: int | None, step: str) -> str:
    """`epochs 1, 3 and 9`."""
    rungs, rung = [], 1
    while steps is not None and rung < steps:
        rungs.append(rung)
        rung *= 3
    texts = [str(rung) for rung in rungs]
    if len(texts) > 1:
        return f"{step}s {', '.join(texts[:-1])} and {texts[-1]}"
    return f"{step} {''.join(texts)}"


# Schedulers


def _nothing_to_share(workload: Workload) -> Choice | None:
    """A search without a plan."""
    if workload.trials is None and not workload.timed:
        return Choice(None, "neither tuning.trials nor tuning.timeout says how many steps there are to share out")
    return None


def _halved(workload: Workload) -> Choice | None:
    """`tuning.fidelity`."""
    if workload.reports != "sizes":
        return None
    return Choice(
        "successive_halving",
        f"a trial trains on {workload.named_steps} of the data, too few to foretell a curve; at equal samples random "
        "search with successive halving was never worse than without (docs/decisions.md, growing parts)",
    )


def _averaged(workload: Workload) -> Choice | None:
    """Folds of a cross-validation."""
    if workload.reports != "folds":
        return None
    return Choice(
        None,
        "the steps are folds of a cross-validation, none of which says more than another; `stopper: auto` knows what "
        "compares folds",
    )


def _unshared(workload: Workload) -> Choice | None:
    """A script of which nobody has said how many steps it takes."""
    if workload.steps is not None:
        return None
    return Choice(
        None,
        "how many steps the script takes is not known before it has run; write command.steps, and they are shared out",
    )


def _repeated(workload: Workload) -> Choice | None:
    """`tuning.repeats`."""
    if workload.repeats:
        return Choice(None, "repeats tries settings again to their end, where a scheduler ends most of them early")
    return None


def _many_trials(workload: Workload) -> Choice | None:
    """Where a model of complete trials catches up."""
    if workload.trials is None or workload.trials < MANY_TRIALS or workload.sampler in _UNLEARNING:
        return None
    return Choice(
        None,
        f"with {workload.trials} complete trials to spend {workload.sampler} learns enough alone: after 50, bayesian "
        f"and freeze_thaw had the same regret, 0.03 ({_LCBENCH}); `stopper: auto` ends what promises little",
    )


def _long_steps(workload: Workload) -> Choice | None:
    """Where decisions cost next to nothing beside steps."""
    if workload.seconds is None or not workload.steps:
        return None
    step = workload.seconds / workload.steps
    if step < LONG_STEP * workload.workers:
        return None
    beside = f", {workload.workers} at a time" if workload.workers > 1 else ""
    return Choice(
        "freeze_thaw",
        f"{_one(workload.step)} takes {short_duration(step)}{beside}, beside which decisions of "
        f"{short_duration(DECISION)} count little; after 5 full trainings' epochs it "
        f"was where random search was after 50 ({_LCBENCH})",
    )


def _bohb(workload: Workload) -> Choice:
    """What was measured where steps are short."""
    if workload.seconds is None or not workload.steps:
        of = "of a length that is not known yet"
    else:
        of = f"of {short_duration(workload.seconds / workload.steps)}"
    beside = f", {workload.workers} trials at a time" if workload.workers > 1 else ""
    return Choice(
        "bohb",
        f"trials report {workload.named_steps} {of}{beside}; with short ones it came to an accuracy in 0.31 to 0.55 of "
        f"random search's time, freeze_thaw in 0.39 to 1.60 ({_TRAINING})",
    )


def _one(step: str) -> str:
    return f"an {step}" if step[0] in "aeiou" else f"a {step}"


# Where the file has chosen


def ending_advice(workload: Workload, stopper: str | None, scheduler: str | None) -> str:
    """What the rules would do otherwise than the file, in a line; empty: nothing that is worth saying.

    `stopper`, `scheduler`: as the file names them. What only differs in taste, as asha and median do, is left alone.
    """
    if scheduler is not None:
        return _about_scheduler(workload, scheduler)
    choice = choose_stopper(workload)
    if stopper is None:
        if choice.value is None:
            return ""
        return f"no stopper is set; `stopper: auto` would take {choice.value}: {choice.reason}"
    if choice.value is None:
        return f"the stopper {stopper} gains little here: {choice.reason}"
    if "wilcoxon" in (stopper, choice.value) and stopper != choice.value:
        return f"the stopper is {stopper}; `stopper: auto` would take {choice.value}: {choice.reason}"
    return ""


def _about_scheduler(workload: Workload, scheduler: str) -> str:
    choice = choose_scheduler(workload)
    if scheduler == "pbt" or choice.value == scheduler:  # pbt looks for a schedule, and says itself what it needs
        return ""
    if choice.value is None:
        return f"the scheduler {scheduler} gains little here: {choice.reason}"
    if scheduler == "freeze_thaw":
        return f"the scheduler is freeze_thaw; `scheduler: auto` would take {choice.value}: {choice.reason}"
    return ""
