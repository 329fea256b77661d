"""Batches: what the network sees, and what is known of it. A sample is made here, samples are stacked to a batch.

Everything that may be unknown carries a mask of its own, so that no loss has to guess it from a value.

A bag is a place that holds a kind of lesion somewhere inside: a box that a clinician drew around lesions, or a region
that at least two experts marked. Outside all boxes nothing is known; outside all regions there is no lesion
(`data/prepare.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from funduscope.data.case import Case, Labels
from funduscope.data.derived_labels import BOXED
from funduscope.data.prepare import CHANNELS, Prepared, read_prepared
from funduscope.recipe import Recipe
from funduscope.training.augment import Warp, draw_warp, plain_warp, recolor
from funduscope.vocabulary import CLASSES, EITHER_EXUDATE, LANDMARKS, LESIONS, View

BAGS: dict[str, tuple[str, ...]] = {
    **{f"{kind} boxes": codes for kind, codes in BOXED.items()},
    **{f"{code} votes": (code,) for code in LESIONS},
}
"""Structures that a bag may hold, by the bag's kind. `Batch.bags` has a plane for each kind, in this order."""

Polygons = dict[str, list[np.ndarray]]
"""Bags by kind: corners (N, 2), x and y in frame pixels."""


@dataclass(frozen=True, eq=False)
class Batch:
    """Images of the network's size, their targets, and what of the targets is known.

    `collate` puts a batch axis B in front; a single sample has none. whole: the view, True for the whole eye. allowed:
    for each photo task the classes that the photo may have: all of them where nothing is known, one for a label,
    several for a constraint. coverage: share of each pixel that a structure covers, 255 being all of it, in the order
    of `CHANNELS`; it counts only where `known` is True. landmarks: x and y in sample pixels, in the order of the
    vocabulary; they count only where `landmarks_known` is True. bags: number of the bag that a pixel is in, 0 in none,
    a plane for each of `BAGS`; None for a recipe that does not learn from them.
    """

    image: UInt8[Tensor, "*B H W 3"]
    whole: Bool[Tensor, "*B"]
    allowed: dict[str, Bool[Tensor, "*B _"]]
    coverage: UInt8[Tensor, "*B channels H W"]
    known: Bool[Tensor, "*B channels H W"]
    landmarks: Float[Tensor, "*B P 2"]
    landmarks_known: Bool[Tensor, "*B P"]
    bags: UInt8[Tensor, "*B kinds H W"] | None = None

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Batch:
        """The same on another device."""
        return _each([self], lambda tensors: tensors[0].to(device, non_blocking=non_blocking))

    def pin_memory(self) -> Batch:
        """The same in pinned memory, from which a GPU copies while it computes. The loader calls this."""
        return _each([self], lambda tensors: tensors[0].pin_memory())


def collate(samples: Sequence[Batch]) -> Batch:
    """Stacks samples along a new first axis."""
    return _each(samples, torch.stack)


def _each(batches: Sequence[Batch], change: Callable[[list[Tensor]], Tensor]) -> Batch:
    """A batch whose every tensor is made of the tensors that the given ones have in its place."""

    def made(values: list[Any]) -> Any:
        if isinstance(values[0], dict):
            return {name: made([value[name] for value in values]) for name in values[0]}
        return None if values[0] is None else change(values)

    return Batch(**{field.name: made([getattr(batch, field.name) for batch in batches]) for field in fields(Batch)})


@dataclass(frozen=True)
class Item:
    """One draw of an epoch: the case, the view, and the seed of every random number in its sample."""

    case: Case
    view: View
    seed: tuple[int, ...]


class Samples(torch.utils.data.Dataset):
    """Makes the sample of an item that the sampler yields. files: prepared file by case key. turned: whether crops are
    turned by a random number of quarters."""

    def __init__(self, files: dict[str, Path], recipe: Recipe, *, turned: bool = True) -> None:
        self.files = files
        self.recipe = recipe
        self.turned = turned

    def __getitem__(self, item: Item) -> Batch:  # pyright: ignore[reportIncompatibleMethodOverride]
        if torch.utils.data.get_worker_info() is not None:
            cv2.setNumThreads(0)  # the loader's workers already use the cores
        prepared = read_prepared(self.files[item.case.key])
        rng = np.random.default_rng(item.seed)
        views, bounds = self.recipe.views, self.recipe.augment
        bags: Polygons = {}
        if item.view == "whole":
            prepared = shrunk(prepared, views.whole_px)
            side = prepared.transform.side_px
            warp = plain_warp((side / 2, side / 2), views.whole_px / side, views.whole_px)
        else:
            bags = bag_polygons(item.case.labels, prepared, self.recipe)
            center = _crop_center(prepared, bags, self.recipe, rng)
            warp = plain_warp(center, 1.0, views.whole_px)
        warp = draw_warp(warp, bounds, rng, random_quarter_turns=self.turned and item.view == "close")
        zoom = float(np.sqrt(abs(np.linalg.det(warp.matrix[:, :2]))))
        field_px = prepared.transform.side_px * zoom
        image = recolor(warp.pixels(prepared.image), bounds, rng, field_px)
        sample = sample_of(image, prepared, item, warp, close_channels(self.recipe))
        return replace(sample, bags=torch.from_numpy(numbered(bags, warp))) if self.recipe.loss.boxes else sample


