"""Cameras of a data set, distinguished by the field's place in the picture, and whether they give labels away.

Photos of one family agree in the field's place, the visible share of it, the picture's size and, coarsely, the color in
and around the field. Whether families and labels go together is tested by Pearson's chi-square over permutations of
visits (both eyes of a person share a camera, so that photos would count twice); how strongly, by Cramér's V without
its bias (Bergsma, Journal of the Korean Statistical Society 42(3), 2013).
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from funduscope.data.case import Case
from funduscope.doctor.finding import Finding, found
from funduscope.doctor.permutation_test import chi_square, permutation_p_value
from funduscope.doctor.record import Record

TOLERANCES: Final[dict[str, float]] = {
    "size": 0.10,  # logarithm of the picture's pixels
    "aspect": 0.02,
    "diameter": 0.03,  # of the field, in widths of the picture
    "across": 0.03,  # the field's center, in widths
    "down": 0.03,
    "seen": 0.03,
    "outside": 12.0,  # levels
    "warmth": 1.6,  # logarithm of red over blue: eyes differ by as much as 1.4 within one camera
}
"""Photos that differ by less in every value are of one family, as one camera's photos of srahim and IDRiD are."""

SMALL: Final = 5
"""Families of fewer photos are put together as "others": their counts show nothing."""

CHANCE: Final = 0.001
"""A table less likely by chance is a finding, if the association is also strong."""

STRONG: Final = 0.2
"""Cramér's V from which a camera gives a label away: knowing the camera then makes a guess noticeably better."""

_OTHERS: Final = "others"


@dataclass(frozen=True)
class Family:
    """Photos that look alike: their names, and the medians of what they have in common as evidence."""

    name: str
    photos: tuple[str, ...]
    evidence: dict[str, Any]


def examine(records: Iterable[Record], cases: Sequence[Case], names: Mapping[str, str]) -> Iterator[Finding]:
    """Findings about the cameras of each data set. names: case key to photo name; other photos are left out."""
    of_name = {names[case.key]: case for case in cases if case.key in names}
    appearances: dict[str, dict[str, np.ndarray]] = defaultdict(dict)
    sizes: dict[str, tuple[int, int, float, float]] = {}
    for record in records:
        if (
            record.path in of_name
            and record.error is None
            and record.field_of_view is not None
            and "rim" in record.measures
        ):
            appearances[of_name[record.path].dataset][record.path] = _appearance(record)
            measures = record.measures
            sizes[record.path] = record.width, record.height, measures["diameter_px"], measures["seen"]
    for dataset, of_photos in sorted(appearances.items()):
        yield from _about(dataset, families_of(of_photos, sizes), of_name)


def families_of(
    appearances: Mapping[str, np.ndarray], sizes: Mapping[str, tuple[int, int, float, float]]
) -> list[Family]:
    """Families, the largest first; photos of families smaller than `SMALL` become "others".

    appearances: photo name to the vector of `_appearance`. sizes: to width, height, diameter of the field, visible
    share.
    """
    names = sorted(appearances)
    if not names:
        return []
    family = _leaders(np.stack([appearances[name] for name in names]))
    count = np.bincount(family)
    large = [which for which in np.argsort(-count, kind="stable") if count[which] >= SMALL]
    groups = {f"camera {at}": np.flatnonzero(family == which) for at, which in enumerate(large, start=1)}
    if count.min() < SMALL:
        groups[_OTHERS] = np.flatnonzero(count[family] < SMALL)
    return [_family(name, [names[at] for at in group], sizes) for name, group in groups.items()]


def _family(name: str, photos: Sequence[str], sizes: Mapping[str, tuple[int, int, float, float]]) -> Family:
    width, height, diameter, seen = np.median([sizes[photo] for photo in photos], axis=0).tolist()
    evidence = {
        "family": name,
        "photos": len(photos),
        "size_px": [round(width), round(height)],
        "field_px": round(diameter),
        "field_seen": round(seen, 3),
        "example": photos[0],
    }
    return Family(name, tuple(photos), evidence)


def _appearance(record: Record) -> np.ndarray:
    """(8,) float64: what distinguishes cameras, in units of `TOLERANCES`."""
    assert record.field_of_view is not None
    x, y, _ = record.field_of_view
    measures, width = record.measures, record.width
    values = {
        "size": math.log(record.width * record.height),
        "aspect": record.height / width,
        "diameter": measures["diameter_px"] / width,
        "across": x / width,
        "down": y / width,
        "seen": measures["seen"],
        "outside": min(measures["outside"], 120.0),
        "warmth": math.log((measures["red"] + 8) / (measures["blue"] + 8)),
    }
    return np.array([values[key] / tolerance for key, tolerance in TOLERANCES.items()])


