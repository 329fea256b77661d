"""A JPEG without its metadata, of the same coded pixels.

Only the listed segments stay. Everything else goes: a camera's notes, thumbnails, comments, color profiles, and any
bytes after the end of the image.
"""

from __future__ import annotations

from typing import Final

from funduscope.i18n.errors import PhotoError
from funduscope.imaging.file_headers import jpeg_segments

START: Final = b"\xff\xd8"
_END: Final = b"\xff\xd9"
_ADOBE: Final = 0xEE
_STAYS: Final = frozenset({0xC0, 0xC1, 0xC2, 0xC4, 0xDA, 0xDB, 0xDC, 0xDD})
"""Frames of the kinds that `Photo` accepts, Huffman and quantization tables, scans, line counts, restart intervals."""


def plain_jpeg(data: bytes) -> bytes | None:
    """The file's bytes without metadata; None if it is no JPEG or its structure is damaged.

    The EXIF orientation is lost too, so the result can decode to other pixels: compare both before replacing a file.
    """
    if not data.startswith(START):
        return None
    try:
        segments = [(marker, data[start:end]) for marker, start, end in jpeg_segments(data)]
    except PhotoError:
        return None
    # Adobe's segment of 14 bytes is the coding of colors.
    kept = [one for marker, one in segments if marker in _STAYS or (marker == _ADOBE and len(one) == 16)]
    return b"".join([START, *kept, _END])
