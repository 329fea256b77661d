"""What a folder, a table and an archive name; archives are not believed."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import secrets
import shutil
import subprocess
import sys
import tarfile
import tracemalloc
import warnings
import zipfile
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, date, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from funduscope.batch.archives import MAX_RATIO, TOTAL_VARIABLE
from funduscope.batch.photo_list import open_list
from funduscope.batch.store import Store
from funduscope.i18n.errors import CodedError, PhotoError
from funduscope.imaging.photo import Photo


def test_a_table_says_what_is_known(tmp_path: Path) -> None:
    table = tmp_path / "year.csv"
    table.write_text("path,patient,eye,clinic,note\na.jpg,p1,OD,north,x\nb.jpg,p1,left,north,y\n")
    first, second = open_list(table, ["clinic"])
    assert (first.place, first.known and first.known["patient"], first.copied) == ("a.jpg", "p1", ("north",))
    assert [one.known and one.known["eye"] for one in (first, second)] == ["right", "left"]
    assert open_list(table).content("a.jpg", None) == tmp_path / "a.jpg"


def test_an_archive_in_a_folder_is_named_and_not_passed_over(tmp_path: Path) -> None:
    (tmp_path / "eye.jpg").write_bytes(b"\xff\xd8\xff")
    (tmp_path / "north").mkdir()
    zipfile.ZipFile(tmp_path / "north" / "january.zip", "w").close()
    (tmp_path / "south.7z").write_bytes(b"7z")
    (tmp_path / "notes.txt").write_text("no photo")
    found = {one.place: one.problem for one in open_list(tmp_path)}
    assert found.keys() == {"eye.jpg", "north/january.zip", "south.7z"}
    assert found["eye.jpg"] is None
    for name in ("north/january.zip", "south.7z"):
        code, says = found[name] or ("", "")
        assert code == "E_FORMAT"
        assert "not opened" in says


def test_a_parquet_table_is_as_good(tmp_path: Path) -> None:
    pq.write_table(pa.table({"path": ["a.jpg"], "patient": [17]}), tmp_path / "year.parquet")
    (only,) = open_list(tmp_path / "year.parquet")
    assert only.known is not None
    assert only.known["patient"] == "17"


def test_cells_of_a_parquet_table_are_those_of_a_csv(tmp_path: Path) -> None:
    """Whole numbers where one is missing are floats in Parquet, and days are moments."""
    day = datetime(2024, 1, 2, tzinfo=UTC)
    columns = {"path": ["a.jpg", "b.jpg", "c.jpg"], "patient": pa.array([17.0, None, float("nan")])}
    columns |= {"visit": [1.0, 2.5, 1e20], "date": [day, day.replace(hour=9), None]}
    columns |= {"pixels": [b"not read"] * 3, "camera": [date(2024, 1, 2), None, None]}
    columns |= {"score": [float("inf"), -0.0, 0.1], "more": [{"of": 1}] * 3}
    pq.write_table(pa.table(columns), tmp_path / "year.parquet")
    photos = list(open_list(tmp_path / "year.parquet", ["score"]))
    known = [one.known or {} for one in photos]
    assert [one["patient"] for one in known] == ["17", "", ""]
    assert [one["visit"] for one in known] == ["1", "2.5", "100000000000000000000"]
    assert [one["date"] for one in known] == ["2024-01-02", "2024-01-02 09:00:00+00:00", ""]
    assert [one["camera"] for one in known] == ["2024-01-02", "", ""]
    assert [one.copied for one in photos] == [("inf",), ("0",), ("0.1",)]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("file\na.jpg\n", "no column path; it has file"),
        ("path\na.jpg\na.jpg\n", "row 3: the path 'a.jpg' is in an earlier row"),
        ("path,eye\na.jpg,up\n", "row 2: eye is 'up': expected right, left"),
        ("path\n\x00\n", "row 2: the path holds a zero byte"),
        ("path,eye\na.jpg\n,left\n", "row 3: the path is empty"),
        ("path,eye\na,b.jpg,left\n", "row 2: 3 cells, but the first row names 2 columns"),
        ("path,Path\n", "has two columns path"),
        ("", "is empty; expected a first row"),
        ("path,date\na.jpg,9.12.2025\n", "row 2: date is '9.12.2025': expected a text that sorts"),
        ("path,date\na.jpg,2026-9-30\n", "row 2: date is '2026-9-30': expected a text that sorts"),
        ("path,date\na.jpg,2026-02-31\n", "row 2: date is '2026-02-31': expected a text that sorts"),
        ("path,date\na.jpg,2026-13-01\n", "row 2: date is '2026-13-01': expected a text that sorts"),
        ("path\na.jpg\n./a.jpg\n", "row 3: the path 'a.jpg' is in an earlier row"),
        ("\n \nClinic\n", "no column path; it has Clinic"),
        ("path,Patient ID\na.jpg,1\n", "the column Patient ID is not understood: rename it to patient"),
        ("Clinic\n", "no column path; it has Clinic"),
    ],
    ids=[
        "no path",
        "twice",
        "eye",
        "NUL",
        "empty path",
        "comma",
        "two columns",
        "nothing",
        "date",
        "month",
        "no day",
        "no month",
        "other spelling",
        "blank",
        "number",
        "no row",
    ],
)
def test_a_wrong_table_is_named_with_its_row(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "year.csv").write_text(text)
    with pytest.raises(CodedError, match=says) as caught:
        list(open_list(tmp_path / "year.csv"))
    assert caught.value.code == "E_LABELS"


def test_a_table_may_be_as_spreadsheets_write_it(tmp_path: Path) -> None:
    """Semicolons, capitals, spaces, a byte order mark, empty rows and empty columns at the end, Windows' paths."""
    text = "Path ;Patient;EYE;;\r\n\r\nmonday\\a.jpg; p1;OD;;\r\nb.jpg;p1\r\n;;;;\r\n"
    (tmp_path / "year.csv").write_text(text, "utf-8-sig", newline="")
    first, second = open_list(tmp_path / "year.csv")
    assert (first.place, first.known and first.known["patient"]) == ("monday/a.jpg", "p1")
    assert (first.known and first.known["eye"], second.known and second.known["eye"]) == ("right", "")


