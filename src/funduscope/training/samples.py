"""Samples: which photos an epoch sees in which view, and what of each is known.

Every draw comes from a generator seeded by (seed, epoch, place in the epoch), so an epoch is the same whoever loads it,
with however many workers, before or after an interruption.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import torch
from torch import Tensor

from funduscope.data.case import Case, Labels
from funduscope.data.derived_labels import derive_labels
from funduscope.data.prepare import CHANNELS, Prepared, read_prepared
from funduscope.recipe import Recipe
from funduscope.training import bags
from funduscope.training.augment import Warp, draw_warp, plain_warp
from funduscope.training.photometric import recolor
from funduscope.vocabulary import DME_RISKS, EITHER_EXUDATE

View = Literal["whole", "close"]
Sample = dict[str, Tensor]


@dataclass(frozen=True)
class Item:
    """One draw of an epoch: the case, the view, the seed of everything random in it."""

    case: Case
    view: View
    seed: tuple[int, ...]


def serves(labels: Labels, view: View, recipe: Recipe) -> bool:
    """Whether a view can teach any of the recipe's tasks something from these labels."""
    labels, tasks = derive_labels(labels), recipe.tasks
    dense = {*labels.masks, *labels.votes, *labels.experts, *({"OD"} & set(labels.boxes))}
    close = close_channels(recipe)
    asked = {*tasks.structures, *([EITHER_EXUDATE] if {"EX", "SE"} <= set(tasks.structures) else [])}
    if any((code in close) == (view == "close") for code in dense & asked):
        return True
    if view == "close":
        return any(bags.kinds_of(labels, recipe))
    risk = labels.dme is not None or labels.dme_among is not None
    points = {"optic_disc": labels.disc_xy, "fovea": labels.fovea_xy}
    return (
        (tasks.grade and labels.grade is not None)
        or (tasks.dme and risk)
        or any(points[name] is not None for name in tasks.landmarks)
    )


def close_channels(recipe: Recipe) -> tuple[str, ...]:
    """The channels of a dense target that are learned in the close view."""
    close = recipe.views.close
    return (*close, EITHER_EXUDATE) if {"EX", "SE"} & set(close) else close


def draw_epoch(cases: list[Case], recipe: Recipe, epoch: int) -> list[Item]:
    """The items of an epoch (counted from 0) in order: a rate of 2.3 gives two samples, three to three of ten cases."""
    seed, sampling = recipe.training.seed, recipe.sampling
    rng = np.random.default_rng([seed, epoch])
    views: tuple[tuple[View, dict[str, float]], ...] = (("whole", sampling.whole), ("close", sampling.close))
    rated: list[tuple[Case, View, float]] = [
        (case, view, rate)
        for view, rates in views
        for case in cases
        if (rate := rates.get(case.dataset, 0.0)) and serves(case.labels, view, recipe)
    ]
    if sampling.grade_power:
        rated = _by_grade(rated, sampling.grade_power)
    if sampling.per_epoch and rated:
        drawn = _exactly(sampling.per_epoch, rated, rng)
    else:
        drawn = [(case, view) for case, view, rate in rated for _ in range(int(rate) + int(rng.random() < rate % 1))]
    order = [drawn[place] for place in rng.permutation(len(drawn))]
    if sampling.order == "alternate":
        order = _alternating(order, recipe.training.batch)
    return [Item(*one, seed=(seed, epoch, index)) for index, one in enumerate(order)]


def _by_grade(rated: list[tuple[Case, View, float]], power: float) -> list[tuple[Case, View, float]]:
    """Rare grades of a data set more often in the whole view; graded photos keep their rate in the mean of the set."""
    counts = Counter((case.dataset, case.labels.grade) for case, view, _ in rated if view == "whole")
    share = {key: count**-power for key, count in counts.items() if key[1] is not None}
    photos, total = Counter[str](), Counter[str]()
    for (dataset, grade), weight in share.items():
        photos[dataset] += counts[dataset, grade]
        total[dataset] += weight * counts[dataset, grade]  # pyright: ignore[reportArgumentType]
    return [
        (case, view, rate * share[key] * photos[case.dataset] / total[case.dataset])
        if view == "whole" and (key := (case.dataset, case.labels.grade)) in share
        else (case, view, rate)
        for case, view, rate in rated
    ]


def _exactly(count: int, rated: list[tuple[Case, View, float]], rng: np.random.Generator) -> list[tuple[Case, View]]:
    """`count` draws in proportion to the rates: systematic sampling over an order that is drawn."""
    order = rng.permutation(len(rated))
    rates = np.array([rated[place][2] for place in order])
    edges = np.floor(np.cumsum(rates) * (count / rates.sum()) + rng.random()).astype(int)
    times = np.diff(edges, prepend=0)
    return [rated[place][:2] for place, n in zip(order, times, strict=True) for _ in range(n)][:count]


def _alternating(drawn: list[tuple[Case, View]], batch: int) -> list[tuple[Case, View]]:
    """The same draws in batches of one kind: photos with masks of their own, and photos with grades alone, spread
    evenly among each other; what fills no batch of its kind comes last."""
    masked = [one for one in drawn if one[0].labels.masks]
    graded = [one for one in drawn if not one[0].labels.masks]
    placed: list[tuple[float, list[tuple[Case, View]]]] = []
    rest: list[tuple[Case, View]] = []
    for kind in (masked, graded):
        whole = len(kind) // batch
        placed += [((i + 0.5) / whole, kind[i * batch : (i + 1) * batch]) for i in range(whole)]
        rest += kind[whole * batch :]
    return [one for _, group in sorted(placed, key=lambda entry: entry[0]) for one in group] + rest


