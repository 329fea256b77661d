"""Masks and votes as the data sets store them, read so that no encoding empties or fills one unnoticed.

IDRiD's masks are palette TIFFs of 0 and 1 whose palette is red (a conversion to gray turns 1 into 76, below a threshold
of 127). One is RGBA with alpha 255 everywhere (the maximum over four channels marks the whole photo), others use 0 and
255. So inside is, of palette images, every color but black; of other images, every value above zero in any color plane.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from funduscope.data.case import LabelError
from funduscope.i18n.errors import PhotoError, refuse_machine_fault
from funduscope.imaging.dicom_file import HEAD_BYTES, is_dicom, read_attributes, read_dicom
from funduscope.imaging.file_headers import png_size, without_xmp_orientation
from funduscope.imaging.limits import LIMITS
from funduscope.imaging.pillow_images import orientation_of
from funduscope.vocabulary import VOTERS

_FORMATS = ("PNG", "TIFF")
_MODES = ("1", "L", "P", "I", "F", "LA", "PA", "RGB", "RGBA", "I;16", "I;16B", "I;16L")
_PHOTOMETRIC = 0x0106
_TURNED = (5, 6, 7, 8)
VOTE = 60
"""The value of a pixel for each expert who marked it."""
_DICOM_HEADER_BYTES = 1 << 18  # before the pixels


def read_mask(path: Path) -> np.ndarray:
    """(H, W) bool of a PNG or TIFF mask: inside where a palette's color or any color plane is above zero; of one drawn
    on white, where it is not white.

    Raises `LabelError` naming the file if it is no readable mask. `Mask.empty` says what it means to mark nothing.
    """
    return marked(*_values(path))


def marked(values: np.ndarray, palette: np.ndarray | None) -> np.ndarray:
    """(H, W) bool of what a mask marks, as `read_mask` has it.

    values: (H, W) or (H, W, planes), without alpha. palette: as of `palette_of`.
    """
    if palette is not None:
        return in_color(values, palette)
    if values.ndim == 2:
        inside, white, is_drawn_on_white = values > 0, values == values.max(initial=0), False
    else:
        inside, white = np.any(values > 0, axis=2), np.all(values == np.iinfo(values.dtype).max, axis=2)
        is_drawn_on_white = inside.all() and white.any() and not white.all()
    is_drawn_on_white |= 0.5 < white.mean() < 1  # no structure covers most of a photo
    return ~white if is_drawn_on_white else inside


def in_color(indices: np.ndarray, palette: np.ndarray) -> np.ndarray:
    """(H, W) bool of a palette image: where its color is not black; of one drawn on white, where it is not white.
    Programs order palettes as they like: white may stand at index 0. Of two colors of which none is black the rarer
    counts; of a palette without colors, the indices above zero.

    indices: (H, W) uint8. palette: (N, 3), as of `palette_of`.
    """
    colored = np.ones(256, bool)
    colored[: len(palette)] = palette.any(axis=1)
    inside = colored[indices]
    is_white = np.zeros(256, bool)
    is_white[: len(palette)] = (palette == 255).all(axis=1)
    white, used = is_white[indices], np.unique(indices)
    if 0.5 < white.mean() < 1:  # no structure covers most of a photo
        return ~white
    if len(used) == 2 and inside.all():
        return indices == (used[1] if (indices == used[0]).mean() >= 0.5 else used[0])
    return inside if inside.any() else indices > 0


def palette_of(image: Image.Image) -> np.ndarray | None:
    """(N, 3) RGB of each index; None of an image without a palette."""
    return np.reshape(image.getpalette("RGB") or (), (-1, 3)) if image.mode in ("P", "PA") else None


def stored_values(image: Image.Image) -> np.ndarray:
    """(H, W) or (H, W, planes) of the numbers of an opened image, upright as photos are (`orientation_of`).

    Of a TIFF of one bit in which 0 is white, those with fewer pixels are 1: some programs mean the ones (which are
    shown black), others what is shown white. No structure covers most of a photo.
    """
    is_reversed = image.mode == "1" and image.format == "TIFF" and image.getexif().get(_PHOTOMETRIC) == 0
    image.load()
    values = np.asarray(ImageOps.exif_transpose(image) if orientation_of(image) > 1 else image)
    return ~values if is_reversed and values.mean() > 0.5 else values


def read_votes(path: Path, height_px: int, width_px: int) -> np.ndarray:
    """(H, W) uint8, 0 to 4: the number of experts who marked each pixel, from a PNG of 60 x that number (DIARETDB1).

    Raises `LabelError` naming the file if a value is none of 0, 60, 120, 180, 240, or it is not of the photo's size.
    """
    values, _ = _values(path)
    if values.shape[:2] != (height_px, width_px):
        raise LabelError(
            f"The votes {path.name} are {values.shape[1]}x{values.shape[0]} px, their photo {width_px}x{height_px} px: "
            "both must be of one size."
        )
    if values.ndim != 2 or bool((values % VOTE != 0).any()) or int(values.max()) > VOTE * VOTERS:
        raise LabelError(f"The votes {path.name} must be one gray plane of 0, 60, 120, 180 or 240 (60 an expert).")
    return (values // VOTE).astype(np.uint8)


def size_of(path: Path, *, mask: bool = False) -> tuple[int, int]:
    """(height, width) in pixels of the upright image, from the file's header; raises `LabelError` naming the file.

    A photo may be a DICOM file of one frame. mask: that is refused, and so is a JPEG, whose compression blurs borders.
    """
    if not mask and (size := _size_of_dicom(path)) is not None:
        return size
    formats = _FORMATS if mask else ("JPEG", *_FORMATS)
    try:
        with path.open("rb") as file:
            if file.read(4) == b"\x89PNG":
                file.seek(0)
                width, height = png_size(file)
                return height, width
        with Image.open(path, formats=formats) as image:
            # Pillow gives the upright size of a TIFF, and the stored one of a JPEG.
            turned = image.format != "TIFF" and orientation_of(image) in _TURNED
            return (image.width, image.height) if turned else (image.height, image.width)
    except Exception as error:  # decoders raise anything on damaged files
        refuse_machine_fault(error)
        expected = f"{', '.join(formats[:-1])} or {formats[-1]}"
        raise LabelError(f"{path.name} cannot be opened as a {expected} image{_why(error)}.") from error


def _size_of_dicom(path: Path) -> tuple[int, int] | None:
    """(height, width) of a DICOM file's photo; None if it is no DICOM file, or cannot be opened."""
    try:
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
            if not is_dicom(head) or path.stat().st_size > LIMITS.max_bytes:
                return None
            stated = _stated_size(head + file.read(_DICOM_HEADER_BYTES))
        if stated is None:
            photo = read_dicom(path.read_bytes())
            stated = photo.height, photo.width, photo.frames
    except PhotoError as error:
        raise LabelError(f"{path.name}: {error}.") from error
    except OSError:
        return None
    height, width, frames = stated
    if frames > 1:
        raise LabelError(f"{path.name} is a DICOM file of {frames} frames: save each as a file.")
    return height, width


