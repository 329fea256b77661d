"""The cores and the memory that this process may use, by its affinity and by the limits of its container."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

READER_BYTES: Final = 500_000_000
"""Room for a process that reads photos: with the default model it takes 400 MB (docs/scale.md)."""

TRAINING_BYTES: Final = 2_000_000_000
"""Room for one of several processes that train a network."""

_NO_LIMIT_BYTES: Final = 1 << 62

_CGROUPS = Path("/sys/fs/cgroup")
_MEMBERSHIPS = Path("/proc/self/cgroup")


def allowed_cores() -> list[int]:
    """Return the numbers of the cores that this process may run on: to bind processes to, not to count."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def core_count() -> int:
    """Return how many cores this process can keep busy: those it may run on, fewer where its container has a quota."""
    return min([len(allowed_cores()), *_quotas()])


def thread_limit() -> int:
    """Return `core_count` where the machine has more cores, 0 where it has not.

    For libraries that take 0 for their own choice, which is one thread for each core of the machine.
    """
    count = core_count()
    return count if count < (os.cpu_count() or 1) else 0


def worker_count(each_bytes: int) -> int:
    """Return how many processes of that memory can work at once: one a core at most, and at least one."""
    return max(1, min(core_count(), _memory_bytes() // each_bytes))


def _memory_bytes() -> int:
    """The machine's memory, or less where a container of this process has a limit."""
    limits: list[int] = []
    with suppress(AttributeError, ValueError, OSError):  # Windows
        limits.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))

    for group in _groups("memory"):
        for name in ("memory.max", "memory.limit_in_bytes"):  # of version 2, of version 1
            limits += [int(word) for word in _words(group / name) if word.isdecimal()]
    return min(limits, default=_NO_LIMIT_BYTES)


def _quotas() -> Iterator[int]:
    """The processor time of each group of this process that has a quota, in cores, rounded up."""
    for group in _groups("cpu"):
        words = _words(group / "cpu.max")  # of version 2: quota and period
        if not words:
            words = _words(group / "cpu.cfs_quota_us") + _words(group / "cpu.cfs_period_us")

        if len(words) == 2 and words[0].isdecimal():  # without a quota it is "max" or -1
            yield math.ceil(int(words[0]) / int(words[1]))


def _groups(controller: str) -> Iterator[Path]:
    """The folders of this process's control groups, each from its own up to the root; none where a system has none.

    In a container the own group may be named by its path on the host, which is not there: the root counts then.
    """
    lines: list[str] = []
    with suppress(OSError):
        lines = _MEMBERSHIPS.read_text().splitlines()

    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        root = _CGROUPS / controller if controllers else _CGROUPS  # version 2 has one tree for all
        group = root / path.lstrip("/")
        yield from (folder for folder in (group, *group.parents) if folder.is_relative_to(root))


def _words(file: Path) -> list[str]:
    with suppress(OSError):
        return file.read_text().split()
    return []
