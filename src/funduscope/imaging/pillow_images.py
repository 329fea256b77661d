"""Images that Pillow has opened, turned by what their file's EXIF block states and by nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
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
        with refusing_truncated():
            image.load()
    finally:
        image.info.update(aside)


class _Refusing:
    """Threads that decode, and what the program around had set before the first of them began."""

    lock, threads, allowed = Lock(), 0, False


@contextmanager
def refusing_truncated() -> Iterator[None]:
    """A picture that ends too early is an error meanwhile. The program around may have set Pillow to fill it with
    gray, as code that trains networks often does."""
    from PIL import ImageFile

    with _Refusing.lock:
        if not _Refusing.threads:
            _Refusing.allowed = ImageFile.LOAD_TRUNCATED_IMAGES
        _Refusing.threads += 1
        ImageFile.LOAD_TRUNCATED_IMAGES = False
    try:
        yield
    finally:
        with _Refusing.lock:
            _Refusing.threads -= 1
            if not _Refusing.threads:
                ImageFile.LOAD_TRUNCATED_IMAGES = _Refusing.allowed
