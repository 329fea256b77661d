"""Which photos the model is least sure of."""

from __future__ import annotations

from typing import Any

import pytest

from funduscope.inference.uncertainty import disagreement, entropy, uncertainty

SURE, EVEN = [1.0, 0.0, 0.0, 0.0, 0.0], [0.2] * 5


def _found(probabilities: list[float] | None, percentile: float | None = None, **more: Any) -> dict[str, Any]:
    distance = None if percentile is None else {"value": 1.0, "percentile": percentile}
    return {"probabilities": probabilities, "training_distance": distance, "rules": None} | more


def _value(*found: Any, **more: Any) -> float:
    value = uncertainty(_found(*found, **more))
    assert value is not None
    return value


def test_spread_probabilities_are_uncertain():
    assert entropy(SURE) == 0
    assert entropy(EVEN) == pytest.approx(1)
    assert _value(SURE) == 0
    assert _value([0.6, 0.4, 0.0, 0.0, 0.0]) < _value(EVEN) == pytest.approx(1)


def test_a_photo_unlike_the_training_photos_is_more_uncertain():
    assert _value(SURE, 10) < _value(SURE, 99)


def test_witnesses_that_disagree_count_before_rules():
    witnesses = {"photo": {"grade": SURE}, "lesions": {"grade": SURE[::-1]}}
    assert disagreement(_found(SURE, witnesses=witnesses)) == pytest.approx(1)
    agreeing = {"photo": {"grade": SURE}, "lesions": {"grade": SURE}}
    assert disagreement(_found(SURE, witnesses=agreeing, rules={"agrees": False})) == 0
    assert disagreement(_found(SURE, rules={"agrees": False})) == 1
    assert disagreement(_found(SURE, rules={"agrees": None})) is None, "the rules cannot check a grade of 4"
    assert _value(SURE, rules={"agrees": False}) > _value(SURE, rules={"agrees": True})


def test_a_photo_without_a_grade_has_none():
    assert uncertainty(_found(None)) is None
