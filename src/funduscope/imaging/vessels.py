"""The vessels of a framed eye, independent of light: what two photos of one retina have in common.

Ridges are found as by Frangi et al., "Multiscale vessel enhancement filtering" (MICCAI 1998), from the Hessian at two
scales. What differs: the measure is the difference of the eigenvalues, which needs no constants of sensitivity. Before
that, the background light is removed and bright structures (reflections, dust, the disc) are clipped: their edges would
pass for vessels, and since every photo of one camera has them, photos of different eyes would look alike.
"""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np

SIDE_PX: Final = 256
"""Eyes are compared in frames this wide: the arcades are then 3 to 5 px wide, and no photo is too small."""

FIELD_FRAC: Final = 0.97
"""Part of the field's radius that is used: the rim belongs to the camera."""

UNLIT_LEVELS: Final = 10
"""A pixel that is darker than this in every color shows no retina."""

SURROUNDINGS_FRAC: Final = 0.05
"""Scale above which brightness is light and not structure: sigma of a Gaussian, as a fraction of the frame's side."""

BRIGHTEST_DEVIATIONS: Final = 0.8
"""Brightness is cut off at this number of standard deviations above the surroundings."""

MIN_DULL: Final = 0.002
"""Weight of bright pixels in the mean of the surroundings, so that it is defined where all are bright."""

FAINTEST_LEVELS: Final = 2.0
"""Contrast below this many levels is not amplified further: it is noise and the blocks of JPEG."""

LEVEL: Final = 0.25
"""Flattened values are cut off at this many standard deviations, so the foot of a bright spot is no dark line."""

RIDGE_SIGMAS_FRAC: Final = (1.4 / 256, 2.4 / 256)
"""Widths of vessels: sigmas as fractions of the frame's side."""

HALF_RIDGE: Final = 1.5
"""A ridge of this strength gets half of the weight, so a twig has nearly that of an arcade, which every eye has."""


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
    """A green channel (S, S) uint8 without the background light: (S, S) float32, of about unit variance, 0 outside the
    field."""
    inside, light = field.astype(np.float32), green.astype(np.float32)
    near, wide = _smoothed(inside, 1) + 1e-3, _smoothed(inside, 2) + 1e-3
    around = _smoothed(light * inside, 1) / near
    away = (light - around) * inside
    spread = cv2.sqrt(_smoothed(away * away, 2) / wide)
    brightest = around + BRIGHTEST_DEVIATIONS * spread
    dull, light = inside * (light <= brightest), np.minimum(light, brightest)
    # Again without bright pixels: otherwise everything around them would be darker than its surroundings.
    around = (_smoothed(light * dull, 1) + MIN_DULL * around) / (_smoothed(dull, 1) + MIN_DULL)
    away = (light - around) * inside
    return away / (cv2.sqrt(_smoothed(away * away, 2) / wide) + FAINTEST_LEVELS)


def ridges(flat: np.ndarray, field: np.ndarray) -> np.ndarray:
    """The strength of dark lines at each pixel of a flattened frame: (S, S) float32 in 0..1, 0 at the field's rim."""
    flat = np.minimum(flat, LEVEL)
    strength = np.zeros_like(flat)
    for frac in RIDGE_SIGMAS_FRAC:
        sigma = frac * flat.shape[0]
        soft = cv2.GaussianBlur(flat, (0, 0), sigma)
        xx, yy, xy = (cv2.Sobel(soft, cv2.CV_32F, dx, dy, ksize=3) for dx, dy in ((2, 0), (0, 2), (1, 1)))
        mean, apart = (xx + yy) / 2, cv2.magnitude((xx - yy) / 2, xy)
        strength = np.maximum(strength, (mean + apart - np.abs(mean - apart)) * np.float32(sigma * sigma))
    dark = -cv2.GaussianBlur(flat, (0, 0), RIDGE_SIGMAS_FRAC[0] / 2 * flat.shape[0])
    strength *= np.clip(dark, 0, 1)  # next to something bright there is no vessel, however steep the flank
    return strength / (strength + np.float32(HALF_RIDGE)) * inner(field)


def inner(field: np.ndarray) -> np.ndarray:
    """The part of a field (S, S) uint8 where ridges are not affected by its rim."""
    return cv2.erode(field, np.ones((7, 7), np.uint8), borderValue=0)


def vesselness(image: np.ndarray) -> np.ndarray:
    """The strength of vessels at each pixel of a framed eye (S, S, 3) uint8 RGB: (S, S) float32 in 0..1.

    Background light, color and the camera's reflections have no influence.
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
