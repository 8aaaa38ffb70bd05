"""scikit-optimize's surrogates and acquisition functions, and the suggestions of `skopt` by them.

scikit-optimize 0.10.2 is used by its parts, because its Optimizer refits on every tell, keeps state, forgets what it
has suggested, and builds spaces on removed numpy aliases. What is mended here: the quantile booster's prediction calls
numpy.in1d (gone), the process's standard deviation is computed without BLAS, and its hyperparameter fit cannot be
bounded in time. Targets are standardised before they come here, so xi and kappa are in standard deviations.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from modelopt_cli.tuning.samplers._common.encoding import Encoding, encoded
from modelopt_cli.tuning.samplers._common.history import History, joined, read, standard
from modelopt_cli.tuning.samplers._common.neighbours import best_first, climbed, near
from modelopt_cli.tuning.samplers._common.untried import Design, Untried, design, endless, sequence_seed
from modelopt_cli.tuning.space.space import Space
from modelopt_cli.tuning.trials.trial import Params, Trial

Array = NDArray[np.float64]
Surrogate = Literal["gp", "forest", "extra_trees", "gbrt"]
Acquisition = Literal["ei", "pi", "lcb", "hedge", "eips"]
Prediction = tuple[Array, Array]  # mean (N,), standard deviation (N,)

_CANDIDATES = 1000  # random points of the cube
_NEIGHBOURS = 300  # of the best trials, and again in each round
_WIDTHS = (0.1, 0.03, 0.01)  # of the rounds; trees are flat in the small, and one round does

NOISE = (1e-6, 1.0)  # bounds of the noise variance, in units of the targets' variance
LENGTH = (0.05, 20.0)  # bounds of the length scales, in units of a parameter's whole range


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
    suggested = new.take(design(plan.initial_design, space, seed, len(trials), stop, plan.initial_points), start)
    if len(suggested) < n:
        suggested += _by_model(plan, space, trials, new, suggested, rng, n - len(suggested))
    draws = endless("sobol", space, seed, len(trials) + len(suggested))
    return suggested + new.fill(draws, n - len(suggested), rng)


def _by_model(
    plan: Plan,
    space: Space,
    trials: Sequence[Trial],
    new: Untried,
    initial: list[Params],
    rng: np.random.Generator,
    n: int,
) -> list[Params]:
    """`n` settings beside `initial`, that a surrogate finds promising; none while there is nothing to learn from."""
    search: _Search | None = None
    suggested: list[Params] = []
    for _ in range(n):
        if search is None or search.history.objectives > 1:  # several objectives: other weights for each suggestion
            history = read(trials, rng)
            if not history.informative:
                break
            seconds = _seconds(trials) if plan.acquisition == "eips" else None
            search = _Search(plan, space, history, [*initial, *suggested], rng, seconds)
        best = new.take(search.promising(), 1)
        if not best:
            break
        suggested += best
        search.fantasize(best)
    return suggested


class _Search:
    """A surrogate of one history, asked for promising points."""

    def __init__(
        self,
        plan: Plan,
        space: Space,
        history: History,
        suggested: list[Params],
        rng: np.random.Generator,
        seconds: Array | None = None,
    ) -> None:
        """`seconds` (N,): what each trial of the history took, NaN where unknown; None: nobody asks."""
        self.plan, self.space, self.history, self.rng = plan, space, history, rng
        self.encoding = Encoding(space)
        kept = subset(history.y, plan.points, rng)
        self.codes = encoded(space, [history.params[i] for i in kept])  # (N, dim)
        self.y = standard(history.y[kept])
        self.observed = len(kept)
        x = features(space, self.codes)
        self.model: Fitted = fit(plan.surrogate, x, self.y, rng, noise=plan.noise)
        self.duration = None if seconds is None else _Duration.fitted(plan, x, seconds[kept], rng)
        self.fantasize([*history.pending, *suggested])

    def fantasize(self, under_way: Sequence[Params]) -> None:
        """Add settings under way, with their predicted losses ("Kriging believer", Ginsbourger et al. 2010)."""
        if not under_way:
            return
        codes = np.stack([self.space.encode(params) for params in under_way])
        mean, _ = self.model.predict(features(self.space, codes))
        self.codes, self.y = np.concatenate([self.codes, codes]), np.concatenate([self.y, mean])
        self.model = self.model.with_points(features(self.space, self.codes), self.y)

    def promising(self) -> Iterator[Params]:
        """Settings by descending merit, those that lie next to a trial last."""
        acquisition = self._portfolio() if self.plan.acquisition == "hedge" else self.plan.acquisition
        codes, merit = self._climb(acquisition)
        return map(self.space.decode, best_first(codes, merit, self.codes))

    def _portfolio(self) -> str:
        """One of ei, pi and lcb, the likelier the lower the loss predicted for its favourite point.

        GP-Hedge (Hoffman, Brochu & de Freitas 2011) with the gains of this suggestion only: a sampler keeps no state.
        """
        names = ("ei", "pi", "lcb")
        favourites = [codes[np.argmax(merit)] for codes, merit in map(self._climb, names)]
        mean, _ = self.model.predict(features(self.space, np.stack(favourites)))
        weights = np.exp(-(mean - mean.min()))
        return str(self.rng.choice(names, p=weights / weights.sum()))

    def _climb(self, acquisition: str) -> tuple[Array, Array]:
        """Snapped codes (M, dim) and their merit (M,)."""
        leaders = self.codes[np.argsort(self.y, kind="stable")[:5]]
        points = [self.rng.random((_CANDIDATES, self.space.dim)), near(leaders, 0.15, _NEIGHBOURS, self.rng)]
        widths = _WIDTHS if self.plan.surrogate == "gp" else _WIDTHS[1:2]
        merit_of = partial(self._merit, acquisition=acquisition)
        return climbed(np.concatenate(points), self.encoding.snap, merit_of, widths, _NEIGHBOURS, self.rng, self.space)

    def _merit(self, codes: Array, acquisition: str) -> Array:
        x = features(self.space, codes)
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
    def fitted(cls, plan: Plan, x: Array, seconds: Array, rng: np.random.Generator) -> _Duration | None:
        """None when there is no difference to learn from."""
        known = np.isfinite(seconds)
        logs = np.log(seconds[known])
        if len(logs) < 2 or np.ptp(logs) <= 0:
            return None
        mean, scale = float(logs.mean()), float(logs.std())
        return cls(fit(plan.surrogate, x[known], (logs - mean) / scale, rng, noise=plan.noise), mean, scale)

    def predict(self, x: Array) -> Prediction:
        """Mean and standard deviation of log seconds, (M,) each."""
        mean, deviation = self.model.predict(x)
        return self.mean + self.scale * mean, self.scale * deviation


def _seconds(trials: Sequence[Trial]) -> Array:
    """(N,) of the finished trials; NaN where it is not known, and of failures, whose time says little."""
    finished = [trial for trial in trials if trial.state.finished]
    known = [trial.seconds if trial.seconds > 0 and trial.state != "failed" else np.nan for trial in finished]
    return np.array(known, dtype=float)


def features(space: Space, codes: Array) -> Array:
    """Features (N, columns) of snapped codes (N, dim).

    The code itself, 1/2 where the parameter does not count; for an unordered choice one column a value, 1/sqrt(2) or 0,
    so that two values lie at distance 1.
    """
    columns: list[Array] = []
    for j, parameter in enumerate(space.parameters):
        code = codes[:, j]
        if parameter.ordered:
            columns.append(np.where(np.isnan(code), 0.5, code))
        else:
            size = int(parameter.size)
            index = np.where(np.isnan(code), -1, np.floor(np.nan_to_num(code) * size))
            columns += [np.where(index == k, 0.5**0.5, 0.0) for k in range(size)]
    return np.stack(columns, axis=1)


def subset(targets: Array, most: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Indices of at most `most` trials to fit a surrogate to: the best third, the newest third, others by chance."""
    if len(targets) <= most:
        return np.arange(len(targets))
    third = most // 3
    newest = np.arange(len(targets) - third, len(targets))
    kept = np.union1d(np.argsort(targets, kind="stable")[:third], newest)
    return joined(kept, np.setdiff1d(np.arange(len(targets)), kept), most, rng)


