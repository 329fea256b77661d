"""What is wrong with masks: how they are stored, what they mark, and whether it looks like the structure they name."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path, PurePosixPath
from typing import Any, Final

import numpy as np

from funduscope.data.masks import VOTE
from funduscope.doctor.columns import Cell
from funduscope.doctor.finding import MAX_SINGLE, Finding, found
from funduscope.doctor.label_pictures import drawn
from funduscope.doctor.label_rows import LabelRow, LabelRows
from funduscope.doctor.labeled_photo import LabeledPhoto
from funduscope.doctor.mask_appearance import (
    MISFIT,
    SIGN,
    SWAPPED,
    Cover,
    bare,
    contrast_of,
    cover_of,
    coverage_of,
    ground_of,
)
from funduscope.doctor.mask_files import MaskFile, Stored, are_votes, in_votes_folder, named_files
from funduscope.doctor.scan import Scan
from funduscope.vocabulary import LESIONS

WHOLE: Final = {"OD": 0.12, "lesion": 0.5}
"""Largest plausible shares of the field: discs cover 0.016 to 0.032, lesions 0.20 at most."""

INVERTED_OUTSIDE: Final = 0.5
"""A mask that marks a larger share of what surrounds the field is inverted, or marks the whole photo."""

BEYOND: Final = 0.02
"""Largest share of a mask that may lie beyond the field; real masks have none there."""

SAME: Final = 0.9
"""Overlap (intersection over union) of two structures' masks above which they are one mask."""

_RED: Final = "red inside becomes 76 of 255 where a program converts it to gray, and is lost at a threshold of 127"


class MaskChecks:
    """Findings about the masks of each photo. Conventions and digests are collected to compare masks across photos."""

    def __init__(self, scan: Scan, label_rows: LabelRows, outlines: Sequence[MaskFile]) -> None:
        self.scan, self.label_rows, self.outlines = scan, label_rows, outlines
        self._conventions: dict[str, dict[str, str]] = defaultdict(dict)
        self._digests: dict[str, list[tuple[str, str, str]]] = defaultdict(list)
        self._reported: set[tuple[str, tuple[str, ...]]] = set()

    def of_photo(self, photo: LabeledPhoto) -> Iterator[Finding]:
        """Findings about each mask file, then about what the masks mark in the photo."""
        readable = []
        for outline in photo.outlines:
            name, stored = photo.scan.relative(outline.file), photo.stored(outline)
            for finding in _of_file(photo, outline, name, stored):
                if (finding.kind, finding.files) not in self._reported:  # one file may be several outlines
                    self._reported.add((finding.kind, finding.files))
                    yield finding
            if isinstance(stored, str) or outline.is_votes or not stored.values.any():
                continue
            readable.append(outline)
            self._conventions[_set_of(name)][name] = stored.convention
            if not stored.inside.all():  # masks of everything have a finding of their own, and are all equal
                shape, packed = repr(stored.values.shape).encode(), np.packbits(stored.inside).tobytes()
                digest = hashlib.sha256(shape + packed).hexdigest()
                self._digests[digest].append((name, photo.name, photo.record.pixels_sha256))
        if photo.record.error is None and photo.record.field_of_view is not None:
            yield from _on_photo(photo, readable)

    def of_data(self, findings: Sequence[Finding]) -> Iterator[Finding]:
        """Missing masks, masks of no photo, mixed conventions and copied masks."""
        yield from _missing(self.scan, self.label_rows)
        yield from _without_photo(self.scan, self.outlines)
        yield from _mixed(self._conventions)
        yield from _copied(self._digests)


def _set_of(name: str) -> str:
    """The data set that a file belongs to: the first folder of its name."""
    parts = PurePosixPath(name).parts
    return parts[0] if len(parts) > 1 else "."


def _missing(scan: Scan, label_rows: LabelRows) -> Iterator[Finding]:
    """Missing files that a label file names, or that its counts of experts imply."""
    votes = {path.stem for path in scan.inventory.masks if in_votes_folder(f"{path.parent.name}/{path.name}")}
    for table in label_rows.tables:
        missing = [
            found("mask_missing", scan.names(table.file, row.photo), f"Row {row.row} {says}", row.evidence_of(cell))
            for row in table.rows
            for cell, says in _missing_of(row, votes)
        ]
        if len(missing) > MAX_SINGLE:
            says = f"{len(missing)} masks that the file names are missing. First: {missing[0].says}"
            yield found("mask_missing", [missing[0].files[0]], says, missing[0].evidence | {"masks": len(missing)})
        else:
            yield from missing


