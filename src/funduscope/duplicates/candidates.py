"""Which photos of many might show one eye, so that few pairs have to be registered.

For each keypoint of a photo, the nearest keypoints of all other photos are searched within its own visual word and the
next (an inverted file, as in Sivic and Zisserman, ICCV 2003). It votes for their photos, weighted by how much nearer
they are than the sixth, so a keypoint that is found everywhere has no weight. One short vector a photo would not do: a
copy at a quarter of the size with strong compression is, as a whole, most similar to other such copies. The words are
learned from the photos at hand. Photos are compared block by block, so memory does not grow with their number.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Final

import numpy as np

from funduscope.duplicates.descriptor import Descriptor
from funduscope.duplicates.keypoints import Keypoints

NEAREST: Final = 10
"""Number of photos of a block that each photo is paired with: those with most votes of its keypoints."""

BLOCK: Final = 2000
"""Number of photos that are compared at once with as many others: 60 MB a block."""

VOTING: Final = 500
"""Number of a block's photos whose votes are counted at once."""

SAMPLE: Final = 1500
"""The words are learned from this many photos at most, spread over all."""

WORDS: Final = 256
DIRECTIONS: Final = 64
"""Number of a descriptor's principal components that are kept."""

FINE: Final = 200
"""Reduced descriptors are rounded to 1/200."""

VOTES: Final = 5
"""Number of nearest keypoints that get a vote."""

MIN_KEYPOINTS: Final = 8
"""A photo with fewer cannot be proved to be a duplicate."""


@dataclass(frozen=True)
class Candidate:
    """Two photos by key that might show one eye, the second mirrored or not."""

    first: str
    second: str
    mirrored: bool


