"""JPEGs of which a decoder warns: read to the same pixels where all are there, refused where some are not."""

from __future__ import annotations

import io
import re
from itertools import count
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from funduscope.doctor.record import scan_photo
from funduscope.i18n.errors import PhotoError
from funduscope.imaging.photo import Photo
from funduscope.testing.drawn_eyes import draw_eye

END = b"\xff\xd9"
RESTART = re.compile(rb"\xff[\xd0-\xd7]")
GRAIN = np.random.default_rng(0).integers(0, 12, (280, 432, 3), np.uint8)
EYE = draw_eye(3, width_px=432).pixels[:280] // 2 + GRAIN


def jpeg(mode: str = "RGB", **settings) -> bytes:
    file = io.BytesIO()
    Image.fromarray(EYE).convert(mode).save(file, "JPEG", quality=90, **settings)
    return file.getvalue()


def with_blank_spectrum(data: bytes) -> bytes:
    return data.replace(b"\0\x3f\0", bytes(3), 1)


def with_filling(data: bytes, filling: bytes = bytes(16)) -> bytes:
    return data.removesuffix(END) + filling + END


def with_restarts_from(data: bytes, first: int) -> bytes:
    numbers = count(first)
    return RESTART.sub(lambda _: bytes([0xFF, 0xD0 + next(numbers) % 8]), data)


PLAIN, PROGRESSIVE, RESTARTED = jpeg(), jpeg(progressive=True), jpeg(restart_marker_rows=1)
ODD = {
    "a blank scan header": (with_blank_spectrum(PLAIN), PLAIN),
    "JFIF of version 2": (PLAIN.replace(b"JFIF\0\1", b"JFIF\0\2"), PLAIN),
    "bytes in front of the end": (with_filling(PLAIN), PLAIN),
    "bytes in front of a progressive end": (with_filling(PROGRESSIVE), PROGRESSIVE),
    "restarts counted from 1": (with_restarts_from(RESTARTED, 1), RESTARTED),
    "a part of a color profile": (PLAIN[:2] + b"\xff\xe2\0\x12ICC_PROFILE\0\1\2ab" + PLAIN[2:], PLAIN),
    "several at once": (with_filling(with_blank_spectrum(with_restarts_from(RESTARTED, 4))), RESTARTED),
}


@pytest.mark.parametrize("name", ODD)
def test_oddities_that_leave_the_pixels_whole_are_read(name: str) -> None:
    odd, plain = ODD[name]
    assert odd != plain
    assert np.array_equal(Photo.open(odd).pixels, Photo.open(plain).pixels)


def test_a_cmyk_jpeg_with_an_oddity_is_read_as_the_one_without() -> None:
    plain = jpeg("CMYK", restart_marker_rows=1)
    assert np.array_equal(Photo.open(with_restarts_from(plain, 1)).pixels, Photo.open(plain).pixels)


def test_the_doctor_finds_no_damage_in_an_oddity(tmp_path: Path) -> None:
    (tmp_path / "eye.jpg").write_bytes(ODD["several at once"][0])
    assert scan_photo(tmp_path / "eye.jpg", "eye.jpg").record.error is None


def _without_an_interval(data: bytes) -> bytes:
    _, first, second, *_ = (match.start() for match in RESTART.finditer(data))
    return data[:first] + data[second:]


def _without_a_marker(data: bytes) -> bytes:
    marker = RESTART.search(data)
    assert marker is not None
    return data[: marker.start()] + data[marker.end() :]


@pytest.mark.parametrize("damaged", [
    with_filling(PLAIN, bytes(range(1, 17))),
    with_filling(with_blank_spectrum(PLAIN[:-200])),
    PLAIN.replace(b"\0\x3f\0", b"\0\x3e\0", 1),
    with_blank_spectrum(with_restarts_from(_without_an_interval(RESTARTED), 0)),
    with_restarts_from(_without_a_marker(RESTARTED), 0),
], ids=["left over", "cut and filled up", "flipped header", "no interval", "no marker"])  # fmt: skip
def test_damage_is_refused_with_and_without_an_oddity(damaged: bytes) -> None:
    with pytest.raises(PhotoError) as refused:
        Photo.open(damaged)
    assert refused.value.code in ("E_CORRUPT", "E_TRUNCATED")
