"""Work on the next items in threads while the present one is used: photos are decoded while the model answers."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def read_ahead(items: Iterable[T], read: Callable[[T], R], ahead: int = 1) -> Iterator[tuple[T, R]]:
    """Each item with `read(item)`, in order. At most `ahead` items, 1 or more, are read ahead, so memory stays flat.

    As many threads read as there are cores, `ahead` at most. The items themselves are taken in the caller's thread.
    What `read` raises is raised in place of that item.
    """
    with ThreadPoolExecutor(min(ahead, len(cores())), "read-ahead") as pool:
        waiting: deque[tuple[T, Future[R]]] = deque()
        for item in items:
            waiting.append((item, pool.submit(read, item)))
            if len(waiting) > ahead:
                first, result = waiting.popleft()
                yield first, result.result()
        while waiting:
            first, result = waiting.popleft()
            yield first, result.result()


def cores() -> list[int]:
    """The processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))
