"""Safe names for results, made from the names of photos, which are untrusted input."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from typing import Final

LONGEST: Final = 80
"""Characters in a stem, at most."""

MAX_NAME_BYTES: Final = 200
"""Bytes of a stem in UTF-8, at most: file systems count bytes up to 255, and endings such as `_MA_prob.png` follow."""

_PICTURE_SUFFIX: Final = re.compile(r"\.(jpe?g|jfif|png|tiff?|bmp|webp|gif|ppm|pgm|dcm|dicom)$", re.IGNORECASE)
_ENDING: Final = re.compile(r"-[0-9a-f]{8}(-\d+)?")
_WINDOWS_DEVICE: Final = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\.|$)", re.IGNORECASE)


def safe_stem(name: str, taken: set[str], path_for_hash: str) -> str:
    """A stem for a folder or a file that is safe on every system, as close to `name` as possible.

    Keeps letters and digits of every script and `._-()`, without folders and without a picture's suffix; never empty,
    never begins with `.` or `-`, at most 80 characters. A stem that is in `taken` already (upper and lower case are
    one) gets a short hash of `path_for_hash` appended. What is returned is added to `taken`.
    """
    stem = _clean(name)
    if stem.casefold() in taken:
        digest = hashlib.sha256(path_for_hash.encode("utf-8", "surrogatepass")).hexdigest()
        stem = _with_ending(stem, f"-{digest[:8]}")
    unnumbered, number = stem, 2
    while stem.casefold() in taken:
        stem = _with_ending(unnumbered, f"-{number}")
        number += 1
    taken.add(stem.casefold())
    return stem


def has_hash(name: str, stem: str) -> bool:
    """Whether a name is that of `safe_stem` for a photo whose stem was taken: the stem and a hash."""
    return name.startswith(stem) and _ENDING.fullmatch(name, len(stem)) is not None


def _clean(name: str) -> str:
    last = re.split(r"[/\\]", name)[-1]
    last = unicodedata.normalize("NFC", _PICTURE_SUFFIX.sub("", last))
    # Marks (M) belong to their letters in many scripts.
    kept = [c if c in "._-()" or unicodedata.category(c)[0] in "LM" or c.isdecimal() else "_" for c in last]
    # A name that ends in a dot loses it on Windows, and then stands for another file.
    stem = _cut(re.sub(r"_{2,}", "_", "".join(kept)).lstrip(".-"), LONGEST, MAX_NAME_BYTES).rstrip(".")
    if not stem.strip("_"):
        return "photo"
    return f"_{_cut(stem, LONGEST - 1, MAX_NAME_BYTES - 1)}" if _WINDOWS_DEVICE.match(stem) else stem


def _cut(text: str, characters: int, size: int) -> str:
    return text[:characters].encode("utf-8")[:size].decode("utf-8", "ignore")


def _with_ending(stem: str, ending: str) -> str:
    return _cut(stem, LONGEST - len(ending), MAX_NAME_BYTES - len(ending)) + ending
