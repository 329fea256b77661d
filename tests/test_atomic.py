"""A file or folder appears whole or not at all."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from funduscope.atomic import (
    DamagedFileError,
    link_or_copy,
    must_be_writable,
    read_json,
    read_lines,
    replacing,
    write_atomically,
)


def _entries(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_replaced_when_the_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    path.write_text("earlier")
    with replacing(path) as unfinished:
        unfinished.write_text("later")
        assert path.read_text() == "earlier"
    assert path.read_text() == "later"
    assert _entries(tmp_path) == ["file.txt"]


def test_an_error_leaves_the_earlier_file_or_folder_and_nothing_else(tmp_path: Path) -> None:
    write_atomically(tmp_path / "file", b"earlier")
    (tmp_path / "folder").mkdir()

    def interrupted(name: str, make: Callable[[Path], None]) -> None:
        with replacing(tmp_path / name) as unfinished:
            make(unfinished)
            raise KeyboardInterrupt

    for name, make in (("file", Path.touch), ("folder", Path.mkdir), ("new", Path.touch)):
        with pytest.raises(KeyboardInterrupt):
            interrupted(name, make)
    assert _entries(tmp_path) == ["file", "folder"]
    assert (tmp_path / "file").read_bytes() == b"earlier"


def test_a_folder_replaces_one_with_other_entries(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    for name in ("first", "second"):
        with replacing(folder, one_writer=True) as unfinished:
            unfinished.mkdir()
            (unfinished / name).touch()
    assert _entries(tmp_path) == ["folder"]
    assert _entries(folder) == ["second"]


def test_one_writer_overwrites_what_a_killed_process_left(tmp_path: Path) -> None:
    with replacing(tmp_path / "a", one_writer=True) as unfinished:
        unfinished.touch()
        left = unfinished
    left.write_text("half")
    with replacing(tmp_path / "a", one_writer=True, fsync=True) as unfinished:
        assert unfinished == left
        assert not left.exists()
        unfinished.write_text("whole")
    assert _entries(tmp_path) == ["a"]
    assert (tmp_path / "a").read_text() == "whole"


def test_writers_of_the_same_name_do_not_meet(tmp_path: Path) -> None:
    with replacing(tmp_path / "a") as one, replacing(tmp_path / "a") as other:
        one.touch()
        other.touch()
        assert one != other


@pytest.mark.parametrize("earlier", [False, True])
def test_a_rename_that_fails_leaves_the_earlier_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, earlier: bool
) -> None:
    folder = tmp_path / "folder"
    if earlier:
        folder.mkdir()
        (folder / "kept").touch()
    before = _entries(tmp_path)

    def fail(unfinished: Path, target: Path) -> Path:
        if unfinished.suffix == ".partial" and target == folder:
            raise OSError("disk full")
        return rename(unfinished, target)

    rename = Path.rename
    monkeypatch.setattr(Path, "rename", fail)
    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="disk full"), replacing(folder) as unfinished:
        unfinished.mkdir()
    assert _entries(tmp_path) == before
    assert not earlier or _entries(folder) == ["kept"]


def test_a_full_disk_is_named_by_the_file_that_found_no_room(tmp_path: Path) -> None:
    def write() -> None:
        with replacing(tmp_path / "a") as unfinished, replacing(unfinished / "masks"):
            raise OSError(errno.ENOSPC, "No space left on device")  # as `write` says it: without a name

    with pytest.raises(OSError, match="No space") as caught:
        write()
    assert caught.value.filename == str(tmp_path / "a" / "masks")


def test_lines_are_read_without_the_unfinished_last_one(tmp_path: Path) -> None:
    (tmp_path / "lines").write_text('{"epoch": 1}\n\n{"epoch": 2}\n{"epo', "utf-8")
    assert read_lines(tmp_path / "lines") == [{"epoch": 1}, {"epoch": 2}]


def test_a_second_name_replaces_an_earlier_file_and_leaves_nothing_else(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(b"new")
    target.write_bytes(b"earlier")
    for _ in range(2):
        link_or_copy(source, target)
        assert target.read_bytes() == b"new"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source", "target"]


def test_without_links_a_file_is_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError("no links here")

    monkeypatch.setattr(os, "link", refuse)
    (tmp_path / "source").write_bytes(b"new")
    link_or_copy(tmp_path / "source", tmp_path / "target")
    assert (tmp_path / "target").read_bytes() == b"new"
    assert len(list(tmp_path.iterdir())) == 2


def test_what_the_disk_refuses_is_called_by_the_name_that_people_know(tmp_path: Path) -> None:
    for inner in ("", "/rows.csv"):
        with pytest.raises(OSError) as caught, replacing(tmp_path / "scores") as unfinished:  # noqa: PT011
            raise OSError(errno.ENOSPC, "No space left on device", f"{unfinished}{inner}")
        assert caught.value.filename == f"{tmp_path / 'scores'}{inner}"


def test_a_damaged_file_is_named_and_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    for text in ('{"fold": 0', "[1]", "\x00"):
        path.write_text(text)
        with pytest.raises(DamagedFileError, match=rf"{path} is damaged \(.*\): restore it from a backup"):
            read_json(path)
    for line in ('{"epo', "5"):
        path.write_text(f'{{"epoch": 1}}\n{line}\n{{"epoch": 3}}\n')
        with pytest.raises(DamagedFileError, match="is damaged"):
            read_lines(path)
    path.write_text('{"fold": 0}')
    assert read_json(path, "fold") == {"fold": 0}
    with pytest.raises(DamagedFileError, match="epoch is missing"):
        read_json(path, "fold", "epoch")


def test_a_folder_is_tried_before_hours_are_spent_and_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    must_be_writable(tmp_path / "a" / "b")
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError, match="file"):
        must_be_writable(tmp_path / "file")

    def refuse(**where: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", f"{where['dir']}/tmpa1b2")

    monkeypatch.setattr(tempfile, "TemporaryDirectory", refuse)
    with pytest.raises(OSError, match=r"No space left on device: '.*/a/b'"):
        must_be_writable(tmp_path / "a" / "b")


def test_a_disk_that_cannot_rename_is_named_before_hours_are_spent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, target: Path) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented", str(path))

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(OSError, match=r"cannot replace a file by another .*: name a folder on this machine's own disk"):
        must_be_writable(tmp_path / "run")
    assert not list(tmp_path.iterdir())
