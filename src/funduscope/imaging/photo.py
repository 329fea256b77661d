"""Opens photographs safely: from a path, bytes, a PIL image or an array to upright sRGB pixels.

The format is recognized by content. Limits are checked before anything is decoded. Damaged files are refused, not
filled with gray, and no metadata is kept. JPEGs are decoded once, strictly: Pillow accepts most with flipped bits.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Iterator
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Final

import cv2
import numpy as np

from funduscope.i18n.errors import PhotoError, machine_fault
from funduscope.i18n.messages import Message, message
from funduscope.imaging.dicom_file import DicomFile, DicomStatements, is_dicom, read_dicom
from funduscope.imaging.file_headers import Header, read_header
from funduscope.imaging.limits import LIMITS, Limits, check_bytes, read_file
from funduscope.imaging.pillow_images import load, orientation_of, refusing_truncated
from funduscope.imaging.srgb import convert_to_srgb, foreign_gamma, srgb_levels
from funduscope.imaging.strict_jpeg import decode_strictly

if TYPE_CHECKING:
    from PIL import Image

MIN_JPEG_QUALITY: Final = 15
"""A JPEG of a lower quality has a note: blocks and lost details may pass for lesions, or hide them."""


@dataclass(frozen=True, eq=False, slots=True)
class Photo:
    """A photograph, upright: `pixels` (H, W, 3) uint8 sRGB, C-contiguous, without metadata.

    The pixels are a copy that nobody else has, and read-only: findings draw them long after inference. `name` is the
    file's name with its suffix ("photo" if there is none). `sha256` is the hex digest of the file's bytes (of shape
    and pixels for arrays and PIL images; of a frame of several, of the file's bytes and the frame's number). `notes`
    are messages about how the photo was read. `stated`: what a DICOM file says about the photo; nothing of other files.
    `dicom_frame`: of a DICOM file, the frame's number, from 1; None for other files.
    """

    pixels: np.ndarray = field(repr=False)
    name: str
    sha256: str
    notes: tuple[Message, ...] = ()
    stated: DicomStatements = field(default_factory=DicomStatements)
    dicom_frame: int | None = None

    def __post_init__(self) -> None:
        self.pixels.setflags(write=False)

    def __reduce__(self) -> tuple[type[Photo], tuple[object, ...]]:
        """By way of the constructor: an array loses its flag in another process."""
        return Photo, tuple(getattr(self, one.name) for one in fields(self))

    @property
    def width(self) -> int:
        return self.pixels.shape[1]

    @property
    def height(self) -> int:
        return self.pixels.shape[0]

    @staticmethod
    def open(
        source: str | os.PathLike[str] | bytes | Image.Image | np.ndarray,
        *,
        name: str | None = None,
        limits: Limits = LIMITS,
        dicom_frame: int | None = None,
    ) -> Photo:
        """Open a photo from a path, the bytes of a file, a PIL image or an (H, W, 3) uint8 RGB array.

        dicom_frame: of a DICOM file, the number of the frame, from 1; None: the only one. Raises PhotoError with a code
        of `errors.HTTP_STATUS` if it cannot be read or breaks a limit, and for a DICOM file of several frames if none
        is chosen.
        """
        if isinstance(source, np.ndarray):
            return _from_array(source, name or "photo", limits)
        if not isinstance(source, str | os.PathLike | bytes | bytearray | memoryview):
            return _from_pil(source, name or "photo", limits)
        data, name = _data(source, name, limits)
        if is_dicom(data):
            return _dicom_photo(data, name, limits, read_dicom(data), dicom_frame)
        if dicom_frame not in (None, 1):
            raise _no_frame(dicom_frame)
        pixels, notes = _decoded(data, limits)
        return Photo(pixels, name, hashlib.sha256(data).hexdigest(), notes)

    @staticmethod
    def open_all(
        source: str | os.PathLike[str] | bytes, *, name: str | None = None, limits: Limits = LIMITS
    ) -> Iterator[Photo]:
        """Every photo in a file, one at a time: the frames of a DICOM file, otherwise the one photo.

        A frame of several is named after its number: eye.dcm gives eye_frame1.dcm, eye_frame2.dcm. Raises PhotoError as
        `open` does, at the photo that it concerns; `open_each` continues with the others.
        """
        for _, photo in open_each(source, name=name, limits=limits):
            if isinstance(photo, Exception):
                raise photo
            yield photo


def open_each(
    source: str | os.PathLike[str] | bytes, *, name: str | None = None, limits: Limits = LIMITS
) -> Iterator[tuple[str, Photo | Exception]]:
    """The name of every photo in a file, with the photo, or the error if it cannot be opened. See `Photo.open_all`."""
    named = name or (Path(source).name if isinstance(source, str | os.PathLike) else "photo")
    try:
        data, _ = _data(source, name, limits)
        file = read_dicom(data) if is_dicom(data) else None
    except Exception as error:
        yield named, error
        return
    for number in range(1, (file.frames if file else 1) + 1):
        own = frame_name(named, number) if file and file.frames > 1 else named
        try:
            opened = (
                _dicom_photo(data, named, limits, file, number) if file else Photo.open(data, name=named, limits=limits)
            )
        except Exception as error:
            opened = error
        yield own, opened


def _data(source: object, name: str | None, limits: Limits) -> tuple[bytes, str]:
    """The bytes of a file and the photo's name."""
    if isinstance(source, bytes | bytearray | memoryview):
        check_bytes(len(source), limits)
        return bytes(source), name or "photo"
    if isinstance(source, str | os.PathLike):
        path = Path(source)
        return read_file(path, limits), name or path.name
    raise _no_photo(source)


