"""A scan opens every photo once, continues after it was killed, and survives a photo that kills its process."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from funduscope.doctor.inventory import take_inventory
from funduscope.doctor.record import scan_photo
from funduscope.doctor.scan import Scan, take_scan
from funduscope.duplicates.cache import state_of
from funduscope.i18n.errors import PhotoError
from funduscope.process_pool import run_jobs
from funduscope.testing.drawn_eyes import draw_eye

PHOTOS = 6


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("photos")
    for seed in range(PHOTOS):
        Image.fromarray(draw_eye(seed, width_px=420).pixels).save(place / f"{seed}.jpg")
    (place / "broken.jpg").write_bytes((place / "0.jpg").read_bytes()[:2000])
    return place


def _taken(folder: Path, cache: Path) -> tuple[Scan, list[str]]:
    """A scan in this process, and the names of the photos that it opened."""
    opened: list[str] = []

    def watched(items: Any, _words: str, _total: int | None) -> Iterator[Any]:
        for job, scanned in items:
            opened.append(job[1])
            yield job, scanned

    return take_scan(take_inventory(folder), cache, workers=0, progress=watched), opened


def test_a_fault_of_one_photo_ends_no_scan(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(_framed: object) -> None:
        raise IndexError("a fault")

    monkeypatch.setattr("funduscope.doctor.record.describe", failing)
    assert scan_photo(folder / "0.jpg", "0.jpg").record.error == "E_INTERNAL"


def test_what_the_machine_refuses_is_not_kept_as_the_photos_fault(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr("simplejpeg.decode_jpeg", failing)
    with pytest.raises(PhotoError) as caught:
        scan_photo(folder / "0.jpg", "0.jpg")
    assert caught.value.code == "E_MEMORY"


def test_everything_is_scanned_once(folder: Path, tmp_path: Path) -> None:
    first, opened = _taken(folder, tmp_path)
    assert len(opened) == len(first) == PHOTOS + 1
    assert [record.path for record in first] == ["0.jpg", "1.jpg", "2.jpg", "3.jpg", "4.jpg", "5.jpg", "broken.jpg"]
    again, reopened = _taken(folder, tmp_path)
    assert reopened == []
    assert list(again) == list(first)
    assert [again.thumbnail(record.path) is None for record in again] == [False] * PHOTOS + [True]
    assert sorted(again.descriptors()) == [f"{seed}.jpg" for seed in range(PHOTOS)]
    assert again.descriptors()["3.jpg"].side > 0


def test_what_changed_is_scanned_again(folder: Path, tmp_path: Path) -> None:
    place = tmp_path / "photos"
    place.mkdir()
    for name in ("0.jpg", "1.jpg"):
        (place / name).write_bytes((folder / name).read_bytes())
    _taken(place, tmp_path / "cache")
    (place / "1.jpg").write_bytes((folder / "2.jpg").read_bytes())
    (place / "3.jpg").write_bytes((folder / "3.jpg").read_bytes())
    (place / "0.jpg").unlink()
    scan, opened = _taken(place, tmp_path / "cache")
    assert sorted(opened) == ["1.jpg", "3.jpg"]
    assert [record.path for record in scan] == ["1.jpg", "3.jpg"]
    assert scan.record("0.jpg") is None


def test_processes_see_what_one_process_sees(folder: Path, tmp_path: Path) -> None:
    alone, _ = _taken(folder, tmp_path / "alone")
    crew = take_scan(take_inventory(folder), tmp_path / "crew", workers=2)
    assert list(crew) == list(alone)


def test_a_scan_that_was_killed_goes_on(folder: Path, tmp_path: Path) -> None:
    """Killed after a few photos: their records are kept, the next run scans the rest."""
    script = (
        "import sys, time\nfrom pathlib import Path\n"
        "from funduscope.doctor.inventory import take_inventory\nfrom funduscope.doctor.scan import take_scan\n"
        "def slowly(items, words, total):\n"
        "    for number, item in enumerate(items):\n"
        "        if number == 3:\n            print('three', flush=True)\n            time.sleep(600)\n"
        "        yield item\n"
        "take_scan(take_inventory(Path(sys.argv[1])), Path(sys.argv[2]), 0, slowly)\n"
    )
    command = [sys.executable, "-c", script, str(folder), str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        assert run.stdout.readline().strip() == "three"
        run.send_signal(signal.SIGKILL)
    scan, opened = _taken(folder, tmp_path)
    assert len(opened) == PHOTOS + 1 - 3
    assert len(list(scan)) == PHOTOS + 1


def test_what_older_code_saw_is_scanned_again(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _taken(folder, tmp_path)
    monkeypatch.setattr("funduscope.duplicates.cache.code_version", lambda files: "of other code")
    assert len(_taken(folder, tmp_path)[1]) == PHOTOS + 1


def test_photos_of_damaged_files_are_scanned_again(folder: Path, tmp_path: Path) -> None:
    first, _ = _taken(folder, tmp_path)
    files = sorted(first.cache.folder.iterdir())
    whole = files[0].read_bytes()
    for file, content in zip(files, (b"", b"no zip", whole[: len(whole) // 2], b"\xff" * len(whole)), strict=False):
        file.write_bytes(content)
    again, opened = _taken(folder, tmp_path)
    assert len(opened) == 4
    assert list(again) == list(first)


def test_a_photo_that_is_written_while_it_is_read_is_read_again(folder: Path, tmp_path: Path) -> None:
    scan = Scan(take_inventory(folder), tmp_path / "cache")
    path, name = scan.unscanned()[0]
    whole, before = path.read_bytes(), state_of(path)
    scanned = scan_photo(path, name)
    path.write_bytes(whole + b"\0")
    scan.keep(scanned, before)
    path.write_bytes(whole)
    assert (path, name) in Scan(scan.inventory, tmp_path / "cache").unscanned()


def test_names_that_are_no_text_are_kept(folder: Path, tmp_path: Path) -> None:
    place = tmp_path / "photos"
    place.mkdir()
    odd = os.fsdecode(b"eye\xff 'quoted' \xf0\x9f\x91\x81.jpg")
    (place / odd).write_bytes((folder / "0.jpg").read_bytes())
    scan, _ = _taken(place, tmp_path / "cache")
    assert [record.path for record in scan] == [odd]


@pytest.fixture
def crashes_on_three(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], int]:
    """A function that other processes can import."""
    (tmp_path / "work_that_crashes.py").write_text(
        "import os\ndef work(number):\n    if number == 3:\n        os._exit(9)\n    return 10 * number\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    return importlib.import_module("work_that_crashes").work


def test_a_job_that_ends_its_process_is_given_up_and_no_other(crashes_on_three: Callable[[int], int]) -> None:
    done = dict(run_jobs(crashes_on_three, range(12), workers=2))
    assert done == {number: None if number == 3 else 10 * number for number in range(12)}


def test_few_jobs_are_taken_ahead() -> None:
    """Thousands of photos are not queued at once: memory stays flat."""
    taken = 0

    def jobs() -> Iterator[str]:
        nonlocal taken
        for number in range(1000):
            taken += 1
            yield f"folder/{number}"

    results = run_jobs(os.path.basename, jobs(), workers=1)
    assert len(list(islice(results, 5))) == 5
    assert taken < 20


def test_processes_calculate_in_one_thread_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise as many processes as cores wait for each other; the caller's own setting stays."""
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "3")
    assert list(run_jobs(os.getenv, ["OPENBLAS_NUM_THREADS"], workers=1)) == [("OPENBLAS_NUM_THREADS", "1")]
    assert os.environ["OPENBLAS_NUM_THREADS"] == "3"


def test_processes_end_with_their_parent(folder: Path, tmp_path: Path) -> None:
    """A killed doctor leaves no process behind."""
    script = (
        "import os, sys, time\nfrom funduscope.process_pool import run_jobs\n"
        "results = run_jobs(os.path.basename, ['a'] * 3, 1)\n"
        "import multiprocessing\nnext(results)\n"
        "print(multiprocessing.active_children()[0].pid, flush=True)\ntime.sleep(600)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        child = int(run.stdout.readline())
        os.kill(child, 0)
        run.send_signal(signal.SIGKILL)
    for _ in range(200):
        if not _is_running(child):
            break
        time.sleep(0.05)
    assert not _is_running(child)


def _is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def test_a_photo_whose_process_died_is_scanned_again(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("funduscope.doctor.scan.run_jobs", lambda work, jobs, workers: ((job, None) for job in jobs))
    scan, _ = _taken(folder, tmp_path)
    assert {record.error for record in scan} == {"E_INTERNAL"}
    monkeypatch.undo()
    again, opened = _taken(folder, tmp_path)
    assert len(opened) == PHOTOS + 1
    assert [record.error for record in again][:PHOTOS] == [None] * PHOTOS
