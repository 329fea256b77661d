"""What visible lesions support, by the definitions' own words; and when model and lesions part."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import product
from string import Formatter

import numpy as np
import pytest

from funduscope.i18n.languages import string_table
from funduscope.i18n.messages import message
from funduscope.imaging.framing import CropTransform
from funduscope.inference.anatomy import QUADRANTS, Anatomy, disc_diameter_px, is_upside_down, uncut
from funduscope.inference.objects import Components, LesionObject, by_quadrant
from funduscope.inference.rules import ModelAnswer, Supported, advise, check, support
from funduscope.vocabulary import ICDR_KINDS, STRUCTURES, Structure

RIGHT = Anatomy(disc_xy=(300.0, 100.0), fovea_xy=(200.0, 100.0), disc_diameter_px=40.0)
HEADLINES = (
    r"(GRADE|DME)(_PROBABLE|_NOT_KNOWN|_NOT_GIVEN|_UNDECIDED\w*|_YOURS\w*)?"
    r"|REFER_\w+|NO_REFERRAL\w*|RETAKE_OR_EXAMINE|REFERRAL_\w+"
)
NONE = dict.fromkeys(ICDR_KINDS, ())


def _lesions(**counts: int) -> dict[str, tuple[LesionObject, ...]]:
    return NONE | {code: (_object(),) * count for code, count in counts.items()}


def _object(distance: float | None = 2.0, quadrant: str | None = "superior_nasal") -> LesionObject:
    return LesionObject(10, 10, 5, distance, quadrant, 0.9)


@pytest.mark.parametrize(
    ("lesions", "span", "code"),
    [
        (_lesions(), (0, 0), "ICDR_0_NONE"),
        (_lesions(MA=3), (1, 1), "ICDR_1_MA_ONLY"),
        (_lesions(MA=3, HE=1), (2, 3), "ICDR_2_BEYOND_MA"),
        (_lesions(SE=1), (2, 3), "ICDR_2_BEYOND_MA"),
        (_lesions(EX=1), (2, 3), "ICDR_2_BEYOND_MA"),
        (_lesions(HE=500), (2, 3), "ICDR_2_BEYOND_MA"),  # all in one quadrant
    ],
)
def test_the_grades_that_lesions_support(lesions, span, code):
    found = support(lesions, RIGHT)
    assert found.grade_range == span
    assert found.because[0].code == code


def test_many_haemorrhages_in_every_quadrant_are_severe():
    enough = {"HE": tuple(_object(quadrant=name) for name in QUADRANTS for _ in range(21))}
    assert support(NONE | enough, RIGHT).grade_range == (3, 3)
    assert support(NONE | {"HE": enough["HE"][1:]}, RIGHT).grade_range == (2, 3)
    assert support(NONE | enough, Anatomy()).grade_range == (2, 3)  # no quadrants without landmarks


@pytest.mark.parametrize(
    ("lowest", "found", "span", "code", "grade_4"),
    [
        (4, 2, (4, 4), "ICDR_KIND", True),
        (4, 0, (2, 3), "ICDR_2_BEYOND_MA", False),  # sought and not found: grade 4 is not supported
        (3, 2, (3, 3), "ICDR_KIND", None),
        (1, 2, (2, 3), "ICDR_2_BEYOND_MA", None),
        (0, 2, (2, 3), "ICDR_2_BEYOND_MA", None),  # healthy eyes have it
    ],
)
def test_a_further_lesion_counts_by_its_lowest_grade(monkeypatch, lowest, found, span, code, grade_4):
    further = Structure("NV", "New vessels", (1, 2, 3), (1, 2, 3), True, "", lowest)
    monkeypatch.setattr("funduscope.vocabulary.STRUCTURES", (*STRUCTURES, further))
    supported = support(_lesions(HE=1, NV=found), RIGHT)
    assert (supported.grade_range, supported.because[0].code) == (span, code)
    checked = check(supported, 4, None)
    assert checked.agrees is grade_4
    assert ("ICDR_4_NOT_CHECKED" in [one.code for one in checked.messages]) is (grade_4 is None)
    alone = support(NONE | {"NV": (_object(),) * found}, RIGHT).grade_range
    assert alone == ((0, 0) if not (lowest and found) else (1, 3) if lowest == 1 else span)


def test_a_kind_that_was_not_sought_supports_no_grade():
    found = support({"EX": (), "HE": ()}, RIGHT)
    assert found.grade_range is None
    assert found.dme_risk == 0
    assert check(found, 3, 1).agrees is None


@pytest.mark.parametrize(
    ("distances", "risk", "code"),
    [
        ([], 0, "DME_0_NO_EXUDATE"),
        ([1.01, 3.0], 1, "DME_1_FAR"),
        ([1.0, 3.0], 2, "DME_2_NEAR_FOVEA"),
        ([None], 1, "DME_1_DISTANCE_UNKNOWN"),
    ],
)
def test_the_edema_risk_that_exudates_support(distances, risk, code):
    found = support(NONE | {"EX": tuple(_object(distance) for distance in distances)}, RIGHT)
    assert found.dme_risk == risk
    assert found.because[-1].code == code


@pytest.mark.parametrize(
    ("lesions", "grade", "agrees", "code"),
    [
        (_lesions(), 0, True, None),
        (_lesions(), 2, False, "GRADE_ABOVE_LESIONS"),
        (_lesions(), 4, False, "GRADE_ABOVE_LESIONS"),
        (_lesions(MA=1), 0, False, "GRADE_BELOW_LESIONS"),
        (_lesions(HE=1), 1, False, "GRADE_BELOW_LESIONS"),
        (_lesions(HE=1), 3, True, None),
        (_lesions(HE=1), 4, None, "ICDR_4_NOT_CHECKED"),
        (_lesions(HE=1), None, None, None),
    ],
)
def test_a_grade_is_held_against_the_lesions(lesions, grade, agrees, code):
    found = check(support(lesions, RIGHT), grade, None)
    assert found.agrees is agrees
    assert [one.code for one in found.messages] == ([code] if code else [])


def test_an_edema_risk_is_held_against_the_exudates():
    far = support(NONE | {"EX": (_object(2.0),)}, RIGHT)
    assert check(far, None, 1).dme_agrees is True
    assert [one.code for one in check(far, None, 2).messages] == ["DME_ABOVE_LESIONS"]
    assert [one.code for one in check(far, None, 0).messages] == ["DME_BELOW_LESIONS"]
    somewhere = support(NONE | {"EX": (_object(None),)}, RIGHT)
    assert [check(somewhere, None, risk).dme_agrees for risk in (0, 1, 2)] == [False, True, True]
    assert [one.code for one in check(somewhere, None, 0).messages] == ["DME_BELOW_LESIONS"]
    assert advise(somewhere, _answer(0)).because[-1].code == "DME_1_DISTANCE_UNKNOWN"


def _answer(grade: int, risk_probs: tuple[float, ...] = (0.9, 0.05, 0.05), referable: float = 0.1) -> ModelAnswer:
    """A model's answer with this most probable grade, this probability of grade 2 or more, and a threshold of 0.4."""
    lower = [0.0, 0.0] if grade >= 2 else [(1 - referable) * (0.7 if one == grade else 0.3) for one in range(2)]
    upper = [referable / 3] * 3 if grade < 2 else [0.9 if one == grade else 0.05 for one in range(2, 5)]
    return ModelAnswer((*lower, *upper), risk_probs, 0.4)


