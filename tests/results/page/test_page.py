"""report.html as text: complete in itself, small, and true in what it says in words."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

import pytest

from modelopt_cli.core.intervals import wilson
from modelopt_cli.results.page import vega, words
from modelopt_cli.results.page.page import render
from modelopt_cli.results.report import Report
from tests.support.reports import HOSTILE, REPORTS, search, training

MOST_BYTES = 3_000_000
_LOADING = ("src", "href", "srcset", "action", "data")


def _loaded(page: str) -> list[str]:
    """What a browser would fetch, or where a link leads out of the page."""
    addresses: list[str] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            addresses.extend(
                value or "" for name, value in attrs if name in ("src", "href", "srcset", "action", "data")
            )

    Reader().feed(page)
    return [address for address in addresses if not address.startswith(("#", "data:"))]


@pytest.mark.parametrize("name", REPORTS)
def test_a_page_loads_nothing_and_names_are_text(name: str) -> None:
    page = render(REPORTS[name]())
    own = page.replace(vega.script(), "")
    assert _loaded(page) == []
    assert "@import" not in own
    assert HOSTILE not in page
    assert "<img" not in own
    assert "{{7*7}}" in own or "7*7" not in own  # a name is no template
    assert own.count("</script>") == page.count("</script>") == 3
    assert len(page.encode()) < MOST_BYTES


@pytest.mark.slow
def test_a_large_search_is_below_the_limit() -> None:
    page = render(search(trials=1000, steps=100))
    assert len(page.encode()) < MOST_BYTES


def test_the_first_paragraph_says_what_came_out_and_against_what() -> None:
    report = search()
    first, *rest = words.paragraphs(report)
    best = report.best
    assert best is not None
    assert (
        f"Trial {best['number']} is the best, with validation.accuracy {report.metrics['validation.accuracy']:.4g}"
        in first
    )
    assert "the file's own values (trial 0) gave" in first
    assert "tried 39 trials by tpe" in first
    assert "On the test split, which no choice has seen, accuracy is 0.93" in first
    assert any("Wilson" in text for text in rest)
    assert any("1 of 2 gates not met: test.f1 >= 0.99" in text for text in rest)
    assert "Its settings: lr " in first


def test_how_sure_an_accuracy_is() -> None:
    """The interval of Wilson (1927): the shares p with |p - 0.95| = z sqrt(p (1 - p) / n)."""
    low, high = wilson(0.95, 200)
    for bound in (low, high):
        assert abs(bound - 0.95) == pytest.approx(1.959964 * (bound * (1 - bound) / 200) ** 0.5)
    assert low < 0.95 < high
    assert any("between" in text for text in words.paragraphs(training()))


def test_a_failed_run_says_why_first() -> None:
    report = Report(kind="training", workflow="train", name="x", status="failed", reason=HOSTILE)
    assert words.paragraphs(report)[0].startswith("The run failed: </script>")
    assert HOSTILE not in render(report)


@pytest.mark.slow
def test_the_scripts_are_kept_and_made_again_where_they_are_damaged(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    vega.script.cache_clear()
    whole = vega.script()
    (kept,) = (tmp_path / "modelopt").iterdir()
    assert kept.read_text() == whole
    kept.write_text(whole[:100])
    vega.script.cache_clear()
    assert vega.script() == whole
    assert kept.read_text() == whole
    kept.unlink()
    kept.parent.rmdir()
    kept.parent.write_text("a file in the way")
    vega.script.cache_clear()
    assert vega.script() == whole
    vega.script.cache_clear()


def test_values_of_the_environment_stay_out(monkeypatch: pytest.MonkeyPatch) -> None:
    from modelopt_cli.core.references import Reference, remember

    remember({("data", "token"): Reference("${TOKEN}", "s3cret-token-value", {"TOKEN": "s3cret-token-value"})})
    report = training()
    report = report.with_warning("the server says s3cret-token-value is wrong")
    assert "s3cret-token-value" not in render(report)


def test_a_page_is_made_where_nothing_can_be_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from modelopt_cli.results.page import page

    whole = render(training())
    (tmp_path / "modelopt").write_text("a file in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    page._template.cache_clear()  # so that it is compiled anew
    assert render(training()) == whole
    page._template.cache_clear()


@pytest.mark.parametrize("kind", ["training", "pruning", "units", "distillation", "compression"])
def test_several_seeds_are_suggested_where_the_file_may_ask_for_them(kind: str) -> None:
    report = training().model_copy(update={"kind": kind})
    assert "seeds: 3 in the file" in " ".join(words.paragraphs(report))
    for detail in ("demands", "note"):  # of a search for a target, of a pruned file: both are done with one
        given = report.model_copy(update={"details": {**report.details, detail: ""}})
        assert "seeds" not in " ".join(words.paragraphs(given))


def test_of_a_search_the_best_setting_is_run_again() -> None:
    text = " ".join(words.paragraphs(search()))
    assert "modelopt train best.yaml --set seeds=3" in text
    assert "seeds: 3 in the file" not in text
