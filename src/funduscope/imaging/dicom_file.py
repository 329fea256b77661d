"""DICOM files of eye photographs: what they are is checked first, then their frames are decoded one by one.

Of a photo, only the attributes in `_READ` are taken from a file: a patient's name, numbers and date of birth are never
in memory beyond the file's own bytes, unless `read_attributes` is asked for them, and no error quotes a value. Needs
pydicom and pyjpegls, the extra `dicom`.
"""

from __future__ import annotations

import math
import struct
import threading
import warnings
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime
from io import BytesIO
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from funduscope.i18n.errors import PhotoError, machine_fault
from funduscope.imaging.dicom_colors import (
    compressed_colors,
    rgb_by_values,
    states_colors,
    uncompressed_colors,
)
from funduscope.imaging.dicom_streams import has_size, split_frames

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

MAX_FRAMES: Final = 16
"""Frames of one file; a photo session has hardly more than ten."""

MAX_INFLATED_BYTES: Final = 100_000_000
"""Bytes of a deflated data set, once inflated; 12 million pixels have 36 million."""

_READ: Final = (
    *("SOPClassUID", "NumberOfFrames", "Rows", "Columns", "SamplesPerPixel", "PhotometricInterpretation"),
    *("PlanarConfiguration", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "BurnedInAnnotation"),
    *("ImageLaterality", "Laterality", "PixelData"),
    *("PixelSpacing", "HorizontalFieldOfView", "AcquisitionDateTime", "AcquisitionDate"),
    *(f"{color}PaletteColorLookupTableDescriptor" for color in ("Red", "Green", "Blue")),
    *(f"{kind}{color}PaletteColorLookupTableData" for kind in ("", "Segmented") for color in ("Red", "Green", "Blue")),
)

_CLASSES: Final = {
    "1.2.840.10008.5.1.4.1.1.77.1.5.1": "Ophthalmic Photography 8 Bit",
    "1.2.840.10008.5.1.4.1.1.77.1.4": "VL Photographic",
    "1.2.840.10008.5.1.4.1.1.77.1.1": "VL Endoscopic",
    "1.2.840.10008.5.1.4.1.1.7": "Secondary Capture",
    "1.2.840.10008.5.1.4.1.1.7.4": "Multi-frame True Color Secondary Capture",
}
_JPEG_XL: Final = frozenset({f"1.2.840.10008.1.2.4.{number}" for number in (110, 111, 112)})
_JPEG_BASELINE: Final = "1.2.840.10008.1.2.4.50"
_DEFLATED: Final = "1.2.840.10008.1.2.1.99"
_IMPLICIT, _EXPLICIT, _BIG_ENDIAN = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"
_READABLE: Final = frozenset(
    {
        *(_IMPLICIT, _EXPLICIT, _DEFLATED, "1.2.840.10008.1.2.5", _JPEG_BASELINE),  # and RLE
        *("1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81"),  # JPEG-LS
        *("1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91"),  # JPEG 2000
    }
)
_LOSSY: Final = frozenset(
    {_JPEG_BASELINE, "1.2.840.10008.1.2.4.81", "1.2.840.10008.1.2.4.91"}  # the last two may be without loss, too
)
_COLORS: Final = frozenset({"RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT", "PALETTE COLOR"})
_STARTS: Final = tuple(struct.pack("<HH", *tag) for tag in ((2, 0), (8, 0), (8, 5), (8, 8), (8, 0x16)))
"""The elements with which a file without a preamble begins."""

HEAD_BYTES: Final = 132
"""So many bytes of a file show whether it is DICOM."""

_EXECUTABLES: Final = (
    *(b"MZ", b"\x7fELF", b"#!", b"\xfe\xed\xfa", b"\xcf\xfa\xed\xfe", b"\xca\xfe\xba\xbe", b"PK", b"%PDF"),
)

_UNDEFINED_LENGTH: Final = 0xFFFFFFFF
_TOO_FEW: Final = "the DICOM file has too few pixel data; expected a whole file: copy it again"
_WARNINGS_LOCK: Final = threading.RLock()
_SQUARE: Final = 0.01
"""Pixels are square to within this; areas in mm of others would need two figures."""

Laterality = Literal["right", "left"]
DecodeJpeg = Callable[[bytes], np.ndarray]
"""A baseline JPEG's bytes to (H, W, 3) uint8 RGB; refuses damaged ones."""