class Fitted:
    """A surrogate fitted to features (N, columns) and standardised targets (N,)."""

    def __init__(self, model: Any, kind: Surrogate) -> None:
        self.model = model
        self.kind = kind

    def predict(self, x: Array) -> Prediction:
        """Mean and standard deviation of the function itself (without noise) at features (M, columns)."""
        if self.kind == "gbrt":
            low, mean, high = self.model.predict(x, return_quantiles=True).T  # 16%, 50%, 84%
            return mean, np.maximum((high - low) / 2.0, 0.0)
        if self.kind != "gp":
            mean, std = self.model.predict(x, return_std=True)
            return mean, std
        from scipy.linalg import solve_triangular

        cross = self.model.kernel_(x, self.model.X_train_)  # (M, N)
        half = solve_triangular(self.model.L_, cross.T, lower=True, check_finite=False)  # (N, M)
        variance = self.model.kernel_.diag(x) - np.einsum("nm,nm->m", half, half)
        return cross @ self.model.alpha_, np.sqrt(np.maximum(variance, 1e-12))

    def with_points(self, x: Array, y: Array) -> Fitted:
        """The same surrogate on other data; a process keeps its hyperparameters."""
        if self.kind != "gp":
            return Fitted(_quietly(self.model.fit, x, y), self.kind)
        from skopt.learning import GaussianProcessRegressor

        model = GaussianProcessRegressor(_with_noise(self.model), optimizer=None, noise=None, alpha=1e-10)
        return Fitted(_silence_noise(_quietly(model.fit, x, y)), "gp")