def frame_px(recipe: Recipe) -> int:
    """Side of the frames from which samples are made: the close frame, or, where nothing is learned from close by, the
    width to which a whole view would be `shrunk` anyway."""
    views = recipe.views
    is_close = {*recipe.tasks.structures} & {*views.close}
    return views.close_px if is_close else min(views.close_px, 2 * views.whole_px)


def shrunk(prepared: Prepared, whole_px: int) -> Prepared:
    """At most twice as wide as the whole view: sampling one pixel of three would make small things flicker."""
    side = prepared.transform.side_px
    if side <= 2 * whole_px:
        return prepared
    size = (2 * whole_px, 2 * whole_px)
    return replace(
        prepared,
        image=cv2.resize(prepared.image, size, interpolation=cv2.INTER_AREA),
        transform=replace(prepared.transform, side_px=2 * whole_px),
        coverage={c: cv2.resize(plane, size, interpolation=cv2.INTER_AREA) for c, plane in prepared.coverage.items()},
        known={
            c: cv2.resize(plane.astype(np.uint8) * 255, size, interpolation=cv2.INTER_AREA) == 255
            for c, plane in prepared.known.items()
        },
        regions={},
    )


def _crop_center(prepared: Prepared, bags: Polygons, recipe: Recipe, rng: np.random.Generator) -> tuple[float, float]:
    """x, y in frame pixels: near a lesion or a bag, every kind equally often, or anywhere in the eye.

    Every lesion of a kind is as likely, large or small. Only those count that the recipe learns in the close view.
    """
    side, size_px = prepared.transform.side_px, recipe.views.whole_px
    learned = dense_channels(recipe) & {*close_channels(recipe)}
    kinds = [code for code, plane in prepared.coverage.items() if code in learned - {"OD"} and plane.any()]
    jitter = rng.uniform(-size_px / 4, size_px / 4, 2)
    if (kinds or bags) and rng.random() < recipe.sampling.lesion_centered:
        chosen = int(rng.integers(len(kinds) + len(bags)))
        if chosen < len(kinds):
            count, numbers = cv2.connectedComponents((prepared.coverage[kinds[chosen]] > 0).view(np.uint8))
            places = np.flatnonzero(numbers == rng.integers(1, count))
            place = places[rng.integers(len(places))]
            return place % side + 0.5 + jitter[0], place // side + 0.5 + jitter[1]
        of_kind = list(bags.values())[chosen - len(kinds)]
        polygon = of_kind[rng.integers(len(of_kind))]
        x, y = (polygon.min(0) + polygon.max(0)) / 2 + jitter
        return float(x), float(y)
    margin = size_px * 0.45
    low, high = min(margin, side / 2), max(side - margin, side / 2)
    return float(rng.uniform(low, high)), float(rng.uniform(low, high))


def sample_of(image: np.ndarray, prepared: Prepared, item: Item, warp: Warp, close_codes: tuple[str, ...]) -> Batch:
    """The sample of a warped image (S, S, 3), without bags. close_codes: the channels learned in the close view.

    Grades, edema risk and landmarks are learned in the whole view alone.
    """
    whole = item.view == "whole"
    labels = item.case.labels if whole else Labels()
    coverage, known = _dense(prepared, warp, close_codes, close=not whole)
    points, points_known = _landmarks(labels, prepared, warp)
    return Batch(
        image=torch.from_numpy(image),
        whole=torch.tensor(whole),
        allowed={task: torch.tensor(allowed(labels, task)) for task in CLASSES},
        coverage=torch.from_numpy(coverage),
        known=torch.from_numpy(known),
        landmarks=torch.from_numpy(points),
        landmarks_known=torch.from_numpy(points_known),
    )