def candidates(descriptors: Mapping[str, Descriptor], nearest: int = NEAREST) -> Iterator[list[Candidate]]:
    """The pairs to be registered, sorted, in as many lists as there are pairs of blocks (at least one).

    nearest: number of photos of a block that each photo is paired with; if there are no more photos, every pair is
    given. A pair comes once, and a second time where the mirrored photo has to be tried.
    """
    keys = [key for key in sorted(descriptors) if len(descriptors[key].places) >= MIN_KEYPOINTS]
    if len(keys) <= nearest:
        yield [Candidate(*pair, flag) for flag in (False, True) for pair in combinations(keys, 2)]
        return
    words = _learned(descriptors, keys)
    starts = range(0, len(keys), BLOCK)
    for at in starts:
        here = _Block.of(descriptors, keys[at : at + BLOCK], words)
        for other in starts[at // BLOCK :]:
            there = here if other == at else _Block.of(descriptors, keys[other : other + BLOCK], words)
            yield _between(here, there, nearest)


def steps(photos: int) -> int:
    """The number of lists that `candidates` gives for this number of photos."""
    blocks = max(1, -(-photos // BLOCK))
    return blocks * (blocks + 1) // 2


@dataclass(frozen=True, eq=False)
class _Words:
    """The descriptors' mean and main directions, and the words, of length 1: (WORDS, DIRECTIONS) float32."""

    mean: np.ndarray
    directions: np.ndarray
    words: np.ndarray

    def reduced(self, keypoints: Keypoints) -> np.ndarray:
        """(N, DIRECTIONS) int8: of length 1, in 1/FINE."""
        points = (keypoints.directions() - self.mean) @ self.directions
        points *= FINE / np.maximum(np.linalg.norm(points, axis=1, keepdims=True), 1e-6)
        return np.rint(points).clip(-127, 127).astype(np.int8)


@dataclass(frozen=True, eq=False)
class _Points:
    """Keypoints of a block: reduced (N, DIRECTIONS) int8 in 1/FINE; their photos (N,); their nearest words (N, 2)."""

    reduced: np.ndarray
    owner: np.ndarray
    word: np.ndarray


@dataclass(frozen=True, eq=False)
class _Block:
    """Some photos, upright and mirrored."""

    keys: list[str]
    upright: _Points
    mirrored: _Points

    @staticmethod
    def of(descriptors: Mapping[str, Descriptor], keys: list[str], words: _Words) -> _Block:
        both: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
        for key in keys:
            keypoints = descriptors[key].keypoints()
            for points, each in zip(both, (keypoints, keypoints.mirrored()), strict=True):
                points.append(words.reduced(each))
        owner = np.repeat(np.arange(len(keys)), [len(points) for points in both[0]])
        upright, mirrored = (np.concatenate(points) for points in both)
        return _Block(
            keys,
            _Points(upright, owner, _two_nearest(upright, words.words)),
            _Points(mirrored, owner, _two_nearest(mirrored, words.words)),
        )


def _between(here: _Block, there: _Block, nearest: int) -> list[Candidate]:
    """The pairs of a photo of one block and one of the other, which may be the same block."""
    same = here is there
    found: set[tuple[str, str, bool]] = set()
    for flag, ours, theirs in ((False, here.upright, there.upright), (True, here.mirrored, there.mirrored)):
        pairs = [(here.keys[i], there.keys[j]) for i, j in _voted(ours, there.upright, same, nearest)]
        if not same:
            pairs += [(there.keys[i], here.keys[j]) for i, j in _voted(theirs, here.upright, same, nearest)]
        found.update((min(pair), max(pair), flag) for pair in pairs)
    return [Candidate(*pair) for pair in sorted(found)]


def _voted(here: _Points, there: _Points, same: bool, nearest: int) -> Iterator[tuple[int, int]]:
    """Each photo of `here` with the photos of `there` that its keypoints voted for most; some photos at a time."""
    count, photos = int(here.owner[-1]) + 1, int(there.owner[-1]) + 1
    for start in range(0, count, VOTING):
        rows = slice(*np.searchsorted(here.owner, (start, start + VOTING)))
        some = _Points(here.reduced[rows], here.owner[rows], here.word[rows])
        distance, photo = _nearest_points(some, there, same)
        weight = np.maximum(distance[:, VOTES:] - distance[:, :VOTES], 0)  # how much nearer than the sixth
        place = (some.owner[:, None] - start) * photos + photo[:, :VOTES]
        votes = np.bincount(place.ravel(), weight.ravel(), VOTING * photos).reshape(VOTING, photos)
        most = min(nearest, photos)
        least = np.partition(votes, -most, axis=1)[:, -most, None]
        for i, j in np.argwhere((votes >= least) & (votes > 0)).tolist():
            yield start + i, j


def _nearest_points(here: _Points, there: _Points, same: bool) -> tuple[np.ndarray, np.ndarray]:
    """For each keypoint of `here`, the nearest of other photos: distances (N, VOTES + 1), ascending, and the photos."""
    order = np.argsort(there.word[:, 0], kind="stable")
    bounds = np.searchsorted(there.word[order, 0], np.arange(WORDS + 1))
    width = VOTES + 1
    alike = np.full((len(here.owner), 2 * width), -1, np.float32)
    whose = np.zeros((len(here.owner), 2 * width), np.int32)
    for probe in (0, 1):
        to = slice(probe * width, (probe + 1) * width)
        for word in range(WORDS):
            rows, columns = np.flatnonzero(here.word[:, probe] == word), order[bounds[word] : bounds[word + 1]]
            if len(rows) and len(columns):
                alike[rows, to], whose[rows, to] = _best(here, there, rows, columns, same)
    best = np.argsort(-alike, axis=1, kind="stable")[:, :width]
    alike, whose = np.take_along_axis(alike, best, 1), np.take_along_axis(whose, best, 1)
    return np.sqrt(np.maximum(2 - 2 * alike, 0)), whose


def _best(
    here: _Points, there: _Points, rows: np.ndarray, columns: np.ndarray, same: bool
) -> tuple[np.ndarray, np.ndarray]:
    """For `rows` of here and `columns` of there: the VOTES + 1 largest products of each row, and their photos."""
    products = here.reduced[rows].astype(np.float32) @ (there.reduced[columns].astype(np.float32).T / FINE**2)
    owner = there.owner[columns]
    if same:
        products[here.owner[rows, None] == owner] = -1
    alike = np.empty((len(rows), VOTES + 1), np.float32)
    whose = np.empty((len(rows), VOTES + 1), np.int32)
    line = np.arange(len(rows))
    for k in range(VOTES + 1):  # the maximum, a few times: sorting everything takes longer
        best = products.argmax(axis=1)
        alike[:, k], whose[:, k] = products[line, best], owner[best]
        products[line, best] = -1
    return alike, whose


def _learned(descriptors: Mapping[str, Descriptor], keys: Sequence[str]) -> _Words:
    """The words, from some of the photos; the same for the same photos."""
    some = keys[:: -(-len(keys) // SAMPLE)]
    each = max(1, 60_000 // len(some))
    taken = [descriptors[key].keypoints().directions() for key in some]
    sample = np.concatenate([rows[:: -(-len(rows) // each)] for rows in taken])
    mean = sample.mean(axis=0)
    away = sample - mean
    directions = np.linalg.eigh(away.T @ away)[1][:, ::-1][:, :DIRECTIONS]
    points = away @ directions
    points /= np.maximum(np.linalg.norm(points, axis=1, keepdims=True), 1e-6)
    words = points[np.random.default_rng(0).choice(len(points), WORDS, replace=len(points) < WORDS)].copy()
    for _ in range(8):  # k-means on the sphere
        nearest = (points @ words.T).argmax(axis=1)
        for word in np.unique(nearest):
            words[word] = points[nearest == word].mean(axis=0)
        words /= np.maximum(np.linalg.norm(words, axis=1, keepdims=True), 1e-6)
    return _Words(mean, directions, words)


def _two_nearest(points: np.ndarray, words: np.ndarray) -> np.ndarray:
    """The two words nearest to each point: (N, 2) int16, the nearest first."""
    found = np.empty((len(points), 2), np.int16)
    for start in range(0, len(points), 20_000):
        alike = points[start : start + 20_000].astype(np.float32) @ words.T
        line = np.arange(len(alike))
        for place in (0, 1):
            best = alike.argmax(axis=1)
            found[start : start + len(alike), place] = best
            alike[line, best] = -2
    return found
