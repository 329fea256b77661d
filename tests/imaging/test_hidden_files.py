"""Files and folders that systems add are passed over, and their number is said once."""

from __future__ import annotations

from pathlib import Path

import pytest

from funduscope.data.sources import read_data
from funduscope.doctor.inventory import take_inventory
from funduscope.imaging.find_photos import find_photos
from funduscope.imaging.hidden_files import describe_system_files
from funduscope.testing.drawn_eyes import write_idrid

ADDED = ("@eaDir", "#recycle", "@Recycle", "$RECYCLE.BIN", ".snapshot", "System Volume Information", "lost+found")


def write_photo(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"\xff\xd8\xff")


def test_photos_in_folders_of_the_system_are_not_read_and_counted(tmp_path: Path) -> None:
    for name in ("2026/eye.jpg", *(f"2026/{name}/S-1-5/thumbnail.jpg" for name in ADDED)):
        write_photo(tmp_path / name)
    (tmp_path / "2026/Thumbs.db").touch()
    (tmp_path / "2026/link").symlink_to(tmp_path / "2026", target_is_directory=True)

    assert find_photos([tmp_path]) == [tmp_path / "2026/eye.jpg"]
    assert f"passed over {len(ADDED) + 1} entries" in describe_system_files([tmp_path])


def test_a_folder_of_the_system_is_read_when_it_is_named_itself(tmp_path: Path) -> None:
    write_photo(tmp_path / "#recycle/eye.jpg")

    assert find_photos([tmp_path / "#recycle"]) == [tmp_path / "#recycle/eye.jpg"]
    assert describe_system_files([tmp_path / "#recycle"]) == ""


@pytest.mark.parametrize("name", ["@eaDir", "__MACOSX"])
def test_a_data_set_keeps_its_photos_where_a_system_added_copies(tmp_path: Path, name: str) -> None:
    write_idrid(tmp_path, graded=3, masked=1, width_px=300)
    cases, inventory = read_data(tmp_path), take_inventory(tmp_path)

    for path in [*tmp_path.rglob("*.jpg"), *tmp_path.rglob("*.csv")]:
        copy = path.parent / name / path.name
        copy.parent.mkdir(exist_ok=True)
        copy.write_bytes(path.read_bytes())

    assert read_data(tmp_path) == cases
    assert take_inventory(tmp_path) == inventory
