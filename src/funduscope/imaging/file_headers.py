"""The header and structure of a JPEG, PNG or TIFF, read and checked before anything is decoded.

Size, depth, pages, orientation and completeness are read from the file's structure, with limits on everything that a
hostile file could make large. A file that passes `read_header` is small and complete enough to be decoded.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import BinaryIO, Final

from funduscope.i18n.errors import PhotoError

EXPECTED: Final = "expected a JPEG, PNG, TIFF or DICOM photograph"

# Formats that are often sent by mistake, so that the error can name them. None of them is ever opened.
_OTHERS: Final[tuple[tuple[int, bytes, str], ...]] = (
    (0, b"%PDF", "a PDF document"),
    (0, b"%!PS", "a PostScript file"),
    (0, b"\xc5\xd0\xd3\xc6", "an EPS file"),
    (0, b"8BPS", "a Photoshop file"),
    (0, b"SIMPLE  =", "a FITS file"),
    (0, b"<svg", "an SVG drawing"),
    (0, b"<?xml", "an XML or SVG file"),
    (0, b"GIF8", "a GIF"),
    (0, b"BM", "a BMP"),
    (0, b"RIFF", "a WebP or other RIFF file"),
    (4, b"ftyp", "a HEIC, AVIF or video file"),
    (0, b"\x00\x00\x00\x0cjP", "a JPEG 2000"),
    (0, b"PK\x03\x04", "a zip archive"),
    (0, b"\x1f\x8b", "a gzip archive"),
    (0, b"BZh", "a bzip2 archive"),
    (0, b"\xfd7zXZ", "an xz archive"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (0, b"Rar!", "a RAR archive"),
    (257, b"ustar", "a tar archive"),
    (0, b"II+\0", "a BigTIFF"),
    (0, b"MM\0+", "a BigTIFF"),
)

MAX_SCANS: Final = 100
"""A progressive JPEG has about ten scans; thousands are an attack on the decoder."""

MAX_CHUNKS: Final = 200_000
"""Most PNG chunks of a file that is not an attack (8 KiB chunks would make 1.6 GB)."""

MAX_SEGMENTS: Final = 20_000
"""Most JPEG markers of a file that is not an attack (full segments would make 1.3 GB)."""

MAX_PICTURES: Final = 32
"""Pictures of one file that are looked at; a camera makes three or four."""

MAX_METADATA_BYTES: Final = 8_000_000
"""Largest size of a file's compressed texts and color profile, once expanded, and of a TIFF's tags."""


@dataclass(frozen=True, slots=True)
class Header:
    """A file's header: `kind` JPEG, PNG or TIFF; bits per sample; samples per pixel; EXIF orientation 1 to 8.

    `pages`: pictures of full size; the header is that of the first. `smaller_pictures`: how many others there are, such
    as a thumbnail.

    `quality`: of a JPEG, 1 to 100 as usual encoders count, by its first table; None if it has none.
    `has_straight_alpha`: whether a fourth channel, where there is one, is transparency that the colors were not
    multiplied by.
    `profile`: the embedded ICC profile, not checked. `gamma`: the exponent that a PNG states where nothing else in it
    defines its colors (1.0: linear light).
    `data` is what to decode: the file, a PNG without its metadata, a TIFF that begins with its first picture of full
    size and is marked as upright, in its XMP data too (decoders differ in whether they turn one).
    """

    kind: str
    width: int
    height: int
    bits: int
    samples: int
    pages: int
    orientation: int
    data: bytes
    has_straight_alpha: bool = True
    quality: int | None = None
    profile: bytes | None = None
    gamma: float | None = None
    smaller_pictures: int = 0


@dataclass(frozen=True, slots=True)
class _Picture:
    """One of several pictures in a file: where it begins, and whether the file calls it a smaller copy of another."""

    start: int
    width: int
    height: int
    is_called_smaller: bool


def _full_size(pictures: Sequence[_Picture]) -> list[_Picture]:
    """The pictures that are no smaller copies: those of more than a quarter of the pixels of the largest.

    Thumbnails, previews and a phone's maps of brightness have at most half of the photo's sides.
    """
    candidates = [picture for picture in pictures if not picture.is_called_smaller] or pictures
    largest_px = max(picture.width * picture.height for picture in candidates)
    smallest_px = min(largest_px // 4 + 1, largest_px)
    return [picture for picture in candidates if picture.width * picture.height >= smallest_px]


def read_header(data: bytes) -> Header:
    """Read and check the structure of an image file; raises PhotoError where it is no whole JPEG, PNG or TIFF."""
    if not data:
        raise PhotoError("E_EMPTY", f"the file is empty (0 bytes); {EXPECTED}: send it again")
    if data.startswith(_JPEG_START):
        return _jpeg(data)
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return _png(data)
    if data[:4] in (b"II*\0", b"MM\0*"):
        return _tiff(data)
    came = next((what for at, start, what in _OTHERS if data[at : at + len(start)] == start), "no image known here")
    raise PhotoError("E_FORMAT", f"the content is {came}; {EXPECTED}: export the photo as one of these")


def _cut_short(kind: str, detail: str) -> PhotoError:
    return PhotoError("E_TRUNCATED", f"the {kind} ends too early ({detail}); expected a whole file: copy it again")


def _rare(kind: str, came: str, expected: str) -> PhotoError:
    return PhotoError("E_FORMAT", f"the {kind} is of a rare kind ({came}); expected {expected}: save it again as that")


def _damaged(kind: str, detail: str) -> PhotoError:
    return PhotoError("E_CORRUPT", f"the {kind} is damaged ({detail}); expected an intact file: copy it again")


# --- JPEG -------------------------------------------------------------------------------------------------------

_ICC: Final = b"ICC_PROFILE\0"
_JPEG_START: Final = b"\xff\xd8"
_FRAMES: Final = (0xC0, 0xC1, 0xC2)
_MPF: Final = b"MPF\0"
_MPF_ENTRIES: Final = 0xB002
_MPF_ENTRY_BYTES: Final = 16
_MPF_KIND, _MPF_THUMBNAIL = 0xFF0000, 0x010000

# The next marker inside entropy-coded data: 0xFF00 is a stuffed byte, 0xFFD0-D7 are restarts, 0xFFFF is fill.
_NEXT_MARKER: Final = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
FILL_BYTES: Final = re.compile(rb"\xff*(?=\xff)")


def jpeg_segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Marker, start and end of each segment, a scan with its coded data, up to the end-of-image marker.

    Raises PhotoError if the file is no whole JPEG.
    """
    at, scans = 2, 0
    for _ in range(MAX_SEGMENTS):
        at = filled.end() if (filled := FILL_BYTES.match(data, at)) else at
        if len(data) < at + 2:
            raise _cut_short("JPEG", "its end marker is missing")
        if data[at] != 0xFF:
            raise _damaged("JPEG", "a marker is missing between its segments")
        marker = data[at + 1]
        if marker == 0xD9:
            return
        if marker == 0x01 or 0xD0 <= marker <= 0xD8:
            at += 2
            continue
        size = int.from_bytes(data[at + 2 : at + 4], "big")
        end = at + 2 + size
        if max(end, at + 4) > len(data):
            raise _cut_short("JPEG", "a segment reaches beyond the file")
        if size < 2:
            raise _damaged("JPEG", "a segment has no length")
        if marker == 0xDA:
            scans += 1
            if scans > MAX_SCANS:
                raise _damaged("JPEG", f"more than {MAX_SCANS} scans")
            found = _NEXT_MARKER.search(data, end)
            if found is None:
                raise _cut_short("JPEG", "its end marker is missing")
            end = found.start()
        yield marker, at, end
        at = end
    raise _damaged("JPEG", f"more than {MAX_SEGMENTS} segments")


