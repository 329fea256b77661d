"""What shows how far long work is: a function that items pass through."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TextIO

Progress = Callable[[Iterable[Any], str, int | None], Iterable[Any]]
"""Takes items, a label and their number, and gives the same items: shows a progress bar."""


def no_progress(items: Iterable[Any], label: str, total: int | None) -> Iterable[Any]:
    """A `Progress` that shows nothing."""
    return items


def tell(sentence: str, stream: TextIO) -> None:
    """Prints a line at once. Where nobody reads the stream any more (`| head`, a window that was closed), the work goes
    on, and what it prints there is dropped."""
    try:
        print(sentence, file=stream, flush=True)
    except BrokenPipeError:
        with Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), stream.fileno())
