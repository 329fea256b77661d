"""Cameras of a data set, told apart by how the field lies in the picture, and whether they give labels away.

A photo's family is where the field lies, how much of it shows, the picture's size, and, coarsely, the color of what
surrounds and fills it. Whether families and labels belong together is asked as in any table of counts: Pearson's
chi-square over permutations of visits (both eyes of a person share a camera, so photos alone would count twice), and
Cramér's V without its bias (Bergsma, Journal of the Korean Statistical Society 42(3), 2013) for how strongly.
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
"""Photos that differ by less in everything are of one family: one camera's photos of srahim and IDRiD do."""

SMALL: Final = 5
"""A family of fewer photos is put to the others, as no count could say anything of it."""

CHANCE: Final = 0.001
"""A table this unlikely by chance is a finding, where it is also strong."""

STRONG: Final = 0.2
"""Cramér's V from which a camera gives a label away: knowing it then lifts a guess noticeably."""

PERMUTATIONS: Final = 2000
_OTHERS: Final = "others"


@dataclass(frozen=True)
class Family:
    """Photos of one look: their names, and the middle of what they have in common."""

    name: str
    photos: tuple[str, ...]
    width: int
    height: int
    diameter_px: float
    seen: float

    def to_dict(self) -> dict[str, Any]:
        return {
            "family": self.name,
            "photos": len(self.photos),
            "size_px": [self.width, self.height],
            "field_px": round(self.diameter_px),
            "field_seen": round(self.seen, 3),
            "example": self.photos[0],
        }


def examine(records: Iterable[Record], cases: Sequence[Case], names: Mapping[str, str]) -> Iterator[Finding]:
    """Findings about the cameras of each data set. names: case key to the photo's name; other photos are left out."""
    of_name = {names[case.key]: case for case in cases if case.key in names}
    looks: dict[str, dict[str, np.ndarray]] = defaultdict(dict)
    sizes: dict[str, tuple[int, int, float, float]] = {}
    for record in records:
        if record.path in of_name and record.error is None and record.eye is not None and "rim" in record.measures:
            looks[of_name[record.path].dataset][record.path] = _appearance(record)
            held = record.measures
            sizes[record.path] = record.width, record.height, held["diameter_px"], held["seen"]
    for dataset, of_photos in sorted(looks.items()):
        families = families_of(of_photos, sizes)
        yield from _about(dataset, families, of_name)


def families_of(looks: Mapping[str, np.ndarray], sizes: Mapping[str, tuple[int, int, float, float]]) -> list[Family]:
    """Photos by name to families, the largest first; what is in none of `SMALL` or more becomes `others`."""
    names = sorted(looks)
    if not names:
        return []
    places = np.stack([looks[name] for name in names])
    family = _leaders(places)
    count = np.bincount(family)
    order = [int(which) for which in np.argsort(-count, kind="stable") if count[which] >= SMALL]
    groups = [[names[at] for at in np.flatnonzero(family == which)] for which in order]
    rest = [name for name, which in zip(names, family, strict=True) if count[which] < SMALL]
    called = [f"camera {number}" for number in range(1, len(groups) + 1)]
    if rest:
        groups, called = [*groups, rest], [*called, _OTHERS]
    return [_family(name, group, sizes) for name, group in zip(called, groups, strict=True)]


def _family(name: str, photos: Sequence[str], sizes: Mapping[str, tuple[int, int, float, float]]) -> Family:
    width, height, diameter, seen = np.median([sizes[photo] for photo in photos], axis=0).tolist()
    return Family(name, tuple(photos), round(width), round(height), diameter, seen)


def _appearance(record: Record) -> np.ndarray:
    """(8,) float64: what tells cameras apart, in units of `TOLERANCES`."""
    assert record.eye is not None
    x, y, _ = record.eye
    held, width = record.measures, record.width
    values = {
        "size": math.log(record.width * record.height),
        "aspect": record.height / width,
        "diameter": held["diameter_px"] / width,
        "across": x / width,
        "down": y / width,
        "seen": held["seen"],
        "outside": min(held["outside"], 120.0),
        "warmth": math.log((held["red"] + 8) / (held["blue"] + 8)),
    }
    return np.array([values[key] / tolerance for key, tolerance in TOLERANCES.items()])


def _leaders(places: np.ndarray) -> np.ndarray:
    """(N, D) places to (N,) families: the densest place leads all within 1 of it in every direction, then the next."""
    cells = Counter(map(tuple, np.rint(places).astype(int).tolist()))
    family = np.full(len(places), -1)
    for leader in (np.array(cell) for cell, _ in cells.most_common()):
        free = family < 0
        if not free.any():
            break
        near = free & (np.abs(places - leader).max(axis=1) <= 1)
        if near.any():  # once more around their own middle, as a cell's corner is nobody's middle
            middle = np.median(places[near], axis=0)
            near = free & (np.abs(places - middle).max(axis=1) <= 1)
            family[near] = family.max() + 1
    return family