def test_advice_is_the_more_careful_of_the_two():
    clean, bleeding = support(NONE, RIGHT), support(_lesions(HE=1), RIGHT)

    def codes(supported: Supported, answer: ModelAnswer) -> list[str]:
        return [reason.code for reason in advise(supported, answer).because]

    assert codes(clean, _answer(0)) == ["NOTHING_REFERABLE"]
    assert not advise(clean, _answer(0)).refer
    assert advise(clean, _answer(2)).refer
    assert codes(bleeding, _answer(0)) == ["ICDR_2_BEYOND_MA"]
    assert codes(clean, _answer(1, referable=0.45)) == ["REFERABLE_PROBABLE"]
    assert codes(clean, _answer(0, (0.3, 0.6, 0.1))) == ["DME_REFERABLE"]
    # Grade 2 is the most probable, though 0 and 1 together are likelier.
    assert codes(clean, ModelAnswer((0.34, 0.31, 0.35, 0, 0), (0.9, 0.1, 0), 0.5)) == ["GRADE_REFERABLE"]
    near = support(NONE | {"EX": (_object(0.3),)}, RIGHT)
    assert codes(near, _answer(2, (0.0, 0.1, 0.9))) == ["GRADE_REFERABLE", "DME_2_NEAR_FOVEA"]


