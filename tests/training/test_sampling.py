"""Which photos an epoch draws for which tasks: so many, in proportion, mixed or by turns."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from funduscope.data.case import ABSENT, Case, Labels
from funduscope.evaluation.score_key import Aspect, Question, ScoreKey
from funduscope.metrics import DenseState
from funduscope.recipe import Recipe
from funduscope.training.samples import close_channels, draw_epoch, serves
from funduscope.training.validation import selection
from funduscope.vocabulary import EITHER_EXUDATE

ONCE = ["views.close=[]", "views.close_px=64", "views.whole_px=64"]


def _recipe(*changes: str) -> Recipe:
    return Recipe.load("plain", [*ONCE, "sampling.close={}", "sampling.whole={many = 2.0, few = 1.0}", *changes])


def _cases(dataset: str, count: int, labels: Labels) -> list[Case]:
    return [Case(f"{dataset}/{i}", dataset, str(i), Path(f"{i}.png"), f"{dataset}{i}", labels) for i in range(count)]


def test_an_eye_seen_once_is_drawn_for_its_lesions_too() -> None:
    masked, recipe = Labels(masks={"EX": ABSENT}), _recipe()
    assert serves(masked, "whole", recipe)
    assert not serves(masked, "close", recipe)
    assert close_channels(recipe) == ()
    assert EITHER_EXUDATE in close_channels(Recipe.load("plain"))


@pytest.mark.parametrize(
    ("labels", "changes", "drawn"),
    [
        (Labels(masks={"EX": ABSENT}), ["tasks.structures=[]"], False),
        (Labels(masks={"EX": ABSENT}), ["tasks.structures=['OD']"], False),
        (Labels(masks={EITHER_EXUDATE: ABSENT}), ["tasks.structures=['EX']"], True),  # neither is there
        (Labels(masks={EITHER_EXUDATE: ABSENT}), ["tasks.structures=['MA']"], False),
        (Labels(grade=2), ["tasks.grade=false"], False),
        (Labels(grade=0), ["tasks.grade=false"], True),  # it says that no lesion is there
        (Labels(dme=1), ["tasks.dme=false"], False),
        (Labels(fovea_xy=(1.0, 1.0)), ["tasks.landmarks=['optic_disc']"], False),
    ],
)
def test_a_photo_is_drawn_only_for_tasks_that_the_recipe_has(labels: Labels, changes: list[str], drawn: bool) -> None:
    assert serves(labels, "whole", _recipe(*changes)) is drawn


@pytest.mark.parametrize("count", [1, 7, 60, 500])
def test_an_epoch_of_a_stated_size_has_that_size_and_the_rates_proportions(count: int) -> None:
    cases = _cases("many", 20, Labels(grade=1)) + _cases("few", 20, Labels(grade=2))
    recipe = _recipe(f"sampling.per_epoch={count}")
    drawn = Counter(item.case.dataset for epoch in range(30) for item in draw_epoch(cases, recipe, epoch))
    assert sum(drawn.values()) == 30 * count
    assert drawn["many"] == pytest.approx(2 * drawn["few"], rel=0.1, abs=25)
    once = Counter(item.case.key for item in draw_epoch(cases, recipe, 0))
    assert max(once.values()) - min(once[case.key] for case in cases[:20]) <= max(2, count // 60 + 1)


def test_batches_by_turns_hold_photos_with_masks_or_photos_with_grades() -> None:
    cases = _cases("many", 12, Labels(masks={"EX": ABSENT})) + _cases("few", 25, Labels(grade=2))
    recipe = _recipe("sampling.order='alternate'", "training.batch=4")
    items = draw_epoch(cases, recipe, 0)
    assert len(items) == 2 * 12 + 25
    kinds = [{bool(item.case.labels.masks) for item in items[start : start + 4]} for start in range(0, 48, 4)]
    assert all(len(kind) == 1 for kind in kinds)
    runs = "".join("M" if True in kind else "G" for kind in kinds)
    assert "MMM" not in runs
    assert "GGG" not in runs
    mixed = draw_epoch(cases, _recipe("training.batch=4"), 0)
    assert Counter(item.case.key for item in mixed) == Counter(item.case.key for item in items)


def test_batches_by_turns_of_a_fixed_number_are_all_full() -> None:
    """A step of nine photos with masks and nine with grades, as S3's authors take them."""
    cases = _cases("many", 43, Labels(masks={"EX": ABSENT})) + _cases("few", 330, Labels(grade=2))
    changes = "sampling.order='alternate'", "training.batch=9", "sampling.per_epoch=180"
    recipe = _recipe(*changes, "sampling.whole={many = 7.6, few = 1.0}")
    for epoch in range(20):
        items = draw_epoch(cases, recipe, epoch)
        kinds = [{bool(item.case.labels.masks) for item in items[start : start + 9]} for start in range(0, 180, 9)]
        assert len(items) == 180
        assert all(len(one | other) == 2 for one, other in zip(kinds[::2], kinds[1::2], strict=True))
        assert all(len(kind) == 1 for kind in kinds)