def _missing_of(row: LabelRow, votes: set[str]) -> Iterator[tuple[Cell, str]]:
    """A row's cells whose masks are missing, each with the rest of a sentence."""
    for role, cell in row.cells.items():
        for mask in named_files(row.table, cell.text) if role.startswith("mask_") else []:
            if not mask.is_file():
                yield cell, f"names the mask {mask.name}, which is missing."
        code = role.removeprefix("experts_")
        if role != code and cell.value and row.photo is not None and f"{row.photo.stem}_{code}" not in votes:
            yield cell, f"says that {cell.value} of the experts saw {code}; no file has their votes."


def _without_photo(scan: Scan, outlines: Sequence[MaskFile]) -> Iterator[Finding]:
    """Masks of no photo; one finding where no mask of a folder has a photo."""
    folders: dict[Path, list[MaskFile]] = defaultdict(list)
    for outline in outlines:
        folders[outline.file.parent].append(outline)
    for folder, in_folder in folders.items():
        without = [outline for outline in in_folder if outline.photo is None]
        if len(without) == len(in_folder) and len(in_folder) > 3:
            says = f"None of the {len(in_folder)} masks in {folder.name} has the name of a photo that is here."
            yield found("mask_unknown_photo", scan.names(*(outline.file for outline in in_folder)), says)
            continue
        for outline in without:
            says = f"The mask {outline.file.name} has the name of no photo."
            yield found("mask_unknown_photo", [scan.relative(outline.file)], says)


def _of_file(photo: LabeledPhoto, outline: MaskFile, name: str, stored: Stored | str) -> Iterator[Finding]:
    """Findings about one mask file: its name, values, votes and size."""
    if isinstance(stored, str):
        yield found("mask_unreadable", [name], stored)
        return
    evidence: dict[str, Any] = {"mode": stored.mode, "levels": list(stored.levels)}
    if outline.folder_code and outline.folder_code != outline.code:
        says = f"The mask is called {outline.code} and lies in the folder of {outline.folder_code}."
        yield found("mask_misplaced", [name], says, {"name": outline.code, "folder": outline.folder_code})
    if outline.is_votes:
        yield from _votes(photo, outline, name, stored, evidence)
    elif stored.kind not in ("PNG", "TIFF"):
        says = f"The mask is a {stored.kind} file: a training reads PNG and TIFF alone."
        yield found("mask_soft", [name], says, evidence, severity="error")
    elif not stored.is_binary:
        levels = "more than eight" if len(stored.levels) > 8 else str(len(stored.levels))
        says = f"The mask has {levels} values where it should have two: it was resized, smoothed or saved as JPEG."
        yield found("mask_soft", [name], says, evidence)
    if stored.alpha is not None and bool((stored.alpha != stored.inside).mean() > 0.001):
        says = f"Its alpha plane marks {stored.alpha.mean():.1%} of the photo, its colors {stored.inside.mean():.2%}."
        yield found("mask_alpha", [name], says, evidence)
    is_said = photo.value("empty_masks") in ("absent", "unknown") or "lesion_segmentation" in Path(name).parts  # DDR
    if not stored.values.any() and not is_said:
        yield found("mask_empty", [name], "The mask marks nothing.", evidence)
    mask_px, photo_px = list(stored.values.shape[::-1]), [photo.record.width, photo.record.height]
    if photo.record.width and mask_px != photo_px:
        says = f"The mask is {mask_px[0]}x{mask_px[1]} px, its photo {photo_px[0]}x{photo_px[1]} px."
        yield found("mask_size", [name, photo.name], says, {"mask_px": mask_px, "photo_px": photo_px})


def _votes(
    photo: LabeledPhoto, outline: MaskFile, name: str, stored: Stored, evidence: dict[str, Any]
) -> Iterator[Finding]:
    """Values that are no votes, and more votes at a pixel than a label file counts experts."""
    count, most = photo.value(f"experts_{outline.code}"), stored.levels[-1] // VOTE
    if not are_votes(stored.levels):
        says = "Votes are 60 for each expert who marked a pixel: 0, 60, 120, 180 or 240."
        yield found("votes_wrong", [name], says, evidence)
    elif count is not None and most > count:
        says = f"{most} experts marked one pixel as {outline.code}, and the label file counts {count} who saw it."
        yield found("votes_wrong", [name], says, {"votes": most, "counted": count})


def _on_photo(photo: LabeledPhoto, outlines: Sequence[MaskFile]) -> Iterator[Finding]:
    """What the masks of the photo's size mark in it."""
    masks = {outline: mask for outline in outlines if (mask := photo.inside(outline)) is not None}
    if not masks or photo.record.field_of_view is None:
        return
    ground = ground_of(photo.scan.image(photo.name), photo.record.field_of_view)
    covers = {outline: coverage_of(mask, ground) for outline, mask in masks.items()}
    marked = np.zeros(ground.green.shape, bool)
    for outline, cover in list(covers.items()):
        finding = _placement(photo, outline, cover_of(cover, ground))
        if finding is not None:
            yield finding
            del covers[outline]
        else:
            marked |= cover > 0.05
    around = bare(marked, ground)
    for outline, cover in covers.items():
        yield from _light(photo, outline, contrast_of(cover, around, ground))
    yield from _same_mask(photo, covers)