class EpochOrder(torch.utils.data.Sampler[Item]):
    """Yields the items of the epoch that was set last.

    accelerate counts the passes from 0 and sets the epoch from its own count before each: `loop.Loop` sets that count.
    """

    def __init__(self, cases: list[Case], recipe: Recipe) -> None:
        self.cases, self.recipe, self.epoch = cases, recipe, 0

    def set_epoch(self, epoch: int) -> None:
        """Chooses the epoch, counted from 0."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[Item]:
        return iter(draw_epoch(self.cases, self.recipe, self.epoch))

    def __len__(self) -> int:
        return len(draw_epoch(self.cases, self.recipe, self.epoch))


class Samples(torch.utils.data.Dataset):
    """Makes a sample of an item; the sampler hands the items over. files: prepared file by case key."""

    def __init__(self, files: dict[str, Path], recipe: Recipe) -> None:
        self.files = files
        self.recipe = recipe

    def __getitem__(self, item: Item) -> Sample:  # pyright: ignore[reportIncompatibleMethodOverride]
        cv2.setNumThreads(0)  # the workers are the threads
        prepared = read_prepared(self.files[item.case.key])
        rng = np.random.default_rng(item.seed)
        views, bounds = self.recipe.views, self.recipe.augment
        if item.view == "whole":
            prepared = shrunk(prepared, views.whole_px)
            side = prepared.transform.side_px
            warp = plain_warp((side / 2, side / 2), views.whole_px / side, views.whole_px)
        else:
            within = bags.polygons(item.case.labels, prepared, self.recipe)
            places = _sought(prepared, self.recipe)
            center = _crop_center(places, within, views.whole_px, self.recipe.sampling.lesion_centered, rng)
            warp = plain_warp(center, 1.0, views.whole_px)
        warp = draw_warp(warp, bounds, rng, any_way_up=item.view == "close")
        image = recolor(warp.pixels(prepared.image), bounds, rng)
        sample = sample_of(image, prepared, item, warp, close_channels(self.recipe))
        if self.recipe.loss.boxes:
            within = bags.polygons(item.case.labels, prepared, self.recipe) if item.view == "close" else {}
            sample["bags"] = torch.from_numpy(bags.numbered(within, warp))
        return sample


def shrunk(prepared: Prepared, whole_px: int) -> Prepared:
    """The same, no wider than twice the whole view: where a map takes one pixel of three, small things flicker."""
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


def _sought(prepared: Prepared, recipe: Recipe) -> Prepared:
    """The same with the coverage of those lesions alone that the recipe learns from the close view."""
    asked = {*recipe.tasks.structures, *([EITHER_EXUDATE] if {"EX", "SE"} <= set(recipe.tasks.structures) else [])}
    asked &= {*close_channels(recipe)}
    return replace(prepared, coverage={code: plane for code, plane in prepared.coverage.items() if code in asked})


def _crop_center(
    prepared: Prepared, within: bags.Polygons, size_px: int, lesion_centered: float, rng: np.random.Generator
) -> tuple[float, float]:
    """Near a pixel of a lesion, or a bag of some, each kind as often as the others; else anywhere in the eye."""
    side = prepared.transform.side_px
    kinds = [code for code, plane in prepared.coverage.items() if code != "OD" and plane.any()]
    jitter = rng.uniform(-size_px / 4, size_px / 4, 2)
    if (kinds or within) and rng.random() < lesion_centered:
        chosen = int(rng.integers(len(kinds) + len(within)))
        if chosen < len(kinds):
            places = np.flatnonzero(prepared.coverage[kinds[chosen]])
            place = places[rng.integers(len(places))]
            return place % side + 0.5 + jitter[0], place // side + 0.5 + jitter[1]
        of_kind = list(within.values())[chosen - len(kinds)]
        polygon = of_kind[rng.integers(len(of_kind))]
        x, y = (polygon.min(0) + polygon.max(0)) / 2 + jitter
        return float(x), float(y)
    margin = size_px * 0.45
    low, high = min(margin, side / 2), max(side - margin, side / 2)
    return float(rng.uniform(low, high)), float(rng.uniform(low, high))


def sample_of(image: np.ndarray, prepared: Prepared, item: Item, warp: Warp, close_codes: tuple[str, ...]) -> Sample:
    """The image and every target, with -1, False or zero weight where a target is unknown."""
    labels = derive_labels(item.case.labels)
    whole = item.view == "whole"
    coverage, known = _dense(prepared, warp, close_codes, close=not whole)
    among = labels.dme_among if whole and labels.dme is None and labels.dme_among else frozenset()
    points, seen = _landmarks(labels, prepared, warp) if whole else (np.zeros((2, 2), np.float32), np.zeros(2, bool))
    return {
        "image": torch.from_numpy(image),
        "whole": torch.tensor(whole),
        "grade": torch.tensor(labels.grade if whole and labels.grade is not None else -1),
        "dme": torch.tensor(labels.dme if whole and labels.dme is not None else -1),
        "dme_among": torch.tensor([risk in among for risk in range(len(DME_RISKS))]),
        "coverage": torch.from_numpy(coverage),
        "known": torch.from_numpy(known),
        "landmarks": torch.from_numpy(points),
        "landmarks_known": torch.from_numpy(seen),
    }


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
        # A structure is read from one of the two views, and learned in that one alone.
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
    points, seen = np.zeros((2, 2), np.float32), np.zeros(2, bool)
    for index, xy in enumerate((labels.disc_xy, labels.fovea_xy)):
        if xy is not None:
            points[index] = warp.points(prepared.transform.to_frame(np.array([xy])))[0]
            seen[index] = bool((points[index] >= 0).all() and (points[index] < warp.size_px).all())
    return points, seen
