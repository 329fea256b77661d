"""One photo under two names, or one eye photographed twice: found among thousands and proved, pair by pair.

Candidates are voted for by keypoints (candidates.py), sifted by whether these agree on a transform (keypoints.py) and
proved by laying the vessels of one photo onto those of the other (registration.py). What is left out on purpose: both
eyes of a person, also where one is mirrored onto its fellow, and photos that agree only in what their camera adds.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal

import cv2
import numpy as np

from funduscope.duplicates.candidates import Candidate, candidates, steps
from funduscope.duplicates.descriptor import Descriptor, describe
from funduscope.duplicates.keypoints import Keypoints, matched, proposals
from funduscope.duplicates.registration import FEWEST_INLIERS, Ready, Registration, align, ready

__all__ = ["Descriptor", "DuplicatePair", "Kind", "candidates", "describe", "find_duplicates"]

Kind = Literal["same_photo", "same_eye"]

SAME_LIGHT_LEVELS: Final = 2.4
"""Up to this mean difference of brightness, after registration, two photos are one: no second flash falls as the first.
Copies at a quarter of the size and JPEG quality 30 differ by 2.0 levels at most, retakes by 3.4 or more."""

PLAIN_LEVELS: Final = 2.0
"""A picture whose brightness spreads less shows nothing that could be told from another."""


@dataclass(frozen=True, eq=False, slots=True)
class DuplicatePair:
    """Two photos by key, first < second, that are one photo or show one eye, with what proves it.

    registration: of the first's frame onto the second's, both `vessels.SIDE_PX` wide. evidence: plain numbers.
    """

    first: str
    second: str
    kind: Kind
    registration: Registration
    evidence: dict[str, float]

    @property
    def mirrored(self) -> bool:
        return self.registration.mirrored


def find_duplicates(
    descriptors: Mapping[str, Descriptor], progress: Callable[[float], None] | None = None
) -> Iterator[DuplicatePair]:
    """Every proved pair among the sketches, by key; a photo with several twins comes in several pairs.

    descriptors: may read each from a cache when it is asked for; so much is held at a time that memory does not grow
    with their number. progress: is told what share of the work is done, 0 to 1. Of photos with the very same pixels,
    each is paired with the first of them only.
    """
    same = {(twin.first, twin.second): twin for twin in _identical(descriptors)}
    yield from same.values()
    search, lists = _Search(descriptors), steps(len(descriptors))
    for number, pairs in enumerate(candidates(descriptors)):
        known = set(same)
        for place, pair in enumerate(pairs):
            if progress is not None and place % 500 == 0:
                progress((number + place / len(pairs)) / lists)
            twin = None if (pair.first, pair.second) in known else search.proved(pair)
            if twin is not None:
                known.add((twin.first, twin.second))  # a mirror is not tried too
                yield twin
    if progress is not None:
        progress(1.0)


class _Search:
    """Proves pairs of one collection; keeps what the next pairs are likely to need again."""

    def __init__(self, descriptors: Mapping[str, Descriptor]) -> None:
        self._sketches = descriptors
        self._points = lru_cache(maxsize=1000)(self._read_points)
        self._ready = lru_cache(maxsize=64)(self._made_ready)

    def proved(self, pair: Candidate) -> DuplicatePair | None:
        """The twin, where the pair is one; None of two with the very same pixels, which `_identical` tells."""
        if self._agreeing(pair) < FEWEST_INLIERS:
            return None
        one, other = self._sketches[pair.first], self._sketches[pair.second]
        if _content(one) == _content(other):
            return None
        first, second = self._ready(pair.first), self._ready(pair.second)
        found = align(first, second.mirrored() if pair.mirrored else second, pair.mirrored)
        if found is None or not found.proves_one_eye:
            return None
        return _twin(pair.first, pair.second, one, other, found)

    def _agreeing(self, pair: Candidate) -> int:
        here, there = self._points(pair.first, False), self._points(pair.second, pair.mirrored)
        found = proposals(here, there, matched(here.directions(), there.directions()), most=1)
        return found[0].count if found else 0

    def _read_points(self, key: str, mirrored: bool) -> Keypoints:
        keypoints = self._sketches[key].keypoints()
        return keypoints.mirrored() if mirrored else keypoints

    def _made_ready(self, key: str) -> Ready:
        held = self._sketches[key]
        return ready(held.green(), held.field(), held.keypoints())


def _identical(descriptors: Mapping[str, Descriptor]) -> Iterator[DuplicatePair]:
    """Photos whose frames are the same to the last bit, whatever they show of vessels."""
    same: dict[bytes, list[str]] = defaultdict(list)
    for key in sorted(descriptors):
        same[hashlib.sha256(_content(descriptors[key])).digest()].append(key)
    for first, *others in same.values():
        if others and _shows_something(descriptors[first]):
            count = len(descriptors[first].places)
            alike = Registration(np.eye(2, 3), False, 0.0, 1.0, count, 1.0, 1.0)
            for other in others:
                yield _twin(first, other, descriptors[first], descriptors[other], alike)


def _content(held: Descriptor) -> bytes:
    return held.jpeg + held.bits.tobytes()


def _shows_something(held: Descriptor) -> bool:
    seen = held.green()[held.field() > 0]
    return len(seen) > 500 and float(seen.std()) > PLAIN_LEVELS


def _twin(first: str, second: str, one: Descriptor, other: Descriptor, found: Registration) -> DuplicatePair:
    """The pair with its evidence: a copy where the light is the same too, else another photo of the eye."""
    levels = _levels_apart(one, other, found)
    turn = found.matrix[:, :2] @ np.diag([-1.0, 1.0]) if found.mirrored else found.matrix[:, :2]
    evidence = {
        "score": found.score,
        "residual_px": found.residual_px,
        "overlap": found.overlap,
        "inliers": float(found.inliers),
        "common": found.common,
        "levels_apart": levels,
        "scale": float(np.sqrt(abs(np.linalg.det(turn)))),
        "turn_deg": float(np.degrees(np.arctan2(turn[1, 0] - turn[0, 1], turn[0, 0] + turn[1, 1]))),
    }
    kind: Kind = "same_photo" if levels <= SAME_LIGHT_LEVELS else "same_eye"
    return DuplicatePair(first, second, kind, found, {name: round(value, 4) for name, value in evidence.items()})


def _levels_apart(one: Descriptor, other: Descriptor, found: Registration) -> float:
    """The mean difference of brightness (0-255) of two registered frames, smoothed, where both show retina."""
    size = (other.side, other.side)
    both = (cv2.warpAffine(one.field(), found.matrix, size, flags=cv2.INTER_NEAREST) & other.field()) > 0
    soft = [cv2.GaussianBlur(held.green().astype(np.float32), (0, 0), 1.5) for held in (one, other)]
    laid = cv2.warpAffine(soft[0], found.matrix, size)
    return float(np.abs(laid - soft[1])[both].mean()) if both.any() else 255.0
