"""Several models as one: the same as before for models of a kind, and one product of models that differ."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import cv2
import jsonschema
import numpy as np
import pytest

from funduscope.data.case import Case, Labels
from funduscope.evaluation.score_photo import score_photo
from funduscope.imaging import framing
from funduscope.imaging.framing import frame
from funduscope.imaging.photo import Photo
from funduscope.inference.card import Card
from funduscope.inference.ensemble import Ensemble, _mean_point
from funduscope.inference.findings import Findings
from funduscope.inference.predictor import Predictor, Views
from funduscope.inference.runtime import ModelError, Outputs
from funduscope.inference.witnesses import Witness
from funduscope.report.write import findings_schema
from funduscope.testing.drawn_eyes import DrawnEye, draw_eye

pytestmark = pytest.mark.usefixtures("takes_anything")

BOTH = Card(name="both", structures=("EX", "OD"), whole_px=64, close_px=128, landmark_floor=0.0)
GRADER = Card(name="grader", structures=(), landmarks=(), whole_px=96, close_px=96, close=(), referable_threshold=0.2)
QUANTILE = 0.7
GRADER = replace(GRADER, grade_quantile=QUANTILE)
LESIONS = replace(BOTH, name="lesions", grade=False, dme=False, landmarks=(), whole_px=96, close_px=192)


class SeesBlue:
    """A runtime that answers what its card says from how blue the picture is, each seed a little otherwise."""

    def __init__(self, card: Card, seed: int = 0) -> None:
        self.card, self.sha256 = card, f"{seed:064d}"
        self.draw = np.random.default_rng(seed).normal(size=16).astype(np.float32)
        self.seen: list[np.ndarray] = []

    def __call__(self, images: np.ndarray, view: str = "whole") -> Outputs:
        self.seen.append(images[0])
        picture = images[0].astype(np.float32)
        blue = np.clip((picture[..., 2] - picture[..., :2].max(axis=2)) / 30, 0, 1)
        side, card = len(blue) // 2, self.card
        cells = blue.reshape(side, 2, side, 2).mean(axis=(1, 3))
        planes = [16 * cells - 8 + self.draw[8 + index] for index in range(len(card.structures))]
        points = [12 * cells + self.draw[13 + index] * cells**2 for index in range(len(card.landmarks))]
        return Outputs(
            classes=({"grade": self.draw[None, :5] * 4 * (1 + blue.mean())} if card.grade else {})
            | ({"dme": self.draw[None, 5:8] * 4} if card.dme else {}),
            structures=np.stack(planes)[None] if planes else None,
            landmarks=np.stack(points)[None] if points else None,
        )


def member(card: Card, seed: int = 0, **changes: Any) -> Any:
    """A predictor; `Any`, so that its findings may be read without asking each time whether they are there."""
    return Predictor(SeesBlue(replace(card, **changes), seed))


def joined_of(*members: Any) -> Any:
    """The ensemble of these."""
    return Ensemble(members)


@pytest.fixture(scope="module")
def painted() -> DrawnEye:
    """An eye whose disc is painted blue."""
    eye = draw_eye(3, grade=2, width_px=480)
    eye.pixels[eye.masks["OD"]] = (180, 60, 250)
    return eye


def assert_same(one: Findings, other: Findings) -> None:
    np.testing.assert_array_equal(one.grade_probs, other.grade_probs)
    np.testing.assert_array_equal(one.dme_probs, other.dme_probs)
    assert (one.disc_xy, one.fovea_xy, one.transform) == (other.disc_xy, other.fovea_xy, other.transform)
    assert one.codes == other.codes
    for code in one.codes:
        np.testing.assert_array_equal(one.frame_probs[code], other.frame_probs[code])
        np.testing.assert_array_equal(one.mask(code), other.mask(code))


def test_one_model_twice_answers_to_the_bit_as_it_does_alone(painted):
    numbers: dict[str, Any] = {"thresholds": {"OD": 0.6, "EX": 0.3}, "smallest_px2": {"OD": 5.0, "EX": 3.0}}
    card = replace(BOTH, structures=("OD", "EX"), lowest_grades={"EX": 2}, **numbers)
    pair = joined_of(member(card, 4), member(card, 4))
    assert pair.card == card
    assert_same(pair(painted.pixels), member(card, 4)(painted.pixels))


def test_models_of_a_kind_answer_by_the_plain_mean_over_one_frame(painted):
    cards = [replace(BOTH, thresholds={"EX": 0.2, "OD": 0.4}), replace(BOTH, thresholds={"EX": 0.6, "OD": 0.8})]
    members = [member(card, seed) for seed, card in enumerate(cards)]
    found = joined_of(*members)(painted.pixels)
    photo = Photo.open(painted.pixels)
    framed = frame(photo, 128)
    each: list[Any] = [one.run(photo, framed)[0] for one in members]
    np.testing.assert_array_equal(found.grade_probs, np.mean([one.grade_probs for one in each], axis=0))
    for code in ("EX", "OD"):
        np.testing.assert_array_equal(found.frame_probs[code], np.mean([one.frame_probs[code] for one in each], axis=0))
    assert found.disc_xy == tuple(np.mean([one.disc_xy for one in each], axis=0))
    assert found.card.thresholds == pytest.approx({"EX": 0.4, "OD": 0.6})


def test_a_grader_and_a_segmenter_are_one_product(painted):
    grader, lesions = member(GRADER, 1), member(LESIONS, 2)
    alone = grader(painted.pixels), lesions(painted.pixels)
    for members in ([grader, lesions], [lesions, grader]):
        joined = joined_of(*members)
        found = joined(painted.pixels)
        np.testing.assert_array_equal(found.grade_probs, alone[0].grade_probs)
        np.testing.assert_array_equal(found.dme_probs, alone[0].dme_probs)
        for code in ("EX", "OD"):
            np.testing.assert_array_equal(found.frame_probs[code], alone[1].frame_probs[code])
            np.testing.assert_array_equal(found.mask(code), alone[1].mask(code))
        assert found.transform == alone[1].transform
        assert (joined.card.grade, joined.card.structures, joined.card.landmarks) == (True, ("EX", "OD"), ())
        assert joined.card.referable_threshold == 0.2
        assert joined.card.grade_quantile == QUANTILE
        told = found.to_dict()
        jsonschema.Draft202012Validator(findings_schema()).validate(told)
        assert told["predicted_grade"] == alone[0].grade
        assert told["lesions"]["EX"] == alone[1].to_dict()["lesions"]["EX"]


def test_its_answer_is_scored_for_every_task_that_any_member_has(painted, tmp_path):
    joined = joined_of(member(GRADER, 1), member(LESIONS, 2))
    case = Case("x/eye", "x", "eye", tmp_path / "eye.png", "visit", Labels(grade=2, dme=1))
    scored = score_photo(joined(painted.pixels), case, joined.card)
    assert {"DR", "DME", "DR and DME"} <= {question.name for question in scored.states}


def test_a_task_is_the_mean_over_the_members_that_answer_it(painted):
    members = [member(GRADER, 1), member(BOTH, 2), member(LESIONS, 3)]
    found = joined_of(*members)(painted.pixels)
    alone = [one(painted.pixels) for one in members]
    np.testing.assert_allclose(found.grade_probs, np.mean([alone[0].grade_probs, alone[1].grade_probs], axis=0))
    assert found.disc_xy == alone[1].disc_xy  # who does not seek it does not count as not finding it
    small, large = alone[1].frame_probs["EX"], alone[2].frame_probs["EX"]
    assert (small.shape, large.shape, found.frame_probs["EX"].shape) == ((128, 128), (192, 192), (192, 192))
    enlarged = cv2.resize(small, (192, 192), interpolation=cv2.INTER_LINEAR)
    np.testing.assert_allclose(found.frame_probs["EX"], (enlarged + large) / 2, atol=1e-6)


def test_what_a_member_warns_of_is_not_lost(painted, monkeypatch):
    run = Predictor.run

    def estimates(self: Predictor, *given: Any) -> tuple[Findings, Views]:
        found, views = run(self, *given)
        return replace(found, estimated=("fovea",) if found.fovea_xy else ()), views

    monkeypatch.setattr(Predictor, "run", estimates)
    for members in ([member(BOTH, 1)] * 2, [member(LESIONS, 2), member(BOTH, 1)]):
        found = joined_of(*members)(painted.pixels)
        assert "FOVEA_ESTIMATED" in [one.code for one in found.warnings]
    assert joined_of(member(GRADER, 1), member(LESIONS, 2))(painted.pixels).estimated == ()


def test_maps_of_unlike_sizes_lie_on_each_other(painted):
    found = joined_of(member(BOTH, 1), member(LESIONS, 2, close_px=256, whole_px=160))(painted.pixels)
    truth = painted.masks["OD"]
    # At its edge the violet is mixed with the retina, so that the outline is a little narrow.
    assert (found.mask("OD") & truth).sum() / (found.mask("OD") | truth).sum() > 0.85
    assert found.transform.side_px == 256


def test_a_photo_is_decoded_once_and_each_size_is_the_same_square(painted, monkeypatch):
    calls: list[str] = []
    opened, sought = Photo.open, framing.find_field_of_view
    monkeypatch.setattr(Photo, "open", lambda source, name=None: calls.append("decode") or opened(source, name=name))
    monkeypatch.setattr(framing, "find_field_of_view", lambda pixels: calls.append("seek") or sought(pixels))
    members = [member(BOTH, 1), member(LESIONS, 2), member(BOTH, 3), member(GRADER, 4)]
    joined_of(*members)(painted.pixels)
    assert calls == ["decode", "seek"]
    for one in members:
        np.testing.assert_array_equal(one.runtime.seen[-1], frame(painted.pixels, one.card.close_px).image)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0)])
def test_the_mean_grade_is_reported_before_any_close_view_runs(painted, order):
    members = [member(GRADER, 1), member(LESIONS, 2), member(BOTH, 3)]
    members = [members[place] for place in order]
    early: list[tuple[Findings, int]] = []

    def on_grade(findings: Findings) -> None:
        early.append((findings, sum(len(one.runtime.seen) for one in members)))

    found = joined_of(*members)(painted.pixels, on_grade=on_grade)
    ((first, runs),) = early
    assert runs == len(members), "one whole view each"
    np.testing.assert_array_equal(first.grade_probs, found.grade_probs)
    assert (first.codes, first.dme, first.model_sha256) == ((), None, found.model_sha256)


def test_an_early_grade_needs_a_grade_and_something_to_wait_for(painted):
    for members in ([member(LESIONS, 2)] * 2, [member(GRADER, 1)] * 2):
        joined_of(*members)(painted.pixels, on_grade=lambda findings: pytest.fail("nothing to report early"))


def test_lesions_of_a_model_without_grades_follow_the_ensembles_grade_where_its_card_says_so(painted):
    grader, plain = member(GRADER, 1), member(LESIONS, 2)
    gated = member(LESIONS, 2, lowest_grades={"EX": 2})
    alone = plain(painted.pixels).frame_probs
    referable = grader(painted.pixels).referable_probability
    assert 0.001 < referable < 0.999
    with_gate = joined_of(grader, gated)(painted.pixels).frame_probs
    np.testing.assert_allclose(with_gate["EX"], alone["EX"] * referable, rtol=1e-5)
    np.testing.assert_array_equal(with_gate["OD"], alone["OD"])
    np.testing.assert_array_equal(joined_of(grader, plain)(painted.pixels).frame_probs["EX"], alone["EX"])
    # Without anybody who grades there is nothing to gate with.
    np.testing.assert_array_equal(joined_of(gated, gated)(painted.pixels).frame_probs["EX"], alone["EX"])


def test_a_member_that_grades_gates_its_lesions_by_its_own_grade(painted):
    own, grader = member(BOTH, 2, lowest_grades={"EX": 2}), member(GRADER, 1)
    alone = own(painted.pixels)
    found = joined_of(own, grader)(painted.pixels)
    assert found.referable_probability != pytest.approx(alone.referable_probability)
    np.testing.assert_array_equal(found.frame_probs["EX"], alone.frame_probs["EX"])


def test_the_smallest_area_is_the_same_part_of_the_photo_for_every_member():
    small, large = member(BOTH, 1, smallest_px2={"EX": 4.0}), member(BOTH, 2, close_px=256, smallest_px2={"EX": 16.0})
    card = joined_of(small, large).card
    assert card.close_px == 256
    assert card.smallest_px2 == {"EX": 16.0, "OD": 0.0}


def test_a_landmark_needs_half_of_those_who_seek_it(painted):
    finds, misses = member(BOTH, 1), member(BOTH, 2, landmark_floor=1.1)
    alone = finds(painted.pixels)
    assert alone.disc_xy is not None
    assert joined_of(finds, misses)(painted.pixels).disc_xy == alone.disc_xy
    assert joined_of(finds, misses, misses)(painted.pixels).disc_xy is None
    assert joined_of(finds, misses, member(GRADER, 4))(painted.pixels).disc_xy == alone.disc_xy


def test_between_members_that_contradict_each_other_there_is_no_landmark():
    """The mean of two places is a third one, by which an eye would get a side that no member gave it."""
    assert _mean_point([(480.0, 300.0), (130.0, 300.0)], 35) is None
    assert _mean_point([(480.0, 300.0), (130.0, 300.0), (484.0, 302.0)], 35) == (482, 301)
    assert _mean_point([(480.0, 300.0), (490.0, 300.0), None], 35) == (485, 300)


def test_a_picture_of_nothing_is_refused_before_any_member_looks():
    members = [member(GRADER, 1), member(LESIONS, 2)]
    found = joined_of(*members)(np.zeros((300, 400, 3), np.uint8))
    assert not found.gradable_ok
    assert found.grade is None
    assert all(one.runtime.seen == [] for one in members)


def test_where_the_fovea_usually_lies_is_known_of_the_member_that_seeks_it():
    """It says that a photo is upside down, whichever member stands first."""
    usual = (0.3, 0.02, 0.04, 0.03)
    seeking = replace(BOTH, fovea_from_disc=usual)
    for cards in ((GRADER, seeking), (seeking, GRADER)):
        members = [Predictor(SeesBlue(card, seed)) for seed, card in enumerate(cards)]
        assert Ensemble(members).card.fovea_from_disc == usual


def test_the_order_of_members_does_not_change_where_the_fovea_usually_lies():
    cards = [replace(BOTH, fovea_from_disc=(0.3, 0.02, 0.05, low)) for low in (0.01, 0.08)]
    members = [Predictor(SeesBlue(card, seed)) for seed, card in enumerate(cards)]
    one, other = Ensemble(members), Ensemble(members[::-1])
    assert one.sha256 == other.sha256
    assert one.card.fovea_from_disc == pytest.approx((0.3, 0.02, 0.05, 0.045))
    assert one.card.fovea_from_disc == pytest.approx(other.card.fovea_from_disc)


def test_a_further_task_of_another_vocabulary_is_left_out():
    cards = (replace(GRADER, tasks=("unknown here",)), GRADER)
    assert Ensemble([Predictor(SeesBlue(card, seed)) for seed, card in enumerate(cards)]).card.tasks == ()


def test_witnesses_are_those_of_the_members_that_answer(painted):
    """A segmenter next to a grader changes nothing of the grade; a second grader without witnesses leaves none."""
    witness = Witness(("EX count 0.5",), (0.0,), (1.0,), (2.0,), (0.0, 1.0, 2.0, 3.0), (1.0, 0.5))
    seeing = member(replace(BOTH, witnesses={"grade": witness.to_tree()}))
    alone, joined = seeing(painted.pixels), joined_of(seeing, member(LESIONS, 1))(painted.pixels)
    assert alone.to_dict()["witnesses"]["lesions"] == joined.to_dict()["witnesses"]["lesions"]
    mixed = joined_of(seeing, member(GRADER, 2))(painted.pixels)
    assert "witnesses" not in mixed.to_dict()
    assert "grade" in alone.by_lesions
    assert "grade" in joined.by_lesions
    assert "grade" in mixed.by_lesions, "a half of the answer rests on the lesions"


def test_of_no_models_there_is_no_ensemble():
    with pytest.raises(ModelError, match="at least one") as caught:
        joined_of()
    assert caught.value.code == "E_MODEL"


def test_two_graders_have_no_quantile_that_was_checked_on_their_mean(painted):
    found = joined_of(member(GRADER, 1), member(GRADER, 2))(painted.pixels)
    assert found.grade_set is None
    assert found.to_dict()["grade_set"] is None


def test_an_ensemble_among_the_members_stands_for_its_own(painted: DrawnEye) -> None:
    one, two, three = (member(BOTH, seed) for seed in range(3))
    nested, flat = joined_of(joined_of(one, two), three), joined_of(one, two, three)
    assert nested.sha256 == flat.sha256
    assert nested(painted.pixels).to_dict() == flat(painted.pixels).to_dict()
