"""Work on the next item in a thread while the present one is used: photos are decoded while the model answers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def read_ahead(items: Iterable[T], read: Callable[[T], R]) -> Iterator[tuple[T, R]]:
    """Each item with `read(item)`, in order. At most one item is read ahead, so memory stays flat.

    The items themselves are taken in the caller's thread. What `read` raises is raised in place of that item.
    """
    with ThreadPoolExecutor(1, "read-ahead") as pool:
        waiting = None
        for item in items:
            upcoming = item, pool.submit(read, item)
            if waiting is not None:
                yield waiting[0], waiting[1].result()
            waiting = upcoming
        if waiting is not None:
            yield waiting[0], waiting[1].result()