@pytest.mark.parametrize(
    ("exudates", "risk_probs", "how_soon"),
    [
        ([(0.3, 5)], (0.05, 0.05, 0.9), "urgent"),
        ([(0.3, 3)], (0.05, 0.05, 0.9), "soon"),  # one dot of few pixels
        ([(0.3, 5)], (0.3, 0.25, 0.45), "soon"),  # undecided
        ([(1.4, 500)], (0.05, 0.05, 0.9), "soon"),  # the outlines contradict it
        ([], (0.05, 0.05, 0.9), "soon"),
        ([(None, 500)], (0.05, 0.05, 0.9), "soon"),  # the fovea was not found
        ([(0.3, 500)], (0.9, 0.05, 0.05), "soon"),  # the photo contradicts the outlines
    ],
)
def test_an_edema_risk_is_urgent_where_it_is_probable_and_exudates_of_some_size_agree(exudates, risk_probs, how_soon):
    """0.002 squares of a disc's diameter of 40 px are 3.2 px."""
    outlined = tuple(replace(_object(distance), area_px=area) for distance, area in exudates)
    assert advise(support(NONE | {"EX": outlined}, RIGHT), _answer(2, risk_probs)).urgency == how_soon


def test_exudates_that_a_person_outlined_are_urgent_whatever_the_model_answers():
    near = {"EX": (_object(0.3),)}
    assert advise(support(NONE | near, RIGHT, by_hand={"EX"}), _answer(0)).urgency == "urgent"
    assert advise(support(NONE | near, RIGHT), _answer(0)).urgency == "soon"


def test_without_exudates_in_the_model_only_a_probable_edema_risk_is_urgent():
    nothing = support({}, RIGHT)
    assert advise(nothing, _answer(0, (0.05, 0.05, 0.9))).urgency == "urgent"
    assert advise(nothing, _answer(0, (0.2, 0.1, 0.7))).urgency == "soon"


def test_the_reasons_of_an_advice_name_one_edema_risk() -> None:
    """An exudate at 1.4 disc diameters supports risk 1, the model answers 2."""
    far = support(NONE | {"EX": (_object(1.4),)}, RIGHT)
    reasons = advise(far, _answer(2, (0.0, 0.1, 0.9))).because
    assert [reason.code for reason in reasons] == ["GRADE_REFERABLE", "DME_REFERABLE"]
    reasons = advise(far, _answer(2, (0.1, 0.8, 0.1))).because
    assert [reason.code for reason in reasons] == ["GRADE_REFERABLE", "DME_1_FAR"]


def test_every_sentence_is_made_of_its_values():
    for code, row in string_table("findings").items():
        names = [name for _, name, _, _ in Formatter().parse(row["en"]) if name]
        values = {name: ["HE", "EX"] if name == "kinds" else 1.5 for name in names}
        is_title = re.fullmatch(HEADLINES, code)
        assert re.fullmatch(r"[A-Z].*" if is_title else r"[A-Z].*\.", message(code, values).text)
    assert message("ICDR_2_BEYOND_MA", {"at_least": 2, "kinds": ["HE", "EX", "SE"]}).text.startswith(
        "Haemorrhages, hard exudates and soft exudates: more than microaneurysms only"
    )


