"""The compressed pictures of a DICOM file: which bytes are a frame's, and how large its pixels become.

Both are read before decoding. A table of offsets may lead to another frame, and a small file may claim much.
"""

from __future__ import annotations

import re
import struct
from itertools import islice, pairwise
from typing import TYPE_CHECKING, Final

from funduscope.imaging.file_headers import FILL_BYTES, MAX_SEGMENTS

if TYPE_CHECKING:
    from pydicom.uid import UID

MAX_FRAGMENTS: Final = 20_000
"""Most fragments of a file that is no attack: 200 MB in fragments of 10 kB."""

_BOX_HEAD_BYTES: Final = 8
_RLE_HEAD_BYTES: Final = 64

# JPEG and JPEG-LS, JPEG 2000 bare and in boxes, and the head of run lengths.
_START: Final = rb"(?:\xff\xd8\xff|\xff\x4f\xff\x51|\0{3}\x0cjP  |[\x01-\x0f]\0{3}\x40\0{3})"
_PICTURE_START: Final = re.compile(_START)
_NEXT_PICTURE: Final = re.compile(rb"(?<=\xff\xd9)\0*(?=" + _START + rb")")
"""Between an end marker and the start of another picture in the same fragment."""


def split_frames(pixel_data: bytes, n_frames: int) -> list[bytes]:
    """Return the compressed pictures in encapsulated pixel data, in their order.

    Where there are as many fragments as frames, each fragment is a picture. Otherwise a picture
    reaches from its start to the start of the next one, in any number of fragments; decoders stop
    at its end marker. Tables of offsets are not used: a wrong one leads to another frame's picture
    without an error. Raises `ValueError` where the fragments are too many for a photo.
    """
    from pydicom.encaps import generate_fragments

    _table, *fragments = islice(generate_fragments(pixel_data), MAX_FRAGMENTS + 2)
    if len(fragments) > MAX_FRAGMENTS:
        raise ValueError(f"more than {MAX_FRAGMENTS} fragments")
    if len(fragments) == n_frames:
        return fragments

    pictures: list[bytearray] = []
    for fragment in fragments:
        for piece in _NEXT_PICTURE.split(fragment):
            if not pictures or _PICTURE_START.match(piece):
                pictures.append(bytearray())
            pictures[-1] += piece
    return [bytes(picture) for picture in pictures]


def has_size(coded: bytes, syntax: UID, height: int, width: int, samples: int) -> bool:
    """Whether a frame decodes to that many pixels and samples a pixel; True for encodings without a check here.

    Takes time in proportion to the bytes or pixels, whatever the bytes are.
    """
    from pydicom.uid import JPEG2000TransferSyntaxes, JPEGLSTransferSyntaxes, RLETransferSyntaxes

    if syntax in RLETransferSyntaxes:
        return _has_runs_for(coded, height * width)
    if syntax in JPEG2000TransferSyntaxes:
        return _jpeg_2000_size(coded) == (width, height, samples)
    if syntax in JPEGLSTransferSyntaxes:
        return _jpeg_ls_size(coded) == (width, height, samples)
    return True


def has_component_transform(coded: bytes) -> bool:
    """Return whether a JPEG 2000 picture states that a decoder changes its components to RGB."""
    start = _jpeg_2000_start(coded)
    at = start + 2
    for _ in range(MAX_SEGMENTS):
        marker = coded[at : at + 2]
        if marker == b"\xff\x52":  # coding style: its length, style, order, two bytes of layers
            return coded[at + 8 : at + 9] == b"\x01"
        if marker in (b"", b"\xff\x90"):  # the first tile
            break
        at += 2 + int.from_bytes(coded[at + 2 : at + 4], "big")
    return False


def _jpeg_2000_size(coded: bytes) -> tuple[int, int, int] | None:
    """Width, height and planes of a JPEG 2000 picture; None if it has no such header."""
    at = _jpeg_2000_start(coded)
    if coded[at : at + 4] != b"\xff\x4f\xff\x51" or len(coded) < at + 42:
        return None
    right, bottom, left, top = struct.unpack_from(">4I", coded, at + 8)  # on the reference grid
    return right - left, bottom - top, struct.unpack_from(">H", coded, at + 40)[0]


def _jpeg_2000_start(coded: bytes) -> int:
    """Where the code stream begins: at 0, or, as some exporters write it, in the boxes of a file."""
    if coded[4:8] != b"jP  ":
        return 0

    at = 0
    for _ in range(MAX_SEGMENTS):
        if coded[at + 4 : at + 8] == b"jp2c":
            return at + _BOX_HEAD_BYTES
        length = int.from_bytes(coded[at : at + 4], "big")
        if length < _BOX_HEAD_BYTES:  # the last one, or a very long one
            break
        at += length
    return len(coded)


def _jpeg_ls_size(coded: bytes) -> tuple[int, int, int] | None:
    """Width, height and planes, from the frame header, which other segments may precede; None without one."""
    at = 2
    for _ in range(MAX_SEGMENTS):
        at = filled.end() if (filled := FILL_BYTES.match(coded, at)) else at
        if at + 10 > len(coded) or coded[at] != 0xFF:
            return None
        marker = coded[at + 1]
        if marker == 0xF7:
            height, width, planes = struct.unpack_from(">2HB", coded, at + 5)
            return width, height, planes
        if marker == 0xDA:  # a scan
            return None
        at += 2 + struct.unpack_from(">H", coded, at + 2)[0]
    return None


def _has_runs_for(coded: bytes, pixels: int) -> bool:
    """Whether no segment of run lengths has more bytes than there are pixels; two bytes make up to 128."""
    count, *starts = struct.unpack_from("<16I", coded)
    edges = [*starts[: min(count, 15)], len(coded)]
    if edges[0] < _RLE_HEAD_BYTES or edges != sorted(edges):
        return False
    for start, end in pairwise(edges):
        at, length, steps = start, 0, 0
        while at < end - 1:
            head = coded[at]
            length += head + 1 if head < 128 else 257 - head if head > 128 else 0
            at += head + 2 if head < 128 else 2 if head > 128 else 1
            steps += 1
            if max(length, steps) > pixels:  # steps: a head of 128 stands for no byte, and there may be any number
                return False
    return True