@dataclass(frozen=True, slots=True)
class DicomStatements:
    """What a file says about its photo; None if it says nothing, or what cannot be used.

    laterality: of the eye. pixel_mm: the width, and height, of a pixel on the retina. field_degrees: the horizontal
    field of view. acquired_on: the day of the exposure, to order two visits; it is never written.
    """

    laterality: Laterality | None = None
    pixel_mm: float | None = None
    field_degrees: float | None = None
    acquired_on: date | None = None


@dataclass(frozen=True)
class DicomFile:
    """A checked file. frames: how many; width, height in pixels; stated: what it says about all of them."""

    frames: int
    width: int
    height: int
    stated: DicomStatements
    _dataset: Dataset
    _is_cut: bool

    def pixels(self, number: int, decode_jpeg: DecodeJpeg) -> np.ndarray:
        """A frame by its number, from 1: (H, W, 3) uint8 RGB. Raises `PhotoError` for a damaged one."""
        if self._is_cut:
            raise PhotoError("E_TRUNCATED", _TOO_FEW)
        try:
            pixels = _decode_frame(self._dataset, number - 1, self.frames, decode_jpeg)
        except PhotoError:
            raise
        except Exception as error:  # decoders raise anything on hostile files
            raise _damaged("its pixel data cannot be decoded", error) from None
        if pixels.shape != (self.height, self.width, 3) or pixels.dtype != np.uint8:
            raise _damaged("its pixel data are of another size than it declares")
        return np.ascontiguousarray(pixels)


def is_dicom(data: bytes) -> bool:
    """Whether the content is a DICOM file, with or without the preamble of 128 bytes."""
    return data[128:132] == b"DICM" or data.startswith(_STARTS)


def read_dicom(data: bytes) -> DicomFile:
    """Reads and checks a file's attributes; no pixel is decoded. Raises `PhotoError` for what is no eye photograph."""
    dataset = read_attributes(data, _READ)
    if not dataset:  # pydicom drops what it has read where a file ends before its time
        raise PhotoError("E_TRUNCATED", "the DICOM file is cut off; expected a whole file: copy it again")
    try:
        with without_warnings():
            return _checked(dataset, str(dataset.file_meta.TransferSyntaxUID))
    except PhotoError:
        raise
    except Exception:
        raise _damaged("its attributes are incomplete, or contradict each other") from None


def read_attributes(data: bytes, names: Sequence[str]) -> Dataset:
    """The data set with these attributes alone, those of them that the file has. Raises `PhotoError` for damage."""
    try:
        import pydicom  # noqa: F401 (one sentence where it is not installed)
    except ModuleNotFoundError:
        says = "the content is a DICOM file; it needs pydicom: pip install '.[dicom]' in the clone of funduscope"
        raise PhotoError("E_FORMAT", says) from None
    if data[128:132] == b"DICM" and data.startswith(_EXECUTABLES):
        says = "the DICOM file is also a program or another document; expected a photo alone: export it again"
        raise PhotoError("E_FORMAT", says)
    with without_warnings():
        try:
            return _dataset(data, names)
        except PhotoError:
            raise
        except Exception as error:  # structures that the reader does not expect, or too deep ones
            raise _damaged("its structure cannot be read", error) from None


def _dataset(data: bytes, names: Sequence[str]) -> Dataset:
    """The data set with these attributes, and file meta information that names its transfer syntax.

    pydicom's `dcmread` would inflate a deflated data set without a limit.
    """
    from pydicom.dataset import FileMetaDataset
    from pydicom.filereader import read_dataset
    from pydicom.tag import Tag
    from pydicom.uid import UID

    tags: Any = [Tag(name) for name in names]
    start, syntax = _meta(data)
    if syntax == _DEFLATED:
        data, start, syntax = _inflated(data[start:]), 0, _EXPLICIT
    file = BytesIO(data)
    file.seek(start)
    dataset = read_dataset(file, syntax == _IMPLICIT, syntax != _BIG_ENDIAN, specific_tags=tags)
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = UID(syntax)
    return dataset


def _inflated(deflated: bytes) -> bytes:
    """A deflated data set. Raises `PhotoError` for one that expands too far, before what comes out is kept."""
    inflater, rest, size = zlib.decompressobj(-zlib.MAX_WBITS), deflated, 0
    while rest:
        size += len(inflater.decompress(rest, 1_000_000))
        rest = inflater.unconsumed_tail
        if size > MAX_INFLATED_BYTES:
            says = f"the DICOM file expands to over {MAX_INFLATED_BYTES} bytes; expected less: save it uncompressed"
            raise PhotoError("E_TOO_LARGE", says)
    return zlib.decompressobj(-zlib.MAX_WBITS).decompress(deflated)


