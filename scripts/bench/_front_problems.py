"""Problems with several objectives or constraints, for search_fronts.py. Needs numpy alone; peers import it, too.

ZDT: Zitzler, Deb, Thiele 2000; DTLZ: Deb et al. 2002; C2-DTLZ2: Jain and Deb 2014; BNH: Binh and Korn 1997; toys:
Gramacy et al. 2016, section 4.1, and Gardner et al. 2014, section 4. All are minimised, on the unit cube. Digits:
validation error and parameters of scikit-learn's MLPClassifier on the bundled digits, 1,260 settings recorded once
(`search_fronts.py --record`).
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

TABLE = Path(__file__).with_name("_front_digits.json")
DIGITS: dict[str, list[Any]] = {
    "first": [4, 6, 8, 11, 16, 22, 32, 45, 64, 128],
    "second": [0, 8, 16, 32, 64, 128],
    "lr": [0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3],
    "epochs": [5, 15, 40],
}
_GARDNER = -1.88875136  # by SLSQP from the best place of a grid
Values = tuple[list[float], list[float]]  # objectives, and constraints that hold where they are at most 0


@dataclass(frozen=True)
class Problem:
    """`reference`: where the hypervolume is measured from; `ideal`: that of the best front known, or the least loss."""

    evaluate: Callable[[Mapping[str, Any]], Values]
    dimension: int  # 0: digits
    objectives: int
    reference: tuple[float, ...]
    ideal: float
    constraints: int = 0
    half: str = "chosen"  # on these problems variants were chosen; "kept" ones were looked at afterwards


def _on_cube(function: Callable[[np.ndarray], Any], dimension: int) -> Callable[[Mapping[str, Any]], Values]:
    def evaluate(setting: Mapping[str, Any]) -> Values:
        computed = function(np.array([setting[f"x{i}"] for i in range(dimension)]))
        losses, constraints = computed if isinstance(computed, tuple) else (computed, [])
        return [float(loss) for loss in losses], [float(value) for value in constraints]

    return evaluate


def _zdt(shape: Callable[[float, float], float]) -> Callable[[np.ndarray], list[float]]:
    def function(x: np.ndarray) -> list[float]:
        g = 1 + 9 * float(x[1:].mean())
        return [float(x[0]), g * shape(float(x[0]), g)]

    return function


zdt1 = _zdt(lambda f, g: 1 - (f / g) ** 0.5)
zdt2 = _zdt(lambda f, g: 1 - (f / g) ** 2)
zdt3 = _zdt(lambda f, g: 1 - (f / g) ** 0.5 - f / g * float(np.sin(10 * np.pi * f)))


def dtlz2(x: np.ndarray, objectives: int) -> list[float]:
    angles = 0.5 * np.pi * x[: objectives - 1]
    losses = [1 + float(((x[objectives - 1 :] - 0.5) ** 2).sum())] * objectives
    for i in range(objectives):
        losses[i] *= float(np.prod(np.cos(angles[: objectives - 1 - i])))
        losses[i] *= float(np.sin(angles[objectives - 1 - i])) if i else 1.0
    return losses


def dtlz7(x: np.ndarray, objectives: int) -> list[float]:
    own = x[: objectives - 1]
    g = 1 + 9 * float(x[objectives - 1 :].mean())
    h = objectives - float((own / (1 + g) * (1 + np.sin(3 * np.pi * own))).sum())
    return [*own.tolist(), (1 + g) * h]


def c2dtlz2(x: np.ndarray) -> tuple[list[float], list[float]]:
    f, r = dtlz2(x, 2), 0.2
    near_axis = min((f[i] - 1) ** 2 + f[1 - i] ** 2 - r**2 for i in range(2))
    return f, [min(near_axis, sum((value - 0.5**0.5) ** 2 for value in f) - r**2)]


def gramacy(x: np.ndarray) -> tuple[list[float], list[float]]:
    a, b = float(x[0]), float(x[1])
    wave = 1.5 - a - 2 * b - 0.5 * np.sin(2 * np.pi * (a * a - 2 * b))
    return [a + b], [float(wave), a * a + b * b - 1.5]


def disc(x: np.ndarray) -> tuple[list[float], list[float]]:
    """A bowl in four dimensions of which the inside of a ball is allowed: 4% of the cube."""
    return [float(((x - 0.9) ** 2).sum())], [float(((x - 0.5) ** 2).sum()) ** 0.5 - 0.3]


def failing(x: np.ndarray) -> list[float]:
    """Branin's valley on the unit square; the half next to its best place raises (NaN)."""
    a, b = 15 * float(x[0]) - 5, 15 * float(x[1])
    branin = (b - 5.1 / (4 * np.pi**2) * a * a + 5 / np.pi * a - 6) ** 2 + 10 * (1 - 1 / (8 * np.pi)) * np.cos(a) + 10
    return [float("nan") if x[0] + 0.3 * x[1] < 0.55 else float(branin)]


def bnh(x: np.ndarray) -> tuple[list[float], list[float]]:
    a, b = 5 * float(x[0]), 3 * float(x[1])
    return [4 * (a * a + b * b), (a - 5) ** 2 + (b - 5) ** 2], [
        (a - 5) ** 2 + b * b - 25,
        7.7 - (a - 8) ** 2 - (b + 3) ** 2,
    ]


