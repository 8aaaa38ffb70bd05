"""Text from outside is made fit to be shown: nothing in it steers a terminal, and it ends."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelopt_cli.core.text import LONGEST_LINE, cut, message_lines, one_line, printable

STEERING = [*map(chr, range(9)), *map(chr, range(11, 32)), *map(chr, range(0x7F, 0xA0)), "\u202e", "\u2066", "\u2028"]


@given(st.text(st.characters() | st.sampled_from(STEERING)))
def test_printable_text_steers_nothing_and_is_left_alone_afterwards(text: str) -> None:
    shown = printable(text)
    assert not set(shown) & set(STEERING)
    assert printable(shown) == shown
    shown.encode()  # lone surrogates could not be


@given(st.text(max_size=500), st.integers(30, 60))
def test_cut_keeps_both_ends(text: str, limit: int) -> None:
    shown = cut(text, limit)
    if len(text) <= limit:
        assert shown == text
    else:
        assert len(shown) < limit + 50
        assert shown.startswith(text[: limit // 2])
        assert shown.endswith(text[-limit // 4 :])


def test_cut_counts_what_it_leaves_out() -> None:
    assert cut("a" * 30 + "b" * 2000 + "c" * 15, 45) == "a" * 30 + " ... (2,000 characters left out) ... " + "c" * 15


@given(st.text())
def test_one_line_is_one_line(text: str) -> None:
    assert len(one_line(text).splitlines()) <= 1


def test_line_feeds_are_written_out_in_one_line() -> None:
    assert one_line("a\nb\tc\x1b") == "a\\nb\\tc\\x1b"


@pytest.mark.parametrize("lines", [1, 3])
def test_each_line_of_a_message_ends(lines: int) -> None:
    shown = message_lines("\n".join(["x" * 10_000] * lines)).split("\n")
    assert len(shown) == lines
    assert max(map(len, shown)) < LONGEST_LINE + 100
