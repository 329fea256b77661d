"""A page of PDF says what findings say, in every language, whatever the photo is called, and is one page."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("reportlab", reason="PDF needs the extra `report`")
pytest.importorskip("uharfbuzz", reason="PDF needs the extra `report`")

from funduscope.i18n.languages import LANGUAGES, Words
from funduscope.inference.findings import Failure
from funduscope.report.pdf import FOOTER_HEIGHT, HEIGHT, MARGIN, Document, room_left
from funduscope.report.pdf_outputs import PdfOutputs
from funduscope.report.pdf_page import PageContent, failure_page, footer, page
from funduscope.report.pdf_text import Text, style
from funduscope.report.results_folder import OutputOptions

from .conftest import healthy, not_gradable, told

Pages = Callable[[bytes], list[str]]
FIGURES = [
    {"dataset": "clinic", "state": "DR", "score": "kappa", "photos": 73, "value": 0.833, "low": 0.742, "high": 0.905},
    {"dataset": "clinic", "state": "DME", "score": "accuracy", "photos": 73, "value": 0.795, "low": None, "high": None},
    {"dataset": "other", "state": "DR", "score": "kappa", "photos": 9, "value": None, "low": None, "high": None},
]


def made(shown: PageContent, language: str = "en") -> bytes:
    words = Words(language)
    document = Document(language)
    document.add(page(shown, words), footer(shown.found, words))
    return document.to_bytes()


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_page_says_what_was_found(language: str, jpeg: bytes, pages: Pages) -> None:
    words, found = Words(language), told()
    (text,) = pages(made(PageContent(found, jpeg, figures=FIGURES), language))
    said = [words.message(part) for part in found["headline"].values() if part]
    said += [words("grade.set", {"grades": "2, 3"})]
    said += [words.message(one) for one in (*found["evidence"], *found["advice"]["because"], *found["warnings"])]
    said += [words.structure(code) for code in found["lesions"]]
    said += [
        words("not_a_device"),
        words("paper.limits"),
        words("gradable.score", {"score": words.number(0.97, ".2f")}),
    ]
    said += ["eye.jpg", "a-model 1.2.3", "cdcdcdcdcdcd", "abababababab"]
    said += [f"{words.number(0.833, '.2f')} ({words.number(0.742, '.2f')} – {words.number(0.905, '.2f')})"]
    for sentence in said:
        assert " ".join(sentence.split()) in text, sentence
    others = {name: Words(name)("paper.not") for name in LANGUAGES if name != language}
    assert not [name for name, title in others.items() if title in text]


def test_hindi_letters_are_joined(ink: Callable[[bytes], np.ndarray]) -> None:
    """A conjunct is narrower than its letters in a row, and a sign takes less room next to its letter than alone."""

    def drawn(text: str) -> np.ndarray:
        document = Document("hi")
        document.add([Text(text, style(40))], "")
        columns = np.nonzero((ink(document.to_bytes())[: int(MARGIN) + 80] < 128).any(axis=0))[0]
        return columns[-1] - columns[0]

    assert drawn("क्ष") < 0.8 * drawn("कष")
    shaped = Text("कि", style(40))
    shaped.wrap(500, 100)
    assert drawn("कि") < drawn("क") + drawn("ि")


def test_a_card_without_figures_says_so(jpeg: bytes, pages: Pages) -> None:
    (text,) = pages(made(PageContent(told(), jpeg)))
    assert Words()("paper.figures_none") in text


def test_findings_without_a_set_say_so(jpeg: bytes, pages: Pages) -> None:
    found = told()
    del found["grade_set"]
    assert Words()("paper.set_unknown") in pages(made(PageContent(found, jpeg)))[0]


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_photo_that_cannot_be_graded_has_no_grade(language: str, jpeg: bytes, pages: Pages) -> None:
    words = Words(language)
    (text,) = pages(made(PageContent(not_gradable(), jpeg, figures=FIGURES), language))
    assert words.message(not_gradable()["headline"]["trust"]) in text
    assert words.message(not_gradable()["gradable"]["reasons"][0]) in text
    assert words.message(not_gradable()["headline"]["referral"]) in text
    assert words("grade.title") not in text.replace(words("not_a_device"), "")
    assert words("advice.no_referral") not in text


def test_a_file_that_was_refused_says_why(pages: Pages) -> None:
    words = Words("es")
    document = Document("es")
    document.add(failure_page("torn.jpg", words.error("E_TRUNCATED", "?", {}), "E_TRUNCATED", words), "")
    (text,) = pages(document.to_bytes())
    assert "torn.jpg" in text
    assert "El archivo termina antes de tiempo" in text
    assert "E_TRUNCATED" in text
    assert words("paper.refused_note")[:30] in text


@pytest.mark.parametrize("code", ["E_FORMAT", "E_INTERNAL"])
def test_a_photo_that_was_not_answered_for_another_reason_is_not_called_unreadable(
    code: str, tmp_path: Path, pages: Pages
) -> None:
    with PdfOutputs(OutputOptions(pdf=True, language="de"), tmp_path, 2) as outputs:
        outputs.add_failure(Failure("eye.jpg", code, "why"), lacks_study=code == "E_FORMAT")
    (text,) = pages((tmp_path / "summary.pdf").read_bytes())
    assert Words("de")("paper.refused_note")[:30] not in text
    assert ("DICOM-Objekte" in text) == (code == "E_FORMAT")


def test_pages_of_an_earlier_run_do_not_stay_next_to_those_of_an_interrupted_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("funduscope.report.pdf_outputs.MAX_PAGES", 1)
    for most in (3, 1):
        with suppress(KeyboardInterrupt), PdfOutputs(OutputOptions(pdf=True), tmp_path, 3) as outputs:
            for number in range(most):
                outputs.add_failure(Failure(f"{number}.jpg", "E_EMPTY", "it is empty"))
            raise KeyboardInterrupt
    assert [path.name for path in tmp_path.iterdir()] == ["summary.pdf"]


@pytest.mark.parametrize(
    "name",
    [
        "<b>bold</b> & <img src='x'/> &amp;.jpg",
        "<para><font size=99>.jpg",
        "]]> ) Tj ET (.jpg",
        "a\0b\nc\u202egpj.exe",
        "\udcff.jpg",
        "दृष्टि Ω 目.jpg",
        "x" * 300,
    ],
)
def test_a_name_is_text_and_nothing_else(name: str, jpeg: bytes, pages: Pages) -> None:
    found = told()
    found["photo"]["name"] = name
    (text,) = pages(made(PageContent(found, jpeg)))
    assert "Moderate" in text
    shown = name.split(".")[0][:60].replace("\0", "\ufffd").replace("\n", "\ufffd").replace("\udcff", "\ufffd")
    assert shown.replace("\u202e", "\ufffd").split("\ufffd")[0] in text


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_longest_page_is_one_page_with_its_photo(language: str, jpeg: bytes) -> None:
    """Everything that can be said at once still leaves room for the photo."""
    found = told()
    found["photo"]["name"] = "x" * 250
    found["evidence"] = found["evidence"] * 3
    found["advice"]["because"] = found["advice"]["because"] * 2
    found["warnings"] = found["warnings"] * 4
    figures = [
        {"dataset": f"set {number}", "state": state, "score": score, "photos": number}
        | {"value": 0.5, "low": 0.25, "high": 0.75}
        for number in range(6)
        for state, score in (("DR", "kappa"), ("DR", "accuracy"), ("DME", "accuracy"), ("referable DR", "sensitivity"))
    ]
    column = page(PageContent(found, jpeg, figures=figures, corrected="Grade: 3 Severe"), Words(language))
    assert room_left(column) >= 0
    photo = max(part.wrap(500, 500)[1] for part in column if type(part).__name__ == "Image")
    assert photo > (HEIGHT - MARGIN - FOOTER_HEIGHT) / 7


def test_the_same_findings_give_the_same_bytes(jpeg: bytes) -> None:
    first = made(PageContent(told(), jpeg), "hi")
    made(PageContent(healthy(), jpeg), "de")
    assert made(PageContent(told(), jpeg), "hi") == first


def test_what_a_person_said_stands_on_the_page(jpeg: bytes, pages: Pages) -> None:
    assert "Corrected by A: Grade 3" in pages(made(PageContent(told(), jpeg, corrected="Corrected by A: Grade 3")))[0]


def test_a_model_that_answers_little_gets_a_page_too(jpeg: bytes, pages: Pages) -> None:
    nothing: dict[str, Any] = dict.fromkeys(
        ("predicted_grade", "probabilities", "dme", "referable", "lesions", "rules")
    )
    (text,) = pages(made(PageContent(told(**nothing, advice=None, evidence=[]), jpeg)))
    assert Words()("paper.no_lesion_sought") in text
