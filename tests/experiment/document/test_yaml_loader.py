"""The YAML reader: values, environment variables, and everything that is refused."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from modelopt_cli.core.errors import ExperimentError, ModeloptError, RefusedError, UsageError
from modelopt_cli.core.yaml_dumper import dump
from modelopt_cli.experiment.document.marks import Source
from modelopt_cli.experiment.document.yaml_loader import load_file, parse


def read(text: str) -> Any:
    return parse(Source("x.yaml", text)).values


def refusal(text: str, kind: type[ModeloptError] = ExperimentError) -> str:
    with pytest.raises(kind) as caught:
        read(text)
    return str(caught.value)


def test_quoted_and_tagged_scalars() -> None:
    text = "a: '1'\nb: \"no\"\nc: !!str 1\nd: ! 1\ne: !!float 1\nf: !!int 0x10\ng: !!map {}\nh: !!seq []\ni: |\n  1\n"
    assert read(text) == {
        **{"a": "1", "b": "no", "c": "1", "d": "1", "e": 1.0, "f": 16},
        **{"g": {}, "h": [], "i": "1\n"},
    }
    assert isinstance(read("!!float 1"), float)


plain_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.sampled_from(
        [
            "1e-3",
            "0o17",
            "0x1F",
            "no",
            "~",
            "null",
            "${A}",
            "$${A",
            "1_0",
            "1:30",
            "2020-01-01",
            "=",
            "<<",
            "",
            "- a",
            ".inf",
        ]
    ),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(min_size=1), inner, max_size=4),
    max_leaves=12,
)


@pytest.mark.slow
@settings(deadline=None)
@given(st.dictionaries(st.text(min_size=1), plain_values, max_size=4))
def test_what_is_written_reads_back_the_same(values: dict[str, Any]) -> None:
    text = dump(values)
    assert read(text) == values
    if "${" not in text:
        assert yaml.safe_load(text) == values


@pytest.mark.parametrize(
    ("text", "start", "rule"),
    [
        ("a: 1\nb: 2\na: 3\n", "x.yaml:3:1", "the key 'a' stands twice (first in line 1)"),
        ("a: {b: 1, b: 2}", "x.yaml:1:11", "stands twice"),
        ("<<: {a: 1}", "x.yaml:1:1", "merge keys (<<) are not part of YAML 1.2"),
        ("1: 2", "x.yaml:1:1", "the key 1 is no text\n    1 | 1: 2\n      | ^\nquote it: '1'"),
        ("true: 2", "x.yaml:1:1", "quote it: 'true'"),
        ("null: 2", "x.yaml:1:1", "quote it: 'null'"),
        ("? [a]\n: 1", "x.yaml:1:3", "a list cannot be a key"),
        ("a: 1\n---\nb: 1", "x.yaml:2:1", "a second document starts here"),
        ("a: !foo 1", "x.yaml:1:4", "the tag !foo is not allowed"),
        ("a: !!set {x}", "x.yaml:1:4", "the tag !!set is not allowed"),
        ("a: !!timestamp 2020-01-01", "x.yaml:1:4", "not allowed"),
        ("a: !!int x", "x.yaml:1:4", "'x' is no !!int"),
        ("a: *b", "x.yaml:1:4", "*b repeats nothing"),
        ("a: &x [1, *x]", "x.yaml:1:11", "stands inside &x"),
        ("a: &x {b: &y [*x]}", "x.yaml:1:15", "stands inside &x"),
        ("a: [1, 2\nb: 3\n", "x.yaml:2:2", "this is not YAML"),
        ("a: [1, 2", "x.yaml:1:4", "this is not YAML"),
        ("a:\n\tb: 1", "x.yaml:2:1", "indent with spaces"),
        ("a: 'x", "x.yaml:1:4", "this is not YAML"),
        ("a: b: c", "x.yaml:1:5", "this is not YAML"),
        ("a: \x00", "x.yaml", "this is not YAML"),
        ("a: \udc80", "x.yaml", "this is not YAML"),
        ("a: {b: ${HOME}}", "x.yaml:1:9", 'needs quotes: "${NAME}"'),
        ("[" * 65 + "]" * 65, "x.yaml:1:65", "nested more than 64 deep"),
        ("[" * 100_000, "x.yaml:1:65", "nested more than 64 deep"),
    ],
)
def test_refused(text: str, start: str, rule: str) -> None:
    message = refusal(text)
    assert message.startswith(start + ":")
    assert rule in message


def test_a_tag_that_runs_code_is_refused_with_exit_code_5() -> None:
    message = refusal("a: 1\nb: !!python/object/apply:os.system ['touch /tmp/owned']\n", RefusedError)
    assert message.startswith("x.yaml:2:4: the tag !!python/object/apply:os.system would run code")
    assert RefusedError.exit_code == 5


def laughs(count: int, wide: int) -> str:
    lines = ["a0: &a0 [x]"] + [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * wide)}]" for i in range(1, count)]
    return "\n".join(lines)


def test_billion_laughs_are_counted_before_they_are_expanded() -> None:
    start = time.process_time()
    message = refusal(laughs(60, 9))
    assert "with its aliases expanded, the file holds more than 100,000 values" in message
    assert "x.yaml:6:" in message
    assert time.process_time() - start < 5  # no figure, only: not for ever


def test_aliases_within_the_limits_are_expanded_to_separate_values() -> None:
    values = read("a: &x {b: [1, 2]}\nc: *x\n")
    assert values == {"a": {"b": [1, 2]}, "c": {"b": [1, 2]}}
    assert values["a"]["b"] is not values["c"]["b"]


def test_aliases_count_towards_the_depth() -> None:
    assert "deep" in refusal(laughs(70, 1))
    assert "deep" not in str(read(laughs(50, 1)))


@pytest.mark.slow
def test_number_of_values_is_counted_exactly() -> None:
    inside = "[" + "a," * 99_999 + "]"
    assert len(read(inside)) == 99_999
    assert "more than 100,000" in refusal("[" + "a," * 100_000 + "]")


def test_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EPOCHS", "7")
    monkeypatch.setenv("EMPTY", "")
    monkeypatch.delenv("NOPE", raising=False)
    text = "a: ${EPOCHS}\nb: '${EPOCHS}'\nc: x${EPOCHS}/${NOPE:-y}\nd: ${NOPE:-1e-3}\ne: $${EPOCHS}\nf: ${EMPTY:-2}\n"
    assert read(text) == {"a": 7, "b": "7", "c": "x7/y", "d": 0.001, "e": "${EPOCHS}", "f": 2}
    assert read("a: ${NOPE:-}\nb: \"${NOPE:-}\"\n'${NOPE:-c}': 1\n") == {"a": None, "b": "", "c": 1}
    monkeypatch.setenv("EVIL", "!!python/object:os.system {a: 1}\nb: 2")
    assert read("a: ${EVIL}") == {"a": "!!python/object:os.system {a: 1}\nb: 2"}


@pytest.mark.parametrize("text", ["a: ${NOPE_X}", "a: '${NOPE_X}'"])
def test_unset_variables_are_told_with_their_line(text: str) -> None:
    message = refusal("b: 1\n" + text)
    assert message.startswith("x.yaml:2:4: the environment variable NOPE_X is not set")
    assert "${NOPE_X:-default}" in message


@pytest.mark.parametrize("text", ["${}", "${1a}", "${a b}", "${A", "${A:+b}"])
def test_broken_references(text: str) -> None:
    assert "is no reference to an environment variable" in refusal(f"a: '{text}'")


def write(folder: Path, content: bytes, name: str = "x.yaml") -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        (b"", "the file is empty"),
        (b"# only a comment\n", "the file is empty"),
        (b"- 1\n- 2\n", "the file holds no sections at its top"),
        (b"hello", "the file holds no sections at its top"),
        (b"a: 1\nb: caf\xe9\n", ":2: byte 0xe9 is not UTF-8 text"),
        (b"\xff\xfea\x00", "is not UTF-8 text"),
        (b"a: " + b"x" * 1_000_000, "is larger than 1,000,000 bytes"),
        (b"PK\x03\x04", "this is not YAML"),
    ],
)
def test_files_that_hold_no_experiment(tmp_path: Path, content: bytes, rule: str) -> None:
    path = write(tmp_path, content)
    with pytest.raises(ExperimentError, match=r"x\.yaml") as caught:
        load_file(path)
    assert rule in str(caught.value)
    assert caught.value.exit_code == 2


def test_missing_files_and_folders(tmp_path: Path) -> None:
    write(tmp_path, b"a: 1", "digits.yaml")
    with pytest.raises(UsageError, match=r"there is no such file\. Did you mean 'digits\.yaml'"):
        load_file(tmp_path / "digit.yaml")
    with pytest.raises(UsageError, match=r"is a folder; name an experiment file in it: digits.yaml"):
        load_file(tmp_path)
    with pytest.raises(UsageError, match="There is no folder"):
        load_file(tmp_path / "no" / "x.yaml")
    with pytest.raises(UsageError, match="cannot be read"):
        load_file(Path("a\0b"))
    with pytest.raises(UsageError, match="cannot be read"):
        load_file(tmp_path / "digits.yaml" / "x.yaml")


def test_a_byte_order_mark_is_no_content(tmp_path: Path) -> None:
    assert load_file(write(tmp_path, b"\xef\xbb\xbfa: 1\r\nb: 2\r\n")).values == {"a": 1, "b": 2}


fragments = st.lists(
    st.sampled_from(
        [*"[]{}:,-?&*!|>'\"%@`#\n\t ", "a", "b: ", "- ", "&x ", "*x", "<<: ", "!!python/x ", "${A", "---\n", "\u2028"]
    )
    | st.text(max_size=3),
    max_size=40,
).map("".join)


def told_by(action: Callable[[], object]) -> str:
    """What one of our errors says, or "nothing"; any other error passes."""
    try:
        action()
    except ModeloptError as error:
        return str(error)
    return "nothing"


@pytest.mark.slow
@settings(deadline=None)
@given(st.text() | fragments)
def test_any_text_gives_values_or_one_of_our_errors(text: str) -> None:
    assert told_by(lambda: read(text)).startswith(("x.yaml", "nothing"))


@pytest.mark.slow
@settings(deadline=None)
@given(content=st.binary(max_size=200) | fragments.map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_any_bytes_give_values_or_one_of_our_errors(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzz.yaml"
    path.write_bytes(content)
    assert told_by(lambda: load_file(path)).startswith((str(path), "nothing"))
