"""What the browser draws over a photo, as JSON: outlines, rows of the table, landmarks, probabilities, thresholds.

While a threshold slider moves, the browser itself redraws from the probabilities as 8-bit pictures. The outlines that
stay are drawn here, from the probabilities themselves.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import cv2
import numpy as np

from funduscope.app.reviewed import Corrections
from funduscope.inference.findings import Findings
from funduscope.inference.objects import centers_of
from funduscope.inference.rules import NEAR_DD
from funduscope.report.html import svg_path
from funduscope.report.outline import Palette, hex_color_of, trace
from funduscope.vocabulary import LESIONS

MAX_OUTLINES: Final = 3_000
"""Outlines drawn of each kind, largest first. More would make a browser slow, and nobody counts them by eye."""

MIN_THRESHOLD, MAX_THRESHOLD = 0.01, 0.99
_DIGITS: Final = 2

Contours = list[np.ndarray]
"""The edges of one lesion, each (N, 1, 2) int32 in pixel indices of the photo: the outer edge, then those of holes."""


def viewer_data(shown: Findings, palette: Palette, corrections: Corrections) -> dict[str, Any]:
    """Numbers and paths in photo pixels. shown: the findings after `apply_corrections`."""
    photo = shown.photo
    codes = shown.codes if shown.gradable_ok else ()
    layers = [_layer(shown, code, palette, corrections) for code in reversed(codes)]  # the smallest lesions on top
    diameter = shown.disc_diameter_px if shown.gradable_ok else None
    return {
        "id": photo.sha256,
        "width": photo.width,
        "height": photo.height,
        "layers": layers,
        "lesions": [row for layer in reversed(layers) for row in layer["rows"]],
        "optic_disc": _rounded(shown.disc_xy),
        "fovea": _rounded(shown.fovea_xy),
        "eye": shown.anatomy.laterality if shown.gradable_ok else None,
        "circle_px": None if shown.fovea_xy is None or not diameter else round(NEAR_DD * diameter, 1),
        "disc_diameter_px": None if not diameter else round(diameter, 1),
        "editable": shown.gradable_ok,
    }


def _rounded(xy: tuple[float, float] | None) -> list[float] | None:
    return None if xy is None else [round(value, 1) for value in xy]


def _layer(shown: Findings, code: str, palette: Palette, corrections: Corrections) -> dict[str, Any]:
    objects = shown.objects(code)
    is_lesion = code in LESIONS
    contours = contours_of(shown, code)
    rows = [
        {
            "id": f"{code}-{number}",
            "code": code,
            "x": round(one.x_px, 1),
            "y": round(one.y_px, 1),
            # A pixel of the lesion, which deletes it: the center of a ring or an arc lies outside of it.
            "pixel": contours[number][0][0, 0].tolist(),
            "area": one.area_px,
            "fovea_dd": None if one.nearest_fovea_dd is None else round(one.nearest_fovea_dd, 2),
            "quadrant": one.quadrant,
            "probability": round(one.probability, 2),
        }
        for number, one in enumerate(objects[:MAX_OUTLINES] if is_lesion else ())
    ]
    return {
        "code": code,
        "color": hex_color_of(code, palette),
        "lesion": is_lesion,
        "corrected": code in corrections.by_hand,
        "count": len(objects),
        "paths": [svg_path(rings) for rings in contours[:MAX_OUTLINES]],
        "rows": rows,
    }


def contours_of(findings: Findings, code: str) -> list[Contours]:
    """The contours of every lesion of a kind, in the order of `Findings.objects`."""
    mask = findings.mask(code)
    left, top, width, height = cv2.boundingRect(mask.view(np.uint8))
    if width == 0:
        return []
    cut = np.ascontiguousarray(mask[top : top + height, left : left + width])
    _, labels, stats, _ = cv2.connectedComponentsWithStats(cut.view(np.uint8), connectivity=8)
    labels, areas = np.asarray(labels), stats[1:, cv2.CC_STAT_AREA].astype(int)
    pixels = np.asarray(cv2.findNonZero(cut.view(np.uint8)), np.intp).reshape(-1, 2)
    centers = centers_of(pixels + np.array([left, top]), labels[pixels[:, 1], pixels[:, 0]] - 1, areas)
    labels_at: dict[tuple[float, float, int], list[int]] = {}
    for index, area in enumerate(areas):  # a dot in a ring can share the ring's center, and its area too
        labels_at.setdefault((*centers[index], int(area)), []).append(index + 1)
    by_label: dict[int, Contours] = {}
    for ring in trace(cut).rings:  # points on a hole's edge are pixels of the lesion around the hole
        x, y = ring[0, 0]
        by_label.setdefault(int(labels[y, x]), []).append(ring + np.array([left, top], np.int32))
    return [by_label[labels_at[one.x_px, one.y_px, one.area_px].pop(0)] for one in findings.objects(code)]


def probability_pngs(findings: Findings) -> dict[str, bytes]:
    """Structure code to its probabilities over the frame, as a gray PNG with 255 for 1; empty where ungradable."""
    codes = findings.codes if findings.gradable_ok else ()
    grays = {code: cv2.convertScaleAbs(findings.frame_probs[code], alpha=255) for code in codes}
    fast = [cv2.IMWRITE_PNG_COMPRESSION, 1]
    return {code: cv2.imencode(".png", gray, fast)[1].tobytes() for code, gray in grays.items()}


def threshold_sliders(findings: Findings, moved: Mapping[str, float], corrections: Corrections) -> list[dict[str, Any]]:
    """One row for each slider: its value, the model's value, and whether corrected or confirmed outlines fix it."""
    return [
        {
            "code": code,
            "value": moved.get(code, model_threshold(findings, code)),
            "model": model_threshold(findings, code),
            "fixed": code in corrections.masks,
        }
        for code in (findings.codes if findings.gradable_ok else ())
    ]


def model_threshold(findings: Findings, code: str) -> float:
    """The model's threshold, rounded as a slider shows it."""
    return min(MAX_THRESHOLD, max(MIN_THRESHOLD, round(float(findings.card.thresholds[code]), _DIGITS)))


def move_threshold(
    findings: Findings, moved: Mapping[str, float], edit: Mapping[str, Any], corrections: Corrections
) -> dict[str, float]:
    """The thresholds after a slider was moved. edit: `code` and `value`, as the browser sent them.

    An invalid edit changes nothing. A slider at the model's value is not a moved one: the model's exact number applies.
    """
    code, value = edit.get("code"), edit.get("value")
    after = dict(moved)
    if not isinstance(code, str) or code not in findings.codes or code in corrections.masks:
        return after
    if isinstance(value, int | float) and MIN_THRESHOLD <= round(value, _DIGITS) <= MAX_THRESHOLD:
        after.pop(code, None)
        if round(value, _DIGITS) != model_threshold(findings, code):
            after[code] = round(value, _DIGITS)
    return after
