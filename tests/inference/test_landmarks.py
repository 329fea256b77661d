"""Disc and fovea: seen where they are, estimated by each other where one is not seen, never pulled to where they
usually are."""

from __future__ import annotations

from dataclasses import replace

import jsonschema
import numpy as np
import pytest

from funduscope.imaging.framing import CropTransform
from funduscope.inference.card import Card
from funduscope.inference.landmarks import find_landmarks, fit_fovea_offset
from funduscope.inference.predictor import Predictor
from funduscope.inference.runtime import Outputs
from funduscope.report.write import findings_schema
from funduscope.testing.drawn_eyes import draw_eye

CELLS, SIDE_PX = 128, 512
HOME = CropTransform(0, 0, 2048, SIDE_PX, 2048, 2048)
USUAL = (0.38, 0.025, 0.045, 0.03)
CARD = Card(fovea_from_disc=USUAL)


def _peak(x: float, y: float, height: float = 12.0) -> np.ndarray:
    """Logits over the cells with one peak at a share of the frame's side."""
    at = (np.arange(CELLS) + 0.5) / CELLS
    return height * np.exp(-((at[None] - x) ** 2 + (at[:, None] - y) ** 2) / (2 * 0.02**2))


def _found(disc: np.ndarray, fovea: np.ndarray, card: Card = CARD):
    return find_landmarks(Outputs(landmarks=np.stack([disc, fovea])[None].astype(np.float32)), card, HOME)


NOTHING = np.zeros((CELLS, CELLS))


@pytest.mark.parametrize(("disc", "fovea"), [((0.7, 0.5), (0.32, 0.54)), ((0.3, 0.5), (0.68, 0.54))])
def test_what_is_seen_is_where_it_is_seen(disc, fovea) -> None:
    found = _found(_peak(*disc), _peak(*fovea))
    alone = _found(_peak(*disc), _peak(*fovea), replace(CARD, fovea_from_disc=None))
    for name, place in (("optic_disc", disc), ("fovea", fovea)):
        assert found[name].xy == pytest.approx((2048 * place[0], 2048 * place[1]), abs=3)
        assert found[name].xy == pytest.approx(alone[name].xy, abs=0.5), "the usual distance draws nothing"
        assert not found[name].estimated


def test_an_unusual_eye_is_believed() -> None:
    """A fovea much nearer than usual, clearly seen, stays where it is."""
    found = _found(_peak(0.7, 0.5), _peak(0.45, 0.6))
    assert found["fovea"].xy == pytest.approx((0.45 * 2048, 0.6 * 2048), abs=4)
    assert not found["fovea"].estimated


@pytest.mark.parametrize("side", [1, -1])
def test_of_two_likely_foveas_the_one_beside_the_disc_is_taken(side: int) -> None:
    disc, true, false = (0.5 + 0.2 * side, 0.5), (0.5 - 0.18 * side, 0.54), (0.5 + 0.05 * side, 0.2)
    both = np.maximum(_peak(*true, height=11), _peak(*false, height=12))
    alone = _found(_peak(*disc), both, replace(CARD, fovea_from_disc=None))
    assert "fovea" not in alone or alone["fovea"].xy[1] < 800
    found = _found(_peak(*disc), both)["fovea"]
    assert found.xy == pytest.approx((2048 * true[0], 2048 * true[1]), abs=12)


@pytest.mark.parametrize("side", [1, -1])
def test_a_fovea_that_is_not_seen_is_estimated_and_said_to_be(side: int) -> None:
    """A faint trace says on which side; the disc says where."""
    disc = (0.5 + 0.2 * side, 0.5)
    trace = _peak(0.5 - 0.16 * side, 0.57, height=2.5)
    assert "fovea" not in _found(_peak(*disc), trace, replace(CARD, fovea_from_disc=None))
    found = _found(_peak(*disc), trace)["fovea"]
    assert found.estimated
    assert np.hypot(found.xy[0] - 2048 * (0.5 - 0.18 * side), found.xy[1] - 2048 * 0.55) < 120


def test_two_sides_are_no_place() -> None:
    """A disc in the middle and no trace of a fovea: it may be on either side, so it was not found."""
    assert set(_found(_peak(0.5, 0.5), NOTHING)) == {"optic_disc"}
    assert _found(NOTHING, NOTHING) == {}


def test_a_disc_at_the_edge_leaves_one_side() -> None:
    found = _found(_peak(0.85, 0.5), NOTHING)
    assert found["fovea"].estimated
    assert found["fovea"].xy[0] == pytest.approx(2048 * 0.47, abs=60)


def test_the_usual_distance_is_that_of_the_marked_eyes() -> None:
    rng = np.random.default_rng(0)
    discs = rng.uniform(0.3, 0.7, (40, 2))
    sides = rng.choice([-1, 1], 40)
    apart = np.stack([sides * rng.normal(0.4, 0.02, 40), rng.normal(0.05, 0.03, 40)], 1)
    usual = fit_fovea_offset(discs.tolist(), (discs + apart).tolist())
    assert usual == pytest.approx((0.4, 0.02, 0.05, 0.03), abs=0.012)
    assert fit_fovea_offset(discs[:9].tolist(), discs[:9].tolist()) is None
    _, across, _, down = fit_fovea_offset(discs.tolist(), (discs + 0.1).tolist()) or (0.0,) * 4
    assert min(across, down) > 0, "eyes that are all alike make a card that can be loaded"


