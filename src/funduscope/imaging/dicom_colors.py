"""How the colors of a DICOM picture are coded: by its data, which its label may contradict.

The label is the attribute Photometric Interpretation. Programs that compress or expand a picture
often leave it as it was.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from funduscope.i18n.errors import PhotoError
from funduscope.imaging.dicom_streams import has_component_transform
from funduscope.imaging.file_headers import jpeg_segments

if TYPE_CHECKING:
    from pydicom.uid import UID

_OF_JPEG_2000: Final = frozenset({"YBR_ICT", "YBR_RCT"})
"""Labels that only a JPEG 2000 with a component transform can have."""

_TO_RGB: Final = np.array([[1, 1, 1], [0, -0.344136, 1.772], [1.402, -0.714136, 0]], np.float32)
"""From brightness and two color differences around 0, as JPEG has them."""

_MARGIN: Final = 32
"""Levels by which lossy compression may lead a color beyond 0 or 255."""

_MAX_SHARE_OF_YBR: Final = 0.005
_MIN_SHARE_OF_RGB: Final = 0.02
"""Shares of pixels beyond that margin. In 553 photos of 12 data sets it was at most 0.0012 for
YBR_FULL, and at least 0.035 for RGB that is taken for YBR_FULL."""


def compressed_colors(label: str, coded: bytes, syntax: UID) -> str | None:
    """Return the coding of the values that a decoder makes of a picture (not of a baseline JPEG).

    None: RGB or YBR_FULL, and the label fits neither.
    """
    from pydicom.uid import JPEG2000TransferSyntaxes

    if syntax in JPEG2000TransferSyntaxes and has_component_transform(coded):
        return "RGB"
    return None if label in _OF_JPEG_2000 else label


def uncompressed_colors(label: str, n_bytes: int, n_pixels: int, n_frames: int) -> str | None:
    """Return the coding of uncompressed values, by the length that all frames have together.

    None: RGB or YBR_FULL, and the label fits neither. Raises `PhotoError` where the length
    contradicts the label and leaves open what the data are.
    """
    has_two_bytes = n_bytes in (2 * n_pixels, 2 * n_pixels + 1)
    has_three_bytes = n_bytes in (3 * n_pixels, 3 * n_pixels + 1)

    if label == "YBR_FULL_422" and has_three_bytes:
        if n_frames % 2 == 0:  # as long as half as many frames more, of two bytes a pixel
            raise _label_error(label)
        return None

    # Two frames of three that were cut off have the same length.
    if has_two_bytes and n_frames % 3:
        if label == "YBR_FULL":
            return "YBR_FULL_422"
        if label == "RGB":
            raise _label_error(label)
    return None if label in _OF_JPEG_2000 else label


def states_colors(jpeg: bytes) -> bool:
    """Return whether a baseline JPEG states how its three components are coded, as decoders see it.

    By the markers of JFIF or Adobe, by components that are called R, G and B, or by color
    differences of fewer samples than brightness: RGB is not stored so.
    """
    for marker, start, end in jpeg_segments(jpeg):
        payload = jpeg[start + 4 : end]
        if marker == 0xE0 and payload.startswith(b"JFIF\0"):
            return True
        if marker == 0xEE and payload.startswith(b"Adobe"):
            return True
        if marker in (0xC0, 0xC1, 0xC2):
            names, samplings = payload[6:15:3], payload[7:15:3]
            if names == b"RGB" or len(set(samplings)) > 1:
                return True
    return False


def rgb_by_values(values: np.ndarray, label: str) -> np.ndarray:
    """Return RGB of values that are RGB or YBR_FULL, whichever they prove to be.

    All colors of a photo in YBR_FULL lie in the range of RGB. Most triples of RGB, black among
    them, do not when they are taken for YBR_FULL. values: (H, W, 3) uint8. Raises `PhotoError`
    where they prove neither.
    """
    from pydicom.pixels.processing import convert_color_space

    sample = values[::4, ::4].astype(np.float32) - np.array([0, 128, 128], np.float32)
    rgb = sample @ _TO_RGB
    is_outside = ((rgb < -_MARGIN) | (rgb > 255 + _MARGIN)).any(axis=-1)
    share = float(is_outside.mean())

    if share >= _MIN_SHARE_OF_RGB:
        return values
    if share <= _MAX_SHARE_OF_YBR:
        return convert_color_space(values, "YBR_FULL", "RGB")
    raise _label_error(label)


def _label_error(label: str) -> PhotoError:
    sentence = (
        f"the DICOM file labels its colors {label}, and its pixel data are coded in another way; "
        "expected a label that fits: export it again as RGB"
    )
    return PhotoError("E_FORMAT", sentence)