def _jpeg(data: bytes) -> Header:
    """The header of the JPEG, or of the first of full size where a file has several."""
    index = _index_of_pictures(data)
    size = None if index is None else _jpeg_size(data, 0)
    if index is None or size is None:
        return _jpeg_picture(data)

    pictures = [_Picture(0, *size, False), *_listed_pictures(data, index)]
    full_size = _full_size(pictures)
    header = _jpeg_picture(data[full_size[0].start :])
    return replace(header, pages=len(full_size), smaller_pictures=len(pictures) - len(full_size))


def _jpeg_picture(data: bytes) -> Header:
    size, orientation, scans, quality = None, None, 0, None
    profile_parts: dict[bytes, bytes] = {}
    for marker, start, end in jpeg_segments(data):
        payload = data[start + 4 : end]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            if marker not in _FRAMES:
                raise _rare("JPEG", "arithmetic, lossless or hierarchical", "baseline or progressive")
            if size is not None or len(payload) < 6:
                raise _damaged("JPEG", "its frame header")
            size = struct.unpack(">BHHB", payload[:6])
        elif marker == 0xE1 and payload.startswith(_EXIF) and orientation is None:
            orientation = exif_orientation(payload)
        elif marker == 0xE2 and payload.startswith(_ICC):
            numbers = payload[len(_ICC) : len(_ICC) + 2]  # of this part, from 1, and of all parts
            profile_parts[numbers] = payload[len(_ICC) + 2 :]
        elif marker == 0xDB and quality is None:
            quality = _jpeg_quality(payload)
        elif marker == 0xDA:
            scans += 1
    if size is None or not scans:
        raise _damaged("JPEG", "it holds no picture")
    bits, height, width, samples = size
    if samples not in (1, 3, 4):
        raise _rare("JPEG", f"{samples} color components", "1, 3 or 4")
    profile = b"".join(profile_parts[numbers] for numbers in sorted(profile_parts))
    return Header("JPEG", width, height, bits, samples, 1, orientation or 1, data, quality=quality, profile=profile)