def _meta(data: bytes) -> tuple[int, str]:
    """Where the file meta information ends, whatever length it gives itself, and the transfer syntax that it names."""
    from pydicom.filereader import read_dataset

    file = BytesIO(data)
    file.seek(132 if data[128:132] == b"DICM" else 0)
    meta = read_dataset(file, False, True, stop_when=lambda tag, vr, length: tag.group != 2)
    return file.tell(), str(meta.get("TransferSyntaxUID") or _IMPLICIT)


def _checked(dataset: Dataset, syntax: str) -> DicomFile:
    kind = str(dataset.get("SOPClassUID", ""))
    if kind not in _CLASSES:
        says = f"the DICOM object is of another class; expected one of: {', '.join(_CLASSES.values())}: send the photo"
        raise PhotoError("E_SOP_CLASS", says)
    if str(dataset.get("BurnedInAnnotation", "NO")).upper() == "YES":
        says = "the DICOM photo has text burned into it; expected one without: export it without annotation"
        raise PhotoError("E_BURNED_IN", says)
    if syntax in _JPEG_XL:
        raise PhotoError(
            "E_FORMAT", "the DICOM file is compressed as JPEG XL; expected JPEG or JPEG 2000: export it so"
        )
    if syntax not in _READABLE:
        says = f"the DICOM file is compressed {_compression(syntax)}; expected none, RLE, JPEG (baseline), JPEG-LS or"
        raise PhotoError("E_FORMAT", f"{says} JPEG 2000: export it so")
    colors, samples = str(dataset.PhotometricInterpretation), int(dataset.SamplesPerPixel)
    if colors == "PALETTE COLOR" and syntax in _LOSSY:  # indices that lost something are of other colors
        says = "the DICOM file has a palette and lossy compression; expected RGB or YBR: export it so"
        raise PhotoError("E_FORMAT", says)
    if colors not in _COLORS or samples != (1 if colors == "PALETTE COLOR" else 3):
        raise PhotoError(
            "E_FORMAT", "the DICOM picture is not in color; expected RGB, YBR or a palette: send the photo"
        )
    bits = int(dataset.BitsAllocated), int(dataset.BitsStored), int(dataset.get("PixelRepresentation", 0))
    if bits != (8, 8, 0) and not (colors == "PALETTE COLOR" and bits == (16, 16, 0)):
        raise PhotoError(
            "E_DEPTH", "the DICOM picture has other than 8 unsigned bits per channel; expected 8: convert it"
        )
    frames = int(dataset.get("NumberOfFrames") or 1)
    if not 1 <= frames <= MAX_FRAMES:
        says = f"the DICOM file has {frames} frames; expected 1 to {MAX_FRAMES}: send the photos one by one"
        raise PhotoError("E_MULTIPAGE", says)
    width, height = int(dataset.Columns), int(dataset.Rows)
    if "PixelData" not in dataset or width < 1 or height < 1:
        raise _damaged("it has no pixel data")
    stored = dataset.get_item("PixelData")
    length = getattr(stored, "length", _UNDEFINED_LENGTH)
    is_cut = length != _UNDEFINED_LENGTH and length > len(stored.value or b"")  # pydicom takes what there is
    return DicomFile(frames, width, height, _stated(dataset), dataset, is_cut)


def _compression(syntax: str) -> str:
    """How a file is compressed. Only names of the standard are quoted, nothing of the file."""
    from pydicom.uid import UID

    uid = UID(syntax)
    return f"as {uid.name}" if uid.name != syntax and uid.is_transfer_syntax else "in an unknown way"


def _stated(dataset: Dataset) -> DicomStatements:
    side = str(dataset.get("ImageLaterality") or dataset.get("Laterality") or "").upper()
    laterality: dict[str, Laterality] = {"R": "right", "L": "left"}
    given = _values(dataset.get("PixelSpacing"))
    spacing = [number for value in given if (number := _positive(value)) is not None]
    square = len(given) == len(spacing) == 2 and abs(spacing[0] / spacing[1] - 1) <= _SQUARE
    degrees = _positive(dataset.get("HorizontalFieldOfView"))
    day = str(dataset.get("AcquisitionDateTime") or dataset.get("AcquisitionDate") or "")[:8]
    return DicomStatements(laterality.get(side), spacing[0] if square else None, degrees, _day(day))


def _values(value: Any) -> list[Any]:
    return list(value) if isinstance(value, Sequence) and not isinstance(value, str) else []


