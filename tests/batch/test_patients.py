"""A patient's row is the worst of both eyes; who must be seen first stands first."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from funduscope.batch.columns import side_conflict
from funduscope.batch.patients import patient_rows, sorting_key
from funduscope.batch.results import StoredResult


def photo(
    patient: str,
    eye: str,
    grade: int | None = 0,
    urgency: str = "routine",
    rules: int = 0,
    dme: int = 0,
    chance: float = 0.1,
    visit: str = "",
) -> StoredResult:
    """A result; without a grade, of a photo that was refused."""
    name = f"{patient}-{eye}-{grade}"
    known = {"patient": patient, "eye": eye, "visit": visit, "date": "2026-01-02"}
    if grade is None:
        gradable = {"ok": False, "advice": "refuse", "reasons": [{"code": "TOO_DARK", "says": "It is too dark."}]}
        refused = {"gradable": gradable, "laterality": None, "advice": None}
        return StoredResult(name, "refused", found=refused, place=name, known=known)

    found: dict[str, Any] = {"predicted_grade": grade, "laterality": None, "dme": {"risk": dme}}
    found |= {"rules": {"grade_range": [rules, 4], "dme_risk": 0}, "referable": {"probability": chance}}
    found |= {"advice": {"refer": urgency != "routine", "urgency": urgency, "because": [{"code": f"BECAUSE_{grade}"}]}}
    return StoredResult(name, "read", found=found, place=name, known=known)


def changed(one: StoredResult, **found: Any) -> StoredResult:
    """The result with other values in its findings."""
    return replace(one, found={**(one.found or {}), **found})


def rows_of(*photos: StoredResult) -> list[dict[str, Any]]:
    return sorted(patient_rows(photos), key=sorting_key)


def test_the_worst_photo_decides() -> None:
    (row,) = rows_of(photo("a", "right", 1), photo("a", "left", 2, "soon", chance=0.8), photo("a", "left", 0))
    assert (row["right_grade"], row["left_grade"], row["urgency"], row["refer"]) == (1, 2, "soon", True)
    assert (row["decided_by"], row["because"], row["photos"]) == ("a-left-2", "BECAUSE_2", 3)


def test_an_eye_that_the_table_names_otherwise_than_it_shows_is_named() -> None:
    right, left = photo("a", "right"), photo("a", "left", 1)
    for one, seen in ((right, "right"), (left, "right")):
        assert one.found is not None
        one.found.update(laterality=seen, warnings=[])
    (row,) = rows_of(right, left)
    assert row["side_conflicts"] == "a-left-1"
    assert row["left_grade"] == 1, "the table's word decides whose grade it is"
    assert [side_conflict(one) for one in (right, left, photo("a", "left"))] == [False, True, None]


def test_an_eye_that_the_file_names_otherwise_than_it_shows_is_named_and_nobody_s_side() -> None:
    silent, named = photo("a", "", 2), photo("b", "left", 1)
    for one in (silent, named):
        assert one.found is not None
        one.found.update(laterality="right", warnings=[{"code": "FILE_SAYS_LEFT_EYE"}])
    rows = {row["patient"]: row for row in rows_of(silent, named)}
    assert (rows["a"]["right_grade"], rows["a"]["other_grade"], rows["a"]["side_conflicts"]) == (None, 2, "a--2")
    assert (rows["b"]["left_grade"], rows["b"]["side_conflicts"]) == (1, "b-left-1")


def test_a_frame_of_several_is_named_by_its_own_name():
    right, left = photo("a", "right"), photo("a", "left", 2, "soon")
    frames = [
        replace(
            one, name=f"both_frame{number + 1}.dcm", place="disc/both.dcm", frame=number, found={**one.found, **seen}
        )
        for number, one, seen in ((0, right, {"laterality": "right"}), (1, left, {"laterality": "right"}))
        if one.found is not None
    ]
    for one in frames:
        assert one.found is not None
        one.found.update(warnings=[])
    (row,) = rows_of(*frames)
    assert row["decided_by"] == row["side_conflicts"] == str(Path("disc/both_frame2.dcm"))
    (row,) = rows_of(frames[0])
    assert row["decided_by"] == str(Path("disc/both_frame1.dcm")), "the first one, too"


def test_an_eye_without_its_macula_in_the_photo_is_to_be_taken_again() -> None:
    unseen = photo("a", "left")
    assert unseen.found is not None
    unseen.found.update(headline={"referral": {"code": "NO_REFERRAL_RETAKE", "says": "Take it again."}})
    (row,) = rows_of(photo("a", "right"), unseen)
    assert (row["urgency"], row["refer"], row["retake_eyes"]) == ("retake", None, "left")


def test_an_eye_that_a_person_should_grade_is_not_routine() -> None:
    unlike = photo("a", "left")
    assert unlike.found is not None
    unlike.found.update(headline={"referral": {"code": "NO_REFERRAL_PERSON"}})
    (row,) = rows_of(photo("a", "right"), unlike)
    assert (row["urgency"], row["refer"], row["retake_eyes"], row["person_eyes"]) == ("person", None, "", "left")
    (row,) = rows_of(photo("a", "right", None), unlike)
    assert (row["urgency"], row["retake_eyes"], row["person_eyes"]) == ("retake", "right", "left")
    (row,) = rows_of(photo("a", "right"), unlike, photo("a", "left"))
    assert (row["urgency"], row["refer"], row["person_eyes"]) == ("routine", False, ""), "another photo is like others"


def test_the_more_careful_of_model_and_rules_counts() -> None:
    (row,) = rows_of(photo("a", "right", 0, rules=2))
    assert row["right_grade"] == 2


def test_an_eye_without_a_gradable_photo_is_to_be_taken_again_and_not_called_no_referral() -> None:
    (row,) = rows_of(photo("a", "right", 0), photo("a", "left", None))
    assert (row["retake_eyes"], row["urgency"], row["refer"], row["left_grade"]) == ("left", "retake", None, None)
    assert [(eye["eye"], eye["state"], eye["why"]) for eye in row["unread"]] == [("left", "retake", "It is too dark.")]
    (row,) = rows_of(photo("a", "right", None), photo("a", "right", 0))
    assert (row["retake_eyes"], row["urgency"], row["refer"]) == ("", "routine", False)


def test_an_eye_that_was_photographed_again_in_vain_is_to_be_examined() -> None:
    (row,) = rows_of(photo("a", "right", 0), photo("a", "left", None), photo("a", "left", None))
    assert (row["urgency"], row["refer"], row["retake_eyes"], row["examine_eyes"]) == ("examine", None, "", "left")
    reasons = [{"code": "NOT_FUNDUS", "says": "It shows no retina."}]
    outside = changed(photo("a", "left", None), gradable={"ok": False, "advice": "refuse", "reasons": reasons})
    (row,) = rows_of(photo("a", "right", 0), photo("a", "left", None), outside)
    assert (row["urgency"], row["retake_eyes"]) == ("retake", "left"), "a wrong picture says nothing about the eye"
    (row,) = rows_of(photo("a", "", None), photo("a", "", None))
    assert (row["urgency"], row["retake_eyes"]) == ("retake", "other"), "they may be of two eyes"


@pytest.mark.parametrize(
    ("reason", "advice", "urgency"), [("NOT_FUNDUS", "refuse", "retake"), ("UNSURE_FUNDUS", "retake", "soon")]
)
def test_a_picture_of_the_outside_of_the_eye_makes_no_patient_urgent(reason: str, advice: str, urgency: str) -> None:
    gradable = {"ok": True, "advice": advice, "reasons": [{"code": reason, "says": "It is none."}]}
    outside = changed(photo("a", "left", 4, "urgent"), gradable=gradable)
    (row,) = rows_of(photo("a", "right", 0), outside)
    assert (row["urgency"], row["retake_eyes"]) == (urgency, "left")


def test_a_poor_photo_that_is_referred_is_still_to_be_taken_again() -> None:
    gradable = {"ok": True, "advice": "retake", "reasons": [{"code": "OUT_OF_FOCUS", "says": "Blur."}]}
    poor = changed(photo("a", "left", 3, "urgent"), gradable=gradable)
    (row,) = rows_of(photo("a", "right", 0), poor)
    assert (row["urgency"], row["refer"], row["retake_eyes"]) == ("urgent", True, "left")
    assert row["unread"][0]["why"] == "Blur."


def test_of_a_patient_without_an_answer_the_refused_photo_is_named() -> None:
    (row,) = rows_of(photo("a", "right", None), photo("a", "left", None))
    assert (row["urgency"], row["decided_by"]) == ("retake", "a-right-None")
    assert row["decided"][0] == "a-right-None", "to which the page links"


def test_an_eye_whose_only_photo_failed_is_named() -> None:
    failed = StoredResult("x", "failed", "E_TRUNCATED", "cut", place="x", known={"patient": "a", "eye": "left"})
    (row,) = rows_of(photo("a", "right", 0), failed)
    assert (row["retake_eyes"], row["urgency"], row["refer"], row["failed"]) == ("left", "retake", None, 1)
    (row,) = rows_of(photo("a", "right", 4, "urgent"), failed)
    assert (row["retake_eyes"], row["urgency"]) == ("left", "urgent")
    (row,) = rows_of(photo("a", "right", 0), photo("a", "left", 0), failed)
    assert (row["retake_eyes"], row["urgency"]) == ("", "routine")


def test_a_photo_of_an_unknown_eye_that_failed_may_be_of_the_eye_that_has_none() -> None:
    failed = StoredResult("x", "failed", "E_TRUNCATED", "cut", place="x", known={"patient": "a"})
    (row,) = rows_of(photo("a", "right", 0), failed)
    assert (row["retake_eyes"], row["urgency"]) == ("other", "retake")
    (row,) = rows_of(photo("a", "right", 0), photo("a", "left", 0), failed)
    assert (row["retake_eyes"], row["urgency"]) == ("", "routine")


@pytest.mark.parametrize("advice", ["refuse", "retake"])
def test_an_answer_that_was_forced_or_is_of_a_poor_photo_leaves_its_eye_to_be_taken_again(advice: str) -> None:
    forced = photo("a", "left", 0)
    forced = replace(forced, found={**(forced.found or {}), "gradable": {"ok": True, "advice": advice}})
    (row,) = rows_of(photo("a", "right", 0), forced)
    assert (row["left_grade"], row["retake_eyes"], row["urgency"]) == (0, "left", "retake")
    (row,) = rows_of(photo("a", "right", 0), forced, photo("a", "left", 2, "soon"))
    assert (row["left_grade"], row["retake_eyes"], row["urgency"]) == (2, "", "soon")


def test_a_model_without_grades_is_believed_by_its_lesions() -> None:
    lesions = _of_part("right", "urgent", rules={"grade_range": [2, 3], "dme_risk": 2})
    (row,) = rows_of(lesions, _of_part("left", "routine", rules={"grade_range": None, "dme_risk": None}))
    assert (row["urgency"], row["refer"], row["because"], row["retake_eyes"]) == ("urgent", True, "WHY_urgent", "")
    assert (row["decided_by"], row["right_grade"], row["right_dme"]) == ("right-urgent", 2, 2)
    assert (row["left_grade"], row["left_dme"], row["referable_probability"]) == (None, None, None)


def test_a_model_of_edema_alone_answers_for_an_eye() -> None:
    (row,) = rows_of(_of_part("right", "routine", dme={"risk": 0}), _of_part("left", "soon", dme={"risk": 1}))
    assert (row["urgency"], row["decided_by"], row["retake_eyes"]) == ("soon", "left-soon", "")
    assert (row["right_grade"], row["right_dme"], row["left_dme"]) == (None, 0, 1)
    (row,) = rows_of(_of_part("right", "routine", dme={"risk": 0}))
    assert (row["urgency"], row["refer"], row["because"]) == ("routine", False, "WHY_routine")


def test_a_grade_without_an_edema_risk_claims_none() -> None:
    graded = photo("a", "right", 3, "urgent")
    graded = replace(graded, found={**(graded.found or {}), "dme": None, "rules": None})
    (row,) = rows_of(graded)
    assert (row["right_grade"], row["right_dme"], row["urgency"]) == (3, None, "urgent")


def _of_part(eye: str, urgency: str, **found: Any) -> StoredResult:
    """A photo that a model without grades has read: what is `found`, and the advice that follows."""
    advice = {"refer": urgency != "routine", "urgency": urgency, "because": [{"code": f"WHY_{urgency}"}]}
    found = {"predicted_grade": None, "dme": None, "referable": None, "rules": None, "advice": advice, **found}
    name = f"{eye}-{urgency}"
    return StoredResult(name, "read", found=found, place=name, known={"patient": "a", "eye": eye})


def test_nothing_read_is_nothing_known() -> None:
    failed = StoredResult("x", "failed", "E_FORMAT", "no photo", place="x", known={"patient": "a"})
    (row,) = rows_of(failed)
    assert (row["urgency"], row["refer"], row["failed"], row["referable_probability"]) == ("retake", None, 1, None)


def test_who_must_be_seen_first_stands_first() -> None:
    rows = rows_of(
        *(photo("healthy", "right"), photo("sick", "right", 4, "urgent"), photo("unclear", "right", None)),
        *(photo("moderate", "right", 2, "soon", chance=0.6), photo("severe", "right", 3, "soon", chance=0.7)),
    )
    assert [row["patient"] for row in rows] == ["sick", "severe", "moderate", "unclear", "healthy"]


def test_visits_have_rows_of_their_own_and_unnamed_patients_too() -> None:
    rows = rows_of(photo("a", "right", visit="1"), photo("a", "right", visit="2"))
    assert [row["visit"] for row in rows] == ["1", "2"]
    (row,) = rows_of(StoredResult("p.jpg", "read", found=photo("", "right").found, place="p.jpg"))
    assert row["patient"] == "p.jpg"
