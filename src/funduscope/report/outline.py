"""The edges of a mask as rings of points: traced once, drawn by the overlay and by the report.

Rings keep every component, however small, and can be drawn crisply at any zoom; a downscaled mask can do neither.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, get_args

import cv2
import numpy as np

from funduscope.vocabulary import structure

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from funduscope.inference.findings import Findings

Palette = Literal["standard", "safe"]
PALETTES: Final[tuple[str, ...]] = get_args(Palette)


@dataclass(frozen=True, eq=False)
class Outline:
    """The rings of one structure, in pixel indices of the photo (a pixel's center is its index + 0.5).

    `rings`: each (N, 1, 2) int32, x then y; outer edges and holes alike, to be filled by the even-odd rule.
    `sizes_px`: (rings,) int32, the longer side of each ring's bounding box.
    `is_outer`: (rings,) bool, false for the edge of a hole; as many are true as there are components.
    """

    rings: tuple[np.ndarray, ...]
    sizes_px: np.ndarray
    is_outer: np.ndarray


def trace(mask: np.ndarray) -> Outline:
    """The outline of an (H, W) bool mask; components are 8-connected."""
    levels = np.ascontiguousarray(mask, dtype=bool).view(np.uint8)
    rings, tree = cv2.findContours(levels, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    if tree is None:
        return Outline((), np.zeros(0, np.int32), np.zeros(0, bool))
    sizes = [max(cv2.boundingRect(ring)[2:]) for ring in rings]
    return Outline(tuple(rings), np.asarray(sizes, np.int32), tree.reshape(-1, 4)[:, 3] < 0)


@dataclass(frozen=True, eq=False)
class Traced:
    """The findings and their outlines, computed once for everything that shows them.

    `found`: as in findings.json; `outlines`: by code, empty if the photo could not be graded.
    """

    found: Mapping[str, Any]
    outlines: Mapping[str, Outline]


ExtraOutputs: TypeAlias = "Callable[[Findings, Traced, Path, str], None]"
"""Adds files to a photo's results: takes findings, their outlines, the folder, and how the files' names begin."""


def trace_all(findings: Findings) -> Traced:
    """The findings as a dictionary, and the outline of every structure of the model."""
    codes = findings.codes if findings.gradable_ok else ()
    return Traced(findings.to_dict(), {code: trace(findings.mask(code)) for code in codes})


def color_of(code: str, palette: Palette) -> tuple[int, int, int]:
    """The RGB color of a structure in the palette; raises `ValueError` for a palette that does not exist."""
    if palette not in PALETTES:
        raise ValueError(f"Palette {palette!r} does not exist: use one of {', '.join(PALETTES)}.")
    item = structure(code)
    return item.safe_color if palette == "safe" else item.color


def hex_color_of(code: str, palette: Palette) -> str:
    """The same as pages write it, #rrggbb."""
    return "#{:02x}{:02x}{:02x}".format(*color_of(code, palette))
