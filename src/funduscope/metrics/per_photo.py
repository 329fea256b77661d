"""Scores counted by photo: medians and means over photos, false lesions on healthy eyes, experts' votes for pixels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np

from funduscope.metrics.state import State, ratio
from funduscope.vocabulary import VOTERS


@dataclass(frozen=True, eq=False)
class PerPhotoState(State):
    """A score of each photo, for the median over photos (a pooled score may be one photo's).

    values: (N,); nan if the score does not exist (no lesion and none marked).
    """

    LISTED: ClassVar[frozenset[str]] = frozenset({"values"})

    values: np.ndarray

    @classmethod
    def of(cls, value: float) -> Self:
        """One photo's score, for instance `MaskState.of(mask, target).dice`."""
        return cls(np.array([value], np.float64))

    @property
    def n(self) -> int:
        """Photos in which the score exists."""
        return int(np.count_nonzero(~np.isnan(self.values)))

    @property
    def undefined(self) -> int:
        return len(self.values) - self.n

    @property
    def median(self) -> float:
        """Over the photos in which the score exists; nan if there is none."""
        return float(np.nanmedian(self.values)) if self.n else float("nan")

    @property
    def mean(self) -> float:
        return float(np.nanmean(self.values)) if self.n else float("nan")


@dataclass(frozen=True, eq=False)
class MeanState(State):
    """A mean over photos whose values are not needed one by one. Takes batches."""

    summed: float
    photos: float

    @property
    def mean(self) -> float:
        """nan without photos."""
        return ratio(self.summed, self.photos)


@dataclass(frozen=True, eq=False)
class ExtraState(MeanState):
    """A score that a user adds: the mean of its numbers over the photos that have one."""


@dataclass(frozen=True, eq=False)
class FalseLesionState(State):
    """Lesions marked in photos that are known to have none (grade 0), at the shipped threshold.

    components: (L,) 8-connected components by structure; marked: (L,) photos with at least one; any_marked: photos
    with one of any structure; photos: all. A refused photo counts as free of lesions.
    """

    components: np.ndarray
    marked: np.ndarray
    any_marked: float
    photos: float

    @classmethod
    def of(cls, counts: Mapping[str, int], codes: tuple[str, ...]) -> Self:
        """One photo. counts: structure code to components in its final mask; codes: the L structures, in order.

        `codes` decides what `rate` is over (the bar takes HE, EX and SE).
        """
        found = np.array([counts[code] for code in codes], np.int64)
        return cls(found, (found > 0).astype(np.int64), int(found.any()), 1)

    @property
    def rates(self) -> np.ndarray:
        """(L,) share of photos with at least one false lesion of that structure; nan without photos."""
        return self.marked / self.photos if self.photos else np.full(len(self.marked), np.nan)

    @property
    def rate(self) -> float:
        """Share of photos with at least one false lesion of any of the structures. Takes batches."""
        return ratio(self.any_marked, self.photos)

    @property
    def per_photo(self) -> np.ndarray:
        """(L,) false lesions per photo by structure; nan without photos."""
        return self.components / self.photos if self.photos else np.full(len(self.components), np.nan)


@dataclass(frozen=True, eq=False)
class VotesState(State):
    """Marked pixels by how many of four experts marked the region (DIARETDB1; Kauppi et al., BMVC 2007).

    The experts drew regions that *contain* lesions, so there is no true mask. What can be measured is the share of the
    model's marked pixels that no expert marked. by_votes: (5,) marked pixels with 0..4 votes.
    """

    by_votes: np.ndarray

    @classmethod
    def of(cls, mask: np.ndarray, votes: np.ndarray | None) -> Self:
        """mask: (H, W) bool. votes: (H, W) uint8, 0 to 4 experts; None if no expert marked anything."""
        if votes is None:
            return cls(np.array([np.count_nonzero(mask), 0, 0, 0, 0], np.int64))
        if votes.shape != mask.shape:
            raise ValueError(f"Mask and votes must be of one size; they are {mask.shape} and {votes.shape}.")
        return cls(np.bincount(votes[mask], minlength=VOTERS + 1))

    @property
    def marked(self) -> int:
        return int(self.by_votes.sum())

    def share(self, votes: int) -> float:
        """Share of marked pixels that exactly so many experts marked; nan if nothing is marked."""
        return ratio(self.by_votes[votes], self.marked)
