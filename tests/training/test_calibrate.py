"""What the card fixes: temperatures that fit, thresholds that keep healthy photos clean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from funduscope.data.case import ABSENT, Case, Labels, Mask
from funduscope.data.masks import read_mask
from funduscope.imaging.framing import frame
from funduscope.imaging.photo import Photo
from funduscope.inference.card import Card
from funduscope.inference.conformal import grade_set
from funduscope.inference.predictor import Predictor
from funduscope.inference.runtime import Outputs, TorchRuntime
from funduscope.inference.witnesses import LesionFeatures, Witness
from funduscope.network.network import build
from funduscope.recipe import Recipe
from funduscope.training import calibrate as module
from funduscope.training.calibrate import (
    CalibrationPhoto,
    _fit_cut,
    _fit_referable,
    _predict_photo,
    _with_before,
    calibrate,
    fit_grade_quantile,
    fit_temperature,
)
from funduscope.training.fit_threshold import MIN_POSITIVE
from funduscope.vocabulary import CLASSES, CODES, View


def _photo(key: str, probs: np.ndarray, truth: np.ndarray | None, dataset: str = "idrid-A") -> CalibrationPhoto:
    case = Case(f"{dataset}/{key}", dataset, key, Path("x"), key, Labels())
    truths = {} if truth is None else {"EX": truth}
    healthy = frozenset({"EX"}) if truth is None else frozenset()
    return CalibrationPhoto(case, {}, {}, {}, truths, healthy, {"EX": (probs * 255).astype(np.uint8)})


def test_a_temperature_undoes_overconfidence():
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (4000, 5))
    probs = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    labels = np.array([rng.choice(5, p=row) for row in probs])
    assert fit_temperature(logits * 3, labels) == pytest.approx(3, rel=0.1)
    assert fit_temperature(logits / 2, labels) == pytest.approx(0.5, rel=0.1)


def case_of(labels: Labels) -> Case:
    return Case("set/x", "set", "x", Path("x"), "x", labels)


class Drawn:
    """Answers of a model that sees the disc and two likely foveas, the false one a little likelier, and exudates around
    the true one; places: of the photos in turn, in shares of the frame's side."""

    sha256 = ""

    def __init__(self, card: Card, places: list[tuple[np.ndarray, np.ndarray]]) -> None:
        self.card, self.places, self.turn = card, places, -1

    def __call__(self, images: np.ndarray, view: View = "whole") -> Outputs:
        self.turn += images.shape[2] == self.card.whole_px
        disc, fovea = self.places[self.turn]
        false = np.array([fovea[0], fovea[1] - 0.3])
        marks = [self._peak(64, disc, 12), np.maximum(self._peak(64, fovea, 11), self._peak(64, false, 12))]
        lesions = [self._peak(images.shape[2], fovea, 6) - 3] * len(self.card.structures)
        return Outputs(
            classes={"dme": np.zeros((1, 3), np.float32)},
            structures=np.stack(lesions)[None].astype(np.float32),
            landmarks=np.stack(marks)[None].astype(np.float32),
        )

    @staticmethod
    def _peak(cells: int, xy: np.ndarray, height: float) -> np.ndarray:
        at = (np.arange(cells) + 0.5) / cells
        return height * np.exp(-((at[None] - xy[0]) ** 2 + (at[:, None] - xy[1]) ** 2) / (2 * 0.02**2))


