"""What evaluation counts, photo by photo and over sets: with answers that are right by construction, or wrong by it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial
from importlib import resources
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from funduscope.data.case import ABSENT, Case, LabelError, Labels, Mask
from funduscope.data.masks import read_mask
from funduscope.evaluation.evaluate import evaluate
from funduscope.evaluation.kept_scores import KeptScores
from funduscope.evaluation.out_of_fold import Overlap
from funduscope.evaluation.score_key import ScoreKey
from funduscope.evaluation.score_photo import can_score, score_photo, score_stream
from funduscope.evaluation.scores import PhotoScore, Scores, summarize
from funduscope.i18n.messages import Message
from funduscope.imaging.framing import CropTransform
from funduscope.imaging.photo import Photo
from funduscope.inference.card import Card
from funduscope.inference.ensemble import Ensemble
from funduscope.inference.findings import Failure, Findings
from funduscope.inference.predictor import Predictor
from funduscope.inference.runtime import Outputs
from funduscope.quality.gradability import Quality
from funduscope.testing.drawn_eyes import DrawnEye, draw_eye
from funduscope.vocabulary import CLASSES, CODES, LANDMARKS, LESIONS

CARD = Card(name="oracle", whole_px=256, close_px=256, referable_threshold=0.4)
REFUSED = Message("TOO_DARK", "The field of view is almost black.")
WIDTH = 400


def test_photos_without_a_label_that_the_model_answers_are_not_read(tmp_path: Path) -> None:
    cases = [Case(f"table/{n}", "table", n, tmp_path / n, n, Labels(laterality="left")) for n in ("a.jpg", "b.jpg")]
    with pytest.raises(LabelError, match="None of the 2 photos has a label that oracle answers"):
        evaluate(Oracle({}), cases)  # pyright: ignore[reportArgumentType]


def sure(truth: int, classes: int, chance: float = 0.9) -> np.ndarray:
    """Probabilities with most on one class."""
    table = np.full(classes, (1 - chance) / (classes - 1))
    table[truth] = chance
    return table


def answer_of(eye: DrawnEye, **changes) -> Findings:
    """The findings of a model that knows: exact masks, points and grades. changes: what it says instead; classes by
    photo task."""
    height, width = eye.pixels.shape[:2]
    side = max(height, width)
    planes = {}
    for code in CODES:
        planes[code] = np.zeros((side, side), np.float32)
        planes[code][:height, :width] = eye.masks[code] * np.float32(0.95)
    said = {
        "disc_xy": eye.disc_xy,
        "fovea_xy": eye.fovea_xy,
        "frame_probs": planes,
    }
    said |= {name: value for name, value in changes.items() if name not in CLASSES}
    probs = {"grade": sure(eye.grade, 5), "dme": sure(eye.dme, 3)}
    probs |= {name: value for name, value in changes.items() if name in CLASSES}
    transform = CropTransform(0, 0, side, side, width, height)
    return Findings(Photo.open(eye.pixels), transform, CARD, "0" * 64, class_probs=probs, **said)


def refusal_of(eye: DrawnEye) -> Findings:
    height, width = eye.pixels.shape[:2]
    transform = CropTransform(0, 0, 256, 256, width, height)
    return Findings(Photo.open(eye.pixels), transform, CARD, "0" * 64, reasons=(REFUSED,))


class Oracle:
    """A predictor whose answers are given beforehand, by path."""

    def __init__(self, answers: dict[Path, Findings | Failure], card: Card = CARD) -> None:
        self.answers, self.card, self.sha256, self.refuses = answers, card, "0" * 64, True

    def stream(self, paths: Iterable[Path], *, frames: bool = True) -> Iterator[Findings | Failure]:
        for path in paths:
            yield self.answers[path]


@pytest.fixture(scope="module")
def eyes() -> list[DrawnEye]:
    """Ten drawn eyes, two of each grade."""
    return [draw_eye(seed, grade=seed % 5, width_px=WIDTH) for seed in range(10)]


def labels_of(eye: DrawnEye, folder: Path, **changes) -> Labels:
    """Everything known, the masks as files; a structure that is not there is known to be absent."""
    masks = {code: mask_file(eye.masks[code], folder, code) for code in CODES}
    known = Labels(grade=eye.grade, dme=eye.dme, disc_xy=eye.disc_xy, fovea_xy=eye.fovea_xy, masks=masks)
    return replace(known, **changes)


def mask_file(mask: np.ndarray, folder: Path, name: str) -> Mask:
    if not mask.any():
        return ABSENT
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.png"
    Image.fromarray(mask.astype(np.uint8) * 255).save(path)
    return Mask((path,), read_mask)


def case_of(number: int, labels: Labels, dataset: str = "own", visit: str | None = None) -> Case:
    name = f"eye_{number:02d}"
    return Case(f"{dataset}/{name}", dataset, name, Path(f"{name}.jpg"), visit or f"{dataset}/{number}", labels)


def by_name(scored: PhotoScore) -> dict[str, Any]:
    """A photo's states by the names that scores.json has."""
    return {question.name: state for question, state in scored.states.items()}


def score_one(answer: Findings | Failure, labels: Labels, dataset: str = "own", card: Card = CARD) -> PhotoScore:
    return score_photo(answer, case_of(0, labels, dataset), card)


