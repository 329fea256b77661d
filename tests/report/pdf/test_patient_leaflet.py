"""The sheet for the patient: plain words, what to do next, one page, in every language, on screen and on paper."""

from __future__ import annotations

import re
from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any

import cv2
import numpy as np
import pytest

from funduscope.i18n.languages import LANGUAGES, Words, string_table
from funduscope.i18n.messages import message
from funduscope.inference.headline import headline
from funduscope.inference.rules import Advice, advise_nothing
from funduscope.report.patient_leaflet import FIELDS, PatientLeaflet, compose
from funduscope.report.patient_leaflet_html import patient_leaflet_html
from funduscope.vocabulary import LESIONS

from .conftest import healthy, not_gradable, told

JARGON = (
    "retinopath", "microaneurysm", "haemorrhag", "exudate", "macul", "edema", "oedema", "icdr", "proliferat", "lesion",
    "probab", "threshold", "likel", "risk", "grade", "referab", "fovea", "optic", "%", "blind", "danger", "serious",
    "severe", "urgent", "emergency",
)  # fmt: skip


def said(leaflet: PatientLeaflet) -> str:
    parts = [line for part in leaflet.parts for line in (part.title, *part.says, *part.points, *part.after)]
    return "\n".join(
        [leaflet.title, leaflet.subtitle, leaflet.eye, *parts, leaflet.contact.title, *leaflet.contact.says]
    )


EVERY: dict[str, dict[str, Any]] = {
    "found": told(),
    "healthy": healthy(),
    "not gradable": not_gradable(),
    "grade 1": told(
        predicted_grade=1, rules={"grade_range": [1, 1], "agrees": True, "dme_risk": 0, "dme_agrees": True}
    ),
    "grade 4": told(
        predicted_grade=4, rules={"grade_range": [2, 3], "agrees": None, "dme_risk": 1, "dme_agrees": True}
    ),
    "unsure": healthy(
        predicted_grade=3, rules={"grade_range": [0, 0], "agrees": False, "dme_risk": 0, "dme_agrees": True}
    ),
    "several": not_gradable("SEVERAL_PHOTOS"),
    "poor": told(warnings=[message("OUT_OF_FOCUS").to_dict()]),
}


@pytest.mark.parametrize("language", LANGUAGES)
def test_which_eye_is_left_open_where_it_is_not_known(language: str) -> None:
    words = Words(language)
    turned = compose(told(laterality=None, warnings=[message("UPSIDE_DOWN").to_dict()]), words)
    assert turned.eye == words("sheet.eye.unknown")
    assert turned.parts == compose(told(), words).parts, "nothing else changes"


@pytest.mark.parametrize("language", LANGUAGES)
def test_an_eye_that_the_file_calls_the_other_is_not_named(language: str) -> None:
    words = Words(language)
    disputed = told(laterality="right", warnings=[message("FILE_SAYS_LEFT_EYE").to_dict()])
    assert compose(told(laterality="right"), words).eye == words("sheet.eye.right")
    assert compose(disputed, words).eye == words("sheet.eye.unknown")


def test_without_the_macula_in_the_photo_it_is_taken_again() -> None:
    unseen = healthy(warnings=[message("FOVEA_NOT_FOUND").to_dict()])
    unseen |= {"headline": headline(unseen)}
    for grade in (None, 0):
        text = said(compose(unseen, Words(), grade=grade))
        assert "have a new photo taken" in text
        assert Words()("sheet.found.unsure") in text
    assert "have a new photo taken" not in said(compose(healthy(), Words()))


def test_several_photos_in_one_picture_are_no_fault_of_the_photos() -> None:
    text = said(compose(EVERY["several"], Words()))
    assert "holds several photos" in text
    assert "new photo" not in text
    assert "did not come out well" not in text


@pytest.mark.parametrize("kind", EVERY)
def test_everybody_understands_it(kind: str) -> None:
    text = said(compose(EVERY[kind], Words()))
    assert not [word for word in JARGON if word in text.lower()]
    assert not re.search(r"\d", text), "no numbers"
    sentences = [one for one in re.split(r"[.:?!]\s|\n", text) if one.strip()]
    lengths = [len(one.split()) for one in sentences]
    assert max(lengths) <= 24
    assert sum(lengths) / len(lengths) <= 13
    long = [word for word in re.findall(r"[A-Za-z]+", text) if len(word) > 10]
    assert not long


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("kind", EVERY)
def test_it_says_what_was_looked_at_found_and_to_do(kind: str, language: str) -> None:
    words, leaflet = Words(language), compose(EVERY[kind], Words(language))
    assert [part.title for part in leaflet.parts] == [
        words(f"sheet.{name}") for name in ("looked", "found", "next", "not")
    ]
    assert all(part.says or part.points for part in leaflet.parts)
    assert leaflet.fields == tuple(words(f"sheet.contact.{name}") for name in FIELDS)


