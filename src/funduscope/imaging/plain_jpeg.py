"""A JPEG without its metadata, of the same coded pixels.

Only the listed segments stay. Everything else goes: a camera's notes, thumbnails, comments, color profiles, and any
bytes after the end of the image.
"""

from __future__ import annotations

import re
from typing import Final

START: Final = b"\xff\xd8"
_END: Final = b"\xff\xd9"
_SCAN: Final = 0xDA
_ADOBE: Final = 0xEE
_STAYS: Final = frozenset({0xC0, 0xC1, 0xC2, 0xC4, 0xDA, 0xDB, 0xDC, 0xDD})
"""Frames of the kinds that `Photo` accepts, Huffman and quantization tables, scans, line counts, restart intervals."""

_AFTER_SCAN: Final = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
"""A scan ends at a marker that is neither a stuffed byte nor a restart nor fill."""


def plain_jpeg(data: bytes) -> bytes | None:
    """The file's bytes without metadata; None where it is no JPEG or its structure is damaged.

    The EXIF orientation is lost too, so the result can decode to other pixels: compare both before replacing a file.
    """
    if not data.startswith(START):
        return None
    kept, at = [START], len(START)
    while True:
        while data[at : at + 2] == b"\xff\xff":
            at += 1
        if data[at : at + 2] == _END:
            return b"".join([*kept, _END])
        size = int.from_bytes(data[at + 2 : at + 4], "big")
        if data[at : at + 1] != b"\xff" or size < 2 or at + 2 + size > len(data):
            return None
        marker, end = data[at + 1], at + 2 + size
        if marker == _SCAN:
            following = _AFTER_SCAN.search(data, end)
            if following is None:
                return None
            end = following.start()
        if marker in _STAYS or (marker == _ADOBE and size == 14):  # Adobe's segment of 14 bytes is the coding of colors
            kept.append(data[at:end])
        at = end