def test_spaces_before_quotes_and_the_spelling_of_dates_make_no_difference(tmp_path: Path) -> None:
    text = '\n path, patient, date\n"a.jpg", "A", 2026-09-30\n"b.jpg","A",20260930\n'
    text += " c.jpg, A, 2026/09/30 10:15\n d.jpg,A,2026\n"
    (tmp_path / "year.csv").write_text(text)
    listed = [
        (one.place, (one.known or {})["patient"], (one.known or {})["date"]) for one in open_list(tmp_path / "year.csv")
    ]
    assert listed == [
        ("a.jpg", "A", "2026-09-30"),
        ("b.jpg", "A", "2026-09-30"),
        ("c.jpg", "A", "2026-09-30 10:15"),
        ("d.jpg", "A", "2026"),
    ]


@pytest.mark.parametrize("told", ["sep=;\r\n", ""])
def test_a_table_may_tell_its_delimiter(told: str, tmp_path: Path) -> None:
    (tmp_path / "year.csv").write_text(f"{told}path;eye\r\na.jpg;up\r\n", "utf-8-sig", newline="")
    with pytest.raises(CodedError, match="row 2: eye is 'up'"):
        list(open_list(tmp_path / "year.csv"))


def test_who_is_not_known_is_nobody_and_a_whole_number_is_one_patient(tmp_path: Path) -> None:
    names = ("NA", "n/a", "-", "Unknown", "17", "17.0", "2025-1.0", "1.5")
    rows = [f"{number}.jpg,{name}" for number, name in enumerate(names)]
    (tmp_path / "year.csv").write_text("\n".join(["path,patient", *rows, ""]))
    known = [(one.known or {})["patient"] for one in open_list(tmp_path / "year.csv")]
    assert known == ["", "", "", "", "17", "17", "2025-1.0", "1.5"]


def test_columns_are_those_of_a_table(tmp_path: Path) -> None:
    with pytest.raises(CodedError, match="is none: leave it out") as caught:
        open_list(tmp_path, ["clinic"])
    assert caught.value.code == "E_CONFIG"
    (tmp_path / "year.csv").write_text("path,clinic\na.jpg,north\n")
    with pytest.raises(CodedError, match="no column ward; it has path, clinic"):
        list(open_list(tmp_path / "year.csv", ["ward"]))


