"""The vessels of a framed eye, whatever the light: what stays the same between two photos of one retina.

Ridges are found as by Frangi et al., "Multiscale vessel enhancement filtering" (MICCAI 1998), from the Hessian at two
scales; the measure is the plain difference of its eigenvalues, which needs no constants of sensitivity. What differs:
light is taken out before, and everything brighter than its surroundings is cut down first. Reflections, dust on the
lens and the disc belong to a camera or to every eye; left in, their flanks would look like vessels and make photos of
one camera look like photos of one eye.
"""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np

SIDE_PX: Final = 256
"""Eyes are compared in frames this wide: the arcades are then 3 to 5 px wide, and no photo is too small."""

FIELD_FRAC: Final = 0.97
"""How much of the circle of view is looked at: its rim belongs to the camera."""

UNLIT_LEVELS: Final = 10
"""What is darker than this in every color shows no retina."""

SURROUNDINGS_FRAC: Final = 0.05
"""The scale of what counts as light and not as structure, as a fraction of the frame's side (sigma of a Gaussian)."""

BRIGHTEST_DEVIATIONS: Final = 0.8
"""Above the surroundings by more than so many standard deviations, brightness is cut off."""

FEWEST_DULL: Final = 0.002
"""Where no more of the surroundings than this is left, as in a patch of one brightness, the bright counts too."""

FAINTEST_LEVELS: Final = 2.0
"""Contrast below this many levels is not lifted further: it is noise and the blocks of JPEG."""

LEVEL: Final = 0.25
"""What is brighter than its surroundings by more, in standard deviations, has no slope: its foot is no dark line."""

RIDGE_SIGMAS_FRAC: Final = (1.4 / 256, 2.4 / 256)
"""The widths of vessels that are looked for: sigmas as fractions of the frame's side."""

HALF_RIDGE: Final = 1.5
"""A ridge of this strength counts half: a twig then weighs nearly as much as an arcade, which every eye has."""


def lit_field(image: np.ndarray) -> np.ndarray:
    """Where a frame (S, S, 3) uint8 shows retina: (S, S) uint8, 1 inside; its circle without the rim, where lit."""
    side = image.shape[0]
    across = np.arange(side, dtype=np.float32) - (side - 1) / 2
    circle = across[:, None] ** 2 + across**2 < (FIELD_FRAC * side / 2) ** 2
    lit = cv2.blur(image.max(axis=2), (5, 5)) > UNLIT_LEVELS
    rim = max(3, side // 40 | 1)
    field = cv2.morphologyEx((circle & lit).astype(np.uint8), cv2.MORPH_CLOSE, np.ones((rim, rim), np.uint8))
    return cv2.erode(field, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (rim, rim)), borderValue=0)


def flattened(green: np.ndarray, field: np.ndarray) -> np.ndarray:
    """A green channel (S, S) uint8 without its light: (S, S) float32, of about unit variance, 0 outside the field."""
    inside, light = field.astype(np.float32), green.astype(np.float32)
    near, wide = _smoothed(inside, 1) + 1e-3, _smoothed(inside, 2) + 1e-3
    around = _smoothed(light * inside, 1) / near
    away = (light - around) * inside
    spread = cv2.sqrt(_smoothed(away * away, 2) / wide)
    brightest = around + BRIGHTEST_DEVIATIONS * spread
    dull, light = inside * (light <= brightest), np.minimum(light, brightest)
    # Once more, now without what was bright: else all around it would be darker than its surroundings.
    around = (_smoothed(light * dull, 1) + FEWEST_DULL * around) / (_smoothed(dull, 1) + FEWEST_DULL)
    away = (light - around) * inside
    return away / (cv2.sqrt(_smoothed(away * away, 2) / wide) + FAINTEST_LEVELS)


def ridges(flat: np.ndarray, field: np.ndarray) -> np.ndarray:
    """How much each pixel of a flattened frame lies on a dark line: (S, S) float32 in 0..1, 0 at the field's rim."""
    flat = np.minimum(flat, LEVEL)
    strength = np.zeros_like(flat)
    for frac in RIDGE_SIGMAS_FRAC:
        sigma = frac * flat.shape[0]
        soft = cv2.GaussianBlur(flat, (0, 0), sigma)
        xx, yy, xy = (cv2.Sobel(soft, cv2.CV_32F, dx, dy, ksize=3) for dx, dy in ((2, 0), (0, 2), (1, 1)))
        mean, apart = (xx + yy) / 2, cv2.magnitude((xx - yy) / 2, xy)
        strength = np.maximum(strength, (mean + apart - np.abs(mean - apart)) * np.float32(sigma * sigma))
    dark = -cv2.GaussianBlur(flat, (0, 0), RIDGE_SIGMAS_FRAC[0] / 2 * flat.shape[0])
    strength *= np.clip(dark, 0, 1)  # beside something bright lies no vessel, however steep its flank
    return strength / (strength + np.float32(HALF_RIDGE)) * inner(field)


def inner(field: np.ndarray) -> np.ndarray:
    """The part of a field (S, S) uint8 where ridges are not yet ended by its rim."""
    return cv2.erode(field, np.ones((7, 7), np.uint8), borderValue=0)


def vesselness(image: np.ndarray) -> np.ndarray:
    """How much each pixel of a framed eye (S, S, 3) uint8 RGB lies on a vessel: (S, S) float32 in 0..1.

    Light, color and the camera's reflections are taken out.
    """
    field = lit_field(image)
    return ridges(flattened(image[..., 1], field), field)


def _smoothed(values: np.ndarray, scales: float) -> np.ndarray:
    """A map (S, S) smoothed over `scales` times the surroundings, computed on a quarter of the side."""
    side = values.shape[0]
    small = cv2.resize(values, (side // 4, side // 4), interpolation=cv2.INTER_AREA)
    sigma = SURROUNDINGS_FRAC * scales * small.shape[0]
    small = cv2.GaussianBlur(small, (0, 0), sigma, borderType=cv2.BORDER_CONSTANT)
    return cv2.resize(small, (side, side), interpolation=cv2.INTER_LINEAR)
