"""Ctrl-C of the user is told apart from a KeyboardInterrupt that the code raised by itself."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator

import pytest

from modelopt_cli.core.processes.interrupts import Leave, from_outside, noting_interrupts


@pytest.fixture(autouse=True)
def _as_in_a_terminal() -> Iterator[None]:
    """A process that was started in the background ignores SIGINT."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_outside_every_interrupt_is_the_users() -> None:
    assert from_outside(KeyboardInterrupt())


def test_what_code_raises_by_itself_is_its_own() -> None:
    with noting_interrupts():
        assert not from_outside(KeyboardInterrupt())


def test_a_signal_is_the_users() -> None:
    with noting_interrupts(), pytest.raises(KeyboardInterrupt) as caught:
        signal.raise_signal(signal.SIGINT)
    with noting_interrupts():
        assert not from_outside(caught.value), "the next time begins anew"
    with noting_interrupts():
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        with noting_interrupts():
            assert from_outside(KeyboardInterrupt()), "an inner one knows what the outer one noted"


@pytest.mark.parametrize("error", [ValueError(), SystemExit(), GeneratorExit()])
def test_other_errors_are_the_codes_own(error: BaseException) -> None:
    assert not from_outside(error)


def test_being_asked_to_leave_comes_from_outside() -> None:
    with noting_interrupts():
        assert from_outside(Leave())


def test_the_handler_before_is_called_and_comes_back() -> None:
    numbers: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: numbers.append(number))
    try:
        own = signal.getsignal(signal.SIGINT)
        with noting_interrupts():
            signal.raise_signal(signal.SIGINT)
            assert from_outside(KeyboardInterrupt())
        assert numbers == [signal.SIGINT]
        assert signal.getsignal(signal.SIGINT) is own
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_handler_that_was_set_meanwhile_stays() -> None:
    before = signal.getsignal(signal.SIGINT)
    try:
        with noting_interrupts():
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_other_threads_leave_handlers_alone() -> None:
    before, seen = signal.getsignal(signal.SIGINT), []

    def work() -> None:
        with noting_interrupts():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]