def _stated_size(start: bytes) -> tuple[int, int, int] | None:
    """Height, width and number of frames by a DICOM file's first bytes; None if they do not say it."""
    try:
        stated = read_attributes(start, ("Rows", "Columns", "NumberOfFrames"))
        return int(stated.Rows), int(stated.Columns), int(stated.get("NumberOfFrames") or 1)
    except (PhotoError, AttributeError, ValueError, TypeError):
        return None


def _why(error: Exception) -> str:
    """The reason in brackets; nothing if it is only that no format fits, of which Pillow names a Python object."""
    return "" if isinstance(error, UnidentifiedImageError) else f" ({error})"


@dataclass(frozen=True, eq=False)
class DecodedMask:
    """A mask file's stored numbers, upright: (H, W) or (H, W, planes), an alpha plane the last."""

    file_format: str
    mode: str
    values: np.ndarray
    palette: np.ndarray | None

    @property
    def has_alpha(self) -> bool:
        return self.mode.endswith("A")  # LA, PA, RGBA


def decode_mask(path: Path, formats: tuple[str, ...] = _FORMATS) -> DecodedMask:
    """Decode a mask file of one of these formats; raises `LabelError` naming the file."""
    try:
        # Read here: Pillow maps the file of a path, and gives a turned TIFF the wrong size.
        file = io.BytesIO(without_xmp_orientation(path.read_bytes()))
        with Image.open(file, formats=formats) as image:
            if image.width * image.height > LIMITS.max_pixels:
                most = LIMITS.max_pixels // 1_000_000
                raise LabelError(f"The mask {path.name} has more than {most} million pixels.")
            if image.mode not in _MODES:
                raise LabelError(f"The mask {path.name} is of mode {image.mode}; expected palette, gray or RGB.")
            return DecodedMask(image.format or "", image.mode, stored_values(image), palette_of(image))
    except FileNotFoundError as error:
        raise LabelError(f"The mask {path.name} is not there (looked in {path.parent}).") from error
    except LabelError:
        raise
    except Exception as error:  # decoders raise anything on damaged files
        refuse_machine_fault(error)
        expected = f"{', '.join(formats[:-1])} or {formats[-1]}"
        raise LabelError(f"The mask {path.name} cannot be read; expected a whole {expected}{_why(error)}.") from error


def _values(path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    """(H, W) or (H, W, planes) of the stored numbers, upright, alpha left out; and the palette, if there is one."""
    mask = decode_mask(path)
    values = mask.values[..., :-1] if mask.has_alpha else mask.values
    return values[..., 0] if values.ndim == 3 and values.shape[2] == 1 else values, mask.palette
