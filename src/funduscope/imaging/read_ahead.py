"""Work on the next items in threads while the present one is used: photos are decoded while the model answers."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from funduscope.capacity import core_count

T = TypeVar("T")
R = TypeVar("R")


def read_ahead(items: Iterable[T], read: Callable[[T], R], ahead: int = 1) -> Iterator[tuple[T, R]]:
    """Each item with `read(item)`, in order. At most `ahead` items, 1 or more, are read ahead, so memory stays flat.

    As many threads read as there are cores, `ahead` at most. The items themselves are taken in the caller's thread.
    What `read` raises is raised in place of that item.
    """
    with ThreadPoolExecutor(min(ahead, core_count()), "read-ahead") as pool:
        waiting: deque[tuple[T, Future[R]]] = deque()
        for item in items:
            waiting.append((item, pool.submit(read, item)))
            if len(waiting) > ahead:
                first, result = waiting.popleft()
                yield first, result.result()
        while waiting:
            first, result = waiting.popleft()
            yield first, result.result()