def test_names_that_are_no_unicode_are_spelled_out_and_found_again(tmp_path: Path) -> None:
    name = os.fsdecode(b"b\xff.jpg")
    (tmp_path / "eyes").mkdir()
    (tmp_path / "eyes" / name).write_bytes(b"x")
    (tmp_path / "eyes" / "a\\udcff.jpg").write_bytes(b"x")
    folder = open_list(tmp_path / "eyes")
    assert [one.place for one in folder] == ["a\\udcff.jpg", "b\\udcff.jpg"]
    assert all(folder.content(one.place, None).is_file() for one in folder)  # pyright: ignore[reportAttributeAccessIssue]
    (only,) = open_list(make_tar(tmp_path / "year.tar", {name: b"x"}))
    assert only.place == "b\\udcff.jpg"


Entries = dict[str, bytes] | list[tuple[str, bytes]]


def make_zip(path: Path, entries: Entries) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zipfile's, of two entries of one name
        for name, data in entries.items() if isinstance(entries, dict) else entries:
            archive.writestr(name, data)
    return path


def make_tar(path: Path, entries: Entries) -> Path:
    with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as archive:
        for name, data in entries.items() if isinstance(entries, dict) else entries:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


@pytest.mark.parametrize("name", ["year.zip", "year.tar", "year.tar.gz"])
def test_an_archive_gives_its_photos_and_names_what_leads_out_of_it(tmp_path: Path, name: str) -> None:
    entries = {"b/one.png": b"first", "two.jpg": b"second", "notes.txt": b"no photo", ".hidden.jpg": b"no"}
    entries |= {"disc/DICOMDIR": bytes(128) + b"DICM", "disc/IM1": bytes(128) + b"DICM"}
    entries |= {"../out.jpg": b"x", "/root.jpg": b"x", "b/../../c.png": b"x"}
    make = make_zip if name.endswith("zip") else make_tar
    photos = open_list(make(tmp_path / name, entries))
    listed = list(photos)
    assert [one.place for one in listed if one.problem is None] == ["b/one.png", "two.jpg", "disc/IM1"]
    bad = {one.place: one.problem[0] for one in listed if one.problem}
    assert bad == dict.fromkeys(["../out.jpg", "/root.jpg", "b/../../c.png"], "E_FORMAT")
    assert [photos.content(one.place, one.entry) for one in listed[:2]] == [b"first", b"second"]


@pytest.mark.parametrize("name", ["year.zip", "year.tar", "year.tar.gz"])
def test_of_entries_of_one_name_the_first_is_read_and_each_other_has_a_row(tmp_path: Path, name: str) -> None:
    entries = [
        ("eye.jpg", b"first"),
        ("notes.txt", b"x"),
        ("eye.jpg", b"second"),
        ("eye.jpg (entry 3)", b"\xff\xd8\xff"),
    ]
    entries += [("../out.jpg", b"x"), ("../out.jpg", b"x"), ("notes.txt", b"y"), ("eye.jpg", b"third")]
    make = make_zip if name.endswith("zip") else make_tar
    photos = open_list(make(tmp_path / name, entries))
    with closing(Store(tmp_path / "out", {})) as store:
        assert store.update(photos) == 2
        read = {place: photos.content(place, entry) for place, entry in store.waiting()}
        failed = {one.place: one.says for one in store.results()}
    assert read == {"eye.jpg": b"first", "eye.jpg (entry 3)": b"\xff\xd8\xff"}
    assert list(failed) == ["eye.jpg (entry 2)", "../out.jpg", "../out.jpg (entry 2)", "eye.jpg (entry 4)"]
    assert [says for says in failed.values() if says and "the same name" in says] == [
        failed["eye.jpg (entry 2)"],
        failed["eye.jpg (entry 4)"],
    ]


@pytest.mark.parametrize("name", ["year.zip", "year.tar.gz"])
def test_what_cannot_be_read_of_an_archive_is_said_without_names(tmp_path: Path, name: str) -> None:
    make = make_zip if name.endswith("zip") else make_tar
    path = make(tmp_path / f"anna-{name}", {"anna.jpg": secrets.token_bytes(20_000)})
    (only,) = open_list(path)
    data = path.read_bytes()
    path.write_bytes(data[:10_000] + bytes([data[10_000] ^ 1]) + data[10_001 : None if name == "year.zip" else 15_000])
    with pytest.raises(CodedError, match="expected an intact archive") as caught:
        open_list(path).content(only.place, only.entry)
    assert caught.value.code == "E_CORRUPT"
    assert "anna" not in caught.value.says


