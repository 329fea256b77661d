"""Label files as people and their spreadsheets save them."""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

import pytest
from tests.workbooks import write_xlsx

from funduscope.data.case import LabelError
from funduscope.data.rows import EYES, columns_of, read_sheet, read_tolerantly


@pytest.mark.parametrize(
    "text",
    [
        b"image,dr ,,,\nA,3,,,\n",
        b"\xef\xbb\xbfimage,dr,,\r\nA,3,,\r\n,,,\r\n",
        b"image;dr\nA;3\n",
        b'"image","dr"\r"A"," 3 "\r',
        b"image,dr\n\n A ,3.0",
        b"sep=;\r\nimage;dr\r\nA;3\r\n",
        b"image\tdr\r\nA\t3\r\n",
        b"\r\n,\r\nimage,dr\r\nA,3\r\n",
    ],
    ids=[
        "blank columns, trailing space",
        "mark, CRLF, blank row",
        "semicolons",
        "old line ends",
        "blank line",
        "Excel",
        "tabs",
        "blank rows above",
    ],
)
def test_the_same_row_however_it_was_saved(text: bytes, tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_bytes(text)
    sheet = read_sheet(tmp_path / "labels.csv", ("image", "dr"))
    assert sheet.columns == ("image", "dr")
    assert [(row.text("image"), row.integer("dr", 4)) for row in sheet.rows] == [("A", 3)]
    assert columns_of(tmp_path / "labels.csv") == {"image", "dr"}


def test_rows_are_counted_as_a_spreadsheet_counts(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("image,dr\nA,1\n,\nB,7\n")
    row = read_sheet(tmp_path / "labels.csv").rows[-1]
    with pytest.raises(LabelError, match=r"labels\.csv, row 4, column dr: is '7'; expected a whole number from 0 to 4"):
        row.integer("dr", 4)


@pytest.mark.parametrize(("word", "grade"), [("No DR", 0), ("Moderate NPDR", 2), ("proliferate_dr", 4), ("3", 3)])
def test_a_grade_may_be_a_word(word: str, grade: int, tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text(f"image,dr\nA,{word}\n")
    assert read_sheet(tmp_path / "labels.csv").rows[0].grade("dr") == grade


@pytest.mark.parametrize("text", ["3 PDR", "7 mild", "-1 mild", "2 (mild)", "Mild 4", "no DR?", "mild?"])
def test_a_word_next_to_something_else_is_no_grade(text: str, tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text(f"image,dr\nA,{text}\n")
    with pytest.raises(LabelError, match=r"row 2, column dr: is '.*'; expected"):
        read_sheet(tmp_path / "labels.csv").rows[0].grade("dr")


def test_a_quoted_name_may_contain_another_delimiter(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text('image;dr;"place, px"\nA;3;7\n')
    assert columns_of(tmp_path / "labels.csv") == {"image", "dr", "place, px"}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"", "is empty"),
        (b"photo\nA\n", "lacks the column image; its first row has: photo"),
        (b"image,dr,dr\nA,1,2\n", "column dr stands there twice"),
        (b"image,dr\nA,1,2\n", "row 2: '2' is in column 3"),
        (b"image\n\xe9\n", "not text in UTF-8"),
    ],
)
def test_what_is_no_table_says_why(text: bytes, says: str, tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_bytes(text)
    with pytest.raises(LabelError, match=says):
        read_sheet(tmp_path / "labels.csv", ("image",))


def test_cells_that_cannot_be_what_the_column_holds(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("image,x,y,eye\n,12px,,third\n")
    row = read_sheet(tmp_path / "labels.csv").rows[0]
    with pytest.raises(LabelError, match="row 2, column image: is empty"):
        row.needed("image")
    with pytest.raises(LabelError, match="column x: is '12px'; expected a number"):
        row.point("x", "y")
    with pytest.raises(LabelError, match="column eye: is 'third'; expected one of l, r"):
        row.one_of("eye", EYES)


@pytest.mark.parametrize("text", ["0_1", "1_2", "nan", "inf", "0x1", "1e999", "\u0663"])
def test_what_only_python_takes_for_a_number_is_no_label(text: str, tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text(f"grade,x\n{text},{text}\n", "utf-8")
    row = read_sheet(tmp_path / "labels.csv").rows[0]
    with pytest.raises(LabelError, match="column x"):
        row.number_at("x")
    with pytest.raises(LabelError, match="column grade"):
        row.grade("grade")


@pytest.mark.parametrize(("text", "number"), [("1.5", 1.5), ("-.5", -0.5), ("+3.", 3), ("1e3", 1000), ("2E-1", 0.2)])
def test_a_number_may_be_written_in_any_usual_way(text: str, number: float, tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text(f"x\n{text}\n")
    assert read_sheet(tmp_path / "labels.csv").rows[0].number_at("x") == number


def test_half_a_point_is_an_error_and_none_is_none(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("x,y,z\n5,,1\n,,1\n1,nan,1\n")
    half, none, nan = read_sheet(tmp_path / "labels.csv").rows
    with pytest.raises(LabelError, match="column y: is empty while x is not"):
        half.point("x", "y")
    assert none.point("x", "y") is None
    with pytest.raises(LabelError, match="'nan'"):
        nan.point("x", "y")


def test_a_workbook_reads_like_a_csv(tmp_path: Path) -> None:
    cells = (
        '<row r="1"><c r="A1" t="s"><v>0</v></c><c r="B1" t="inlineStr"><is><t>X- Coordinate</t></is></c>'
        '<c r="D1" t="s"><v>1</v></c></row>'
        '<row r="3"><c r="A3" t="s"><v>2</v></c><c r="B3"><v>12.5</v></c><c r="D3"><v>7</v></c></row>'
    )
    split_in_two = "<si><r><t>Y -</t></r><r><t xml:space='preserve'> Coordinate</t></r></si>"
    strings = f"<si><t>Image No</t></si>{split_in_two}<si><t>IDRiD_001</t></si>"
    write_xlsx(tmp_path / "markups.xlsx", cells, strings)
    sheet = read_sheet(tmp_path / "markups.xlsx")
    assert sheet.columns == ("Image No", "X- Coordinate", "Y - Coordinate")
    assert sheet.rows[0].number == 3
    assert sheet.rows[0].point("X- Coordinate", "Y - Coordinate") == (12.5, 7.0)
    assert sheet.rows[0].text("Y - Coordinate") == "7"


@pytest.mark.parametrize(
    ("cell", "message"),
    [("XFD1048576", "1,048,576 rows and 16,384 columns"), ("A1", "more than 200 MB")],
    ids=["a cell far away", "a text that unpacks to much more"],
)
def test_a_workbook_that_would_fill_the_memory_is_refused(cell: str, message: str, tmp_path: Path) -> None:
    content = "a" * 200_000_001 if cell == "A1" else "1"
    write_xlsx(tmp_path / "markups.xlsx", f'<row r="1"><c r="{cell}" t="str"><v>{content}</v></c></row>')
    with pytest.raises(LabelError, match=message):
        read_sheet(tmp_path / "markups.xlsx")


@pytest.mark.parametrize("given", [("<c ", "<x:c "), ("worksheets/", "sheets/")])
def test_so_is_one_that_is_written_in_a_rarer_way(given: tuple[str, str], tmp_path: Path) -> None:
    write_xlsx(tmp_path / "plain.xlsx", '<row r="1"><c r="XFD1048576" t="str"><v>1</v></c></row>')
    with zipfile.ZipFile(tmp_path / "plain.xlsx") as old, zipfile.ZipFile(tmp_path / "rare.xlsx", "w") as new:
        for name in old.namelist():
            new.writestr(name.replace(*given), old.read(name).decode().replace(*given))
    with pytest.raises(LabelError, match="1,048,576 rows"):
        read_sheet(tmp_path / "rare.xlsx")


def test_what_is_no_workbook_says_so(tmp_path: Path) -> None:
    (tmp_path / "markups.xlsx").write_text("no zip")
    with pytest.raises(LabelError, match=r"markups\.xlsx: The file cannot be read as an \.xlsx workbook"):
        read_sheet(tmp_path / "markups.xlsx")
    write_xlsx(tmp_path / "markups.xlsx", '<row r="1"><c t="s"><v>9</v></c></row>', "")
    with pytest.raises(LabelError, match=r"markups\.xlsx: The file cannot be read"):
        read_sheet(tmp_path / "markups.xlsx")


def test_without_its_reader_a_workbook_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "python_calamine", None)
    with pytest.raises(LabelError, match=r"pip install '\.\[tables\]' in the clone of funduscope, or save it as CSV"):
        read_sheet(tmp_path / "markups.xlsx")


def test_a_tolerant_reading_goes_on_after_a_fault(tmp_path: Path) -> None:
    """The strict one raises the first fault, in the same words."""
    (tmp_path / "labels.csv").write_bytes("image,dr,dr\nA,1,,5\nMüller,2\n".encode("cp1252"))
    sheet = read_tolerantly(tmp_path / "labels.csv")
    assert [(row.number, row.cells) for row in sheet.rows] == [
        (2, {"image": "A", "dr": "1"}),
        (3, {"image": "Müller", "dr": "2"}),
    ]
    assert [(fault.row, fault.column) for fault in sheet.faults] == [(3, None), (1, "dr"), (2, "(4)")]
    with pytest.raises(LabelError) as raised:
        read_sheet(tmp_path / "labels.csv")
    assert str(raised.value).endswith(f"labels.csv, row 3: {sheet.faults[0].says}")
    assert read_tolerantly(tmp_path / "absent.csv").unreadable
