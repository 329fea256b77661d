"""What one visitor's session holds: the photos that were dropped, newest last, within bounds.

A photo's pixels, masks and maps take a hundred megabytes; they are held of the last few photos that were looked at,
and made again from the file's bytes when an older one is opened. The bytes have a bound of their own.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any, Final

from funduscope.app.corrections import Corrections, History, seen_with
from funduscope.app.reviewed import advised, told
from funduscope.explain.counterfactual import Change
from funduscope.inference.findings import Failure, Findings
from funduscope.report.outline import Palette
from funduscope.report.photo_jpegs import marked_jpeg

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
    `palette`, a small JPEG for the PDF. changed: both as they were when a photo with other outlines was put away.
    """

    key: str
    name: str
    data: bytes | None
    found: dict[str, Any]
    picture: bytes
    palette: Palette = "standard"
    changed: tuple[dict[str, Any], bytes] | None = None


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
class Session:
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
            gone, put_away = self.opened.popitem(last=False)
            self.put_away(gone, put_away)

    def put_away(self, key: str, opened: Opened) -> None:
        """Keeps what table and PDF need of a photo that is held open no longer."""
        entry = self.entries.get(key)
        if entry is not None:
            entry.changed = self._anew(entry, opened) if self._is_changed(key) else None

    def found(self, key: str) -> dict[str, Any]:
        """A photo's findings by now, objects left out: under its thresholds and corrections, with what that advises."""
        entry, opened = self.entries[key], self.opened.get(key)
        found = entry.found
        if self._is_changed(key) and opened is not None:
            found = told(self._outlined(key, opened))
        elif self._is_changed(key) and entry.changed is not None:
            found = entry.changed[0]
        return advised(found, self.history(key).now)

    def picture(self, key: str) -> bytes:
        """The photo with its overlay by now, as a small JPEG."""
        entry, opened = self.entries[key], self.opened.get(key)
        if self._is_changed(key) and opened is not None:
            return self._anew(entry, opened)[1]
        return entry.changed[1] if self._is_changed(key) and entry.changed is not None else entry.picture

    def _is_changed(self, key: str) -> bool:
        """Whether anything but the model's own outlines and landmarks is shown."""
        now = self.history(key).now
        return bool(self.thresholds.get(key) or now.masks or now.disc_xy or now.fovea_xy)

    def _anew(self, entry: Entry, opened: Opened) -> tuple[dict[str, Any], bytes]:
        shown = self._outlined(entry.key, opened)
        return told(shown), marked_jpeg(shown, entry.palette)

    def _outlined(self, key: str, opened: Opened) -> Findings:
        """The findings as the page shows them; what it drew last is not made again."""
        thresholds, now = self.thresholds.get(key, {}), self.history(key).now
        if opened.latest is not None and opened.latest[0][1:] == (thresholds, now):
            return opened.latest[1]
        return seen_with(opened.findings, thresholds, now)

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
