"""A photo's descriptor, about 20 KB, by which its duplicates are found without opening the photo again.

It has the framed eye's green channel as a small JPEG, a mask of where it shows retina, and keypoints of 72 bytes each.
Ten thousand descriptors fit into a cache file of 200 MB, and a search needs a few hundred at a time at most.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import cv2
import numpy as np

from funduscope.duplicates.keypoints import Keypoints, find_keypoints
from funduscope.imaging.framing import Frame, frame
from funduscope.imaging.vessels import SIDE_PX, flattened, lit_field

if TYPE_CHECKING:
    from funduscope.imaging.photo import Photo

QUALITY: Final = 90
"""Quality of the small JPEG."""

_MARK: Final = b"FS1"
_HEAD: Final = struct.Struct("<3sHHI")  # mark, side, keypoints, bytes of the JPEG
_PLACE: Final = np.dtype([("x", "<u2"), ("y", "<u2"), ("size", "<f2"), ("angle", "<f2")])
_FINE: Final = 128
"""Positions of keypoints are rounded to 1/128 px."""


@dataclass(frozen=True, eq=False, slots=True)
class Descriptor:
    """A framed eye, small and packed: its green channel, where it shows retina, and its keypoints.

    side: of the frame in px. jpeg: the green channel. bits: the field, eight pixels a byte. places: keypoints (N,).
    packed: the keypoints' descriptors (N, 64), two values a byte.
    """

    side: int
    jpeg: bytes
    bits: np.ndarray
    places: np.ndarray
    packed: np.ndarray

    def green(self) -> np.ndarray:
        """(S, S) uint8."""
        return _decoded(self.jpeg)

    def field(self) -> np.ndarray:
        """(S, S) uint8, 1 where the frame shows retina."""
        return np.unpackbits(self.bits, count=self.side * self.side).reshape(self.side, self.side)

    def keypoints(self) -> Keypoints:
        xy = np.stack([self.places["x"], self.places["y"]], axis=1).astype(np.float32) / _FINE
        size, angle = self.places["size"].astype(np.float32), self.places["angle"].astype(np.float32)
        descriptors = np.stack([self.packed >> 4, self.packed & 15], axis=2).reshape(len(xy), 128)
        return Keypoints(xy, size, angle, descriptors, self.side)

    def to_bytes(self) -> bytes:
        """The descriptor as bytes for a cache; `from_bytes` reads them back."""
        rest = zlib.compress(self.places.tobytes() + self.packed.tobytes() + self.bits.tobytes(), 6)
        return _HEAD.pack(_MARK, self.side, len(self.places), len(self.jpeg)) + self.jpeg + rest

    @staticmethod
    def from_bytes(data: bytes) -> Descriptor:
        """Raises ValueError if the bytes are no descriptor."""
        try:
            mark, side, count, size = _HEAD.unpack_from(data)
            if mark != _MARK:
                raise ValueError("another mark")
            rest = zlib.decompress(data[_HEAD.size + size :])
            places = np.frombuffer(rest, _PLACE, count)
            packed = np.frombuffer(rest, np.uint8, count * 64, places.nbytes).reshape(count, 64)
            bits = np.frombuffer(rest, np.uint8, (side * side + 7) // 8, places.nbytes + packed.nbytes)
        except (ValueError, struct.error, zlib.error) as error:
            raise ValueError(f"these bytes are no descriptor of a photo ({error}); make it again") from None
        return Descriptor(side, data[_HEAD.size : _HEAD.size + size], bits, places, packed)


def describe(photo: Photo | Frame | np.ndarray) -> Descriptor:
    """The descriptor of a photo (H, W, 3) uint8 RGB, or of a frame, in which the eye is cut out already."""
    framed = photo if isinstance(photo, Frame) else frame(photo, SIDE_PX, paint_marks=False)
    image = framed.image
    if image.shape[0] != SIDE_PX:
        image = cv2.resize(image, (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_AREA)
    field = lit_field(image)
    jpeg = cv2.imencode(".jpg", image[..., 1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1].tobytes()
    green = _decoded(jpeg)  # as it will be read from the store
    found = find_keypoints(flattened(green, field), field)
    places = np.zeros(len(found), _PLACE)
    places["x"], places["y"] = np.rint(found.xy * _FINE).astype(np.uint16).T
    places["size"], places["angle"] = found.size, found.angle
    packed = found.descriptors[:, ::2] << 4 | found.descriptors[:, 1::2]
    return Descriptor(SIDE_PX, jpeg, np.packbits(field), places, packed)


def _decoded(jpeg: bytes) -> np.ndarray:
    green = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_GRAYSCALE)
    if green is None:
        raise ValueError("the descriptor's small image cannot be decoded; make the descriptor again")
    return green
