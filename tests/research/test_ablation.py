"""Parts of a model are compared on the photos that both answers have, and the page says what the stored rows say."""

from __future__ import annotations

from typing import Any

import pytest
from sklearn.metrics import cohen_kappa_score, roc_auc_score

from research import ablation

GRADES = [0, 0, 1, 2, 3, 4, 2, 0]


def rows(grades: list[int | None]) -> dict[str, dict[str, Any]]:
    """Photos of a visit each whose likeliest grade is that; None is refused."""
    return {
        str(place): {"dataset": "a", "visit": str(place), "grade": truth}
        | {"grade_probs": None if named is None else [0.8 if grade == named else 0.05 for grade in range(5)]}
        for place, (truth, named) in enumerate(zip(GRADES, grades, strict=True))
    }


def test_two_models_are_compared_by_the_scores_of_sklearn():
    first, second = [0, 1, 1, 1, 3, 4, 2, 0], [0, 0, 1, 2, 4, 4, 1, 0]
    a, b = rows(first), rows(second)
    before, after, change, _, photos = ablation.compared("a", (a, ablation.kappa()), (b, ablation.kappa()))
    assert before == pytest.approx(cohen_kappa_score(GRADES, first, weights="quadratic"))
    assert after == pytest.approx(cohen_kappa_score(GRADES, second, weights="quadratic"))
    assert change.value == pytest.approx(after - before)
    assert photos == len(GRADES)
    area, *_ = ablation.compared("a", (a, ablation.auroc()), (b, ablation.auroc()))
    chances = [sum(row["grade_probs"][2:]) for row in a.values()]
    assert area == pytest.approx(roc_auc_score([grade >= 2 for grade in GRADES], chances))


def test_a_refused_photo_counts_as_the_furthest_grade_and_one_that_only_one_model_has_not_at_all():
    a, b = rows([None, 0, 1, 2, 3, 4, 2, 0]), rows([0, 0, 1, 2, 3, 4, 2, 0])
    del b["7"]
    refused, whole, _, _, photos = ablation.compared("a", (a, ablation.kappa()), (b, ablation.kappa()))
    assert refused == pytest.approx(cohen_kappa_score(GRADES[:7], [4, 0, 1, 2, 3, 4, 2], weights="quadratic"))
    assert whole == 1
    assert photos == 7


@pytest.mark.slow
def test_the_page_is_that_of_the_stored_rows():
    text = ablation.PAGE.read_text("utf-8")
    assert text.partition(ablation.START)[2].lstrip() == ablation.tables(), "run python -m research.ablation --write"
