"""Runs that were judged on other samples are told apart from those that were not, however that is known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from modelopt_cli.workflows.comparison.runs import opened
from modelopt_cli.workflows.comparison.same_data import data_warnings
from tests.support.compared_runs import EXPERIMENT, run_folder

DATA = EXPERIMENT["data"]


def warnings(root: Path, first: dict[str, Any], other: dict[str, Any]) -> list[str]:
    for name, given in (("a", first), ("b", other)):
        run_folder(root, name, {"test.accuracy": 0.9}, **given)
    return data_warnings(opened("a", "A", root), opened("b", "B", root))


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({}, ""),
        ({"model": {"type": "mlp", "hidden": [16]}, "seed": 7}, ""),  # the split's own seed decides
        ({"data": {**DATA, "standardize": True}}, ""),
        ({"data": {**DATA, "splits": {**DATA["splits"], "test": 0.3}}}, "data.splits.test: 0.2 and 0.3"),
        ({"data": {**DATA, "type": "wine"}}, "data.type: iris and wine"),
        ({"data": {**DATA, "type": "no.such.package"}}, "data.type: iris and no.such.package"),
        ({"data": {**DATA, "splits": {**DATA["splits"], "seed": None}}}, "data.splits.seed: 0 and "),
        ({"evaluation": {"cv": 5}}, "evaluation.cv: none and 5"),
    ],
)
def test_what_of_the_file_decides_about_samples(tmp_path: Path, changes: dict[str, Any], why: str) -> None:
    texts = warnings(tmp_path, {}, {"experiment": {**EXPERIMENT, **changes}})
    if not why:
        assert texts == []
    else:
        (text,) = texts
        assert text.startswith(f"A and B were not judged on the same samples ({why}")
        assert text.endswith("so a difference of their metrics says little about the models")


def test_the_experiment_s_seed_splits_where_the_split_has_none(tmp_path: Path) -> None:
    unseeded = {**EXPERIMENT, "data": {**DATA, "splits": {**DATA["splits"], "seed": None}}}
    assert warnings(tmp_path, {"experiment": unseeded}, {"experiment": unseeded}) == []
    other = warnings(tmp_path / "more", {"experiment": unseeded}, {"experiment": {**unseeded, "seed": 1}})
    assert "data.splits.seed" in other[0]


def test_other_content_of_the_same_file(tmp_path: Path) -> None:
    prints = [{"details": {"data_fingerprint": text}} for text in ("abc", "abd")]
    (text,) = warnings(tmp_path, *prints)
    assert "their data differ in content" in text
    assert warnings(tmp_path / "more", prints[0], prints[0]) == []


def test_other_sizes_where_the_files_are_not_known(tmp_path: Path) -> None:
    given: list[dict[str, Any]] = [
        {"samples": {"test": n, "validation": 3000}, "experiment": None} for n in (3000, 2000)
    ]
    (text,) = warnings(tmp_path, *given)
    assert "(test samples: 3,000 and 2,000)" in text
    assert warnings(tmp_path / "more", given[0], given[0]) == []
