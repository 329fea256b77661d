"""The next items are read while the present one is used: order, errors, and never more ahead than asked for."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from funduscope.imaging.read_ahead import read_ahead


@pytest.mark.parametrize("ahead", [1, 3])
def test_items_come_in_order_and_so_many_are_read_ahead(ahead: int) -> None:
    taken, finished, main = [], [threading.Event() for _ in range(5)], threading.get_ident()

    def items() -> Iterator[int]:
        for number in range(5):
            assert threading.get_ident() == main
            taken.append(number)
            yield number

    def read(number: int) -> tuple[int, int]:
        finished[number].set()
        return number, threading.get_ident()

    for place, (number, (value, thread)) in enumerate(read_ahead(items(), read, ahead)):
        assert place == number == value
        assert thread != main
        assert len(taken) == min(place + 1 + ahead, 5)
        for upcoming in finished[place + 1 : place + 1 + ahead]:
            assert upcoming.wait(10), "they are read while this one is used"
    assert list(read_ahead([], read)) == []


def test_an_error_is_raised_in_its_place() -> None:
    found = []

    def read(number: int) -> float:
        return 1 / number

    with pytest.raises(ZeroDivisionError):
        found.extend(value for _, value in read_ahead([2, 1, 0, 4], read))
    assert found == [0.5, 1.0]
