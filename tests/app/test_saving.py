"""Saved files can be restored: small enough, without metadata, and with an undo where they replace corrections."""

from __future__ import annotations

import io
import json
import shlex
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

pytest.importorskip("streamlit", reason="the page needs the extra `app`")

from streamlit.testing.v1 import AppTest

from funduscope.app import saving_view
from funduscope.app.export_labels import LabeledPhoto, as_zip
from funduscope.app.import_labels import read_zip
from funduscope.app.reviewed import Corrections
from funduscope.app.saving_view import make_zip, restore_corrections, split_for_zips
from funduscope.app.session import Entry, OpenPhoto, Session
from funduscope.data.sources import read_data
from funduscope.i18n.languages import LANGUAGES, Words
from funduscope.i18n.messages import Message
from funduscope.imaging.framing import frame
from funduscope.imaging.photo import Photo
from funduscope.imaging.plain_jpeg import plain_jpeg
from funduscope.inference.card import Card
from funduscope.inference.findings import Findings
from funduscope.testing.drawn_eyes import draw_eye

PIXELS = draw_eye(3, width_px=700).pixels
NOTED = b"Meier, Anna"


def _file(kind: str, orientation: int = 1, mode: str = "RGB", *, progressive: bool = False) -> bytes:
    """The eye as a file whose metadata name a person, before the picture and after it."""
    exif, file, image = Image.Exif(), io.BytesIO(), Image.fromarray(PIXELS).convert(mode)
    exif[0x0112], exif[0x010E] = orientation, NOTED.decode()
    if kind == "PNG":
        image.save(file, kind, exif=exif)
        return file.getvalue()
    image.save(file, kind, exif=exif, comment=NOTED, icc_profile=NOTED * 9, quality=90, progressive=progressive)
    return file.getvalue() + NOTED


def _picture_in(data: bytes) -> tuple[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        (name,) = (name for name in archive.namelist() if "Original Images" in name)
        return Path(name).suffix, archive.read(name)


@pytest.mark.parametrize(
    ("data", "suffix"),
    [
        (_file("JPEG"), ".jpg"),
        (_file("JPEG", progressive=True), ".jpg"),
        (_file("JPEG", mode="L"), ".jpg"),
        (_file("JPEG", mode="CMYK"), ".jpg"),
        (_file("JPEG", orientation=6), ".png"),
        (_file("PNG"), ".png"),
    ],
)
def test_a_saved_photo_has_its_pixels_and_no_metadata(data: bytes, suffix: str) -> None:
    photo = Photo.open(data, name="eye")
    assert NOTED in data
    saved = as_zip([LabeledPhoto(photo, Corrections(grade=2), {}, data)])
    assert NOTED not in saved
    found, picture = _picture_in(saved)
    assert found == suffix
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(picture)).convert("RGB")), photo.pixels)
    one = next(read_zip(saved))
    assert np.array_equal(Photo.open(one.data).pixels, photo.pixels)
    if suffix == ".jpg":
        assert len(saved) < len(data) + 3_000, "hardly larger than the upload, although it contains labels too"


def test_a_truncated_jpeg_is_not_rewritten() -> None:
    whole = _file("JPEG", progressive=True)
    for length in range(2, len(whole) - len(NOTED), 997):
        assert plain_jpeg(whole[:length]) is None
    assert plain_jpeg(b"no picture") is None


