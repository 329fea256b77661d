"""What the browser draws over a photo: outlines by lesion, rows of the table, disc, fovea and the circle around it."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from funduscope.app.contours import Contours, contours_of
from funduscope.app.corrections import Corrections
from funduscope.inference.findings import Findings
from funduscope.inference.objects import MOST_TOLD
from funduscope.inference.rules import NEAR_DD
from funduscope.report.html import svg_path
from funduscope.report.outline import Outline, Palette, color_of
from funduscope.vocabulary import LESIONS

MOST_DRAWN: Final = 3_000
"""So many outlines a kind are drawn, the largest: beyond it a browser becomes slow, and nobody counts them by eye."""


def viewer_data(shown: Findings, palette: Palette, corrections: Corrections) -> dict[str, Any]:
    """Everything but words: JSON of numbers and paths in the photo's pixels. shown: as `corrections.seen_with` says."""
    photo = shown.photo
    codes = shown.codes if shown.gradable_ok else ()
    # The smallest kinds of lesion come last, on top.
    layers = [_layer(shown, code, palette, corrections) for code in reversed(codes)]
    disc, fovea = shown.disc_xy, shown.fovea_xy
    diameter = shown.disc_diameter_px if shown.gradable_ok else None
    return {
        "id": photo.sha256,
        "width": photo.width,
        "height": photo.height,
        "layers": layers,
        "lesions": [row for layer in reversed(layers) for row in layer["rows"]],
        "optic_disc": None if disc is None else [round(disc[0], 1), round(disc[1], 1)],
        "fovea": None if fovea is None else [round(fovea[0], 1), round(fovea[1], 1)],
        "circle_px": None if fovea is None or not diameter else round(NEAR_DD * diameter, 1),
        "editable": shown.gradable_ok,
    }


def _layer(shown: Findings, code: str, palette: Palette, corrections: Corrections) -> dict[str, Any]:
    red, green, blue = color_of(code, palette)
    objects = shown.objects(code)
    is_lesion = code in LESIONS
    outlined = contours_of(shown, code)
    paths = [_path(rings) for rings in outlined[:MOST_DRAWN]]
    rows = [
        {
            "id": f"{code}-{number}",
            "code": code,
            "x": round(one.x_px, 1),
            "y": round(one.y_px, 1),
            # A pixel of its own, by which it is deleted: the center of a ring or an arc is none.
            "pixel": outlined[number][0][0, 0].tolist(),
            "area": one.area_px,
            "fovea_dd": None if one.nearest_fovea_dd is None else round(one.nearest_fovea_dd, 2),
            "quadrant": one.quadrant,
            "probability": round(one.probability, 2),
        }
        for number, one in enumerate(objects[:MOST_TOLD] if is_lesion else ())
    ]
    return {
        "code": code,
        "color": f"#{red:02x}{green:02x}{blue:02x}",
        "lesion": is_lesion,
        "corrected": code in corrections.by_hand,
        "count": len(objects),
        "paths": paths,
        "rows": rows,
    }


def _path(rings: Contours) -> str:
    """One lesion as an SVG path: its outer edge and the edges of its holes."""
    return svg_path(Outline(tuple(rings), np.zeros(len(rings), np.int32), np.zeros(len(rings), bool)))
