"""A case prepared for training: the framed photo with its dense labels, in a cache that may be deleted at any time.

The cache is keyed by content (the bytes of the photo and of the label files), by settings and by the code that frames.
Files are written under another name and renamed, so a killed process leaves none that is incomplete.
"""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from types import CodeType, FunctionType

import cv2
import numpy as np

from funduscope.atomic import replacing
from funduscope.data.case import Case, LabelError, Labels
from funduscope.data.derived_labels import derive_labels
from funduscope.data.masks import read_votes
from funduscope.duplicates.cache import FRAMED_BY, code_version
from funduscope.i18n.errors import CodedError
from funduscope.imaging.framing import CropTransform, frame
from funduscope.imaging.photo import Photo
from funduscope.vocabulary import AGREEING_VOTERS, CODES, EITHER_EXUDATE, LESIONS

CHANNELS: tuple[str, ...] = (*CODES, EITHER_EXUDATE)
"""The planes of a dense target."""

CACHE_VARIABLE = "FUNDUSCOPE_CACHE"
_VERSION = "5"
"""Version of what this module makes of a framed photo and its labels; changes of framing and of mask reading are
noticed by themselves."""

_MADE_BY = (
    *FRAMED_BY,
    "imaging/burned_in_marks.py",
    *(f"imaging/{name}.py" for name in ("dicom_file", "dicom_streams", "dicom_colors")),
    "data/masks.py",
)

DISC_IN_BOX = (0.95, 0.97)
"""Width and height of the disc as shares of its box, the medians of the 37 photos of IDRiD that have an outline too."""


@dataclass(frozen=True, eq=False)
class Prepared:
    """image: (S, S, 3) uint8. coverage: per channel (S, S) uint8, 255 where a pixel is wholly the structure.

    A channel that is known to be absent has no coverage and is in `absent`. known: (S, S) bool where only part of a
    channel is known; a channel with coverage and no entry is known everywhere. Everything else is unknown. regions: per
    lesion the outlines, (N, 2) x, y in frame pixels, of what `AGREEING_VOTERS` experts marked: somewhere in them are
    lesions. unusable: by channel why its mask or votes cannot be used; it is unknown then.
    """

    image: np.ndarray
    transform: CropTransform
    coverage: dict[str, np.ndarray]
    known: dict[str, np.ndarray]
    absent: tuple[str, ...]
    regions: dict[str, list[np.ndarray]] = field(default_factory=dict)
    unusable: dict[str, str] = field(default_factory=dict)


def prepare(case: Case, side_px: int) -> Prepared:
    """Frames the photo at `side_px` and brings every dense label into the frame."""
    photo = Photo.open(case.path)
    framed = frame(photo, side_px)
    labels = derive_labels(case.labels)
    result = Prepared(framed.image, framed.transform, {}, {}, ())
    absent = _masks(labels, photo, result)
    regions = _weak(labels, result, absent)
    return replace(result, absent=tuple(sorted(absent - result.coverage.keys())), regions=regions)


def _masks(labels: Labels, photo: Photo, result: Prepared) -> set[str]:
    """Adds what masks say; returns the channels that are known to be absent."""
    absent: set[str] = set()
    for code, mask in labels.masks.items():
        channels = ("EX", "SE", EITHER_EXUDATE) if code == EITHER_EXUDATE else (code,)
        try:
            marked = mask.load(photo.height, photo.width)
        except LabelError as error:
            result.unusable[code] = str(error)
            continue
        if marked is None:
            continue
        inside = _to_frame(marked, result.transform) if marked.any() else marked
        if not inside.any():
            absent.update(channels)
            continue
        result.coverage[code] = inside
        if code == EITHER_EXUDATE:  # outside it there is neither; inside, the kind is unknown
            for hard_or_soft in ("EX", "SE"):
                result.known[hard_or_soft] = inside == 0
    return absent


