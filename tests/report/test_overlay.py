from __future__ import annotations

from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest

from funduscope.inference.headline import headline
from funduscope.report.outline import trace_all
from funduscope.report.overlay import Pen, Word, _length, _verdict, overlay
from funduscope.vocabulary import CODES, LESIONS, structure


def near(picture, color, tolerance=12):
    """How many pixels of the picture have about that color."""
    return int((np.abs(picture.astype(int) - color).max(axis=2) <= tolerance).sum())


def test_every_structure_is_drawn_in_its_own_color(drawn_eye):
    found = drawn_eye()
    drawn = overlay(found)[: found.pixels.shape[0]]
    for code in CODES:
        assert near(found.pixels, structure(code).color) == 0
        assert near(drawn, structure(code).color) > 0, code


def test_the_safe_palette_replaces_the_standard_one(drawn_eye):
    found = drawn_eye()
    drawn = overlay(found, palette="safe")[: found.pixels.shape[0]]
    for code in CODES:
        assert near(drawn, structure(code).safe_color) > 0, code
    assert near(drawn, structure("SE").color) == 0


def test_an_unknown_palette_is_named(drawn_eye):
    with pytest.raises(ValueError, match=r"'loud'.*standard, safe"):
        overlay(drawn_eye(), palette="loud")


def test_the_photo_keeps_its_shape_under_the_widest(drawn_eye):
    found = drawn_eye()
    found.pixels = cv2.resize(found.pixels, (3000, 2200))
    found.masks = {}
    drawn = overlay(found)
    assert drawn.shape[1] == 2048
    assert drawn.dtype == np.uint8
    assert drawn.shape[0] > round(2200 * 2048 / 3000)
    assert overlay(found, width_px=None).shape[1] == 3000


@pytest.mark.parametrize("code", LESIONS)
def test_a_single_pixel_is_visible_in_a_thumbnail(drawn_eye, code):
    found = drawn_eye(disc_xy=None, fovea_xy=None)
    found.pixels = cv2.resize(found.pixels, (3000, 2200))
    found.masks = {}
    bare = overlay(found)
    lesion = np.zeros((2200, 3000), bool)
    lesion[900, 1200] = True
    found.masks = {code: lesion}
    # The legend's count differs too: only the photo is compared.
    photo_height = round(2200 * 2048 / 3000)
    small = [
        cv2.resize(one[:photo_height], (400, 293), interpolation=cv2.INTER_AREA).astype(int)
        for one in (bare, overlay(found))
    ]
    changed = np.abs(small[1] - small[0]).max(axis=2) > 25
    rows, columns = np.nonzero(changed)
    assert changed.sum() >= 6
    assert abs(rows.mean() - 900 * 400 / 3000) < 1.5
    assert abs(columns.mean() - 1200 * 400 / 3000) < 1.5


def test_disc_and_fovea_are_marked_where_they_are(drawn_eye):
    found = drawn_eye(codes=("MA",), disc_xy=(150.0, 60.0), fovea_xy=(90.0, 120.0))
    found.masks = {}
    marked = overlay(found)[:220].astype(int)
    found.disc_xy = found.fovea_xy = None
    bare = overlay(found)[:220].astype(int)
    changed = np.abs(marked - bare).max(axis=2) > 0
    assert changed[50:70, 140:160].any()
    assert changed[110:130, 80:100].any()
    assert not changed[:, 200:].any()


def test_the_legend_tells_counts(drawn_eye):
    found = drawn_eye()
    few = overlay(found)
    found.masks["MA"][30, 150] = True
    more = overlay(found)
    assert (few[found.pixels.shape[0] :] != more[found.pixels.shape[0] :]).any()


def test_the_verdict_is_that_of_the_advice(drawn_eye):
    """Grade 1 is not referable; a macular edema risk next to it is, and whoever sees the overlay alone must know."""
    found = drawn_eye().to_dict() | {"predicted_grade": 1}

    def verdict(advice: dict[str, Any] | None) -> list[str]:
        changed = found | {"advice": advice}
        return [word.text for word in _verdict(changed | {"headline": headline(changed)})]

    said = verdict({"refer": True, "urgency": "urgent", "because": []})
    assert said[-1] == "Refer urgently"
    calm = verdict({"refer": False, "urgency": "routine", "because": []})[-1]
    assert calm == "No referral for diabetic retinopathy: next routine check. This says nothing about other diseases"
    assert len(verdict(None)) == len(said) - 1


def test_a_refused_photo_says_so_and_shows_no_lesion(drawn_eye):
    found = drawn_eye(gradable_ok=False)
    drawn = overlay(found)
    for code in CODES:
        assert near(drawn, structure(code).color, 5) == 0, code
    assert near(drawn, (255, 176, 32), 5) > 1000
    longer = drawn_eye(gradable_ok=False, reason="The photo is out of focus. " * 12)
    assert overlay(longer).shape[0] > drawn.shape[0]


def test_a_narrow_photo_has_its_legend_too(drawn_eye):
    found = drawn_eye(codes=("MA",))
    found.pixels, found.masks = np.zeros((400, 64, 3), np.uint8), {}
    assert overlay(found).shape[1] == 64


@pytest.mark.parametrize("width", [300, 900])
def test_no_text_is_cut_at_the_right_edge_of_a_narrow_photo(drawn_eye, monkeypatch, width):
    written: list[tuple[float, Word]] = []
    monkeypatch.setattr("funduscope.report.overlay._write_word", lambda _, x, __, word, ___: written.append((x, word)))
    found = drawn_eye(codes=("MA",))
    found.pixels, found.masks = np.zeros((2 * width, width, 3), np.uint8), {}
    trust = {"says": "Unlike the photos that the model learned from: a trained person should grade this photo."}
    traced = trace_all(found)
    told = traced.found | {"headline": traced.found["headline"] | {"trust": trust}}
    overlay(found, traced=replace(traced, found=told))
    assert trust["says"] in " ".join(word.text for _, word in written)
    pen = Pen.for_width(width)
    assert max(x + _length(word, pen) for x, word in written) <= width


def test_the_photo_itself_is_left_alone(drawn_eye):
    found = drawn_eye()
    before = found.pixels.copy()
    overlay(found)
    assert (found.pixels == before).all()
