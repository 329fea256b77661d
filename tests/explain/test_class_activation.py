"""Explanations: maps of log odds that land where they belong, are drawn there, and crossed out where they fail."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from funduscope.explain import map_reliability
from funduscope.explain.class_activation import TASK_OF, explanation, log_odds_weights
from funduscope.imaging.framing import frame
from funduscope.imaging.photo import Photo
from funduscope.inference.card import Card
from funduscope.inference.ensemble import Ensemble
from funduscope.inference.findings import Findings
from funduscope.inference.predictor import Predictor, Views, calibrated_cams, interpret
from funduscope.inference.runtime import Outputs
from funduscope.report.heatmap import MIN_FULL, blend, exact_map_pictures, normalized_evidence
from funduscope.report.write import save
from funduscope.testing.drawn_eyes import STYLES, draw_eye

SHA = "a" * 64
CARD = Card(name="cams", structures=(), landmarks=(), whole_px=64, close_px=64, close=())
N = 16


class Hot:
    """A runtime whose maps are hot at one place; the hotter, the surer it is."""

    sha256 = SHA
    card = CARD

    def __init__(self, row: int = 3, column: int = 11, heat: float = 400.0) -> None:
        self.grade_cam = np.zeros((1, 5, N, N), np.float32)
        self.grade_cam[0, 2, row, column] = heat
        self.dme_cam = np.zeros((1, 3, N, N), np.float32)
        self.dme_cam[0, 1, row, column] = heat

    def __call__(self, images: np.ndarray, view: str = "whole") -> Outputs:
        grade, dme = self.grade_cam.mean((2, 3)), self.dme_cam.mean((2, 3))
        return Outputs(classes={"grade": grade, "dme": dme}, cams={"grade": self.grade_cam, "dme": self.dme_cam})


def _cell_home(findings: Findings, row: int, column: int) -> tuple[float, float]:
    """The middle of a map's place in the photo."""
    cell = findings.transform.side_px / N
    x, y = findings.transform.to_photo(np.array([[(column + 0.5) * cell, (row + 0.5) * cell]]))[0]
    return float(x), float(y)


def _middle_of(plane: np.ndarray) -> tuple[float, float]:
    yy, xx = np.mgrid[: plane.shape[0], : plane.shape[1]] + 0.5
    return float((xx * plane).sum() / plane.sum()), float((yy * plane).sum() / plane.sum())


@pytest.mark.parametrize("style", ["cut_top_bottom", "wide_border", "cut_sides"])
@pytest.mark.parametrize("place", [(3, 11), (8, 4)])
def test_a_map_lands_at_its_place_in_the_photo(style: str, place: tuple[int, int]) -> None:
    eye = draw_eye(2, width_px=640, style=STYLES[style])
    found = Predictor(Hot(*place))(eye.pixels)
    x, y = _cell_home(found, *place)
    for target in TASK_OF:
        asked = explanation(found, target)
        assert asked is not None
        plane = asked.transform.map_to_photo(asked.evidence)
        assert plane.shape == eye.pixels.shape[:2]
        top = np.maximum(plane - 0.5 * plane.max(), 0)
        assert _middle_of(top) == pytest.approx((x, y), abs=1.5), target
    asked = explanation(found, "referable")
    assert asked is not None
    small = normalized_evidence(asked, (320, round(320 * eye.pixels.shape[0] / 640)))
    assert _middle_of(np.maximum(small - 0.5, 0)) == pytest.approx((x / 2, y / 2), abs=1.5)
    picture = blend(found, asked, 640)
    colored = picture.max(axis=2).astype(int) - picture.min(axis=2)
    assert np.hypot(*np.subtract(np.unravel_index(colored.argmax(), colored.shape)[::-1], (x, y))) < 40
    yy, xx = np.mgrid[: colored.shape[0], : colored.shape[1]]
    assert (colored[np.hypot(xx - x, yy - y) > 150] < 8).all(), "far from there the photo is gray"