def _weak(labels: Labels, result: Prepared, absent: set[str]) -> dict[str, list[np.ndarray]]:
    """Adds weak labels. The disc is an ellipse in its box (`DISC_IN_BOX`). Of regions that experts marked, only the
    outside is certain; returns the outlines of those on which several agree."""
    transform, coverage, known = result.transform, result.coverage, result.known
    regions: dict[str, list[np.ndarray]] = {}
    for code in LESIONS:
        if code in labels.votes:
            try:
                votes = read_votes(labels.votes[code], transform.height_px, transform.width_px)
            except LabelError as error:
                result.unusable[code] = str(error)
                continue
            known[code] = _to_frame(votes > 0, transform) == 0
            agreed = (_to_frame(votes >= AGREEING_VOTERS, transform) > 127).astype(np.uint8)
            outlines, _ = cv2.findContours(agreed, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
            regions[code] = [outline[:, 0] + 0.5 for outline in outlines if len(outline) > 2]
        elif code in labels.experts and labels.experts[code] == 0:
            absent.add(code)
    if labels.boxes.get("OD") and "OD" not in coverage:
        coverage["OD"] = _ellipse(transform.to_frame(np.reshape(labels.boxes["OD"][0], (2, 2))), transform.side_px)
    return {code: outlines for code, outlines in regions.items() if outlines}


def _ellipse(corners: np.ndarray, side_px: int) -> np.ndarray:
    """Coverage, (S, S) uint8, of the ellipse that has the shares `DISC_IN_BOX` of a box. cv2's smooth one is 0.6 px too
    wide all around.

    corners: (2, 2) x, y of the box in the frame. A pixel's coverage is half, more or less by its distance to the edge.
    """
    center, half_axes = corners.mean(0), np.maximum((corners[1] - corners[0]) * DISC_IN_BOX / 2, 0.5)
    x, y = (np.arange(side_px, dtype=np.float32) + 0.5 - at for at in center)
    x, y = x[None] / half_axes[0], y[:, None] / half_axes[1]
    radius = np.hypot(x, y)
    slope = np.hypot(x / half_axes[0], y / half_axes[1]) / np.maximum(radius, 1e-6)
    inside = np.clip(0.5 + (1 - radius) / np.maximum(slope, 1e-6), 0, 1)
    return np.rint(inside * 255).astype(np.uint8)


def _to_frame(mask: np.ndarray, transform: CropTransform) -> np.ndarray:
    return np.rint(transform.map_to_frame(mask) * 255).astype(np.uint8)


def default_cache() -> Path:
    """The folder for prepared photos: FUNDUSCOPE_CACHE, otherwise the user's cache folder, which is made.

    Raises `CodedError` E_DISK if the user has no home folder, or none that may be written, as in containers.
    """
    try:
        if named := os.environ.get(CACHE_VARIABLE):
            return Path(named).expanduser()
        folder = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "funduscope"
        folder.mkdir(parents=True, exist_ok=True)
    except (RuntimeError, OSError) as error:
        reason = getattr(error, "strerror", None) or "there is none"
        says = f"this user has no home folder that may be written ({reason})"
        raise CodedError("E_DISK", f"{says}: set {CACHE_VARIABLE} to a folder that may be") from error
    return folder


def cached(case: Case, side_px: int, cache: Path) -> Path:
    """The file of the prepared case, made where it is missing or, as after a power cut, cut off."""
    path = cache / f"{_key(case, side_px)}.npz"
    if not zipfile.is_zipfile(path):
        cache.mkdir(parents=True, exist_ok=True)
        prepared = prepare(case, side_px)
        arrays = {
            "image": prepared.image,
            **{f"coverage {code}": plane for code, plane in prepared.coverage.items()},
            **{f"known {code}": plane for code, plane in prepared.known.items()},
        }
        regions = {code: [one.tolist() for one in outlines] for code, outlines in prepared.regions.items()}
        about = json.dumps(
            {"transform": asdict(prepared.transform), "absent": prepared.absent, "regions": regions}
            | {"unusable": prepared.unusable}
        )
        with replacing(path) as unfinished, unfinished.open("wb") as file:
            np.savez(file, allow_pickle=False, about=np.frombuffer(about.encode(), np.uint8), **arrays)
    return path


def read_prepared(path: Path) -> Prepared:
    """The prepared case in a file of `cached`."""
    with np.load(path, allow_pickle=False) as file:
        about = json.loads(file["about"].tobytes())
        return Prepared(
            file["image"],
            CropTransform(**about["transform"]),
            {key.removeprefix("coverage "): file[key] for key in file.files if key.startswith("coverage ")},
            {key.removeprefix("known "): file[key] for key in file.files if key.startswith("known ")},
            tuple(about["absent"]),
            {code: [np.array(one) for one in outlines] for code, outlines in about["regions"].items()},
            about["unusable"],
        )


def unusable_masks(path: Path) -> dict[str, str]:
    """`Prepared.unusable` alone, of a file of `cached`."""
    with np.load(path, allow_pickle=False) as file:
        return json.loads(file["about"].tobytes())["unusable"]


def content_of(path: Path) -> bytes:
    """A file's bytes, for a hash; `b"unreadable"` if it cannot be opened: the reader of photo or mask says why."""
    try:
        return path.read_bytes()
    except OSError:
        return b"unreadable"


def _key(case: Case, side_px: int) -> str:
    """A hash of everything that the prepared case depends on."""
    digest = hashlib.sha256(f"{_VERSION} {code_version(_MADE_BY)} {side_px}".encode())
    labels = derive_labels(case.labels)
    digest.update(content_of(case.path))
    for code, mask in sorted(labels.masks.items()):
        digest.update(f"mask {code} {len(mask.paths)} {reader_id(mask.read)}".encode())
        digest.update(mask.empty.encode() if mask.empty != "error" else b"")
        for path in mask.paths:
            digest.update(content_of(path))
    for code, path in sorted(labels.votes.items()):
        digest.update(f"votes {code}".encode() + content_of(path))
    digest.update(repr((sorted(labels.experts.items()), sorted(labels.boxes.items()))).encode())
    return digest.hexdigest()[:32]


def reader_id(read: Callable[[Path], np.ndarray] | None) -> str:
    """What distinguishes one reader of masks from another, in any process: names, code, defaults and bound values."""
    if isinstance(read, partial):
        return f"partial {reader_id(read.func)} {_values(read.args)} {_values(read.keywords.items())}"
    name = f"{getattr(read, '__module__', '')}.{getattr(read, '__qualname__', type(read).__name__)}"
    if not isinstance(read, FunctionType):
        return name
    closed = [cell.cell_contents for cell in read.__closure__ or ()]
    defaults = [*(read.__defaults__ or ()), *(read.__kwdefaults__ or {}).items()]
    return f"{name} {_values([read.__code__, *defaults, *closed])}"


def _values(values: Iterable[object]) -> str:
    """Values as text, functions and code by what they do; `repr` has their address, which differs between processes."""
    return " ".join(map(_value, values))


def _value(value: object) -> str:
    if isinstance(value, CodeType):
        return f"{value.co_code.hex()} {_values(value.co_consts)} {value.co_names!r}"
    if isinstance(value, FunctionType | partial):
        return reader_id(value)
    return f"({_values(value)})" if isinstance(value, tuple) else repr(value)