def fit(kind: Surrogate, x: Array, y: Array, rng: np.random.Generator, *, noise: bool) -> Fitted:
    """Fit a surrogate of `kind`."""
    state = int(rng.integers(2**31))
    if kind == "gp":
        return _fit_process(x, y, state, noise=noise)
    return Fitted(_quietly(_trees(kind, state).fit, x, y), kind)


def _trees(kind: Surrogate, state: int) -> Any:
    from skopt.learning import ExtraTreesRegressor, GradientBoostingQuantileRegressor, RandomForestRegressor

    if kind == "gbrt":
        from sklearn.ensemble import GradientBoostingRegressor

        base = GradientBoostingRegressor(n_estimators=30, loss="quantile")
        return GradientBoostingQuantileRegressor(base_estimator=base, random_state=state)
    forest = RandomForestRegressor if kind == "forest" else ExtraTreesRegressor
    return forest(n_estimators=100, min_samples_leaf=3, min_variance=1e-6, random_state=state)


def _fit_process(x: Array, y: Array, state: int, *, noise: bool) -> Fitted:
    """A Gaussian process: constant x Matern 5/2 with a length scale a column (+ white noise)."""
    from skopt.learning import GaussianProcessRegressor
    from skopt.learning.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

    columns = x.shape[1]
    matern = Matern(np.ones(columns), [LENGTH] * columns, nu=2.5)
    kernel = ConstantKernel(1.0, (0.05, 50.0)) * matern
    kernel = kernel + WhiteKernel(1e-2 if noise else NOISE[0], NOISE if noise else "fixed")
    model = GaussianProcessRegressor(kernel, optimizer=_optimize, alpha=1e-10, random_state=state)
    return Fitted(_silence_noise(_quietly(model.fit, x, y)), "gp")


def _optimize(objective: Any, theta: Array, bounds: Array) -> tuple[Array, float]:
    """Maximum likelihood by L-BFGS-B in at most 40 iterations."""
    from scipy.optimize import minimize

    optimum = minimize(objective, theta, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 40})
    return optimum.x, float(optimum.fun)


def _silence_noise(model: Any) -> Any:
    """Leave the noise out of predictions (it stays in the factor L_): the function is asked for, not a measurement."""
    model.noise_level_ = model.kernel_.k2.noise_level
    model.kernel_.k2.set_params(noise_level=0.0)
    return model


def _with_noise(model: Any) -> Any:
    from sklearn.base import clone

    return clone(model.kernel_).set_params(k2__noise_level=model.noise_level_)


def _quietly(fit: Callable[..., Any], x: Array, y: Array) -> Any:
    """Fit without the known warnings: length scales at their bounds, the iteration limit, deprecated calls."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="skopt")
        warnings.filterwarnings("ignore", module="sklearn")
        return fit(x, y)


class _Predicted:
    """Predictions already made, in the form in which scikit-optimize's acquisition functions ask for them."""

    def __init__(self, prediction: Prediction) -> None:
        self.prediction = prediction

    def predict(self, x: Array, return_std: bool = True) -> Prediction:
        return self.prediction


def merit(
    acquisition: str, prediction: Prediction, best: float, xi: float, kappa: float, duration: Prediction | None = None
) -> Array:
    """How promising each predicted point is, (N,): expected or probable improvement on `best`, or lower bound.

    `duration`: of the logarithm of a trial's seconds, by whose reciprocal's mean eips multiplies (Snoek et al., NIPS
    2012, section 3.2). Where the improvement underflows to zero everywhere, the lower bound decides.
    """
    from skopt.acquisition import gaussian_ei, gaussian_lcb, gaussian_pi

    x, model = np.empty((len(prediction[0]), 0)), _Predicted(prediction)
    if acquisition != "lcb":
        value = (gaussian_pi if acquisition == "pi" else gaussian_ei)(x, model, best, xi)
        if value.max() > 1e-12:
            return np.asarray(value if duration is None else value * _speed(duration))
    return np.asarray(-gaussian_lcb(x, model, kappa))


def _speed(duration: Prediction) -> Array:
    """E[1 / seconds], (N,), for normal log seconds; relative to the fastest, so that none overflows."""
    mean, deviation = duration
    exponent = 0.5 * deviation**2 - mean
    return np.asarray(np.exp(exponent - exponent.max()))
