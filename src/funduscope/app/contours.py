"""Which outline belongs to which lesion: so that a row of the table is found in the photo, and a click its row."""

from __future__ import annotations

import cv2
import numpy as np

from funduscope.inference.findings import Findings
from funduscope.inference.objects import centers_of
from funduscope.report.outline import trace

Contours = list[np.ndarray]
"""The edges of one lesion, each (N, 1, 2) int32 in pixel indices of the photo: its outer edge, then its holes'."""


def contours_of(findings: Findings, code: str) -> list[Contours]:
    """The rings of every lesion of a kind, in the order of `Findings.objects`."""
    mask = findings.mask(code)
    left, top, width, height = cv2.boundingRect(mask.view(np.uint8))
    if width == 0:
        return []
    cut = np.ascontiguousarray(mask[top : top + height, left : left + width])
    _, labels, stats, _ = cv2.connectedComponentsWithStats(cut.view(np.uint8), connectivity=8)
    labels, areas = np.asarray(labels), stats[1:, cv2.CC_STAT_AREA].astype(int)
    pixels = np.asarray(cv2.findNonZero(cut.view(np.uint8)), np.intp).reshape(-1, 2)
    middle = centers_of(pixels + np.array([left, top]), labels[pixels[:, 1], pixels[:, 0]] - 1, areas)
    places: dict[tuple[float, float, int], list[int]] = {}
    for k, area in enumerate(areas):  # a dot in a ring can have the ring's center, and its area too
        places.setdefault((*middle[k], int(area)), []).append(k + 1)
    held: dict[int, Contours] = {}
    for ring in trace(cut).rings:  # the points of a hole's edge, too, are pixels of the lesion around it
        x, y = ring[0, 0]
        held.setdefault(int(labels[y, x]), []).append(ring + np.array([left, top], np.int32))
    return [held[places[one.x_px, one.y_px, one.area_px].pop(0)] for one in findings.objects(code)]
