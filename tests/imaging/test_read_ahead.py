"""The next item is read while the present one is used: order, errors, and never more than one ahead."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from funduscope.imaging.read_ahead import read_ahead


def test_items_come_in_order_and_one_is_read_ahead() -> None:
    taken, finished, main = [], [threading.Event() for _ in range(5)], threading.get_ident()

    def items() -> Iterator[int]:
        for number in range(5):
            assert threading.get_ident() == main
            taken.append(number)
            yield number

    def read(number: int) -> tuple[int, int]:
        finished[number].set()
        return number, threading.get_ident()

    for place, (number, (value, thread)) in enumerate(read_ahead(items(), read)):
        assert place == number == value
        assert thread != main
        assert len(taken) <= place + 2
        if place < 4:
            assert finished[place + 1].wait(10), "the next one is read while this one is used"
    assert list(read_ahead([], read)) == []


def test_an_error_is_raised_in_its_place() -> None:
    found = []

    def read(number: int) -> float:
        return 1 / number

    with pytest.raises(ZeroDivisionError):
        found.extend(value for _, value in read_ahead([2, 1, 0, 4], read))
    assert found == [0.5, 1.0]
