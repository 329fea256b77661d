"""Chooses the threshold and smallest area of a structure's outlines on validation photos."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from funduscope.inference.objects import MIN_PPM, Components
from funduscope.metrics.dense import FrocState, froc_by_area

THRESHOLDS: Final = np.array([*np.arange(2, 20) / 20, 0.97, 0.98, 0.99])
MIN_AREA_PX2: Final = (0.0, 4.0, 8.0, 16.0, 32.0, 64.0)

MIN_POSITIVE: Final = 3
"""With fewer photos that show a structure no Dice is taken: healthy photos alone fix its threshold."""

MAX_FALSE: Final = 0.06
"""Largest share of healthy validation photos, in the worst data set, with a false lesion of one kind."""

MAX_FALSE_DOTS: Final = 0.2
"""The same for microaneurysms: similar dots are common, and the strict share would remove all true ones."""


@dataclass(frozen=True)
class OutlineThreshold:
    """threshold: of probability. smallest_px2: pixels of the close frame. limit: share of the healthy photos of a data
    set that may be marked. dice: at these, 0 if too few photos show the structure. says: how they were chosen, a
    sentence."""

    threshold: float
    smallest_px2: float
    limit: float
    dice: float
    says: str

    def is_better(self, other: OutlineThreshold) -> bool:
        """Whether it keeps healthy photos cleaner than the other, or equally clean and more of the lesions."""
        if (self.limit, self.dice) != (other.limit, other.dice):
            return (-self.limit, self.dice) > (-other.limit, other.dice)
        return not self.dice and self.threshold < other.threshold


@dataclass(frozen=True, eq=False)
class ThresholdPhoto:
    """One photo. probs: (S, S) uint8 over the close frame, 255 being 1. truth: (S, S) bool, where there is a mask.
    healthy: whether anything found counts against the threshold."""

    dataset: str
    probs: np.ndarray
    truth: np.ndarray | None
    healthy: bool


def fit_threshold(photos: Sequence[ThresholdPhoto], code: str) -> OutlineThreshold:
    """The threshold and smallest area of a structure.

    Of all pairs with which at most `MAX_FALSE` of the healthy photos of each data set show the structure (without such
    a pair, as few as possible), the threshold of the one with the highest Dice over the photos with true masks. Of the
    areas that go with this threshold, the one that serves single lesions best (`FrocState.f1_at`): Dice does not notice
    outlines of a few pixels, and a reader counts them. Where fewer than `MIN_POSITIVE` photos show the structure,
    the lowest threshold from 0.5 on that keeps healthy photos as clean. Nothing below `MIN_PPM` counts: findings
    never show it.
    """
    with_truth = [photo for photo in photos if photo.truth is not None]
    healthy = [photo for photo in photos if photo.healthy]
    positive = sum(bool(photo.truth is not None and photo.truth.any()) for photo in with_truth)
    areas = MIN_AREA_PX2 if code != "OD" else (0.0,)
    floor = max((1e-6 * MIN_PPM.get(code, 0.0) * photo.probs.size for photo in photos), default=0.0)
    sets = [photo.dataset for photo in healthy]
    shares: dict[tuple[float, float], float] = {}
    for threshold in map(float, THRESHOLDS):
        largest = [largest_area(photo, threshold) for photo in healthy]
        shares |= {(threshold, area): false_share(largest, sets, max(area, floor)) for area in areas}
    allowed = MAX_FALSE_DOTS if code == "MA" else MAX_FALSE
    if positive < MIN_POSITIVE:
        plain = {threshold: share for (threshold, area), share in shares.items() if threshold >= 0.5 and not area}
        limit = max(allowed, min(plain.values()))
        threshold = min(threshold for threshold, share in plain.items() if share <= limit)
        says = f"{positive} positive validation photos: the lowest threshold from 0.5"
        return OutlineThreshold(threshold, 0.0, limit, 0.0, f"{says}; {_share(plain[threshold], limit, healthy)}")
    limit = max(allowed, min(shares.values()))
    clean = [pair for pair, share in shares.items() if share <= limit]
    of_pairs = {
        (threshold, area): value
        for threshold in dict.fromkeys(threshold for threshold, _ in clean)
        for area, value in dice_by_area(with_truth, threshold, areas, floor, largest=code == "OD").items()
    }
    threshold, area = max(clean, key=lambda pair: of_pairs[pair])
    if code != "OD":
        found = FrocState.total(by_area(photo, threshold) for photo in with_truth)
        area = max(
            (area for other, area in clean if other == threshold),
            key=lambda area: (found.f1_at(max(area, floor)), -area),
        )
    says = f"best Dice over {positive} positive validation photos; {_share(shares[threshold, area], limit, healthy)}"
    return OutlineThreshold(threshold, area, limit, of_pairs[threshold, area], says)


def _share(share: float, limit: float, healthy: Sequence[ThresholdPhoto]) -> str:
    if not healthy:
        return "no healthy validation photo"
    return f"{share:.0%} of healthy photos marked in the worst data set, {limit:.0%} allowed"


def by_area(photo: ThresholdPhoto, threshold: float) -> FrocState:
    """The outlines at that threshold against the true lesions, by area."""
    assert photo.truth is not None
    return froc_by_area(photo.probs >= threshold * 255, photo.truth)


def largest_area(photo: ThresholdPhoto, threshold: float) -> int:
    """Pixels of the largest component at that threshold."""
    return int(Components.of(photo.probs >= threshold * 255).areas.max(initial=0))


def false_share(largest: Sequence[int], datasets: Sequence[str], smallest_px2: float) -> float:
    """Share of photos with a component of at least that area, in the worst data set; 0 without photos."""
    marked: dict[str, list[bool]] = {}
    for area, dataset in zip(largest, datasets, strict=True):
        marked.setdefault(dataset, []).append(area > 0 and area >= smallest_px2)
    return max((float(np.mean(flags)) for flags in marked.values()), default=0.0)


def dice_by_area(
    photos: Iterable[ThresholdPhoto],
    threshold: float,
    areas: Sequence[float],
    floor: float = 0.0,
    *,
    largest: bool = False,
) -> dict[float, float]:
    """By smallest area the Dice over the pixels of all photos, without components below it or below the floor.

    largest: with the largest component of each photo alone, as findings have the disc.
    """
    overlap, marked, true = np.zeros(len(areas)), np.zeros(len(areas)), 0
    for photo in photos:
        assert photo.truth is not None
        parts = Components.of(photo.probs >= threshold * 255)
        parts = parts.largest() if largest else parts
        right = photo.truth[parts.places[:, 1], parts.places[:, 0]]
        hits = np.bincount(parts.which[right], minlength=len(parts.areas))
        for place, area in enumerate(areas):
            kept = parts.at_least(max(area, floor)).kept
            overlap[place] += hits[kept].sum()
            marked[place] += parts.areas[kept].sum()
        true += int(np.count_nonzero(photo.truth))
    total = marked + true
    dice = np.where(total > 0, 2 * overlap / np.maximum(total, 1), 1.0)
    return dict(zip(areas, dice.tolist(), strict=True))