@pytest.fixture(scope="module")
def perfect(eyes, tmp_path_factory) -> Scores:
    folder = tmp_path_factory.mktemp("perfect")
    cases = [case_of(i, labels_of(eye, folder / str(i))) for i, eye in enumerate(eyes)]
    answers = {case.path: answer_of(eye) for case, eye in zip(cases, eyes, strict=True)}
    return evaluate(Oracle(answers), cases)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("state", "score", "value"),
    [
        ("DR", "accuracy", 1),
        ("DR", "kappa", 1),
        ("DR", "recall of 3", 1),
        ("DR probabilities", "macro AUROC", 1),
        ("referable DR", "AUROC", 1),
        ("referable DR", "sensitivity", 1),
        ("referable DR", "specificity", 1),
        ("DME", "accuracy", 1),
        ("DR and DME", "accuracy", 1),
        ("DR calibration", "ECE", 0.1),
        ("disc center", "largest px", 0),
        ("fovea", "mean dd", 0),
        ("MA lesions", "sensitivity at 1/8", 1),
        ("MA lesions", "mean sensitivity", 1),
        ("OD IoU by photo", "median", 1),
        ("EX Dice by photo", "median", 1),
        ("false HE, EX or SE", "photos with any", 0),
        ("false lesions", "components a photo, MA", 0),
        *[(f"{code} pixels", "AUPR", 1) for code in CODES],
        *[(f"{code} pixels", "average precision", 1) for code in CODES],
        *[(f"{code} mask", "Dice", 1) for code in CODES],
    ],
)
def test_right_answers_score_in_full(perfect, state, score, value):
    assert perfect.value("own", state, score) == pytest.approx(value, abs=1e-9)


def test_every_score_has_its_interval_and_its_counts(perfect):
    for state, scores in perfect.tables["own"].items():
        assert perfect.details["own"]["states"][state]["photos"] > 0
        assert perfect.details["own"]["states"][state]["refused"] == 0
        for interval in scores.values():
            assert np.isnan(interval.value) or interval.low - 1e-9 <= interval.value <= interval.high + 1e-9
    assert perfect.selective == {}


def test_what_is_written_is_strict_json_and_a_table(perfect, tmp_path):
    perfect.write(tmp_path, about={"command": "funduscope evaluate"})

    def no_constant(word: str):
        raise AssertionError(f"{word} in JSON")

    tree = json.loads((tmp_path / "scores.json").read_text("utf-8"), parse_constant=no_constant)
    assert tree["about"] == {"command": "funduscope evaluate"}
    assert tree["scores"]["own"]["DR"]["kappa"]["value"] == 1
    assert set(tree["scores"]["own"]["DR"]["kappa"]) >= {"value", "low", "high", "visits"}
    rows = (tmp_path / "photos.jsonl").read_text("utf-8").splitlines()
    assert len(rows) == 10
    assert all(json.loads(row, parse_constant=no_constant)["dataset"] == "own" for row in rows)
    assert "| DR | kappa | 1.000 | 1.000 to 1.000 | 10 | 0 |" in (tmp_path / "scores.md").read_text("utf-8")


def test_a_refused_photo_counts_as_the_worst_answer(eyes, tmp_path):
    known = [labels_of(eye, tmp_path / str(i)) for i, eye in enumerate(eyes)]
    right = [score_photo(answer_of(eye), case_of(i, known[i]), CARD) for i, eye in enumerate(eyes)]
    ill, healthy = eyes[4], eyes[0]
    refused = [
        score_photo(refusal_of(eye), case_of(20 + i, labels_of(eye, tmp_path / f"r{i}")), CARD)
        for i, eye in enumerate((ill, healthy))
    ]
    scores = summarize(right + refused, repeats=20)

    def value(state: str, score: str) -> float:
        return scores.value("own", state, score)

    confusion = np.array(scores.details["own"]["states"]["DR"]["confusion"])
    assert confusion[4, 0] == 1
    assert confusion[0, 4] == 1
    assert value("DR", "accuracy") == pytest.approx(10 / 12)
    assert value("DR and DME", "accuracy") == pytest.approx(10 / 12)
    assert value("referable DR", "sensitivity") == pytest.approx(6 / 7)
    assert value("referable DR", "specificity") == pytest.approx(4 / 5)
    # Of 7 x 5 pairs, the refused ill one loses 5, the refused healthy one wins against none of 7: 11 pairs lost.
    assert value("referable DR", "AUROC") == pytest.approx(1 - 11 / 35)
    assert value("DR calibration", "ECE") == pytest.approx(0.1)
    assert value("disc center", "mean px") == 0
    assert scores.details["own"]["states"]["disc center"]["refused"] == 2
    true_px = sum(int(eye.masks["OD"].sum()) for eye in [*eyes, ill, healthy])
    missed = int(ill.masks["OD"].sum() + healthy.masks["OD"].sum())
    assert value("OD mask", "recall") == pytest.approx(1 - missed / true_px)
    assert value("MA lesions", "sensitivity at 8") < 1
    assert scores.details["own"]["refused"] == 2
    assert scores.details["own"]["states"]["false lesions"]["refused"] == 1
    for state, score in (("DR", "accuracy"), ("referable DR", "AUROC"), ("OD mask", "recall")):
        assert scores.selective[ScoreKey.parse("own", state, score)].value == 1
    assert scores.to_dict()["selective"]["own"]["referable DR"].keys() == {"AUROC", "sensitivity", "specificity"}


