from __future__ import annotations

import csv
import tracemalloc
from pathlib import Path

import pytest

from funduscope.report.summary_csv import COLUMNS, SummaryRow, open_summary


def write_summary(rows, path):
    with open_summary(path) as add:
        for row in rows:
            add(row)
    return path


def read(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def names(path):
    return [row["photo"] for row in read(path)]


def told(path):
    return [(row["photo"], row["error"], row["folder"]) for row in read(path)]


def rows_until(error):
    yield SummaryRow(photo="a.jpg")
    raise error


def test_a_row_holds_what_was_found(drawn_eye, tmp_path):
    found = drawn_eye().to_dict()
    (row,) = read(write_summary([SummaryRow.of(found, Path("p1/eye.jpg"), "eye")], tmp_path / "summary.csv"))
    assert tuple(row) == COLUMNS
    expected = {
        "photo": "eye.jpg", "path": str(Path("p1/eye.jpg").absolute()), "error": "",
        "gradable": "yes", "grade": "2", "grade_name": "Moderate", "p2": "0.71",
        "dme": "2", "dme_confidence": "0.83", "referable": "yes", "referable_probability": "0.89", "refer": "yes",
        "advice": "grade", "eye": "right", "urgency": "urgent", "dme_p1": "0.08", "warnings": "RESEARCH_WEIGHTS",
        "MA_count": "2",
        "SE_count": "1", "fovea_x_px": "130.0", "disc_y_px": "150.0", "folder": "eye",
    }  # fmt: skip
    assert {key: row[key] for key in expected} == expected


def test_what_is_not_known_stays_empty(drawn_eye, tmp_path):
    failed = {"photo": {"name": "broken.jpg"}, "error": {"code": "E_TRUNCATED", "says": "It ends too early."}}
    path = Path("eye.jpg")
    rows = [SummaryRow.of(drawn_eye(gradable_ok=False).to_dict(), path), SummaryRow.of(failed, path)]
    refused, broken = read(write_summary(rows, tmp_path / "summary.csv"))
    assert refused["gradable"] == "no"
    known = {"photo", "path", "gradable", "advice", "referral", "warnings", "model", "model_sha256"}
    assert {refused[key] for key in COLUMNS if key not in known} == {""}
    assert (refused["advice"], refused["referral"], refused["warnings"], refused["model"]) == (
        "refuse",
        "RETAKE_OR_EXAMINE",
        "RESEARCH_WEIGHTS",
        "stand-in 0.1.0",
    )
    assert broken["error"] == "E_TRUNCATED"
    assert {broken[key] for key in COLUMNS[3:]} == {""}


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", " =", "＝"])
def test_no_cell_becomes_a_formula(start, tmp_path):
    name = f"{start}cmd('x')!A1,\"\n.jpg"
    (row,) = read(write_summary([SummaryRow(photo=name)], tmp_path / "summary.csv"))
    assert row["photo"] == f"'{name}"


def test_the_programs_own_numbers_stay_numbers(drawn_eye, tmp_path):
    found = drawn_eye(fovea_xy=(-3.5, 2.0)).to_dict()
    (row,) = read(write_summary([SummaryRow.of(found, Path("eye.jpg"))], tmp_path / "summary.csv"))
    assert float(row["fovea_x_px"]) == -3.5


def test_names_that_are_not_unicode_do_not_end_the_run(tmp_path):
    (row,) = read(write_summary([SummaryRow(photo="\udcff\0.jpg")], tmp_path / "summary.csv"))
    assert row["photo"] == r"\udcff.jpg"


def test_an_interruption_keeps_the_rows_so_far(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        write_summary(rows_until(KeyboardInterrupt()), tmp_path / "summary.csv")
    assert [row["photo"] for row in read(tmp_path / "summary.csv")] == ["a.jpg"]
    assert [entry.name for entry in tmp_path.iterdir()] == ["summary.csv"]


def test_a_full_disk_leaves_the_earlier_summary(tmp_path, monkeypatch):
    class Full:
        def __init__(self, file, lineterminator):
            self.table = real(file, lineterminator=lineterminator)

        def writerow(self, row):
            if row[0] == "b.jpg":
                raise OSError("full")
            self.table.writerow(row)

    path, real = tmp_path / "summary.csv", csv.writer
    earlier = write_summary([SummaryRow(photo="earlier.jpg")], path).read_bytes()
    monkeypatch.setattr(csv, "writer", Full)
    with pytest.raises(OSError, match="full"):
        write_summary([SummaryRow(photo="a.jpg"), SummaryRow(photo="b.jpg")], path)
    assert path.read_bytes() == earlier
    assert [entry.name for entry in tmp_path.iterdir()] == ["summary.csv"]


def test_an_error_elsewhere_keeps_the_rows_so_far(tmp_path):
    with pytest.raises(OSError, match="broken"):
        write_summary(rows_until(OSError("broken")), tmp_path / "summary.csv")
    assert [row["photo"] for row in read(tmp_path / "summary.csv")] == ["a.jpg"]


def test_a_table_with_other_columns_is_never_replaced(tmp_path):
    path = tmp_path / "summary.csv"
    path.write_text("photo,my remarks\n")
    with pytest.raises(FileExistsError, match="choose another folder"):
        write_summary([SummaryRow(photo="a.jpg")], path)
    assert path.read_text() == "photo,my remarks\n"
    assert [entry.name for entry in tmp_path.iterdir()] == ["summary.csv"]


def test_two_runs_at_once_keep_each_others_rows(tmp_path):
    path = tmp_path / "summary.csv"
    with open_summary(path) as one:
        one(SummaryRow(photo="a.jpg"))
        with open_summary(path) as other:
            other(SummaryRow(photo="b.jpg"))
        assert names(path) == ["b.jpg"]
        one(SummaryRow(photo="c.jpg"))
    assert names(path) == ["b.jpg", "a.jpg", "c.jpg"]


def test_rows_of_the_same_folder_are_replaced_where_they_stand_and_others_stay(tmp_path):
    path = tmp_path / "summary.csv"
    write_summary([SummaryRow(f"{name}.jpg", folder=name) for name in "abcd"], path)
    again = [SummaryRow("new,\n.jpg", folder="n"), SummaryRow("D.jpg", folder="d"), SummaryRow("B.jpg", folder="b")]
    write_summary(again, path)
    assert told(path) == [
        ("a.jpg", "", "a"), ("B.jpg", "", "b"), ("c.jpg", "", "c"), ("D.jpg", "", "d"), ("new,\n.jpg", "", "n"),
    ]  # fmt: skip
    before = path.read_bytes()
    write_summary(again, path)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["summary.csv"]


def test_a_failure_gives_way_to_the_next_answer_and_an_answer_to_no_failure(tmp_path):
    path = tmp_path / "summary.csv"
    write_summary(
        [SummaryRow("a.jpg", "E_EMPTY"), SummaryRow("a.jpg", folder="a"), SummaryRow("b.jpg", "E_EMPTY")], path
    )
    write_summary(
        [SummaryRow("b.jpg", folder="b"), SummaryRow("a.jpg", folder="a"), SummaryRow("a.jpg", "E_DEPTH")], path
    )
    assert told(path) == [("a.jpg", "E_DEPTH", ""), ("a.jpg", "", "a"), ("b.jpg", "", "b")]
    write_summary([SummaryRow("b.jpg", "E_EMPTY")], path)
    assert told(path)[2:] == [("b.jpg", "", "b"), ("b.jpg", "E_EMPTY", "")], (
        "the folder is still there, and so is its row"
    )


def test_failures_of_two_photos_of_one_name_are_two(tmp_path):
    path = tmp_path / "summary.csv"
    write_summary([SummaryRow("eye.jpg", "E_EMPTY", path="/a/eye.jpg")], path)
    write_summary([SummaryRow("eye.jpg", folder="eye", path="/b/eye.jpg")], path)
    assert told(path) == [("eye.jpg", "E_EMPTY", ""), ("eye.jpg", "", "eye")]
    write_summary([SummaryRow("eye.jpg", folder="eye (2)", path="/a/eye.jpg")], path)
    assert told(path) == [("eye.jpg", "", "eye (2)"), ("eye.jpg", "", "eye")]


def test_a_photo_that_was_damaged_for_a_while_leaves_no_failure(tmp_path):
    """Read, damaged, and mended: its last row is of its folder. A failure that a person wrote a remark to stays."""
    path = tmp_path / "summary.csv"
    good, bad = SummaryRow("a.jpg", folder="a", path="/a.jpg"), SummaryRow("a.jpg", "E_TRUNCATED", path="/a.jpg")
    for row in (good, bad, good):
        write_summary([row], path)
    assert told(path) == [("a.jpg", "", "a")]
    write_summary([bad], path)
    path.write_text(path.read_text().rstrip("\n") + ",asked for it again\n")
    write_summary([good], path)
    assert told(path) == [("a.jpg", "", "a"), ("a.jpg", "E_TRUNCATED", "")]
    frames = [SummaryRow(f"a.dcm {number}", folder=f"a{number}", path="/a.dcm") for number in (1, 2)]
    write_summary([SummaryRow("a.dcm", "E_TRUNCATED", path="/a.dcm")], path)
    write_summary(frames, path)
    assert told(path)[2:] == [("a.dcm 1", "", "a1"), ("a.dcm 2", "", "a2")], "of the file that had failed as a whole"


def test_what_a_person_wrote_beside_a_row_stays_with_it(tmp_path):
    """As a spreadsheet saves it: with its mark of byte order and line ends, and letters of its own."""
    path = tmp_path / "summary.csv"
    write_summary([SummaryRow("a.jpg", folder="a"), SummaryRow("b.jpg", folder="b")], path)
    header, first, second = path.read_bytes().splitlines()
    remarked = [b"\xef\xbb\xbf" + header + b",remarks", first + b",look ag\xe4in", second + b',"once, twice"']
    path.write_bytes(b"\r\n".join(remarked) + b"\r\n")
    write_summary([SummaryRow("c.jpg", folder="c"), SummaryRow("A.jpg", folder="a")], path)
    lines = path.read_bytes().splitlines()
    assert lines[0] == remarked[0]
    assert lines[1].startswith(b"A.jpg,")
    assert lines[1].endswith(b",a,look ag\xe4in")
    assert lines[2] == remarked[2]
    assert lines[3].startswith(b"c.jpg,")
    assert lines[3].endswith(b",c")


def test_an_interruption_keeps_the_rows_of_earlier_runs(tmp_path):
    path = write_summary([SummaryRow("b.jpg", folder="b")], tmp_path / "summary.csv")
    with pytest.raises(KeyboardInterrupt):
        write_summary(rows_until(KeyboardInterrupt()), path)
    assert names(path) == ["b.jpg", "a.jpg"]


def test_a_table_that_became_somebody_elses_meanwhile_is_left_alone(tmp_path):
    path = tmp_path / "summary.csv"

    def row_and_theirs():
        yield SummaryRow("a.jpg")
        path.write_text("years of work")

    with pytest.raises(FileExistsError, match="choose another folder"):
        write_summary(row_and_theirs(), path)
    assert path.read_text() == "years of work"
    assert [entry.name for entry in tmp_path.iterdir()] == ["summary.csv"]


def test_memory_stays_flat(tmp_path):
    tracemalloc.start()
    write_summary((SummaryRow(photo=f"{number}.jpg") for number in range(5000)), tmp_path / "summary.csv")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 500_000
