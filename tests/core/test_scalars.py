"""Scalars of YAML 1.2 (https://yaml.org/spec/1.2.2/, section 10.3.2), and numbers in texts."""

from __future__ import annotations

import math

import pytest

from modelopt_cli.core.scalars import number_in, resolve


# The examples of YAML 1.2.2, section 10.3.2, and what differs from YAML 1.1.
@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("1.0e-4", 0.0001),
        ("+12e03", 12000.0),
        ("-2E+05", -200000.0),
        ("12.", 12.0),
        (".5", 0.5),
        ("0o17", 15),
        ("0x1F", 31),
        ("017", 17),
        ("-19", -19),
        ("+1", 1),
        ("null", None),
        ("~", None),
        ("", None),
        ("true", True),
        ("False", False),
        (".inf", math.inf),
        ("-.INF", -math.inf),
        ("no", "no"),
        ("yes", "yes"),
        ("on", "on"),
        ("off", "off"),
        ("y", "y"),
        ("100_000", "100_000"),
        ("1:30", "1:30"),
        ("2020-01-01", "2020-01-01"),
        ("0b11", "0b11"),
        ("1e", "1e"),
        (".", "."),
        ("9" * 5000, "9" * 5000),
    ],
)
def test_scalars(text: str, value: object) -> None:
    read = resolve(text)
    assert read == value
    assert type(read) is type(value)


def test_nan() -> None:
    read = resolve(".NaN")
    assert isinstance(read, float)
    assert math.isnan(read)


@pytest.mark.parametrize(
    ("text", "meant"), [("100_000", "100000"), (" 0.1 ", "0.1"), ("1_0.5e3", "10.5e3"), ("a_1", None)]
)
def test_numbers_in_text(text: str, meant: str | None) -> None:
    assert number_in(text) == meant