def test_an_entry_that_ends_too_early_is_said_without_names(tmp_path: Path) -> None:
    path = make_tar(tmp_path / "anna.tar", {"anna.jpg": bytes(5000)})
    (only,) = open_list(path)
    os.truncate(path, 3000)
    with pytest.raises(CodedError, match="expected a whole archive") as caught:
        open_list(path).content(only.place, only.entry)
    assert caught.value.code == "E_TRUNCATED"
    assert "anna" not in caught.value.says


def test_links_in_a_tar_are_not_followed(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "year.tar", "w") as archive:
        info = tarfile.TarInfo("link.jpg")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(info)
    (only,) = open_list(tmp_path / "year.tar")
    assert only.problem is not None
    assert "link" in only.problem[1]


def test_what_expands_beyond_measure_is_not_opened(tmp_path: Path) -> None:
    bomb = make_zip(tmp_path / "bomb.zip", {"eye.jpg": bytes(3_000_000)})
    with pytest.raises(CodedError, match=f"more than {MAX_RATIO} times") as caught:
        list(open_list(bomb))
    assert caught.value.code == "E_TOO_LARGE"
    entries = {"eye.jpg": bytes(3_000_000), "rest.jpg": secrets.token_bytes(100_000)}
    mixed = make_zip(tmp_path / "mixed.zip", entries)
    assert [one.problem and one.problem[0] for one in open_list(mixed)] == ["E_TOO_LARGE", None]


def test_the_total_of_an_archive_can_be_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    year = make_zip(tmp_path / "year.zip", {f"{number}.jpg": secrets.token_bytes(60_000) for number in range(3)})
    assert len(list(open_list(year))) == 3
    monkeypatch.setenv(TOTAL_VARIABLE, "0.0001")
    with pytest.raises(CodedError, match=r"more than 0\.0001 GB") as caught:
        list(open_list(year))
    assert caught.value.code == "E_TOO_LARGE"
    monkeypatch.setenv(TOTAL_VARIABLE, "much")
    with pytest.raises(CodedError, match=f"{TOTAL_VARIABLE} is much") as caught:
        list(open_list(year))
    assert caught.value.code == "E_CONFIG"