def allowed(labels: Labels, task: str) -> list[bool]:
    """Which classes of a photo task the labels leave possible: one for a label, several for a constraint, or all."""
    known, classes = labels.known_classes(task), range(len(CLASSES[task]))
    possible = classes if known is None else (known,) if isinstance(known, int) else known
    return [index in possible for index in classes]


def _dense(
    prepared: Prepared, warp: Warp, close_codes: tuple[str, ...], *, close: bool
) -> tuple[np.ndarray, np.ndarray]:
    """(channels, S, S) uint8 coverage and bool known, warped."""
    size = warp.size_px
    coverage = np.zeros((len(CHANNELS), size, size), np.uint8)
    known = np.zeros(coverage.shape, bool)
    side = prepared.transform.side_px
    inside = warp.pixels(np.full((side, side), 255, np.uint8)) == 255
    for index, code in enumerate(CHANNELS):
        # A structure is predicted from one of the two views, and learned in that one alone.
        if close != (code in close_codes):
            continue
        if code in prepared.coverage:
            coverage[index] = warp.pixels(prepared.coverage[code])
            known[index] = inside
        elif code in prepared.absent:
            known[index] = inside
        elif code in prepared.known:
            known[index] = inside & (warp.pixels(prepared.known[code].astype(np.uint8) * 255) == 255)
    return coverage, known


def _landmarks(labels: Labels, prepared: Prepared, warp: Warp) -> tuple[np.ndarray, np.ndarray]:
    """(P, 2) float32 x, y in sample pixels, and (P,) bool: labeled, and inside the sample."""
    points, known = np.zeros((len(LANDMARKS), 2), np.float32), np.zeros(len(LANDMARKS), bool)
    for index, xy in enumerate(map(labels.point, LANDMARKS)):
        if xy is not None:
            points[index] = warp.points(prepared.transform.to_frame(np.array([xy])))[0]
            known[index] = bool((points[index] >= 0).all() and (points[index] < warp.size_px).all())
    return points, known


def dense_channels(recipe: Recipe) -> set[str]:
    """The channels of a dense target that the recipe's structures are learned from."""
    structures = {*recipe.tasks.structures}
    return structures | ({EITHER_EXUDATE} if {"EX", "SE"} <= structures else set())


def close_channels(recipe: Recipe) -> tuple[str, ...]:
    """The channels of a dense target that are learned in the close view."""
    close = recipe.views.close
    return (*close, EITHER_EXUDATE) if {"EX", "SE"} & set(close) else close


def bag_kinds(labels: Labels, recipe: Recipe) -> list[str]:
    """The kinds of bag that the photo has and that the recipe learns from in the close view."""
    if not recipe.loss.boxes:
        return []
    there = [f"{kind} boxes" for kind, boxes in labels.boxes.items() if boxes]
    there += [f"{code} votes" for code in labels.votes]
    learned = {*recipe.views.close} & {*recipe.tasks.structures}
    return [kind for kind, codes in BAGS.items() if kind in there and learned >= {*codes}]


def bag_polygons(labels: Labels, prepared: Prepared, recipe: Recipe) -> Polygons:
    """The photo's bags; kinds without any are left out."""
    found: Polygons = {}
    for kind in bag_kinds(labels, recipe):
        name = kind.split()[0]
        if kind.endswith(" votes"):
            found[kind] = prepared.regions.get(name, [])
        else:
            corners = [[(x0, y0), (x1, y0), (x1, y1), (x0, y1)] for x0, y0, x1, y1 in labels.boxes[name]]
            found[kind] = [prepared.transform.to_frame(np.array(four, np.float64)) for four in corners]
    return {kind: polygons for kind, polygons in found.items() if polygons}


def numbered(bags: Polygons, warp: Warp) -> np.ndarray:
    """(kinds, S, S) uint8 in the order of `BAGS`: the number of the bag that a pixel is in, 0 in none.

    A bag that is not wholly inside the sample is left out: its lesions may be in the part outside. Where two overlap,
    the later one has the pixels.
    """
    size = warp.size_px
    planes = np.zeros((len(BAGS), size, size), np.uint8)
    for plane, kind in zip(planes, BAGS, strict=True):
        for number, polygon in enumerate(bags.get(kind, [])[:255], start=1):
            corners = warp.points(polygon)
            if (corners >= 0).all() and (corners <= size).all():
                cv2.fillPoly(plane, [np.rint(corners - 0.5).astype(np.int32)], number)
    return planes
