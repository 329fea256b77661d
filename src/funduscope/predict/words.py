"""What findings say of an eye, in words: one table of sentences by code, filled with values.

A sentence is made of its code and values alone, so that another language is another table.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from funduscope.errors import Note
from funduscope.vocabulary import structure

ENGLISH: Final[Mapping[str, str]] = {
    "NOT_FUNDUS": "No round field of view stands out: expected a photograph of the back of the eye.",
    "TOO_DARK": "The field of view is too dark: raise flash or exposure and retake.",
    "TOO_BRIGHT": "The field of view is too bright: lower flash or exposure and retake.",
    "NO_DETAIL": "The field of view has no detail at all: check focus and lens cap and retake.",
    "OUT_OF_FOCUS": "Vessels are not sharp: focus again and retake.",
    "LOW_CONTRAST": "The picture is hazy or without color: clean the lens, widen the pupil and retake.",
    "FIELD_CUT": "A large part of the field of view is missing or in shadow: center the eye, lift the lid and retake.",
    "RESEARCH_WEIGHTS": "The model's weights are for research and education.",
    "ICDR_0_NONE": "None of the four kinds of lesion was found: grade 0.",
    "ICDR_1_MA_ONLY": "Microaneurysms ({count}) and no other lesion: grade 1.",
    "ICDR_2_BEYOND_MA": "{kinds} beyond microaneurysms: at least grade {at_least}.",
    "ICDR_3_HAEMORRHAGES": "More than {each} haemorrhages in each of the four quadrants: at least grade {at_least}.",
    "ICDR_4_NOT_CHECKED": "New vessels are not outlined, so that the lesions neither confirm nor exclude grade 4.",
    "GRADE_ABOVE_LESIONS": "Grade {grade} is more than what was outlined supports (at most grade {high}).",
    "GRADE_BELOW_LESIONS": "Grade {grade} is less than what was outlined supports (at least grade {low}).",
    "DME_0_NO_EXUDATE": "No hard exudate was found: risk 0.",
    "DME_1_FAR": "The nearest hard exudate is {distance_dd:.2f} disc diameters from the fovea (beyond 1): risk 1.",
    "DME_2_NEAR_FOVEA": "A hard exudate is {distance_dd:.2f} disc diameters from the fovea (within 1): risk 2.",
    "DME_NOT_CHECKED": "Hard exudates were found, but not the fovea or the disc's size: their distance is not known.",
    "DME_ABOVE_LESIONS": "Macular edema risk {risk} is more than what was outlined supports ({supported}).",
    "DME_BELOW_LESIONS": "Macular edema risk {risk} is less than what was outlined supports ({supported}).",
    "GRADE_REFERABLE": "Grade {grade}: grade 2 or more is referable.",
    "REFERABLE_PROBABLE": "Grade 2 or more is {probability:.2f} likely, not less than the threshold, {threshold:.2f}.",
    "DME_REFERABLE": "Macular edema risk {risk}: risk 1 or more is referable.",
    "NOTHING_REFERABLE": "Neither the grade nor the macular edema risk nor what was outlined is referable.",
}


def note(code: str, values: Mapping[str, Any] | None = None) -> Note:
    """A note with its English sentence. values: plain numbers and texts, and `kinds`, a list of structures' codes."""
    return Note(code, in_words(code, values or {}), dict(values or {}))


def in_words(code: str, values: Mapping[str, Any], table: Mapping[str, str] = ENGLISH) -> str:
    """The sentence of a code and its values in a table's language."""
    said = dict(values)
    if "kinds" in said:
        names = [structure(kind).name for kind in said["kinds"]]
        said["kinds"] = _listed([names[0], *(name[0].lower() + name[1:] for name in names[1:])])
    return table[code].format(**said)


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
