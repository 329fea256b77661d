"""What one visitor's session keeps: the uploaded photos, oldest first, within bounds.

Pixels, masks and maps of a photo take a hundred megabytes. They are kept for the last photos that were opened, and
computed again from the file's bytes when an older photo is opened. The bytes have their own bound.
"""

from __future__ import annotations

import itertools
from collections import OrderedDict
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from typing import Any, Final

from funduscope.app.reviewed import Corrections, History, apply_corrections, with_advice, without_objects
from funduscope.explain.class_activation import Explanation, Target
from funduscope.explain.counterfactual import Change
from funduscope.inference.findings import Failure, Findings
from funduscope.report.outline import Palette
from funduscope.report.photo_jpegs import marked_jpeg

MAX_OPEN_PHOTOS: Final = 2
"""Photos kept with pixels and masks: a comparison needs two."""

MAX_OPEN_PIXELS: Final = 80_000_000
"""Pixels of all open photos together; a single larger photo may be open alone."""

MAX_UPLOAD_BYTES: Final = 256_000_000
"""Bytes of all uploaded files of one session. Beyond it the oldest files are removed; their rows in the table stay."""

MAX_ROWS: Final = 500


@dataclass
class Entry:
    """One photo of the session.

    data: the file's bytes, None once they were removed from memory. found: the model's findings as in findings.json,
    without objects. picture: a small JPEG of the photo with its overlay in the colors of `palette`, for the PDF.
    thumbnail: a smaller one of the photo alone, for the table.
    changed: both with the corrected outlines, of a photo that is no longer open. forced: a person had it graded though
    it is refused. frame: of a DICOM file of several, which one. acquired_on: the day of the exposure by the file.
    original: of a photo restored from saved corrections, the SHA-256 of the file that it was uploaded as before.
    """

    key: str
    name: str
    data: bytes | None
    found: dict[str, Any]
    picture: bytes
    thumbnail: bytes
    palette: Palette = "standard"
    changed: tuple[dict[str, Any], bytes] | None = None
    forced: bool = False
    frame: int | None = None
    acquired_on: date | None = None
    original: str = ""


@dataclass(eq=False)
class OpenPhoto:
    """A photo with everything that its view needs.

    jpeg: its pixels for the browser. planes: structure code to a PNG of its probabilities. latest: what was drawn last,
    as (palette, thresholds, corrections), findings, viewer data. maps: explained answer to a JPEG of its map.
    by_network: what only a checkpoint gives: maps by Grad-CAM, and a JPEG of its attention gates. changes:
    the counterfactual, and the outlines it was computed for.
    """

    findings: Findings
    jpeg: bytes
    planes: dict[str, bytes] = field(default_factory=dict)
    latest: tuple[Any, Findings, dict[str, Any]] | None = None
    maps: dict[str, bytes] = field(default_factory=dict)
    by_network: tuple[dict[Target, Explanation], bytes | None] | None = None
    changes: tuple[Any, tuple[Change, ...]] | None = None


