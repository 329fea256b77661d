"""How large the compressed pixels of a DICOM frame become, read before decoding: a small file may claim much."""

from __future__ import annotations

import struct
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from funduscope.imaging.file_headers import FILL_BYTES, MAX_SEGMENTS

if TYPE_CHECKING:
    from pydicom.uid import UID

_BOX_HEAD_BYTES: Final = 8
_RLE_HEAD_BYTES: Final = 64


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


def _jpeg_2000_size(coded: bytes) -> tuple[int, int, int] | None:
    """Width, height and planes of the code stream, bare or, as some exporters write it, in the boxes of a file."""
    at = 0
    if coded[4:8] == b"jP  ":
        for _ in range(MAX_SEGMENTS):
            if coded[at + 4 : at + 8] == b"jp2c":
                break
            length = int.from_bytes(coded[at : at + 4], "big")
            if length < _BOX_HEAD_BYTES:  # the last one, or a very long one
                return None
            at += length
        at += _BOX_HEAD_BYTES
    if coded[at : at + 4] != b"\xff\x4f\xff\x51" or len(coded) < at + 42:
        return None
    right, bottom, left, top = struct.unpack_from(">4I", coded, at + 8)  # on the reference grid
    return right - left, bottom - top, struct.unpack_from(">H", coded, at + 40)[0]


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
