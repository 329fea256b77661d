"""Keypoints of a retina, and the rotation, scale and shift that map one photo's keypoints onto another's.

Keypoints are SIFT's (Lowe, International Journal of Computer Vision 60(2), 2004), compared as root-SIFT (Arandjelovic
and Zisserman, CVPR 2012). The scales and angles of a single match propose a similarity transform, so all proposals are
tried instead of random ones. The descriptors of the mirrored photo are a permutation of the upright ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np

from funduscope.imaging.vessels import inner

MOST: Final = 200
"""Number of keypoints that a photo keeps, the strongest."""

CONTRAST: Final = 0.01
EDGE: Final = 20.0
"""SIFT's thresholds, loose: vessels are edges, and strongly compressed JPEGs have low contrast."""

SOFTNESS_FRAC: Final = 1 / 256
"""Sigma of the blur of a frame, in parts of its side: the finest structures are noise and the blocks of JPEG."""

RATIO: Final = 0.9
"""A match counts where its distance is below this share of the next best one's."""

SCALES: Final = (0.5, 2.0)
"""Smallest and largest ratio of an eye's sizes in two frames."""

NEAR_PX: Final = 4.0
"""A match agrees with a transform that maps it to within this distance, in px of a frame 256 wide."""

_MIRRORED: Final = np.arange(128).reshape(4, 4, 8)[::-1, :, [0, 7, 6, 5, 4, 3, 2, 1]].reshape(-1)
"""Order of a descriptor's 4 x 4 cells of 8 directions in the mirrored image."""


@dataclass(frozen=True, eq=False, slots=True)
class Keypoints:
    """Keypoints of a frame `side` px wide: xy (N, 2) px, size (N,) px, angle (N,) degrees, all float32.

    descriptors (N, 128) uint8 in 0..15: the roots of SIFT's.
    """

    xy: np.ndarray
    size: np.ndarray
    angle: np.ndarray
    descriptors: np.ndarray
    side: int

    def __len__(self) -> int:
        return len(self.xy)

    def mirrored(self) -> Keypoints:
        """The keypoints of the frame mirrored left to right."""
        xy = self.xy * np.array([-1, 1], np.float32) + np.array([self.side - 1, 0], np.float32)
        return Keypoints(xy, self.size, 180 - self.angle, self.descriptors[:, _MIRRORED], self.side)

    def directions(self) -> np.ndarray:
        """(N, 128) float32 of unit length: the descriptors as they are compared."""
        root = self.descriptors.astype(np.float32)
        return root / np.maximum(np.linalg.norm(root, axis=1, keepdims=True), 1e-6)


def find_keypoints(flat: np.ndarray, field: np.ndarray) -> Keypoints:
    """The strongest keypoints of a flattened frame (S, S) float32 within its field (S, S) uint8."""
    soft = cv2.GaussianBlur(flat, (0, 0), SOFTNESS_FRAC * flat.shape[0])
    gray = cv2.convertScaleAbs(soft * 40 + 128)
    finder = cv2.SIFT.create(
        nfeatures=3 * MOST // 2, contrastThreshold=CONTRAST, edgeThreshold=EDGE, enable_precise_upscale=True
    )
    found, descriptors = finder.detectAndCompute(gray, inner(field))
    if descriptors is None:
        descriptors = np.zeros((0, 128), np.float32)
    order = sorted(range(len(found)), key=lambda k: (-found[k].response, found[k].pt, found[k].angle))[:MOST]
    values = [(*found[k].pt, found[k].size, found[k].angle) for k in order]
    table = np.array(values, np.float32).reshape(-1, 4)
    roots = np.rint(np.sqrt(descriptors[order])).clip(0, 15).astype(np.uint8)
    return Keypoints(table[:, :2], table[:, 2], table[:, 3], roots, flat.shape[0])


def matched(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Index arrays of the directions (N, 128) and (M, 128) that are clearly each other's nearest."""
    if not len(first) or len(second) < 2:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    alike = first @ second.T
    best = alike.argmax(axis=1)
    rows = np.flatnonzero(alike.argmax(axis=0)[best] == np.arange(len(first)))
    nearest = alike[rows, best[rows]]
    rest = alike[rows]
    rest[np.arange(len(rows)), best[rows]] = -1
    clear = 1 - nearest < RATIO**2 * (1 - rest.max(axis=1))  # squared distances of unit vectors
    return rows[clear], best[rows[clear]]


@dataclass(frozen=True, eq=False, slots=True)
class Proposal:
    """A similarity from first to second, z -> turn * z + shift on x + iy.

    agree: which of the matches (M,) agree with it.
    """

    turn: complex
    shift: complex
    agree: np.ndarray

    @property
    def count(self) -> int:
        return int(self.agree.sum())

    def matrix(self) -> np.ndarray:
        """(2, 3) float64."""
        a, b = self.turn, self.shift
        return np.array([[a.real, -a.imag, b.real], [a.imag, a.real, b.imag]])


def proposals(
    first: Keypoints, second: Keypoints, pairs: tuple[np.ndarray, np.ndarray], most: int = 3
) -> list[Proposal]:
    """The similarities that most matches, at least 4, agree on: the best first, no two about the same."""
    left, right = pairs
    here, there = _complex(first.xy[left]), _complex(second.xy[right])
    scale = second.size[right] / first.size[left]
    possible = (scale > SCALES[0]) & (scale < SCALES[1])
    turn = scale * np.exp(1j * np.deg2rad(second.angle[right] - first.angle[left]))
    turn, origin = turn[possible], possible.nonzero()[0]
    shift = there[origin] - turn * here[origin]
    away = np.abs(turn[:, None] * here + shift[:, None] - there)
    # The scale and angle of one keypoint are coarse, so the tolerance grows with the distance from it.
    near = away < NEAR_PX + 0.1 * np.abs(here - here[origin][:, None])
    found: list[Proposal] = []
    for k in np.argsort(-near.sum(axis=1), kind="stable")[: 3 * most]:
        if near[k].sum() < 4 or len(found) == most:
            break
        better = _fitted(here, there, near[k])
        if better is not None and not any((better.agree & other.agree).sum() > better.count / 2 for other in found):
            found.append(better)
    return sorted(found, key=lambda proposal: -proposal.count)


def _fitted(here: np.ndarray, there: np.ndarray, agree: np.ndarray) -> Proposal | None:
    """The least-squares similarity of the matches that agree, fitted four times as matches join or leave; None if
    too few agree or the scale is impossible."""
    turn, shift, away = 1 + 0j, 0j, np.abs(here - there)
    for within in (2 * NEAR_PX, 1.25 * NEAR_PX, NEAR_PX, NEAR_PX):
        if agree.sum() < 3:
            return None
        x, y = here[agree], there[agree]
        mean_x, mean_y = x.mean(), y.mean()
        turn = np.vdot(x - mean_x, y - mean_y) / max(np.vdot(x - mean_x, x - mean_x).real, 1e-6)
        if not SCALES[0] < abs(turn) < SCALES[1]:
            return None
        shift = mean_y - turn * mean_x
        away = np.abs(turn * here + shift - there)
        agree = away < within
    return Proposal(complex(turn), complex(shift), agree)


def _complex(xy: np.ndarray) -> np.ndarray:
    return xy[:, 0].astype(np.float64) + 1j * xy[:, 1]
