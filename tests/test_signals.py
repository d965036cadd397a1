"""Ctrl-C and SIGTERM are collected, not died of, and nobody else's handler is lost."""

import os
import signal
import threading
from types import SimpleNamespace

import pytest

from vec2text import signals
from vec2text.signals import collected_signals

BOTH = (signal.SIGINT, signal.SIGTERM)


@pytest.fixture(autouse=True)
def _handlers():
    """Whatever a test does, the handlers stay those of before."""
    before = [signal.getsignal(number) for number in BOTH]
    yield
    assert [signal.getsignal(number) for number in BOTH] == before


@pytest.fixture
def clock(monkeypatch):
    """The seconds on the clock, in a list of one."""
    now = [0.0]
    monkeypatch.setattr(signals, "time", SimpleNamespace(monotonic=lambda: now[0]))
    return now


def send(number):
    os.kill(os.getpid(), number)


def test_signals_are_collected_in_their_order():
    with collected_signals() as received:
        assert received == []
        send(signal.SIGTERM)
        send(signal.SIGINT)
        assert received == [signal.SIGTERM, signal.SIGINT]


def test_a_second_interrupt_after_a_while_kills_and_one_passed_on_at_once_does_not(clock):
    with collected_signals() as received:
        send(signal.SIGINT)
        clock[0] = 0.5
        send(signal.SIGINT)
        assert received == [signal.SIGINT, signal.SIGINT]
        clock[0] = 1.5
        send(signal.SIGTERM)
        assert len(received) == 3
        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGINT)


def test_another_thread_than_the_main_one_goes_on_without():
    done = []

    def work():
        with collected_signals() as received:
            done.append(received)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == [[]]