def _placement(photo: LabeledPhoto, outline: MaskFile, cover: Cover) -> Finding | None:
    """A mask that covers too much, or that lies beyond the field."""
    most = WHOLE["OD"] if outline.code == "OD" else WHOLE["lesion"] if outline.code in LESIONS else 0.9
    evidence = {**{key: round(value, 4) for key, value in vars(cover).items()}, "structure": outline.code}
    if cover.of_outside > INVERTED_OUTSIDE or cover.of_field > most:
        word = "the whole photo" if cover.of_field > 0.98 else f"{cover.of_field:.0%} of the field of view"
        more = ", and what lies around it" if cover.of_outside > INVERTED_OUTSIDE else ""
        return _about(photo, outline, "mask_whole", f"The mask marks {word}{more}.", evidence)
    if cover.beyond > BEYOND:
        says = f"{cover.beyond:.0%} of what the mask marks lies outside the field of view."
        return _about(photo, outline, "mask_outside_field", says, evidence)
    return None


def _light(photo: LabeledPhoto, outline: MaskFile, contrast: float | None) -> Iterator[Finding]:
    """A mask as bright or dark as another structure, or as its surroundings."""
    code = outline.code
    if contrast is None or code not in SIGN:
        return
    expected, other = ("brighter", "darker") if SIGN[code] > 0 else ("darker", "brighter")
    evidence = {"structure": code, "contrast": round(contrast, 2), "expected": expected}
    if contrast * SIGN[code] < -SWAPPED:
        says = f"What is marked as {code} is {other} than what surrounds it."
        yield _about(photo, outline, "mask_swapped", says, evidence)
    elif contrast * SIGN[code] < MISFIT[code]:
        says = f"What is marked as {code} is as bright as what surrounds it."
        yield _about(photo, outline, "mask_misfit", says, evidence)


def _about(photo: LabeledPhoto, outline: MaskFile, kind: str, says: str, evidence: Mapping[str, Any]) -> Finding:
    """A finding about what a mask marks, with its outline as picture."""
    picture = drawn(photo.scan, photo.name, "The photo with the mask's outline.", [(outline.file, outline.code)])
    return found(kind, photo.scan.names(outline.file, photo.path), says, evidence, pictures=[picture])


def _same_mask(photo: LabeledPhoto, covers: Mapping[MaskFile, np.ndarray]) -> Iterator[Finding]:
    """Two structures of one photo with the same mask."""
    for (first, one), (second, other) in combinations(covers.items(), 2):
        overlap = float(np.minimum(one, other).sum() / max(float(np.maximum(one, other).sum()), 1e-6))
        if first.code != second.code and overlap > SAME:
            says = f"The masks of {first.code} and {second.code} are the same: they overlap by {overlap:.0%}."
            files = dict.fromkeys(photo.scan.names(first.file, second.file, photo.path))
            yield found("mask_copied", list(files), says, {"overlap": round(overlap, 3)})


def _copied(digests: dict[str, list[tuple[str, str, str]]]) -> Iterator[Finding]:
    """Equal masks of different photos, and files that belong to several. digests: to (mask, photo, photo's pixels)."""
    for equal in digests.values():
        if len({pixels or photo for _, photo, pixels in equal}) > 1:
            names, photos = sorted({name for name, _, _ in equal}), sorted({photo for _, photo, _ in equal})
            if len(names) == 1:
                says = f"One mask file is given to {len(photos)} photos."
                yield found("mask_copied", [*names, *photos], says, {"photos": photos})
            else:
                says = f"{len(names)} masks of different photos are equal, pixel by pixel."
                yield found("mask_copied", names, says, {"photos": photos})


def _mixed(conventions: dict[str, dict[str, str]]) -> Iterator[Finding]:
    """Masks that are not stored as most of their data set are. conventions: data set to mask to convention. Masks of
    many levels have findings of their own."""
    for place, of_masks in conventions.items():
        counts = Counter(own for own in of_masks.values() if not own.endswith("many levels"))
        usual = max(counts, key=lambda one: counts[one], default="")
        for convention in (one for one in counts if one != usual):
            names = sorted(name for name, own in of_masks.items() if own == convention)
            says = f"{len(names)} of {counts.total()} masks in {place} are stored as {convention}, most as {usual}."
            evidence: dict[str, Any] = {"stored_as": dict(counts), "usual": usual}
            if "palette" in (convention.split(",")[0], usual.split(",")[0]):
                evidence["beware"] = _RED
            yield found("mask_conventions", names, says, evidence)