def test_a_photo_that_cannot_be_read_counts_as_refused(eyes, tmp_path):
    eye = eyes[4]
    scored = score_one(Failure("eye.jpg", "E_TRUNCATED", "Cut off."), labels_of(eye, tmp_path))
    assert scored.refused
    assert scored.row["error"] == "E_TRUNCATED"
    scores = summarize([scored], repeats=5)
    assert scores.value("own", "DR", "accuracy") == 0
    assert scores.value("own", "OD mask", "recall") == 0


def test_what_is_not_known_is_not_scored(eyes):
    scored = score_one(answer_of(eyes[4]), Labels())
    assert scored.states == {}
    only_disc = score_one(answer_of(eyes[4]), Labels(disc_xy=eyes[4].disc_xy))
    assert set(by_name(only_disc)) == {"disc center"}
    refused = by_name(score_one(refusal_of(eyes[4]), Labels(dme=1)))
    assert set(refused) == {"DME", "DME probabilities", "DME calibration"}


@pytest.mark.parametrize("answer_of_eye", [answer_of, refusal_of])
def test_what_the_model_does_not_answer_is_not_scored(eyes, tmp_path, answer_of_eye):
    lean = replace(CARD, dme=False, landmarks=("fovea",), structures=("EX",))
    labels = labels_of(eyes[4], tmp_path)
    labels.masks["EX|SE"] = labels.masks["EX"]
    states = by_name(score_one(answer_of_eye(eyes[4]), labels, card=lean))
    assert {"DR", "fovea", "EX pixels", "EX mask"} <= set(states)
    assert not [name for name in states if name.startswith(("DME", "DR and", "disc", "MA", "HE", "SE", "OD", "EX|SE"))]


def test_an_absent_lesion_makes_every_pixel_a_negative(eyes):
    eye = eyes[4]
    assert eye.masks["HE"].any()
    scored = score_one(answer_of(eye), Labels(masks={"HE": ABSENT}))
    overlap = by_name(scored)["HE mask"]
    assert (overlap.tp, overlap.fn) == (0, 0)
    assert overlap.fp == eye.masks["HE"].sum()
    assert by_name(scored)["HE pixels"].pixels == eye.masks["HE"].size
    scores = summarize([scored], repeats=5)
    assert np.isnan(scores.value("own", "HE pixels", "AUPR"))
    assert json.dumps(scores.to_dict(), allow_nan=False)


def test_either_exudate_is_met_by_the_larger_of_both(eyes, tmp_path):
    eye = next(eye for eye in eyes if eye.masks["EX"].any() and eye.masks["SE"].any())
    both = eye.masks["EX"] | eye.masks["SE"]
    drusen = np.zeros_like(both)
    drusen[:, ::2] = True
    labels = Labels(masks={"EX|SE": mask_file(both, tmp_path, "both")}, negatives=mask_file(drusen, tmp_path, "drusen"))
    scores = summarize([score_one(answer_of(eye), labels, "heimed")], repeats=5)
    assert scores.value("heimed", "EX|SE mask", "Dice") == 1
    assert scores.value("heimed", "EX|SE pixels", "average precision") == 1
    on_drusen = scores.value("heimed", "exudates on drusen and reflections", "share of what was marked")
    assert on_drusen == pytest.approx((both & drusen).sum() / both.sum())


def test_a_photo_shows_exudates_of_either_kind_or_none(eyes, tmp_path):
    ill = next(eye for eye in eyes if eye.masks["EX"].any() and eye.masks["SE"].any())
    nothing = np.zeros_like(ill.masks["EX"])
    there = Labels(masks={"EX|SE": mask_file(ill.masks["SE"], tmp_path, "there")})
    free = Labels(masks={"EX|SE": mask_file(nothing, tmp_path, "free")})
    scores = summarize(
        [
            score_one(answer_of(ill), there, "heimed"),
            score_one(answer_of(ill), free, "heimed"),
            score_one(refusal_of(ill), there, "heimed"),
            score_one(refusal_of(ill), free, "heimed"),
        ],
        repeats=5,
    )
    # The one that shows some and was found against the free one that is called ill: a tie. Refused ones are wrong.
    assert scores.value("heimed", "EX|SE present", "AUROC") == pytest.approx(0.5 / 4)
    assert scores.value("heimed", "EX|SE present", "sensitivity") == 0.5
    assert scores.value("heimed", "EX|SE present", "specificity") == 0


@pytest.mark.parametrize(("seen", "truth"), [(0, False), (1, None), (2, True), (4, True)])
def test_presence_needs_two_experts_or_none(eyes, seen, truth):
    states = by_name(score_one(answer_of(eyes[4]), Labels(experts={"HE": seen}), "diaretdb1"))
    assert ("HE present" in states) == (truth is not None)
    if truth is not None:
        assert states["HE present"].positive.tolist() == [truth]
    # No file of votes where nobody marked anything: every marked pixel is marked falsely. Elsewhere it is missing.
    assert ("HE votes" in states) == (seen == 0)
    if seen == 0:
        assert states["HE votes"].by_votes.tolist() == [eyes[4].masks["HE"].sum(), 0, 0, 0, 0]


