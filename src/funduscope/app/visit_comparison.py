"""Registers two photos of one eye and finds which lesions are new, gone, bigger and smaller.

The framed photos are registered by their vessels (duplicates/registration.py). Lesions of one kind are the same where a
pixel of one, mapped into the other photo, lies on the other or within the tolerance of it; a lesion that one visit
outlines in several pieces is one. It is new, gone, bigger or smaller only beyond test-retest noise (`state_of`). A
place that only one photo shows is left out.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Final, Literal

import cv2
import numpy as np

from funduscope.app.viewer_data import contours_of
from funduscope.duplicates.registration import Registration, register, warped
from funduscope.imaging.framing import CropTransform, frame
from funduscope.imaging.vessels import lit_field
from funduscope.inference.findings import Findings
from funduscope.inference.objects import LesionObject
from funduscope.vocabulary import LESIONS

State = Literal["new", "gone", "bigger", "smaller", "unchanged", "undecided"]

SIDE_PX: Final = 1024
"""Side of the frames in which lesions are compared."""

TOLERANCE_FRAC: Final = 1 / 128
"""Tolerance as a share of the frame's side, about a twentieth of a disc diameter; twice the registration's residual is
added."""

ABSENT_FRAC: Final = 0.1
"""A share of the threshold: only below this probability is a lesion absent in the other photo."""

MIN_PPM: Final = {"MA": 33.0, "HE": 167.0, "EX": 29.0, "SE": 109.0}
"""Smaller lesions come and go between two photos of an unchanged eye. As printed by `python -m research.visit_noise`:
with these areas a pair of second exposures shows at most a quarter of a false change of each kind."""

STEADY_ROOT_PPM: Final = {"MA": 3.2, "HE": 17.3, "EX": 8.5, "SE": 13.0}
"""So much the square root of a lesion's area differs between such photos, in 99 of 100 lesions; by the same command."""


@dataclass(frozen=True, slots=True)
class Outlined:
    """What one visit outlines of a lesion.

    area_ppm: after registration, in millionths of the square around the later photo's field of view. lesions: its
    pieces. probability: the mean over their pixels; if there are none, the highest near the place.
    """

    lesions: tuple[LesionObject, ...]
    area_ppm: float
    probability: float

    @property
    def area_px(self) -> int:
        """In pixels of the visit's own photo."""
        return sum(one.area_px for one in self.lesions)


@dataclass(frozen=True, slots=True)
class LesionChange:
    """A lesion in two visits. xy: its center in the second visit's frame."""

    code: str
    state: State
    earlier: Outlined
    later: Outlined
    xy: tuple[float, float]

    @property
    def lesion(self) -> LesionObject:
        """Its largest piece, of the later visit where that outlines it."""
        return max(self.later.lesions or self.earlier.lesions, key=lambda one: one.area_px)

    @property
    def radius_px(self) -> float:
        """Radius of a circle of its area in the second visit's frame, in pixels of the frame."""
        visit = self.later if self.later.lesions else self.earlier
        return SIDE_PX * math.sqrt(1e-6 * visit.area_ppm / math.pi)


@dataclass(frozen=True, eq=False)
class VisitComparison:
    """Two framed photos, (S, S, 3) uint8, the first one registered onto the second.

    changes: every lesion that both photos could show, None if the vessels do not prove one eye.
    """

    first: np.ndarray
    second: np.ndarray
    registration: Registration | None
    changes: tuple[LesionChange, ...] | None

    @property
    def is_one_eye(self) -> bool:
        """Whether the vessels prove one eye."""
        return self.changes is not None

    def of_state(self, *states: State) -> tuple[LesionChange, ...]:
        """The lesions of these states; none if the vessels do not prove one eye."""
        return tuple(change for change in self.changes or () if change.state in states)

    @property
    def new(self) -> tuple[LesionChange, ...]:
        """The lesions of the later visit alone."""
        return self.of_state("new")

    @property
    def gone(self) -> tuple[LesionChange, ...]:
        """The lesions of the earlier visit alone."""
        return self.of_state("gone")

    @property
    def stayed(self) -> Mapping[str, int]:
        """By kind the number of lesions that both visits outline."""
        both = [change.code for change in self.of_state("unchanged", "bigger", "smaller")]
        return {code: both.count(code) for code in LESIONS}

    @property
    def unsure(self) -> int:
        """The number of lesions that one visit outlines and that may be there in the other."""
        return len(self.of_state("undecided"))