def _leaders(points: np.ndarray) -> np.ndarray:
    """(N,) families of (N, D) points: the densest point takes all within 1 of it in every direction, then the next."""
    cells = Counter(map(tuple, np.rint(points).astype(int).tolist()))
    family = np.full(len(points), -1)
    for leader in (np.array(cell) for cell, _ in cells.most_common()):
        free = family < 0
        if not free.any():
            break
        near = free & (np.abs(points - leader).max(axis=1) <= 1)
        if near.any():  # again around their own median, since a cell's corner is no center
            middle = np.median(points[near], axis=0)
            near = free & (np.abs(points - middle).max(axis=1) <= 1)
            family[near] = family.max() + 1
    return family


def _about(dataset: str, families: Sequence[Family], of_name: Mapping[str, Case]) -> Iterator[Finding]:
    if sum(family.name != _OTHERS for family in families) < 2:
        return
    listed = [family.evidence for family in families]
    whole = sum(len(family.photos) for family in families)
    says = f"{dataset}: {whole} photos in {len(families)} groups by camera; the largest has {len(families[0].photos)}."
    examples = [family.photos[0] for family in families]
    yield found("camera_families", examples, says, {"dataset": dataset, "families": listed})
    camera = {photo: family.name for family in families for photo in family.photos}
    labels: dict[str, tuple[str, dict[str, int]]] = {
        "grade": ("camera_tells_label", {n: c.labels.grade for n, c in of_name.items() if c.labels.grade is not None}),
        "DME risk": ("camera_tells_label", {n: c.labels.dme for n, c in of_name.items() if c.labels.dme is not None}),
        "fold": ("camera_fold_skew", {n: c.fold for n, c in of_name.items() if c.fold is not None}),
    }
    for label, (kind, values) in labels.items():
        photos = _one_a_visit([photo for photo in camera if photo in values], of_name)
        table, rows, columns = _counts([(camera[photo], values[photo]) for photo in photos])
        strength, chance = association(table)
        if chance < CHANCE and strength >= STRONG:
            verb = "depends on the fold" if label == "fold" else f"gives the {label} away"
            says = f"{dataset}: the camera {verb} (Cramér's V {strength:.2f}, p < {max(chance, 0.0005):.4f})."
            evidence = {
                "dataset": dataset,
                "label": label,
                "cramers_v": round(strength, 3),
                "p": round(chance, 4),
                "visits": int(table.sum()),
                "counts": {
                    row: dict(zip(columns, counts, strict=True))
                    for row, counts in zip(rows, table.tolist(), strict=True)
                },
            }
            yield found(kind, examples, says, evidence)


def _one_a_visit(photos: Iterable[str], of_name: Mapping[str, Case]) -> list[str]:
    """The first photo of each visit, by name."""
    firsts = {of_name[photo].visit: photo for photo in sorted(photos, reverse=True)}
    return sorted(firsts.values())


def _counts(pairs: Sequence[tuple[str, int]]) -> tuple[np.ndarray, list[str], list[str]]:
    """Pairs (family, label) as a table of counts (families, labels), and the names of its rows and columns."""
    rows, columns = sorted({pair[0] for pair in pairs}), sorted({pair[1] for pair in pairs})
    table = np.zeros((len(rows), len(columns)), np.int64)
    for row, column in pairs:
        table[rows.index(row), columns.index(column)] += 1
    return table, rows, [str(column) for column in columns]


def association(table: np.ndarray) -> tuple[float, float]:
    """Strength and chance of a table of counts (R, C): Cramér's V without bias (0 to 1), and how likely such a table is
    by chance. (0, 1) where there is nothing to compare."""
    table = table[table.sum(axis=1) > 0][:, table.sum(axis=0) > 0]
    n, (rows, columns) = int(table.sum()), table.shape
    if min(rows, columns) < 2 or n < 10:
        return 0.0, 1.0
    of_row = np.repeat(np.arange(rows), table.sum(axis=1))
    of_column = np.concatenate([np.repeat(np.arange(columns), row) for row in table])
    excess = max(0.0, chi_square(table) / n - (rows - 1) * (columns - 1) / (n - 1))
    fewer = min(rows - (rows - 1) ** 2 / (n - 1), columns - (columns - 1) ** 2 / (n - 1)) - 1
    return math.sqrt(excess / fewer) if fewer > 0 else 0.0, permutation_p_value(of_column, np.eye(rows)[of_row])
