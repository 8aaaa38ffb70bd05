"""The order of keys in a mapping means nothing once a search has begun: the order that it was begun with goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from modelopt_cli.core.errors import UsageError
from modelopt_cli.tuning.study.study import Study

SPACE: dict[str, Any] = {
    "x": {"float": [-5, 5]},
    "k": ["a", "b", None, True],
    "o": {
        "choice": [
            {"type": "sgd", "m": {"float": [0.0, 0.9]}, "n": {"int": [1, 9]}},
            {"type": "adam", "b": {"list": [1, 2], "at": {"int": [0, 3]}}},
        ]
    },
    "n": {"int": [1, 100], "log": True},
}
BRANCHES: list[dict[str, Any]] = [{"t": 1, "c": {"int": [0, 1]}, "d": {"choice": ["u", "v"]}}, {"t": 2}]
FINITE: dict[str, Any] = {"a": [1, 2, 3], "b": {"choice": BRANCHES}}


def reversed_keys(value: Any) -> Any:
    """Every mapping in `value` written backwards; lists stay as they are."""
    if isinstance(value, dict):
        return {key: reversed_keys(item) for key, item in reversed(value.items())}
    return [reversed_keys(item) for item in value] if isinstance(value, list) else value


def advance(study: Study, count: int) -> None:
    for _ in range(count):
        trial = study.ask()
        study.tell(trial, float(trial.params["x" if "x" in trial.params else "a"]) ** 2)


@pytest.mark.parametrize("sampler", ["random", "sobol", "tpe", "evolution", "grid"])
def test_a_study_goes_on_in_the_order_that_it_was_begun_with(sampler: str, tmp_path: Path) -> None:
    space = FINITE if sampler == "grid" else SPACE
    whole = Study(space, sampler, seed=3)
    advance(whole, 12)
    with Study(space, sampler, seed=3, path=tmp_path / "s.sqlite") as begun:
        advance(begun, 5)
    with Study(reversed_keys(space), sampler, seed=3, path=tmp_path / "s.sqlite") as study:
        advance(study, 7)
        assert [trial.params for trial in study.trials] == [trial.params for trial in whole.trials]
        assert study.space == whole.space


def test_the_order_of_a_list_is_its_content(tmp_path: Path) -> None:
    Study(FINITE, "random", path=tmp_path / "s.sqlite").close()
    with pytest.raises(UsageError, match="the study was begun otherwise: space was"):
        Study({**FINITE, "a": [3, 2, 1]}, "random", path=tmp_path / "s.sqlite")
    branches = {"choice": FINITE["b"]["choice"][::-1]}
    with pytest.raises(UsageError, match="space was"):
        Study({**FINITE, "b": branches}, "random", path=tmp_path / "s.sqlite")
