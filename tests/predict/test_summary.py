from __future__ import annotations

import csv
import tracemalloc

import pytest

from funduscope.predict.summary import COLUMNS, SummaryRow, open_summary, write_summary


def read(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def rows_until(error):
    yield SummaryRow(photo="a.jpg")
    raise error


def test_a_row_holds_what_was_found(drawn_eye, tmp_path):
    found = drawn_eye().to_dict()
    (row,) = read(write_summary([SummaryRow.of(found, "eye")], tmp_path / "summary.csv"))
    assert tuple(row) == COLUMNS
    expected = {
        "photo": "eye.jpg", "error": "", "gradable": "yes", "grade": "2", "grade_name": "Moderate", "p2": "0.71",
        "dme": "2", "dme_confidence": "0.83", "referable": "yes", "referable_probability": "0.89", "MA_count": "2",
        "SE_count": "1", "fovea_x_px": "130.0", "disc_y_px": "150.0", "folder": "eye",
    }  # fmt: skip
    assert {key: row[key] for key in expected} == expected


def test_what_is_not_known_stays_empty(drawn_eye, tmp_path):
    failed = {"photo": {"name": "broken.jpg"}, "error": {"code": "E_TRUNCATED", "says": "It ends too early."}}
    rows = [SummaryRow.of(drawn_eye(gradable_ok=False).to_dict()), SummaryRow.of_failure(failed)]
    refused, broken = read(write_summary(rows, tmp_path / "summary.csv"))
    assert refused["gradable"] == "no"
    assert {refused[key] for key in COLUMNS[3:]} == {""}
    assert broken["error"] == "E_TRUNCATED"
    assert {broken[key] for key in COLUMNS[2:]} == {""}


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", " =", "＝"])
def test_no_cell_becomes_a_formula(start, tmp_path):
    name = f"{start}cmd('x')!A1,\"\n.jpg"
    (row,) = read(write_summary([SummaryRow(photo=name)], tmp_path / "summary.csv"))
    assert row["photo"] == f"'{name}"


def test_the_programs_own_numbers_stay_numbers(drawn_eye, tmp_path):
    found = drawn_eye(fovea_xy=(-3.5, 2.0)).to_dict()
    (row,) = read(write_summary([SummaryRow.of(found)], tmp_path / "summary.csv"))
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


def test_two_runs_at_once_do_not_mix(tmp_path):
    path = tmp_path / "summary.csv"
    with open_summary(path) as one:
        one(SummaryRow(photo="a.jpg"))
        with open_summary(path) as other:
            other(SummaryRow(photo="b.jpg"))
        assert [row["photo"] for row in read(path)] == ["b.jpg"]
        one(SummaryRow(photo="c.jpg"))
    assert [row["photo"] for row in read(path)] == ["a.jpg", "c.jpg"]


def test_memory_stays_flat(tmp_path):
    tracemalloc.start()
    write_summary((SummaryRow(photo=f"{number}.jpg") for number in range(5000)), tmp_path / "summary.csv")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 500_000