def test_votes_are_counted_under_the_marked_pixels(eyes, tmp_path):
    eye = eyes[4]
    votes = np.full(eye.masks["HE"].shape, 60, np.uint8)
    votes[: len(votes) // 2] = 180
    Image.fromarray(votes).save(tmp_path / "votes.png")
    labels = Labels(experts={"HE": 3}, votes={"HE": tmp_path / "votes.png"})
    states = by_name(score_one(answer_of(eye), labels, "diaretdb1"))
    upper = int(eye.masks["HE"][: len(votes) // 2].sum())
    assert states["HE votes"].by_votes.tolist() == [0, eye.masks["HE"].sum() - upper, 0, upper, 0]
    refused = by_name(score_one(refusal_of(eye), labels, "diaretdb1"))
    assert refused["HE votes"].marked == 0
    assert refused["HE present"].refused.all()


def test_gradability_is_good_against_reject(eyes):
    photos = [
        score_one(answer_of(eyes[0], quality=Quality(1.0, ())), Labels(quality="good"), "eyepacs400"),
        score_one(refusal_of(eyes[1]), Labels(quality="reject"), "eyepacs400"),
        score_one(refusal_of(eyes[2]), Labels(quality="good"), "eyepacs400"),
        score_one(answer_of(eyes[3], quality=Quality(1.0, ())), Labels(quality="reject"), "eyepacs400"),
        score_one(refusal_of(eyes[4]), Labels(quality="usable"), "eyepacs400"),
    ]
    scores = summarize(photos, repeats=5)
    assert scores.details["eyepacs400"]["states"]["gradability"]["photos"] == 4
    assert scores.value("eyepacs400", "gradability", "AUROC") == 0.5
    assert scores.value("eyepacs400", "gradability", "sensitivity") == 0.5
    assert scores.to_dict()["selective"] == {"eyepacs400": {}}


def test_a_model_that_refuses_nothing_judges_no_photo(eyes):
    cases = [case_of(n, Labels(quality="reject", grade=3), "eyepacs400") for n in (3, 4)]
    model = Oracle({cases[0].path: answer_of(eyes[3]), cases[1].path: Failure("b.jpg", "E_FORMAT", "No photo.")})
    model.refuses = False
    for scored in score_stream(model, cases):  # pyright: ignore[reportArgumentType]
        assert "gradability" not in by_name(scored)
        assert "DR" in by_name(scored)


def test_gradability_is_ranked_by_its_score_where_there_is_one(eyes):
    photos = []
    for number, (quality, score) in enumerate([("good", 0.9), ("good", 0.4), ("reject", 0.3), ("reject", 0.05)]):
        answer = answer_of(eyes[number], quality=Quality(score, ()))
        photos.append(score_photo(answer, case_of(number, Labels(quality=quality), "eyepacs400"), CARD))
    assert summarize(photos, repeats=10).value("eyepacs400", "gradability", "AUROC") == 1


def test_maculopathy_is_any_edema_risk(eyes):
    yes, no = Labels(classes={"dme": frozenset({1, 2})}), Labels(classes={"dme": frozenset({0})})
    photos = [
        score_one(answer_of(eyes[4], dme=sure(2, 3)), yes, "srahim"),
        score_one(answer_of(eyes[4], dme=sure(1, 3)), yes, "srahim"),
        score_one(answer_of(eyes[4], dme=sure(0, 3)), no, "srahim"),
        score_one(answer_of(eyes[4], dme=sure(1, 3)), no, "srahim"),
    ]
    scores = summarize(photos, repeats=5)
    assert scores.value("srahim", "maculopathy", "sensitivity") == 1
    assert scores.value("srahim", "maculopathy", "specificity") == 0.5
    assert scores.value("srahim", "maculopathy", "AUROC") == pytest.approx(0.75)
    assert "DME" not in scores.tables["srahim"]


def test_macular_edema_is_risk_two_alone(eyes):
    """Messidor-2 says yes (risk 2) or no (0 or 1); a risk of 1 is no."""
    yes, no = Labels(classes={"dme": frozenset({2})}), Labels(classes={"dme": frozenset({0, 1})})
    photos = [
        score_one(answer_of(eyes[4], dme=sure(2, 3)), yes, "messidor2"),
        score_one(answer_of(eyes[4], dme=sure(1, 3)), yes, "messidor2"),
        score_one(answer_of(eyes[4], dme=sure(1, 3)), no, "messidor2"),
        score_one(answer_of(eyes[4], dme=sure(0, 3)), no, "messidor2"),
    ]
    scores = summarize(photos, repeats=5)
    assert scores.value("messidor2", "macular edema", "sensitivity") == 0.5
    assert scores.value("messidor2", "macular edema", "specificity") == 1
    assert scores.value("messidor2", "macular edema", "AUROC") == pytest.approx(0.75)
    assert "maculopathy" not in scores.tables["messidor2"]


@pytest.mark.parametrize(
    ("dataset", "labels", "counted"),
    [
        ("idrid-B", Labels(grade=0), True),
        ("idrid-B", Labels(grade=0, boxes={"OD": ((1.0, 1.0, 9.0, 9.0),)}), True),
        ("idrid-B", Labels(grade=0, boxes={"HE": ((1.0, 1.0, 9.0, 9.0),)}), False),
        ("idrid-B", Labels(grade=1), False),
        ("idrid-B", Labels(), False),
        ("eyepacs400", Labels(grade=0), False),
    ],
)
def test_false_lesions_are_counted_on_healthy_eyes_alone(eyes, dataset, labels, counted):
    states = by_name(score_one(answer_of(eyes[4]), labels, dataset))
    assert ("false lesions" in states) == counted
    if counted:
        assert states["false HE, EX or SE"].rate == 1
        assert states["false lesions"].components[LESIONS.index("HE")] > 0


def test_an_eye_of_grade_0_with_an_outlined_lesion_is_not_healthy(eyes, tmp_path):
    drawn = replace(labels_of(eyes[4], tmp_path), grade=0)
    assert "false lesions" not in by_name(score_one(answer_of(eyes[4]), drawn, "own"))
    disc = replace(drawn, masks={"OD": drawn.masks["OD"]})
    assert "false lesions" in by_name(score_one(answer_of(eyes[4]), disc, "own"))
    card = replace(CARD, structures=("HE", "EX", "SE"))
    unasked = replace(drawn, masks={"MA": drawn.masks["MA"]})
    assert not {one for one in by_name(score_one(answer_of(eyes[4]), unasked, card=card)) if "false" in one}, "nor here"
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"")
    unknown = replace(drawn, masks={"HE": Mask((bad,), read_mask)})
    assert "false lesions" not in by_name(score_one(answer_of(eyes[4]), unknown)), "a mask that cannot be read"


@pytest.mark.parametrize(
    ("outlined", "dataset", "labels", "expected"),
    [
        (("EX",), "own", Labels(masks={"EX|SE": ABSENT}), False),
        (("EX", "SE"), "own", Labels(masks={"EX|SE": ABSENT}), True),
        (("EX",), "own", Labels(grade=0), False),
        (("HE", "EX", "SE"), "own", Labels(grade=0), True),
        (("HE", "EX", "SE"), "eyepacs400", Labels(grade=0), False),
        (("EX",), "own", Labels(experts={"EX": 3}), True),
        (("EX",), "own", Labels(experts={"MA": 3}), False),
    ],
)
def test_a_photo_is_asked_for_only_where_its_labels_can_be_scored(eyes, outlined, dataset, labels, expected):
    card = replace(CARD, structures=outlined, grade=False, dme=False, landmarks=())
    case = case_of(0, labels, dataset)
    assert can_score(card, case) is expected
    assert bool(score_photo(answer_of(eyes[4]), case, card).states) is expected


@pytest.mark.parametrize(
    ("classes", "expected"),
    [
        ({"grade": frozenset({1, 2})}, False),
        ({"dme": frozenset({0, 1})}, True),
        ({"dme": frozenset({0, 2})}, False),
        ({"dme": frozenset({1, 2})}, True),
    ],
)
def test_a_constraint_is_scored_only_where_it_is_a_yes_or_a_no(eyes, classes, expected):
    card, case = replace(CARD, structures=(), landmarks=()), case_of(0, Labels(classes=classes), "own")
    assert can_score(card, case) is expected
    assert bool(score_photo(answer_of(eyes[4]), case, card).states) is expected


def test_haemorrhages_are_stated_without_the_heaviest_photo(eyes, tmp_path):
    labels = labels_of(eyes[4], tmp_path)
    cases = [replace(case_of(i, labels, "idrid-A"), name=f"IDRiD_{i}") for i in (16, 17)]
    scores = summarize([score_photo(answer_of(eyes[4]), case, CARD) for case in cases], repeats=5)
    counts = scores.details["idrid-A"]["states"]
    assert counts["HE pixels"]["photos"] == counts["HE mask"]["photos"] == 2
    assert counts["HE pixels without IDRiD_17"]["photos"] == counts["HE mask without IDRiD_17"]["photos"] == 1


def test_halves_add_up_to_the_whole(eyes, tmp_path):
    """Also how several runs are joined, each on its own test fold: their photos' scores together."""
    cases = [case_of(i, labels_of(eye, tmp_path / str(i)), "ab"[i % 2] * 3) for i, eye in enumerate(eyes)]
    answers = {case.path: answer_of(eyes[(i + 5 * (i % 3 == 0)) % 10]) for i, case in enumerate(cases)}
    answers[cases[7].path] = refusal_of(eyes[7])
    oracle, other = Oracle(answers), Oracle(answers, replace(CARD, name="another fold's"))
    whole = summarize(list(score_stream(oracle, cases)), repeats=30)  # pyright: ignore[reportArgumentType]
    first = list(score_stream(oracle, cases[:4]))  # pyright: ignore[reportArgumentType]
    rest = list(score_stream(other, cases[4:]))  # pyright: ignore[reportArgumentType]
    joined = summarize([*first, *rest], repeats=30)
    assert joined.to_dict() == whole.to_dict()
    assert set(whole.tables) == {"aaa", "bbb"}


def test_all_photos_are_one_stream(eyes):
    """So that the next photo is decoded while one is answered and scored."""
    cases = [case_of(i, Labels(grade=eye.grade)) for i, eye in enumerate(eyes[:3])]
    oracle = Oracle({case.path: answer_of(eye) for case, eye in zip(cases, eyes, strict=False)})
    streams = []

    def stream(paths: Iterable[Path], *, frames: bool = True) -> Iterator[Findings | Failure]:
        streams.append(paths)
        return Oracle.stream(oracle, paths)

    oracle.stream = stream  # pyright: ignore[reportAttributeAccessIssue]
    scored = list(score_stream(oracle, iter(cases)))  # pyright: ignore[reportArgumentType]
    assert [one.case for one in scored] == cases
    assert len(streams) == 1


def test_a_visit_is_drawn_as_one(eyes):
    photos = [
        score_photo(answer_of(eye), case_of(i, Labels(grade=eye.grade), visit=f"visit {i // 2}"), CARD)
        for i, eye in enumerate(eyes)
    ]
    assert summarize(photos, repeats=5).tables["own"]["DR"]["accuracy"].visits == 5
    alone = summarize(photos[:2], repeats=5).tables["own"]["DR"]["accuracy"]
    assert np.isnan(alone.low)


class SeesDisc:
    """A runtime that knows the optic disc by its paint and grades by how red the field is."""

    sha256 = "0" * 64
    card = replace(CARD, structures=("OD",), dme=False, close=())

    def __call__(self, images: np.ndarray, view: str = "whole") -> Outputs:
        picture = images[0].astype(np.float32)
        painted = picture[..., 2] - picture[..., :2].max(axis=2)
        coverage = np.clip(painted / 60, 0, 1)
        landmarks = np.full((1, len(LANDMARKS), 64, 64), -9.0, np.float32)
        blocks = coverage.reshape(64, 4, 64, 4).mean(axis=(1, 3))
        landmarks[0, 0] = 12 * blocks
        grade = np.zeros((1, 5), np.float32)
        grade[0, 0] = 3
        return Outputs(classes={"grade": grade}, structures=(16 * coverage - 8)[None, None], landmarks=landmarks)


def test_the_whole_way_from_files_to_scores(eyes, tmp_path, takes_anything):
    cases = []
    for number, eye in enumerate(eyes[:3]):
        painted = eye.pixels.copy()
        painted[eye.masks["OD"]] = (180, 60, 250)
        path = tmp_path / f"eye{number}.png"
        Image.fromarray(painted).save(path)
        labels = labels_of(eye, tmp_path / str(number))
        cases.append(replace(case_of(number, labels), path=path))
    (tmp_path / "black.png").write_bytes(b"")
    cases.append(replace(case_of(9, Labels(grade=0)), path=tmp_path / "black.png"))
    with pytest.warns(UserWarning, match=r"1 photo could not be read, such as own/eye_09 \(E_EMPTY\)"):
        scores = evaluate(Predictor(SeesDisc()), cases)
    assert scores.value("own", "OD mask", "IoU") > 0.9
    assert scores.value("own", "OD pixels", "average precision") > 0.95
    # A pixel here is twelve at 4288.
    assert scores.value("own", "disc center", "mean px") < 24
    assert scores.details["own"]["states"]["DR"]["confusion"][0] == [1, 0, 0, 0, 1]
    assert scores.details["own"]["refused"] == 1


def test_grade_sets_are_scored_and_a_refused_photo_is_not_covered(eyes, tmp_path):
    card = replace(CARD, grade_quantile=0.8)
    eye = eyes[2]
    labels = labels_of(eye, tmp_path)
    sure_and_right = replace(answer_of(eye), card=card)
    wrong = replace(answer_of(eye, grade=np.array([0.9, 0.04, 0.03, 0.02, 0.01])), card=card)
    close = replace(answer_of(eye, grade=np.array([0.02, 0.5, 0.4, 0.05, 0.03])), card=card)
    photos = []
    for number, answer in enumerate([sure_and_right, wrong, close, replace(refusal_of(eye), card=card)]):
        photos.append(score_photo(answer, case_of(number, labels), card))
    assert [photo.row["grade_set"] for photo in photos] == [[2], [0], [1, 2], None]
    scores = summarize(photos, repeats=20)
    assert scores.value("own", "DR grade sets", "coverage") == 0.5
    assert scores.value("own", "DR grade sets", f"coverage of {eye.grade}") == 0.5
    assert scores.value("own", "DR grade sets", "mean size") == pytest.approx(4 / 3)
    assert scores.selective[ScoreKey.parse("own", "DR grade sets", "coverage")].value == pytest.approx(2 / 3)
    without = score_photo(answer_of(eye), case_of(0, labels), CARD)
    assert "DR grade sets" not in by_name(without)


def test_witnesses_that_one_member_of_an_ensemble_lacks_are_not_scored(eyes):
    bare = replace(CARD, structures=(), landmarks=(), close=())
    both = Ensemble([Predictor(SeesDisc(), replace(bare, witnesses=tree)) for tree in ({"grade": {}}, {})])
    refused = score_photo(refusal_of(eyes[0]), case_of(0, Labels(grade=2)), both.card)
    assert not any("by the" in question.name for question in refused.states)


def test_the_advice_is_scored_which_lesions_and_edema_also_decide(eyes):
    """Grade 0 is said of every eye: one is referred by its edema alone, the healthy one is not, one is refused."""
    healthy = replace(eyes[0], grade=0, dme=0, masks={code: np.zeros_like(eyes[0].masks[code]) for code in CODES})
    scored = [
        score_photo(answer_of(healthy), case_of(0, Labels(grade=0)), CARD),
        score_photo(answer_of(healthy, dme=sure(2, 3)), case_of(1, Labels(grade=1, dme=2)), CARD),
        score_photo(refusal_of(healthy), case_of(2, Labels(grade=3)), CARD),
        score_photo(answer_of(healthy, grade=sure(2, 5)), case_of(3, Labels(grade=1, dme=0)), CARD),
        score_photo(answer_of(healthy), case_of(4, Labels(grade=0, classes={"dme": frozenset({1, 2})})), CARD),
        score_photo(answer_of(healthy), case_of(5, Labels(dme=2)), CARD),
    ]
    assert [one.row.get("referral_advised") for one in scored] == [False, True, None, True, False, None]
    scores = summarize(scored, repeats=1)
    assert scores.value("own", "referral advice", "sensitivity") == pytest.approx(1 / 3)
    assert scores.value("own", "referral advice", "specificity") == 0.5
    assert {key.score for key in scores.intervals if key.question.name == "referral advice"} == {
        "sensitivity",
        "specificity",
    }


def test_what_each_witness_alone_says_of_the_referral_is_scored(eyes, tmp_path):
    """Here the photo's answer is right and the lesions' is upside down; a refused photo is wrong for both."""
    card = replace(CARD, witnesses={"grade": {}})
    scored = []
    for number, eye in enumerate(eyes):
        right = sure(eye.grade, 5)
        said = {"photo": {"grade": right}, "lesions": {"grade": right[::-1]}}
        answer = answer_of(eye, witness_probs=said)
        scored.append(score_photo(answer, case_of(number, Labels(grade=eye.grade)), card))
    scores = summarize(scored, repeats=1)
    by_photo, by_lesions = (
        scores.value("own", f"referable DR by the {name}", "AUROC") for name in ("photo", "lesions")
    )
    assert by_photo == 1
    assert by_lesions < 0.5
    assert scored[0].row["grade_probs_of_lesions"] == scored[0].row["grade_probs_of_photo"][::-1]
    refused = score_photo(refusal_of(eyes[0]), case_of(9, Labels(grade=eyes[0].grade)), card)
    assert refused.row["grade_probs_of_photo"] is None
    assert summarize([*scored, refused], repeats=1).value("own", "referable DR by the photo", "AUROC") < 1
    plain = score_photo(answer_of(eyes[0]), case_of(0, Labels(grade=0)), CARD)
    assert not any("by the" in question.name for question in plain.states)


def test_one_mask_that_cannot_be_used_costs_its_own_score_alone(eyes, tmp_path, caplog):
    eye = next(eye for eye in eyes if eye.masks["EX"].any() and eye.masks["MA"].any())
    labels = labels_of(eye, tmp_path)
    small = mask_file(np.ones((9, 9), bool), tmp_path / "small", "EX")
    votes = tmp_path / "votes.png"
    Image.fromarray(np.full((9, 9), 7, np.uint8)).save(votes)
    bad = replace(labels, masks={**labels.masks, "EX": small}, experts={"SE": 0}, votes={"SE": votes})
    scored = score_one(answer_of(eye), bad)
    assert "EX pixels" not in by_name(scored)
    assert "SE votes" not in by_name(scored)
    assert {"DR", "MA pixels", "SE present"} <= by_name(scored).keys()
    assert "own/eye_00: The mask EX.png is 9x9 px" in caplog.text
    assert len(scored.row["not scored"]) == 2


class Stopped(Oracle):
    """An oracle whose process is stopped at its fourth photo."""

    def stream(self, paths: Iterable[Path], *, frames: bool = True) -> Iterator[Findings | Failure]:
        yield from islice(super().stream(paths), 3)
        raise KeyboardInterrupt


def test_a_stopped_evaluation_goes_on_where_it_was(eyes, tmp_path, monkeypatch):
    """Votes, negatives, landmarks, masks and refusals: what was kept is what is scored without a stop."""
    cases = [case_of(i, labels_of(eye, tmp_path / str(i))) for i, eye in enumerate(eyes[:6])]
    votes = tmp_path / "votes.png"
    Image.fromarray(eyes[1].masks["EX"].astype(np.uint8) * 180).save(votes)
    cases[1] = replace(cases[1], labels=replace(cases[1].labels, votes={"EX": votes}, experts={"EX": 3}))
    drusen = mask_file(np.pad(np.ones((9, 9), bool), ((0, eyes[2].pixels.shape[0] - 9), (0, WIDTH - 9))), tmp_path, "n")
    cases[2] = replace(cases[2], labels=replace(cases[2].labels, negatives=drusen, quality="good"))
    answers: dict[Path, Findings | Failure] = {
        case.path: answer_of(eye) for case, eye in zip(cases, eyes, strict=False)
    }
    answers[cases[0].path] = refusal_of(eyes[0])
    monkeypatch.setattr("funduscope.evaluation.evaluate.summarize", partial(summarize, repeats=30))
    keep, said = KeptScores(tmp_path / "keep"), []
    with pytest.raises(KeyboardInterrupt):
        evaluate(Stopped(answers), cases, keep=keep, warn=said.append)  # pyright: ignore[reportArgumentType]
    assert said == []
    rest = Oracle({path: answer for path, answer in answers.items() if path not in {one.path for one in cases[:3]}})
    scores = evaluate(rest, cases, keep=keep, warn=said.append)  # pyright: ignore[reportArgumentType]
    assert said == ["continued: 3 of 6 photos were scored before"]
    whole = evaluate(Oracle(answers), cases)  # pyright: ignore[reportArgumentType]
    assert scores.to_dict() == whole.to_dict()
    assert [photo.row for photo in scores.photos] == [photo.row for photo in whole.photos]
    for kept, fresh in zip(scores.photos, whole.photos, strict=True):
        assert all(np.array_equal(kept.marks[code], mark) for code, mark in fresh.marks.items())


@pytest.mark.parametrize(
    "changed",
    ["nothing", "label", "card", "negatives", "reader", "urgency", "refuses", "damaged", "cut", "empty", "encrypted"],
)
def test_what_was_kept_counts_for_the_same_photo_labels_and_model_alone(eyes, tmp_path, monkeypatch, changed):
    drusen = mask_file(eyes[1].masks["OD"], tmp_path, "drusen")
    case = case_of(1, Labels(grade=eyes[1].grade, negatives=drusen))
    answers: dict[Path, Findings | Failure] = {case.path: answer_of(eyes[1])}
    keep = KeptScores(str(tmp_path / "keep"))
    evaluate(Oracle(answers), [case], keep=keep)  # pyright: ignore[reportArgumentType]
    (file,) = keep.folder.iterdir()
    model, labels = Oracle({} if changed == "nothing" else answers), case.labels
    if changed == "label":
        labels = replace(labels, grade=4)
    elif changed == "card":
        model.card = replace(CARD, referable_threshold=0.1)
    elif changed == "negatives":
        mask_file(~eyes[1].masks["OD"], tmp_path, "drusen")
    elif changed == "reader":
        labels = replace(labels, negatives=replace(drusen, read=lambda path: ~read_mask(path)))
    elif changed == "urgency":
        monkeypatch.setenv("FUNDUSCOPE_URGENCY", str(urgent_table(tmp_path)))
    elif changed == "refuses":
        model.refuses = False
    elif changed == "damaged":
        content = bytearray(file.read_bytes())
        content[40:-200] = bytes(len(content) - 240)
        file.write_bytes(content)
    elif changed == "cut":
        file.write_bytes(file.read_bytes()[:100])
    elif changed == "empty":
        file.write_bytes(b"")
    elif changed == "encrypted":  # as one wrong bit makes it seem, in the list at the end, too
        file.write_bytes(re.sub(rb"(PK\x01\x02....|PK\x03\x04..)\x00", b"\\1\x01", file.read_bytes(), flags=re.DOTALL))
    (keep.folder / f".{file.name[:12]}.0a1b2c3d.partial").touch()  # of a process that was killed
    said: list[str] = []
    evaluate(model, [replace(case, labels=labels)], keep=keep, warn=said.append)  # pyright: ignore[reportArgumentType]
    assert bool(said) == (changed == "nothing")
    keep.remove()
    assert not keep.folder.exists()


def urgent_table(folder: Path) -> Path:
    """The package's table of urgency with one line changed."""
    text = (resources.files("funduscope") / "inference" / "urgency.toml").read_text("utf-8")
    path = folder / "urgency.toml"
    path.write_text(text.replace('["routine", "routine", "soon"', '["soon", "routine", "soon"', 1), "utf-8")
    assert path.read_text("utf-8") != text
    return path


def test_of_an_ensemble_every_member_s_photos_are_told_of(eyes, monkeypatch):
    """Also of members in folders of one name; scores.json has the largest counts."""
    module = "funduscope.evaluation.evaluate"
    seen = {Path("a/run"): Overlap(2, 0, 2), Path("b/run"): Overlap(0, 1, 2)}
    monkeypatch.setattr(f"{module}.runs_of", lambda model: [*seen])
    monkeypatch.setattr(f"{module}.seen_before", lambda run, cases: seen[run])
    case, said = case_of(1, Labels(grade=eyes[1].grade)), []
    scores = evaluate(Oracle({case.path: answer_of(eyes[1])}), [case], warn=said.append)  # pyright: ignore
    assert [one.split(" of these")[0] for one in said] == [
        "warning: run learned from 2",
        "warning: run was chosen on 1",
    ]
    assert scores.about["models"][0].items() >= {"learned from": 2, "chosen on": 1}.items()


def test_two_evaluations_in_one_folder_leave_each_other_s_scores(eyes, tmp_path):
    case = case_of(1, Labels(grade=eyes[1].grade))
    answers: dict[Path, Findings | Failure] = {case.path: answer_of(eyes[1])}
    first, second = KeptScores(tmp_path / "keep"), KeptScores(tmp_path / "keep")
    evaluate(Oracle(answers), [case], keep=first)  # pyright: ignore[reportArgumentType]
    other = Oracle(answers, replace(CARD, name="other"))
    evaluate(other, [case], keep=second)  # pyright: ignore[reportArgumentType]
    first.remove()
    assert second.resume(other, [case])[0] == 1  # pyright: ignore[reportArgumentType]


def test_a_photo_that_could_not_be_read_is_asked_again(eyes, tmp_path):
    case, keep = case_of(1, Labels(grade=eyes[1].grade)), KeptScores(tmp_path / "keep")
    failed = Oracle({case.path: Failure(case.path.name, "E_DECODE", "The file cannot be read.")})
    evaluate(failed, [case], keep=keep, warn=lambda _: None)  # pyright: ignore[reportArgumentType]
    again = evaluate(Oracle({case.path: answer_of(eyes[1])}), [case], keep=keep)  # pyright: ignore[reportArgumentType]
    assert again.details["own"]["refused"] == 0
