"""Which files are photos, which masks, which labels, in folders without a description."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from funduscope.data.case import LabelError
from funduscope.doctor.inventory import Inventory, PhotoIndex, take_inventory
from funduscope.doctor.mask_files import named_files
from funduscope.testing.drawn_eyes import write_idrid


def _laid(folder: Path, *names: str) -> Inventory:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"\xff\xd8\xff")
    return take_inventory(folder)


def _names(inventory: Inventory, paths: tuple[Path, ...]) -> list[str]:
    return [inventory.relative(path) for path in paths]


def test_photos_masks_and_tables_are_distinguished(tmp_path: Path) -> None:
    inventory = _laid(
        tmp_path, "a/eye 1.jpg", "a/eye 1_EX.png", "a/eye 1_mask.png", "a/lonely_EX.png", "masks/eye 1.png",
        "b/Groundtruths/eye.tif", "votes/eye.png", "b/odd.bmp", "labels.csv", "b/more.xlsx", ".hidden/eye.jpg",
        "b/.eye.jpg", "notes.txt",
    )  # fmt: skip
    for name in ("notes.txt", "labels.csv", "b/more.xlsx"):
        (tmp_path / name).write_text("no photo")
    inventory = take_inventory(tmp_path)
    assert _names(inventory, inventory.photos) == ["a/eye 1.jpg", "a/lonely_EX.png", "b/odd.bmp"]
    assert _names(inventory, inventory.masks) == [
        "a/eye 1_EX.png", "a/eye 1_mask.png", "b/Groundtruths/eye.tif", "masks/eye 1.png", "votes/eye.png"
    ]  # fmt: skip
    assert _names(inventory, inventory.tables) == ["b/more.xlsx", "labels.csv"]


def test_a_lock_of_excel_is_no_table(tmp_path: Path) -> None:
    for name in ("labels.csv", "~$labels.xlsx"):
        (tmp_path / name).write_text("path,dr\n")
    assert [table.name for table in take_inventory(tmp_path).tables] == ["labels.csv"]


def test_an_official_layout_is_read_by_its_names(tmp_path: Path) -> None:
    write_idrid(tmp_path, graded=2, masked=2, width_px=128)
    inventory = take_inventory(tmp_path)
    assert len(inventory.photos) == 4
    assert len(inventory.masks) >= 4
    assert all("Groundtruths" in name for name in _names(inventory, inventory.masks))


def test_a_table_has_the_photos_that_it_names_and_that_are_there(tmp_path: Path) -> None:
    _laid(tmp_path, "photos/one.jpg", "photos/two.jpg", "photos/unnamed.jpg")
    (tmp_path / "mine.csv").write_text("path,dr\nphotos/one.jpg,0\nphotos\\two.jpg,9\nphotos/gone.jpg,1\n")
    inventory = take_inventory(tmp_path / "mine.csv")
    assert _names(inventory, inventory.photos) == ["photos/one.jpg", "photos/two.jpg"]
    assert _names(inventory, inventory.tables) == ["mine.csv"]


def test_names_do_not_depend_on_where_one_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _laid(tmp_path / "set", "eye.jpg")
    monkeypatch.chdir(tmp_path)
    inventory = take_inventory(Path("set"))
    assert inventory.relative(Path("set/eye.jpg")) == inventory.relative(tmp_path / "set/eye.jpg") == "eye.jpg"


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(LabelError, match="is not there"):
        take_inventory(tmp_path / "nothing")
    with pytest.raises(LabelError, match="is a file"):
        take_inventory(_laid(tmp_path, "eye.jpg").photos[0])


def test_folders_that_only_sound_like_masks_have_photos(tmp_path: Path) -> None:
    names = (
        "unmasked/1.jpg",
        "images_masked/2.jpg",
        "HardExudate_Masks/1.png",
        "lesionmasks/1.png",
        "MaskImages/1.png",
    )
    inventory = _laid(tmp_path, *names)
    assert _names(inventory, inventory.photos) == ["images_masked/2.jpg", "unmasked/1.jpg"]


def test_a_path_that_leads_up_and_down_names_the_photo_that_it_means(tmp_path: Path) -> None:
    """Not the first of those with its name: every patient may have a left.jpg."""
    inventory = _laid(tmp_path, "photos/P1/left.jpg", "photos/P2/left.jpg")
    table = tmp_path / "labels" / "labels.csv"
    for patient in ("P1", "P2"):
        wanted = tmp_path / "photos" / patient / "left.jpg"
        assert PhotoIndex(inventory).named(f"../photos/{patient}/left.jpg", table, None) == wanted


def test_a_table_whose_photos_lie_beside_its_folder_has_each_of_them(tmp_path: Path) -> None:
    wanted = [tmp_path / "left" / "0.jpg", tmp_path / "right" / "0.jpg"]
    _laid(tmp_path, "left/0.jpg", "right/0.jpg", "tables/unnamed.jpg")
    table = tmp_path / "tables" / "photos.csv"
    table.write_text("path,dr\n../left/0.jpg,0\n../right/0.jpg,1\n")
    inventory = take_inventory(table)
    assert list(inventory.photos) == wanted
    index = PhotoIndex(inventory)
    assert [index.named(name, table, None) for name in ("../left/0.jpg", "../right/0.jpg")] == wanted


def test_an_accent_may_be_spelled_otherwise_in_the_table_than_on_the_disk(tmp_path: Path) -> None:
    """As in a folder that comes from a Mac."""
    on_disk, in_table = (unicodedata.normalize(form, "masks/\u00e9.png") for form in ("NFD", "NFC"))
    _laid(tmp_path, on_disk, "photos/e\u0301.jpg")
    table = tmp_path / "photos.csv"
    table.write_text("path,mask_EX\nphotos/\u00e9.jpg,masks/\u00e9.png\n", "utf-8")
    inventory = take_inventory(table)
    assert [path.name for path in inventory.photos] == ["e\u0301.jpg"]
    assert PhotoIndex(inventory).named("photos/\u00e9.jpg", table, None) == inventory.photos[0]
    assert PhotoIndex(inventory).named("\u00e9", table, None) == inventory.photos[0]
    assert named_files(table, in_table) == [tmp_path / on_disk]
