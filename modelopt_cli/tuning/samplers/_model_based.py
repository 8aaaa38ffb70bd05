"""Model-based suggestion: a space-filling start, then the best point of an acquisition function on a surrogate.

The search over the cube works on snapped codes (see _features.py), many at a time: random points and neighbours of the
best trials, then rounds of neighbours of the most promising ones. So it needs no gradient, and serves mixed and
conditional spaces and trees as well as processes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from modelopt_cli.tuning.samplers._features import Features
from modelopt_cli.tuning.samplers._history import History, read
from modelopt_cli.tuning.samplers._neighbours import best_first, climbed, near
from modelopt_cli.tuning.samplers._surrogates import Acquisition, Fitted, Prediction, Surrogate, fit, merit
from modelopt_cli.tuning.samplers._untried import Design, Untried, design, endless, sequence_seed
from modelopt_cli.tuning.space.space import Space
from modelopt_cli.tuning.trials.trial import Params, Trial

_CANDIDATES = 1000  # random points of the cube
_NEIGHBOURS = 300  # of the best trials, and again in each round
_WIDTHS = (0.1, 0.03, 0.01)  # of the rounds; trees are flat in the small, and one round does


@dataclass(frozen=True)
class Plan:
    """How a model-based sampler suggests. `points`: most trials that the surrogate is fitted to."""

    surrogate: Surrogate
    acquisition: Acquisition
    initial_points: int
    initial_design: Design
    xi: float
    kappa: float
    noise: bool
    points: int


def suggest(plan: Plan, space: Space, trials: Sequence[Trial], rng: np.random.Generator, n: int) -> list[Params]:
    """`n` settings; see Sampler.suggest. Each counts as tried, with the predicted loss, for the ones after it."""
    new = Untried(space, trials)
    seed = sequence_seed(trials, rng)
    start = max(min(plan.initial_points - len(trials), n), 0)
    stop = len(trials) + start
    found = new.take(design(plan.initial_design, space, seed, len(trials), stop, plan.initial_points), start)
    if len(found) < n:
        found += _by_model(plan, space, trials, new, found, rng, n - len(found))
    draws = endless("sobol", space, seed, len(trials) + len(found))
    return found + new.fill(draws, n - len(found), rng)


def _by_model(
    plan: Plan,
    space: Space,
    trials: Sequence[Trial],
    new: Untried,
    found: list[Params],
    rng: np.random.Generator,
    n: int,
) -> list[Params]:
    """`n` settings that a surrogate finds promising; none when there is nothing to learn from yet."""
    search: _Search | None = None
    suggested: list[Params] = []
    for _ in range(n):
        if search is None or search.history.objectives > 1:  # several objectives: other weights for each suggestion
            history = read(trials, rng)
            if not history.informative:
                break
            seconds = _seconds(trials) if plan.acquisition == "eips" else None
            search = _Search(plan, space, history, [*found, *suggested], rng, seconds)
        best = new.take(search.promising(), 1)
        if not best:
            break
        suggested += best
        search.pretend(best)
    return suggested


class _Search:
    """A surrogate of one history, asked for promising points."""

    def __init__(
        self,
        plan: Plan,
        space: Space,
        history: History,
        also: list[Params],
        rng: np.random.Generator,
        seconds: np.ndarray | None = None,
    ) -> None:
        """`seconds` (N,): what each trial of the history took, NaN where unknown; None: nobody asks."""
        self.plan, self.space, self.history, self.rng = plan, space, history, rng
        self.features = Features(space)
        kept = _subset(history.y, plan.points, rng)
        self.u = np.stack([space.encode(history.params[i]) for i in kept])  # (N, dim)
        y = history.y[kept]
        self.y = (y - y.mean()) / (y.std() or 1.0)
        self.observed = len(kept)
        x = self.features.matrix(self.u)
        self.model: Fitted = fit(plan.surrogate, x, self.y, rng, noise=plan.noise)
        self.duration = None if seconds is None else _Duration.fitted(plan, x, seconds[kept], rng)
        self.pretend([*history.pending, *also])

    def pretend(self, under_way: Sequence[Params]) -> None:
        """Add settings under way, with their predicted losses ("Kriging believer", Ginsbourger et al. 2010)."""
        if not under_way:
            return
        u = np.stack([self.space.encode(params) for params in under_way])
        mean, _ = self.model.predict(self.features.matrix(u))
        self.u, self.y = np.concatenate([self.u, u]), np.concatenate([self.y, mean])
        self.model = self.model.with_points(self.features.matrix(self.u), self.y)

    def promising(self) -> Iterator[Params]:
        """Settings by descending merit, those that lie next to a trial last."""
        acquisition = self._portfolio() if self.plan.acquisition == "hedge" else self.plan.acquisition
        u, value = self._climb(acquisition)
        return map(self.space.decode, best_first(u, value, self.u))

    def _portfolio(self) -> str:
        """One of ei, pi and lcb, the likelier the lower the loss predicted for its favourite point.

        GP-Hedge (Hoffman, Brochu & de Freitas 2011) with the gains of this suggestion only: a sampler keeps no state.
        """
        names = ("ei", "pi", "lcb")
        favourites = [u[np.argmax(value)] for u, value in map(self._climb, names)]
        mean, _ = self.model.predict(self.features.matrix(np.stack(favourites)))
        weights = np.exp(-(mean - mean.min()))
        return str(self.rng.choice(names, p=weights / weights.sum()))

    def _climb(self, acquisition: str) -> tuple[np.ndarray, np.ndarray]:
        """Snapped codes (M, dim) and their merit (M,)."""
        leaders = self.u[np.argsort(self.y, kind="stable")[:5]]
        points = [self.rng.random((_CANDIDATES, self.space.dim)), near(leaders, 0.15, _NEIGHBOURS, self.rng)]
        widths = _WIDTHS if self.plan.surrogate == "gp" else _WIDTHS[1:2]
        merit_of = partial(self._merit, acquisition=acquisition)
        return climbed(np.concatenate(points), self.features.snap, merit_of, widths, _NEIGHBOURS, self.rng, self.space)

    def _merit(self, u: np.ndarray, acquisition: str) -> np.ndarray:
        x = self.features.matrix(u)
        prediction, best = self.model.predict(x), float(self.y[: self.observed].min())
        duration = self.duration.predict(x) if self.duration is not None else None
        return merit(acquisition, prediction, best, self.plan.xi, self.plan.kappa, duration)


@dataclass(frozen=True)
class _Duration:
    """A surrogate of the logarithm of the seconds that a trial takes."""

    model: Fitted
    mean: float
    scale: float

    @classmethod
    def fitted(cls, plan: Plan, x: np.ndarray, seconds: np.ndarray, rng: np.random.Generator) -> _Duration | None:
        """None when there is no difference to learn from."""
        known = np.isfinite(seconds)
        logs = np.log(seconds[known])
        if len(logs) < 2 or np.ptp(logs) <= 0:
            return None
        mean, scale = float(logs.mean()), float(logs.std())
        return cls(fit(plan.surrogate, x[known], (logs - mean) / scale, rng, noise=plan.noise), mean, scale)

    def predict(self, x: np.ndarray) -> Prediction:
        """Mean and standard deviation of log seconds, (M,) each."""
        mean, deviation = self.model.predict(x)
        return self.mean + self.scale * mean, self.scale * deviation


def _seconds(trials: Sequence[Trial]) -> np.ndarray:
    """(N,) of the finished trials; NaN where it is not known, and of failures, whose time says little."""
    finished = [trial for trial in trials if trial.state.finished]
    known = [trial.seconds if trial.seconds > 0 and trial.state != "failed" else np.nan for trial in finished]
    return np.array(known, dtype=float)


def _subset(y: np.ndarray, limit: int, rng: np.random.Generator) -> np.ndarray:
    """At most `limit` indices: the best third, the newest third, and of the others a random rest."""
    if len(y) <= limit:
        return np.arange(len(y))
    third = limit // 3
    kept = set(np.argsort(y, kind="stable")[:third].tolist()) | set(range(len(y) - third, len(y)))
    others = np.array([index for index in range(len(y)) if index not in kept])
    return np.array(sorted([*kept, *rng.choice(others, limit - len(kept), replace=False).tolist()]))