def gardner(x: np.ndarray) -> tuple[list[float], list[float]]:
    a, b = 6 * float(x[0]), 6 * float(x[1])
    return [float(np.cos(2 * a) * np.cos(b) + np.sin(a))], [float(np.cos(a) * np.cos(b) - np.sin(a) * np.sin(b)) + 0.5]


def stripe(x: np.ndarray) -> list[float]:
    """A bowl in four dimensions that fails where the first two differ much: on 42% of the cube, the best place not."""
    return [float("nan") if abs(x[0] - x[1]) > 0.35 else float(((x - 0.6) ** 2).sum())]


def digits(setting: Mapping[str, Any]) -> Values:
    if not _TABLE:
        _TABLE.update(json.loads(TABLE.read_text(encoding="utf-8")))
    losses = _TABLE["/".join(str(setting[name]) for name in DIGITS)]
    return [float(loss) for loss in losses], []


_TABLE: dict[str, list[float]] = {}


def area(points: np.ndarray, reference: tuple[float, float]) -> float:
    """Hypervolume of points (N, 2)."""
    low = np.minimum.accumulate(points[order := np.argsort(points[:, 0], kind="stable"), 1])
    edges = np.append(points[order, 0], reference[0])
    widths = np.diff(np.minimum(edges, reference[0]))
    return float((widths * np.maximum(reference[1] - low, 0.0)).sum())


def _ideal(function: Callable[[np.ndarray], Any], dimension: int, rest: float, reference: tuple[float, float]) -> float:
    """Of two objectives, from the best values of all but the first variable."""
    points = [function(np.array([x, *[rest] * (dimension - 1)])) for x in np.linspace(0, 1, 20_001)]
    kept = [
        each[0] if isinstance(each, tuple) else each
        for each in points
        if not isinstance(each, tuple) or each[1][0] <= 0
    ]
    return area(np.array(kept), reference)


def _ideal_dtlz7(reference: tuple[float, float, float]) -> float:
    """Of three objectives: the least third loss below each place of a fine grid."""
    x = np.linspace(0, 1, 2001)
    wave = x / 2 * (1 + np.sin(3 * np.pi * x))
    best = np.minimum.accumulate(np.minimum.accumulate(2 * (3 - wave[:, None] - wave[None]), 0), 1)
    widths = np.diff(np.append(x, max(reference[0], 1.0)).clip(max=reference[0]))
    return float((widths[:, None] * widths[None] * np.maximum(reference[2] - best, 0.0)).sum())


def _ideal_bnh(reference: tuple[float, float]) -> float:
    """Its front is x = y up to 3, then y = 3 (Binh and Korn 1997)."""
    t = np.linspace(0, 5, 20_001)
    return area(np.array([bnh(np.array([x / 5, min(x, 3.0) / 3]))[0] for x in t]), reference)


def _ideal_digits(reference: tuple[float, float]) -> float:
    if not TABLE.exists():
        return 1.0
    keys = itertools.product(*DIGITS.values())
    return area(np.array([digits(dict(zip(DIGITS, key, strict=True)))[0] for key in keys]), reference)


def problems() -> dict[str, Problem]:
    """All of them, by name."""
    unit = (1.1, 1.1)
    return {
        "zdt1": Problem(_on_cube(zdt1, 8), 8, 2, unit, _ideal(zdt1, 8, 0.0, unit)),
        "zdt2": Problem(_on_cube(zdt2, 8), 8, 2, unit, _ideal(zdt2, 8, 0.0, unit), half="kept"),
        "zdt3": Problem(_on_cube(zdt3, 8), 8, 2, (0.94, 1.18), _ideal(zdt3, 8, 0.0, (0.94, 1.18)), half="kept"),
        "dtlz2": Problem(_on_cube(lambda x: dtlz2(x, 3), 8), 8, 3, (1.1,) * 3, 1.331 - np.pi / 6),
        "dtlz7": Problem(
            _on_cube(lambda x: dtlz7(x, 2), 6), 6, 2, (0.95, 4.17), _ideal(lambda x: dtlz7(x, 2), 6, 0.0, (0.95, 4.17))
        ),
        "dtlz7-3": Problem(
            _on_cube(lambda x: dtlz7(x, 3), 6), 6, 3, (0.95, 0.95, 6.34), _ideal_dtlz7((0.95, 0.95, 6.34)), half="kept"
        ),
        "digits": Problem(digits, 0, 2, (0.15, 8_000.0), _ideal_digits((0.15, 8_000.0)), half="kept"),
        "c2dtlz2": Problem(_on_cube(c2dtlz2, 6), 6, 2, unit, _ideal(c2dtlz2, 6, 0.5, unit), 1),
        "gramacy": Problem(_on_cube(gramacy, 2), 2, 1, (), 0.5998, 2),
        "disc": Problem(_on_cube(disc, 4), 4, 1, (), 4 * (0.4 - 0.15) ** 2, 1),
        "failing": Problem(_on_cube(failing, 2), 2, 1, (), 0.397887),
        "bnh": Problem(_on_cube(bnh, 2), 2, 2, (150.0, 55.0), _ideal_bnh((150.0, 55.0)), 2, half="kept"),
        "gardner": Problem(_on_cube(gardner, 2), 2, 1, (), _GARDNER, 1, half="kept"),
        "stripe": Problem(_on_cube(stripe, 4), 4, 1, (), 0.0, half="kept"),
    }
