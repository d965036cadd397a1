"""Ahead: in order, no more than a few ahead, errors where they belong."""

import threading

import pytest

from vec2text.ahead import ahead


def test_all_come_in_order_and_from_another_thread():
    threads = set()

    def make(item):
        threads.add(threading.get_ident())
        return 2 * item

    assert list(ahead(make, range(20))) == [2 * item for item in range(20)]
    assert threads
    assert threading.get_ident() not in threads


def test_only_a_few_are_made_before_they_are_asked_for():
    made = []
    coming = ahead(made.append, range(100))
    next(coming)
    coming.close()  # waits for what was begun
    assert len(made) <= 3


def test_an_error_is_raised_in_its_place():
    coming = ahead(lambda item: 1 // item, [1, 1, 0, 1])
    assert [next(coming), next(coming)] == [1, 1]
    with pytest.raises(ZeroDivisionError):
        next(coming)


def test_nothing_gives_nothing():
    assert list(ahead(str, [])) == []
