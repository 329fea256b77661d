"""What a person says of one photo where the model is wrong: grade, risk, lesions, disc and fovea; each step undone.

Masks are held as they are when looked at, not as a list of strokes: a later model must not change what was said.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import cv2
import numpy as np
from PIL import Image

from funduscope.data.case import Point
from funduscope.inference.findings import Findings
from funduscope.vocabulary import CODES, LANDMARKS

MOST_STEPS: Final = 100
MOST_POINTS: Final = 5_000


@dataclass(frozen=True)
class Corrections:
    """grade 0-4, dme 0-2, disc_xy, fovea_xy in photo pixels; None where nothing was said.

    masks: by structure, an (H, W) mask as the bytes of a PNG, all of it as it should be. looked_at: the structures of
    which the person says that this photo's masks are complete; of all others nothing is known, whatever was drawn.
    confirmed: those whose mask is the model's, held as it was shown when it was called complete.
    """

    grade: int | None = None
    dme: int | None = None
    disc_xy: Point | None = None
    fovea_xy: Point | None = None
    masks: Mapping[str, bytes] = field(default_factory=dict)
    looked_at: frozenset[str] = frozenset()
    confirmed: frozenset[str] = frozenset()

    @property
    def by_hand(self) -> frozenset[str]:
        """The structures whose outlines a person drew or deleted."""
        return frozenset(self.masks) - self.confirmed

    @property
    def any(self) -> bool:
        """Whether anything was said at all."""
        return self != Corrections()

    @property
    def stamp(self) -> tuple[Any, ...]:
        """By which one state is known from another; can be hashed, as the corrections cannot."""
        return self.disc_xy, self.fovea_xy, tuple(sorted(self.masks.items()))

    def mask(self, code: str) -> np.ndarray | None:
        """(H, W) bool of a structure that was corrected, else None."""
        return unpacked(self.masks[code]) if code in self.masks else None

    def with_mask(self, code: str, mask: np.ndarray) -> Corrections:
        """With this structure's mask; who corrects a kind has looked at it."""
        masks = {**self.masks, code: packed(mask)}
        return replace(self, masks=masks, looked_at=self.looked_at | {code}, confirmed=self.confirmed - {code})


@dataclass
class History:
    """The corrections of one photo as they are, and the steps that led there.

    taken_over: the last ones that came from a file in place of others.
    """

    now: Corrections = field(default_factory=Corrections)
    before: list[Corrections] = field(default_factory=list)
    taken_over: Corrections | None = None

    def step(self, after: Corrections) -> None:
        """Takes a step; a step that changes nothing is none."""
        if after != self.now:
            self.before = [*self.before, self.now][-MOST_STEPS:]
            self.now = after

    def take_up(self, after: Corrections) -> None:
        """Takes up what was saved before: a step where anything was done here, the beginning where nothing was."""
        if self.now.any and after != self.now:
            self.taken_over = after
        if self.now.any or self.before:
            self.step(after)
        else:
            self.now = after

    @property
    def is_taken_over(self) -> bool:
        """Whether what is here came from a file, in place of other corrections."""
        return self.taken_over is not None and self.now == self.taken_over

    def undo(self) -> None:
        """Takes the last step back."""
        if self.before:
            self.now = self.before.pop()


def packed(mask: np.ndarray) -> bytes:
    """An (H, W) bool mask as a one-bit PNG: some kilobytes for millions of pixels."""
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(mask, dtype=bool)).save(file, "PNG", compress_level=1)
    return file.getvalue()


def unpacked(data: bytes) -> np.ndarray:
    """The mask of `packed`."""
    with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
        return np.array(image.convert("1"), dtype=bool)


def seen_with(findings: Findings, thresholds: Mapping[str, float], corrections: Corrections) -> Findings:
    """The findings under other thresholds and with what a person corrected: lesions, rules and advice follow.

    A landmark that a person placed is no longer estimated. Grades and probabilities stay the model's own. Masks under
    unchanged thresholds are taken over.
    """
    card = findings.card
    moved = {code: value for code, value in thresholds.items() if card.thresholds.get(code) != value}
    held = corrections.masks.keys() & set(findings.codes)
    if not moved and not held and corrections.disc_xy is None and corrections.fovea_xy is None:
        return findings
    same = [code for code in findings.codes if code not in moved and code not in held]
    masks = {code: findings.mask(code) for code in same}
    masks |= {code: unpacked(corrections.masks[code]) for code in held}
    disc_xy = corrections.disc_xy or (_middle(masks["OD"]) if "OD" in held else None)
    placed = {"optic_disc": disc_xy, "fovea": corrections.fovea_xy}
    anatomy_stays = "OD" in same and not any(placed.values())
    return replace(
        findings,
        card=replace(card, thresholds={**card.thresholds, **moved}),
        disc_xy=disc_xy or findings.disc_xy,
        fovea_xy=corrections.fovea_xy or findings.fovea_xy,
        estimated=tuple(name for name in findings.estimated if placed.get(name) is None),
        _masks=masks,
        _objects={code: findings.objects(code) for code in same} if anatomy_stays else {},
    )


