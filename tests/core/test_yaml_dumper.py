"""What is written as YAML is read back the same: by this project's reader, and by one of YAML 1.1."""

from __future__ import annotations

import math
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from modelopt_cli.core.references import Written
from modelopt_cli.core.yaml_dumper import dump
from modelopt_cli.experiment.document.marks import Source
from modelopt_cli.experiment.document.yaml_loader import parse

TEXTS = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufeff\ufffe\uffff"))
PLAIN = st.none() | st.booleans() | st.integers(-(10**18), 10**18) | st.floats(allow_nan=False) | TEXTS
CONTENTS = st.dictionaries(
    st.from_regex(r"[a-z][a-z_]{0,8}", fullmatch=True),
    st.recursive(
        PLAIN,
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.from_regex(r"[a-z][a-z_]{0,8}", fullmatch=True), inner, max_size=3)
        ),
        max_leaves=8,
    ),
    max_size=4,
)


def read(text: str) -> Any:
    return parse(Source("text", text)).values


@settings(max_examples=40)
@given(CONTENTS)
def test_this_project_reads_the_same(content: dict[str, Any]) -> None:
    assert (read(dump(content)) or {}) == content


@settings(max_examples=40)
@given(CONTENTS)
def test_a_reader_of_yaml_1_1_reads_the_same(content: dict[str, Any]) -> None:
    """(`${` is doubled in files, which no other reader undoes.)"""
    text = dump(content)
    if "${" not in text:
        assert yaml.safe_load(text) == content


def test_words_that_versions_of_yaml_read_otherwise_are_quoted() -> None:
    content = {
        "a": ["no", "on", "1_000", "0o17", "017", "1e3", "null", "~", "", ".nan", "true", "12:30:45", "2020-01-01"]
    }
    assert yaml.safe_load(dump(content)) == content
    assert read(dump(content)) == content


def test_numbers_stay_numbers() -> None:
    content = {"a": [1, -1, 0.1, 1e-8, 1e300, math.inf, -math.inf, True, None]}
    again = read(dump(content))
    assert again == content
    assert [type(value) for value in again["a"]] == [type(value) for value in content["a"]]


@pytest.mark.parametrize(
    "text", ["a\x85b", "a\u2028b", "a\u2029b", "a\nb", " a ", "a: b", "# a", "'a'", '"a"', "- a", "${A}"]
)
def test_texts_that_yaml_could_take_for_something_else(text: str) -> None:
    assert read(dump({"a": text})) == {"a": text}


def test_lists_of_plain_values_take_one_line_and_keys_keep_their_order() -> None:
    assert dump({"b": [1, 2], "a": {"d": [{"c": 1}]}}) == "b: [1, 2]\na:\n  d:\n  - c: 1\n"


def test_references_are_written_as_they_are() -> None:
    assert dump({"a": Written("${A}"), "b": Written("${B}", plain=True), "c": "${C}"}) == (
        "a: '${A}'\nb: ${B}\nc: $${C}\n"
    )


def test_what_is_the_same_object_twice_is_written_twice() -> None:
    shared = {"x": [1]}
    assert dump({"a": shared, "b": shared}) == "a:\n  x: [1]\nb:\n  x: [1]\n"


def test_long_texts_are_not_broken_into_another_text() -> None:
    content = {"a": " ".join(["word"] * 200)}
    assert read(dump(content)) == content