def test_what_to_do_follows_from_advice() -> None:
    words = Words()
    for found, key in ((told(), "urgent"), (healthy(), "no_referral"), (not_gradable(), "again")):
        assert words(f"sheet.next.{key}") in said(compose(found, words))
    # Where model and lesions disagree, the more careful of them counts, as in `advice`.
    lesions_alone = told(
        predicted_grade=0, rules={"grade_range": [2, 3], "agrees": False, "dme_risk": 2, "dme_agrees": True}
    )
    text = said(compose(lesions_alone, words))
    assert words("sheet.found.2") in text
    assert words("sheet.found.unsure") in text
    assert words("sheet.next.urgent") in text


def test_who_is_referred_for_what_may_be_there_is_told_that_the_program_is_not_sure() -> None:
    """The likeliest grade is 0, and grades 2 and above together are likely enough: no marks, and yet a referral."""
    words = Words()
    because = [message("REFERABLE_PROBABLE", {"probability": 0.4, "threshold": 0.35}).to_dict()]
    probable = healthy(advice={"refer": True, "urgency": "soon", "because": because})
    for found, unsure in ((probable, True), (healthy(), False)):
        text = said(compose(found, words))
        assert words("sheet.found.0") in text
        assert (words("sheet.next.refer") in text) is unsure
        assert (words("sheet.found.unsure") in text) is unsure


@pytest.mark.parametrize(
    "doubt", [{"trust": "TRUST_UNLIKE_TRAINING"}, {"grade": "GRADE_UNDECIDED"}, {"dme": "DME_UNDECIDED"}]
)
def test_a_doubt_of_the_headline_is_told(doubt: dict[str, str]) -> None:
    words, found = Words(), healthy()
    assert words("sheet.found.unsure") not in said(compose(found, words))
    found["headline"] = found["headline"] | {part: {"code": code} for part, code in doubt.items()}
    assert words("sheet.found.unsure") in said(compose(found, words))


@pytest.mark.parametrize("grade", [0, 3])
def test_nothing_is_said_to_be_found_or_absent_where_the_grade_is_undecided(grade: int) -> None:
    words, found = Words(), healthy(predicted_grade=grade)
    found["headline"] = found["headline"] | {"grade": {"code": "GRADE_UNDECIDED"}}
    text = said(compose(found, words))
    assert words("sheet.found.undecided") in text
    assert words(f"sheet.found.{grade}") not in text
    assert words("sheet.found.3") in said(compose(found, words, grade=3)), "a person decided"


def test_no_marks_are_said_to_be_found_where_only_the_edema_risk_is_undecided() -> None:
    words = Words()
    undecided = {"risk": 1, "confidence": 0.4, "probabilities": [0.35, 0.4, 0.25]}
    advice = Advice("routine", "soon", (message("DME_REFERABLE", {"risk": 1}),)).to_dict()
    text = said(compose(healthy(dme=undecided, advice=advice), words))
    assert words("sheet.found.undecided") in text
    assert words("sheet.edema.unmarked") in text
    assert words("sheet.found.1") not in text
    assert words("sheet.not.lost") not in text


def test_no_referral_says_nothing_about_other_diseases() -> None:
    assert "It says nothing about other diseases." in said(compose(healthy(), Words()))


def test_a_photo_that_shows_hardly_anything_is_to_be_taken_again() -> None:
    words, reasons = Words(), [message("HARDLY_VISIBLE").to_dict()]
    gradable = {"ok": True, "score": 0.05, "advice": "retake", "reasons": reasons}
    text = said(compose(told(gradable=gradable, advice=advise_nothing().to_dict()), words))
    assert words("sheet.found.not_read") in text
    assert words("sheet.next.again") in text
    assert words("sheet.next.urgent") not in text


def test_exudates_of_unknown_distance_are_called_neither_near_nor_far() -> None:
    words = Words()
    rules = {"grade_range": [2, 3], "agrees": True, "dme_risk": 1, "dme_range": [1, 2], "dme_agrees": True}
    for span, key in (([1, 2], "unmarked"), ([1, 1], "1"), ([2, 2], "unmarked")):
        text = said(compose(told(rules=rules | {"dme_range": span}, dme={"risk": 1, "confidence": 0.6}), words))
        assert words(f"sheet.edema.{key}") in text


def test_a_model_without_a_grade_is_not_said_to_have_looked_for_nothing() -> None:
    words, nothing = Words(), {"predicted_grade": None, "rules": None, "lesions": None}
    edema = said(compose(healthy(**nothing, dme={"risk": 0, "confidence": 0.9}), words))
    places = said(compose(healthy(**nothing, dme=None), words))
    for key, in_edema in (("sheet.looked_for", True), ("sheet.found.nothing", True), ("sheet.found.not_looked", False)):
        assert (words(key) in edema, words(key) in places) == (in_edema, not in_edema)


def test_each_kind_of_lesion_has_plain_words() -> None:
    assert {f"sheet.seen.{code}" for code in LESIONS} <= string_table("paper").keys()
    text = said(compose(told(), Words()))
    assert all(Words()(f"sheet.seen.{code}") in text for code in ("MA", "HE", "EX"))
    assert Words()("sheet.seen.SE") not in text, "none was found"
    assert Words()("sheet.edema.2") in text


