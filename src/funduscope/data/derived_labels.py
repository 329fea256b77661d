"""Labels that follow from other labels: a grade implies which lesions are absent.

ICDR grade 0 is the absence of all four lesions, grade 1 is microaneurysms alone (Wilkinson et al., Ophthalmology
110(9), 2003). IDRiD's edema risk 0 is no hard exudate in the photo. Of the 37 photos that have both masks and grades,
36 agree: strong evidence, not proof, so whatever is drawn on the photo itself takes precedence.
"""

from __future__ import annotations

from dataclasses import replace

from funduscope.data.case import ABSENT, Labels
from funduscope.vocabulary import EITHER_EXUDATE, LESIONS, structure

BOXED: dict[str, tuple[str, ...]] = {"EX": ("EX",), "HE": ("MA", "HE")}
"""Box code to the lesions that such boxes are drawn around: HE there is any red lesion."""

# A mask of either exudate may be of one or the other.
_EITHER = ("EX", "SE")


def derive_labels(labels: Labels) -> Labels:
    """The labels, with `masks[code] = ABSENT` for each lesion whose absence they imply.

    Nothing is added where a mask of the structure is known. Where a box, an expert's vote, a mask of either exudate or
    an edema risk above 0 indicates the structure, it stays unknown. Absence of either exudate is absence of both kinds.
    """
    grade = labels.grade
    absent = {code for code in LESIONS if grade is not None and structure(code).lowest_grade > grade}
    if labels.dme == 0:
        absent.add("EX")
    either = labels.masks.get(EITHER_EXUDATE)
    if either is not None and either.is_absent:
        absent.update(_EITHER)
    absent -= _doubted(labels)
    masks = {**{code: ABSENT for code in LESIONS if code in absent}, **labels.masks}
    return replace(labels, masks=masks)


def _doubted(labels: Labels) -> set[str]:
    """Structures that something drawn on the photo indicates, or an edema risk, which is about hard exudates."""
    doubted = {code for code, count in labels.experts.items() if count}
    for code, boxes in labels.boxes.items():
        if boxes:
            doubted.update(BOXED.get(code, (code,)))
    either = labels.masks.get(EITHER_EXUDATE)
    if either is not None and not either.is_absent:
        doubted.update(_EITHER)
    dme = labels.known_classes("dme")
    if dme is not None and 0 not in (dme if isinstance(dme, frozenset) else {dme}):
        doubted.add("EX")  # 7 photos of Messidor-2 and 16 of srahim, all of grade 1, have such a risk
    return doubted
