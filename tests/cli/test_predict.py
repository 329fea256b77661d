"""`predict` and `demo`: what is written, what is printed, and what one bad photo costs."""

from __future__ import annotations

import csv
import errno
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from PIL import Image
from tests.cli.conftest import CARD, write_model

from funduscope.imaging.find_photos import find_photos
from funduscope.inference.loading import load
from funduscope.report.results_folder import OutputOptions, earlier_results, new_folder, places_in
from funduscope.report.write import is_result
from funduscope.testing.drawn_eyes import draw_eye

Command = Callable[..., tuple[int, str, str]]
Save = Callable[..., Path]


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "summary.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def objects(out: str) -> list[dict]:
    return [json.loads(line) for line in out.splitlines()]


def test_one_photo_gets_a_folder_and_a_sentence(command: Command, tiny: Path, save_eye: Save, tmp_path: Path):
    photo = save_eye(tmp_path / "eye.jpg")
    code, out, err = command("predict", photo, "--model", tiny, "--out", tmp_path / "results")
    assert (code, err) == (0, "")
    written = {path.name for path in (tmp_path / "results" / "eye").iterdir()}
    assert {"findings.json", "overlay.png", "report.html", "eye_MA.tif", "eye_OD.tif"} <= written
    assert not any("_prob" in name for name in written)
    assert not (tmp_path / "results" / "summary.csv").exists()
    first, second = out.splitlines()
    assert re.match(r"eye.jpg: .*grade .*\d: .*edema risk.*; .*refer", first, re.IGNORECASE)
    assert second.startswith("Open ")
    assert Path(second.removeprefix("Open ")).is_file()


def test_options_reach_what_is_written(command: Command, tiny: Path, save_eye: Save, tmp_path: Path):
    photo = save_eye(tmp_path / "eye.png", 2200, 1500)
    plain, drawn = tmp_path / "plain", tmp_path / "drawn"
    assert command("predict", photo, "--model", tiny, "--out", plain)[0] == 0
    options = ("--probabilities", "--full-size", "--palette", "safe", "--threads", 1)
    assert command("predict", photo, "--model", tiny, "--out", drawn, *options)[0] == 0
    assert Image.open(plain / "eye" / "overlay.png").width == 2048
    assert Image.open(drawn / "eye" / "overlay.png").width == 2200
    probability = Image.open(drawn / "eye" / "eye_EX_prob.png")
    assert (probability.size, probability.mode) == ((2200, 1500), "L")
    assert (plain / "eye" / "report.html").read_bytes() != (drawn / "eye" / "report.html").read_bytes()


def test_what_speaks_for_the_answers_is_drawn_if_asked_for(
    command: Command, tiny: Path, save_eye: Save, tmp_path: Path
):
    photo, out = save_eye(tmp_path / "eye.png"), tmp_path / "out"
    for _ in range(2):  # the second run takes the place of the first
        assert command("predict", photo, "--model", tiny, "--out", out, "--explain")[0] == 0
        drawn = {path.name: Image.open(path).size for path in (out / "eye").glob("explanation_*.png")}
        assert set(drawn) == {"explanation_referable.png", "explanation_edema.png"}
        assert all(width == 360 and height > 300 for width, height in drawn.values()), "the photo, and words below it"


def test_a_model_of_lesions_alone_says_that_it_has_nothing_to_explain(
    command: Command, save_eye: Save, tmp_path: Path
) -> None:
    model = write_model(tmp_path / "lesions.onnx", replace(CARD, grade=False, dme=False))
    photo = save_eye(tmp_path / "eye.png")
    code, _, err = command("predict", photo, "--model", model, "--out", tmp_path / "out", "--explain")
    assert code == 0
    assert err.count("neither grade nor edema risk") == 1
    assert not list((tmp_path / "out").rglob("explanation_*.png"))


def test_a_model_of_landmarks_alone_says_where_they_are(command: Command, save_eye: Save, tmp_path: Path) -> None:
    card = replace(CARD, grade=False, dme=False, structures=(), thresholds={})
    model = write_model(tmp_path / "points.onnx", card)
    code, out, _ = command("predict", save_eye(tmp_path / "eye.png"), "--model", model, "--out", tmp_path / "out")
    assert code == 0
    assert re.match(r"eye\.png: .*optic disc at \([\d.]+, [\d.]+\) px; fovea at \([\d.]+, [\d.]+\) px\.", out)


