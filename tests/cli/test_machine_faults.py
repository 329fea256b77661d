"""What the machine refuses at any write is one sentence of cause and remedy; nothing half-written stays, and the next
run continues."""

from __future__ import annotations

import builtins
import errno
import fcntl
import io
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.cli.test_full_disk import RECIPE

from funduscope.cli.exit_codes import explain
from funduscope.i18n.errors import CodedError, machine_fault
from funduscope.testing.drawn_eyes import write_idrid

Command = Callable[..., tuple[int, str, str]]
Save = Callable[..., Path]

REMEDIES = {
    errno.ENOSPC: "the disk is full: free some space",
    errno.EIO: "the disk reports a fault (input/output error)",
    errno.EROFS: "the disk can only be read: name a folder that can be written",
}


class Refusing:
    """Opens files for writing under a folder until that many were opened; then each write is refused."""

    def __init__(self, folder: Path, after: int, number: int) -> None:
        self.folder, self.after, self.number, self.opened = folder, after, number, 0
        self._open = io.open

    def __call__(self, file: object, mode: str = "r", *rest: object, **options: object) -> object:
        is_ours = isinstance(file, str | os.PathLike) and Path(file).is_relative_to(self.folder)
        if is_ours and set(mode) & set("wax+"):
            self.opened += 1
            if self.opened > self.after:
                Path(file).touch()  # a full disk still makes the name
                raise OSError(self.number, os.strerror(self.number), os.fspath(file))
        return self._open(file, mode, *rest, **options)  # type: ignore[arg-type]


def _refuse(patch: pytest.MonkeyPatch, folder: Path, after: int, number: int) -> Refusing:
    refusing = Refusing(folder, after, number)
    patch.setattr(io, "open", refusing)
    patch.setattr(builtins, "open", refusing)
    return refusing


def _files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


@pytest.mark.parametrize("number", REMEDIES, ids=lambda number: errno.errorcode[number])
def test_a_refusal_at_any_write_of_predict_is_one_sentence_and_the_next_run_goes_on(
    command: Command, tiny: Path, save_eye: Save, tmp_path: Path, number: int
) -> None:
    photos, out = [save_eye(tmp_path / name) for name in ("a.jpg", "b.jpg")], tmp_path / "out"
    arguments = ["predict", *photos, "--model", tiny, "--out", out, "--probabilities", "--sheet", "--fhir"]
    with pytest.MonkeyPatch.context() as patch:
        writes = _refuse(patch, tmp_path, 10**6, number)
        assert command(*arguments)[0] == 0
    complete = _files(out)
    assert writes.opened > 15, "every file of the results is opened through this hook"
    for after in range(0, writes.opened, 5 if number != errno.ENOSPC else 2):
        subprocess.run(["rm", "-rf", str(out)], check=True)
        with pytest.MonkeyPatch.context() as patch:
            _refuse(patch, tmp_path, after, number)
            code, _, err = command(*arguments)
        assert code == 1, after
        assert err.startswith("funduscope: "), err
        assert REMEDIES[number] in err
        assert len(err.splitlines()) == 1
        left = _files(out) if out.exists() else set()
        assert not [name for name in left if ".partial" in name], after
        whole = {name for name in complete if "/" in name}
        for photo in ("a", "b"):  # a photo's folder is complete, or not there
            own = {name for name in whole if name.startswith(f"{photo}/")}
            assert own & left in (own, set()), after
    assert command(*arguments)[0] == 0
    assert _files(out) == complete


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["folds", "evaluate", "train"])
def test_a_disk_that_fails_in_the_middle_is_one_sentence_and_the_next_run_goes_on(
    command: Command, tiny: Path, tmp_path: Path, verb: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FUNDUSCOPE_CACHE", str(tmp_path / "cache"))
    data, out = tmp_path / "idrid", tmp_path / "out"
    write_idrid(data, graded=5, masked=5, width_px=400)
    (tmp_path / "small.toml").write_text(RECIPE)
    arguments: list[object] = {
        "folds": ["folds", data, "--out", out / "folds.csv"],
        "evaluate": ["evaluate", tiny, "--data", data, "--out", out],
        "train": ["train", tmp_path / "small.toml", "--data", data, "--run", out, "--fold", "0", "--processes", "1"],
    }[verb]
    out.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        writes = _refuse(patch, tmp_path, 10**6, errno.EIO)
        assert command(*arguments)[0] == 0
    complete = _files(out)
    for after in (writes.opened // 2, writes.opened - 1):
        for folder in (out, tmp_path / "cache"):
            shutil.rmtree(folder, ignore_errors=True)
        out.mkdir()
        with pytest.MonkeyPatch.context() as patch:
            _refuse(patch, tmp_path, after, errno.EIO)
            code, _, err = command(*arguments)
        says = [line for line in err.splitlines() if line.startswith("funduscope: ")]
        assert code == 1, (after, err)
        assert len(says) == 1, (after, err)
        assert REMEDIES[errno.EIO] in says[0]
        assert "Traceback" not in err
        assert not [name for name in _files(out) if ".partial" in name], after
        assert command(*arguments)[0] == 0, after
        assert {name for name in _files(out) if "tfevents" not in name} >= {
            name for name in complete if "tfevents" not in name and not name.startswith("kept/")
        }


def test_a_real_limit_of_a_file_s_size_is_one_sentence(tiny: Path, save_eye: Save, tmp_path: Path) -> None:
    """The kernel refuses here, in the middle of a file, and not a test's hook."""
    photo, out = save_eye(tmp_path / "a.jpg", 1500, 1200), tmp_path / "out"

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))

    command = [sys.executable, "-m", "funduscope", "predict", photo, "--model", tiny, "--out", out, "--force"]
    done = subprocess.run(list(map(str, command)), preexec_fn=limit, capture_output=True, text=True, timeout=300)
    assert done.returncode == 1, done.stderr
    assert "a file would be larger than this system allows" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not out.exists() or _files(out) <= {"summary.csv"}