def test_the_combined_metric_is_the_mean_of_accuracy_and_iou() -> None:
    class Table:
        tables = ("idrid-A", "idrid-B")
        photos = ()
        one_label = False

        def has_one_label(self, dataset: str, question: Question) -> bool:
            return self.one_label and dataset == "idrid-B"

        def number(self, key: ScoreKey) -> float:
            known = {
                "idrid-B DR accuracy": 0.8,
                "idrid-B DR kappa": 0.1,
                "idrid-A EX mask IoU": 0.5,
                "idrid-A HE mask IoU": 0.3,
                "idrid-A EX pixels average precision": 0.9,
                "idrid-A OD mask Dice": 0.7,
            }
            return known.get(str(key), np.nan)

    table = Table()
    assert selection(table, table, "accuracy_iou")["selection"] == pytest.approx((0.8 + 0.4) / 2)  # pyright: ignore
    risk = SimpleNamespace(
        tables=("idrid-B",),
        photos=[],
        number=lambda key: {"DME accuracy": 0.7}.get(str(key)[8:], np.nan),
        has_one_label=lambda *_: False,
    )
    assert selection(risk, None, "accuracy_iou")["selection"] == 0.7, "without grades that of edema risk"  # pyright: ignore
    assert selection(table, table)["selection"] == pytest.approx((0.1 + 0.9) / 2)  # pyright: ignore
    assert selection(table, table)["idrid-A OD Dice"] == 0.7, "said beside the lesions', not counted"  # pyright: ignore
    table.one_label = True
    healthy = selection(table, table)["selection"]  # pyright: ignore
    assert healthy == pytest.approx((0.8 + 0.9) / 2), "kappa says nothing where all eyes are healthy"


def test_a_rate_of_0_leaves_a_data_set_out_in_one_view_alone() -> None:
    """Where it has a rate in the other view it is learned from, so epochs are chosen on it too."""
    recipe = _recipe("sampling.close={many = 0.0}", "sampling.whole={many = 2.0, few = 0.0}")
    assert recipe.sampling.datasets() == {"many"}


def test_a_lesion_that_one_photo_shows_chooses_no_epoch() -> None:
    """Three photos show exudates, one shows a soft one, of which the answers get worse."""

    def shown(code: str) -> SimpleNamespace:
        state = DenseState.of(np.full((4, 4), 0.5, np.float32), np.eye(4, dtype=bool))
        return SimpleNamespace(case=SimpleNamespace(dataset="idrid-A"), states={Question(code, Aspect.PIXELS): state})

    def chosen(soft: float, hard: int) -> float:
        known = {"idrid-A EX pixels average precision": 0.7, "idrid-A SE pixels average precision": soft}
        photos = [*(shown("EX") for _ in range(hard)), shown("SE")]
        table = SimpleNamespace(tables=("idrid-A",), photos=photos, number=lambda key: known.get(str(key), np.nan))
        return selection(None, table)["selection"]  # pyright: ignore

    assert chosen(0.9, 3) == chosen(0.1, 3) == pytest.approx(0.7)
    assert chosen(0.1, 2) == pytest.approx(0.4), "where no lesion is shown by three, all count"