def test_the_disc_tells_which_eye_it_is():
    assert RIGHT.laterality == "right"
    assert Anatomy((100.0, 90.0), (200.0, 100.0)).laterality == "left"
    assert Anatomy((200.0, 10.0), (200.0, 100.0)).laterality is None
    assert Anatomy((100.0, 90.0)).laterality is None


def test_an_eye_that_is_upside_down_is_not_told_as_the_other_one():
    usual = (0.38, 0.025, 0.045, 0.03)
    assert not is_upside_down((300.0, 100.0), (200.0, 112.0), usual)
    assert not is_upside_down((300.0, 100.0), (200.0, 97.0), usual), "level: it may be either way up"
    assert is_upside_down((300.0, 100.0), (200.0, 85.0), usual)
    assert is_upside_down((100.0, 100.0), (200.0, 85.0), usual)
    assert is_upside_down((3000.0, 1000.0), (2000.0, 850.0), usual), "whatever the photo's size"
    assert not is_upside_down((200.0, 200.0), (190.0, 100.0), usual), "on its side"
    assert not is_upside_down((300.0, 100.0), (200.0, 85.0), None)
    assert not is_upside_down(None, (200.0, 85.0), usual)
    turned = Anatomy((300.0, 100.0), (200.0, 85.0), 40.0, is_upside_down=True)
    assert turned.laterality is None
    assert turned.quadrants(np.array([[10.0, 10.0]])) is None
    assert turned.fovea_distances_dd(np.array([[200.0, 125.0]])) == pytest.approx(1), "distances are as they were"


@pytest.mark.parametrize(("turn", "mirrored"), product((0.0, 25.0, -40.0), (False, True)))
def test_quadrants_turn_with_the_eye(turn: float, mirrored: bool):
    """The same places around the fovea, in an eye that is turned or the other one, have the same names."""
    places = np.array([[-30.0, -30.0], [-30.0, 30.0], [30.0, -30.0], [30.0, 30.0]])
    angle = np.deg2rad(turn)
    turned = places @ np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    disc = np.array([100.0 * np.cos(angle), 100.0 * np.sin(angle)])
    flip = np.array([-1.0 if mirrored else 1.0, 1.0])
    eye = Anatomy(tuple(disc * flip + 500), (500.0, 500.0), 40.0)
    assert eye.quadrants(turned * flip + 500) == list(QUADRANTS)


def test_objects_are_the_components_of_the_mask():
    mask = np.zeros((60, 80), bool)
    mask[10:14, 20:24] = True
    mask[40:42, 60:63] = True
    mask[42, 63] = True  # touches at a corner: the same object
    plane = np.full((40, 40), 0.25, np.float32)
    plane[:10] = 0.75
    transform = CropTransform(0, -10, 80, 40, 80, 60)
    eye = Anatomy((70.0, 30.0), (40.0, 30.0), 10.0)
    first, second = Components.of(mask).objects(plane, transform, eye)
    assert (first.x_px, first.y_px, first.area_px) == (22.0, 12.0, 16)
    assert first.nearest_fovea_dd == pytest.approx(np.hypot(40 - 23.5, 30 - 13.5) / 10)
    assert first.quadrant == "superior_temporal"
    assert first.probability == pytest.approx(0.25)  # row 22 of the square is row 11 of the frame
    assert (second.area_px, second.quadrant) == (7, "inferior_nasal")
    assert by_quadrant((first, second), eye) == {
        "superior_temporal": 1, "inferior_temporal": 0, "superior_nasal": 0, "inferior_nasal": 1
    }  # fmt: skip
    assert Components.of(np.zeros((60, 80), bool)).objects(plane, transform, eye) == ()
    bare = Components.of(mask).objects(plane, transform, Anatomy())
    assert {one.quadrant for one in bare} == {None}
    assert {one.nearest_fovea_dd for one in bare} == {None}


