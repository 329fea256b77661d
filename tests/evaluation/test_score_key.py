"""Keys of scores: typed in the code, the same strings as ever in scores.json."""

from __future__ import annotations

import pytest

from funduscope.evaluation.score_key import Aspect, Question, ScoreKey, nested


@pytest.mark.parametrize(
    ("name", "question"),
    [
        ("DR", Question("DR")),
        ("DR and DME", Question("DR and DME")),
        ("DR grade sets", Question("DR", Aspect.GRADE_SETS)),
        ("referable DR", Question("referable DR")),
        ("EX|SE present", Question("EX|SE", Aspect.PRESENT)),
        ("HE mask without IDRiD_17", Question("HE", Aspect.MASK, "IDRiD_17")),
        ("OD IoU by photo", Question("OD", Aspect.IOU_BY_PHOTO)),
        ("MA lesions", Question("MA", Aspect.LESIONS)),
        ("false lesions", Question("false lesions")),
        ("exudates on drusen and reflections", Question("exudates on drusen and reflections")),
    ],
)
def test_a_name_and_its_question_stand_for_each_other(name: str, question: Question) -> None:
    assert Question.parse(name) == question
    assert question.name == name


def test_people_read_or_for_a_bar() -> None:
    assert Question("EX|SE", Aspect.PIXELS).title == "EX or SE pixels"


def test_scores_are_nested_by_their_keys_and_found_again() -> None:
    key = ScoreKey.parse("own", "EX pixels", "AUPR")
    tree = nested({key: 0.5, ScoreKey.parse("own", "EX pixels", "prevalence"): 0.1}, ["bare", "own"])
    assert tree == {"bare": {}, "own": {"EX pixels": {"AUPR": 0.5, "prevalence": 0.1}}}
    assert key.find(tree) == 0.5
    assert ScoreKey.parse("other", "EX pixels", "AUPR").find(tree) is None
    assert str(key) == "own EX pixels AUPR"
