"""Augmentation, color: what light and camera change of a photo whose geometry is settled.

In the order of a camera: light and tone, the lens' blur, the sensor's noise, the file's compression. The black around
the eye stays black through tone, sensor and multiplicative noise, which all scale what is there.

Sensor noise follows A. Foi, M. Trimeche, V. Katkovnik, K. Egiazarian, "Practical Poissonian-Gaussian noise modeling
and fitting for single-image raw-data", IEEE Transactions on Image Processing 17(10), 2008: the variance of the light
that was counted grows with the light. Different here: no part that is there without light, the file's levels are taken
for sRGB's, and a coarse noise of color stands for what demosaicing and noise reduction leave behind.
"""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np

from funduscope.settings import Augment
from funduscope.training.augment import happens

_MIDDLE: Final = 0.35  # about the mean of a fundus photo; contrast turns around it
_LUMA: Final = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601: how bright red, green and blue look
_ELECTRONS: Final = (500.0, 5000.0)  # what a pixel counts at white: few at a high ISO, many at a low one
_COARSE: Final = 4  # pixels a grain of color noise is wide
_FACTOR: Final = 0.1  # multiplicative noise: from 1 - this to 1 + this


def recolor(image: np.ndarray, bounds: Augment, rng: np.random.Generator) -> np.ndarray:
    """(H, W, 3) uint8 RGB to the same, each part with its probability; see `settings.Augment`."""
    image = _tone(image, bounds, rng)
    if happens(bounds.blur, rng):
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, 1.5))
    if happens(bounds.noise, rng):
        noise = rng.normal(0, rng.uniform(2, 8), image.shape)
        image = np.clip(image + noise, 0, 255).astype(np.uint8)
    if happens(bounds.sensor_noise, rng):
        image = _counted(image, rng)
    if happens(bounds.multiplicative_noise, rng):
        image = _multiplied(image, rng)
    if happens(bounds.jpeg, rng):
        quality = int(rng.integers(40, 90))
        bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)  # the order of cv2's files: a JPEG keeps red better than blue
        squeezed = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
        image = cv2.cvtColor(np.asarray(cv2.imdecode(squeezed, cv2.IMREAD_COLOR)), cv2.COLOR_BGR2RGB)
    return image


def _tone(image: np.ndarray, bounds: Augment, rng: np.random.Generator) -> np.ndarray:
    """Gamma, contrast, brightness and tint in one table, then saturation."""
    ramp = np.linspace(0, 1, 256)
    ramp = ramp ** np.exp(rng.uniform(-bounds.gamma, bounds.gamma))
    gain = 1 + rng.uniform(-bounds.brightness, bounds.brightness)
    contrast = 1 + rng.uniform(-bounds.contrast, bounds.contrast)
    tint = 1 + rng.uniform(-bounds.color, bounds.color, 3)
    saturation = 1 + rng.uniform(-bounds.saturation, bounds.saturation) if bounds.saturation else 1.0
    if not happens(bounds.tone, rng):
        return image
    table = ((ramp[:, None] - _MIDDLE) * contrast + _MIDDLE) * gain * tint
    # The black around the eye stays black: the table starts at zero.
    table = np.clip(table - table[0] * (1 - ramp[:, None]), 0, 1)
    image = cv2.LUT(image, np.rint(table * 255).astype(np.uint8)[None])
    if saturation == 1:
        return image
    return cv2.transform(image, saturation * np.eye(3) + (1 - saturation) * np.tile(_LUMA, (3, 1)))


def _counted(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """As a sensor counts it: photons come by chance, in every channel, and the chance of a color spreads over pixels.

    A count's standard deviation is the root of the count. In the file's levels, which spread the dark, that is about
    the same everywhere but in black, which has none.
    """
    height, width = image.shape[:2]
    electrons = np.exp(rng.uniform(*np.log(_ELECTRONS)))
    spread = (_shot_levels() / np.sqrt(electrons)).astype(np.float32)[image]
    coarse = rng.standard_normal((-(-height // _COARSE), -(-width // _COARSE), 3), np.float32)
    coarse -= coarse.mean(axis=2, keepdims=True)  # color alone: as bright as before
    color = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC) * np.float32(rng.uniform(0, 1))
    noise = spread * (rng.standard_normal(image.shape, np.float32) + color)
    return np.clip(np.rint(image + noise), 0, 255).astype(np.uint8)


def _shot_levels() -> np.ndarray:
    """(256,): the standard deviation of each level of sRGB where a pixel counts one electron at white, in levels."""
    level = np.linspace(0, 1, 256)
    light = np.where(level <= 0.04045, level / 12.92, ((level + 0.055) / 1.055) ** 2.4)
    light_per_level = np.where(level <= 0.04045, 1 / 12.92, 2.4 / 1.055 * ((level + 0.055) / 1.055) ** 1.4)
    return 255 * np.sqrt(light) / light_per_level


def _multiplied(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """By a factor a pixel (as uneven pixels do) or a channel (as white balance does), one as often as the other."""
    shape = (*image.shape[:2], 1) if rng.random() < 0.5 else (1, 1, 3)
    factor = rng.uniform(1 - _FACTOR, 1 + _FACTOR, shape)
    return np.clip(np.rint(image * factor), 0, 255).astype(np.uint8)