def test_an_onnx_file_without_maps_says_what_its_checkpoint_gives(tiny: Path, tmp_path: Path):
    """One line, where something was answered that has no map; and no torch is loaded to say so."""
    model = onnx.load(str(tiny))
    for output in [output for output in model.graph.output if output.name.endswith("_cam")]:
        model.graph.output.remove(output)
    onnx.save(model, str(tmp_path / "bare.onnx"))
    Image.fromarray(draw_eye(5, width_px=480).pixels).save(tmp_path / "eye.png")
    out = tmp_path / "out"
    command = ["predict", str(tmp_path / "eye.png"), "--model", str(tmp_path / "bare.onnx"), "--out", str(out)]
    code = (
        f"import sys; from funduscope.cli.main import main; code = main({[*command, '--explain']}); "
        "sys.exit(code or 3 * ('torch' in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert "best.safetensors" in done.stderr
    assert "Grad-CAM" in done.stderr
    assert (out / "eye" / "findings.json").is_file()
    assert not list((out / "eye").glob("explanation_*"))


def test_json_is_one_object_a_line_in_order_and_nothing_else(
    command: Command, tiny: Path, save_eye: Save, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    given = [save_eye(Path(f"{name}.jpg"), 300 + 10 * i) for i, name in enumerate("zcab")]
    given.insert(2, Path("bad.jpg"))
    given[2].write_bytes(b"\xff\xd8\xff and no more")
    code, out, err = command("predict", *given, "--model", tiny, "--json")
    assert code == 1
    found = objects(out)
    assert [one["photo"]["name"] for one in found] == [path.name for path in given]
    assert found[2].keys() == {"photo", "error"}
    assert found[2]["error"]["code"].startswith("E_")
    assert [one["photo"]["width"] for one in found if "error" not in one] == [300, 310, 320, 330]
    assert len(err.splitlines()) == 1
    assert "bad.jpg" in err
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(path.name for path in given)


def test_json_with_out_says_what_it_writes(command: Command, tiny: Path, save_eye: Save, tmp_path: Path):
    save_eye(tmp_path / "in" / "a.jpg")
    save_eye(tmp_path / "in" / "b.jpg", 400)
    code, out, err = command("predict", tmp_path / "in", "--model", tiny, "--json", "--out", tmp_path / "out")
    assert (code, err) == (0, "")
    written = [json.loads((tmp_path / "out" / name / "findings.json").read_text("utf-8")) for name in "ab"]
    assert objects(out) == written
    assert [row["folder"] for row in rows(tmp_path / "out")] == ["a", "b"]


def test_a_broken_photo_costs_one_line(command: Command, tiny: Path, save_eye: Save, tmp_path: Path):
    folder = tmp_path / "in"
    for name in ("a.jpg", "c.png", "d.tif", "sub/e.jpg"):
        save_eye(folder / name)
    whole = (folder / "a.jpg").read_bytes()
    (folder / "b.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "f.bmp").write_bytes(b"BM" + bytes(200))
    code, out, err = command("predict", folder, "--model", tiny, "--out", tmp_path / "out")
    assert code == 1
    assert len(err.splitlines()) == 3
    assert "Traceback" not in err
    assert "4 of 7 photos read, 3 failed." in out
    table = {row["photo"]: row for row in rows(tmp_path / "out")}
    assert list(table) == ["a.jpg", "b.jpg", "c.png", "d.tif", "empty.jpg", "f.bmp", "e.jpg"]
    assert table["f.bmp"]["error"] == "E_FORMAT", "a photo that other software saved is not passed over"
    assert table["b.jpg"]["error"] == "E_TRUNCATED"
    assert table["empty.jpg"]["error"] == "E_EMPTY"
    assert not (tmp_path / "out" / "b").exists()


def test_a_fault_of_the_program_costs_one_photo_too(
    command: Command, tiny: Path, save_eye: Save, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from funduscope.inference.predictor import Predictor

    look = Predictor.forward_views

    def fails_once(self: Predictor, *_: object):
        monkeypatch.setattr(Predictor, "forward_views", look)
        raise RuntimeError("secret")

    monkeypatch.setattr(Predictor, "forward_views", fails_once)
    photos = [save_eye(tmp_path / name) for name in ("a.jpg", "b.jpg")]
    code, out, err = command("predict", *photos, "--model", tiny, "--json")
    assert code == 1
    assert [one.get("error", {}).get("code") for one in objects(out)] == ["E_INTERNAL", None]
    assert "secret" not in out + err


def test_a_photo_that_cannot_be_written_costs_one_photo_too(
    command: Command, tiny: Path, save_eye: Save, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from funduscope.report import write as module

    overlay = module.overlay

    def fails_once(*_: object, **__: object):
        monkeypatch.setattr(module, "overlay", overlay)
        raise MemoryError

    monkeypatch.setattr(module, "overlay", fails_once)
    photos = [save_eye(tmp_path / name) for name in ("a.jpg", "b.jpg")]
    code, out, err = command("predict", *photos, "--model", tiny, "--out", tmp_path / "out")
    assert code == 1
    assert "1 of 2 photos read, 1 failed." in out
    assert "a.jpg: E_MEMORY" in err
    assert [(row["error"], row["folder"]) for row in rows(tmp_path / "out")] == [("E_MEMORY", ""), ("", "b")]


def test_a_photo_too_large_to_measure_costs_one_photo_with_and_without_a_folder(
    command: Command, tiny: Path, save_eye: Save, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from funduscope.inference.findings import Findings

    measure = Findings.to_dict

    def fails_for_a(self: Findings):
        if self.photo.name == "a.jpg":
            raise ArithmeticError("secret")
        return measure(self)

    monkeypatch.setattr(Findings, "to_dict", fails_for_a)
    photos = [save_eye(tmp_path / name) for name in ("a.jpg", "b.jpg")]
    (tmp_path / "taken" / "a").mkdir(parents=True)
    (tmp_path / "taken" / "a" / "thesis.docx").write_text("years of work")
    for place in ((), ("--out", tmp_path / "free"), ("--out", tmp_path / "taken")):
        code, out, err = command("predict", *photos, "--model", tiny, "--json", *place)
        assert code == 1
        assert [one.get("error", {}).get("code") for one in objects(out)] == ["E_INTERNAL", None]
        assert "secret" not in out + err


def test_a_broken_model_ends_the_run_with_its_sentence(
    command: Command, tiny: Path, save_eye: Save, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from funduscope.inference.runtime import OnnxRuntime, Outputs

    monkeypatch.setattr(
        OnnxRuntime, "__call__", lambda *_: Outputs(classes={"grade": np.full((1, 5), np.nan, np.float32)})
    )
    photos = [save_eye(tmp_path / name) for name in ("a.jpg", "b.jpg")]
    code, out, err = command("predict", *photos, "--model", tiny, "--json")
    assert (code, out) == (1, "")
    assert err == "funduscope: The model's answer is not finite: its file is damaged or was badly trained.\n"


def test_a_missing_file_is_a_failure_among_others(command: Command, tiny: Path, save_eye: Save, tmp_path: Path):
    names = tmp_path / "nothing.jpg", save_eye(tmp_path / "eye.jpg"), tmp_path / ("n" * 300 + ".jpg")
    code, out, _ = command("predict", *names, "--model", tiny, "--json")
    assert code == 1
    assert [one.get("error", {}).get("code") for one in objects(out)] == ["E_NOT_FOUND", None, "E_NOT_FOUND"]


def test_a_photo_that_cannot_be_graded_is_an_answer(command: Command, tiny: Path, tmp_path: Path):
    Image.new("RGB", (300, 300)).save(tmp_path / "black.png")
    code, out, err = command("predict", tmp_path / "black.png", "--model", tiny, "--out", tmp_path / "out")
    assert (code, err) == (0, "")
    assert "black.png: No photograph of the back of the eye was recognized" in out
    assert json.loads((tmp_path / "out" / "black" / "findings.json").read_text("utf-8"))["predicted_grade"] is None


def test_equal_stems_keep_apart(command: Command, tiny: Path, save_eye: Save, tmp_path: Path):
    photos = [save_eye(tmp_path / name) for name in ("one/eye.jpg", "two/eye.png", "two/EYE.tif", "summary.csv.jpg")]
    assert command("predict", *photos, "--model", tiny, "--out", tmp_path / "out")[0] == 0
    folders = [row["folder"] for row in rows(tmp_path / "out")]
    assert folders[0] == "eye"
    assert len({folder.casefold() for folder in folders} | {"summary.csv"}) == 5
    assert all((tmp_path / "out" / folder / "findings.json").is_file() for folder in folders)


def test_another_photo_of_the_same_name_replaces_nothing(command: Command, tiny: Path, save_eye: Save, tmp_path: Path):
    one, two = save_eye(tmp_path / "p1" / "eye.jpg"), save_eye(tmp_path / "p2" / "eye.jpg", 400)
    out = tmp_path / "out"
    for photo in (one, two, one, two):  # the same photo again takes the place of its own result
        assert command("predict", photo, "--model", tiny, "--out", out)[0] == 0
    widths = sorted(json.loads(path.read_text("utf-8"))["photo"]["width"] for path in out.glob("*/findings.json"))
    assert widths == [360, 400]
    assert json.loads((out / "eye" / "findings.json").read_text("utf-8"))["photo"]["width"] == 360
    before = sorted(path.name for path in out.iterdir())
    code, said, _ = command("predict", two, one, "--model", tiny, "--out", out)
    assert code == 0
    assert [line.partition(":")[0] for line in said.splitlines()[:2]] == [str(two), str(one)]
    assert [row["path"] for row in rows(out)] == [str(two), str(one)]
    assert sorted(path.name for path in out.iterdir()) == sorted([*before, "summary.csv"])
    second = next(name for name in before if name != "eye")
    assert [row["folder"] for row in rows(out)] == [second, "eye"]
    assert (out / second / f"{second}_MA.tif").is_file()


@pytest.mark.skipif(os.name == "nt", reason="such names cannot be made there")
def test_nasty_names(command: Command, tiny: Path, save_eye: Save, tmp_path: Path):
    folder = tmp_path / "in"
    names = ["-x.jpg", "=cmd().jpg", ";rm.jpg", "a\nb\x1b[31m.jpg", "\U0001f441.jpg", os.fsdecode(b"\xff\xfe.jpg")]
    for name in names:
        save_eye(folder / name)
    code, out, err = command("predict", folder, "--model", tiny, "--json", "--out", tmp_path / "out")
    assert (code, err) == (0, "")
    assert sorted(one["photo"]["name"] for one in objects(out)) == sorted(names)
    assert all(name.parent == tmp_path / "out" for name in (tmp_path / "out").iterdir())
    assert not any(row["photo"].startswith(("=", "-")) for row in rows(tmp_path / "out"))
    (folder / "bad\n\x1b[31m.jpg").write_bytes(b"x")
    code, _, err = command("predict", folder / "bad\n\x1b[31m.jpg", "--model", tiny, "--json")
    assert code == 1
    assert len(err.splitlines()) == 1
    assert "\x1b" not in err


def test_a_folder_is_searched_by_content(save_eye: Save, tmp_path: Path):
    for name in ("b.jpg", "a/photo", "a/z.png", ".hidden.jpg", ".cache/c.jpg"):
        save_eye(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no photo")
    (tmp_path / "broken.tiff").write_bytes(b"")
    earlier = tmp_path / "funduscope-1" / "b"
    save_eye(earlier / "overlay.png")
    (earlier / "findings.json").write_text("{}")
    found = [path.relative_to(tmp_path).as_posix() for path in find_photos([tmp_path])]
    assert found == ["b.jpg", "broken.tiff", "a/photo", "a/z.png"]
    assert find_photos([tmp_path / "notes.txt", tmp_path / "gone"]) == [tmp_path / "notes.txt", tmp_path / "gone"]


@pytest.mark.parametrize("text", ["{}", json.dumps({"photo": {"name": "x.jpg"}})])
def test_an_answer_next_to_photos_hides_none_of_them(save_eye: Save, tmp_path: Path, text: str):
    """As who stores what the service answered: neither the folder's own photos nor those below it are passed over."""
    for name in ("P17/x.jpg", "P17/y_OD.tif", "P17/deep/z.jpg", "P17/overlay.png"):
        save_eye(tmp_path / name)
    if "x.jpg" in text:
        save_eye(tmp_path / "P17/x_MA.tif")
    (tmp_path / "P17/findings.json").write_text(text)
    found = [path.relative_to(tmp_path).as_posix() for path in find_photos([tmp_path])]
    assert found == ["P17/x.jpg", "P17/y_OD.tif", "P17/deep/z.jpg"]


@pytest.mark.parametrize("folder", ["x_OD", "patient_7", "patient-7"])
def test_the_other_eye_is_no_result_of_the_first(save_eye: Save, tmp_path: Path, folder: str):
    """A folder whose name begins as its photos do, which end as masks of the disc would."""
    patient = folder.split("_")[0].split("-")[0]
    photos = [f"{folder}/{patient}_OD.tif", f"{folder}/{patient}_OS.tif"]
    for name in photos:
        save_eye(tmp_path / name)
    (tmp_path / folder / "findings.json").write_text(json.dumps({"photo": {"name": f"{patient}_OD.tif"}}))
    save_eye(tmp_path / folder / f"{patient}_OD_MA.tif")
    assert [path.relative_to(tmp_path).as_posix() for path in find_photos([tmp_path])] == photos


def test_both_eyes_next_to_an_answer_for_one_are_photos(save_eye: Save, tmp_path: Path):
    """In a folder that is named as they begin."""
    photos = ["P17/P17_OD.tif", "P17/P17_OS.tif"]
    for name in (*photos, "P17/P17_OD_MA.tif", "eye/eye.tif", "eye/eye_MA.tif", "eye/eye_OS.tif", "eye/eye_HE.tif"):
        save_eye(tmp_path / name)
    (tmp_path / "P17/findings.json").write_text(json.dumps({"photo": {"name": "P17_OD.tif"}}))
    (tmp_path / "eye/findings.json").write_text(json.dumps({"photo": {"name": "eye.tif"}}))
    (tmp_path / "eye/settings.json").write_text(json.dumps({"files": {"findings.json": 1, "eye_MA.tif": 1}}))
    found = [path.relative_to(tmp_path).as_posix() for path in find_photos([tmp_path])]
    assert found == [*photos, "eye/eye.tif", "eye/eye_HE.tif", "eye/eye_OS.tif"], "its own list says what a result is"
    assert not is_result(tmp_path / "P17"), "so they are not replaced by a later answer either"


def test_what_may_not_be_opened_is_told_and_does_not_end_the_rest(
    save_eye: Save, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A folder whose names may be read and nothing else, and a camera's DICOM file without a suffix."""
    open_photo = save_eye(tmp_path / "b.jpg")
    (tmp_path / "closed" / "sub").mkdir(parents=True)
    for name in ("IM0001", "notes.txt"):
        (tmp_path / name).write_bytes(b"")

    def refuse(path: Path, *given: Any) -> Any:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "is_symlink", refuse)
    monkeypatch.setattr(Path, "open", refuse)
    assert find_photos([tmp_path]) == [tmp_path / "IM0001", open_photo]


def test_results_are_no_photos_wherever_they_lie(command: Command, tiny: Path, save_eye: Save, tmp_path: Path):
    """Also the DICOM and probability files, in the folder that a batch would name, and of a photo with an odd name."""
    photo = save_eye(tmp_path / "in" / "left eye (1).jpg")
    assert command("predict", photo, "--model", tiny, "--out", tmp_path / "in" / "results", "--probabilities")[0] == 0
    (folder,) = (path.parent for path in (tmp_path / "in" / "results").glob("*/findings.json"))
    (folder / "settings.json").unlink()
    folder.rename(folder.with_name(f"{folder.name}_0123456789ab"))
    assert find_photos([tmp_path / "in"]) == [photo]


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
def test_links_are_followed_once_and_what_they_miss_is_told(
    command: Command, tiny: Path, save_eye: Save, tmp_path: Path
):
    folder, elsewhere = tmp_path / "in", tmp_path / "elsewhere"
    save_eye(folder / "z" / "a.jpg")
    save_eye(elsewhere / "b.jpg", 400)
    (folder / "away").symlink_to(elsewhere)
    (folder / "again").symlink_to(folder / "z")
    (elsewhere / "back").symlink_to(folder)
    (folder / "gone.jpg").symlink_to(tmp_path / "nothing.jpg")
    assert find_photos([folder]) == [folder / "gone.jpg", folder / "z" / "a.jpg", folder / "away" / "b.jpg"]
    code, out, _ = command("predict", folder, "--model", tiny, "--json")
    assert code == 1
    assert [one.get("error", {}).get("code") for one in objects(out)] == ["E_NOT_FOUND", None, None]


def test_a_folder_that_cannot_be_looked_into_is_a_failure(
    command: Command, tiny: Path, save_eye: Save, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    save_eye(tmp_path / "in" / "a.jpg")
    locked = save_eye(tmp_path / "in" / "locked" / "b.jpg").parent
    scandir, listdir = os.scandir, os.listdir

    def refuses(real: Callable[..., object], path: object) -> object:
        if str(path) == str(locked):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", lambda path: refuses(scandir, path))
    monkeypatch.setattr(os, "listdir", lambda path: refuses(listdir, path))
    code, out, err = command("predict", tmp_path / "in", "--model", tiny, "--out", tmp_path / "out")
    assert code == 1
    assert "1 of 2 photos read, 1 failed." in out
    assert "Permission denied" in err
    assert [row["error"] for row in rows(tmp_path / "out")] == ["", "E_NOT_FOUND"]


@pytest.mark.parametrize("content", [None, "readme.txt"])
def test_a_folder_without_photos(command: Command, tiny: Path, tmp_path: Path, content: str | None):
    folder = tmp_path / "in"
    folder.mkdir()
    if content:
        (folder / content).write_text("nothing here")
    code, out, err = command("predict", folder, "--model", tiny, "--out", tmp_path / "out")
    assert (code, out) == (1, "")
    assert len(err.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_two_runs_into_one_folder_end_alike(command: Command, tiny: Path, save_eye: Save, tmp_path: Path):
    photos = [save_eye(tmp_path / name) for name in ("a.jpg", "b.jpg")]

    def run() -> dict[str, bytes]:
        assert command("predict", *photos, "--model", tiny, "--out", tmp_path / "out")[0] == 0
        return {str(path): path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()}

    assert run() == run()


def test_a_photo_named_by_another_path_replaces_its_own_results(
    command: Command, tiny: Path, save_eye: Save, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    save_eye(tmp_path / "p1" / "eye.jpg")
    save_eye(tmp_path / "p2" / "eye.jpg", 400)
    monkeypatch.chdir(tmp_path)
    assert command("predict", "p1", "p2", "--model", tiny, "--out", tmp_path / "out")[0] == 0
    before, table = {path.name for path in (tmp_path / "out").iterdir()}, rows(tmp_path / "out")
    monkeypatch.chdir(tmp_path / "p2")
    for photos in (("../p1", "."), (tmp_path / "p1" / "eye.jpg", tmp_path / "p1" / ".." / "p2" / "eye.jpg")):
        assert command("predict", *photos, "--model", tiny, "--out", tmp_path / "out")[0] == 0
        assert {path.name for path in (tmp_path / "out").iterdir()} == before
        assert rows(tmp_path / "out") == table


def test_a_photo_that_is_named_twice_is_read_once(save_eye: Save, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    a, b = save_eye(tmp_path / "in" / "a.jpg"), save_eye(tmp_path / "in" / "b.jpg")
    monkeypatch.chdir(tmp_path)
    assert find_photos([b, "in", tmp_path / "in", a, "in/../in/a.jpg"]) == [b, Path("in/a.jpg")]
    assert find_photos(["gone.jpg", tmp_path / "gone.jpg", "a\0b.jpg", "a\0b.jpg"]) == [
        Path("gone.jpg"),
        Path("a\0b.jpg"),
    ]


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
def test_links_within_a_folder_are_photos_of_their_own(save_eye: Save, tmp_path: Path):
    a = save_eye(tmp_path / "in" / "a.jpg")
    (tmp_path / "in" / "b.jpg").symlink_to(a)
    assert find_photos([tmp_path / "in", a]) == [a, tmp_path / "in" / "b.jpg"]


def test_the_summary_of_earlier_runs_is_kept_and_brought_up_to_date(
    command: Command, tiny: Path, make_model: Callable[..., Path], save_eye: Save, tmp_path: Path
):
    a, b, c, d = (save_eye(tmp_path / f"{name}.jpg", 360 + 10 * i) for i, name in enumerate("abcd"))
    out, other = tmp_path / "out", make_model(tmp_path / "other.onnx", seed=1)
    assert command("predict", a, b, "--model", tiny, "--out", out)[0] == 0
    first = rows(out)
    assert command("predict", c, d, "--model", tiny, "--out", out)[0] == 0
    assert [row["folder"] for row in rows(out)] == ["a", "b", "c", "d"]
    assert rows(out)[:2] == first
    before = rows(out)
    assert command("predict", b, "--model", other, "--out", out)[0] == 0
    after, found = rows(out), json.loads((out / "b" / "findings.json").read_text("utf-8"))
    assert [new == old for new, old in zip(after, before, strict=True)] == [True, False, True, True]
    assert after[1]["p0"] == str(found["probabilities"][0])
    assert command("predict", save_eye(tmp_path / "e.jpg"), "--model", tiny, "--out", out)[0] == 0
    assert [row["folder"] for row in rows(out)] == ["a", "b", "c", "d", "e"]


def test_one_photo_leaves_a_table_of_somebody_else_alone(command: Command, tiny: Path, save_eye: Save, tmp_path: Path):
    theirs = tmp_path / "out" / "summary.csv"
    theirs.parent.mkdir()
    theirs.write_text("photo,my remarks\n")
    code, _, err = command("predict", save_eye(tmp_path / "a.jpg"), "--model", tiny, "--out", tmp_path / "out")
    assert (code, err) == (0, "")
    assert theirs.read_text() == "photo,my remarks\n"


def test_foreign_files_are_never_replaced(command: Command, tiny: Path, save_eye: Save, tmp_path: Path):
    photos = [save_eye(tmp_path / name) for name in ("a.jpg", "b.jpg")]
    thesis = tmp_path / "out" / "a" / "thesis.docx"
    thesis.parent.mkdir(parents=True)
    thesis.write_text("years of work")
    code, out, err = command("predict", *photos, "--model", tiny, "--out", tmp_path / "out", "--json")
    assert code == 1
    assert "thesis.docx" in err
    assert len(err.splitlines()) == 1
    assert thesis.read_text() == "years of work"
    assert [(row["error"], row["folder"]) for row in rows(tmp_path / "out")] == [("E_CONFIG", ""), ("", "b")]
    unwritten, written = objects(out)
    assert unwritten["error"]["code"] == "E_CONFIG"
    assert "thesis.docx" in unwritten["error"]["says"]
    assert unwritten["predicted_grade"] is not None
    assert "error" not in written


def test_a_full_disk_ends_the_run_in_one_line(
    command: Command, tiny: Path, save_eye: Save, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("funduscope.report.write.save", full)
    photos = [save_eye(tmp_path / name) for name in ("a.jpg", "b.jpg")]
    code, out, err = command("predict", *photos, "--model", tiny, "--out", tmp_path / "out")
    assert (code, out) == (1, "")
    assert err.startswith("funduscope: the disk is full: free some space")


def test_an_interruption_is_one_line_and_keeps_what_was_done(
    command: Command, tiny: Path, save_eye: Save, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from funduscope.inference.predictor import Predictor

    answer = Predictor.__call__

    def stops(self: Predictor, photo: object):
        if photo.name == "b.jpg":  # type: ignore[attr-defined]
            raise KeyboardInterrupt
        return answer(self, photo)

    monkeypatch.setattr(Predictor, "__call__", stops)
    photos = [save_eye(tmp_path / name) for name in ("a.jpg", "b.jpg", "c.jpg")]
    code, _, err = command("predict", *photos, "--model", tiny, "--out", tmp_path / "out")
    assert code == 130
    assert err.strip() == "funduscope: interrupted"
    assert [row["photo"] for row in rows(tmp_path / "out")] == ["a.jpg"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_termination_ends_like_an_interruption(
    command: Command,
    tiny: Path,
    save_eye: Save,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: signal.Signals,
):
    from funduscope.inference.predictor import Predictor

    answer = Predictor.__call__

    def is_ended(self: Predictor, photo: object):
        if photo.name == "b.jpg":  # type: ignore[attr-defined]
            signal.raise_signal(number)
        return answer(self, photo)

    monkeypatch.setattr(Predictor, "__call__", is_ended)
    photos = [save_eye(tmp_path / name) for name in ("a.jpg", "b.jpg")]
    before = signal.signal(number, signal.SIG_DFL)  # the tests themselves may run under nohup
    try:
        code, _, err = command("predict", *photos, "--model", tiny, "--out", tmp_path / "out")
        assert signal.getsignal(number) == signal.SIG_DFL
    finally:
        signal.signal(number, before)
    assert (code, err.strip()) == (130, "funduscope: interrupted")
    assert [row["photo"] for row in rows(tmp_path / "out")] == ["a.jpg"]


def test_what_a_killed_run_left_is_removed_after_a_day(command: Command, tiny: Path, save_eye: Save, tmp_path: Path):
    """It holds results of a patient; a run that is still writing keeps its own."""
    out, photo = tmp_path / "out", save_eye(tmp_path / "a.jpg")
    old, new, other = (out / name for name in (".p0019.0123abcd.partial", ".p0020.0123abcd.partial", ".mine.partial"))
    for folder in (old, new, other):
        folder.mkdir(parents=True)
    for folder in (old, other):
        os.utime(folder, (0, 0))
    assert command("predict", photo, "--model", tiny, "--out", out)[0] == 0
    assert (old.exists(), new.exists(), other.exists()) == (False, True, True)


def test_who_reads_one_line_and_goes_costs_no_summary(
    command: Command, tiny: Path, save_eye: Save, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def closed(*_: object, **__: object) -> None:
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    monkeypatch.setattr("funduscope.cli.predict_photos.print", closed, raising=False)
    photos = [save_eye(tmp_path / name) for name in ("a.jpg", "b.jpg")]
    with suppress(SystemExit):  # typer's own way with it
        command("predict", *photos, "--model", tiny, "--json", "--out", tmp_path / "out")
    assert [row["photo"] for row in rows(tmp_path / "out")] == ["a.jpg"]


@pytest.mark.parametrize("name", ["summary.csv", "summary.pdf"])
def test_a_summary_of_somebody_else_is_never_replaced(
    command: Command, tiny: Path, save_eye: Save, tmp_path: Path, name: str
):
    if name.endswith("pdf"):
        pytest.importorskip("uharfbuzz", reason="PDF needs the extra `report`")
    photos = [save_eye(tmp_path / "in" / one) for one in ("a.jpg", "b.jpg")]
    theirs = tmp_path / "out" / name
    theirs.parent.mkdir()
    theirs.write_text("photo,my remarks\na.jpg,look again\n")
    options = ("--pdf",) if name.endswith("pdf") else ()
    code, _, err = command("predict", *photos, "--model", tiny, "--out", tmp_path / "out", *options)
    assert code == 1
    assert name in err
    assert "choose another folder" in err
    assert theirs.read_text() == "photo,my remarks\na.jpg,look again\n"
    assert [path.name for path in (tmp_path / "out").iterdir()] == [name]
    theirs.unlink()
    for _ in range(2):  # its own are replaced
        assert command("predict", *photos, "--model", tiny, "--out", tmp_path / "out", *options)[0] == 0


def test_an_empty_argument_is_no_folder(command: Command, save_eye: Save, tmp_path: Path, tiny: Path):
    photo = save_eye(tmp_path / "eye.jpg")
    for arguments in (("",), (photo, "--out", ""), (photo, "--out=")):
        code, out, err = command("predict", *arguments, "--model", tiny)
        assert (code, out) == (2, "")
        assert "is empty" in err


@pytest.mark.parametrize("option", [
    "--probabilities", "--full-size", "--explain", "--palette=safe", "--language=de"
])  # fmt: skip
def test_what_is_drawn_needs_a_place(command: Command, tiny: Path, save_eye: Save, tmp_path: Path, option: str):
    code, out, err = command("predict", save_eye(tmp_path / "eye.jpg"), "--model", tiny, "--json", option)
    assert (code, out) == (2, "")
    assert "--out" in err


def test_a_folder_made_for_nothing_goes_again(command: Command, tiny: Path, tmp_path: Path):
    assert command("predict", tmp_path / "no.jpg", "--model", tiny, "--out", tmp_path / "new")[0] == 1
    assert not (tmp_path / "new").exists()
    (tmp_path / "old").mkdir()
    assert command("predict", tmp_path / "no.jpg", "--model", tiny, "--out", tmp_path / "old")[0] == 1
    assert (tmp_path / "old").is_dir()


@pytest.mark.skipif(os.name == "nt", reason="such names cannot be made there")
def test_a_model_may_lie_at_a_path_that_is_not_unicode(command: Command, tiny: Path, save_eye: Save, tmp_path: Path):
    model = tmp_path / os.fsdecode(b"\xff.onnx")
    model.write_bytes(tiny.read_bytes())
    assert command("predict", save_eye(tmp_path / "eye.jpg"), "--model", model, "--json")[0] == 0


def test_threads_beyond_measure_are_wrong_use(command: Command, tiny: Path, save_eye: Save, tmp_path: Path):
    photo = save_eye(tmp_path / "eye.jpg")
    code, _, err = command("predict", photo, "--model", tiny, "--json", "--threads", 99_999_999_999)
    assert code == 2
    assert "256" in err


def test_debug_may_be_said_twice(command: Command, tmp_path: Path):
    code, _, err = command("--debug", "recipes", "--debug")
    assert (code, err) == (0, "")


def test_without_out_a_folder_named_after_the_time(
    command: Command, tiny: Path, save_eye: Save, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    save_eye(tmp_path / "eye.jpg")
    assert command("predict", "eye.jpg", "--model", tiny)[0] == 0
    (folder,) = tmp_path.glob("funduscope-*")
    datetime.strptime(folder.name, "funduscope-%Y%m%d-%H%M%S")
    assert (folder / "eye" / "report.html").is_file()
    now = datetime(2026, 1, 2, 3, 4, 5)
    names = [new_folder(now, tmp_path).name for _ in range(2)]
    assert names == ["funduscope-20260102-030405", "funduscope-20260102-030405-2"]
    (tmp_path / "bad.jpg").write_bytes(b"x")
    before = set(tmp_path.iterdir())
    assert command("predict", "bad.jpg", "--model", tiny)[0] == 1
    assert set(tmp_path.iterdir()) == before


def test_several_models_answer_as_one(
    command: Command, tiny: Path, make_model: Callable[..., Path], save_eye: Save, tmp_path: Path
):
    photo, other = save_eye(tmp_path / "eye.jpg"), make_model(tmp_path / "other.onnx", seed=1)
    each = [objects(command("predict", photo, "--model", model, "--json")[1])[0] for model in (tiny, other)]
    code, out, _ = command("predict", photo, "--model", tiny, "--model", other, "--json")
    assert code == 0
    mean = np.mean([one["probabilities"] for one in each], axis=0)
    np.testing.assert_allclose(objects(out)[0]["probabilities"], mean, atol=1e-4)


def test_models_that_look_otherwise_answer_together(
    command: Command, tiny: Path, make_model: Callable[..., Path], save_eye: Save, tmp_path: Path
):
    other = make_model(tmp_path / "other.onnx", replace(load(tiny).card, close_px=192, name="wide"))
    code, out, err = command("predict", save_eye(tmp_path / "eye.jpg"), "--model", tiny, "--model", other, "--json")
    assert (code, err) == (0, "")
    assert objects(out)[0]["model"]["name"].endswith("+ wide")


def test_demo(command: Command, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    for _ in range(2):  # the second run replaces the first one's results
        code, out, err = command("demo", "--model", tiny)
        assert (code, err) == (0, "")
        first, second = out.splitlines()
        assert first.startswith("hrf_07_dr.jpg: ")
        assert second == f"Open {tmp_path / 'funduscope-demo' / 'hrf_07_dr' / 'report.html'}"
    assert [path.name for path in (tmp_path / "funduscope-demo").iterdir()] == ["hrf_07_dr"]


def test_a_second_run_reads_only_what_is_new_or_changed(command: Command, tiny: Path, save_eye: Save, tmp_path: Path):
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(3):
        save_eye(photos / f"eye{number}.png", width=360 + 2 * number)
    arguments = ("predict", photos, "--model", tiny, "--out", tmp_path / "out")
    first = command(*arguments)[1].splitlines()
    assert first[-2] == "3 of 3 photos read."
    assert [line.split(":")[0] for line in first[:3]] == [str(photos / f"eye{number}.png") for number in range(3)]
    before = {path: path.stat().st_mtime_ns for path in sorted((tmp_path / "out").glob("*/findings.json"))}
    table = (tmp_path / "out" / "summary.csv").read_bytes()

    second = command(*arguments)[1].splitlines()
    assert second[:3] == first[:3]
    assert second[-2] == "0 of 3 photos read, 3 unchanged and not read again (--again reads all)."
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert (tmp_path / "out" / "summary.csv").read_bytes() == table

    save_eye(photos / "eye1.png", width=380)  # changed
    save_eye(photos / "eye3.png", width=382)  # new
    assert "2 of 4 photos read, 2 unchanged" in command(*arguments)[1]
    assert "4 of 4 photos read." in command(*arguments, "--palette", "safe")[1], "other settings"
    assert "4 of 4 photos read." in command(*arguments, "--palette", "safe", "--again")[1]
    (tmp_path / "out" / "eye0" / "report.html").unlink()
    assert "1 of 4 photos read, 3 unchanged" in command(*arguments, "--palette", "safe")[1], "a file was removed"
    assert (tmp_path / "out" / "eye0" / "report.html").is_file()


DAMAGE: dict[str, Callable[[Path], object]] = {
    "findings cut": lambda place: os.truncate(place / "findings.json", 100),
    "findings without a key": lambda place: changed_findings(place, gradable=None),
    "findings changed": lambda place: changed_findings(place, predicted_grade=4),
    "findings gone": lambda place: (place / "findings.json").unlink(),
    "settings damaged": lambda place: (place / "settings.json").write_text("x"),
    "report emptied": lambda place: (place / "report.html").write_text(""),
}


def changed_findings(place: Path, **changes: object) -> None:
    """Writes other values into a photo's findings; None takes a key out."""
    found = json.loads((place / "findings.json").read_bytes()) | changes
    (place / "findings.json").write_text(json.dumps({name: one for name, one in found.items() if one is not None}))


@pytest.mark.parametrize("what", DAMAGE)
def test_results_that_were_damaged_are_made_again_in_their_place(
    what: str, command: Command, tiny: Path, save_eye: Save, tmp_path: Path
):
    photos = [save_eye(tmp_path / name) for name in ("a.png", "b.png")]
    out = tmp_path / "out"
    command("predict", *photos, "--model", tiny, "--out", out)
    whole = {path.relative_to(out): path.read_bytes() for path in out.rglob("*") if path.is_file()}
    DAMAGE[what](out / "a")
    code, said, _ = command("predict", *photos, "--model", tiny, "--out", out)
    assert code == 0
    assert "1 of 2 photos read, 1 unchanged" in said
    assert {path.relative_to(out): path.read_bytes() for path in out.rglob("*") if path.is_file()} == whole


def test_a_report_is_made_again_once_the_model_has_other_figures(
    command: Command, tiny: Path, save_eye: Save, tmp_path: Path
):
    photo, out = save_eye(tmp_path / "eye.png", width=360), tmp_path / "out"
    assert command("predict", photo, "--model", tiny, "--out", out)[0] == 0
    sha256 = json.loads((out / "eye" / "findings.json").read_text("utf-8"))["model"]["sha256"]
    assert earlier_results(places_in(out), sha256, OutputOptions())(photo) is not None
    assert earlier_results(places_in(out), sha256, OutputOptions(), [["kappa", 0.8]])(photo) is None


def test_a_photo_that_was_moved_and_then_taken_again_leaves_no_earlier_answer(
    command: Command, tiny: Path, save_eye: Save, tmp_path: Path
):
    out, before, after = tmp_path / "out", tmp_path / "a", tmp_path / "b"
    save_eye(before / "eye.png", width=360)
    save_eye(before / "other.png", width=364)
    assert command("predict", before, "--model", tiny, "--out", out)[0] == 0
    before.rename(after)
    assert "2 unchanged" in command("predict", after, "--model", tiny, "--out", out)[1]
    save_eye(after / "eye.png", width=380)
    assert "1 of 2 photos read, 1 unchanged" in command("predict", after, "--model", tiny, "--out", out)[1]
    assert sorted(row["folder"] for row in rows(out)) == ["eye", "other"]
    assert json.loads((out / "eye" / "findings.json").read_text("utf-8"))["photo"]["width"] == 380


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such terminal")
def test_lines_for_a_file_do_not_go_to_the_terminal_of_the_progress(tiny: Path, save_eye: Save, tmp_path: Path):
    import pty

    photos = [str(save_eye(tmp_path / f"{number}.png", width=360 + 2 * number)) for number in range(2)]
    arguments = [sys.executable, "-m", "funduscope", "predict", *photos, "--model", str(tiny)]
    ours, theirs = pty.openpty()
    with (tmp_path / "lines.txt").open("wb") as file:
        run = subprocess.Popen([*arguments, "--out", str(tmp_path / "out")], stdout=file, stderr=theirs)
        os.close(theirs)
        with suppress(OSError):  # Linux says so at the end
            while os.read(ours, 65536):
                pass
        assert run.wait() == 0
    os.close(ours)
    lines = (tmp_path / "lines.txt").read_text("utf-8").splitlines()
    assert [line.partition(":")[0] for line in lines[:2]] == photos


def test_without_stderr_photos_are_read_and_errors_do_not_come_between_the_answers(
    tiny: Path, save_eye: Save, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    from funduscope.cli.main import main

    photo = save_eye(tmp_path / "eye.png", width=360)
    monkeypatch.setattr(sys, "stderr", None)
    arguments = ["predict", str(photo), str(tmp_path / "none.jpg"), "--model", str(tiny), "--json"]
    assert main(arguments) == 1
    monkeypatch.setattr(sys, "stderr", sys.__stderr__)
    assert [one["photo"]["name"] for one in objects(capsys.readouterr().out)] == ["eye.png", "none.jpg"]


def test_a_photo_that_was_taken_again_keeps_its_folder_and_its_row(
    command: Command, tiny: Path, save_eye: Save, tmp_path: Path
):
    """Its file is another one each time; a photo of the same name elsewhere keeps its own."""
    out, photos = tmp_path / "out", [tmp_path / name / "eye.png" for name in "ab"]
    for width in (360, 370, 380):
        save_eye(photos[0], width=width)
        save_eye(photos[1], width=400)
        assert command("predict", *photos, "--model", tiny, "--out", out)[0] == 0
        found = {
            row["path"]: json.loads((out / row["folder"] / "findings.json").read_text("utf-8")) for row in rows(out)
        }
        assert {path: one["photo"]["width"] for path, one in found.items()} == {
            str(photos[0]): width,
            str(photos[1]): 400,
        }
        assert len(list(out.glob("*/findings.json"))) == 2
    assert "2 unchanged" in command("predict", *photos, "--model", tiny, "--out", out)[1]


def test_copies_of_a_photo_keep_apart_and_a_moved_folder_is_known_again(
    command: Command, tiny: Path, save_eye: Save, tmp_path: Path
):
    out, photos = tmp_path / "out", [save_eye(tmp_path / name / "eye.png") for name in ("in/a", "in/b")]
    for said in ("2 of 2 photos read.", "2 unchanged", "2 unchanged"):
        assert said in command("predict", *photos, "--model", tiny, "--out", out)[1]
        assert [row["path"] for row in rows(out)] == list(map(str, photos))
        assert len({row["folder"] for row in rows(out)}) == 2
    moved = photos[0].parent.parent.rename(tmp_path / "moved")
    assert (
        "1 unchanged" in command("predict", moved / "a", save_eye(tmp_path / "c.png"), "--model", tiny, "--out", out)[1]
    )
    assert len(rows(out)) == 3


def test_results_of_another_model_are_made_again(command: Command, tiny: Path, save_eye: Save, tmp_path: Path):
    photo = save_eye(tmp_path / "eye.png")
    arguments = ("predict", photo, "--out", tmp_path / "out", "--model")
    command(*arguments, tiny)
    other = tmp_path / "other.onnx"
    model = onnx.load(tiny)
    model.doc_string = "another file"
    onnx.save(model, other)
    command(*arguments, other)
    found = json.loads((tmp_path / "out" / "eye" / "findings.json").read_bytes())
    assert found["model"]["sha256"] == load(other).sha256 != load(tiny).sha256


def test_a_pipe_or_a_file_too_large_is_refused_at_once(command: Command, tiny: Path, save_eye: Save, tmp_path: Path):
    """A pipe would wait for its writer, and a device never ends: neither is looked for among earlier results."""
    os.mkfifo(tmp_path / "pipe.jpg")
    with (tmp_path / "large.tif").open("wb") as file:
        file.truncate(30_000_000_000)
    save_eye(tmp_path / "eye.png")
    photos = [tmp_path / name for name in ("pipe.jpg", "large.tif", "eye.png")]
    code, out, err = command("predict", *photos, "--model", tiny, "--out", tmp_path / "out")
    assert code == 1
    assert "1 of 3 photos read, 2 failed" in out
    assert "E_NOT_FOUND" in err
    assert "E_TOO_LARGE" in err


def test_a_photo_of_a_new_name_is_read_again(command: Command, tiny: Path, save_eye: Save, tmp_path: Path):
    photo = save_eye(tmp_path / "eye.png")
    arguments = ("--model", tiny, "--out", tmp_path / "out")
    command("predict", photo, *arguments)
    command("predict", photo.rename(tmp_path / "eye.PNG"), *arguments)
    assert json.loads((tmp_path / "out" / "eye" / "findings.json").read_bytes())["photo"]["name"] == "eye.PNG"