def test_the_lesions_are_measured_around_the_fovea_that_the_finished_card_finds(
    cases: list[Case], tiny: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It seeks the fovea where the disc says, and measures exudates around that one."""
    graded = [replace(case, labels=replace(case.labels, dme=1)) for case in cases if case.dataset == "idrid-B"]
    card = replace(Card.of(tiny), grade=False, mirrored=False, close=())
    places = []
    for case in graded:
        transform = frame(Photo.open(case.path), card.close_px).transform
        marked = np.array([case.labels.disc_xy, case.labels.fovea_xy], float)
        places.append(tuple(transform.to_frame(marked) / transform.side_px))
    asked: list[Sequence[LesionFeatures]] = []
    monkeypatch.setattr(module, "fit_witness", lambda numbers, *_: asked.append(numbers))
    finished = calibrate(Predictor(Drawn(card, places)), graded)
    assert finished.fovea_from_disc is not None
    assert all(name.startswith("EX ") for name in asked[0][0])
    for using, close in ((finished, True), (replace(finished, fovea_from_disc=None), False)):
        told = [
            _predict_photo(Predictor(Drawn(using, [place])), case) for case, place in zip(graded, places, strict=True)
        ]
        again = [{name: photo.features[name] for name in asked[0][0]} for photo in told if photo is not None]
        assert (again == list(asked[0])) is close


def test_heads_that_answer_by_themselves_get_no_witnesses_and_no_fading(
    cases: list[Case], tiny: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor = Predictor(TorchRuntime(build(tiny).eval(), Card.of(tiny)))
    monkeypatch.setattr(module, "fit_witness", lambda *_: pytest.fail("the lesions were asked"))
    before = replace(predictor.card, witnesses={"grade": {"numbers": []}}, lowest_grades={"EX": 2})
    for earlier in (None, before):
        card = calibrate(predictor, cases[:6], before=earlier, witnesses=False)
        assert card.witnesses == {}
        assert card.lowest_grades == {}


def test_heads_that_answer_by_themselves_keep_no_threshold_of_outlines_that_faded() -> None:
    card = replace(Card(), about={"calibration": {f"{code}_threshold": "0.5" for code in CODES} | {
        f"{task}_labels": 0 for task in CLASSES}})  # fmt: skip
    before = replace(
        card, thresholds=card.thresholds | {"EX": 0.12, "HE": 0.2}, lowest_grades={"EX": 2}, referable_threshold=0.1,
        grade_quantile=0.7, witnesses={"grade": {"numbers": []}},
    )  # fmt: skip
    kept, alone = _with_before(card, before, []), _with_before(card, before, [], witnesses=False)
    assert (kept.thresholds["EX"], kept.thresholds["HE"], kept.referable_threshold) == (0.12, 0.2, 0.1)
    assert (alone.thresholds["EX"], alone.thresholds["HE"]) == (card.thresholds["EX"], 0.2)
    assert (alone.referable_threshold, alone.grade_quantile) == (card.referable_threshold, card.grade_quantile)
    assert (alone.witnesses, alone.lowest_grades) == ({}, {})


def test_what_rests_on_the_grade_is_fixed_at_the_temperature_that_the_card_keeps(
    cases: list[Case], tiny: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That of the first weights where there are few labels; their threshold was a witness's too."""
    predictor = Predictor(TorchRuntime(build(tiny).eval(), Card.of(tiny)))
    fixed_on: list[np.ndarray] = []
    monkeypatch.setattr(module, "fit_temperature", lambda *_: 3.0)
    monkeypatch.setattr(module, "_fit_referable", lambda probs, _: fixed_on.append(probs) or 0.4)
    graded = [case for case in cases if case.labels.grade is not None][:4]
    before = replace(predictor.card, temperatures={"grade": 1.0}, witnesses={"grade": {"numbers": ["EX strong"]}})
    own = calibrate(predictor, graded, witnesses=False)
    kept = calibrate(predictor, graded, before=before, witnesses=False)
    assert (own.temperatures["grade"], kept.temperatures["grade"]) == (3.0, 1.0)
    assert kept.referable_threshold == 0.4
    at_one = fixed_on[0] ** 3
    np.testing.assert_allclose(fixed_on[1], at_one / at_one.sum(1, keepdims=True), rtol=1e-5)


def test_grade_sets_cover_nine_in_ten_of_the_photos_that_fixed_them():
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 1.5, (300, 5))
    probs = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    grades = np.array([int(rng.choice(5, p=row)) for row in probs])
    quantile = fit_grade_quantile(probs, grades)
    assert quantile is not None
    held = np.mean([grade in grade_set(row, quantile) for row, grade in zip(probs, grades, strict=True)])
    assert 0.9 <= held < 0.92
    assert fit_grade_quantile(probs[:0], grades[:0]) is None