def compare_visits(
    first: Findings, second: Findings, complete: tuple[Set[str], Set[str]] = (frozenset(), frozenset())
) -> VisitComparison:
    """Registers the earlier photo onto the later one and compares their lesions.

    complete: by visit the kinds whose outlines a person called complete: nothing that the model sees elsewhere counts.
    """
    before, after = (frame(one.photo, SIDE_PX) for one in (first, second))
    found = register(before.image, after.image)
    if found is None or not found.proves_one_eye:
        return VisitComparison(before.image, after.image, found, None)
    tolerance_px = 2 * found.residual_px + SIDE_PX * TOLERANCE_FRAC
    fields = [lit_field(image) > 0 for image in (before.image, after.image)]
    back = cv2.invertAffineTransform(found.matrix)
    changes: list[LesionChange] = []
    for code in LESIONS:
        if code in first.codes and code in second.codes:
            whole = [code in codes for codes in complete]
            early = _of_visit(first, code, before.transform, found.matrix, fields[1], is_complete=whole[0])
            late = _of_visit(second, code, after.transform, back, fields[0], is_complete=whole[1])
            limit = min(one.card.thresholds[code] for one in (first, second))
            changes += _changes(code, (early, late), found.matrix, tolerance_px, limit)
    return VisitComparison(warped(before.image, found), after.image, found, tuple(changes))


@dataclass(frozen=True, eq=False)
class _Lesions:
    """The lesions of a kind in one visit.

    pixels: of each, (N, 2) integers in its frame, column and row. mapped: the same in the other frame. visible: whether
    the other photo shows all of it. plane: (S, S) probabilities in its frame.
    """

    lesions: Sequence[LesionObject]
    pixels: list[np.ndarray]
    mapped: list[np.ndarray]
    visible: list[bool]
    centers: np.ndarray
    plane: np.ndarray
    px_per_frame_px: float


