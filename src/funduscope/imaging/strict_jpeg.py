"""JPEGs decoded strictly: damage is an error, and a warning of the decoder that leaves every pixel whole is not.

libjpeg-turbo warns of damage and of harmless oddities alike, and strict decoding stops at the first warning. Where the
warning is of an oddity, the bytes that it is about are put right and the file is decoded again, as strictly. So no
damage that lies behind an oddity is passed over. No coded pixel is changed.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import count
from typing import Final

import numpy as np
import simplejpeg

from funduscope.imaging.file_headers import jpeg_segments

_SCAN: Final = 0xDA
_SPECTRUM_OF_BASELINE: Final = b"\0\x3f\0"
"""The last bytes of a scan's header: coefficients 0 to 63, no approximation."""

_MIN_FILLING_BYTES: Final = 7
"""Fewer bytes behind a scan's data are no filling: libjpeg does not warn of them."""

_RESTART: Final = re.compile(rb"\xff[\xd0-\xd7]")


def decode_strictly(data: bytes, colorspace: str) -> tuple[np.ndarray, bytes]:
    """Decode a whole JPEG to (H, W, C) uint8, and return the bytes that any decoder reads without a warning.

    colorspace: RGB or CMYK, as simplejpeg calls them. Raises ValueError with libjpeg's warning where pixel data are
    missing or wrong.
    """
    corrections = dict(_CORRECTIONS)
    while True:
        try:
            return simplejpeg.decode_jpeg(data, colorspace=colorspace, strict=True), data
        except ValueError as error:
            warning = next((text for text in corrections if text in str(error)), None)
            if warning is None:
                raise
            corrected = corrections.pop(warning)(data)
            if corrected == data:
                raise
            data = corrected


def _with_usual_spectrum(data: bytes) -> bytes:
    """Many phones write 0, 0, 0 where a baseline scan has 0, 63, 0, the only values that there are."""

    def correct(header_and_data: bytes) -> bytes:
        start = 5 + 2 * header_and_data[4]  # behind the number of components, and two bytes for each
        end = start + len(_SPECTRUM_OF_BASELINE)
        if any(header_and_data[start:end]):  # damage
            return header_and_data
        return header_and_data[:start] + _SPECTRUM_OF_BASELINE + header_and_data[end:]

    return _change_segments(data, _SCAN, correct)


def _with_usual_jfif_version(data: bytes) -> bytes:
    def correct(segment: bytes) -> bytes:
        is_jfif = segment[4:9] == b"JFIF\0"
        return segment[:9] + b"\1" + segment[10:] if is_jfif else segment

    return _change_segments(data, 0xE0, correct)


def _without_profile(data: bytes) -> bytes:
    """Without a color profile of which parts are missing, and all else of its kind of segment."""
    return _change_segments(data, 0xE2, lambda _segment: b"")


def _without_filling(data: bytes) -> bytes:
    """Without the equal bytes by which some encoders fill up a scan's data to a round length.

    Other bytes may be what damage has left over.
    """

    def correct(header_and_data: bytes) -> bytes:
        filling = header_and_data[-1:]
        rest = header_and_data.rstrip(filling)
        if len(header_and_data) - len(rest) < _MIN_FILLING_BYTES:
            return header_and_data
        is_stuffed = rest.endswith(b"\xff")  # a zero behind 0xFF belongs to the data
        return rest + b"\0" if is_stuffed else rest

    return _change_segments(data, _SCAN, correct)


def _with_restarts_in_order(data: bytes) -> bytes:
    """With the restart markers of each scan counted from 0 to 7, whatever the encoder's count was.

    A marker that is missing, or too many, still shows: the data of its interval then do not have the right length.
    """

    def correct(header_and_data: bytes) -> bytes:
        numbers = count()
        return _RESTART.sub(lambda _marker: bytes([0xFF, 0xD0 + next(numbers) % 8]), header_and_data)

    return _change_segments(data, _SCAN, correct)


def _change_segments(data: bytes, marker: int, correct: Callable[[bytes], bytes]) -> bytes:
    """The JPEG with each segment of this marker, a scan with its coded data, as `correct` returns it."""
    parts: list[bytes] = []
    unchanged_from = 0
    for segment_marker, start, end in jpeg_segments(data):
        if segment_marker == marker:
            parts += [data[unchanged_from:start], correct(data[start:end])]
            unchanged_from = end
    return b"".join([*parts, data[unchanged_from:]])


_CORRECTIONS: Final[dict[str, Callable[[bytes], bytes]]] = {
    "Invalid SOS parameters": _with_usual_spectrum,
    "unknown JFIF revision": _with_usual_jfif_version,
    "bad ICC marker": _without_profile,
    "extraneous bytes before": _without_filling,
    "instead of RST": _with_restarts_in_order,
}
"""Warnings of libjpeg, by a part of their text, that need not mean damage, and what puts right what they are about."""
