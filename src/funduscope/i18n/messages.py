"""What findings say of an eye, in words: one table of sentences by code, filled with values.

A sentence is made of its code and values alone, so that another language is another table.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from funduscope.i18n.errors import Message
from funduscope.vocabulary import structure

ENGLISH: Final[Mapping[str, str]] = {
    "NOT_FUNDUS": "The picture does not look like a photograph of the back of the eye: expected one, with its round "
    "field of view.",
    "TOO_DARK": "The field of view is too dark: raise flash or exposure and retake.",
    "TOO_BRIGHT": "The field of view is too bright: lower flash or exposure and retake.",
    "NO_DETAIL": "The field of view has no detail at all: check focus and lens cap and retake.",
    "OUT_OF_FOCUS": "Vessels are not sharp: focus again and retake.",
    "LOW_CONTRAST": "The picture is hazy or without color: clean the lens, widen the pupil and retake.",
    "FIELD_CUT": "A large part of the field of view is missing or in shadow: center the eye, lift the lid and retake.",
    "FOVEA_ESTIMATED": "The fovea is not clearly to be seen: its place was estimated from that of the disc.",
    "OPTIC_DISC_ESTIMATED": "The disc is not clearly to be seen: its center was estimated from the fovea's place.",
    "UPSIDE_DOWN": "The eye seems to be upside down, so that which eye it is and the quadrants are not told: turn the "
    "photo by half a turn and read it again.",
    "FAR_FROM_TRAINING": "The photo is further from those the model learned from than {percentile} % of new photos of "
    "the same clinics: trust what is said of it less.",
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
    "EXPLAINS_REFERABLE": "Bright is what speaks for grade 2 or more, which the model gives {chance:.0%}.",
    "EXPLAINS_EDEMA": "Bright is what speaks for macular edema risk 1 or more, which the model gives {chance:.0%}.",
    "EXPLAINS_IN_PART": "The outlined exudates were weighed in too; the map shows the network's own share.",
    "EXPLAINS_ATTENTION": "Bright is what the decoder's attention gates let through, deep layers first: where the "
    "model looked for lesions. It says nothing of the grade.",
    "MAP_BY_GRADIENTS": "An approximation by Grad-CAM: this model has no exact map of its answer. It is true for small "
    "changes only and does not show what speaks against.",
    "MAP_MEASURED": "On {photos} photos with lesions outlined by hand the brightest place was on a lesion in {hits} "
    "(the middle of the eye: {center}; the model's own lesion outlines: {lesion_map}).",
    "MAP_SHARE": "On lesions, which covered {area:.0%} of the eye, lay {share:.0%} of the brightness.",
    "MAP_DEPENDS": "With random weights the map becomes another one (rank correlation {alike:.2f}).",
    "MAP_FAILED": "With random weights the map stays much the same (rank correlation {alike:.2f}): it would show the "
    "photo rather than the model, and is not drawn.",
    "MAP_NOT_MEASURED": "How far this model's maps can be believed was not measured.",
    "FILLING_MEASURED": "On {photos} photos with lesions outlined by hand, filling them all in lowered the probability "
    "of grade 2 or more by {lesions:.2f} on average, filling in as much elsewhere by {control:.2f}.",
    "FILLING_NOT_MEASURED": "How this model answers to filled photos was not measured.",
    "NOTHING_REFERABLE": "Neither the grade nor the macular edema risk nor what was outlined is referable.",
}


def message(code: str, values: Mapping[str, Any] | None = None) -> Message:
    """A note with its English sentence. values: plain numbers and texts, and `kinds`, a list of structures' codes."""
    return Message(code, in_words(code, values or {}), dict(values or {}))


def in_words(code: str, values: Mapping[str, Any], table: Mapping[str, str] = ENGLISH) -> str:
    """The sentence of a code and its values in a table's language."""
    said = dict(values)
    if "kinds" in said:
        names = [structure(kind).name for kind in said["kinds"]]
        said["kinds"] = _listed([names[0], *(name[0].lower() + name[1:] for name in names[1:])])
    return table[code].format(**said)


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
