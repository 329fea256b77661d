"""What a photo's file may be: the limits of everything that is decoded, and the bytes of a file within them."""

from __future__ import annotations

import errno
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from funduscope.i18n.errors import PhotoError


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of a file's bytes, and of a photo's pixels, shorter side, ratio of sides and pages.

    max_ratio: of the longer side to the shorter. No camera makes more than 2, mosaics and both eyes in one image hardly
    more than 3; the square around a strip would need gigabytes. read_first_page: whether the first picture of a file
    with several of full size is read; otherwise the file is refused.
    """

    max_bytes: int = 200_000_000
    max_pixels: int = 80_000_000
    min_side_px: int = 256
    max_ratio: int = 4
    read_first_page: bool = False

    @property
    def message_values(self) -> dict[str, int]:
        """The values in error sentences, by their names there: millions of bytes and of pixels, and pixels."""
        return {
            "max_mb": self.max_bytes // 1_000_000,
            "max_megapixels": self.max_pixels // 1_000_000,
            "min_side_px": self.min_side_px,
        }


LIMITS: Final = Limits()


def may_be_read(path: Path) -> bool:
    """Whether the path is a regular file that is small enough: a device would never end, and a pipe waits."""
    about = path.stat()
    return stat.S_ISREG(about.st_mode) and about.st_size <= LIMITS.max_bytes


def read_file(path: Path, limits: Limits) -> bytes:
    """The bytes of a regular file, whose size is checked before they are read."""
    try:
        about = path.stat()
        if not stat.S_ISREG(about.st_mode):
            raise PhotoError("E_NOT_FOUND", "the path is not a file; expected a photo: give the path of one")
        check_bytes(about.st_size, limits)
        with path.open("rb") as file:
            data = file.read(limits.max_bytes + 1)
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno == errno.EIO:
            says = (
                "the disk reports a fault while the photo is read: copy the photo to another disk, and check this one"
            )
            raise PhotoError("E_DISK", says) from None
        reason = getattr(error, "strerror", None) or "not a valid path"
        says = f"the file cannot be read ({reason}); expected a photo: check the path"
        raise PhotoError("E_NOT_FOUND", says) from None
    check_bytes(len(data), limits)
    return data


def check_bytes(size: int, limits: Limits) -> None:
    if size > limits.max_bytes:
        says = f"the file has {size} bytes; expected at most {limits.max_bytes}: save it smaller"
        raise PhotoError("E_TOO_LARGE", says)
