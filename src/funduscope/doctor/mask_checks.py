"""What is wrong with masks: how they are stored, what they mark, and whether it can be what they are called."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final

import numpy as np

from funduscope.doctor.columns import Said
from funduscope.doctor.finding import Finding, found
from funduscope.doctor.label_pictures import masked
from funduscope.doctor.label_rows import LabelRow, LabelRows, read_label_rows
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
from funduscope.doctor.mask_files import (
    Outline,
    Stored,
    by_photo,
    named_files,
    read_outlines,
    read_stored,
    split_votes,
)
from funduscope.doctor.scan import Progress, Record, Scan
from funduscope.vocabulary import LESIONS

WHOLE: Final = {"OD": 0.12, "lesion": 0.5}
"""The largest share of the field that is believed: discs cover 0.016 to 0.032, lesions 0.20 at most."""

INVERTED_OUTSIDE: Final = 0.5
"""A mask that marks so much of what lies around the field is inverted or of the whole photo."""

BEYOND: Final = 0.02
"""The largest share of a mask that may lie beyond the field; real masks have none there."""

SAME: Final = 0.9
"""Overlap (intersection over union) of two structures' masks from which they are one."""

MOST_ROWS: Final = 50
"""Masks that are not there and are told one by one; more are one finding."""

_RED: Final = "red inside becomes 76 of 255 where a program converts it to gray, and is lost at a threshold of 127"


@dataclass(frozen=True, eq=False)
class _Seen:
    """A mask that could be read: what of it is compared with others."""

    outline: Outline
    name: str
    stored: Stored
    digest: str


def examine(
    scan: Scan, label_rows: LabelRows | None = None, progress: Progress = lambda items, words, total: items
) -> Iterator[Finding]:
    """Findings about the masks of a data set, photo by photo, so that no more than one photo's are in memory."""
    label_rows = label_rows or read_label_rows(scan.inventory)
    outlines = read_outlines(scan.inventory, label_rows)
    yield from _promised(scan, label_rows)
    yield from _without_photo(scan, outlines)
    conventions: dict[str, dict[str, str]] = defaultdict(dict)
    digests: dict[str, list[tuple[str, str, str]]] = defaultdict(list)
    held = by_photo(outlines)
    told: set[tuple[str, tuple[str, ...]]] = set()
    for photo in progress(sorted(held), "Looking at masks", len(held)):
        record = scan.record(scan.relative(photo))
        seen = []
        for outline in held[photo]:
            name, stored = scan.relative(outline.file), read_stored(outline.file)
            for finding in _of_file(scan, outline, name, stored, record):
                if (finding.kind, finding.files) not in told:  # one file may be several outlines
                    told.add((finding.kind, finding.files))
                    yield finding
            yield from _counted(name, outline, stored, label_rows)
            if isinstance(stored, str) or not stored.values.any() or outline.is_votes:
                continue
            conventions[_set_of(name)][name] = stored.convention
            digest = hashlib.sha256(repr(stored.values.shape).encode() + np.packbits(stored.inside).tobytes())
            seen.append(_Seen(outline, name, stored, digest.hexdigest()))
            pixels = record.pixels_sha256 if record is not None else ""
            if stored.inside.all():  # told as such, and all such masks of one size are equal
                continue
            digests[digest.hexdigest()].append((name, scan.relative(photo), pixels))
        if record is not None and record.error is None and record.eye is not None:
            yield from _on_photo(scan, record, seen)
    yield from _mixed(conventions)
    yield from _copied(digests)


def _set_of(name: str) -> str:
    """The data set that a file belongs to: the first folder of its name."""
    parts = PurePosixPath(name).parts
    return parts[0] if len(parts) > 1 else "."


def _promised(scan: Scan, label_rows: LabelRows) -> Iterator[Finding]:
    """Files that a label file names, or that its numbers speak of, and that are not there."""
    votes = {path.stem for path in scan.inventory.masks if path.parent.name.lower() in ("votes", "vote")}
    for table in label_rows.tables:
        file, lost = scan.relative(table.file), []
        for row in table.rows:
            photo = [scan.relative(row.photo)] if row.photo is not None else []
            for cell, says in _lost(row, votes):
                evidence = {"row": row.row, "column": cell.column, "value": cell.text}
                lost.append(found("mask_missing", [file, *photo], f"Row {row.row} {says}", evidence))
        if len(lost) > MOST_ROWS:
            says = f"{len(lost)} masks that the file speaks of are not there. First: {lost[0].says}"
            yield found("mask_missing", [file], says, lost[0].evidence | {"masks": len(lost)})
        else:
            yield from lost


