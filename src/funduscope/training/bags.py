"""Bags: places that are known to hold a kind of lesion, nobody having said where in there.

Boxes that a clinician drew around lesions, and regions that at least two experts marked. A bag's likeliest pixels count
as one (multiple instances, Maron and Lozano-Pérez, "A Framework for Multiple-Instance Learning", NIPS 1997; the mean of
the top share instead of the maximum, so that one pixel is not the whole answer). What lies outside all boxes is
unknown; outside all regions there is nothing (`data/prepare.py`).
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from funduscope.data.case import Labels
from funduscope.data.derived_labels import BOXED
from funduscope.data.prepare import Prepared
from funduscope.recipe import Recipe
from funduscope.training.augment import Warp
from funduscope.vocabulary import LESIONS

BAGS: dict[str, tuple[str, ...]] = {
    **{f"{kind} boxes": codes for kind, codes in BOXED.items()},
    **{f"{code} votes": (code,) for code in LESIONS},
}
"""The structures that a bag may hold any of, by the bag's kind; a batch has a plane for each, in this order."""

LEAST_SHARE, LEAST_PX = 0.05, 4
"""Of a bag's pixels, so many must be lesion: boxes and regions are drawn with room, some around clusters."""

Polygons = dict[str, list[np.ndarray]]
"""(N, 2) x, y in frame pixels of the bags, by kind."""


def kinds_of(labels: Labels, recipe: Recipe) -> list[str]:
    """The kinds of bag that the photo has, and the recipe learns from in the close view."""
    if not recipe.loss.boxes:
        return []
    held = [f"{kind} boxes" for kind, boxes in labels.boxes.items() if boxes]
    held += [f"{code} votes" for code in labels.votes]
    learned = {*recipe.views.close} & {*recipe.tasks.structures}
    return [kind for kind, codes in BAGS.items() if kind in held and learned >= {*codes}]


def polygons(labels: Labels, prepared: Prepared, recipe: Recipe) -> Polygons:
    """The photo's bags, kinds that have none left out."""
    found: Polygons = {}
    for kind in kinds_of(labels, recipe):
        name = kind.split()[0]
        if kind.endswith(" votes"):
            found[kind] = prepared.regions.get(name, [])
        else:
            corners = [[(x0, y0), (x1, y0), (x1, y1), (x0, y1)] for x0, y0, x1, y1 in labels.boxes[name]]
            found[kind] = [prepared.transform.to_frame(np.array(four, np.float64)) for four in corners]
    return {kind: ones for kind, ones in found.items() if ones}


def numbered(bags: Polygons, warp: Warp) -> np.ndarray:
    """(kinds, S, S) uint8 in the order of `BAGS`: the number of the bag that a pixel is in, 0 in none.

    A bag that is not wholly in the sample is left out: its lesions may be in the part that is not to be seen. Where two
    overlap, the later one has the pixels.
    """
    size = warp.size_px
    planes = np.zeros((len(BAGS), size, size), np.uint8)
    for plane, kind in zip(planes, BAGS, strict=True):
        for number, polygon in enumerate(bags.get(kind, [])[:255], start=1):
            corners = warp.points(polygon)
            if (corners >= 0).all() and (corners <= size).all():
                cv2.fillPoly(plane, [np.rint(corners - 0.5).astype(np.int32)], number)
    return planes


def bag_losses(logits: Tensor, bags: Tensor, structures: Sequence[str]) -> dict[str, Tensor]:
    """-log of the probability that there is something of its kind in a bag, the mean over the bags, by kind.

    logits (B, L, h, w), resized to the bags; bags (B, kinds, H, W) uint8 in the order of `BAGS`, 0 outside, else the
    number of the bag. A box of red lesions is answered by the larger of the two logits.
    """
    logits = F.interpolate(logits.float(), size=bags.shape[-2:], mode="bilinear", align_corners=False)
    losses: dict[str, Tensor] = {}
    for index, (kind, codes) in enumerate(BAGS.items()):
        planes = [logits[:, structures.index(code)] for code in codes if code in structures]
        if len(planes) < len(codes):
            continue
        plane = torch.stack(planes).amax(0)
        found = [
            F.softplus(-inside.topk(max(LEAST_PX, round(LEAST_SHARE * len(inside)))).values.mean())
            for one, numbers in zip(plane, bags[:, index], strict=True)
            for number in numbers.unique().tolist()
            if number and len(inside := one[numbers == number]) >= LEAST_PX
        ]
        if found:
            losses[kind] = torch.stack(found).mean()
    return losses