def _positive(value: Any) -> float | None:
    """The value as a number above zero; None for anything else."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if 0 < number < math.inf else None


def _day(text: str) -> date | None:
    try:
        return datetime.strptime(text, "%Y%m%d").date()
    except ValueError:
        return None


def _decode_frame(
    dataset: Dataset,
    index: int,
    n_frames: int,
    decode_jpeg: DecodeJpeg,
) -> np.ndarray:
    from pydicom.encaps import encapsulate
    from pydicom.uid import UID

    syntax = UID(dataset.file_meta.TransferSyntaxUID)
    label = str(dataset.PhotometricInterpretation)
    if not syntax.is_encapsulated:
        colors = _coding_by_length(dataset, n_frames)
        return _decode_pixels(dataset, dataset.PixelData, index, n_frames, colors)

    coded = _compressed_frame(dataset, index, n_frames)
    if not has_size(coded, syntax, dataset.Rows, dataset.Columns, dataset.SamplesPerPixel):
        raise _damaged("its pixel data are of another size than it declares")

    if syntax == _JPEG_BASELINE:
        rgb = decode_jpeg(coded)  # finds damage, whatever the colors
        if label != "RGB" or states_colors(coded):
            return rgb
    colors = compressed_colors(label, coded, syntax)
    return _decode_pixels(dataset, encapsulate([coded]), 0, 1, colors)


def _compressed_frame(dataset: Dataset, index: int, n_frames: int) -> bytes:
    pictures = split_frames(dataset.PixelData, n_frames)
    if len(pictures) != n_frames:
        raise _wrong_count(n_frames, len(pictures))
    return pictures[index]


def _coding_by_length(dataset: Dataset, n_frames: int) -> str | None:
    """Return the coding of uncompressed pixels, whose length must be that of the frames."""
    label = str(dataset.PhotometricInterpretation)
    n_bytes = len(dataset.PixelData)
    n_pixels = dataset.Rows * dataset.Columns * n_frames
    colors = uncompressed_colors(label, n_bytes, n_pixels, n_frames)

    expected_bytes = n_pixels * dataset.SamplesPerPixel * dataset.BitsAllocated // 8
    if colors == "YBR_FULL_422":
        expected_bytes = expected_bytes * 2 // 3
    if n_bytes < expected_bytes:
        raise PhotoError("E_TRUNCATED", _TOO_FEW)

    n_pictures = n_bytes * n_frames // expected_bytes
    if n_pictures > n_frames:
        raise _wrong_count(n_frames, n_pictures)
    return colors


def _decode_pixels(
    dataset: Dataset,
    pixel_data: bytes,
    index: int,
    n_frames: int,
    colors: str | None,
) -> np.ndarray:
    """Decode a frame of pixel data to RGB.

    colors: how a decoder's values are coded; None: as RGB or YBR_FULL, which they must prove.
    """
    from pydicom.pixels.decoders.base import get_decoder
    from pydicom.pixels.processing import apply_color_lut
    from pydicom.pixels.utils import as_pixel_options

    with without_warnings():
        options: Any = as_pixel_options(
            dataset,
            pixel_keyword="PixelData",
            number_of_frames=n_frames,
            photometric_interpretation=colors or "RGB",
        )
        decoder = get_decoder(dataset.file_meta.TransferSyntaxUID)
        values, _ = decoder.as_array(pixel_data, index=index, **options)

        if colors is None:
            return rgb_by_values(values, str(dataset.PhotometricInterpretation))
        if colors != "PALETTE COLOR":
            return values
        palette_colors = apply_color_lut(values, dataset)

    # Some palettes state 16 bits and use 8.
    is_8_bit = palette_colors.dtype == np.uint8 or palette_colors.max() < 256
    return (palette_colors if is_8_bit else palette_colors >> 8).astype(np.uint8)


@contextmanager
def without_warnings() -> Iterator[None]:
    """Without pydicom's remarks, which quote values. One thread at a time: the filters are those of the process."""
    with _WARNINGS_LOCK, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _wrong_count(n_frames: int, n_pictures: int) -> PhotoError:
    counts = f"the DICOM file states {n_frames} as its number of frames, and holds {n_pictures}"
    if n_pictures < n_frames:
        return PhotoError("E_TRUNCATED", f"{counts}; expected as many: copy it again")
    return PhotoError("E_MULTIPAGE", f"{counts}; expected as many: export each photo as a file")


def _damaged(detail: str, error: Exception | None = None) -> PhotoError:
    if error is not None and (fault := machine_fault(error)):
        return PhotoError(fault.code, fault.says)
    return PhotoError("E_CORRUPT", f"the DICOM file is damaged ({detail}); expected an intact file: copy it again")
