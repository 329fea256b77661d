from __future__ import annotations

import inspect
import json

import numpy as np
import pytest
from PIL import Image

from funduscope.report import write as module
from funduscope.report.write import findings_schema, save, to_json
from funduscope.vocabulary import CODES

ALWAYS = {"findings.json", "overlay.png", "report.html"}


def names(folder):
    return {entry.name for entry in folder.iterdir()}


def test_the_folder_may_be_named_by_a_string(drawn_eye, tmp_path):
    assert save(drawn_eye(), str(tmp_path / "eye")) == tmp_path / "eye"
    assert inspect.signature(save).parameters["folder"].annotation == "str | os.PathLike[str]"


def test_a_photos_results_are_complete(drawn_eye, tmp_path):
    found = drawn_eye()
    folder = save(found, tmp_path / "out" / "eye")
    assert names(folder) == ALWAYS | {f"eye_{code}.tif" for code in CODES}
    for code in CODES:
        with Image.open(folder / f"eye_{code}.tif") as picture:
            assert picture.mode == "L"
            levels = np.asarray(picture)
        assert levels.shape == (220, 300)
        assert (levels == np.where(found.masks[code], 255, 0)).all()
    assert json.loads((folder / "findings.json").read_text(encoding="utf-8")) == found.to_dict()
    assert Image.open(folder / "overlay.png").size[0] == 300
    assert (folder / "report.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    assert names(tmp_path / "out") == {"eye"}


def test_probabilities_come_when_asked_for(drawn_eye, tmp_path):
    found = drawn_eye()
    folder = save(found, tmp_path / "eye", probabilities=True)
    for code in CODES:
        levels = np.asarray(Image.open(folder / f"eye_{code}_prob.png"))
        assert levels.dtype == np.uint8
        assert (levels == np.rint(found.probability(code) * 255)).all()


def test_a_refused_photo_gets_no_masks(drawn_eye, tmp_path):
    folder = save(drawn_eye(gradable_ok=False), tmp_path / "eye", probabilities=True)
    assert names(folder) == ALWAYS
    assert json.loads((folder / "findings.json").read_text(encoding="utf-8"))["predicted_grade"] is None


def test_full_size_is_the_photos_own_width(drawn_eye, tmp_path):
    found = drawn_eye()
    found.pixels, found.masks = np.zeros((1000, 2500, 3), np.uint8), {}
    assert Image.open(save(found, tmp_path / "a") / "overlay.png").width == 2048
    assert Image.open(save(found, tmp_path / "b", full_size=True) / "overlay.png").width == 2500


def test_masks_are_named_after_the_photo_and_after_its_folder_where_two_photos_have_one_name(drawn_eye, tmp_path):
    assert "eye_MA.tif" in names(save(drawn_eye(), tmp_path / "anything"))
    assert "eye-0123abcd_MA.tif" in names(save(drawn_eye(), tmp_path / "eye-0123abcd"))
    assert "passwd_MA.tif" in names(save(drawn_eye(name="../../etc/passwd"), tmp_path / "other"))


def test_the_same_findings_give_the_same_bytes(drawn_eye, tmp_path):
    one, two = (save(drawn_eye(), tmp_path / name / "eye") for name in "ab")
    assert {path.name: path.read_bytes() for path in one.iterdir()} == {
        path.name: path.read_bytes() for path in two.iterdir()
    }


@pytest.mark.parametrize("step", ["overlay", "report", "_write_masks"])
@pytest.mark.parametrize("earlier", [False, True])
def test_a_failure_midway_leaves_what_was_there(drawn_eye, tmp_path, monkeypatch, step, earlier):
    folder = tmp_path / "eye"
    if earlier:
        save(drawn_eye(gradable_ok=False), folder)
    before = names(tmp_path), names(folder) if earlier else None

    def fail(*_, **__):
        raise OSError("disk full")

    monkeypatch.setattr(module, step, fail)
    with pytest.raises(OSError, match="disk full"):
        save(drawn_eye(), folder)
    assert (names(tmp_path), names(folder) if earlier else None) == before


def test_who_may_open_a_folder_stays_as_it_was(drawn_eye, tmp_path):
    (tmp_path / "eye").mkdir()
    (tmp_path / "eye").chmod(0o700)
    modes = [save(drawn_eye(), tmp_path / "eye").stat().st_mode & 0o7777 for _ in range(2)]
    (tmp_path / "eye").chmod(0o775)
    modes.append(save(drawn_eye(), tmp_path / "eye").stat().st_mode & 0o7777)
    assert modes == [0o700, 0o700, 0o775]


@pytest.mark.parametrize("name", ["", ".", "../here"])
def test_the_current_folder_is_not_replaced(drawn_eye, tmp_path, monkeypatch, name):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(FileExistsError, match="is the current folder"):
        save(drawn_eye(), name)
    assert names(tmp_path / "here") == set()


def test_an_earlier_result_is_replaced_whole(drawn_eye, tmp_path):
    save(drawn_eye(), tmp_path / "eye", probabilities=True)
    folder = save(drawn_eye(gradable_ok=False), tmp_path / "eye")
    assert names(folder) == ALWAYS
    assert names(tmp_path) == {"eye"}


def test_what_is_no_earlier_result_is_never_removed(drawn_eye, tmp_path):
    thesis = tmp_path / "work" / "thesis.txt"
    thesis.parent.mkdir()
    thesis.write_text("years of work")
    with pytest.raises(FileExistsError, match=r"thesis\.txt.*choose another folder"):
        save(drawn_eye(), thesis.parent)
    with pytest.raises(FileExistsError, match="is a file"):
        save(drawn_eye(), thesis)
    assert thesis.read_text() == "years of work"
    assert names(tmp_path) == {"work"}


@pytest.mark.parametrize("name", ["Dr_Smith_report.pdf", "reviewed_sheet.html", "other_OD.tif", "eyes_EX.tif"])
def test_a_file_of_somebody_else_keeps_the_folder_even_if_it_is_named_like_a_result(drawn_eye, tmp_path, name):
    folder = save(drawn_eye(), tmp_path / "eye")
    (folder / name).write_bytes(b"work")
    with pytest.raises(FileExistsError, match=name):
        save(drawn_eye(), folder)
    assert not module.is_result(folder)
    assert (folder / name).read_bytes() == b"work"


@pytest.mark.parametrize("name", [".DS_Store", "._report.html", "Thumbs.db", "Desktop.ini", ".directory"])
def test_what_a_desktop_leaves_in_a_folder_does_not_stand_in_the_way(drawn_eye, tmp_path, name):
    folder = tmp_path / "eye"
    folder.mkdir()
    for _ in range(2):  # into a folder that was only looked into, and over an earlier result
        (folder / name).write_bytes(b"icons")
        save(drawn_eye(), folder)
        assert names(folder) == ALWAYS | {f"eye_{code}.tif" for code in CODES}
    (folder / ".directory").mkdir()
    (folder / ".directory" / "thesis.txt").write_text("years of work")
    with pytest.raises(FileExistsError, match="directory"):
        save(drawn_eye(), folder)


def test_findings_json_is_what_programs_expect(drawn_eye):
    found = drawn_eye(name="œil \udcff.jpg").to_dict()
    shuffled = dict(reversed(found.items())) | {"addition": 1}
    text = to_json(shuffled)
    assert text.endswith(b"}\n")
    assert b"\xc5\x93il" in text
    read = json.loads(text.decode("utf-8"))
    assert read == shuffled
    known = [key for key in findings_schema()["properties"] if key in found]
    assert list(read) == [*known, "addition"]


def test_not_a_number_is_no_finding(drawn_eye, tmp_path):
    found = drawn_eye()
    broken = found.to_dict() | {"confidence": float("nan")}
    found.to_dict = lambda: broken
    with pytest.raises(ValueError, match="JSON"):
        save(found, tmp_path / "eye")
    assert names(tmp_path) == set()