def _no_photo(source: object) -> TypeError:
    hint = "; of an open file pass its .read()" if hasattr(source, "read") else ""
    return TypeError(f"a photo is a path, bytes, a PIL image or an array; got {type(source).__name__}{hint}")


def _dicom_photo(data: bytes, name: str, limits: Limits, file: DicomFile, number: int | None) -> Photo:
    """A frame of a DICOM file; a baseline JPEG in it is decoded as one outside."""
    if number is None and file.frames > 1:
        says = "the DICOM file has several frames; expected one: predict and Photo.open_all read each, serve ?frame=2"
        raise PhotoError("E_MULTIPAGE", says)
    number = 1 if number is None else number
    if not 1 <= number <= file.frames:
        raise _no_frame(number)
    _check_size(file.width, file.height, limits)
    notes: list[Message] = []

    def decode_jpeg(jpeg: bytes) -> np.ndarray:
        # What a frame's own metadata say of orientation and colors is no attribute of DICOM: other readers show the
        # frame as it is.
        decoded, found = _decoded(jpeg, limits, is_dicom_frame=True)
        notes.extend(found)
        return decoded

    pixels = file.pixels(number, decode_jpeg)
    named = name if file.frames == 1 else frame_name(name, number)
    sha256 = frame_sha256(data, number if file.frames > 1 else None)
    return Photo(pixels, named, sha256, notes=tuple(notes), stated=file.stated, dicom_frame=number)


def _no_frame(number: int) -> PhotoError:
    return PhotoError("E_CONFIG", f"frame {number} is asked for; the file has fewer: ask for one that it has")


def frame_name(name: str, number: int) -> str:
    """The photo's name of a frame of several: eye.dcm gives eye_frame1.dcm."""
    path = Path(name)
    return f"{path.stem}_frame{number}{path.suffix}"


def frame_numbers(data: bytes) -> list[int]:
    """The numbers of the frames of a DICOM file of several; empty for any other file, be it damaged."""
    try:
        frames = read_dicom(data).frames if is_dicom(data) else 1
    except PhotoError:
        frames = 1
    return list(range(1, frames + 1)) if frames > 1 else []


def frame_sha256(data: bytes, number: int | None) -> str:
    """The `sha256` of a photo in a file of several frames; with None of the file's only photo."""
    digest = hashlib.sha256(data)
    if number is not None:
        digest.update(f"frame {number}".encode())
    return digest.hexdigest()


def _millions(pixels: int) -> str:
    return f"{pixels / 1e6:.3g}"


def _check_size(width: int, height: int, limits: Limits) -> None:
    if width * height > limits.max_pixels:
        raise PhotoError(
            "E_TOO_MANY_PIXELS",
            f"the picture has {_millions(width * height)} million pixels ({width} x {height}); "
            f"the limit is {_millions(limits.max_pixels)} million: resize it",
        )
    if min(width, height) < limits.min_side_px:
        raise PhotoError(
            "E_TOO_SMALL",
            f"the picture is {width} x {height} pixels; expected at least"
            f" {limits.min_side_px} on the shorter side: send the original photo",
        )
    if max(width, height) > limits.max_ratio * min(width, height):
        raise PhotoError(
            "E_TOO_SMALL",
            f"the picture is {width} x {height} pixels; expected a longer side of at most {limits.max_ratio}"
            " times the shorter: send the photo, not a strip of it",
        )


def _from_array(pixels: np.ndarray, name: str, limits: Limits) -> Photo:
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8:
        raise PhotoError(
            "E_FORMAT",
            f"the array is {pixels.dtype} of shape {pixels.shape}; expected uint8 RGB of shape (H, W, 3): convert it",
        )
    _check_size(pixels.shape[1], pixels.shape[0], limits)
    return _of_own(np.array(pixels, order="C"), name)  # a copy: callers reuse their buffers


