"""An explanation as a picture: the photo in gray, the evidence for the answer in color, and its messages below.

A map that failed the check against random weights is not drawn; the photo is crossed out instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import cv2
import numpy as np

from funduscope.explain.class_activation import EXPLAINED_TARGETS, Explanation, explanation
from funduscope.explain.map_reliability import map_messages, may_be_shown
from funduscope.i18n.messages import Message
from funduscope.imaging.framing import CropTransform
from funduscope.imaging.photo import Photo
from funduscope.report.overlay import RESEARCH_ONLY, Pen, Word, band, shrunk

if TYPE_CHECKING:
    from funduscope.inference.findings import Findings

WIDTH_PX: Final = 1200
MIN_FULL: Final = 10.0
"""Least evidence, in log odds, that is drawn at full brightness. A map whose maximum is lower stays darker, so that an
eye without findings is not made bright."""

COARSE: Final = 64
"""Maps with fewer cells per side are enlarged by cubic interpolation first: linear interpolation would show stars."""

_MOST: Final = 0.75
_CROSS: Final = (255, 176, 32)


def blend(findings: Findings, shown: Explanation, width_px: int = WIDTH_PX) -> np.ndarray:
    """The photo with the map over it, or crossed out: (h, w, 3) uint8 RGB, at most `width_px` wide."""
    gray = gray_photo(findings.photo, width_px)
    height, width = gray.shape[:2]
    if shown.exact and not may_be_shown(findings.model_sha256, shown.target):
        for start, end in (((0, 0), (width, height)), ((0, height), (width, 0))):
            cv2.line(gray, start, end, _CROSS, max(2, width // 200), cv2.LINE_AA)
        return gray
    return colorize(gray, normalized_evidence(shown, (width, height)))


def gray_photo(photo: Photo, width_px: int) -> np.ndarray:
    """The photo without its colors, (h, w, 3) uint8, at most `width_px` wide."""
    return cv2.cvtColor(cv2.cvtColor(shrunk(photo.pixels, width_px), cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)


def colorize(gray: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """A gray picture (h, w, 3) uint8 with a heat map (h, w) in 0..1 drawn over it."""
    # The color map starts at purple here: its black would draw a dark ring around every bright place.
    colors = cv2.applyColorMap(np.rint(80 + 175 * heat).astype(np.uint8), cv2.COLORMAP_INFERNO)[..., ::-1]
    share = (_MOST * heat**0.7)[..., None]
    return np.clip(np.rint(share * colors + (1 - share) * gray), 0, 255).astype(np.uint8)


def normalized_evidence(shown: Explanation, size: tuple[int, int]) -> np.ndarray:
    """(h, w) float32 in 0..1 over the photo: the evidence for the answer at each pixel; evidence against it is 0.

    size: (w, h) of the picture of the whole photo.
    """
    full = max(MIN_FULL, float(shown.evidence.max()))
    return np.clip(resample(shown.evidence / full, shown.transform, size), 0, 1)


def resample(plane: np.ndarray, transform: CropTransform, size: tuple[int, int]) -> np.ndarray:
    """A map of the frame (n, n) resampled to a picture of the whole photo, (h, w) float32; 0 outside the frame and the
    photo.

    size: (w, h) of the picture.
    """
    smooth = np.ascontiguousarray(plane, np.float32)
    if len(plane) < COARSE:
        smooth = cv2.resize(smooth, None, fx=8, fy=8, interpolation=cv2.INTER_CUBIC)
    step = transform.width_px / size[0]  # photo pixels per pixel of the picture
    cell = len(smooth) / transform.size_px  # map cells per photo pixel
    to_map = np.array([
        [step * cell, 0, (0.5 * step - transform.left_px) * cell - 0.5],
        [0, step * cell, (0.5 * step - transform.top_px) * cell - 0.5],
    ])  # fmt: skip
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    resampled = cv2.warpAffine(smooth, to_map, size, flags=flags, borderMode=cv2.BORDER_REPLICATE)
    left, top, right, bottom = (at / step for at in transform.bounds)
    rows, columns = np.arange(size[1]) + 0.5, np.arange(size[0]) + 0.5
    inside = ((rows >= top) & (rows <= bottom))[:, None] & ((columns >= left) & (columns <= right))
    return resampled * cv2.warpAffine(np.ones_like(smooth), to_map, size, flags=flags) * inside


def exact_map_pictures(findings: Findings) -> dict[str, np.ndarray]:
    """Every exact map with its English messages below: target to (h, w, 3) uint8 RGB."""
    known = {target: explanation(findings, target) for target in EXPLAINED_TARGETS}
    return {target: map_picture(findings, shown) for target, shown in known.items() if shown is not None}


def map_picture(findings: Findings, shown: Explanation) -> np.ndarray:
    """One map with its English messages below: (h, w, 3) uint8 RGB."""
    return with_messages_below(blend(findings, shown, WIDTH_PX), map_messages(shown, findings.model_sha256))


def with_messages_below(picture: np.ndarray, messages: Sequence[Message]) -> np.ndarray:
    """A picture with messages below."""
    rows = [[Word(part) for part in message.text.split()] for message in messages]
    rows.append([RESEARCH_ONLY])
    return np.concatenate([picture, band(rows, picture.shape[1], Pen.for_width(picture.shape[1]))])