@dataclass
class Session:
    """The photos of one session by key (the file's SHA-256), with a person's changes, and the refused files.

    saved: the corrections as they were last saved. drafted: as they are in the draft on disk. in_widgets: as the page's
    widgets show them. deferred: by photo the kinds of which the person said that they are not complete yet.
    grader: the name of the person at the page. unnamed: photos that were corrected before the person gave it.
    repeated: files whose photo was here already, each by its name and the name that the photo had before.
    """

    entries: OrderedDict[str, Entry] = field(default_factory=OrderedDict)
    opened: OrderedDict[str, OpenPhoto] = field(default_factory=OrderedDict)
    histories: dict[str, History] = field(default_factory=dict)
    saved: dict[str, Corrections] = field(default_factory=dict)
    drafted: dict[str, Corrections] = field(default_factory=dict)
    in_widgets: dict[str, Corrections] = field(default_factory=dict)
    deferred: dict[str, set[str]] = field(default_factory=dict)
    thresholds: dict[str, dict[str, float]] = field(default_factory=dict)
    refused: list[Failure] = field(default_factory=list)
    repeated: list[tuple[str, str]] = field(default_factory=list)
    unnamed: set[str] = field(default_factory=set)
    grader: str = ""

    def add(self, entry: Entry, opened: OpenPhoto | None) -> None:
        """Adds a photo as the newest one; the same file replaces its earlier entry."""
        before = self.entries.pop(entry.key, None)
        if before is not None:
            if before.forced and not entry.forced:  # what a person decided about this file stands
                entry, opened = replace(before, name=entry.name, data=entry.data), None
            entry = replace(entry, original=entry.original or before.original)
            if before.name != entry.name:
                self.repeated.append((entry.name, before.name))
        self.entries[entry.key] = entry
        if opened is not None:
            self.open(entry.key, opened)
        while len(self.entries) > MAX_ROWS:
            oldest, _ = self.entries.popitem(last=False)
            of_photos = (self.opened, self.histories, self.saved, self.drafted, self.in_widgets)
            for by_key in (*of_photos, self.deferred, self.thresholds):
                by_key.pop(oldest, None)
            self.unnamed.discard(oldest)
        self._drop_files(entry.data)

    def restored_from(self, key: str) -> str | None:
        """The key of the photo that was restored from saved corrections of this file; None without one."""
        return next((own for own, entry in self.entries.items() if entry.original == key), None)

    def bring_back(self, key: str, again: Entry, opened: OpenPhoto | None) -> None:
        """Gives a photo whose bytes were removed from memory those of a file that shows the same."""
        own = self.entries[key]
        if own.data is None:
            own.data, own.frame = again.data, again.frame
            if opened is not None:
                self.open(key, opened)
            self._drop_files(own.data)

    def _drop_files(self, kept: bytes | None) -> None:
        """Removes the oldest files but `kept` from memory until the rest is within the bound; frames share a file."""
        files = {id(one.data): one.data for one in self.entries.values() if one.data is not None}
        size = sum(map(len, files.values()))
        for data in files.values():
            if size > MAX_UPLOAD_BYTES and data is not kept:
                size -= len(data)
                for one in self.entries.values():
                    one.data = None if one.data is data else one.data

    def open(self, key: str, opened: OpenPhoto) -> None:
        """Makes this the photo opened last, and closes those opened longest ago until both bounds are met."""
        self.opened[key] = opened
        self.opened.move_to_end(key)
        while len(self.opened) > MAX_OPEN_PHOTOS or (len(self.opened) > 1 and self._open_pixels() > MAX_OPEN_PIXELS):
            self.close(*self.opened.popitem(last=False))

    def close(self, key: str, opened: OpenPhoto) -> None:
        """Keeps what table and PDF need of a photo that is not open."""
        entry = self.entries[key]
        entry.changed = None
        if self._is_changed(key):
            shown = self.shown(key, opened)
            entry.changed = without_objects(shown), marked_jpeg(shown, entry.palette)

    def shown(self, key: str, opened: OpenPhoto) -> Findings:
        """A photo's findings with its thresholds and corrections; reuses those that were drawn last."""
        thresholds, now = self.thresholds.get(key, {}), self.history(key).now
        if opened.latest is not None and opened.latest[0][1:] == (thresholds, now):
            return opened.latest[1]
        return apply_corrections(opened.findings, thresholds, now)

    def found(self, key: str) -> dict[str, Any]:
        """A photo's current findings without objects: with its thresholds, its corrections and the advice from them."""
        entry, opened = self.entries[key], self.opened.get(key)
        found = entry.found
        if self._is_changed(key) and opened is not None:
            found = without_objects(self.shown(key, opened))
        elif self._is_changed(key) and entry.changed is not None:
            found = entry.changed[0]
        return with_advice(found, self.history(key).now)

    def picture(self, key: str) -> bytes:
        """The photo with its current overlay, as a small JPEG."""
        entry, opened = self.entries[key], self.opened.get(key)
        if self._is_changed(key) and opened is not None:
            return marked_jpeg(self.shown(key, opened), entry.palette)
        return entry.changed[1] if self._is_changed(key) and entry.changed is not None else entry.picture

    def _is_changed(self, key: str) -> bool:
        """Whether outlines or landmarks differ from the model's own."""
        now = self.history(key).now
        return bool(self.thresholds.get(key) or now.masks or now.disc_xy or now.fovea_xy)

    def _open_pixels(self) -> int:
        return sum(one.findings.photo.width * one.findings.photo.height for one in self.opened.values())

    def history(self, key: str) -> History:
        """The history of a photo's corrections, empty at first."""
        return self.histories.setdefault(key, History())

    def correct(self, key: str, after: Corrections) -> None:
        """Makes `after` a photo's corrections, by the person at the page, now; nothing happens if nothing changed."""
        history = self.history(key)
        if after == history.now:
            return
        now = datetime.now().astimezone().replace(second=0, microsecond=0)
        history.step(replace(after, at=now).named(self.grader))
        if not self.grader:
            self.unnamed.add(key)

    def name_grader(self, name: str) -> None:
        """Names the person at the page, also in what the person corrected before."""
        self.grader = name
        if name:
            for key in self.unnamed:
                self.history(key).name_grader(name)
            self.unnamed.clear()

    def labels(self) -> dict[str, str]:
        """By key the photo's name for a list to choose from, in which no two are alike: of a name that comes again the
        later ones are numbered."""
        labels: dict[str, str] = {}
        for key, entry in self.entries.items():
            taken, numbers = {*labels.values()}, itertools.count(2)
            label = entry.name
            while label in taken:
                label = f"{entry.name} ({next(numbers)})"
            labels[key] = label
        return labels

    def size(self, key: str) -> tuple[int, int]:
        """Width and height of a photo, in pixels."""
        photo = self.entries[key].found["photo"]
        return photo["width"], photo["height"]

    @property
    def corrected(self) -> list[str]:
        """The keys of the photos with corrections."""
        return [key for key in self.entries if key in self.histories and not self.histories[key].now.is_empty]

    @property
    def unsaved(self) -> list[str]:
        """The keys of the photos whose corrections were not saved as they are now."""
        return [key for key in self.corrected if self.histories[key].now != self.saved.get(key)]

    def refuse(self, failure: Failure) -> None:
        """Adds a refused file. All are kept: they are only text, and the table must name each."""
        self.refused.append(failure)

    def clear(self) -> None:
        """Forgets everything but who is at the page."""
        for part in vars(self).values():
            if not isinstance(part, str):
                part.clear()
