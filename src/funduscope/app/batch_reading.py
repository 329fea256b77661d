"""Reads many uploads in the background: finished photos arrive one by one, and what waits can be canceled."""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from funduscope.app.session import Entry, OpenPhoto
from funduscope.app.uploads import read_upload
from funduscope.inference.findings import Failure
from funduscope.report.outline import Palette

ABANDONED_S: Final = 600
"""If the page has not asked for answers for so long, it is closed or asleep: reading pauses until it asks again."""

ZIP: Final = b"PK\x03\x04"


@dataclass(frozen=True)
class Upload:
    """One photo of an uploaded file. data: returns the file's bytes. frame: of a DICOM file of several, which one."""

    name: str
    data: Callable[[], bytes]
    frame: int | None = None


@dataclass(frozen=True)
class SavedCorrections:
    """A file of saved corrections, which the session itself restores."""

    name: str
    data: bytes


UploadResult = tuple[Entry, OpenPhoto] | Failure | SavedCorrections


class BatchReading:
    """One thread that reads uploads in order. At most one answer waits, so that memory stays bounded."""

    def __init__(self, palette: Palette) -> None:
        self._palette: Palette = palette
        self._waiting: deque[Upload] = deque()
        self._answers: queue.Queue[UploadResult] = queue.Queue(maxsize=1)
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self._is_running = False
        self._left_over: list[UploadResult] = []
        self._began = self._asked = time.monotonic()
        self.count = 0
        """Files in all."""

        self.done = 0
        """Files whose answer was taken."""

    def add(self, uploads: list[Upload]) -> None:
        """Adds files to those that wait, and starts reading."""
        self.count += len(uploads)
        with self._lock:
            self._waiting.extend(uploads)
        self._start()

    def _start(self) -> None:
        """Starts the thread, where something waits and it does not run."""
        with self._lock:
            if self._is_running or not self._waiting or self._stopped.is_set():
                return
            self._is_running = True
        # The program waits for the photo being read: ending in the middle of a model's work aborts it.
        threading.Thread(target=self._run, daemon=False).start()

    def take(self) -> list[UploadResult]:
        """The answers that came since the last call."""
        now = time.monotonic()
        self._began += max(0.0, now - self._asked - ABANDONED_S)  # rest is no time of reading
        self._asked = now
        taken: list[UploadResult] = []
        with suppress(queue.Empty):
            while True:
                taken.append(self._answers.get_nowait())
        with self._lock:
            taken += self._left_over
            self._left_over.clear()
        self._start()
        self.done += len(taken)
        return taken

    def cancel(self) -> int:
        """Reads no further file and drops the one being read; returns how many stay unread."""
        self._stopped.set()
        with self._lock:
            self._waiting.clear()
        return self.left

    @property
    def left(self) -> int:
        """Files whose answer was not taken yet."""
        return self.count - self.done

    @property
    def seconds_left(self) -> float | None:
        """By the mean time of the files so far; None before the first answer."""
        return None if not self.done else (time.monotonic() - self._began) / self.done * self.left

    @property
    def _goes_on(self) -> bool:
        """False once it was canceled, and while the program ends: an aborted model would end it with an error."""
        return not self._stopped.is_set() and threading.main_thread().is_alive()

    def _next(self) -> Upload | None:
        """The next file; None if the thread is to end, which `add` knows from then on."""
        with self._lock:
            if self._waiting and self._goes_on:
                return self._waiting.popleft()
            self._is_running = False
            return None

    def _run(self) -> None:
        while (upload := self._next()) is not None:
            answer = self._read(upload)
            while self._goes_on:
                try:
                    self._answers.put(answer, timeout=1)
                    break
                except queue.Full:
                    if time.monotonic() - self._asked > ABANDONED_S:
                        with self._lock:
                            self._left_over.append(answer)
                            self._is_running = False
                        return

    def _read(self, upload: Upload) -> UploadResult:
        data = upload.data()
        return (
            SavedCorrections(upload.name, data)
            if data.startswith(ZIP)
            else read_upload(data, upload.name, self._palette, frame=upload.frame)
        )