def test_too_little_memory_is_one_sentence(tiny: Path, eye: np.ndarray, tmp_path: Path) -> None:
    """450 MB of data: the model loads, and the arrays of a photo of 70 million pixels do not fit."""
    photo = tmp_path / "a.jpg"
    Image.fromarray(eye).resize((9200, 7600)).save(photo)

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_DATA, (450_000_000, 450_000_000))

    command = [
        sys.executable,
        "-m",
        "funduscope",
        "predict",
        photo,
        "--model",
        tiny,
        "--json",
        "--threads",
        "1",
    ]
    done = subprocess.run(list(map(str, command)), preexec_fn=limit, capture_output=True, text=True, timeout=300)
    assert done.returncode == 1, done.stderr
    assert "this machine has too little free memory" in done.stderr, done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert "report it" not in done.stderr


def _is_work_or_a_sentence(done: subprocess.CompletedProcess[str], words: str) -> None:
    """A run that did its work, or that says in one sentence why not."""
    assert "Traceback" not in done.stderr, done.stderr[-2000:]
    says = [line for line in done.stderr.splitlines() if line.startswith("funduscope: ")]
    if done.returncode:
        assert done.returncode == 1, done.stderr[-2000:]
        assert len(says) == 1, done.stderr[-2000:]
        assert words in says[0]
    else:
        assert not says


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["predict", "batch", "train"])
def test_with_600_mb_it_works_or_says_why(verb: str, tiny: Path, tmp_path: Path) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_DATA, (600_000_000, 600_000_000))

    command = _verb_command(verb, tiny, tmp_path, workers=0)
    done = subprocess.run(command, preexec_fn=limit, capture_output=True, text=True, timeout=900)
    _is_work_or_a_sentence(done, "memory")


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["batch", "train"])
def test_without_shared_memory_it_works_or_says_why(verb: str, tiny: Path, tmp_path: Path) -> None:
    """Loading processes hand batches over by /dev/shm, which is read-only here."""
    inside = 'mount -t tmpfs -o ro tmpfs /dev/shm && exec "$@"'
    command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", inside, "sh"]
    if not shutil.which("unshare") or subprocess.run([*command, "true"], capture_output=True).returncode:
        pytest.skip("this system lets nobody make a namespace of mounts (unshare)")
    command += _verb_command(verb, tiny, tmp_path, workers=1)
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    _is_work_or_a_sentence(done, "/dev/shm")


def _verb_command(verb: str, model: Path, folder: Path, workers: int) -> list[str]:
    """A small piece of work of a verb."""
    data = folder / "idrid"
    write_idrid(data, graded=10, masked=5, width_px=400)
    photos = sorted(data.rglob("*.jpg"))
    (folder / "small.toml").write_text(RECIPE)
    arguments: dict[str, list[object]] = {
        "predict": ["predict", photos[0], "--out", folder / "out", "--model", model],
        "batch": ["batch", photos[0].parent, "--out", folder / "out", "--model", model, "--processes", "1"],
        "train": ["train", folder / "small.toml", "--data", data, "--fold", "0", "--processes", "1"],
    }
    further = ["--run", folder / "run", "--set", f"training.workers={workers}"] if verb == "train" else []
    return [sys.executable, "-m", "funduscope", *map(str, [*arguments[verb], *further])]


