"""The headline is one truthful sentence a part: tested over a grid of answers for contradictions."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from funduscope.i18n.errors import CodedError
from funduscope.i18n.languages import LANGUAGES, Words
from funduscope.i18n.messages import message
from funduscope.imaging.framing import frame
from funduscope.imaging.photo import Photo
from funduscope.inference.card import Card
from funduscope.inference.conformal import grade_set
from funduscope.inference.headline import headline
from funduscope.inference.predictor import Views, interpret
from funduscope.inference.rules import ModelAnswer, Supported, advice_after, advise, advise_nothing
from funduscope.inference.runtime import Outputs
from funduscope.inference.urgency import urgency
from funduscope.quality.gradability import Quality, QualityAdvice

GRADES = (
    [0.92, 0.03, 0.03, 0.01, 0.01],
    [0.5, 0.04, 0.45, 0.005, 0.005],
    [0.35, 0.33, 0.2, 0.06, 0.06],
    [0.1, 0.7, 0.15, 0.03, 0.02],
    [0.1, 0.1, 0.45, 0.25, 0.1],
    [0.01, 0.01, 0.03, 0.05, 0.9],
)
RISKS = ([0.9, 0.05, 0.05], [0.35, 0.32, 0.33], [0.1, 0.6, 0.3], [0.02, 0.03, 0.95])
SPANS = (None, (0, 0), (1, 1), (2, 3), (3, 3))
SUPPORTED_RISKS = (None, 0, 2)
QUALITIES = ((True, "grade"), (True, "retake"), (True, "refuse"))


def found_of(
    grades: list[float],
    risks: list[float],
    span: tuple[int, int] | None = None,
    risk: int | None = None,
    quality: tuple[bool, str] = (True, "grade"),
    unusual: bool = False,
) -> dict[str, Any]:
    """The parts of findings.json that a headline is made of."""
    grade, own_risk = int(np.argmax(grades)), int(np.argmax(risks))
    probability = sum(grades[2:])
    referable = {"value": probability >= 0.2, "probability": probability, "threshold": 0.2}
    because = [message("ICDR_2_BEYOND_MA", {"at_least": 2, "kinds": ["HE"]})] if span and span[0] >= 2 else []
    because += [message("DME_2_NEAR_FOVEA", {"distance_dd": 0.5})] if risk == 2 else []
    exudates = None if risk is None else (risk, risk)
    areas = (0.0, 0.1, 0.1) if risk else (0.0, 0.0, 0.0)
    supported = Supported(span, exudates, tuple(because), exudate_areas_dd2=areas)
    return {
        "gradable": {"ok": quality[0], "score": 0.5, "advice": quality[1], "reasons": []},
        "predicted_grade": grade,
        "confidence": grades[grade],
        "probabilities": grades,
        "grade_set": list(grade_set(np.array(grades), 0.9)),
        "dme": {"risk": own_risk, "confidence": risks[own_risk], "probabilities": risks},
        "referable": referable,
        "rules": {
            "grade_range": span,
            "agrees": None if span is None else span[0] <= grade <= span[1],
            "dme_risk": risk,
            "dme_agrees": None if risk is None else risk == own_risk,
        },
        "advice": advise(supported, ModelAnswer(grades, risks, 0.2)).to_dict(),
        "warnings": [{"code": "FAR_FROM_TRAINING"}] if unusual else [],
    }


def said(parts: Mapping[str, Any]) -> dict[str, str]:
    """The sentences of the headlines that there are."""
    return {name: part["says"] for name, part in parts.items() if part}


GRID = [
    found_of(*parts) for parts in itertools.product(GRADES, RISKS, SPANS, SUPPORTED_RISKS, QUALITIES, (False, True))
]


def test_no_headline_contradicts_another_part_of_the_findings() -> None:
    for found in GRID:
        parts = {name: one["code"] if one else None for name, one in headline(found).items()}
        refer, grade, trust = found["advice"]["refer"], found["predicted_grade"], parts["trust"]
        assert str(parts["referral"]).startswith("REFER_") == refer, found
        if refer:
            assert found["advice"]["urgency"].upper() in str(parts["referral"])
        unusual = bool(found["warnings"])
        assert (trust is None) == (found["gradable"]["advice"] == "grade" and not unusual)
        if trust in ("TRUST_RETAKE", "TRUST_FORCED", "TRUST_UNLIKE_TRAINING"):
            assert parts["referral"] != "NO_REFERRAL", "a poor photo must not end the matter"
        if parts["grade"] == "GRADE":  # said without a doubt
            assert found["confidence"] >= 0.8
            assert found["grade_set"] == [grade]
            assert found["rules"]["agrees"] is not False
            assert grade >= 2 or not found["referable"]["value"]
        if parts["dme"] == "DME":
            assert found["dme"]["confidence"] >= 0.8
            assert found["rules"]["dme_agrees"] is not False
        if found["advice"]["urgency"] == "urgent" and grade < 4:
            assert found["dme"]["probabilities"][2] >= 0.5, "an undecided edema risk is not urgent"
            assert found["rules"]["dme_risk"] in (None, 2), "nor one that the outlines contradict"
        if parts["referral"] == "NO_REFERRAL":
            assert "UNDECIDED" not in f"{parts['grade']} {parts['dme']}", "nobody is sent home by an undecided answer"
        if refer and grade < 2 and not found["dme"]["risk"]:  # the reason is named, as the answers do not give it
            assert str(parts["referral"]).endswith(("_CHANCE", "_LESIONS"))


def test_doubtful_answers_are_called_doubtful() -> None:
    undecided = said(headline(found_of(GRADES[0], RISKS[1], (0, 0), 2)))
    assert undecided["dme"] == "Macular edema risk undecided; the outlines support 2"
    probable = said(headline(found_of(GRADES[1], RISKS[0])))
    assert probable["grade"] == "Probably grade 0: No DR"
    assert probable["referral"] == "Refer soon: 46 % chance of grade 2 or more"
    unseen = found_of(GRADES[0], RISKS[0], (0, 0), 0) | {"warnings": [{"code": "FOVEA_NOT_FOUND"}]}
    assert said(headline(unseen))["dme"].startswith("Probably macular edema risk 0")
    again = "No referral for diabetic retinopathy from this photo alone: take it again first"
    assert said(headline(unseen))["referral"] == again
    between = found_of([0.45, 0.4, 0.1, 0.03, 0.02], RISKS[0])
    open_to_a_person = "Referral open: the model saw no reason for it; a trained person decides"
    assert said(headline(between))["referral"] == open_to_a_person
    healthy = "No referral for diabetic retinopathy: next routine check. This says nothing about other diseases"
    assert said(headline(between, grade=0))["referral"] == healthy
    sure = said(headline(found_of(GRADES[5], RISKS[3])))
    assert sure["grade"] == "Grade 4: Proliferative"
    assert sure["referral"] == "Refer urgently"


def test_the_grade_of_a_photo_that_shows_hardly_anything_does_not_lead() -> None:
    reasons = [message("HARDLY_VISIBLE").to_dict(), message("TOO_DARK").to_dict()]
    poor = {"ok": True, "score": 0.05, "advice": "retake", "reasons": reasons}
    dark = found_of(GRADES[5], RISKS[3]) | {"gradable": poor, "advice": advise_nothing().to_dict()}
    parts = said(headline(dark))
    assert parts["trust"] == "Hardly anything is visible in this photo: take it again."
    assert parts["grade"] == "Grade not known: hardly anything is visible"
    assert parts["referral"] == "Take the photo again; if that fails, have the eye examined"
    assert said(headline(dark | {"advice": advice_after(dark, 4, None)}, grade=4))["referral"] == "Refer urgently"


def test_a_photo_without_an_answer_asks_for_another_photo() -> None:
    empty = dict.fromkeys(("predicted_grade", "confidence", "grade_set", "dme", "referable", "rules", "advice"))
    trusts = {
        "OUT_OF_FOCUS": "TRUST_NOT_GRADABLE",
        "RETINA_HIDDEN": "TRUST_RETINA_HIDDEN",
        "NOT_FUNDUS": "TRUST_NOT_FUNDUS",
        "SEVERAL_PHOTOS": "TRUST_SEVERAL_PHOTOS",
    }
    forced = {"ok": True, "score": 0.9, "advice": "refuse", "reasons": [{"code": "SEVERAL_PHOTOS"}]}
    assert headline(found_of(GRADES[0], RISKS[0]) | {"gradable": forced})["referral"] is None
    for code, trust in trusts.items():
        reasons = [{"code": code, "values": {}, "says": ""}]
        quality = {"ok": False, "score": None, "advice": "refuse", "reasons": reasons}
        parts = headline({**empty, "gradable": quality, "training_distance": None})
        codes = {name: part["code"] for name, part in parts.items() if part}
        assert codes == {"trust": trust} | ({} if "SEVERAL" in trust else {"referral": "RETAKE_OR_EXAMINE"})


@pytest.mark.parametrize("quality", ["grade", "retake"])
@pytest.mark.parametrize(("codes", "dme"), [((), [3.0, 0, 0]), (("EX",), None), (("MA", "SE"), None)])
def test_nobody_is_sent_home_where_retinopathy_was_not_assessed(
    codes: tuple[str, ...], dme: list[float] | None, quality: QualityAdvice
) -> None:
    """By models of edema risk alone, or of few kinds of lesion, which found none."""
    photo = Photo.open(np.full((300, 300, 3), (160, 80, 40), np.uint8))
    card = Card(grade=False, dme=dme is not None, structures=codes, landmarks=(), whole_px=128, close_px=128)
    classes = {} if dme is None else {"dme": np.array([dme], np.float32)}
    outputs = Outputs(classes, np.full((1, len(codes), 64, 64), -8, np.float32) if codes else None)
    plain = interpret(photo, frame(photo, 128), Views(outputs, outputs), card, "0" * 64)
    found = replace(plain, quality=Quality(0.5, (), quality)).to_dict()
    assert found["headline"]["referral"]["says"] == "Referral undecided: retinopathy was not assessed"
    assert not found["advice"]["refer"]
    assert str((headline(found, grade=0)["referral"] or {})["code"]).startswith("NO_REFERRAL")
    assert [one["says"] for one in found["advice"]["because"]] == [
        "Whatever was assessed of grade, macular edema risk and lesions is below the referral thresholds."
    ]


def test_a_persons_answer_stands_first_and_the_models_next_to_it() -> None:
    parts = said(headline(found_of(GRADES[5], RISKS[3]), grade=3, dme=1))
    assert parts["grade"] == "Grade 3: Severe (yours; model: 4)"
    assert parts["dme"] == "Macular edema risk 1 of 2 (yours; model: 2)"


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_headline_can_be_said_in_every_language(language: str) -> None:
    words = Words(language)
    parts = [part for found in GRID for part in headline(found).values() if part]
    parts += [part for part in headline(GRID[0], grade=1, dme=2).values() if part]
    for part in parts:
        assert re.fullmatch(r"[^{}]+", words.message(part))
    assert language == "en" or any(words.message(part) != part["says"] for part in parts)


def test_a_set_leaves_out_no_grade_that_is_likelier_than_one_in_it() -> None:
    for probabilities in np.random.default_rng(0).dirichlet(np.full(5, 0.5), 500):
        for quantile in (0.2, 0.6, 0.9, 1.2):
            inside = np.isin(np.arange(5), grade_set(probabilities, quantile))
            if not inside.all():
                assert probabilities[inside].min() >= probabilities[~inside].max()


def test_urgency_follows_the_table_of_a_clinic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [urgency(grade, 0, grade >= 2) for grade in range(5)] == ["routine", "routine", "soon", "soon", "urgent"]
    assert [urgency(0, risk, risk >= 1) for risk in range(3)] == ["routine", "soon", "urgent"]
    assert urgency(1, 0, refer=True) == "soon"
    own = tmp_path / "urgency.toml"
    own.write_text('grade = ["routine", "soon", "soon", "urgent", "urgent"]\ndme = ["routine", "soon", "soon"]\n')
    monkeypatch.setenv("FUNDUSCOPE_URGENCY", str(own))
    assert urgency(3, 0, refer=True) == "urgent"
    assert urgency(0, 2, refer=True) == "soon"
    own = tmp_path / "wrong.toml"
    own.write_text('grade = ["now"]\ndme = []\n')
    monkeypatch.setenv("FUNDUSCOPE_URGENCY", str(own))
    with pytest.raises(CodedError, match="expected 5 values, each one of routine, soon, urgent"):
        urgency(3, 0, refer=True)
    monkeypatch.setenv("FUNDUSCOPE_URGENCY", str(tmp_path / "moved.toml"))
    with pytest.raises(CodedError, match=r"moved\.toml is not there; correct the variable, or unset it"):
        urgency(3, 0, refer=True)


@pytest.mark.parametrize(("span", "grade", "referral"), [(None, 1, "REFER_SOON"), ((1, 1), 0, "REFER_SOON_LESIONS")])
def test_an_eye_that_a_clinics_own_table_has_seen_soon_is_not_sent_to_the_next_routine_check(
    span: tuple[int, int] | None, grade: int, referral: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "urgency.toml"
    own.write_text('grade = ["routine", "soon", "soon", "urgent", "urgent"]\ndme = ["routine", "soon", "soon"]\n')
    monkeypatch.setenv("FUNDUSCOPE_URGENCY", str(own))
    grades = [0.9 if one == grade else 0.025 for one in range(5)]
    advice = advise(Supported(span, (0, 0), ()), ModelAnswer(grades, RISKS[0], 0.2)).to_dict()
    assert (advice["refer"], advice["urgency"]) == (True, "soon")
    assert [one["code"] for one in advice["because"]] == ["CLINIC_SOON"]
    found = found_of(grades, RISKS[0], span, 0) | {"advice": advice}
    parts = headline(found)
    assert parts["referral"] is not None
    assert parts["referral"]["code"] == referral