@pytest.mark.parametrize("code", ["HE", "EX", "SE"])
def test_what_a_model_of_few_kinds_outlined_counts(code):
    """A haemorrhage or an exudate makes grade 2, whatever else nobody looked for; microaneurysms alone make none."""
    found = support({code: (_object(None),)}, RIGHT)
    assert found.grade_range == (2, 3)
    assert advise(found, _answer(0)).refer
    assert support({"MA": (_object(),)}, RIGHT).grade_range is None


def _disc(x: float, y: float, diameter: float) -> np.ndarray:
    across, down = np.meshgrid(np.arange(400) + 0.5, np.arange(300) + 0.5)
    return np.hypot(across - x, down - y) <= diameter / 2


@pytest.mark.parametrize(
    ("mask", "told"),
    [
        (_disc(300, 100, 40), 40),
        (_disc(305, 98, 40), 40),
        (_disc(300, 100, 6), None),  # a blurred disc, of which a few pixels are left
        (_disc(300, 100, 90), None),  # a disc and the scar around it
        (_disc(60, 200, 40), None),  # a scar elsewhere
        (np.zeros((300, 400), bool), None),
    ],
)
def test_the_disc_is_no_measure_where_it_cannot_be_the_disc(mask, told):
    """Else every distance in disc diameters, and with it the edema risk, is off without a word."""
    found = disc_diameter_px(mask, RIGHT.disc_xy, RIGHT.fovea_xy)
    assert found == (None if told is None else pytest.approx(told, rel=0.03))
    assert disc_diameter_px(_disc(60, 200, 40), None, None) == pytest.approx(40, rel=0.03)


@pytest.mark.parametrize(("x", "is_whole"), [(30, True), (19, True), (14, False), (0, False)])
@pytest.mark.parametrize("turns", range(4))
def test_a_disc_that_is_cut_off_by_the_photos_edge_is_no_measure(x: float, is_whole: bool, turns: int):
    mask = np.ascontiguousarray(np.rot90(_disc(x, 150, 40), turns))
    found = disc_diameter_px(mask, None, None)
    assert found == (pytest.approx(40, rel=0.03) if is_whole else None)


@pytest.mark.parametrize(("beyond_px", "told"), [(-30, 60), (-8, 60), (20, None)])
@pytest.mark.parametrize("angle", [0.3, 2.0, 4.4])
def test_a_disc_that_is_cut_off_by_the_rim_of_the_field_is_no_measure(
    beyond_px: float, told: float | None, angle: float
):
    """beyond_px: how far the disc of 60 px, centered there, is beyond the point at which it touches the rim."""
    transform = CropTransform(50, 30, 600, 512, 700, 660, None)
    y, x = np.mgrid[:660, :700] + 0.5
    field = np.hypot(x - 350, y - 330) < 300
    away = 300 - 30 + beyond_px
    mask = (np.hypot(x - 350 - away * np.cos(angle), y - 330 - away * np.sin(angle)) < 30) & field
    photo = np.where(field[..., None], 120, 2).astype(np.uint8).repeat(3, axis=2)
    diameter = disc_diameter_px(mask, None, None)
    assert uncut(diameter, mask, transform, photo) == (None if told is None else pytest.approx(told, rel=0.03))
    assert uncut(diameter, mask, transform, photo | 64) == diameter, "where the retina goes on beyond the circle"


def test_a_disc_that_is_cut_off_inside_a_larger_picture_is_no_measure():
    """A photo in a screenshot: its edge is not the picture's."""
    mask = np.zeros((600, 800), bool)
    mask[200:500, 300:600] = _disc(0, 150, 40)[:300, :300]
    assert disc_diameter_px(mask, None, None) is not None
    assert disc_diameter_px(mask, None, None, (300, 200, 600, 500)) is None