def _index_of_pictures(data: bytes) -> range | None:
    """Where a JPEG of several pictures lists them (CIPA DC-007); None if it has no such index."""
    for marker, start, end in jpeg_segments(data):
        if marker == 0xE2 and data.startswith(_MPF, start + 4):
            return range(start + 4 + len(_MPF), end)
        if marker in _FRAMES:
            break
    return None


def _listed_pictures(data: bytes, index: range) -> Iterator[_Picture]:
    """The pictures that an index lists behind the first.

    Programs that save a photo again often leave the index of the old file: what leads to no JPEG is passed over.
    """
    block = data[index.start : index.stop]
    with suppress(struct.error):
        order, fields = _directory(block)
        for field in fields:
            tag, _, size, at = struct.unpack_from(order + "HHII", block, field)
            if tag != _MPF_ENTRIES:
                continue
            for entry in range(at, at + min(size, MAX_PICTURES * _MPF_ENTRY_BYTES), _MPF_ENTRY_BYTES):
                attributes, _, offset = struct.unpack_from(order + "III", block, entry)
                start = index.start + offset
                size_px = _jpeg_size(data, start)
                if offset and size_px is not None:  # the offset of the first picture is 0
                    yield _Picture(start, *size_px, attributes & _MPF_KIND == _MPF_THUMBNAIL)


def _jpeg_size(data: bytes, start: int) -> tuple[int, int] | None:
    """Width and height of the JPEG that begins there; None if none does."""
    head = data[start : start + MAX_METADATA_BYTES]
    if not head.startswith(_JPEG_START):
        return None
    with suppress(PhotoError, struct.error):
        for marker, segment_start, _ in jpeg_segments(head):
            if marker in _FRAMES:
                height, width = struct.unpack_from(">HH", head, segment_start + 5)
                return width, height
    return None


_FIRST_STEPS: Final = 266
"""Sum of the first 16 steps of the table of brightness in the standard (ITU-T T.81, table K.1), in its zigzag order:
the finer ones are cut off at 255 in strongly compressed files."""


def _jpeg_quality(tables: bytes) -> int | None:
    """The quality by which an encoder of the Independent JPEG Group makes the first table of a segment."""
    if len(tables) < 65:
        return None
    wide = min(tables[0] >> 4, 1)  # 16 bits a step
    steps = [int.from_bytes(tables[1 + at * (1 + wide) : 1 + (at + 1) * (1 + wide)], "big") for at in range(16)]
    percent = max(1.0, 100 * sum(steps) / _FIRST_STEPS)
    return max(1, round(5000 / percent if percent > 100 else (200 - percent) / 2))


# --- PNG --------------------------------------------------------------------------------------------------------

