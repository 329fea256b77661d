"""Memory that was freed is kept for the next photo or batch, where the C library would give it back to the system."""

from __future__ import annotations

import ctypes
from typing import Final

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8  # of glibc's malloc.h
_LARGEST_KEPT_BYTES: Final = 1 << 30
NO_LIMIT: Final = -1


def keep_freed_memory(most_bytes: int = _LARGEST_KEPT_BYTES) -> None:
    """Sets up this process's allocator, before it works: at most that much freed memory stays its own.

    By glibc's default a block of more than 32 MB, as the maps of a network are, goes back to the system as soon as it
    is freed, and the system clears every page of the next one: a good part of a training's time
    (docs/log.md, 2026-11-30). Does nothing where the C library is another one. The processes of this package call it;
    a program that imports the package may, too. most_bytes: `NO_LIMIT` for trainings, whose batches need gigabytes.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # macOS, musl; Windows
        return
    mallopt(_ARENA_MAX, 1)  # a block that one thread freed serves the others
    mallopt(_MMAP_THRESHOLD, _LARGEST_KEPT_BYTES)
    mallopt(_TRIM_THRESHOLD, most_bytes)