def test_photos_that_say_nothing_of_lesions_are_looked_at_once(
    cases: list[Case], tiny: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And what is fixed on them is what it would be if each had been looked at closely, too."""
    sides: list[int] = []

    class Noting(TorchRuntime):
        """Notes how wide each picture is."""

        def __call__(self, images: np.ndarray, view: View = "whole"):
            sides.append(images.shape[2])
            return super().__call__(images, view)

    predictor = Predictor(Noting(build(tiny).eval(), Card.of(tiny)))
    graded = [case for case in cases if case.dataset == "idrid-B"]
    plain = [replace(case, labels=Labels(disc_xy=case.labels.disc_xy)) for case in graded]
    known = calibrate(predictor, plain)
    assert set(sides) == {tiny.views.whole_px}
    calibrate(predictor, cases)
    assert tiny.views.close_px in sides
    monkeypatch.setattr(module, "_needs_lesions", lambda *_: True)
    assert calibrate(predictor, plain) == known


def test_a_doubted_grade_0_is_no_proof_of_a_clean_photo(cases: list[Case], tiny: Recipe, tmp_path: Path) -> None:
    healthy = replace(next(case for case in cases if case.dataset == "idrid-B"), labels=Labels(grade=0))
    predictor = Predictor(TorchRuntime(build(tiny).eval(), Card.of(tiny)))
    assert _predict_photo(predictor, healthy).healthy == {"MA", "HE", "EX", "SE"}  # pyright: ignore[reportOptionalMemberAccess]
    Image.fromarray(np.zeros(Photo.open(healthy.path).pixels.shape[:2], np.uint8)).save(tmp_path / "blank.png")
    blank = Mask((tmp_path / "blank.png",), read_mask, "absent")
    filed = replace(healthy, labels=Labels(grade=0, masks={"EX": blank}))
    assert _predict_photo(predictor, filed).healthy == {"MA", "HE", "EX", "SE"}  # pyright: ignore[reportOptionalMemberAccess]
    doubted = replace(healthy, dataset="eyepacs400")
    assert not _predict_photo(predictor, doubted).healthy  # pyright: ignore[reportOptionalMemberAccess]


def test_a_structure_that_is_labeled_absent_counts_against_a_threshold(cases: list[Case], tiny: Recipe) -> None:
    """As it does in the scores: Dice counts what is marked where nothing is."""
    masked = next(case for case in cases if case.dataset == "idrid-A")
    predictor = Predictor(TorchRuntime(build(tiny).eval(), Card.of(tiny)))
    labels = replace(masked.labels, masks={**masked.labels.masks, "SE": ABSENT})
    seen = _predict_photo(predictor, replace(masked, labels=labels))
    assert seen is not None
    assert not seen.truths["SE"].any()


def test_outlines_fade_with_the_grade_where_that_keeps_true_lesions() -> None:
    """A false exudate as strong as the true ones: only the grade tells them apart."""
    truth = np.zeros((64, 64), bool)
    truth[10:30, 10:30] = True
    strong = np.where(truth, 0.9, 0.05)
    ill = [_photo(f"ill{index}", strong, truth) for index in range(MIN_POSITIVE)]
    healthy = [_photo(f"healthy{index}", strong, None, "idrid-B") for index in range(10)]
    graded = {photo.case.key: np.eye(5)[2] for photo in ill} | {photo.case.key: np.eye(5)[0] for photo in healthy}
    cut, lowest = _fit_cut([*ill, *healthy], "EX", graded)
    assert (cut.dice, lowest) == (1.0, 2)
    assert _fit_cut([*ill, *healthy], "EX", {})[1] == 0, "a model without a grade has none to fade with"


def test_outlines_do_not_fade_where_healthy_eyes_are_clean_without_it() -> None:
    truth = np.zeros((64, 64), bool)
    truth[10:30, 10:30] = True
    ill = [_photo(f"ill{index}", np.where(truth, 0.9, 0.05), truth) for index in range(MIN_POSITIVE)]
    healthy = [_photo(f"healthy{index}", np.full((64, 64), 0.05), None, "idrid-B") for index in range(10)]
    doubtful = {photo.case.key: np.array([0.5, 0, 0.5, 0, 0]) for photo in [*ill, *healthy]}
    assert _fit_cut([*ill, *healthy], "EX", doubtful)[1] == 0


def test_a_model_without_a_grade_takes_over_nothing_that_a_grade_was_part_of() -> None:
    tree = Witness(("SE strong",), (0.0,), (1.0,), (1.0,), (-1.0, 0.0, 1.0, 2.0), (0.5, 0.5)).to_tree()
    before = replace(
        Card(), witnesses={"grade": tree}, lowest_grades={"EX": 2}, thresholds=dict.fromkeys(CODES, 0.3), close_px=64
    )
    about = {"calibration": {f"{name}_{part}": 0 for part in ("labels", "threshold") for name in (*CODES, *CLASSES)}}
    seen = [_photo("ill", np.zeros((64, 64)), np.ones((64, 64), bool))]
    with_grade = _with_before(replace(Card(), close_px=64, about=about), before, seen)
    assert (with_grade.witnesses, with_grade.lowest_grades) == ({"grade": tree}, {"EX": 2})
    assert with_grade.thresholds["EX"] == 0.3
    without = _with_before(replace(Card(), grade=False, close_px=64, about=about), before, seen)
    assert (without.witnesses, without.lowest_grades) == ({}, {})
    assert (without.thresholds["EX"], without.thresholds["HE"]) == (0.5, 0.3)
    assert Card.from_json(without.to_json()) == without
    lean = replace(Card(), structures=("EX",), close=("EX",), close_px=64, about=about)
    alone = _with_before(lean, replace(before, referable_threshold=0.1), seen)
    assert not alone.witnesses, "it asks for a lesion that this model does not seek"
    assert alone.referable_threshold == lean.referable_threshold, "it was fixed on the answers of both"


def test_a_task_that_the_first_weights_do_not_answer_keeps_nothing_of_them() -> None:
    """Their card has a temperature and a threshold of everything, though nothing was fitted."""
    about = {"calibration": {f"{code}_threshold": "0.5" for code in CODES} | {f"{task}_labels": 0 for task in CLASSES}}
    before = replace(Card(), grade=False, dme=False, temperatures={"grade": 1.0, "dme": 1.0})
    fitted = replace(
        Card(), about=about, temperatures={"grade": 4.0, "dme": 2.0}, referable_threshold=0.6, grade_quantile=0.9
    )
    card = _with_before(fitted, before, [])
    assert card.temperatures == fitted.temperatures
    assert (card.referable_threshold, card.grade_quantile) == (0.6, 0.9)
    assert "grade_calibration" not in card.about["calibration"]


@pytest.mark.parametrize(("labels", "has_witness", "is_kept"), [(4, False, True), (40, False, True), (40, True, False)])
def test_too_few_labels_leave_a_task_calibrated_as_it_was(labels: int, has_witness: bool, is_kept: bool) -> None:
    """All of it, since the parts belong together: a witness that could not be fitted keeps the rest, too."""
    tree = Witness(("EX strong",), (0.0,), (1.0,), (1.0,), (-1.0, 0.0, 1.0, 2.0), (0.5, 0.5)).to_tree()
    before = replace(
        Card(), temperatures={"grade": 1.6}, referable_threshold=0.31, grade_quantile=0.93, witnesses={"grade": tree}
    )
    about = {"calibration": {f"{code}_threshold": "0.5" for code in CODES} | {"grade_labels": labels, "dme_labels": 0}}
    own = tree | {"numbers": ["HE strong"]}
    card = replace(
        Card(), temperatures={"grade": 0.25}, referable_threshold=0.64, grade_quantile=1.5, about=about,
        witnesses={"grade": own} if has_witness else {},
    )  # fmt: skip
    result = _with_before(card, before, [])
    used = before if is_kept else card
    assert result.temperatures["grade"] == used.temperatures["grade"]
    assert (result.referable_threshold, result.grade_quantile) == (used.referable_threshold, used.grade_quantile)
    assert result.witnesses["grade"] == used.witnesses["grade"]
    assert ("grade_calibration" in result.about["calibration"]) is is_kept


def test_the_threshold_of_a_very_sure_model_still_separates() -> None:
    low = np.array([1e-5, 2e-5, 1.5e-5, 6e-5, 7e-5, 8e-5])
    for chances in (low, 1 - low[::-1]):
        probs = np.zeros((6, 5))
        probs[:, 0], probs[:, 2] = 1 - chances, chances
        threshold = _fit_referable(probs, np.array([0, 0, 0, 2, 2, 2]))
        assert (chances >= threshold).tolist() == [False] * 3 + [True] * 3