def test_the_mean_of_the_evidence_is_the_log_odds_but_for_a_constant() -> None:
    """The way to the answer is exact: what is added to every place of a class is added to its log odds."""
    rng = np.random.default_rng(0)
    cam = rng.normal(size=(1, 5, N, N)).astype(np.float32)
    logits = cam.mean((2, 3))
    card = replace(CARD, temperatures={"grade": 1.3, "dme": 1.0})
    photo = Photo.open(draw_eye(1, width_px=480).pixels)
    outputs = Outputs(classes={"grade": logits}, cams={"grade": cam})
    found = interpret(photo, frame(photo, 64), Views(outputs, outputs), card, SHA)
    np.testing.assert_allclose(found.cams["grade"].mean((1, 2)), logits[0] / 1.3, rtol=1e-5)

    def odds(one: Findings) -> float:
        chance = one.referable_probability
        assert chance is not None
        return float(np.log(chance / (1 - chance)))

    nudged = cam.copy()
    nudged[0, 3, 5, 6] += 0.02  # a little more of grade 3 at one place
    other = Outputs(classes={"grade": nudged.mean((2, 3))}, cams={"grade": nudged})
    after = interpret(photo, frame(photo, 64), Views(other, other), card, SHA)
    asked = explanation(found, "referable")
    assert asked is not None
    told = explanation(replace(found, cams=after.cams), "referable")
    assert told is not None
    grown = told.evidence - asked.evidence
    assert np.count_nonzero(np.abs(grown) > 1e-6) == 1
    assert grown.mean() == pytest.approx(odds(after) - odds(found), rel=0.02)
    assert explanation(found, "edema") is None, "a model without an answer has no explanation of it"


def test_the_sentence_on_lesions_names_no_kind_that_the_answer_does_not_weigh() -> None:
    """Microaneurysms and haemorrhages count in the grade; no exudates need be there."""
    found = Predictor(Hot())(draw_eye(1, width_px=480).pixels)
    asked = explanation(found, "referable")
    assert asked is not None
    said = map_reliability.map_messages(replace(asked, also_by_lesions=True), SHA)
    (in_part,) = (message.text for message in said if message.code == "EXPLAINS_IN_PART")
    assert "lesions" in in_part
    assert "exudates" not in in_part


@pytest.mark.parametrize("probs", [[0.1, 0.2, 0.3, 0.3, 0.1], [1.0, 0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.5, 0.5]])
def test_weights_of_log_odds_do_not_care_about_a_common_rise(probs: list[float]) -> None:
    weights = log_odds_weights(np.array(probs), (2, 3, 4))
    assert weights.sum() == pytest.approx(0)
    assert weights[2:].sum() == pytest.approx(1)
    assert np.isfinite(weights).all()


def test_an_unknown_target_is_named() -> None:
    found = Predictor(Hot())(draw_eye(1, width_px=480).pixels)
    with pytest.raises(ValueError, match="there are: referable"):
        explanation(found, "lesions")  # pyright: ignore[reportArgumentType]


def test_an_ensemble_explains_by_the_mean_and_only_if_all_can() -> None:
    eye = draw_eye(1, width_px=480).pixels
    first, second = Predictor(Hot(3, 11)), Predictor(Hot(8, 4, 200.0))
    alone = [one(eye).cams for one in (first, second)]
    both = Ensemble([first, second])(eye)
    np.testing.assert_allclose(both.cams["grade"], (alone[0]["grade"] + alone[1]["grade"]) / 2)

    class Without(Hot):
        def __call__(self, images: np.ndarray, view: str = "whole") -> Outputs:
            return replace(super().__call__(images), cams={"dme": self.dme_cam})

    some = Ensemble([first, Predictor(Without())])(eye)
    assert set(some.cams) == {"dme"}
    assert explanation(some, "referable") is None
    assert calibrated_cams(Outputs(classes={"grade": np.zeros((1, 5), np.float32)}), CARD) == {}