def _of_own(pixels: np.ndarray, name: str) -> Photo:
    """The photo of an array (H, W, 3) uint8, C-contiguous, that no one else refers to."""
    return Photo(pixels, name, pixels_sha256(pixels))


def pixels_sha256(pixels: np.ndarray) -> str:
    """SHA-256 of a C-contiguous array's shape and values."""
    digest = hashlib.sha256(repr(pixels.shape).encode())
    digest.update(pixels.data)
    return digest.hexdigest()


def _from_pil(image: object, name: str, limits: Limits) -> Photo:
    from PIL import Image  # it takes 0.1 s, which a JPEG does without

    if not isinstance(image, Image.Image):
        raise _no_photo(image)
    _check_size(*image.size, limits)
    try:
        load(image)  # first: loading turns a TIFF upright and updates its orientation
        orientation = orientation_of(image)
        is_defined = {"icc_profile", "srgb"} & image.info.keys()
        pixels, notes = _rgb(image, None if is_defined else image.info.get("gamma"))
    except PhotoError:
        raise
    except (ValueError, AssertionError) as error:  # Pillow asserts that an image's file is still open
        if isinstance(error, ValueError) and "closed" not in str(error):
            raise _undecodable(error) from None
        says = "the image's file was closed before it was read; call load() of the image before its file is closed"
        raise PhotoError("E_FORMAT", says) from None
    except Exception as error:  # any error of lazy decoding means a damaged image
        raise _undecodable(error) from None
    pixels = convert_to_srgb(pixels, image.info.get("icc_profile"))
    return replace(_of_own(_upright(pixels, orientation), name), notes=notes)


def _one_bit() -> PhotoError:
    return PhotoError("E_FORMAT", "the picture has one bit a pixel; expected color or gray: send the photo itself")


def _undecodable(error: Exception) -> PhotoError:
    if fault := machine_fault(error):
        return PhotoError(fault.code, fault.says)
    if "truncated" in str(error).lower() or "premature end" in str(error).lower():
        return PhotoError("E_TRUNCATED", "the picture's data end too early; expected a whole file: copy it again")
    return PhotoError("E_CORRUPT", "the picture's data are damaged; expected an intact file: copy it again")


def _decoded(data: bytes, limits: Limits, *, is_dicom_frame: bool = False) -> tuple[np.ndarray, tuple[Message, ...]]:
    """The pixels of an image file, (H, W, 3) uint8, upright and in sRGB, or for a frame as stored; the header is
    checked before they are decoded."""
    try:
        header = read_header(data)
    except PhotoError:
        raise
    except Exception as error:  # a structure that the reader does not expect
        raise _undecodable(error) from None
    _check_size(header.width, header.height, limits)
    if header.pages > 1 and not limits.read_first_page:
        came = f"the {header.kind} holds several pictures of full size"
        raise PhotoError("E_MULTIPAGE", f"{came}; expected one: save each as a file")
    if header.bits == 1:
        raise _one_bit()
    if header.bits > 16 or (header.kind == "JPEG" and header.bits != 8):
        raise PhotoError(
            "E_DEPTH",
            f"the {header.kind} has {header.bits} bits a channel; expected 8 (or 16 in PNG and TIFF): convert it",
        )
    try:
        pixels, notes = _jpeg(header) if header.kind == "JPEG" else _by_pillow(header)
        if header.quality is not None and header.quality < MIN_JPEG_QUALITY:
            notes = (*notes, message("LOW_JPEG_QUALITY", {"quality": header.quality}))
        if header.smaller_pictures:
            notes = (*notes, message("SMALLER_PICTURES", {"count": header.smaller_pictures}))
    except PhotoError:
        raise
    except Exception as error:  # decoders raise anything from OSError to IndexError on hostile files
        raise _undecodable(error) from None
    if pixels.shape[:2] != (header.height, header.width):
        raise PhotoError(
            "E_CORRUPT", "the picture decodes to another size than it declares; expected an intact file: copy it again"
        )
    if is_dicom_frame:
        return pixels, notes
    return _upright(convert_to_srgb(pixels, header.profile), header.orientation), notes


def _jpeg(header: Header) -> tuple[np.ndarray, tuple[Message, ...]]:
    if header.samples != 4:
        pixels, _ = decode_strictly(header.data, "RGB")
        return pixels, ()
    from PIL import JpegImagePlugin

    # Strict decoding finds damage; Pillow then handles CMYK files that are stored inverted.
    _, jpeg = decode_strictly(header.data, "CMYK")
    return _rgb(JpegImagePlugin.JpegImageFile(io.BytesIO(jpeg)))


_CV2_LEVEL: Final = Lock()
_BAND: Final = 256
"""Rows of a photo that are computed at once."""


