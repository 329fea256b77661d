"""Every text exists in every language with the same placeholders; every code of a finding is translated."""

from __future__ import annotations

import re
from pathlib import Path
from string import Formatter

import pytest

from funduscope.i18n import languages
from funduscope.i18n.errors import HTTP_STATUS
from funduscope.i18n.languages import LANGUAGES, Words, string_table
from funduscope.i18n.messages import message
from funduscope.imaging.limits import LIMITS
from funduscope.vocabulary import CODES as STRUCTURES
from funduscope.vocabulary import DME_RISKS, GRADES, LANDMARKS, structure

SOURCE = Path(languages.__file__).parents[1]
OTHERS = [language for language in LANGUAGES if language != "en"]


def placeholders(text: str) -> frozenset[str]:
    """The names of the values that a text is filled with."""
    return frozenset(name for _, name, _, _ in Formatter().parse(text) if name)


def test_page_and_pdf_texts_exist_in_every_language() -> None:
    assert not string_table("page").keys() & string_table("paper").keys(), "a key has one text"
    for key, row in {**string_table("page"), **string_table("paper")}.items():
        assert set(row) == set(LANGUAGES), key
        assert all(text.strip() for text in row.values()), key
        wanted = placeholders(row["en"])
        assert all(placeholders(text) == wanted for text in row.values()), f"{key} is filled with other values"


def test_every_finding_is_translated() -> None:
    for code, row in string_table("findings").items():
        assert set(row) == set(LANGUAGES), code
        assert len({placeholders(text) for text in row.values()}) == 1, code


def test_every_message_of_the_source_has_a_sentence_and_every_sentence_is_used() -> None:
    source = "".join(path.read_text("utf-8") for path in SOURCE.rglob("*.py"))
    codes = set(string_table("findings"))
    assert set(re.findall(r"\bmessage\(\s*\"([A-Z0-9_]+)\"", source)) <= codes
    of_landmarks = {f"{name.upper()}_{what}" for name in LANDMARKS for what in ("ESTIMATED", "NOT_FOUND")}
    assert not [code for code in codes - of_landmarks if f'"{code}"' not in source]


def test_every_refusal_is_translated() -> None:
    table = string_table("errors")
    assert set(table) == set(HTTP_STATUS)
    limits = {"max_mb": 1, "max_megapixels": 1, "min_side_px": LIMITS.min_side_px}
    for code, row in table.items():
        assert set(row) == set(OTHERS), code
        for language in OTHERS:
            assert placeholders(row[language]) <= set(limits), code
            assert Words(language).error(code, "?", limits) != "?."


def test_every_text_is_used() -> None:
    """Keys are literals in the source, or literals that a grade, a structure or a tool completes."""
    places = (SOURCE / "app", SOURCE / "report")
    source = "".join(path.read_text("utf-8") for place in places for path in place.glob("*.py"))
    files = ("i18n/languages.py", "inference/model_scores.py", "report/viewer/report.html.j2")
    source += "".join((SOURCE / name).read_text("utf-8") for name in files)
    begun = tuple(f"{start}." for quote in "\"'" for start in re.findall(rf"f{quote}([\w.]+)\.\{{", source))
    unused = [
        key
        for key in (*string_table("page"), *string_table("paper"))
        if key not in source and not key.startswith(begun)
    ]
    assert not unused


@pytest.mark.parametrize("language", LANGUAGES)
def test_names_of_grades_risks_and_structures_are_complete(language: str) -> None:
    words = Words(language)
    assert len({words(f"grade.{grade}") for grade in range(len(GRADES))}) == len(GRADES)
    assert len({words(f"dme.{risk}") for risk in range(len(DME_RISKS))}) == len(DME_RISKS)
    assert len({words.structure(code) for code in STRUCTURES}) == len(STRUCTURES)
    if language == "en":
        assert [words.structure(code) for code in STRUCTURES] == [structure(code).name for code in STRUCTURES]
        assert [words(f"grade.{grade}") for grade in range(len(GRADES))] == list(GRADES)
        assert [words(f"dme.{risk}") for risk in range(len(DME_RISKS))] == list(DME_RISKS)


def test_a_sentence_follows_from_its_code_and_values() -> None:
    near = message("DME_2_NEAR_FOVEA", {"distance_dd": 0.3124}).to_dict()
    assert Words("en").message(near) == near["says"]
    assert "0,31 Papillendurchmesser" in Words("de").message(near)
    assert "0.31" in Words("hi").message(near)
    kinds = message("ICDR_2_BEYOND_MA", {"at_least": 2, "kinds": ["HE", "EX"]}).to_dict()
    assert Words("de").message(kinds).startswith("Blutungen und harte Exsudate")
    assert Words("es").message(kinds).startswith("Hemorragias y exudados duros")


def test_a_code_without_a_translation_is_in_english() -> None:
    assert Words("de").message({"code": "FROM_TOMORROW", "values": {}, "says": "Something new."}) == "Something new."
    with pytest.raises(ValueError, match="known: en, de"):
        Words("fr")


def test_what_is_rounded_to_nothing_has_no_sign() -> None:
    english, german = (languages._Numbers(comma) for comma in (False, True))
    assert english.format("{:.2f}, {:.0%}, {:.2f}", -0.0003, -0.001, -0.01) == "0.00, 0 %, -0.01"
    assert german.format("{:.2f}", -0.0003) == "0,00"