@pytest.mark.parametrize(
    "what", ["cut.zip", "entry before the file.zip", "header that ends.tar.gz", "negative size.tar"]
)
def test_a_damaged_archive_says_so(tmp_path: Path, what: str) -> None:
    whole = make_zip(tmp_path / "year.zip", {"eye.jpg": b"x" * 1000}).read_bytes()
    negative = tarfile.TarInfo("eye.jpg")
    negative.size = -512
    content = {
        "cut.zip": whole[: len(whole) // 2],
        "entry before the file.zip": whole[10:],
        "header that ends.tar.gz": b"\x1f\x8b\x08\x04" + bytes(6),
        "negative size.tar": negative.tobuf(tarfile.GNU_FORMAT) + bytes(1024),
    }
    (tmp_path / what).write_bytes(content[what])
    with pytest.raises(CodedError, match="damaged") as caught:
        list(open_list(tmp_path / what))
    assert caught.value.code == "E_CORRUPT"


def test_a_damaged_entry_that_may_be_a_photo_costs_the_others_nothing(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "year.zip", {"one.png": b"first", "notes": b"text", "two.png": b"second"})
    whole = path.read_bytes()
    at = whole.index(b"notes") - 30
    path.write_bytes(whole[:at] + b"XXXX" + whole[at + 4 :])
    photos = open_list(path)
    assert {one.place: one.problem and one.problem[0] for one in photos} == {
        "one.png": None, "notes": "E_CORRUPT", "two.png": None
    }  # fmt: skip
    assert [photos.content(one.place, one.entry) for one in photos if one.problem is None] == [b"first", b"second"]


@pytest.mark.parametrize("how", ["a bit", "within a header", "before a header", "packed"])
def test_a_tar_that_is_damaged_or_cut_between_its_photos_is_not_taken_for_a_shorter_one(
    tmp_path: Path, how: str
) -> None:
    """tarfile takes a damaged header for the end."""
    data = bytearray(make_tar(tmp_path / "year.tar", {f"{n}.jpg": bytes(1024) for n in range(4)}).read_bytes())
    header = 3 * 512
    if how == "a bit":
        data[header + 3] ^= 1
    else:
        data = data[: header + (200 if how == "within a header" else 0)]
    path = tmp_path / ("year.tar.gz" if how == "packed" else "year.tar")
    path.write_bytes(gzip.compress(bytes(data)) if how == "packed" else data)
    with pytest.raises(CodedError, match="damaged") as caught:
        list(open_list(path))
    assert caught.value.code == "E_CORRUPT"


@pytest.mark.parametrize("name", ["year.zip", "year.tar"])
def test_an_archive_in_an_archive_is_named_and_links_that_are_no_photos_are_not(tmp_path: Path, name: str) -> None:
    make = make_zip if name.endswith("zip") else make_tar
    path = make(tmp_path / name, {"a.png": b"x", "more.zip": b"PK", "b/more.tar.gz": b"x", "../notes.txt": b"x"})
    assert {one.place: one.problem and one.problem[1] for one in open_list(path)} == {"a.png": None} | dict.fromkeys(
        ["more.zip", "b/more.tar.gz"], "an archive in the archive is not opened: unpack it first"
    )


@pytest.mark.parametrize("kind", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_a_name_as_large_as_the_memory_is_not_read(tmp_path: Path, kind: int) -> None:
    """Packed it takes a thousandth of that."""
    with tarfile.open(tmp_path / "year.tar.gz", "w:gz", format=kind) as archive:
        archive.addfile(tarfile.TarInfo("n" * 30_000_000 + ".jpg"))
    tracemalloc.start()
    with pytest.raises(CodedError, match="headers of more than"):
        list(open_list(tmp_path / "year.tar.gz"))
    assert tracemalloc.get_traced_memory()[1] < 10_000_000
    tracemalloc.stop()


@pytest.mark.parametrize(("name", "code"), [("missing", "E_NOT_FOUND"), ("year.xlsx", "E_FORMAT")])
def test_what_is_no_list_is_refused(tmp_path: Path, name: str, code: str) -> None:
    if name != "missing":
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(CodedError) as caught:
        open_list(tmp_path / name)
    assert caught.value.code == code


@pytest.mark.parametrize(("saved", "named"), [("year.tar", "year.tar.gz"), ("year.tar.gz", "year.tar")])
def test_a_tar_is_unpacked_by_what_it_is_and_not_by_its_name(tmp_path: Path, saved: str, named: str) -> None:
    """Browsers and servers unpack files and leave their names."""
    make_tar(tmp_path / saved, {"one.png": b"first"}).rename(tmp_path / named)
    photos = open_list(tmp_path / named)
    assert [photos.content(one.place, one.entry) for one in photos] == [b"first"]


@pytest.mark.parametrize(("suffix", "pack"), [("gz", gzip.compress), ("xz", lzma.compress), ("bz2", bz2.compress)])
def test_a_tar_of_several_packed_streams_is_read_to_its_end(
    tmp_path: Path, suffix: str, pack: Callable[[bytes], bytes]
) -> None:
    """As tools that pack in parallel write it."""
    whole = make_tar(tmp_path / "year.tar", {f"{n}.png": bytes(600) + b"%d" % n for n in range(6)}).read_bytes()
    packed = tmp_path / f"blocks.tar.{suffix}"
    packed.write_bytes(b"".join(pack(whole[at : at + 3000]) for at in range(0, len(whole), 3000)))
    photos = open_list(packed)
    assert [photos.content(one.place, one.entry)[600:] for one in photos] == [b"%d" % n for n in range(6)]


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_an_entry_that_would_be_unpacked_without_a_limit_is_refused(tmp_path: Path, method: int) -> None:
    with zipfile.ZipFile(tmp_path / "year.zip", "w", method) as archive:
        archive.writestr("eye.jpg", bytes(10_000))
    (only,) = open_list(tmp_path / "year.zip")
    assert only.problem is not None
    assert only.problem[0] == "E_FORMAT"
    assert "unsupported method" in only.problem[1]


def test_a_path_that_leads_up_from_behind_a_link_is_the_systems(tmp_path: Path) -> None:
    (tmp_path / "archive" / "2026").mkdir(parents=True)
    (tmp_path / "archive" / "b.jpg").write_bytes(b"there")
    (tmp_path / "b.jpg").write_bytes(b"here")
    (tmp_path / "scans").symlink_to(tmp_path / "archive" / "2026", target_is_directory=True)
    (tmp_path / "photos.csv").write_text("path\nscans/../b.jpg\n")
    photos = open_list(tmp_path / "photos.csv")
    (only,) = photos
    content = photos.content(only.place, only.entry)
    assert isinstance(content, Path)
    assert content.read_bytes() == b"there"


@pytest.mark.parametrize("headers", [{"GNU.sparse.map": "abc"}, {"GNU.sparse.realsize": "xx"}])
def test_a_tar_that_contradicts_itself_is_damaged_and_no_fault_of_this_program(
    tmp_path: Path, headers: dict[str, str]
) -> None:
    with tarfile.open(tmp_path / "year.tar", "w", format=tarfile.PAX_FORMAT) as archive:
        info = tarfile.TarInfo("eye.jpg")
        info.pax_headers = headers
        archive.addfile(info)
    with pytest.raises(CodedError) as caught:
        list(open_list(tmp_path / "year.tar"))
    assert caught.value.code == "E_CORRUPT"


def test_a_list_of_holes_without_end_is_not_read(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "year.tar.gz", "w:gz", format=tarfile.PAX_FORMAT) as archive:
        info = tarfile.TarInfo("eye.jpg")
        info.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0"}
        holes = b"400000\n" + b"".join(b"%d\n" % (number * 7919 % 100_003) for number in range(800_000))
        info.size = len(holes)
        archive.addfile(info, io.BytesIO(holes))
    tracemalloc.start()
    with pytest.raises(CodedError, match="headers of more than"):
        list(open_list(tmp_path / "year.tar.gz"))
    assert tracemalloc.get_traced_memory()[1] < 5_000_000
    tracemalloc.stop()


@pytest.mark.skipif(shutil.which("tar") is None, reason="needs tar")
@pytest.mark.parametrize("kind", ["gnu", "pax"])
def test_an_entry_with_holes_is_refused(tmp_path: Path, kind: str) -> None:
    """Its bytes are not in one piece: read in place, they would be other photos'."""
    with (tmp_path / "eye.tif").open("wb") as file:
        for place in range(1, 40):  # more parts than a header has room for
            file.seek(place * 16_384)
            file.write(b"part")
    (tmp_path / "other.jpg").write_bytes(b"other")
    pack = ["tar", "--sparse", f"--format={kind}", "-cf", "year.tar", "eye.tif", "other.jpg"]
    subprocess.run(pack, cwd=tmp_path, check=True)
    photos = open_list(tmp_path / "year.tar")
    holed, other = photos
    assert holed.problem is not None
    assert "holes" in holed.problem[1]
    assert photos.content(other.place, other.entry) == b"other"


@pytest.mark.skipif(sys.platform != "linux", reason="names without valid Unicode are Linux's")
def test_a_name_that_is_written_like_another_photos_is_no_silent_loss(tmp_path: Path) -> None:
    for name in (b"bad\xff.jpg", b"bad\\udcff.jpg"):
        (tmp_path / os.fsdecode(name)).write_bytes(b"\xff\xd8\xff")
    problems = {one.place: one.problem for one in open_list(tmp_path)}
    assert len(problems) == 2
    assert problems["bad\\udcff.jpg"] is None
    code, says = problems["bad\\udcff.jpg (2)"] or ("", "")
    assert code == "E_NOT_FOUND"
    assert "rename it" in says


@pytest.mark.skipif(sys.platform == "win32", reason="no pipes among files")
def test_a_pipe_with_a_photos_name_is_listed_and_never_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    os.mkfifo(tmp_path / "pipe")
    assert [one.place for one in open_list(tmp_path)] == ["pipe.jpg"]
    with pytest.raises(PhotoError, match="not a file"):
        Photo.open(tmp_path / "pipe.jpg")