def _about(dataset: str, families: Sequence[Family], of_name: Mapping[str, Case]) -> Iterator[Finding]:
    if sum(family.name != _OTHERS for family in families) < 2:
        return
    listed = [family.to_dict() for family in families]
    whole = sum(len(family.photos) for family in families)
    says = f"{dataset}: {whole} photos in {len(families)} groups by camera; the largest has {len(families[0].photos)}."
    examples = [family.photos[0] for family in families]
    yield found("camera_families", examples, says, {"dataset": dataset, "families": listed})
    camera = {photo: family.name for family in families for photo in family.photos}
    told: dict[str, tuple[str, dict[str, int]]] = {
        "grade": ("camera_tells_label", {n: c.labels.grade for n, c in of_name.items() if c.labels.grade is not None}),
        "DME risk": ("camera_tells_label", {n: c.labels.dme for n, c in of_name.items() if c.labels.dme is not None}),
        "fold": ("camera_fold_skew", {n: c.fold for n, c in of_name.items() if c.fold is not None}),
    }
    for label, (kind, values) in told.items():
        photos = _one_a_visit([photo for photo in camera if photo in values], of_name)
        table, rows, columns = _counts([(camera[photo], values[photo]) for photo in photos])
        strength, chance = association(table)
        if chance < CHANCE and strength >= STRONG:
            verb = "goes with the fold" if label == "fold" else f"gives the {label} away"
            counted = zip(rows, table.tolist(), strict=True)
            says = f"{dataset}: the camera {verb} (Cramér's V {strength:.2f}, p < {max(chance, 0.0005):.4f})."
            evidence = {
                "dataset": dataset,
                "label": label,
                "cramers_v": round(strength, 3),
                "p": round(chance, 4),
                "visits": int(table.sum()),
                "counts": {row: dict(zip(columns, held, strict=True)) for row, held in counted},
            }
            yield found(kind, examples, says, evidence)


def _one_a_visit(photos: Iterable[str], of_name: Mapping[str, Case]) -> list[str]:
    """The first photo of each visit, by name."""
    firsts: dict[str, str] = {}
    for photo in sorted(photos):
        firsts.setdefault(of_name[photo].visit, photo)
    return sorted(firsts.values())


def _counts(pairs: Sequence[tuple[str, int]]) -> tuple[np.ndarray, list[str], list[str]]:
    """Pairs (family, label) as a table of counts (families, labels), with the names of rows and columns."""
    rows, columns = sorted({pair[0] for pair in pairs}), sorted({pair[1] for pair in pairs})
    table = np.zeros((len(rows), len(columns)), np.int64)
    for row, column in pairs:
        table[rows.index(row), columns.index(column)] += 1
    return table, rows, [str(column) for column in columns]


def association(table: np.ndarray, seed: int = 0) -> tuple[float, float]:
    """A table of counts (R, C) to how strongly rows go with columns (Cramér's V without bias, 0 to 1) and how likely
    that is by chance (from `PERMUTATIONS`). (0, 1) where there is nothing to compare."""
    table = table[table.sum(axis=1) > 0][:, table.sum(axis=0) > 0]
    n, (rows, columns) = int(table.sum()), table.shape
    if min(rows, columns) < 2 or n < 10:
        return 0.0, 1.0
    expected = np.outer(table.sum(axis=1), table.sum(axis=0)) / n
    chi = float(((table - expected) ** 2 / expected).sum())
    of_row = np.repeat(np.arange(rows), table.sum(axis=1))
    of_column = np.concatenate([np.repeat(np.arange(columns), row) for row in table])
    rng, as_strong = np.random.default_rng(seed), 0
    for _ in range(PERMUTATIONS):
        drawn = np.bincount(of_row * columns + rng.permutation(of_column), minlength=rows * columns)
        as_strong += float(((drawn - expected.ravel()) ** 2 / expected.ravel()).sum()) >= chi - 1e-9
    excess = max(0.0, chi / n - (rows - 1) * (columns - 1) / (n - 1))
    fewer = min(rows - (rows - 1) ** 2 / (n - 1), columns - (columns - 1) ** 2 / (n - 1)) - 1
    return math.sqrt(excess / fewer) if fewer > 0 else 0.0, (as_strong + 1) / (PERMUTATIONS + 1)
