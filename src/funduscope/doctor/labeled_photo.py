"""One photo with everything that labels say of it: its record, rows and masks, each mask file decoded once.

Checks that need a photo's labels take these photos one by one, so that the masks of one photo alone are in memory.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np

from funduscope.data.case import Box, Point
from funduscope.doctor.finding import Finding
from funduscope.doctor.label_rows import LabelRow, LabelRows
from funduscope.doctor.mask_files import MaskFile, Stored, read_stored
from funduscope.doctor.record import Record
from funduscope.doctor.scan import Scan
from funduscope.progress import Progress, no_progress
from funduscope.vocabulary import DISC_DIAMETER_FRAC

DISC_SHARE: Final = (0.07, 0.35)
"""Plausible diameters of a disc, as shares of the field's diameter; at 50 degrees they are 0.11 to 0.23."""


@dataclass(frozen=True, eq=False)
class LabeledPhoto:
    """A photo, its record (with an `error` where it cannot be opened), its label rows and its masks' files."""

    scan: Scan
    path: Path
    record: Record
    label_rows: LabelRows
    outlines: Sequence[MaskFile]
    _decoded: dict[Path, Stored | str] = field(default_factory=dict, repr=False)

    @property
    def name(self) -> str:
        """Relative to the data set, with forward slashes."""
        return self.record.path

    @property
    def rows(self) -> Sequence[LabelRow]:
        """The rows of label files about this photo."""
        return self.label_rows.by_photo.get(self.path, ())

    def value(self, role: str) -> Any:
        """The first value that a label file gives in that role; None if none does."""
        return self.label_rows.value(self.path, role)

    def evidence(self, role: str) -> dict[str, Any]:
        """Row, column and text of that value, empty if there is none."""
        row = self.label_rows.first(self.path, role)
        return {} if row is None else row.evidence(role)

    def table(self, role: str) -> Path | None:
        """The label file that gives that value."""
        row = self.label_rows.first(self.path, role)
        return None if row is None else row.table

    def point(self, landmark: str) -> Point | None:
        """The place of "disc" or "fovea" in pixels."""
        return next((point for row in self.rows if (point := row.point(landmark)) is not None), None)

    @property
    def disc_box(self) -> Box | None:
        """The first box around the disc."""
        return next((box for _, box in self.label_rows.boxes(self.path, "OD")), None)

    @property
    def disc_diameter_px(self) -> tuple[float, bool]:
        """The disc's diameter, and whether it was measured on this eye rather than estimated from the field's."""
        field_px = 2 * self.record.field_of_view[2] if self.record.field_of_view is not None else self.record.width
        width = box_width(self.disc_box) if self.disc_box is not None else 0.0
        is_plausible = DISC_SHARE[0] <= width / field_px <= DISC_SHARE[1]
        return (width if is_plausible else field_px * DISC_DIAMETER_FRAC), is_plausible

    def stored(self, outline: MaskFile) -> Stored | str:
        """The decoded mask file, or a sentence that says why it cannot be read."""
        if outline.file not in self._decoded:
            self._decoded[outline.file] = read_stored(outline.file)
        return self._decoded[outline.file]

    def inside(self, outline: MaskFile) -> np.ndarray | None:
        """(H, W) bool of a mask of the photo's size; None for an unreadable one and one of another size."""
        stored = self.stored(outline)
        if isinstance(stored, str) or stored.values.shape != (self.record.height, self.record.width):
            return None
        return stored.inside

    def mask(self, code: str) -> np.ndarray | None:
        """(H, W) bool: the union of a structure's masks; None if there is none or nothing is marked."""
        masks = [mask for one in self.outlines_of(code) if (mask := self.inside(one)) is not None and mask.any()]
        return np.logical_or.reduce(masks) if masks else None

    def outlines_of(self, *codes: str) -> list[MaskFile]:
        """The masks of structures, without files of votes."""
        return [outline for outline in self.outlines if outline.code in codes and not outline.is_votes]


class PhotoCheck(Protocol):
    """Findings of each labeled photo, then findings about the whole data set."""

    def of_photo(self, photo: LabeledPhoto) -> Iterator[Finding]: ...

    def of_data(self, findings: Sequence[Finding]) -> Iterator[Finding]:
        """findings: everything that all checks found in the photos."""
        ...


def check_photos(
    scan: Scan,
    label_rows: LabelRows,
    outlines: Iterable[MaskFile],
    checks: Sequence[PhotoCheck],
    progress: Progress = no_progress,
) -> Iterator[Finding]:
    """Findings of several checks about every photo that has a label row or a mask, in one pass over the photos."""
    by_photo: dict[Path, list[MaskFile]] = defaultdict(list)
    for outline in outlines:
        if outline.photo is not None:
            by_photo[outline.photo].append(outline)
    paths = sorted({*label_rows.by_photo, *by_photo})
    findings: list[Finding] = []
    for path in progress(paths, "Checking labels and masks", len(paths)):
        name = scan.relative(path)
        record = scan.record(name) or Record(name, error="E_INTERNAL")
        photo = LabeledPhoto(scan, path, record, label_rows, by_photo.get(path, ()))
        for check in checks:
            findings.extend(check.of_photo(photo))
    yield from findings
    for check in checks:
        yield from check.of_data(findings)


def box_width(box: Box) -> float:
    """The side of a square of the box's area."""
    return ((box[2] - box[0]) * (box[3] - box[1])) ** 0.5
