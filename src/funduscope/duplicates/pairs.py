"""One photo under two names, or one eye photographed twice: found among thousands and proved, pair by pair.

Keypoints vote for candidates (candidates.py) and must agree on a transform (keypoints.py). The proof is that the
vessels of one photo coincide with those of the other (registration.py). Left out on purpose: the two eyes of a person,
also if one is mirrored onto the other, and photos that agree only in what their camera adds.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal

import cv2
import numpy as np

from funduscope.duplicates.candidates import Candidate
from funduscope.duplicates.descriptor import Descriptor
from funduscope.duplicates.keypoints import Keypoints, matched, proposals
from funduscope.duplicates.registration import MIN_INLIERS, Ready, Registration, align, ready

Kind = Literal["same_photo", "same_eye"]

SAME_LIGHT_LEVELS: Final = 2.4
"""Two photos are one where their brightness, after registration, differs by this much or less on average: no two
flashes light an eye alike. Copies at a quarter of the size and JPEG quality 30 differ by 1.9 levels at most, retakes by
3.1 or more."""

PLAIN_LEVELS: Final = 2.0
"""An image whose brightness has a smaller standard deviation shows nothing that distinguishes it from another."""


@dataclass(frozen=True, eq=False, slots=True)
class DuplicatePair:
    """Two photos by key, first < second, that are one photo or show one eye, with the proof.

    registration: of the first's frame onto the second's, both `vessels.SIDE_PX` wide. evidence: numbers by name.
    """

    first: str
    second: str
    kind: Kind
    registration: Registration
    evidence: dict[str, float]

    @property
    def mirrored(self) -> bool:
        return self.registration.mirrored


class PairSearch:
    """Proves pairs of one collection; caches what the next pairs are likely to need again."""

    def __init__(self, descriptors: Mapping[str, Descriptor]) -> None:
        self._descriptors = descriptors
        self._points = lru_cache(maxsize=1000)(self._read_points)
        self._ready = lru_cache(maxsize=64)(self._made_ready)

    def proved(self, pair: Candidate) -> DuplicatePair | None:
        """The pair with its proof; None if there is none, or if both have the same pixels: those pairs are
        in `identical_pairs`."""
        if self._agreeing(pair) < MIN_INLIERS:
            return None
        one, other = self._descriptors[pair.first], self._descriptors[pair.second]
        if _content(one) == _content(other):
            return None
        first, second = self._ready(pair.first), self._ready(pair.second)
        found = align(first, second.mirrored() if pair.mirrored else second, pair.mirrored)
        if found is None or not found.proves_one_eye:
            return None
        return _pair(pair.first, pair.second, one, other, found)

    def _agreeing(self, pair: Candidate) -> int:
        here, there = self._points(pair.first, False), self._points(pair.second, pair.mirrored)
        found = proposals(here, there, matched(here.directions(), there.directions()), most=1)
        return found[0].count if found else 0

    def _read_points(self, key: str, mirrored: bool) -> Keypoints:
        keypoints = self._descriptors[key].keypoints()
        return keypoints.mirrored() if mirrored else keypoints

    def _made_ready(self, key: str) -> Ready:
        descriptor = self._descriptors[key]
        return ready(descriptor.green(), descriptor.field(), descriptor.keypoints())


def identical_pairs(descriptors: Mapping[str, Descriptor]) -> Iterator[DuplicatePair]:
    """Photos whose frames are the same to the last bit, whatever they show of vessels: each with the first of them."""
    same: dict[bytes, list[str]] = defaultdict(list)
    for key in sorted(descriptors):
        same[hashlib.sha256(_content(descriptors[key])).digest()].append(key)
    for first, *others in same.values():
        if others and _shows_something(descriptors[first]):
            count = len(descriptors[first].places)
            exact = Registration(np.eye(2, 3), False, 0.0, 1.0, count, 1.0, 1.0)
            for other in others:
                yield _pair(first, other, descriptors[first], descriptors[other], exact)


def _content(descriptor: Descriptor) -> bytes:
    return descriptor.jpeg + descriptor.bits.tobytes()


def _shows_something(descriptor: Descriptor) -> bool:
    retina = descriptor.green()[descriptor.field() > 0]
    return len(retina) > 500 and float(retina.std()) > PLAIN_LEVELS


def _pair(first: str, second: str, one: Descriptor, other: Descriptor, found: Registration) -> DuplicatePair:
    """The pair with its evidence: a copy where the light is the same too, otherwise another photo of the eye."""
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
    soft = [cv2.GaussianBlur(each.green().astype(np.float32), (0, 0), 1.5) for each in (one, other)]
    moved = cv2.warpAffine(soft[0], found.matrix, size)
    return float(np.abs(moved - soft[1])[both].mean()) if both.any() else 255.0
