"""What one visitor's session holds: the photos that were dropped, newest last, within bounds.

A photo's pixels, masks and maps take a hundred megabytes; they are held of the last few photos that were looked at,
and made again from the file's bytes when an older one is opened. The bytes have a bound of their own.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any, Final

from funduscope.app.corrections import Corrections, History
from funduscope.predict.findings import Failure, Findings
from funduscope.predict.outline import Palette
from funduscope.predict.what_if import Change

OPEN_PHOTOS: Final = 2
"""So many photos are held with pixels and masks: a comparison needs two."""

OPEN_PIXELS: Final = 80_000_000
"""So many pixels the held photos have together; a single larger one is held alone."""

HELD_BYTES: Final = 256_000_000
"""Of uploaded files in one session; beyond it the oldest are let go, their rows in the table stay."""

HELD_ROWS: Final = 500


@dataclass
class Entry:
    """One photo of the session. found: its findings as in findings.json, objects left out.

    data: the file's bytes, or None once they were let go. picture: the photo with its overlay in the colors of
    `palette`, a small JPEG for the PDF.
    """

    key: str
    name: str
    data: bytes | None
    found: dict[str, Any]
    picture: bytes
    palette: Palette = "standard"


@dataclass(eq=False)
class Opened:
    """A photo with everything at hand. jpeg: its pixels for the browser; planes: its probabilities, a PNG a structure.

    latest: what was last drawn, and of what. maps: what speaks for each answer,
    as a JPEG. changes: what filling lesions in changed, and of which outlines.
    """

    findings: Findings
    jpeg: bytes
    planes: dict[str, bytes] = field(default_factory=dict)
    latest: tuple[Any, Findings, dict[str, Any]] | None = None
    maps: dict[str, bytes] = field(default_factory=dict)
    changes: tuple[Any, tuple[Change, ...]] | None = None


@dataclass
class Shelf:
    """The photos of one session by key (the file's SHA-256), what a person changed of them, and what was refused.

    done: the uploads that were read already, so that a run that is interrupted goes on where it stopped.
    """

    entries: OrderedDict[str, Entry] = field(default_factory=OrderedDict)
    opened: OrderedDict[str, Opened] = field(default_factory=OrderedDict)
    histories: dict[str, History] = field(default_factory=dict)
    saved: dict[str, Corrections] = field(default_factory=dict)
    thresholds: dict[str, dict[str, float]] = field(default_factory=dict)
    refused: list[Failure] = field(default_factory=list)
    done: set[str] = field(default_factory=set)

    def put(self, entry: Entry, opened: Opened | None) -> None:
        """Adds a photo; the same file again takes its earlier place."""
        self.entries.pop(entry.key, None)
        self.entries[entry.key] = entry
        if opened is not None:
            self.look_at(entry.key, opened)
        while len(self.entries) > HELD_ROWS:
            gone, _ = self.entries.popitem(last=False)
            for shelf in (self.opened, self.histories, self.saved, self.thresholds):
                shelf.pop(gone, None)
        held = sum(len(one.data or b"") for one in self.entries.values())
        for one in self.entries.values():
            if held <= HELD_BYTES or one.key == entry.key:
                break
            held -= len(one.data or b"")
            one.data = None

    def look_at(self, key: str, opened: Opened) -> None:
        """Makes this the photo last looked at; lets go of the one not looked at for longest."""
        self.opened[key] = opened
        self.opened.move_to_end(key)
        while len(self.opened) > OPEN_PHOTOS or (len(self.opened) > 1 and self._open_pixels() > OPEN_PIXELS):
            self.opened.popitem(last=False)

    def _open_pixels(self) -> int:
        return sum(one.findings.photo.width * one.findings.photo.height for one in self.opened.values())

    def history(self, key: str) -> History:
        """The corrections of a photo, empty at first."""
        return self.histories.setdefault(key, History())

    @property
    def corrected(self) -> list[str]:
        """The photos of which anything was corrected."""
        return [key for key in self.entries if key in self.histories and self.histories[key].now.any]

    @property
    def unsaved(self) -> bool:
        """Whether anything would be lost with the page."""
        return any(self.histories[key].now != self.saved.get(key) for key in self.corrected)

    def refuse(self, failure: Failure) -> None:
        """Keeps the last few refusals, for their sentences."""
        self.refused = [*self.refused, failure][-20:]

    def clear(self) -> None:
        """Lets go of everything."""
        for held in (self.entries, self.opened, self.histories, self.saved, self.thresholds, self.refused, self.done):
            held.clear()