def _session_of(count: int, monkeypatch: pytest.MonkeyPatch) -> Session:
    """A session of this many corrected photos, every second one from a PNG, with a lesion in each."""
    session, again = Session(), {}
    for number in range(count):
        kind = ".png" if number % 2 else ".jpg"
        pixels = np.roll(PIXELS, number, axis=1)
        data = cv2.imencode(kind, pixels[..., ::-1])[1].tobytes()
        photo = Photo.open(data, name=f"{number}{kind}")
        transform = frame(photo, 256).transform
        findings = Findings(photo, transform, Card(), "0" * 64, frame_probs={"MA": np.zeros((256, 256), np.float32)})
        key = photo.sha256
        again[key] = OpenPhoto(findings, b"")
        session.add(Entry(key, photo.name, data, findings.to_dict(), b"", b""), again[key])
        mask = np.zeros(pixels.shape[:2], bool)
        mask[50 : 60 + number, 70:80] = True
        session.history(key).step(Corrections(grade=number % 5).with_mask("MA", mask, "drawn"))
    monkeypatch.setattr(saving_view, "open_photo", lambda _, key: again[key])
    return session


def test_photos_too_large_for_one_file_are_saved_in_several(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session = _session_of(7, monkeypatch)
    assert split_for_zips(session) == [session.corrected]
    most = 3_000_000
    parts = split_for_zips(session, most)
    assert len(parts) > 1
    assert [key for part in parts for key in part] == session.corrected
    fresh, first = Session(), 1
    fresh.entries.update(session.entries)
    for number, keys in enumerate(parts):
        saved = make_zip(session, keys, f"corrections-{number}", first)
        assert len(saved) <= most
        first += len(keys)
        restore_corrections(fresh, saved, "corrections.zip")
        with zipfile.ZipFile(io.BytesIO(saved)) as archive:
            archive.extractall(tmp_path)
    assert not session.unsaved
    for key in session.corrected:
        assert fresh.history(key).now == session.history(key).now
    folders = sorted(tmp_path.iterdir())
    assert len(folders) == len(parts)
    for given in (folders, [folder / "labels.csv" for folder in folders]):
        assert len(read_data(given)) == 7, "a training reads all of them together"


def test_a_photo_removed_from_memory_makes_no_empty_file(monkeypatch: pytest.MonkeyPatch) -> None:
    session = _session_of(3, monkeypatch)
    gone = session.corrected[0]
    session.entries[gone].data = None
    session.opened.pop(gone, None)
    assert split_for_zips(session, 1) == [[key] for key in session.corrected if key != gone]


def test_labels_of_a_refused_photo_are_saved_after_a_reload(monkeypatch: pytest.MonkeyPatch) -> None:
    """It was graded all the same, and corrected; read again it is refused, and has no outlines of the model."""
    session = _session_of(1, monkeypatch)
    (key,) = session.corrected
    whole = session.history(key).now
    session.history(key).step(replace(whole, complete=frozenset({"MA"})))
    before = make_zip(session, [key])
    findings = replace(session.opened[key].findings, reasons=(Message("OUT_OF_FOCUS", ""),), frame_probs={})
    monkeypatch.setattr(saving_view, "open_photo", lambda *_: OpenPhoto(findings, b""))
    names = [zipfile.ZipFile(io.BytesIO(data)).namelist() for data in (before, make_zip(session, [key]))]
    assert names[0] == names[1]
    assert any("MA" in name for name in names[1])


def test_a_photo_restored_from_a_file_is_known_by_the_file_that_it_came_from(monkeypatch: pytest.MonkeyPatch) -> None:
    """A saved picture has no metadata, so that its bytes are others than those that were uploaded."""
    session = _session_of(1, monkeypatch)
    (key,) = session.corrected
    saved = make_zip(session, [key])
    stripped = replace(session.entries[key], key="0" * 64)
    monkeypatch.setattr(saving_view, "read_upload", lambda *_: (stripped, session.opened[key]))
    monkeypatch.setattr(saving_view, "open_photo", lambda *_: session.opened[key])
    fresh = Session()
    assert restore_corrections(fresh, saved, "corrections.zip") == stripped.key
    assert fresh.restored_from(key) == stripped.key
    assert fresh.restored_from("1" * 64) is None
    with zipfile.ZipFile(io.BytesIO(make_zip(fresh, [stripped.key]))) as archive:
        (entry,) = json.loads(archive.read("corrections/corrections.json"))["photos"]
    assert entry["sha256"] == key, "the file that is saved again fits the photo that was uploaded"


def test_a_restored_file_replaces_newer_corrections_and_can_be_undone(monkeypatch: pytest.MonkeyPatch) -> None:
    session = _session_of(2, monkeypatch)
    one, other = session.corrected
    saved = make_zip(session, [one, other])
    old = session.history(one).now
    newer = Corrections(grade=4, fovea_xy=(10.0, 12.0))
    session.history(one).step(newer)
    restore_corrections(session, saved, "corrections.zip")
    assert session.history(one).now == old
    assert session.history(one).is_replaced
    assert not session.history(other).is_replaced, "they are the same"
    assert not session.unsaved
    session.history(one).undo()
    assert session.history(one).now == newer
    assert not session.history(one).is_replaced
    assert session.unsaved, "the page asks before it is closed"


def _script() -> None:
    from funduscope.app.page_view import show

    show()


@pytest.fixture
def page() -> AppTest:
    opened = AppTest.from_function(_script, default_timeout=180).run()
    if not hasattr(opened, "file_uploader"):
        pytest.skip("this Streamlit's AppTest uploads no files")
    return opened


def _dropped(page: AppTest, name: str, data: bytes) -> None:
    page.file_uploader[0].set_value([(name, data, "application/octet-stream")])
    page.run()
    assert not page.exception


def test_the_page_reports_it_and_its_lists_follow(page: AppTest, monkeypatch: pytest.MonkeyPatch) -> None:
    data = _file("JPEG")
    _dropped(page, "eye.jpg", data)
    session = page.session_state.session
    (key,) = session.entries
    page.selectbox(key=f"correct-en-{key[:16]}-grade").set_value(1).run()
    infos: Callable[[], str] = lambda: " ".join(str(one.value) for one in page.info)  # noqa: E731
    _dropped(page, "corrections.zip", as_zip([LabeledPhoto(Photo.open(data), Corrections(grade=3), {}, data)]))
    assert session.history(key).now == Corrections(grade=3)
    assert page.selectbox(key=f"correct-en-{key[:16]}-grade").value == 3
    for language in LANGUAGES:
        page.selectbox(key="language").set_value(language).run()
        words = Words(language)
        assert words("correct.replaced", {"undo": words("correct.undo")}) in infos()
    assert [one.label for one in page.get("download_button") if "save-download" in one.proto.id] == [
        words("save.download")
    ]
    monkeypatch.setattr(saving_view, "split_for_zips", lambda _: [[key], [key]])
    page.run()
    assert not page.exception
    assert words("save.parts", {"count": 2, "mb": 200}) in " ".join(str(one.value) for one in page.caption)
    session.history(key).undo()
    assert session.history(key).now == Corrections(grade=1)


@pytest.mark.parametrize(("folder", "reason"), [("~nosuchuser/x", "home directory"), ("a\0b", "null byte")])
def test_a_folder_that_cannot_be_named_is_reported(folder: str, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    session, errors = _session_of(1, monkeypatch), []
    monkeypatch.setattr(saving_view.st, "error", errors.append)
    saving_view._save_into(folder, session, Words(), named=False)
    (error,) = errors
    assert error.replace("\\", "").startswith("The folder could not be written:")
    assert reason in error
    assert session.unsaved


def test_the_command_after_saving_can_be_pasted_into_a_shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session, shown = _session_of(1, monkeypatch), []
    monkeypatch.setattr(saving_view.st, "code", lambda text, **_: shown.append(text))
    monkeypatch.setattr(saving_view.st, "success", lambda _: None)
    folder = tmp_path / "Anna's eyes; 2"
    saving_view._save_into(str(folder), session, Words(), named=False)
    (command,) = shown
    parts = shlex.split(command)
    assert parts[parts.index("--data") + 1] == str(folder / "labels.csv")
    assert (folder / "labels.csv").exists()
