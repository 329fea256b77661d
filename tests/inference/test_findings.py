"""From logits to findings: masks at the photo's own size, counts of that very mask, points to a fraction of a pixel."""

from __future__ import annotations

import copy
import pickle
import warnings
from dataclasses import replace
from pathlib import Path

import cv2
import jsonschema
import numpy as np
import pytest

from funduscope.i18n.messages import Message
from funduscope.imaging.dicom_file import DicomStatements
from funduscope.imaging.framing import CropTransform, Frame, frame
from funduscope.imaging.photo import Photo
from funduscope.inference.card import Card
from funduscope.inference.findings import Findings
from funduscope.inference.ood import OodScore
from funduscope.inference.predictor import Views, interpret
from funduscope.inference.runtime import Outputs, softmax
from funduscope.inference.stated import undisputed_eye
from funduscope.metrics import DenseState
from funduscope.report.fhir import to_fhir
from funduscope.report.write import findings_schema
from funduscope.vocabulary import CODES, LESIONS

CARD = Card(whole_px=128, close_px=256)
SHA = "0" * 64


def photo(width: int = 700, height: int = 500) -> Photo:
    pixels = np.zeros((height, width, 3), np.uint8)
    cv2.circle(pixels, (width // 2, height // 2), round(height * 0.45), (160, 80, 40), -1)
    return Photo.open(pixels)


def planes(side: int, **logits: np.ndarray) -> np.ndarray:
    """(1, 5, side, side) logits, -8 where nothing is said."""
    return np.stack([logits.get(code, np.full((side, side), -8.0, np.float32)) for code in CODES])[None]


def blob(side: int, *circles: tuple[float, float, float]) -> np.ndarray:
    """Logits of +8 in circles (x, y, radius in cells), -8 outside."""
    yy, xx = np.mgrid[:side, :side] + 0.5
    inside = np.zeros((side, side), bool)
    for x, y, radius in circles:
        inside |= (xx - x) ** 2 + (yy - y) ** 2 <= radius**2
    return np.where(inside, 8.0, -8.0).astype(np.float32)


def heat(side: int, x: float, y: float, sigma: float = 2.0) -> np.ndarray:
    """A landmark's logits: their softmax is a Gaussian around (x, y) in cells."""
    yy, xx = np.mgrid[:side, :side] + 0.5
    return (-((xx - x) ** 2 + (yy - y) ** 2) / (2 * sigma**2)).astype(np.float32)


def found_in(taken: Photo, whole: Outputs, close: Outputs | None = None, card: Card = CARD) -> Findings:
    return interpret(taken, frame(taken, card.close_px), Views(whole, close or whole), card, SHA)


def outputs(side: int = 128, **logits: np.ndarray) -> Outputs:
    classes = {"grade": np.array([[0.0, 1, 3, 1, 0]], np.float32), "dme": np.array([[2.0, 0, 0]], np.float32)}
    return Outputs(classes, planes(side, **logits))


def test_a_photo_without_color_is_answered_with_a_warning_above_the_answer():
    colored = photo()
    gray = np.repeat(cv2.cvtColor(colored.pixels, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2)
    found = [found_in(one, outputs()).to_dict() for one in (colored, Photo.open(gray))]
    assert ["NO_COLOR" in [one["code"] for one in each["warnings"]] for each in found] == [False, True]
    assert found[0]["headline"]["trust"] is None
    assert found[1]["headline"]["trust"]["code"] == "TRUST_UNLIKE_TRAINING"
    assert found[1]["predicted_grade"] is not None


def test_a_photo_too_small_for_microaneurysms_says_so():
    small, large = photo(height=380), photo(height=500)
    warned = [[one.code for one in found_in(one, outputs()).warnings] for one in (small, large)]
    assert ["LOW_RESOLUTION" in codes for codes in warned] == [True, False]


def test_text_in_the_photo_is_no_lesion_and_is_noted():
    plain = photo()
    dated = plain.pixels.copy()
    cv2.putText(dated, "12.03.2019", (290, 130), cv2.FONT_HERSHEY_SIMPLEX, 0.7, (0, 255, 0), 2)
    exudates = outputs(EX=blob(128, (64, 28, 2), (64, 90, 5)))  # the first lies on the date
    found = [found_in(one, exudates) for one in (plain, Photo.open(dated))]
    assert [one.count("EX") for one in found] == [2, 1]
    assert ["BURNED_IN_MARKS" in [warning.code for warning in one.warnings] for one in found] == [False, True]


@pytest.mark.parametrize("size", [(700, 500), (500, 700), (641, 479), (300, 256)])
def test_masks_and_probabilities_have_the_photos_size(size):
    taken = photo(*size)
    found = found_in(taken, outputs(EX=blob(128, (64, 64, 12)), OD=blob(128, (90, 64, 10))))
    for code in CODES:
        assert found.mask(code).shape == found.probability(code).shape == (size[1], size[0])
        assert found.mask(code).dtype == bool
        assert found.probability(code).dtype == np.float32
        assert 0 <= found.probability(code).min() <= found.probability(code).max() <= 1
    assert found.mask("EX").any()
    assert np.array_equal(found.mask("EX"), found.probability("EX") >= 0.5)


def test_what_was_found_cannot_be_written_into():
    """Two kinds of lesion joined in place, as people do: the mask that is returned and written stays what was found."""
    found = found_in(photo(), outputs(MA=blob(128, (40, 64, 4)), HE=blob(128, (80, 64, 6))))
    joined, before = found.mask("MA"), found.to_dict()
    for written in (joined, found.frame_probs["MA"], found.grade_probs):
        with pytest.raises(ValueError, match="read-only"):
            written |= found.mask("HE")
    assert found.mask("MA").sum() == before["lesions"]["MA"]["area_px"]
    assert (joined | found.mask("HE")).sum() > joined.sum()
    corrected = found.with_masks({"MA": np.ones_like(joined)})
    with pytest.raises(ValueError, match="read-only"):
        corrected.mask("MA")[:] = False


def test_masks_that_are_given_stay_and_are_the_findings_own() -> None:
    found = found_in(photo(), outputs(MA=blob(128, (40, 64, 4)), EX=blob(128, (80, 64, 6))))
    own = np.zeros_like(found.mask("EX"))
    both = found.with_masks({"EX": own}).with_masks({"MA": own})
    own[:] = True
    assert (both.count("EX"), both.count("MA")) == (0, 0)
    assert not both.mask("EX").any()
    assert found.count("EX") == 1
    for code, mask in (("EX", own[:10]), ("NV", own)):
        with pytest.raises(ValueError, match=f"a mask of {code}, .* expected"):
            found.with_masks({code: mask})


def test_findings_of_another_process_cannot_be_written_into_either() -> None:
    found = replace(found_in(photo(), outputs()), witness_probs={"photo": {"grade": np.full(5, 0.2)}})
    found.mask("MA")  # made and kept before it travels
    for again in (pickle.loads(pickle.dumps(found)), copy.deepcopy(found)):
        probs = (again.grade_probs, again.frame_probs["MA"], again.witness_probs["photo"]["grade"])
        for array in (*probs, again.mask("MA"), again.photo.pixels):
            assert not array.flags.writeable
        assert again.to_dict() == found.to_dict()


def test_masks_follow_the_card_that_replaces_one() -> None:
    found = found_in(photo(), outputs(EX=blob(128, (64, 64, 12)), OD=blob(128, (90, 64, 10))))
    assert found.mask("EX").any()
    strict = replace(found, card=replace(found.card, thresholds=dict.fromkeys(CODES, 0.9999)))
    assert not strict.mask("EX").any()
    assert strict.to_dict()["lesions"]["EX"]["area_px"] == 0
    assert found.mask("EX").any()


def test_lesions_are_taken_from_the_close_view_and_the_disc_from_the_whole():
    whole, close = outputs(OD=blob(128, (90, 64, 10)), EX=blob(128, (30, 64, 9))), outputs(MA=blob(128, (60, 60, 6)))
    found = found_in(photo(), whole, close)
    assert found.mask("OD").any()
    assert found.mask("MA").any()
    assert not found.mask("EX").any()


def test_a_mask_is_what_the_threshold_says():
    ramp = np.tile(np.linspace(-4, 4, 128, dtype=np.float32), (128, 1))
    areas = []
    for threshold in (0.2, 0.5, 0.8):
        card = replace(CARD, thresholds=dict.fromkeys(CODES, threshold))
        found = found_in(photo(), outputs(EX=ramp), card=card)
        assert np.array_equal(found.mask("EX"), found.probability("EX") >= threshold)
        areas.append(int(found.mask("EX").sum()))
    assert areas[0] > areas[1] > areas[2] > 0


def test_scaled_logits_are_the_probabilities_and_a_card_keeps_the_scales() -> None:
    ramp = np.tile(np.linspace(-4, 4, 128, dtype=np.float32), (128, 1))
    card = replace(CARD, scales={"EX": (0.5, -1.0)})
    plain, scaled = (found_in(photo(), outputs(EX=ramp), card=one).frame_probs["EX"] for one in (CARD, card))
    logits = np.log(plain / (1 - plain))
    assert scaled == pytest.approx(1 / (1 + np.exp(1.0 - 0.5 * logits)), abs=1e-4)
    assert Card.from_json(card.to_json()) == card
    assert "scales" not in CARD.to_dict()


def test_a_lesion_gated_by_a_grade_that_is_certain_has_no_probability_above_1() -> None:
    """In float32 the probabilities of grades 1 to 4 may sum to more than 1; metrics refuse such a map."""
    drawn = np.random.default_rng(0).normal(size=(4000, 1, 5)).astype(np.float32) * 8
    logits = next(row for row in drawn if softmax(row)[0, 1:].sum() > 1)
    one = replace(outputs(MA=3 * blob(128, (64, 64, 12))), classes={"grade": logits})
    found = found_in(photo(), one, card=replace(CARD, dme=False, lowest_grades={"MA": 1}))
    assert found.probability("MA").max() == 1
    DenseState.of(found.probability("MA"), found.mask("MA"))


def test_what_is_smaller_than_true_lesions_are_is_out_at_any_size_of_photo():
    spots = np.full((2048, 2048), -4, np.float32)
    spots[600:604, 600:604] = spots[900:920, 900:920] = 4  # 4 and 95 millionths of the field's square
    card = replace(CARD, whole_px=2048, close_px=2048)
    for width in (1400, 2800):
        found = found_in(photo(width, width * 5 // 7), outputs(2048, HE=spots), card=card)
        both = (found.probability("HE") >= card.thresholds["HE"]).astype(np.uint8)
        assert cv2.connectedComponents(both)[0] == 3, "the ground and two spots"
        assert found.count("HE") == 1


def test_nothing_is_outlined_in_the_black_around_the_eye():
    """In a corner of the frame. Where the retina fills the photo, the same place may have a lesion."""
    spots = blob(128, (64, 40, 5), (16, 16, 4))
    assert found_in(photo(), outputs(HE=spots)).count("HE") == 1
    filled = Photo.open(np.full((500, 500, 3), (160, 80, 40), np.uint8))
    assert found_in(filled, outputs(HE=spots)).count("HE") == 2


def test_of_a_photo_in_a_larger_picture_nothing_is_outlined_or_found_beyond_it():
    """The network saw black there, whatever the picture shows: a white page, or a window."""
    page = np.full((900, 900, 3), 250, np.uint8)
    cv2.circle(page, (450, 450), 300, (160, 80, 40), -1)
    taken = Photo.open(page)
    transform = replace(frame(taken, CARD.close_px).transform, part=(250, 150, 750, 750))
    spots = blob(128, (64, 40, 5), (12, 12, 4))
    point = np.full((128, 128), -20, np.float32)
    point[64, 8] = 20  # left of the photo, inside the picture
    landmarks = np.stack([point, point])[None]
    views = Views(Outputs(structures=planes(64), landmarks=landmarks), Outputs(structures=planes(128, HE=spots)))
    framed = Frame(np.zeros((CARD.close_px, CARD.close_px, 3), np.uint8), transform, None)
    found = interpret(taken, framed, views, replace(CARD, landmark_floor=0.0), SHA)
    assert found.count("HE") == 1
    assert (found.disc_xy, found.fovea_xy) == (None, None)
    field = found.field_mask()
    assert field[450, 250:750].all()
    assert not field[:, :250].any()
    assert not field[:, 750:].any()


def test_a_dot_that_two_kinds_outline_is_the_more_probable_one() -> None:
    sure = blob(128, (64, 90, 4))
    unsure = np.where(sure > 0, np.float32(1), sure)
    alone = blob(128, (40, 64, 4))
    found = found_in(photo(), outputs(MA=sure, HE=np.maximum(unsure, alone)))
    assert (found.count("MA"), found.count("HE")) == (1, 1)
    assert not (found.mask("MA") & found.mask("HE")).any()
    assert found_in(photo(), outputs(MA=unsure, HE=sure)).count("MA") == 0


def test_a_small_outline_within_a_large_hemorrhage_is_not_counted_but_one_next_to_it_is() -> None:
    found = found_in(photo(), outputs(HE=blob(128, (64, 90, 9)), MA=blob(128, (66, 92, 2), (40, 64, 2))))
    assert (found.count("MA"), found.count("HE")) == (1, 1)


def test_exudates_inside_the_disc_are_none() -> None:
    disc, exudates = blob(128, (90, 64, 10)), blob(128, (91, 66, 3), (50, 64, 3))
    assert found_in(photo(), outputs(EX=exudates, SE=exudates, OD=disc)).count("EX") == 1
    hemorrhage = found_in(photo(), outputs(HE=exudates, OD=disc))
    assert hemorrhage.count("HE") == 2


def test_a_hand_drawn_mask_decides_about_the_other_kind() -> None:
    spot = blob(128, (64, 90, 4))
    found = found_in(photo(), outputs(MA=spot, HE=spot))
    drawn = found.with_masks({"MA": np.zeros(found.photo.pixels.shape[:2], bool)})
    assert (drawn.count("MA"), drawn.count("HE")) == (0, 1)


def test_small_components_are_out_of_everything():
    spots = blob(128, (40, 64, 6), (80, 64, 1.2), (64, 90, 1.2))
    plain = found_in(photo(), outputs(HE=spots))
    assert plain.count("HE") == 3
    # In pixels of the close frame a cell here is 4: the small spots have about 5 cells, the large one 113.
    strict = found_in(photo(), outputs(HE=spots), card=replace(CARD, smallest_px2=dict.fromkeys(CODES, 80.0)))
    lesion = strict.to_dict()["lesions"]["HE"]
    assert strict.count("HE") == lesion["count"] == 1
    assert lesion["area_px"] == strict.mask("HE").sum() < plain.mask("HE").sum()
    assert lesion["present"] is True
    none = found_in(photo(), outputs(HE=spots), card=replace(CARD, smallest_px2=dict.fromkeys(CODES, 1e6)))
    assert none.to_dict()["lesions"]["HE"] | {"threshold": None} == {
        "present": False,
        "threshold": None,
        "count": 0,
        "area_px": 0,
        "area_dd2": None,
        "nearest_fovea_dd": None,
        "by_quadrant": None,
        "objects": [],
    }


def test_the_disc_is_the_largest_component():
    disc = outputs(OD=blob(128, (90, 64, 10), (30, 40, 5), (30, 90, 4)))
    found = found_in(photo(), disc)
    assert found.count("OD") == 1
    scale = frame(photo(), 256).transform.size_px / 128
    assert found.disc_diameter_px == pytest.approx(20 * scale, rel=0.06)
    y, x = np.nonzero(found.mask("OD"))
    left, top = frame(photo(), 256).transform.left_px, frame(photo(), 256).transform.top_px
    assert x.mean() + 0.5 == pytest.approx(left + 90 * scale, abs=1)
    assert y.mean() + 0.5 == pytest.approx(top + 64 * scale, abs=1)
    tiny = found_in(photo(), disc, card=replace(CARD, smallest_px2=dict.fromkeys(CODES, 1e6)))
    assert tiny.disc_diameter_px is None


def test_areas_in_disc_diameters():
    found = found_in(photo(), outputs(OD=blob(128, (90, 64, 10)), EX=blob(128, (50, 64, 10))))
    # A circle as large as the disc.
    assert found.to_dict()["lesions"]["EX"]["area_dd2"] == pytest.approx(np.pi / 4, rel=0.02)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_a_temperature_changes_how_sure_not_what(temperature):
    card = replace(CARD, temperatures={"grade": temperature, "dme": temperature})
    found = found_in(photo(), outputs(), card=card)
    logits = np.array([0.0, 1, 3, 1, 0]) / temperature
    assert found.grade == 2
    assert found.dme == 0
    assert found.probabilities == pytest.approx(np.exp(logits) / np.exp(logits).sum(), abs=1e-6)
    told = found.to_dict()
    assert sum(told["probabilities"]) == pytest.approx(1, abs=5e-4)
    assert told["confidence"] == max(told["probabilities"])
    assert told["referable"]["probability"] == pytest.approx(sum(found.probabilities[2:]), abs=1e-4)


@pytest.mark.parametrize(("threshold", "value"), [(0.05, True), (0.999, False)])
def test_referable_is_decided_at_the_cards_threshold(threshold, value):
    found = found_in(photo(), outputs(), card=replace(CARD, referable_threshold=threshold))
    assert found.to_dict()["referable"]["value"] is value


def home_of(left: int, top: int, size: int) -> tuple[Photo, Frame]:
    taken = photo()
    transform = CropTransform(left, top, size, 256, taken.width, taken.height)
    return taken, Frame(transform.image_to_frame(taken.pixels), transform, None)


@pytest.mark.parametrize("place", [(100, 0, 500), (131, -40, 517), (40, 17, 600), (0, 0, 256)])
@pytest.mark.parametrize("at", [(60.0, 70.0), (33.3, 80.7), (90.5, 40.49)])
def test_points_come_home_to_a_fraction_of_a_pixel(place, at):
    taken, framed = home_of(*place)
    point = framed.transform.to_photo(np.array([at]) * 256 / 128)[0]
    both = np.stack([heat(128, *at), heat(128, 64, 64)])[None]
    if not (0 <= point[0] <= taken.width and 0 <= point[1] <= taken.height):
        pytest.skip("outside the photo")
    found = interpret(taken, framed, Views(Outputs(landmarks=both), Outputs()), replace(CARD, structures=()), SHA)
    assert found.disc_xy == pytest.approx(tuple(point), abs=0.25)
    assert found.to_dict()["landmarks"]["optic_disc"]["x_px"] == pytest.approx(point[0], abs=0.3)


def test_a_landmark_that_is_nowhere_or_beyond_the_photo_was_not_found():
    taken, framed = home_of(100, -200, 900)
    flat, above = np.zeros((128, 128), np.float32), heat(128, 64, 6)
    lean = replace(CARD, structures=())
    found = interpret(taken, framed, Views(Outputs(landmarks=np.stack([flat, above])[None]), Outputs()), lean, SHA)
    assert found.disc_xy is None
    assert found.fovea_xy is None
    assert found.to_dict()["landmarks"] == {"optic_disc": None, "fovea": None}


def test_what_is_said_follows_the_schema():
    found = found_in(photo(), outputs(OD=blob(128, (90, 64, 10)), EX=blob(128, (50, 64, 10))))
    told = found.to_dict()
    jsonschema.Draft202012Validator(findings_schema()).validate(told)
    assert set(told["lesions"]) == set(LESIONS)
    codes = [note["code"] for note in told["warnings"]]
    assert codes == ["OPTIC_DISC_NOT_FOUND", "FOVEA_NOT_FOUND", "RESEARCH_WEIGHTS"]


def test_a_model_without_a_task_says_nothing_of_it():
    lean = replace(CARD, structures=(), landmarks=(), grade=False, dme=False, research_only=False)
    told = found_in(photo(), Outputs(), card=lean).to_dict()
    jsonschema.Draft202012Validator(findings_schema()).validate(told)
    for key in ("predicted_grade", "probabilities", "dme", "referable", "lesions"):
        assert told[key] is None
    assert told["gradable"]["ok"]
    assert told["warnings"] == []


def test_a_structure_that_was_not_sought_is_named():
    lean = replace(CARD, structures=("EX", "OD"))
    found = found_in(photo(), Outputs(structures=planes(128)[:, :2]), card=lean)
    assert found.codes == ("EX", "OD")
    assert set(found.to_dict()["lesions"]) == {"EX"}
    with pytest.raises(KeyError, match="EX, OD"):
        found.mask("MA")


def test_extreme_logits_are_no_trouble():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = found_in(photo(), outputs(EX=blob(128, (64, 64, 12)) * 1e4))
        assert found.probability("EX").max() == 1
        assert found.probability("MA").min() == 0


def test_grades_that_cannot_be_excluded_stand_beside_the_grade():
    taken = photo()
    assert found_in(taken, outputs()).to_dict()["grade_set"] is None  # a card of before there were any
    found = found_in(taken, outputs(), card=replace(CARD, grade_quantile=0.9))
    assert found.grade_set == (2, 3)
    told = found.to_dict()
    assert told["grade_set"] == [2, 3]
    keys = list(told)
    assert keys.index("grade_set") == keys.index("probabilities") + 1
    jsonschema.Draft202012Validator(findings_schema()).validate(told)
    refused = Findings(taken, frame(taken, 256).transform, CARD, SHA, reasons=(Message("TOO_DARK", "Dark."),))
    assert refused.to_dict()["grade_set"] is None


def test_outputs_by_name_are_the_same_outputs() -> None:
    named = {"grade": np.ones((1, 5)), "glaucoma": np.ones((1, 2)), "structures": np.ones((1, 5, 4, 4))}
    named |= {"glaucoma_cam": np.ones((1, 2, 3, 3)), "features": np.ones((1, 8))}
    made = Outputs.of(named)
    assert made.classes.keys() == {"grade", "glaucoma"}
    assert made.cams.keys() == {"glaucoma"}
    assert made.named().keys() == named.keys()
    assert made.mean_with(made).named().keys() == named.keys()


def test_a_card_names_further_tasks_only_where_it_has_any() -> None:
    card = Card(dme=False)
    assert "tasks" not in card.to_dict()
    assert Card.from_json(card.to_json()) == card
    assert card.photo_tasks == ("grade",)
    assert "tasks" not in found_in(photo(), outputs(), card=CARD).to_dict()
    more = replace(CARD, tasks=("glaucoma",))
    assert Card.from_json(more.to_json()) == more


def test_an_estimated_place_names_no_eye_and_no_quadrant_and_the_file_does() -> None:
    seen = replace(found_in(photo(), outputs()), disc_xy=(500.0, 250.0), fovea_xy=(300.0, 260.0))
    estimated = replace(seen, estimated=("fovea",))
    assert seen.anatomy.quadrants(np.array([[400.0, 300.0]])) is not None
    assert estimated.anatomy.quadrants(np.array([[400.0, 300.0]])) is None
    assert estimated.to_dict()["laterality"] is None
    assert seen.anatomy.laterality is not None
    other = {"right": "left", "left": "right"}[seen.anatomy.laterality]
    one = replace(estimated, photo=replace(estimated.photo, stated=DicomStatements(laterality=other)))
    assert undisputed_eye(one.to_dict(), one.photo.stated) == other
    assert not any(message.code.startswith("FILE_SAYS") for message in one.warnings)


def test_a_file_that_names_the_other_eye_is_contradicted() -> None:
    found = replace(found_in(photo(), outputs()), disc_xy=(500.0, 250.0), fovea_xy=(300.0, 260.0))
    assert found.anatomy.laterality is not None
    other = {"right": "left", "left": "right"}[found.anatomy.laterality]
    for stated, warned in ((other, True), (found.anatomy.laterality, False), (None, False)):
        one = replace(found, photo=replace(found.photo, stated=DicomStatements(laterality=stated)))
        assert any(message.code == f"FILE_SAYS_{other.upper()}_EYE" for message in one.warnings) is warned
        sites = [entry["resource"]["bodySite"] for entry in to_fhir(one)["entry"][1:-1]]
        named = {site["text"] == f"Entire {found.anatomy.laterality} eye" for site in sites}
        assert named == {not warned}, "not coded where it is disputed"


def test_another_table_of_urgency_gives_other_ids(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An archive keeps the first object of an id: it would never show the other advice."""
    found = found_in(photo(), outputs())

    def ids() -> set[str]:
        device = to_fhir(found)["entry"][-1]["fullUrl"]
        return {entry["fullUrl"] for entry in to_fhir(found)["entry"]} - {device}

    before = ids()
    assert ids() == before
    table = tmp_path / "urgency.toml"
    table.write_text('grade = ["soon", "soon", "soon", "urgent", "urgent"]\ndme = ["routine", "soon", "urgent"]\n')
    monkeypatch.setenv("FUNDUSCOPE_URGENCY", str(table))
    assert not ids() & before


def test_the_headline_says_that_a_photo_is_far_from_training_where_the_warning_does() -> None:
    """However the percentile is rounded."""
    for percentile, warned in ((98.99, False), (99.03, True), (99.5, True)):
        found = replace(found_in(photo(), outputs()), training_distance=OodScore(2.0, percentile)).to_dict()
        assert any(warning["code"] == "FAR_FROM_TRAINING" for warning in found["warnings"]) is warned
        assert (found["headline"]["trust"] is not None) is warned


def test_the_warning_says_how_unusual_a_photo_is() -> None:
    for percentile, said in ((99.03, 99), (99.97, 99), (100.0, 100)):
        found = replace(found_in(photo(), outputs()), training_distance=OodScore(2.0, percentile))
        (warning,) = (one for one in found.warnings if one.code == "FAR_FROM_TRAINING")
        assert f"than {said} %" in warning.text


def test_a_pixel_spacing_gives_millimeters_unless_the_disc_contradicts_it() -> None:
    found = found_in(photo(), outputs(OD=blob(128, (90, 64, 10)), EX=blob(128, (50, 64, 10))))
    (disc,) = found.objects("OD")
    fovea_xy = disc.x_px - 2.5 * found.disc_diameter_px, disc.y_px
    found = replace(found, disc_xy=(disc.x_px, disc.y_px), fovea_xy=fovea_xy)
    assert "mm" not in str(found.to_dict())
    for disc_mm, is_used in ((1.8, True), (0.4, False), (4.0, False)):
        pixel_mm = disc_mm / found.disc_diameter_px
        one = replace(found, photo=replace(found.photo, stated=DicomStatements(pixel_mm=pixel_mm)))
        said = one.to_dict()
        jsonschema.validate(said, findings_schema())
        assert ("SPACING_CONTRADICTS_DISC" in [note["code"] for note in said["warnings"]]) is not is_used
        lesion, disc = said["lesions"]["EX"], said["landmarks"]["optic_disc"]
        assert ("area_mm2" in lesion, "diameter_mm" in disc) == (is_used, is_used)
        if is_used:
            assert disc["diameter_mm"] == pytest.approx(disc_mm, abs=1e-3)
            assert lesion["area_mm2"] == pytest.approx(lesion["area_px"] * pixel_mm**2, abs=1e-4)
            assert lesion["nearest_fovea_mm"] == pytest.approx(lesion["nearest_fovea_dd"] * disc_mm, abs=2e-3)


def test_without_a_disc_the_field_of_view_tells_whether_a_spacing_is_the_retinas() -> None:
    found = found_in(photo(), outputs(EX=blob(128, (50, 64, 10))))
    for width_mm, is_used in ((13.0, True), (1.0, False), (264.0, False), (1e153, False)):
        stated = DicomStatements(pixel_mm=width_mm / found.transform.size_px)
        said = replace(found, photo=replace(found.photo, stated=stated)).to_dict()
        assert ("SPACING_CONTRADICTS_FIELD" in [note["code"] for note in said["warnings"]]) is not is_used
        assert ("area_mm2" in said["lesions"]["EX"]) is is_used


@pytest.mark.parametrize(("degrees", "is_unusual"), [(45.0, False), (None, False), (20.0, True), (200.0, True)])
def test_a_field_far_from_what_models_learned_from_is_named(degrees: float | None, is_unusual: bool) -> None:
    found = found_in(photo(), outputs())
    one = replace(found, photo=replace(found.photo, stated=DicomStatements(field_degrees=degrees)))
    assert ("UNUSUAL_FIELD" in [warning.code for warning in one.warnings]) is is_unusual


@pytest.mark.parametrize(("disc", "fovea", "is_unusual"), [(9, 76, False), (4, 88, True), (20, 76, True)])
def test_in_an_unusual_field_of_view_neither_edema_risk_nor_distances_are_given(
    disc: float, fovea: float, is_unusual: bool
) -> None:
    """Disc and fovea of a usual, a wide and a narrow field."""
    places = np.stack([heat(128, 115, 64), heat(128, fovea, 64)])[None]
    spots = blob(128, (115, 64, disc)), blob(128, (60, 90, 3))
    found = found_in(photo(), replace(outputs(OD=spots[0], EX=spots[1]), landmarks=places)).to_dict()
    assert (found["headline"]["trust"] or {}).get("code") == ("TRUST_UNUSUAL_FIELD" if is_unusual else None)
    assert (found["dme"] is None) is is_unusual
    assert (found["headline"]["dme"]["code"] == "DME_NOT_GIVEN") is is_unusual
    assert (found["lesions"]["EX"]["nearest_fovea_dd"] is None) is is_unusual
    assert (found["rules"]["dme_risk"] is None) is is_unusual
    assert found["predicted_grade"] is not None


def test_findings_are_printed_in_one_line() -> None:
    grade = np.array([[0, 0, 9, 0, 0]], np.float32)
    found = found_in(photo(), replace(outputs(), classes={"grade": grade}))
    assert repr(found) == "<Findings of photo: grade 2, masks of MA, HE, EX, SE, OD>"
    assert repr(replace(found, class_probs={}, frame_probs={})) == "<Findings of photo: no answer>"


def test_masks_of_a_refused_photo_say_that_it_was_refused() -> None:
    refused = replace(
        found_in(photo(), outputs()), class_probs={}, frame_probs={}, reasons=(Message("NOT_FUNDUS", {}),)
    )
    assert repr(refused) == "<Findings of photo: refused, NOT_FUNDUS>"
    with pytest.raises(KeyError, match="was refused"):
        refused.mask("EX")