_PNG_SAMPLES: Final = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_PNG_KEPT: Final = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """The chunks (name, start and end of the payload) up to IEND, each with its checksum verified."""
    at, view = 8, memoryview(data)
    for _ in range(MAX_CHUNKS):
        if at + 12 > len(data):
            raise _cut_short("PNG", "its end chunk is missing")
        size, name = struct.unpack(">I4s", data[at : at + 8])
        end = at + 8 + size
        if end + 4 > len(data):
            raise _cut_short("PNG", "a chunk reaches beyond the file")
        if zlib.crc32(view[at + 4 : end]) != int.from_bytes(data[end : end + 4], "big"):
            raise _damaged("PNG", "a checksum does not fit")
        yield name, at + 8, end
        if name == b"IEND":
            return
        at = end + 4
    raise _damaged("PNG", f"more than {MAX_CHUNKS} chunks")


def _png(data: bytes) -> Header:
    shape, pages, orientation, expanded = None, 1, None, 0
    profile, gamma, is_srgb = None, None, False
    kept = [data[:8]]
    for name, start, end in _png_chunks(data):
        if name in _PNG_KEPT:
            kept.append(data[start - 8 : end + 4])
        if name == b"IHDR" and end - start == 13 and shape is None:
            shape = struct.unpack(">IIBB", data[start : start + 10])
        elif name == b"acTL" and end - start >= 4:
            pages = int.from_bytes(data[start : start + 4], "big")
        elif name == b"eXIf" and orientation is None:
            orientation = exif_orientation(data[start:end])
        elif name in (b"zTXt", b"iTXt", b"iCCP"):
            expanded += _expanded_size(name, data[start:end])
            if expanded > MAX_METADATA_BYTES:
                raise _too_much_metadata("PNG")
            if name == b"iCCP":
                profile = _png_profile(data[start:end])
        elif name == b"gAMA" and end - start == 4:
            gamma = int.from_bytes(data[start:end], "big") / 100_000
        elif name == b"sRGB":
            is_srgb = True
    if shape is None or shape[3] not in _PNG_SAMPLES:
        raise _damaged("PNG", "its header")
    width, height, bits, color = shape
    return Header(
        *("PNG", width, height, bits, _PNG_SAMPLES[color], pages, orientation or 1, b"".join(kept)),
        profile=profile,
        gamma=None if profile or is_srgb else gamma,
    )


def _png_profile(payload: bytes) -> bytes | None:
    """The profile in an iCCP chunk, behind its name and the number of its compression; None if it is damaged."""
    compressed = payload.partition(b"\0")[2][1:]
    try:
        return zlib.decompress(compressed)
    except zlib.error:
        return None


def png_size(file: BinaryIO) -> tuple[int, int]:
    """(width, height) of a PNG's upright image, without reading its pixels. Raises `PhotoError` if it is no PNG."""
    start = file.read(33)
    if len(start) < 33 or start[:8] != b"\x89PNG\r\n\x1a\n" or start[12:16] != b"IHDR":
        raise _damaged("PNG", "its header")
    width, height = struct.unpack(">II", start[16:24])
    for _ in range(MAX_CHUNKS):
        size, name = struct.unpack(">I4s", file.read(8).ljust(8, b"\0"))
        if name == b"eXIf":
            is_turned = (exif_orientation(file.read(min(size, MAX_METADATA_BYTES))) or 1) > 4
            return (height, width) if is_turned else (width, height)
        if name in (b"IEND", b"\0\0\0\0"):
            break
        file.seek(size + 4, 1)
    return width, height


def _too_much_metadata(kind: str) -> PhotoError:
    came = f"the {kind}'s texts, tags or color profile come to more than {MAX_METADATA_BYTES // 10**6} MB"
    return PhotoError("E_METADATA", f"{came}; expected mostly pixels: save it again without metadata")


def _expanded_size(name: bytes, payload: bytes) -> int:
    """The number of bytes that a compressed text or profile expands to; counting stops just above the limit."""
    rest = payload.partition(b"\0")[2]
    if name == b"iTXt":
        if rest[:1] != b"\x01":
            return len(rest)
        rest = rest[2:].partition(b"\0")[2].partition(b"\0")[2]
    else:
        rest = rest[1:]
    try:
        return len(zlib.decompressobj().decompress(rest, MAX_METADATA_BYTES + 1))
    except zlib.error:
        return len(payload)


