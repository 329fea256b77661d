"""Metadata that may name a person are reported by the tag's name; its content is never repeated."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from funduscope.doctor import photo_checks
from funduscope.doctor.metadata import naming_tags
from funduscope.doctor.record import Record, scan_photo

WHO = "Jane Roe"


def _file(kind: str, **how: object) -> bytes:
    buffer = io.BytesIO()
    image = Image.fromarray(np.full((300, 320, 3), 90, np.uint8))
    image.save(buffer, kind, **how)  # pyright: ignore[reportArgumentType]
    return buffer.getvalue()


def _exif(tags: dict[int, object]) -> Image.Exif:
    exif = Image.Exif()
    for tag, value in tags.items():
        exif[tag] = value
    return exif


def _texts(**texts: str) -> PngImagePlugin.PngInfo:
    info = PngImagePlugin.PngInfo()
    for key, text in texts.items():
        info.add_text(key.replace("_", " "), text)
    return info


def _with_comments(*texts: str) -> bytes:
    """A JPEG with several comments."""
    data = _file("JPEG")
    segments = (b"\xff\xfe" + (len(text) + 2).to_bytes(2, "big") + text.encode() for text in texts)
    return data[:2] + b"".join(segments) + data[2:]


XMP = f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><dc:creator>{WHO}</dc:creator></x:xmpmeta>'.encode()
GPS = {0x8825: {1: "N", 2: (48.0, 8.0, 0.0)}}

NAMING = {
    "artist": (_file("JPEG", exif=_exif({315: WHO})), {"EXIF Artist"}),
    "owner": (_file("JPEG", exif=_exif({0x8769: {42032: WHO}})), {"EXIF CameraOwnerName"}),
    "comment of the user": (_file("JPEG", exif=_exif({0x8769: {37510: b"ASCII\0\0\0Jane"}})), {"EXIF UserComment"}),
    "windows author": (_file("JPEG", exif=_exif({40093: WHO.encode("utf-16-le")})), {"EXIF XPAuthor"}),
    "place": (_file("JPEG", exif=_exif(GPS)), {"EXIF GPS position"}),
    "place in a PNG": (_file("PNG", exif=_exif(GPS)), {"EXIF GPS position"}),
    "JPEG comment": (_file("JPEG", comment=f"patient {WHO}"), {"JPEG comment"}),
    "a person's number": (_file("JPEG", comment="700101-00-0000"), {"JPEG comment"}),
    "a program's comment after a person's": (_with_comments(f"Patient {WHO}", "Lavc58"), {"JPEG comment"}),
    "a creator": (_file("JPEG", comment=f"CREATOR: {WHO}"), {"JPEG comment"}),
    "a default patient": (_file("JPEG", comment=f"Default patient {WHO}"), {"JPEG comment"}),
    "windows author in Cyrillic": (_file("JPEG", exif=_exif({40093: "Иванов".encode("utf-16-le")})), {"EXIF XPAuthor"}),
    "comment in Chinese": (
        _file("JPEG", exif=_exif({0x8769: {37510: b"UNICODE\0" + "张伟".encode("utf-16-le")}})),
        {"EXIF UserComment"},
    ),
    "XMP": (_file("JPEG", xmp=XMP), {"XMP dc:creator"}),
    "PNG text": (_file("PNG", pnginfo=_texts(Author=WHO)), {"PNG text Author"}),
    "PNG text under a name": (_file("PNG", pnginfo=_texts(Jane_Roe="left eye")), {"PNG text"}),
    "TIFF": (_file("TIFF", tiffinfo={315: WHO, 270: f"{WHO}, left eye"}), {"TIFF Artist", "TIFF ImageDescription"}),
}


@pytest.mark.parametrize("case", NAMING)
def test_what_names_somebody_is_found(case: str) -> None:
    data, expected = NAMING[case]
    assert set(naming_tags(data)) == expected


HARMLESS = {
    "plain JPEG": _file("JPEG"),
    "plain PNG": _file("PNG", dpi=(72, 72)),
    "plain TIFF": _file("TIFF"),
    "camera": _file("JPEG", exif=_exif({271: "Kowa", 272: "VX-10", 305: "Adobe Photoshop", 282: 72.0})),
    "empty fields": _file("JPEG", exif=_exif({315: "   ", 270: ""})),
    "a program's comment": _file("JPEG", comment="Created with GIMP"),
    "a version": _file("JPEG", comment="1.0.12"),
    "a program's text": _file("PNG", pnginfo=_texts(Software="matplotlib 3")),
}


@pytest.mark.parametrize("case", HARMLESS)
def test_what_cameras_and_programs_write_is_no_finding(case: str) -> None:
    assert naming_tags(HARMLESS[case]) == ()


def test_hostile_metadata_are_no_error() -> None:
    data = NAMING["artist"][0]
    assert naming_tags(data[:40]) == ()
    rng = np.random.default_rng(0)
    for _ in range(200):
        spoiled = bytearray(data)
        for at in rng.integers(2, 200, 5):
            spoiled[at] = rng.integers(256)
        assert all(WHO not in tag for tag in naming_tags(bytes(spoiled)))


def test_the_name_itself_stands_in_no_finding(tmp_path: Path) -> None:
    for number, (data, _) in enumerate(NAMING.values()):
        (tmp_path / f"{number}.img").write_bytes(data)
        found = list(photo_checks.examine([scan_photo(tmp_path / f"{number}.img", "eye.jpg").record]))
        assert "personal_metadata" in {one.kind for one in found}
        assert all("Jane" not in str(one.to_dict()) for one in found)


def test_many_files_of_a_folder_are_reported_once() -> None:
    records = [Record(f"clinic/{number:03d}.jpg", error="E_X", metadata=("JPEG comment",)) for number in range(30)]
    (found,) = [one for one in photo_checks.examine(records) if one.kind == "personal_metadata"]
    assert len(found.files) == 30
    assert found.evidence["tags"] == {"JPEG comment": 30}
