"""A batch reads every photo once, whatever ends it, and its tables hold what findings.json says."""

from __future__ import annotations

import csv
import errno
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
import zipfile
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow.parquet as pq
import pytest
from PIL import Image

from funduscope.batch.photo_list import FolderPhotos, open_list
from funduscope.batch.reader import ReadingSettings, run_reader
from funduscope.batch.readers import _answering, read_all
from funduscope.batch.results import Result
from funduscope.batch.run import BatchProgress, _check_model, run_batch
from funduscope.batch.store import Store
from funduscope.i18n.errors import CodedError
from funduscope.inference.loading import load
from funduscope.report.write import to_json
from funduscope.testing.drawn_eyes import draw_eye

TABLES = "findings.parquet", "lesions.parquet", "patients.parquet", "patients.csv", "failures.csv", "batch.html"


def tables(out: Path) -> dict[str, bytes]:
    return {name: (out / name).read_bytes() for name in TABLES}


@pytest.fixture(scope="module")
def undisturbed(eyes: Path, reading: ReadingSettings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results of a batch that nothing disturbed."""
    out = tmp_path_factory.mktemp("undisturbed") / "out"
    run_batch(eyes, out, reading, processes=2)
    return out


def test_every_photo_has_its_row(undisturbed: Path, eyes: Path, reading: ReadingSettings) -> None:
    rows = pq.read_table(undisturbed / "findings.parquet").to_pylist()
    assert [row["place"] for row in rows] == [f"first/eye{n}.png" for n in range(3)] + [
        f"second/eye{n}.png" for n in (3, 4)
    ]
    model = load(reading.model[0])
    for row in rows:
        found = model(eyes / row["place"], force=True).to_dict()
        assert row["grade"] == found["predicted_grade"]
        assert [row[f"p{grade}"] for grade in range(5)] == found["probabilities"]
        assert row["sha256"] == found["photo"]["sha256"]
        assert row["EX_area_px"] == found["lesions"]["EX"]["area_px"]
        assert row["warnings"].split() == [warning["code"] for warning in found["warnings"]]
        assert 0 < row["brightness"] < 255
    lesions = pq.read_table(undisturbed / "lesions.parquet").to_pylist()
    first = [one for one in lesions if one["place"] == "first/eye0.png" and one["kind"] == "EX"]
    objects = model(eyes / "first" / "eye0.png", force=True).to_dict()["lesions"]["EX"]["objects"]
    assert [(one["x_px"], one["y_px"], one["area_px"]) for one in first] == [
        (each["x_px"], each["y_px"], each["area_px"]) for each in objects
    ]


def test_counts_add_up_and_what_failed_is_named(undisturbed: Path) -> None:
    run = json.loads((undisturbed / "run.json").read_text())
    assert run["photos"] == {"given": 6, "read": 5, "refused": 0, "failed": 1}
    assert run["model"]["sha256"] == run["settings"]["model_sha256"]
    assert {"funduscope", "python", "onnxruntime"} <= run["versions"].keys()
    with (undisturbed / "failures.csv").open() as file:
        assert [(row["place"], row["code"]) for row in csv.DictReader(file)] == [("second/no-photo.jpg", "E_FORMAT")]


def test_columns_have_types_and_units(undisturbed: Path) -> None:
    schema = pq.read_schema(undisturbed / "findings.parquet")
    assert schema.field("width_px").metadata == {b"unit": b"pixels of the upright photo"}
    assert [str(schema.field(name).type) for name in ("grade", "confidence", "refer", "urgency")] == [
        *("int64", "double", "bool", "string")
    ]


def test_run_again_nothing_is_read_and_nothing_changes(
    undisturbed: Path, eyes: Path, reading: ReadingSettings, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(undisturbed, out)
    seen = []
    run_batch(eyes, out, reading, progress=seen.append)
    assert not seen
    assert tables(out) == tables(undisturbed)


def test_changed_new_and_removed_photos(
    undisturbed: Path, eyes: Path, reading: ReadingSettings, tmp_path: Path
) -> None:
    source, out = tmp_path / "eyes", tmp_path / "out"
    shutil.copytree(eyes, source)
    shutil.copytree(undisturbed, out)
    Image.fromarray(draw_eye(20, width_px=430).pixels).save(source / "first" / "eye1.png")
    Image.fromarray(draw_eye(21, width_px=420).pixels).save(source / "new.png")
    (source / "second" / "eye4.png").unlink()
    seen = []
    run_batch(source, out, reading, progress=seen.append)
    assert seen[-1].done == seen[-1].total == 2
    rows = {row["place"]: row for row in pq.read_table(out / "findings.parquet").to_pylist()}
    assert sorted(rows) == ["first/eye0.png", "first/eye1.png", "first/eye2.png", "new.png", "second/eye3.png"]
    assert rows["first/eye1.png"]["width_px"] == 430


def test_a_batch_is_not_replaced_by_one_of_other_photos(
    undisturbed: Path, eyes: Path, reading: ReadingSettings, tmp_path: Path
) -> None:
    out = Path(shutil.copytree(undisturbed, tmp_path / "out"))
    (tmp_path / "other").mkdir()
    shutil.copy(eyes / "first" / "eye0.png", tmp_path / "other" / "another.png")
    before = (out / "findings.parquet").read_bytes()
    with pytest.raises(CodedError, match="some are gone, none is as it was: name another folder") as caught:
        run_batch(tmp_path / "other", out, reading)
    assert caught.value.code == "E_CONFIG"
    assert (out / "findings.parquet").read_bytes() == before
    run_batch(eyes, out, reading)
    assert (out / "findings.parquet").read_bytes() == before


def test_another_model_or_setting_is_refused(undisturbed: Path, eyes: Path, reading: ReadingSettings) -> None:
    with pytest.raises(CodedError, match=r"force was true, now false"):
        run_batch(eyes, undisturbed, replace(reading, force=False))
    with pytest.raises(CodedError, match=r'model was "tiny .*, now "fast .*name another folder'):
        run_batch(eyes, undisturbed, replace(reading, model=("fast",)))


@pytest.mark.parametrize("column", ["grade", "kind", "patient"])
def test_a_column_that_the_tables_have_is_refused_before_anything_is_read(
    eyes: Path, reading: ReadingSettings, tmp_path: Path, column: str
) -> None:
    (tmp_path / "year.csv").write_text(f"path,{column}\n{eyes}/first/eye0.png,x\n")
    with pytest.raises(CodedError, match=f"--column {column}: the tables have"):
        run_batch(tmp_path / "year.csv", tmp_path / "out", reading, columns=[column])
    assert not (tmp_path / "out").exists()


def test_a_column_files_is_refused_where_the_tables_get_one(
    eyes: Path, reading: ReadingSettings, tmp_path: Path
) -> None:
    (tmp_path / "year.csv").write_text(f"path,files\n{eyes}/first/eye0.png,seven\n")
    with pytest.raises(CodedError, match="--column files: the tables have"):
        run_batch(
            tmp_path / "year.csv", tmp_path / "out", replace(reading, files=tmp_path / "files"), columns=["files"]
        )
    assert not (tmp_path / "out").exists()
    run_batch(tmp_path / "year.csv", tmp_path / "out", reading, columns=["files"])
    assert pq.read_table(tmp_path / "out" / "findings.parquet").to_pylist()[0]["files"] == "seven"


def test_a_table_s_column_is_copied_where_it_is_named(eyes: Path, reading: ReadingSettings, tmp_path: Path) -> None:
    (tmp_path / "year.csv").write_text(f"path,clinic,ward\n{eyes}/first/eye0.png,north,seven\n")
    run_batch(tmp_path / "year.csv", tmp_path / "out", reading, columns=["clinic"])
    for name in ("findings.parquet", "lesions.parquet"):
        row = pq.read_table(tmp_path / "out" / name).to_pylist()[0]
        assert row["clinic"] == "north"
        assert "ward" not in row


def test_two_at_once_end_in_the_same_tables(
    undisturbed: Path, eyes: Path, reading: ReadingSettings, tmp_path: Path
) -> None:
    """The second begins and ends while the first reads; each reads every photo that no shard has yet."""
    photos_of_second = []

    def begin_second(now: BatchProgress) -> None:
        if now.done == 1:
            run_batch(eyes, tmp_path, reading, progress=lambda now: photos_of_second.append(now.total))

    run_batch(eyes, tmp_path, reading, progress=begin_second)
    assert len(photos_of_second) == 6
    assert tables(tmp_path) == tables(undisturbed)
    run_batch(eyes, tmp_path, reading, progress=lambda _: pytest.fail("a photo is read a third time"))
    assert tables(tmp_path) == tables(undisturbed)


@pytest.mark.parametrize("processes", [1, 2])
def test_files_are_written_where_asked_with_the_bytes_of_any_other_entry(
    eyes: Path, reading: ReadingSettings, tmp_path: Path, processes: int
) -> None:
    run_batch(eyes / "first", tmp_path / "out", replace(reading, files=tmp_path / "out" / "files"), processes=processes)
    rows = pq.read_table(tmp_path / "out" / "findings.parquet").to_pylist()
    written = {row["photo"][:4]: (tmp_path / "out" / row["files"] / "findings.json").read_bytes() for row in rows}
    page = (tmp_path / "out" / "batch.html").read_text()
    assert all(f'href="{row["files"]}/report.html"' in page for row in rows)
    model = load(reading.model[0])
    assert written == {
        path.stem: to_json(model(path, force=True).to_dict()) for path in sorted((eyes / "first").glob("*.png"))
    }
    assert len(written) == 3


def test_files_of_a_photo_that_is_gone_go_with_it(eyes: Path, reading: ReadingSettings, tmp_path: Path) -> None:
    """Also what a killed process left half written; but nothing that is not of this program."""
    source, out = tmp_path / "eyes", tmp_path / "out"
    shutil.copytree(eyes / "first", source)
    written = replace(reading, files=out / "files")
    run_batch(source, out, written)
    of = {row["place"]: out / row["files"] for row in pq.read_table(out / "findings.parquet").to_pylist()}
    unfinished = of["eye0.png"].parent / ".eye0.0123abcd.partial"
    unfinished.mkdir()
    os.utime(unfinished, (0, 0))
    (of["eye1.png"].parent / "notes").mkdir()
    (source / "eye0.png").unlink()
    (source / "eye1.png").write_bytes(b"no photo")
    run_batch(source, out, written)
    assert {place: folder.exists() for place, folder in of.items()} == {
        "eye0.png": False,
        "eye1.png": False,
        **{place: True for place in of if place == "eye2.png"},
    }
    assert not list((out / "files").glob("*/.*"))
    assert (of["eye1.png"].parent / "notes").is_dir()


def test_files_that_were_removed_are_written_again(eyes: Path, reading: ReadingSettings, tmp_path: Path) -> None:
    out = tmp_path / "out"
    written = replace(reading, files=out / "files")
    run_batch(eyes / "first", out, written)
    of = {row["place"]: out / row["files"] for row in pq.read_table(out / "findings.parquet").to_pylist()}
    shutil.rmtree(of["eye1.png"])
    run = run_batch(eyes / "first", out, written)
    assert run["last_run"]["photos"] == 1, "the others are not read again"
    assert run["photos"] == {"given": 3, "read": 3, "refused": 0, "failed": 0}
    assert all((folder / "report.html").is_file() for folder in of.values())


def test_an_answer_is_kept_whose_files_have_no_place(eyes: Path, reading: ReadingSettings, tmp_path: Path) -> None:
    source, out = tmp_path / "eyes", tmp_path / "out"
    shutil.copytree(eyes / "first", source)
    written = replace(reading, files=out / "files")
    run_batch(source, out, written)
    of = {row["place"]: out / row["files"] for row in pq.read_table(out / "findings.parquet").to_pylist()}
    (of["eye1.png"] / "note.txt").write_text("a person's")
    Image.fromarray(draw_eye(20, width_px=430).pixels).save(source / "eye1.png")
    run = run_batch(source, out, written)
    assert run["photos"] == {"given": 3, "read": 3, "refused": 0, "failed": 0, "without_files": 1}
    rows = {row["place"]: row for row in pq.read_table(out / "findings.parquet").to_pylist()}
    assert (rows["eye1.png"]["width_px"], rows["eye1.png"]["files"]) == (430, None)
    assert "E_CONFIG" in (out / "failures.csv").read_text()
    assert "note.txt" in (out / "failures.csv").read_text()
    (of["eye1.png"] / "note.txt").unlink()
    run_batch(source, out, written)
    rows = {row["place"]: row for row in pq.read_table(out / "findings.parquet").to_pylist()}
    assert out / rows["eye1.png"]["files"] == of["eye1.png"]


def test_a_source_that_goes_away_ends_the_batch_and_no_photo_is_called_failed(
    eyes: Path, reading: ReadingSettings, tmp_path: Path
) -> None:
    source, out = tmp_path / "eyes", tmp_path / "out"
    shutil.copytree(eyes / "first", source)
    with pytest.raises(CodedError, match="not there any more") as caught:
        run_batch(source, out, reading, progress=lambda now: now.done == 1 and shutil.move(source, tmp_path / "away"))
    assert caught.value.code == "E_NOT_FOUND"
    shutil.move(tmp_path / "away", source)
    assert run_batch(source, out, reading)["photos"] == {"given": 3, "read": 3, "refused": 0, "failed": 0}


def test_so_does_the_folder_of_a_table_s_photos(eyes: Path, reading: ReadingSettings, tmp_path: Path) -> None:
    table, disk, out = tmp_path / "year.csv", tmp_path / "disk", tmp_path / "out"
    shutil.copytree(eyes / "first", disk)
    table.write_text("path\n" + "".join(f"disk/{path.name}\n" for path in sorted(disk.iterdir())) + "never/there.png\n")
    with pytest.raises(CodedError, match="disk is not there any more"):
        run_batch(table, out, reading, progress=lambda now: now.done == 1 and shutil.move(disk, tmp_path / "away"))
    with pytest.raises(CodedError, match="is their disk there"):
        run_batch(table, out, reading)
    shutil.move(tmp_path / "away", disk)
    assert run_batch(table, out, reading)["photos"] == {"given": 4, "read": 3, "refused": 0, "failed": 1}


def test_a_process_that_hangs_is_ended_while_others_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("funduscope.batch.readers.MAX_PHOTO_S", 0.0)
    killed = []
    hangs, answers = Answering(()), Answering(())
    hangs.pipe.recv()
    hangs.since = answers.since = 0.0
    hangs.process = answers.process = SimpleNamespace(kill=lambda: killed.append("killed"))
    assert _answering([hangs, answers]) == [answers]  # pyright: ignore[reportArgumentType]
    assert killed == ["killed"]


def test_a_folder_that_may_not_be_opened_is_named_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root may open every one, so the listing is what `find_photos` gives of a closed one."""
    (tmp_path / "closed").mkdir()
    monkeypatch.setattr("funduscope.batch.photo_list.find_photos", lambda folders, also: [folders[0] / "closed"])
    (photo,) = FolderPhotos(tmp_path)
    assert photo.problem is not None
    code, says = photo.problem
    assert (photo.place, photo.version, code) == ("closed", "", "E_NOT_FOUND")
    assert says.startswith("the folder cannot be read")


@pytest.mark.parametrize("deaths", [1, 2])
def test_a_photo_whose_process_dies_is_tried_once_more(
    eyes: Path, reading: ReadingSettings, tmp_path: Path, deaths: int
) -> None:
    left = [deaths]

    def deadly() -> Path:
        if left[0]:
            left[0] -= 1
            for child in multiprocessing.active_children():
                child.kill()
        return eyes / "first" / "eye1.png"

    jobs = [("eye0.png", lambda: eyes / "first" / "eye0.png"), ("eye1.png", deadly)]
    jobs += [("eye2.png", lambda: eyes / "first" / "eye2.png")]
    states = {place: results[0].state for place, results in read_all(jobs, 1, reading)}
    assert states == {"eye0.png": "read", "eye1.png": "read" if deaths == 1 else "failed", "eye2.png": "read"}


def test_a_process_that_dies_while_it_waits_costs_no_photo_a_try(
    eyes: Path, reading: ReadingSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = [(f"eye{n}.png", partial(Path, eyes / "first" / f"eye{n}.png")) for n in range(2)]
    monkeypatch.setattr("funduscope.batch.readers.TRIES", 1)
    states = {}
    for place, results in read_all(jobs, 1, reading):
        states[place] = results[0].state
        for child in multiprocessing.active_children():
            child.kill()
            child.join()
    assert states == {"eye0.png": "read", "eye1.png": "read"}


class Pipe:
    """Gives a process its jobs, and keeps its answers."""

    def __init__(self, *jobs: tuple[str, Path]) -> None:
        self.jobs, self.answers = list(jobs), []

    def recv(self) -> tuple[str, Path]:
        if not self.jobs:
            raise EOFError
        return self.jobs.pop(0)

    def send(self, answer: object) -> None:
        self.answers.append(answer)


@pytest.mark.parametrize(("number", "is_fault"), [(errno.ENOSPC, True), (errno.EROFS, True), (errno.EEXIST, False)])
def test_a_disk_that_refuses_a_photo_s_files_ends_the_batch_and_no_photo_is_called_failed(
    eyes: Path, reading: ReadingSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, is_fault: bool
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("funduscope.batch.reader.save", refuse)
    pipe = Pipe(("eye0.png", eyes / "first" / "eye0.png"))
    run_reader(pipe, replace(reading, files=tmp_path))  # pyright: ignore[reportArgumentType]
    started, answer = pipe.answers
    assert started is None
    assert answer[0] == "E_DISK" if is_fault else (answer[0].state, answer[0].code) == ("read", "E_CONFIG")
    monkeypatch.setattr("funduscope.batch.readers._Reader", lambda _: Answering(("E_DISK", "full")))
    with pytest.raises(CodedError, match="full") as caught:
        list(read_all([("eye0.png", lambda: eyes)], 1, reading))
    assert caught.value.code == "E_DISK"


class Answering:
    """A reader whose process answers its job at once."""

    is_ready, job = True, None
    since, process = 0.0, SimpleNamespace(is_alive=lambda: True)

    def __init__(self, answer: object) -> None:
        self.pipe, self.other = multiprocessing.Pipe()
        self.other.send(answer)

    def give(self, job: tuple[str, object], content: object) -> None:
        self.job = job

    def end(self) -> None:
        self.pipe.close()


def test_what_failed_by_a_fault_of_the_machine_is_read_again(
    undisturbed: Path, eyes: Path, reading: ReadingSettings, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(undisturbed, out)
    settings = json.loads((out / "run.json").read_text())["settings"]
    with closing(Store(out, settings)) as store:
        store.update(open_list(eyes))
        store.put("first/eye1.png", [Result("eye1.png", "failed", "E_MEMORY", "no memory")])
    seen = []
    run_batch(eyes, out, reading, progress=seen.append)
    assert [one.total for one in seen] == [1]
    assert tables(out) == tables(undisturbed)


def test_what_failed_is_read_again_but_not_what_leads_out_of_the_archive(
    eyes: Path, reading: ReadingSettings, tmp_path: Path
) -> None:
    eye = (eyes / "first" / "eye0.png").read_bytes()
    with zipfile.ZipFile(tmp_path / "year.zip", "w") as archive:
        archive.writestr("../evil.png", eye)
        archive.writestr("bad.jpg", b"no photo")
    run_batch(tmp_path / "year.zip", tmp_path / "out", reading)
    failed = (tmp_path / "out" / "failures.csv").read_bytes()
    seen = []
    run = run_batch(tmp_path / "year.zip", tmp_path / "out", reading, retry_failed=True, progress=seen.append)
    assert [one.total for one in seen] == [1]
    assert run["photos"] == {"given": 2, "read": 0, "refused": 0, "failed": 2}
    assert (tmp_path / "out" / "failures.csv").read_bytes() == failed


@pytest.mark.parametrize("name", ["year.zip", "year.tar"])
def test_of_an_archive_that_was_made_anew_only_other_photos_are_read(
    eyes: Path, reading: ReadingSettings, tmp_path: Path, name: str
) -> None:
    def make(*photos: str) -> None:
        if name.endswith("zip"):
            with zipfile.ZipFile(tmp_path / name, "w") as archive:
                for photo in photos:
                    archive.write(eyes / photo, photo)
        else:
            with tarfile.open(tmp_path / name, "w") as archive:
                for photo in photos:
                    archive.add(eyes / photo, photo)

    make("first/eye0.png", "first/eye1.png")
    run_batch(tmp_path / name, tmp_path / "out", reading)
    make("second/eye3.png", "first/eye1.png")
    seen = []
    run = run_batch(tmp_path / name, tmp_path / "out", reading, progress=seen.append)
    assert [one.total for one in seen] == [1]
    assert run["photos"]["given"] == 2
    rows = pq.read_table(tmp_path / "out" / "findings.parquet").to_pylist()
    assert {row["place"] for row in rows} == {"second/eye3.png", "first/eye1.png"}


def test_a_model_that_cannot_be_loaded_ends_the_batch(eyes: Path, reading: ReadingSettings, tmp_path: Path) -> None:
    bad = tmp_path / "bad.onnx"
    bad.write_bytes(b"no model")
    with pytest.raises(CodedError, match="model"):
        list(read_all([("eye", lambda: eyes / "first" / "eye0.png")], 1, replace(reading, model=(bad,))))


def test_killed_it_goes_on_to_the_same_tables(
    undisturbed: Path, eyes: Path, reading: ReadingSettings, tmp_path: Path
) -> None:
    assert killed_and_finished(eyes, tmp_path / "out", reading, moments=(1.2, 2.0)) == tables(undisturbed)


def killed_and_finished(
    eyes: Path, out: Path, reading: ReadingSettings, moments: tuple[float, ...]
) -> dict[str, bytes]:
    """The tables after the command was killed with SIGKILL at each of these seconds, and then left alone."""
    command = [sys.executable, "-m", "funduscope", "batch", str(eyes), "--out", str(out), "--force"]
    command += ["--model", str(reading.model[0]), "--processes", "2"]
    for moment in moments:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(moment)
        process.send_signal(signal.SIGKILL)
        process.wait()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "given" in done.stdout, done.stderr
    return tables(out)


def test_an_answer_of_another_model_ends_the_batch() -> None:
    """Readers load the model themselves, and its file may have been replaced since the batch began."""
    model: Any = SimpleNamespace(sha256="ab")
    results = [Result("eye.jpg", "read", found={"model": {"sha256": sha}}) for sha in ("ab", "cd")]
    _check_model([results[0], Result("text.jpg", "failed", "E_FORMAT")], model)
    with pytest.raises(CodedError, match="was replaced while the batch ran") as caught:
        _check_model(results, model)
    assert caught.value.code == "E_CONFIG"
