"""The logarithm of expected improvement, which stays informative where the improvement itself rounds to 0.

Ament et al., NeurIPS 2023, "Unexpected improvements to expected improvement", eq. 8 to 11.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import erfcx, ndtr

Array = NDArray[np.float64]

_HALF_LOG_2PI = 0.5 * np.log(2.0 * np.pi)


def log_expected_improvement(mean: Array, deviation: Array, best: float) -> Array:
    """log E[max(best - f, 0)] for f normal, (N,); lower values of f are better."""
    z = (best - mean) / deviation
    return log_h(z) + np.log(deviation)


def log_h(z: Array) -> Array:
    """log(phi(z) + z Phi(z)), for any z."""
    z = np.asarray(z, dtype=np.float64)
    out = np.empty_like(z)
    usual = z > -1.0
    safe = z[usual]
    out[usual] = np.log(np.exp(-0.5 * safe * safe - _HALF_LOG_2PI) + safe * ndtr(safe))
    low = z[~usual]
    # phi + z Phi = phi (1 + z Phi / phi); Phi(z) / phi(z) = sqrt(pi / 2) erfcx(-z / sqrt 2)
    ratio = np.maximum(1.0 + low * np.sqrt(0.5 * np.pi) * erfcx(-low / np.sqrt(2.0)), 1e-300)
    far = low < -1e4  # there 1 + z Phi / phi is 1 / z² to all digits
    logs = np.where(far, -2.0 * np.log(np.maximum(-low, 1.0)), np.log(ratio))
    out[~usual] = -0.5 * low * low - _HALF_LOG_2PI + logs
    return out
