"""One photo's record: everything that the doctor stores of it, so that no file is opened twice."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np

from funduscope.doctor.metadata import naming_tags
from funduscope.duplicates.descriptor import describe
from funduscope.i18n.errors import code_and_sentence, refuse_machine_fault
from funduscope.imaging.burned_in_marks import count_letters
from funduscope.imaging.dicom_file import is_dicom
from funduscope.imaging.file_headers import Header, read_header
from funduscope.imaging.framing import Frame, frame
from funduscope.imaging.limits import LIMITS
from funduscope.imaging.photo import Photo, pixels_sha256
from funduscope.imaging.vessels import SIDE_PX
from funduscope.quality.fundus import measure_all
from funduscope.quality.image_measures import has_color, small_frame

THUMBNAIL_PX: Final = 224
_THUMBNAIL_QUALITY: Final = 72


@dataclass(frozen=True, slots=True)
class Record:
    """One photo's file; sizes in pixels of the upright photo.

    path: relative to the data set, with forward slashes. sha256: of the file's bytes; pixels_sha256: of shape and
    pixels. kind: JPEG, PNG, TIFF or DICOM. width, height: 0 if unknown. orientation: EXIF's, 1 to 8. error: a code of
    `errors.HTTP_STATUS`, and error_says its sentence, where the photo cannot be used. field_of_view: its circle (x, y,
    radius). measures: of `fundus.measure_all`, with `has_color` (1 or 0); empty if there is an error. letters: how many
    letters the longest row has around the field alone, and anywhere. metadata: names of tags that may name a person or
    a place.
    """

    path: str
    bytes: int = 0
    sha256: str = ""
    pixels_sha256: str = ""
    kind: str = ""
    width: int = 0
    height: int = 0
    orientation: int = 1
    error: str | None = None
    error_says: str | None = None
    field_of_view: tuple[float, float, float] | None = None
    measures: dict[str, float] = field(default_factory=dict)
    letters: tuple[int, int] = (0, 0)
    metadata: tuple[str, ...] = ()

    def to_json(self) -> str:
        return json.dumps(asdict(self), separators=(",", ":"))

    @staticmethod
    def from_json(text: str) -> Record:
        values: dict[str, Any] = json.loads(text)
        for name in ("field_of_view", "letters", "metadata"):
            values[name] = tuple(values[name]) if values[name] is not None else None
        return Record(**values)


@dataclass(frozen=True, eq=False, slots=True)
class ScannedPhoto:
    """A record, a thumbnail (JPEG) and a `Descriptor` as bytes; both None if the photo cannot be opened."""

    record: Record
    thumbnail: bytes | None = None
    descriptor: bytes | None = None


def scan_photo(path: Path, name: str) -> ScannedPhoto:
    """Opens a file that may be damaged, hostile or no photo at all: the record then has the error.

    Raises what the machine refuses: a record is kept, and no later run would read the photo again.
    """
    data = _read(path)
    record = Record(name, len(data), hashlib.sha256(data).hexdigest() if data else "")
    try:
        if is_dicom(data):
            record = replace(record, kind="DICOM", metadata=naming_tags(data))
        elif data:
            header = read_header(data)
            record = replace(record, kind=header.kind, metadata=naming_tags(data), **_size(header))
        photo = Photo.open(data if data or path.is_file() else path)
        framed = frame(photo, SIDE_PX, paint_marks=False)
        measured = _measured(record, photo.pixels, framed)
        return ScannedPhoto(measured, _thumbnail(photo.pixels), describe(framed).to_bytes())
    except Exception as error:
        refuse_machine_fault(error)
        code, says = code_and_sentence(error)
        return ScannedPhoto(replace(record, error=code, error_says=says))


def _read(path: Path) -> bytes:
    """A file's bytes; empty if it is no regular file, cannot be read or is larger than a photo may be."""
    try:
        if not path.is_file() or path.stat().st_size > LIMITS.max_bytes:
            return b""
        return path.read_bytes()
    except (OSError, ValueError) as error:
        refuse_machine_fault(error)
        return b""


def _size(header: Header) -> dict[str, int]:
    is_turned = header.orientation >= 5
    width, height = (header.height, header.width) if is_turned else (header.width, header.height)
    return {"width": width, "height": height, "orientation": header.orientation}


def _measured(record: Record, pixels: np.ndarray, framed: Frame) -> Record:
    field_of_view = framed.field_of_view
    circle = None
    if field_of_view is not None:
        circle = round(field_of_view.x_px, 1), round(field_of_view.y_px, 1), round(field_of_view.radius_px, 1)
    measures = measure_all(pixels, small_frame(framed, pixels))
    measures["has_color"] = float(has_color(pixels, framed.transform.bounds))
    return replace(
        record,
        pixels_sha256=pixels_sha256(pixels),
        width=pixels.shape[1],
        height=pixels.shape[0],
        field_of_view=circle,
        measures={key: round(value, 4) for key, value in measures.items()},
        letters=count_letters(pixels, field_of_view),
    )


def _thumbnail(pixels: np.ndarray) -> bytes:
    scale = THUMBNAIL_PX / max(pixels.shape[:2])
    size = max(1, round(pixels.shape[1] * scale)), max(1, round(pixels.shape[0] * scale))
    small = cv2.cvtColor(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2BGR)
    return cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, _THUMBNAIL_QUALITY])[1].tobytes()
