"""SIGTERM, as a scheduler sends it before it takes a machine away, ends a verb in order and with one sentence. So does
SIGHUP, of a terminal that was closed, unless it is ignored (nohup)."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from types import FrameType
from typing import Final

TERMINATED: Final = 143
"""The exit code: 128 and the number of SIGTERM."""
_SIGNALS: Final = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))


class TerminatedError(BaseException):
    """SIGTERM came. No `Exception`, so that nothing on the way takes it for a fault of its own. says: what remains."""

    def __init__(self, says: str) -> None:
        super().__init__(says)
        self.says = says


def ended_by_sigterm(says: str) -> AbstractContextManager[None]:
    """Raises `TerminatedError` in the block at such a signal; unfinished files are removed on the way out. A second one
    ends the process at once.

    says: with the signal's name for {signal}. Processes that the block forks inherit the handler and just end.
    """
    own = os.getpid()

    def handle(number: int, _: FrameType | None) -> None:
        if os.getpid() != own:
            os._exit(TERMINATED)
        for one in _SIGNALS:
            signal.signal(one, signal.SIG_DFL)
        raise TerminatedError(says.format(signal=signal.Signals(number).name))

    return _handled_by(handle)


def interrupted_by_sigterm() -> AbstractContextManager[None]:
    """SIGTERM, sent at a system's shutdown or by a scheduler at its time limit, ends the block as Ctrl+C does."""
    return _handled_by(signal.default_int_handler)


@contextmanager
def _handled_by(handle: Callable[[int, FrameType | None], object]) -> Iterator[None]:
    """Calls that function at such a signal while the block runs."""
    if threading.current_thread() is not threading.main_thread():  # only the main thread can set signal handlers
        yield
        return
    earlier = {number: signal.getsignal(number) for number in _SIGNALS}
    for number in (number for number, handler in earlier.items() if handler is not signal.SIG_IGN):
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler or signal.SIG_DFL)