def _lost(row: LabelRow, votes: set[str]) -> Iterator[tuple[Said, str]]:
    """A row's cells whose masks are not there, and what they say."""
    for role, cell in row.said.items():
        for mask in named_files(row.table, cell.text) if role.startswith("mask_") else []:
            if not mask.is_file():
                yield cell, f"names the mask {mask.name}, which is not there."
        code = role.removeprefix("experts_")
        if role != code and cell.value and row.photo is not None and f"{row.photo.stem}_{code}" not in votes:
            yield cell, f"says that {cell.value} of the experts saw {code}; no file has their votes."


def _without_photo(scan: Scan, outlines: Sequence[Outline]) -> Iterator[Finding]:
    """Masks of no photo; where no mask of a folder has one, a single finding."""
    folders: dict[Path, list[Outline]] = defaultdict(list)
    for outline in outlines:
        folders[outline.file.parent].append(outline)
    for folder, held in folders.items():
        lost = [outline for outline in held if outline.photo is None]
        if len(lost) == len(held) and len(held) > 3:
            says = f"None of the {len(held)} masks in {folder.name} belongs to a photo that is here, by its name."
            yield found("mask_unknown_photo", [scan.relative(outline.file) for outline in held], says)
            continue
        for outline in lost:
            says = f"No photo is called what the mask {outline.file.name} is of."
            yield found("mask_unknown_photo", [scan.relative(outline.file)], says)


def _of_file(scan: Scan, outline: Outline, name: str, stored: Stored | str, record: Record | None) -> Iterator[Finding]:
    """What the file alone says, and its size beside the photo's."""
    photo = scan.relative(outline.photo) if outline.photo is not None else ""
    if isinstance(stored, str):
        yield found("mask_unreadable", [name], stored)
        return
    evidence: dict[str, Any] = {"mode": stored.mode, "levels": list(stored.levels)}
    if outline.folder_code and outline.folder_code != outline.code:
        says = f"The mask is called {outline.code} and lies in the folder of {outline.folder_code}."
        yield found("mask_misplaced", [name], says, {"name": outline.code, "folder": outline.folder_code})
    if outline.is_votes and not split_votes(stored.levels):
        says = "Votes are 60 for each expert who marked a pixel: 0, 60, 120, 180 or 240."
        yield found("votes_wrong", [name], says, evidence)
    elif not outline.is_votes and (not stored.is_binary or stored.kind == "JPEG"):
        levels = "more than eight" if len(stored.levels) > 8 else str(len(stored.levels))
        says = f"The mask has {levels} values where it should have two: it was resized, smoothed or saved as JPEG."
        yield found("mask_soft", [name], says, evidence)
    if stored.alpha is not None and bool((stored.alpha != stored.inside).mean() > 0.001):
        says = f"Its alpha plane marks {stored.alpha.mean():.1%} of the photo, its colors {stored.inside.mean():.2%}."
        yield found("mask_alpha", [name], says, evidence)
    if not stored.values.any() and "lesion_segmentation" not in Path(name).parts:  # in DDR it means absent
        yield found("mask_empty", [name], "The mask marks nothing.", evidence)
    height, width = stored.values.shape
    if record is not None and record.width and (width, height) != (record.width, record.height):
        says = f"The mask is {width}x{height} px, its photo {record.width}x{record.height} px."
        evidence = {"mask_px": [width, height], "photo_px": [record.width, record.height]}
        yield found("mask_size", [name, photo], says, evidence)


def _counted(name: str, outline: Outline, stored: Stored | str, label_rows: LabelRows) -> Iterator[Finding]:
    """More votes at a pixel than a label file counts experts."""
    if isinstance(stored, str) or not outline.is_votes or outline.photo is None:
        return
    count, most = label_rows.value(outline.photo, f"experts_{outline.code}"), stored.levels[-1] // 60
    if count is not None and split_votes(stored.levels) and most > count:
        says = f"{most} experts marked one pixel as {outline.code}, and the label file counts {count} who saw it."
        yield found("votes_wrong", [name], says, {"votes": most, "counted": count})


def _on_photo(scan: Scan, record: Record, seen: Sequence[_Seen]) -> Iterator[Finding]:
    """What the masks of one photo mark in it."""
    fitting = [one for one in seen if one.stored.values.shape == (record.height, record.width)]
    if not fitting or record.eye is None:
        return
    ground = ground_of(scan.image(record.path), record.eye)
    covers = {one.name: coverage_of(one.stored.inside, ground) for one in fitting}
    whole = set()
    for one in fitting:
        cover = cover_of(covers[one.name], ground)
        for finding in _placed(scan, record, one, cover):
            whole.add(one)
            yield finding
    rest = [one for one in fitting if one not in whole]
    marked = np.zeros(ground.green.shape, bool)
    for one in rest:
        marked |= covers[one.name] > 0.05
    around = bare(marked, ground)
    for one in rest:
        yield from _lit(scan, record, one, contrast_of(covers[one.name], around, ground))
    yield from _one_twice(record, rest, covers)