def _by_pillow(header: Header) -> tuple[np.ndarray, tuple[Message, ...]]:
    from PIL import PngImagePlugin, TiffImagePlugin

    plugin = PngImagePlugin.PngImageFile if header.kind == "PNG" else TiffImagePlugin.TiffImageFile
    with plugin(io.BytesIO(header.data)) as image:
        if image.size != (header.width, header.height):
            raise PhotoError("E_CORRUPT", "the picture contradicts its own size; expected an intact file: copy it")
        with refusing_truncated():
            image.load()
        if header.bits != 16 or image.mode.startswith("I"):
            return _rgb(image, header.gamma)
    # Pillow keeps only the high byte of 16-bit colors. It has checked that the file is intact; cv2 reads all bits.
    deep = _all_bits(header.data)
    if deep is None or deep.dtype != np.uint16 or deep.ndim != 3 or deep.shape[2] not in (3, 4):
        raise PhotoError("E_FORMAT", f"the 16-bit {header.kind} is of a rare kind; expected RGB: convert it to 8 bits")
    colors, notes = _to_8_bits(deep[..., :3], foreign_gamma(header.gamma))
    colors = cv2.cvtColor(colors, cv2.COLOR_BGR2RGB)
    if deep.shape[2] == 4 and header.has_straight_alpha:
        for start in range(0, len(colors), _BAND):  # in floats the whole of it would take gigabytes
            band = slice(start, start + _BAND)
            colors[band] = np.rint(colors[band] * (deep[band, :, 3:] / np.float32(65535)))
    return colors, notes


def _all_bits(data: bytes) -> np.ndarray | None:
    with _CV2_LEVEL:  # photos are decoded in threads, and the level is the process's
        level = cv2.utils.logging.getLogLevel()
        cv2.utils.logging.setLogLevel(0)  # no remarks on unusual tags on the terminal
        try:
            return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
        finally:
            cv2.utils.logging.setLogLevel(level)


def _rgb(image: Image.Image, stated_gamma: float | None = None) -> tuple[np.ndarray, tuple[Message, ...]]:
    """A PIL image of any mode as (H, W, 3) uint8: palettes resolved, transparency on black, 16 bits scaled to 8.

    stated_gamma: the exponent of its values where a PNG states one.
    """
    from PIL import Image

    gamma = foreign_gamma(stated_gamma)

    if image.mode.startswith("I"):
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 65535:
            raise PhotoError("E_DEPTH", "the picture has 32 bits a channel; expected 8 or 16: convert it")
        gray, notes = _to_8_bits(values.astype(np.uint16), gamma)
        return cv2.cvtColor(gray, cv2.COLOR_GRAY2RGB), notes
    if image.mode == "F":
        raise PhotoError("E_DEPTH", "the picture's values are floating point; expected 8 or 16 bits: convert it")
    if image.mode == "1":
        raise _one_bit()
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        clear = (image.convert("LA") if image.mode == "La" else image).convert("RGBA")
        image = Image.new("RGB", clear.size)
        image.paste(clear, mask=clear.getchannel("A"))
    pixels = np.array(image if image.mode == "RGB" else image.convert("RGB"))
    return pixels if gamma is None else cv2.LUT(pixels, srgb_levels(gamma, 256)), ()


def _to_8_bits(values: np.ndarray, gamma: float | None) -> tuple[np.ndarray, tuple[Message, ...]]:
    """16-bit values as 8 bits: of the full range, or of the 8, 10, 12 or 14 bits that hold the largest value.

    gamma: the exponent of the values where they are not those of sRGB. They are brought to sRGB before bits are lost.
    """
    bits = next((bits for bits in (8, 10, 12, 14) if values.max(initial=0) < 1 << bits), 16)
    notes = () if bits == 16 else (message("READ_AS_FEWER_BITS", {"bits": bits, "below": 1 << bits}),)
    if gamma is None:
        return cv2.convertScaleAbs(values, alpha=255 / ((1 << bits) - 1)), notes

    levels = srgb_levels(gamma, 1 << bits)
    eight_bits = np.empty(values.shape, np.uint8)
    for start in range(0, len(values), _BAND):  # an index takes eight bytes a value
        band = slice(start, start + _BAND)
        eight_bits[band] = levels[values[band]]
    return eight_bits, notes


def _upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """The pixels turned and mirrored by EXIF's orientation, 1 to 8; any other value means upright."""
    if orientation in (5, 6, 7, 8):
        quarter = cv2.ROTATE_90_CLOCKWISE if orientation in (5, 6) else cv2.ROTATE_90_COUNTERCLOCKWISE
        pixels = cv2.rotate(pixels, quarter)
    if orientation in (2, 5, 7):
        pixels = cv2.flip(pixels, 1)
    elif orientation in (3, 4):
        pixels = cv2.flip(pixels, -1 if orientation == 3 else 0)
    return np.ascontiguousarray(pixels)
