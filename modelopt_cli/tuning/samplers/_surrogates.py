"""scikit-optimize's surrogates and acquisition functions, made to work with today's numpy and scikit-learn.

scikit-optimize 0.10.2 is used by its parts, because its Optimizer refits on every tell, keeps state, forgets what it
has suggested, and builds spaces on removed numpy aliases. What is mended here: the quantile booster's prediction calls
numpy.in1d (gone), the process's standard deviation is computed without BLAS, and its hyperparameter fit cannot be
bounded in time. Targets are standardised before they come here, so xi and kappa are in standard deviations.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, Literal

import numpy as np

Surrogate = Literal["gp", "forest", "extra_trees", "gbrt"]
Acquisition = Literal["ei", "pi", "lcb", "hedge", "eips"]
Prediction = tuple[np.ndarray, np.ndarray]  # mean (N,), standard deviation (N,)

NOISE = (1e-6, 1.0)  # bounds of the noise variance, in units of the targets' variance
LENGTH = (0.05, 20.0)  # bounds of the length scales, in units of a parameter's whole range


class Fitted:
    """A surrogate fitted to features (N, columns) and standardised targets (N,)."""

    def __init__(self, model: Any, kind: Surrogate) -> None:
        self.model = model
        self.kind = kind

    def predict(self, x: np.ndarray) -> Prediction:
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

    def with_points(self, x: np.ndarray, y: np.ndarray) -> Fitted:
        """The same surrogate on other data; a process keeps its hyperparameters."""
        if self.kind != "gp":
            return Fitted(_quietly(self.model.fit, x, y), self.kind)
        from skopt.learning import GaussianProcessRegressor

        model = GaussianProcessRegressor(_with_noise(self.model), optimizer=None, noise=None, alpha=1e-10)
        return Fitted(_silence_noise(_quietly(model.fit, x, y)), "gp")


def fit(kind: Surrogate, x: np.ndarray, y: np.ndarray, rng: np.random.Generator, *, noise: bool) -> Fitted:
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


def _fit_process(x: np.ndarray, y: np.ndarray, state: int, *, noise: bool) -> Fitted:
    """A Gaussian process: constant x Matern 5/2 with a length scale a column (+ white noise)."""
    from skopt.learning import GaussianProcessRegressor
    from skopt.learning.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

    columns = x.shape[1]
    matern = Matern(np.ones(columns), [LENGTH] * columns, nu=2.5)
    kernel = ConstantKernel(1.0, (0.05, 50.0)) * matern
    kernel = kernel + WhiteKernel(1e-2 if noise else NOISE[0], NOISE if noise else "fixed")
    model = GaussianProcessRegressor(kernel, optimizer=_optimize, alpha=1e-10, random_state=state)
    return Fitted(_silence_noise(_quietly(model.fit, x, y)), "gp")


def _optimize(objective: Any, theta: np.ndarray, bounds: np.ndarray) -> tuple[np.ndarray, float]:
    """Maximum likelihood by L-BFGS-B in at most 40 iterations."""
    from scipy.optimize import minimize

    found = minimize(objective, theta, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 40})
    return found.x, float(found.fun)


def _silence_noise(model: Any) -> Any:
    """Leave the noise out of predictions (it stays in the factor L_): the function is asked for, not a measurement."""
    model.noise_level_ = model.kernel_.k2.noise_level
    model.kernel_.k2.set_params(noise_level=0.0)
    return model


def _with_noise(model: Any) -> Any:
    from sklearn.base import clone

    return clone(model.kernel_).set_params(k2__noise_level=model.noise_level_)


def _quietly(fit: Callable[..., Any], x: np.ndarray, y: np.ndarray) -> Any:
    """Fit without the known warnings: length scales at their bounds, the iteration limit, deprecated calls."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="skopt")
        warnings.filterwarnings("ignore", module="sklearn")
        return fit(x, y)


class _Predicted:
    """Predictions already made, in the form in which scikit-optimize's acquisition functions ask for them."""

    def __init__(self, prediction: Prediction) -> None:
        self.prediction = prediction

    def predict(self, x: np.ndarray, return_std: bool = True) -> Prediction:
        return self.prediction


def merit(
    acquisition: str, prediction: Prediction, best: float, xi: float, kappa: float, duration: Prediction | None = None
) -> np.ndarray:
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


def _speed(duration: Prediction) -> np.ndarray:
    """E[1 / seconds], (N,), for normal log seconds; relative to the fastest, so that none overflows."""
    mean, deviation = duration
    exponent = 0.5 * deviation**2 - mean
    return np.asarray(np.exp(exponent - exponent.max()))