# --- TIFF, and EXIF, which is a TIFF without a picture --------------------------------------------------------------

_TIFF_TYPES: Final = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8}
_TIFF_INTEGERS: Final = {1: "B", 3: "H", 4: "I"}
ORIENTATION: Final = 274
_TIFF_PROFILE: Final = 34675
_TIFF_SUBFILE: Final = 254
_TIFF_SINGLE: Final = (256, 257, 259, 262, 274, 277, 278, 284, 322, 323)
_EXIF: Final = b"Exif\0\0"
_COMPRESSIONS: Final = {1: "none", 5: "LZW", 8: "deflate", 32946: "deflate", 32773: "PackBits"}
_STRAIGHT_ALPHA: Final = 2  # of tag 338; 0 is an undefined channel, 1 transparency that colors are multiplied by


def _directory(data: bytes, at: int = 0) -> tuple[str, range]:
    """The byte order, and the offset of each entry of the directory there, of the first by default; struct.error if
    there is none."""
    order = "<" if data[:2] == b"II" else ">"
    at = at or struct.unpack_from(order + "I", data, 4)[0]
    count = struct.unpack_from(order + "H", data, at)[0]
    return order, range(at + 2, at + 2 + 12 * count, 12)


def _tiff_pictures(data: bytes) -> list[_Picture]:
    """The pictures of a TIFF, each with the offset of its directory."""
    pictures: list[_Picture] = []
    try:
        order, entries = _directory(data)
        while True:
            start = entries.start - 2
            values = _single_values(data, order, entries)
            is_reduced = bool(values.get(_TIFF_SUBFILE, 0) & 1)
            pictures.append(_Picture(start, values.get(256, 0), values.get(257, 0), is_reduced))

            following = struct.unpack_from(order + "I", data, entries.stop)[0]
            if following in (0, *(picture.start for picture in pictures)) or len(pictures) == MAX_PICTURES:
                return pictures
            order, entries = _directory(data, following)
    except struct.error:
        raise _cut_short("TIFF", "its directory is missing") from None


def _single_values(data: bytes, order: str, entries: range) -> dict[int, int]:
    """The tags of a directory that have one whole number."""
    values: dict[int, int] = {}
    for entry in entries:
        tag, kind, count = struct.unpack_from(order + "HHI", data, entry)
        if kind in _TIFF_INTEGERS and count == 1:
            values[tag] = struct.unpack_from(order + _TIFF_INTEGERS[kind], data, entry + 8)[0]
    return values


def _tiff_tags(data: bytes) -> tuple[dict[int, tuple[int, ...]], bytes | None]:
    """The first directory's integer tags, and its ICC profile.

    Raises PhotoError if a tag reaches beyond the data or all of them together are too large.
    """
    order, entries = _directory(data)
    tags: dict[int, tuple[int, ...]] = {}
    profile = None
    total = 0
    for entry in entries:
        tag, kind, values = struct.unpack_from(order + "HHI", data, entry)
        size = _TIFF_TYPES.get(kind, 1) * values
        start = entry + 8 if size <= 4 else struct.unpack_from(order + "I", data, entry + 8)[0]
        if start + size > len(data):
            raise _cut_short("TIFF", "a tag reaches beyond the file")
        total += size
        if total > MAX_METADATA_BYTES:
            raise _too_much_metadata("TIFF")
        if tag == _TIFF_PROFILE:
            profile = data[start : start + size]
        elif kind in _TIFF_INTEGERS:
            tags[tag] = struct.unpack_from(f"{order}{values}{_TIFF_INTEGERS[kind]}", data, start)
    return tags, profile


def exif_orientation(blob: bytes) -> int | None:
    """The orientation in an EXIF block, 1 (upright) where it has none; None if it is no such block."""
    blob = blob.removeprefix(_EXIF)
    if blob[:4] not in (b"II*\0", b"MM\0*"):
        return None
    said = 1
    with suppress(struct.error):  # damage elsewhere must not hide the orientation
        order, entries = _directory(blob)
        for entry in entries:
            tag, kind, values = struct.unpack_from(order + "HHI", blob, entry)
            if tag == ORIENTATION and kind in _TIFF_INTEGERS and values == 1:
                value = struct.unpack_from(order + _TIFF_INTEGERS[kind], blob, entry + 8)[0]
                said = value if 1 <= value <= 8 else said
    return said


