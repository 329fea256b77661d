"""`predict --pdf --sheet`: a page a photo, refused ones too, whatever it is called, in the language asked for."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from funduscope.cli.options import LanguageName
from funduscope.i18n.languages import LANGUAGES, Words

Command = Callable[..., tuple[int, str, str]]
Save = Callable[..., Path]


def texts(path: Path) -> list[str]:
    """The text of each page of a PDF."""
    pdfium = pytest.importorskip("pypdfium2", reason="reading PDFs back needs pypdfium2")
    pytest.importorskip("uharfbuzz", reason="PDF needs the extra `report`")
    return [" ".join(page.get_textpage().get_text_range().split()) for page in pdfium.PdfDocument(path)]


@pytest.fixture(autouse=True)
def _needs_report() -> None:
    pytest.importorskip("uharfbuzz", reason="PDF needs the extra `report`")


def test_every_photo_has_its_page(command: Command, tiny: Path, save_eye: Save, tmp_path: Path) -> None:
    place = tmp_path / "photos"
    names = ["a.jpg", "b.png", "<img src=x onerror=alert(1)>&amp;.jpg"]
    for number, name in enumerate(names):
        save_eye(place / name, 360 + 10 * number)
    Image.fromarray(np.zeros((300, 400, 3), np.uint8)).save(place / "c_black.png")
    (place / "d_torn.jpg").write_bytes((place / "a.jpg").read_bytes()[:-40])
    out = tmp_path / "results"
    code, _, err = command("predict", place, "--model", tiny, "--out", out, "--pdf", "--sheet", "--language", "de")
    assert code == 1, "one could not be read"
    assert len(err.splitlines()) == 1
    words, pages = Words("de"), texts(out / "summary.pdf")
    assert len(pages) == 5
    by_name = {
        name: [text for text in pages if text.startswith(name)] for name in (*names, "c_black.png", "d_torn.jpg")
    }
    assert all(len(found) == 1 for found in by_name.values())
    for name in names:
        assert "tiny 1" in by_name[name][0]
        assert words("paper.figures_none") in by_name[name][0]
    assert words.sentence("TRUST_NOT_FUNDUS", {}) in by_name["c_black.png"][0]
    assert words("paper.refused") in by_name["d_torn.jpg"][0]
    assert "E_TRUNCATED" in by_name["d_torn.jpg"][0]
    assert "Seite 5 von 5" in pages[-1]
    folders = [path for path in out.iterdir() if path.is_dir()]
    assert len(folders) == 4
    for folder in folders:
        assert len(texts(folder / f"{folder.name}_report.pdf")) == len(texts(folder / f"{folder.name}_sheet.pdf")) == 1
        assert words("sheet.title") in (folder / f"{folder.name}_sheet.html").read_text("utf-8")


def test_one_photo_needs_no_file_of_all_pages(command: Command, tiny: Path, save_eye: Save, tmp_path: Path) -> None:
    out = tmp_path / "results"
    assert command("predict", save_eye(tmp_path / "eye.jpg"), "--model", tiny, "--out", out, "--pdf")[0] == 0
    assert [path.name for path in out.iterdir()] == ["eye"]
    assert not (out / "eye" / "eye_sheet.html").exists(), "a sheet is for who asks for it"
    assert len(texts(out / "eye" / "eye_report.pdf")) == 1
    # Once more over it, without paper: an earlier result is replaced whole.
    assert command("predict", tmp_path / "eye.jpg", "--model", tiny, "--out", out)[0] == 0
    assert not (out / "eye" / "eye_report.pdf").exists()


def test_an_interrupted_run_leaves_the_earlier_pages(
    command: Command, tiny: Path, save_eye: Save, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(2):
        save_eye(tmp_path / "photos" / f"{number}.jpg", 360 + 10 * number)
    again = ("predict", tmp_path / "photos", "--model", tiny, "--out", tmp_path / "results", "--pdf")
    assert command(*again)[0] == 0

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("funduscope.report.pdf_page.page", interrupted)
    assert command(*again)[0] == 130
    assert len(texts(tmp_path / "results" / "summary.pdf")) == 2


def test_many_pages_are_parted_into_files(
    command: Command, tiny: Path, save_eye: Save, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that memory does not grow with the photos: never more pages are kept than one file has."""
    from funduscope.report import pdf_outputs
    from funduscope.report.pdf import Document

    held: list[int] = []
    add = Document.add

    def counted(self: Document, column: list, footer: str) -> None:
        add(self, column, footer)
        held.append(self.pages)

    monkeypatch.setattr(pdf_outputs, "MAX_PAGES", 2)
    monkeypatch.setattr(Document, "add", counted)
    for number in range(5):
        save_eye(tmp_path / "photos" / f"{number}.jpg", 360 + 10 * number)
    out = tmp_path / "results"
    assert command("predict", tmp_path / "photos", "--model", tiny, "--out", out, "--pdf")[0] == 0
    names = ("summary.pdf", "summary-2.pdf", "summary-3.pdf")
    assert [len(texts(out / name)) for name in names] == [2, 2, 1]
    assert max(held) == 2
    for number in range(2, 5):
        (tmp_path / "photos" / f"{number}.jpg").unlink()
    assert command("predict", tmp_path / "photos", "--model", tiny, "--out", out, "--pdf")[0] == 0
    assert [(out / name).exists() for name in names] == [True, False, False], "pages of the run before are not printed"


def test_the_extra_that_is_missing_is_named_before_anything_is_read(
    command: Command, tiny: Path, save_eye: Save, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photo, out = save_eye(tmp_path / "eye.jpg"), tmp_path / "results"
    monkeypatch.setitem(sys.modules, "uharfbuzz", None)
    monkeypatch.delitem(sys.modules, "funduscope.report.pdf_text", raising=False)
    code, _, err = command("predict", photo, "--model", tiny, "--out", out, "--pdf")
    assert code == 1
    assert err.strip() == "funduscope: this needs uharfbuzz: pip install '.[report]' in the clone of funduscope"
    assert not out.exists()
    assert command("predict", photo, "--model", tiny, "--out", out, "--sheet")[0] == 0, "HTML needs nothing"
    assert (out / "eye" / "eye_sheet.html").is_file()


def test_paper_needs_a_place(command: Command, tiny: Path, save_eye: Save, tmp_path: Path) -> None:
    code, _, err = command("predict", save_eye(tmp_path / "eye.jpg"), "--model", tiny, "--json", "--pdf")
    assert code == 2
    assert "--out" in err


def test_the_languages_are_those_of_the_tables() -> None:
    assert [one.value for one in LanguageName] == list(LANGUAGES)
