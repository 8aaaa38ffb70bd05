"""Warnings are kept once each, in their order, and shown after all where the run fails."""

from __future__ import annotations

import warnings

import pytest

from modelopt_cli.core.warning_log import WarningLog


def test_each_text_once_in_the_order_in_which_they_came() -> None:
    log = WarningLog(["b", "a", "b"])
    log.add(["c", "a"])
    assert log.texts == ["b", "a", "c"]


def test_what_the_code_inside_warns_of_is_kept_and_not_shown() -> None:
    log = WarningLog()
    with warnings.catch_warnings(record=True) as shown, log.recording(every=True):
        for text in ("first", "second", "first"):
            warnings.warn(f"{text}\nits second line", UserWarning, stacklevel=1)
    assert log.texts == ["UserWarning: first", "UserWarning: second"]
    assert not shown


def test_warnings_for_developers_are_left_out_where_every_one_is_asked_for() -> None:
    log = WarningLog()
    with log.recording(every=True):
        warnings.warn("old", DeprecationWarning, stacklevel=1)
        warnings.warn("new", RuntimeWarning, stacklevel=1)
    assert log.texts == ["RuntimeWarning: new"]


def test_without_every_only_what_python_would_print() -> None:
    log = WarningLog()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        with log.recording():
            warnings.warn("ignored", UserWarning, stacklevel=1)
    assert log.texts == []


def fail() -> None:
    warnings.warn("beforehand", UserWarning, stacklevel=1)
    raise ValueError("no more")


def test_code_that_fails_shows_its_warnings_too() -> None:
    log = WarningLog()
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        with pytest.raises(ValueError, match="no more"), log.recording():
            fail()
    assert log.texts == ["UserWarning: beforehand"]
    assert [str(each.message) for each in shown] == ["beforehand"]


def test_the_texts_are_a_copy() -> None:
    log = WarningLog(["a"])
    log.texts.append("b")
    assert log.texts == ["a"]