def without_xmp_orientation(data: bytes) -> bytes:
    """A TIFF without the orientation that its XMP data state: Pillow would turn the image by it as it decodes."""
    return data.replace(b"tiff:Orientation", b"tiff_Orientation") if data[:4] in (b"II*\0", b"MM\0*") else data


def _tiff(data: bytes) -> Header:
    pictures = _tiff_pictures(data)
    full_size = _full_size(pictures)
    data = _beginning_with(data, full_size[0].start)
    tags, profile = _tiff_tags(data)

    def first(tag: int, otherwise: int) -> int:
        return (tags.get(tag) or (otherwise,))[0]

    if any(len(tags.get(tag, (1,))) != 1 for tag in _TIFF_SINGLE):
        raise _damaged("TIFF", "a tag has several values where one is due")
    width, height = first(256, 0), first(257, 0)
    bits, samples = max(tags.get(258) or (1,)), first(277, 1)
    compression, color, extra = first(259, 1), first(262, 1), first(338, _STRAIGHT_ALPHA)
    if compression in (6, 7):  # its decoder fills damaged parts and prints a message instead of failing
        raise _rare("TIFF", "compressed as JPEG, in which damage passes unnoticed", "plain, LZW or deflate, or a JPEG")
    if compression not in _COMPRESSIONS or color not in (0, 1, 2, 3, 5, 6) or samples > 4:
        raise _rare("TIFF", f"compression {compression}, {samples} samples a pixel", "RGB or gray, plain or LZW")
    if any(kind != 1 for kind in tags.get(339, (1,))) or (bits == 16 and color == 0):
        came = "the TIFF's values are floating point, signed or inverted"
        raise PhotoError("E_DEPTH", f"{came}; expected whole numbers of 8 or 16 bits: convert it")
    if bits == 16 and (samples == 2 or color not in (1, 2) or (samples > 1 and first(284, 1) != 1)):
        raise _rare("TIFF", "16 bits in separate planes, or neither gray nor RGB", "RGB or gray, pixel by pixel")
    if samples == 2 and extra == 1:
        raise _rare("TIFF", "gray multiplied by its transparency", "RGB or gray")
    offsets, sizes = tags.get(273) or tags.get(324) or (), tags.get(279) or tags.get(325) or ()
    if not offsets or len(offsets) != len(sizes):
        raise _damaged("TIFF", "it does not say where its pixels are")
    if any(start + size > len(data) for start, size in zip(offsets, sizes, strict=True)):
        raise _cut_short("TIFF", "its pixels reach beyond the file")
    tile = first(322, 0) * first(323, 0)
    if tile > max(4 * width * height, 1 << 22):
        raise _damaged("TIFF", "its tiles are far larger than its picture")
    orientation = first(ORIENTATION, 1)
    orientation = orientation if 1 <= orientation <= 8 else 1
    upright = without_xmp_orientation(data if orientation == 1 else _marked_upright(data))
    return Header(
        *("TIFF", width, height, bits, samples, len(full_size), orientation, upright),
        has_straight_alpha=extra == _STRAIGHT_ALPHA,
        profile=profile,
        smaller_pictures=len(pictures) - len(full_size),
    )


def _beginning_with(data: bytes, directory: int) -> bytes:
    """The same TIFF with the directory at this offset as its first."""
    order = "<" if data[:2] == b"II" else ">"
    first = struct.pack(order + "I", directory)
    return data if data[4:8] == first else data[:4] + first + data[8:]


def _marked_upright(data: bytes) -> bytes:
    """The same TIFF with the orientation tag of its first directory set to 1."""
    order, entries = _directory(data)
    changed = bytearray(data)
    for entry in entries:
        tag, kind = struct.unpack_from(order + "HH", data, entry)
        if tag == ORIENTATION and kind in _TIFF_INTEGERS:
            struct.pack_into(order + _TIFF_INTEGERS[kind], changed, entry + 8, 1)
    return bytes(changed)
