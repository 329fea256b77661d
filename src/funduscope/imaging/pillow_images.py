"""Images that Pillow has opened, turned by what their file's EXIF block states and by nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from funduscope.imaging.file_headers import ORIENTATION, exif_orientation

if TYPE_CHECKING:
    from PIL import Image

_XMP: Final = frozenset({"xmp", "XML:com.adobe.xmp"})
"""Where Pillow keeps an image's XMP data."""


def orientation_of(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8, of an image that Pillow has loaded, or of one in memory. Before a PNG is loaded, a
    block behind its pixels is not known.

    Of a JPEG or PNG, and of what was copied from one, only the file's EXIF block counts, as in `read_header` and in
    browsers. Pillow by itself also takes what XMP data or a PNG's texts state.
    """
    if image.format in ("JPEG", "PNG") or _XMP & image.info.keys():
        return exif_orientation(image.info.get("exif", b"")) or 1
    return image.getexif().get(ORIENTATION, 1)


def load(image: Image.Image) -> None:
    """Loads an image. Its XMP data are not there meanwhile: Pillow would turn a TIFF by them."""
    aside = {key: image.info.pop(key) for key in _XMP & image.info.keys()}
    try:
        image.load()
    finally:
        image.info.update(aside)
