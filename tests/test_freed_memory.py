"""Freed memory is used again by the process that freed it, where the C library is glibc."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

PAGES = """
import resource
import sys
import threading
import numpy as np
from funduscope.freed_memory import keep_freed_memory

if sys.argv[1] == "kept":
    keep_freed_memory()

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def pages_of_a_second_block():
    np.ones(200_000_000, np.uint8)
    before = faults()
    np.ones(200_000_000, np.uint8)
    counted.append(faults() - before)

counted = []
pages_of_a_second_block()
thread = threading.Thread(target=pages_of_a_second_block)
thread.start()
thread.join()
print(*counted)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have no such setting")
def test_a_large_block_that_was_freed_is_not_asked_of_the_system_again() -> None:
    """Of 4 KB, 200 MB are 48,828 pages; where the system gives huge ones, of 2 MB, still 95."""

    def counted(how: str) -> list[int]:
        done = subprocess.run([sys.executable, "-c", PAGES, how], capture_output=True, text=True, check=True)
        return [int(word) for word in done.stdout.split()]

    assert min(counted("given back")) > 80
    assert max(counted("kept")) < 40
