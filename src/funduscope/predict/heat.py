"""An explanation as a picture: the photo in gray, what speaks for the answer in color, and what to think of it below.

A map that failed the check against random weights is not drawn; the photo is crossed out instead.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import cv2
import numpy as np

from funduscope.predict.explain import SHOWN, Explanation, explanation
from funduscope.predict.honesty import map_notes, may_be_shown
from funduscope.predict.overlay import Pen, Word, band

if TYPE_CHECKING:
    from funduscope.predict.findings import Findings

WIDTH_PX: Final = 1200
LEAST_FULL: Final = 10.0
"""Log odds at a place from which on it may be as bright as can be: an eye with nothing in it stays dark, instead of
having its faintest place made bright."""

_MOST: Final = 0.75
_CROSS: Final = (255, 176, 32)


def drawn(findings: Findings, asked: Explanation, width_px: int = WIDTH_PX) -> np.ndarray:
    """The photo with the map over it, or crossed out: (h, w, 3) uint8 RGB, at most `width_px` wide."""
    photo = findings.photo.pixels
    width = min(photo.shape[1], width_px)
    size = width, max(1, round(photo.shape[0] * width / photo.shape[1]))
    small = cv2.resize(photo, size, interpolation=cv2.INTER_AREA)
    gray = cv2.cvtColor(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    if not may_be_shown(findings.model_sha256, asked.target):
        for start, end in (((0, 0), (size[0], size[1])), ((0, size[1]), (size[0], 0))):
            cv2.line(gray, start, end, _CROSS, max(2, width // 200), cv2.LINE_AA)
        return gray
    heat = strength(asked, size)
    # From purple on: the map's own black would darken a ring around every bright place.
    colors = cv2.applyColorMap(np.rint(80 + 175 * heat).astype(np.uint8), cv2.COLORMAP_INFERNO)[..., ::-1]
    share = (_MOST * heat**0.7)[..., None]
    return np.clip(np.rint(share * colors + (1 - share) * gray), 0, 255).astype(np.uint8)


def strength(asked: Explanation, size: tuple[int, int]) -> np.ndarray:
    """(h, w) float32 in 0..1 over the photo: how much each place speaks for the answer; what speaks against is 0.

    size: (w, h) of the picture of the whole photo. Smoother between its places than linear, which would show stars that
    are not there; 0 outside the frame.
    """
    home, smooth = asked.home, cv2.resize(asked.evidence, None, fx=8, fy=8, interpolation=cv2.INTER_CUBIC)
    shrunk = home.width_px / size[0]
    place = len(smooth) / home.size_px  # of the map, a photo pixel
    way = np.array([
        [shrunk * place, 0, (0.5 * shrunk - home.left_px) * place - 0.5],
        [0, shrunk * place, (0.5 * shrunk - home.top_px) * place - 0.5],
    ])  # fmt: skip
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    there = cv2.warpAffine(smooth, way, size, flags=flags, borderMode=cv2.BORDER_REPLICATE)
    inside = cv2.warpAffine(np.ones_like(smooth), way, size, flags=flags)
    return np.clip(there * inside / max(LEAST_FULL, float(asked.evidence.max())), 0, 1)


def pictures(findings: Findings, width_px: int = WIDTH_PX) -> dict[str, np.ndarray]:
    """Every map that is shown to people, with its words in English below: target to (h, w, 3) uint8 RGB."""
    told: dict[str, np.ndarray] = {}
    for target in SHOWN:
        asked = explanation(findings, target)
        if asked is None:
            continue
        picture = drawn(findings, asked, width_px)
        sentences = [note.says for note in map_notes(asked, findings.model_sha256)]
        rows = [[Word(part) for part in says.split()] for says in sentences]
        rows.append([Word("Research only, not a medical device", ink=(170, 170, 170))])
        told[target] = np.concatenate([picture, band(rows, picture.shape[1], Pen.for_width(picture.shape[1]))])
    return told
