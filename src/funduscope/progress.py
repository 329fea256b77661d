"""What shows how far long work is: a function that items pass through."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

Progress = Callable[[Iterable[Any], str, int | None], Iterable[Any]]
"""Takes items, a label and their number, and gives the same items: shows a progress bar."""


def no_progress(items: Iterable[Any], label: str, total: int | None) -> Iterable[Any]:
    """A `Progress` that shows nothing."""
    return items