def _placed(scan: Scan, record: Record, one: _Seen, cover: Cover) -> Iterator[Finding]:
    """A mask that covers too much, or what lies around the field."""
    code, files = one.outline.code, [one.name, record.path]
    evidence: dict[str, Any] = {key: round(value, 4) for key, value in vars(cover).items()}
    evidence["structure"] = code
    pictures = [masked(scan, record.path, [(one.outline.file, code)], "The photo with the mask's outline.")]
    most = WHOLE["OD"] if code == "OD" else WHOLE["lesion"] if code in LESIONS else 0.9
    if cover.of_outside > INVERTED_OUTSIDE or cover.of_field > most:
        word = "the whole photo" if cover.of_field > 0.98 else f"{cover.of_field:.0%} of the field of view"
        says = f"The mask marks {word}" + (", and what lies around it." if cover.of_outside > INVERTED_OUTSIDE else ".")
        yield found("mask_whole", files, says, evidence, pictures=pictures)
    elif cover.beyond > BEYOND:
        says = f"{cover.beyond:.0%} of what the mask marks lies outside the field of view."
        yield found("mask_outside_field", files, says, evidence, pictures=pictures)


def _lit(scan: Scan, record: Record, one: _Seen, contrast: float | None) -> Iterator[Finding]:
    """A mask whose light is another structure's, or nobody's."""
    code = one.outline.code
    if contrast is None or code not in SIGN:
        return
    evidence = {
        "structure": code,
        "contrast": round(contrast, 2),
        "expected": "brighter" if SIGN[code] > 0 else "darker",
    }
    pictures = [masked(scan, record.path, [(one.outline.file, code)], "The photo with the mask's outline.")]
    signed = contrast * SIGN[code]
    if signed < -SWAPPED:
        is_so = "darker" if SIGN[code] > 0 else "brighter"
        says = f"What is marked as {code} is {is_so} than what surrounds it."
        yield found("mask_swapped", [one.name, record.path], says, evidence, pictures=pictures)
    elif signed < MISFIT[code]:
        says = f"What is marked as {code} does not differ in light from what surrounds it."
        yield found("mask_misfit", [one.name, record.path], says, evidence, pictures=pictures)


def _one_twice(record: Record, rest: Sequence[_Seen], covers: dict[str, np.ndarray]) -> Iterator[Finding]:
    """Two structures of one photo with one mask."""
    for index, first in enumerate(rest):
        for second in rest[index + 1 :]:
            if first.outline.code == second.outline.code:
                continue
            pair = covers[first.name], covers[second.name]
            overlap = float(np.minimum(*pair).sum() / max(float(np.maximum(*pair).sum()), 1e-6))
            if overlap > SAME:
                codes = f"{first.outline.code} and {second.outline.code}"
                says = f"The masks of {codes} are one: they overlap by {overlap:.0%}."
                files = dict.fromkeys((first.name, second.name, record.path))
                yield found("mask_copied", list(files), says, {"overlap": round(overlap, 3)})


def _copied(digests: dict[str, list[tuple[str, str, str]]]) -> Iterator[Finding]:
    """Masks that are equal although they are of different photos, and files that are given to several."""
    for held in digests.values():
        if len({pixels or photo for _, photo, pixels in held}) > 1:
            names, photos = sorted({name for name, _, _ in held}), sorted({photo for _, photo, _ in held})
            says = f"{len(names)} masks of different photos are equal, pixel by pixel."
            if len(names) == 1:
                says = f"One mask's file is given to {len(photos)} photos."
            yield found("mask_copied", names if len(names) > 1 else [*names, *photos], says, {"photos": photos})


def _mixed(conventions: dict[str, dict[str, str]]) -> Iterator[Finding]:
    """Masks that are stored otherwise than most of their data set's."""
    for place, held in conventions.items():
        counts = Counter(held.values())
        usual = counts.most_common(1)[0][0]
        for convention in counts:
            if convention == usual or convention.endswith("many levels"):
                continue
            names = sorted(name for name, its in held.items() if its == convention)
            says = f"{len(names)} of {len(held)} masks in {place} are stored as {convention}, most as {usual}."
            note = _RED if convention.startswith("palette") or usual.startswith("palette") else ""
            evidence = {"stored_as": dict(counts), "usual": usual} | ({"beware": note} if note else {})
            yield found("mask_conventions", names, says, evidence)