class HiddenFovea:
    """A runtime that sees the disc of a drawn eye, and of the fovea a trace."""

    sha256 = "0" * 64

    def __init__(self, card: Card, disc: tuple[float, float], trace: tuple[float, float]) -> None:
        self.card, self.disc, self.trace = card, disc, trace

    def __call__(self, images: np.ndarray, view: str = "whole") -> Outputs:
        maps = np.stack([_peak(*self.disc), _peak(*self.trace, height=2.5)])[None]
        return Outputs(landmarks=maps.astype(np.float32))


BARE = replace(CARD, structures=(), grade=False, dme=False, whole_px=256, close_px=256)


class Sighted:
    """A runtime that sees a disc and a fovea clearly, in the photo as it is or turned by half a turn."""

    sha256 = "0" * 64

    def __init__(self, disc: tuple[float, float], fovea: tuple[float, float], *, is_turned: bool) -> None:
        self.card = replace(BARE, structures=("EX",), close=())
        self.maps = np.stack([_peak(*disc), _peak(*fovea)])
        self.maps = self.maps[:, ::-1, ::-1] if is_turned else self.maps

    def __call__(self, images: np.ndarray, view: str = "whole") -> Outputs:
        lesion = _peak(0.5, 0.3)[None, None] - 6
        return Outputs(landmarks=self.maps[None].astype(np.float32), structures=lesion.astype(np.float32))


@pytest.mark.parametrize(("disc", "fovea", "eye"), [
    ((0.7, 0.5), (0.32, 0.55), "right"), ((0.3, 0.5), (0.68, 0.55), "left"),
])  # fmt: skip
def test_a_photo_that_is_upside_down_is_said_to_be(disc, fovea, eye: str) -> None:
    """As taken through a hand lens: the disc lies on the other side, and is not reported as the other eye."""
    pixels = draw_eye(3, width_px=500).pixels
    upright = Predictor(Sighted(disc, fovea, is_turned=False))(pixels).to_dict()
    assert upright["laterality"] == eye
    assert sum(upright["lesions"]["EX"]["by_quadrant"].values()) == 1
    turned = Predictor(Sighted(disc, fovea, is_turned=True))(pixels).to_dict()
    assert turned["laterality"] is None
    assert turned["landmarks"]["fovea"] is not None
    assert turned["lesions"]["EX"]["by_quadrant"] is None
    assert turned["lesions"]["EX"]["objects"][0]["quadrant"] is None
    assert "UPSIDE_DOWN" not in [one["code"] for one in upright["warnings"]]
    assert "UPSIDE_DOWN" in [one["code"] for one in turned["warnings"]]
    jsonschema.validate(turned, findings_schema())


@pytest.mark.parametrize(("disc", "fovea", "said"), [
    ((0.7, 0.5), None, "FOVEA_NOT_FOUND"),
    (None, (0.32, 0.5), "OPTIC_DISC_NOT_FOUND"),
    ((0.5, 0.25), (0.5, 0.7), "SIDEWAYS"),
    ((0.7, 0.5), (0.32, 0.55), None),
])  # fmt: skip
def test_what_leaves_the_side_open_is_said(disc, fovea, said: str | None) -> None:
    seen = Sighted(disc or (0.5, 0.5), fovea or (0.5, 0.5), is_turned=False)
    for plane, place in zip(seen.maps, (disc, fovea), strict=True):
        plane[:] = plane if place else NOTHING
    seen.card = replace(seen.card, fovea_from_disc=None)
    found = Predictor(seen)(draw_eye(3, width_px=500).pixels).to_dict()
    codes = {one["code"] for one in found["warnings"]}
    assert codes & {"FOVEA_NOT_FOUND", "OPTIC_DISC_NOT_FOUND", "SIDEWAYS"} == ({said} if said else set())
    assert (found["laterality"] is None) == (said is not None)
    jsonschema.validate(found, findings_schema())


def test_an_estimated_place_says_nothing_of_the_side_or_which_way_is_up() -> None:
    seen = Predictor(Sighted((0.7, 0.6), (0.32, 0.5), is_turned=False))(draw_eye(3, width_px=500).pixels)
    assert seen.is_upside_down
    guessed = replace(seen, estimated=("fovea",))
    assert not guessed.is_upside_down
    assert guessed.anatomy.laterality is None


def test_findings_say_that_a_place_was_estimated() -> None:
    found = Predictor(HiddenFovea(BARE, (0.7, 0.5), (0.34, 0.55)))(draw_eye(3, width_px=500).pixels)
    assert found.estimated == ("fovea",)
    assert found.fovea_xy is not None
    codes = [one["code"] for one in found.to_dict()["warnings"]]
    assert "FOVEA_ESTIMATED" in codes
    assert "OPTIC_DISC_ESTIMATED" not in codes