def _of_visit(
    findings: Findings,
    code: str,
    transform: CropTransform,
    matrix: np.ndarray,
    other_field: np.ndarray,
    *,
    is_complete: bool,
) -> _Lesions:
    """matrix: from the visit's frame to the other's. is_complete: whether a person called the outlines complete."""
    lesions = findings.objects(code)
    rings_of = contours_of(findings, code)
    pixels = [_pixels([transform.to_frame(ring.reshape(-1, 2) + 0.5) - 0.5 for ring in rings]) for rings in rings_of]
    mapped = [np.rint(each @ matrix[:, :2].T + matrix[:, 2]).astype(int) for each in pixels]
    visible = [bool(_inside(each).all() and other_field[tuple(each.T[::-1])].all()) for each in mapped]
    centers = transform.to_frame(np.array([[one.x_px, one.y_px] for one in lesions]).reshape(-1, 2))
    plane = cv2.resize(findings.frame_probs[code], (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_LINEAR)
    if is_complete:
        plane = np.where(transform.map_to_frame(findings.mask(code)) > 0, plane, np.float32(0))
    return _Lesions(lesions, pixels, mapped, visible, centers, plane, transform.px_per_frame_px)


def _changes(
    code: str, visits: tuple[_Lesions, _Lesions], matrix: np.ndarray, tolerance_px: float, threshold: float
) -> Iterator[LesionChange]:
    """Every lesion of a kind that both photos could show. threshold: the lower one of the two visits."""
    early, late = visits
    scale = abs(float(np.linalg.det(matrix[:, :2])))
    near = [_highest_near(visit.plane, tolerance_px) for visit in visits]
    for olds, lates in _groups(early, late, tolerance_px):
        is_in_both = bool(olds and lates) or (late.visible[lates[0]] if lates else early.visible[olds[0]])
        if not is_in_both:
            continue
        earlier = _outlined(early, olds, scale, near[0], [late.mapped[k] for k in lates])
        later = _outlined(late, lates, 1.0, near[1], [early.mapped[k] for k in olds])
        state = state_of(code, earlier, later, threshold)
        visit, chosen = (late, lates) if lates else (early, olds)
        x, y = visit.centers[min(chosen)]  # the largest comes first
        if not lates:
            x, y = matrix[:, :2] @ (np.array([x, y]) - 0.5) + matrix[:, 2] + 0.5
        yield LesionChange(code, state, earlier, later, (round(float(x), 1), round(float(y), 1)))


def _outlined(visit: _Lesions, chosen: list[int], scale: float, near: np.ndarray, other: list[np.ndarray]) -> Outlined:
    """scale: of areas into the second frame. near, other: where nothing is chosen, the highest probabilities near each
    pixel of the visit's frame, and the other visit's pixels there."""
    lesions = tuple(visit.lesions[k] for k in chosen)
    area = sum(one.area_px for one in lesions)
    if area:
        probability = sum(one.probability * one.area_px for one in lesions) / area
    else:
        places = np.concatenate(other)
        columns, rows = places[_inside(places)].T
        probability = float(near[rows, columns].max(initial=0.0))
    area_ppm = 1e6 * area * scale / (visit.px_per_frame_px * SIDE_PX) ** 2
    return Outlined(lesions, area_ppm, probability)


def state_of(code: str, earlier: Outlined, later: Outlined, threshold: float) -> State:
    """What happened to a lesion, beyond test-retest noise. threshold: of its kind, the lower one of the two visits."""
    if earlier.lesions and later.lesions:
        grown = np.sqrt(later.area_ppm) - np.sqrt(earlier.area_ppm)
        if abs(grown) <= STEADY_ROOT_PPM[code]:
            return "unchanged"
        return "bigger" if grown > 0 else "smaller"
    there, absent = (earlier, later) if earlier.lesions else (later, earlier)
    if there.area_ppm < MIN_PPM[code] or absent.probability >= ABSENT_FRAC * threshold:
        return "undecided"
    return "gone" if earlier.lesions else "new"


def _groups(early: _Lesions, late: _Lesions, tolerance_px: float) -> list[tuple[list[int], list[int]]]:
    """The lesions that are one: indices of the earlier and of the later visit, both ascending; one may be empty."""
    links = [*_links(early.mapped, late.pixels, tolerance_px)]
    links += [(old, new) for new, old in _links(late.mapped, early.pixels, tolerance_px)]
    group = {("early", k): k for k in range(len(early.pixels))}
    group |= {("late", k): len(group) + k for k in range(len(late.pixels))}
    members: dict[int, list[tuple[str, int]]] = {number: [one] for one, number in group.items()}
    for old, new in links:
        kept, merged = group["early", old], group["late", new]
        if kept != merged:
            for one in members.pop(merged):
                group[one] = kept
                members[kept].append(one)
    return [
        (sorted(k for side, k in one if side == "early"), sorted(k for side, k in one if side == "late"))
        for one in members.values()
    ]


def _links(mapped: list[np.ndarray], others: list[np.ndarray], tolerance_px: float) -> Iterator[tuple[int, int]]:
    """Which lesions, mapped into the other frame, have a pixel within the tolerance of which other's."""
    if not others:
        return
    owner = np.full((SIDE_PX, SIDE_PX), -1)
    for number, pixels in enumerate(others):
        columns, rows = np.clip(pixels, 0, SIDE_PX - 1).T
        owner[rows, columns] = number
    distance, nearest = cv2.distanceTransformWithLabels(
        (owner < 0).view(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    nearest = np.asarray(nearest, np.intp)
    owners = np.zeros(nearest.max() + 1, int)
    owners[nearest[owner >= 0]] = owner[owner >= 0]
    for number, pixels in enumerate(mapped):
        columns, rows = pixels[_inside(pixels)].T
        close = distance[rows, columns] <= tolerance_px
        for other in np.unique(owners[nearest[rows, columns][close]]):
            yield number, int(other)


def _inside(pixels: np.ndarray) -> np.ndarray:
    return np.all((pixels >= 0) & (pixels < SIDE_PX), axis=1)


def _highest_near(plane: np.ndarray, radius_px: float) -> np.ndarray:
    """(S, S): the highest probability within the radius of each pixel."""
    size = 2 * int(radius_px) + 1
    return cv2.dilate(plane, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size)))


def _pixels(rings: list[np.ndarray]) -> np.ndarray:
    """(N, 2) pixels inside contours, column and row."""
    edges = [np.rint(ring).astype(np.int32) for ring in rings]
    left, top, width, height = cv2.boundingRect(edges[0])
    patch = np.zeros((height, width), np.uint8)
    cv2.fillPoly(patch, [edge - np.array([left, top], np.int32) for edge in edges], 1)
    rows, columns = np.nonzero(patch)
    return np.stack([columns + left, rows + top], axis=1)
