"""The log: one JSON object a line on stdout. No file name, no pixel, no token, no address of a client."""

from __future__ import annotations

import io
import json
import logging
import select
import sys
import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

STDOUT = 1
"""Its file descriptor."""


class JsonLog:
    """Writes events as lines of JSON on stdout; a reader that went away or stands still and a full disk end nothing.

    A line that could not be written is dropped: in a buffer it would be tried again at the end and
    change the exit code.
    """

    def __init__(self) -> None:
        self._stream = io.FileIO(STDOUT, "w", closefd=False)
        self._writing = threading.Lock()

    def __call__(self, event: str, fields: Mapping[str, Any]) -> None:
        """An event with its fields; the level is `info` unless the fields say otherwise."""
        time = datetime.now(UTC).isoformat(timespec="milliseconds")
        line = json.dumps({"time": time, "level": "info", "event": event, **fields}, separators=(",", ":"))
        with self._writing:
            try:
                if not _takes_more():
                    return
                self._stream.write(f"{line}\n".encode())
            except (OSError, ValueError):
                return


def _takes_more() -> bool:
    """Whether a line can be written at once: to wait for the reader of a pipe would stop the whole service."""
    if sys.platform == "win32":  # select is for sockets there
        return True
    return bool(select.select([], [STDOUT], [], 0)[1])


class LibraryErrors(logging.Handler):
    """Passes errors of the server's libraries on, without their tracebacks, which may quote a request."""

    def __init__(self, log: JsonLog) -> None:
        super().__init__(logging.ERROR)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        """The logger's name, and the kind of the exception if there is one."""
        kind = record.exc_info[0].__name__ if record.exc_info and record.exc_info[0] else None
        self._log("library error", {"level": "error", "logger": record.name, "kind": kind})


def take_over(log: JsonLog) -> None:
    """From now on, what libraries log at the level of errors is a line of this log, and nothing else is printed."""
    root = logging.getLogger()
    root.handlers = [LibraryErrors(log)]
    root.setLevel(logging.ERROR)