def _middle(mask: np.ndarray) -> tuple[float, float] | None:
    """The center of a drawn disc, where that of the findings then is; None of an empty mask."""
    rows, columns = np.nonzero(mask)
    return (float(columns.mean()) + 0.5, float(rows.mean()) + 0.5) if rows.size else None


def looked_at(shown: Findings, now: Corrections, codes: frozenset[str]) -> Corrections:
    """With the structures of which the person says that the masks are complete.

    What is called complete is held as it is shown: another threshold or a later model must not change it. Where that
    is taken back, the model's outlines are the model's again; what was drawn stays.
    """
    held = {code for code in codes - now.looked_at if code in shown.codes and code not in now.masks}
    free = now.confirmed - codes
    masks = {code: data for code, data in now.masks.items() if code not in free}
    masks |= {code: packed(shown.mask(code)) for code in held}
    return replace(now, masks=masks, looked_at=codes, confirmed=(now.confirmed - free) | held)


def corrected(shown: Findings, now: Corrections, edit: Mapping[str, Any]) -> Corrections:
    """One step made in the photo. edit: `what` (draw, delete, optic_disc, fovea) with `code` and `points`.

    What comes from a browser is checked like any input; an edit that makes no sense changes nothing.
    """
    width, height = shown.photo.width, shown.photo.height
    points = _inside(edit.get("points"), width, height)
    what, code = edit.get("what"), edit.get("code")
    if what in LANDMARKS and len(points) == 1:
        at = float(points[0, 0]), float(points[0, 1])
        return replace(now, disc_xy=at) if what == "optic_disc" else replace(now, fovea_xy=at)
    if code not in CODES or code not in shown.codes or not shown.gradable_ok:
        return now
    mask = shown.mask(code).copy()
    if what == "draw" and code == "OD":
        if len(points) < 3:
            return now  # a dot is no disc, and would make every distance in disc diameters wrong
        mask[:] = False  # there is one disc: what is drawn takes the place of the model's
    if what == "draw" and len(points):
        _draw(mask, points, float(edit.get("radius") or 0))
        return now.with_mask(code, mask)
    if what == "delete" and len(points) == 1:
        return now.with_mask(code, mask) if _delete(mask, points[0]) else now
    return now


def _inside(points: Any, width: int, height: int) -> np.ndarray:
    """(N, 2) points, moved into the photo; none where it is no list of pairs of numbers."""
    if not isinstance(points, Sequence) or not 0 < len(points) <= MOST_POINTS:
        return np.zeros((0, 2))
    try:
        array = np.asarray(points, np.float64)
    except (TypeError, ValueError):
        return np.zeros((0, 2))
    if array.ndim != 2 or array.shape[1] != 2 or not np.isfinite(array).all():
        return np.zeros((0, 2))
    return np.clip(array, 0, (width, height))


def _draw(mask: np.ndarray, points: np.ndarray, radius_px: float) -> None:
    """Fills the outline of three points or more; of fewer, a disc of that radius around each."""
    levels = mask.view(np.uint8)
    pixels = np.minimum(points.astype(int), (mask.shape[1] - 1, mask.shape[0] - 1))
    if len(points) >= 3:
        cv2.fillPoly(levels, [pixels.astype(np.int32)], 1)
    for x, y in pixels if len(points) < 3 else ():
        radius = round(min(max(radius_px, 1), max(mask.shape) / 8))
        cv2.circle(levels, (int(x), int(y)), radius, 1, -1)


def _delete(mask: np.ndarray, point: np.ndarray) -> bool:
    """Takes out the component that holds the pixel at a point; whether there was one."""
    x, y = (int(value) for value in np.minimum(point, (mask.shape[1] - 1, mask.shape[0] - 1)))
    if not mask[y, x]:
        return False
    cv2.floodFill(mask.view(np.uint8), None, (x, y), 0, flags=8)
    return True