def test_a_photo_that_was_not_read_says_nothing_of_the_eye() -> None:
    for language in LANGUAGES:
        words = Words(language)
        text = said(compose(not_gradable(), words))
        assert words("sheet.not.wrong") in text
        assert not [
            key
            for key in string_table("paper")
            if key.startswith("sheet.found.") and key[-1].isdigit() and words(key) in text
        ]


def test_a_persons_word_counts_before_the_models() -> None:
    words = Words()
    text = said(compose(told(), words, grade=0, dme=0))
    assert words("sheet.found.0") in text
    assert words("sheet.next.no_referral") in text
    assert words("sheet.seen") not in text
    text = said(compose(healthy(), words, grade=3))
    assert words("sheet.found.3") in text
    assert words("sheet.next.refer") in text


def test_who_corrects_the_edema_alone_drops_no_referral_for_the_grade() -> None:
    words = Words()
    lesions = {"rules": {"grade_range": [1, 1], "agrees": True, "dme_risk": 0, "dme_agrees": True}}
    probable = {"value": True, "probability": 0.45, "threshold": 0.3495}
    found = told(predicted_grade=1, referable=probable, **lesions)
    assert words("sheet.next.refer") in said(compose(found, words, dme=0))
    assert words("sheet.next.no_referral") in said(compose(found, words, grade=1, dme=0))
    lesions["advice"] = Advice("routine", "routine", (message("NOTHING_REFERABLE"),)).to_dict()
    calm = told(predicted_grade=1, referable=probable | {"value": False}, **lesions)
    assert words("sheet.next.no_referral") in said(compose(calm, words, dme=0))
    ungraded = told(predicted_grade=None, referable=None, **lesions)
    assert words("sheet.next.no_referral") in said(compose(ungraded, words, dme=0))


def test_a_new_lesion_is_named_until_it_has_plain_words() -> None:
    found = told()
    found["lesions"]["OD"] = found["lesions"]["MA"]
    assert "Optic disc" in said(compose(found, Words()))


class Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_html_allows_nothing_but_itself(language: str, jpeg: bytes) -> None:
    text = patient_leaflet_html(compose(told(), Words(language)), jpeg)
    page = Page(text)
    assert ("html", {"lang": language}) in page.tags
    (policy,) = [attributes["content"] for tag, attributes in page.tags if attributes.get("http-equiv")]
    assert policy is not None
    assert "default-src 'none'" in policy
    assert "script-src" not in policy
    assert not [tag for tag, _ in page.tags if tag in ("script", "link", "iframe")]
    assert not [name for _, attributes in page.tags for name in attributes if name == "style" or name.startswith("on")]
    assert not re.search(r"https?:", re.sub(r"base64,[A-Za-z0-9+/=]+", "", text))


def test_texts_are_escaped_in_the_html() -> None:
    words = Words()
    leaflet = compose(told(), words)
    nasty = PatientLeaflet(**{**vars(leaflet), "small": "<script>alert(1)</script>", "eye": '"><img src=x>'})
    text = patient_leaflet_html(nasty)
    assert "<script>alert" not in text
    assert "<img src=x>" not in text


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("kind", EVERY)
def test_the_pdf_is_one_page_with_every_word(
    kind: str, language: str, jpeg: bytes, pages: Callable[[bytes], list[str]]
) -> None:
    pytest.importorskip("uharfbuzz", reason="PDF needs the extra `report`")
    from funduscope.report.patient_leaflet_pdf import SIZES, _column, patient_leaflet_pdf
    from funduscope.report.pdf import room_left

    leaflet = compose(EVERY[kind], Words(language))
    (text,) = pages(patient_leaflet_pdf(leaflet, jpeg))
    for line in (*said(leaflet).splitlines(), *leaflet.fields, leaflet.small):
        assert " ".join(line.split()) in text, line
    assert room_left(_column(leaflet, jpeg, SIZES[3])) >= 0, "in letters that are easy to read"


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_text_touches_a_wide_photo_in_the_pdf(language: str) -> None:
    pdfium = pytest.importorskip("pypdfium2", reason="reading PDFs back needs pypdfium2")
    pytest.importorskip("uharfbuzz", reason="PDF needs the extra `report`")
    from funduscope.report.patient_leaflet_pdf import SIZES, _head
    from funduscope.report.pdf import Document

    jpeg = cv2.imencode(".jpg", np.zeros((200, 300, 3), np.uint8))[1].tobytes()
    leaflet = compose(told(), Words(language))
    for size in SIZES:
        document = Document(language, leaflet.title)
        document.add([_head(leaflet, jpeg, size)], leaflet.small)
        page = pdfium.PdfDocument(document.to_bytes())[0]
        (photo,) = [one.get_bounds() for one in page.get_objects() if one.type == pdfium.raw.FPDF_PAGEOBJ_IMAGE]
        left, bottom, _, top = photo
        text = page.get_textpage()
        boxes = [text.get_rect(n) for n in range(text.count_rects())]
        to_the_left = [box for box in boxes if box[0] < left and box[1] < top and box[3] > bottom]
        assert max(box[2] for box in to_the_left) < left - 10, size