def _known(monkeypatch: pytest.MonkeyPatch, passes: bool) -> None:
    entry = {
        "photos": 8, "hits": 6, "share": [0.4, 0.3, 0.5], "area": 0.2, "center": [5, 0.3], "lesion_map": [8, 0.7],
        "alike": [0.2 if passes else 0.9, 0.1, 0.3 if passes else 0.95], "passes": passes,
    }  # fmt: skip
    table: dict[str, Any] = {"models": {SHA: {"maps": {"referable": entry}}}}
    monkeypatch.setattr(map_reliability, "_table", lambda: table)


def test_a_map_that_does_not_depend_on_the_weights_is_crossed_out(monkeypatch: pytest.MonkeyPatch) -> None:
    found = Predictor(Hot())(draw_eye(1, width_px=480).pixels)
    asked = explanation(found, "referable")
    assert asked is not None
    _known(monkeypatch, True)
    heat = blend(found, asked, 480)
    codes = [message.code for message in map_reliability.map_messages(asked, SHA)]
    assert codes == ["EXPLAINS_REFERABLE", "MAP_MEASURED", "MAP_SHARE", "MAP_DEPENDS"]
    _known(monkeypatch, False)
    crossed = blend(found, asked, 480)
    assert [note.code for note in map_reliability.map_messages(asked, SHA)] == ["MAP_FAILED"]
    assert not np.array_equal(heat, crossed)
    colored = crossed.max(axis=2).astype(int) - crossed.min(axis=2) > 60
    height, width = colored.shape
    yy, xx = np.nonzero(colored)
    off = np.minimum(np.abs(yy / height - xx / width), np.abs(1 - yy / height - xx / width))
    assert len(yy)
    assert off.max() < 0.02, "two lines from corner to corner, and nothing of the map"


def test_of_a_model_that_was_not_measured_that_is_said() -> None:
    found = Predictor(Hot())(draw_eye(1, width_px=480).pixels)
    asked = explanation(found, "edema")
    assert asked is not None
    assert map_reliability.map_messages(asked, SHA)[-1].code == "MAP_NOT_MEASURED"
    assert map_reliability.filling_message(SHA).code == "FILLING_NOT_MEASURED"
    assert map_reliability.may_be_shown(SHA, "edema")


def test_an_eye_with_nothing_in_it_stays_dark() -> None:
    found = Predictor(Hot(heat=MIN_FULL / 50))(draw_eye(1, width_px=480).pixels)
    asked = explanation(found, "referable")
    assert asked is not None
    assert normalized_evidence(asked, (480, 320)).max() < 0.05


def test_the_pictures_are_written_only_if_asked_for(tmp_path) -> None:
    found = Predictor(Hot())(draw_eye(1, width_px=480).pixels)
    names = ("explanation_edema.png", "explanation_referable.png")
    place = save(found, tmp_path / "eye", explain=True)
    assert tuple(sorted(path.name for path in place.glob("explanation_*"))) == names
    save(found, tmp_path / "eye")  # in the place of the earlier result, which is known as one
    assert not list((tmp_path / "eye").glob("explanation_*"))
    black = Predictor(Hot())(np.zeros((400, 500, 3), np.uint8))
    assert exact_map_pictures(black) == {}
    save(black, tmp_path / "black", explain=True)


@pytest.mark.parametrize("name", ["funduscope.onnx", "funduscope-fast.onnx"])
def test_what_the_package_says_of_its_own_maps_is_of_the_shipped_model(name: str) -> None:
    """Of a model that was not measured it says so."""
    import hashlib
    from importlib import resources

    folder = resources.files("funduscope") / "models"
    table = json.loads((folder / map_reliability.FILE).read_text("utf-8"))
    shipped = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    measured = table["models"].get(shipped, {})
    assert set(measured.get("commands", ())) == {*measured} & {"maps", "filling"}
    for target, known in measured.get("maps", {}).items():
        assert known["photos"] >= 8
        high = known["alike"][2]
        assert known["passes"] == (high is not None and high < 0.5)
        assert map_reliability.may_be_shown(shipped, target) == known["passes"]
    said = map_reliability.filling_message(shipped).code
    assert said == ("FILLING_MEASURED" if "filling" in measured else "FILLING_NOT_MEASURED")