def test_one_photo_without_memory_leaves_the_others(
    command: Command, tiny: Path, save_eye: Save, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from funduscope.inference.predictor import Predictor

    answer = Predictor.__call__

    def fails(self: Predictor, photo: object) -> object:
        if photo.name == "a.jpg":  # type: ignore[attr-defined]
            raise MemoryError
        return answer(self, photo)  # type: ignore[arg-type]

    monkeypatch.setattr(Predictor, "__call__", fails)
    photos = [save_eye(tmp_path / name) for name in ("a.jpg", "b.jpg")]
    code, out, err = command("predict", *photos, "--model", tiny, "--json")
    assert code == 1
    assert "E_MEMORY: this machine has too little free memory" in err
    assert '"E_MEMORY"' in out.splitlines()[0]
    assert '"predicted_grade"' in out.splitlines()[1]


class error(Exception):  # noqa: N801, N818 (OpenCV's own is called so)
    """OpenCV's exception by name."""


error.__module__ = "cv2"


@pytest.mark.parametrize(
    ("fault", "code", "words"),
    [
        (MemoryError(), "E_MEMORY", "too little free memory"),
        (error("OpenCV(4.13) alloc.cpp:73: error: (-4:Insufficient memory) Failed"), "E_MEMORY", "too"),
        (RuntimeError("[alloc_cpu.cpp:118] DefaultCPUAllocator: can't allocate memory"), "E_MEMORY", "too"),
        (RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. "), "E_MEMORY", "(often:"),
        (RuntimeError("unable to open shared memory object </torch_1_2> in read-write mode"), "E_MEMORY", "/dev/shm"),
        (FileNotFoundError(errno.ENOENT, "No such file or directory", "/dev/shm/psm_1"), "E_MEMORY", "--shm-size"),
        (OSError(errno.ENOSPC, "No space left on device"), "E_DISK", "full"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "E_DISK", "share of the disk"),
        (RuntimeError("[Errno 28] No space left on device"), "E_DISK", "full"),
        (PermissionError(errno.EACCES, "Permission denied", "/out"), "E_DISK", "may not be written"),
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_each_library_s_way_of_saying_so_is_understood(fault: Exception, code: str, words: str) -> None:
    found = machine_fault(fault)
    assert isinstance(found, CodedError)
    assert found.code == code
    assert words in found.says


@pytest.mark.parametrize(
    "fault", [ValueError("disk full"), OSError("a sentence"), KeyError("memory"), RuntimeError("x")]
)
def test_other_errors_are_no_faults_of_the_machine(fault: Exception) -> None:
    assert machine_fault(fault) is None


@pytest.mark.slow
def test_a_checkpoint_on_a_full_disk_leaves_the_earlier_one(tmp_path: Path) -> None:
    """safetensors writes by itself, so that the kernel's limit stands for the disk."""
    code = f"""
import resource, signal, torch
from pathlib import Path
from funduscope import checkpoint
from funduscope.cli.exit_codes import explain
from funduscope.recipe import Recipe
path, recipe = Path({str(tmp_path / "last.safetensors")!r}), Recipe.load("plain")
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
checkpoint.save(path, recipe, {{"weights": {{"a": torch.zeros(9)}}}}, {{}}, {{"epoch": 1}})
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
try:
    checkpoint.save(path, recipe, {{"weights": {{"a": torch.zeros(9_999)}}}}, {{}}, {{"epoch": 2}})
except Exception as error:
    print(explain(error)[0])
print(checkpoint.load(path).progress["epoch"])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    says, epoch = done.stdout.splitlines()
    assert "a file would be larger than this system allows" in says
    assert epoch == "1"
    assert _files(tmp_path) == {"last.safetensors"}


def test_too_many_open_files_are_a_sentence_with_a_remedy() -> None:
    for number in (errno.EMFILE, errno.ENFILE):
        assert explain(OSError(number, os.strerror(number)))[0].startswith("too many files are open: ask for fewer")


def test_a_disk_without_locks_is_as_good_as_any(
    command: Command, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As network shares and mounted buckets often are."""

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "lockf", refuse)
    monkeypatch.setattr(fcntl, "flock", refuse)
    monkeypatch.setenv("FUNDUSCOPE_CACHE", str(tmp_path / "cache"))
    data, out = tmp_path / "idrid", tmp_path / "out"
    write_idrid(data, graded=2, masked=1, width_px=300)

    for verb in ("doctor", "batch"):
        options = ("--model", tiny, "--processes", 1) if verb == "batch" else ("--workers", 0)
        _, _, err = command(verb, data, "--out", out / verb, *options)
        assert "lock" not in err

    assert (out / "doctor" / "doctor.json").is_file()
    assert (out / "batch" / "findings.parquet").is_file()
