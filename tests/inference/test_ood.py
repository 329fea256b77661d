"""Distance from the training photos: percentiles that mean what they say, far for what is unlike, small on disk."""

from __future__ import annotations

import json
from dataclasses import replace

import jsonschema
import numpy as np
import pytest

from funduscope.inference.card import Card
from funduscope.inference.ood import DIRECTIONS, FEWEST, Reference, fit_reference

CHANNELS = 256


def like_photos(rng: np.random.Generator, count: int, world: int = 0) -> np.ndarray:
    """Features (N, C) that vary along a dozen directions of their world, and a little in all."""
    fixed = np.random.default_rng(world)
    mean, ways = fixed.uniform(0.5, 2, CHANNELS), fixed.normal(size=(12, CHANNELS))
    return np.abs(mean + 0.3 * rng.normal(size=(count, 12)) @ ways + 0.1 * rng.normal(size=(count, CHANNELS)))


@pytest.fixture(scope="module")
def reference() -> Reference:
    rng = np.random.default_rng(1)
    found = fit_reference(like_photos(rng, 400), like_photos(rng, 300))
    assert found is not None
    return found


def test_percentiles_are_those_of_new_photos_alike(reference: Reference) -> None:
    rng = np.random.default_rng(2)
    told = np.array([reference.of(row).percentile for row in like_photos(rng, 1000)])
    for share in (10, 50, 90):
        assert (told < share).mean() == pytest.approx(share / 100, abs=0.06)
    assert np.median([reference.of(row).value for row in like_photos(rng, 200)]) == pytest.approx(1.0, abs=0.15)


def test_photos_of_another_world_are_further_than_any(reference: Reference) -> None:
    rng = np.random.default_rng(3)
    told = [reference.of(row) for row in like_photos(rng, 100, world=7)]
    assert min(one.percentile for one in told) == 100
    assert min(one.value for one in told) > 2


def test_brighter_features_are_no_further(reference: Reference) -> None:
    row = like_photos(np.random.default_rng(4), 1)[0]
    assert reference.of(3 * row).value == pytest.approx(reference.of(row).value, rel=1e-3)


def test_it_comes_back_from_a_card_as_it_was(reference: Reference) -> None:
    card = replace(Card(), distance=reference.to_tree())
    again = Card.from_json(card.to_json())
    assert again == card
    row = like_photos(np.random.default_rng(5), 1)[0]
    held = Reference.from_tree(again.distance or {})
    assert held.of(row).value == pytest.approx(reference.of(row).value, rel=1e-3)
    assert held.directions.shape == (DIRECTIONS, CHANNELS)
    large = Reference(np.ones(2048, np.float32), np.ones((DIRECTIONS, 2048), np.float32), 1.0, np.zeros(101))
    assert len(json.dumps(large.to_tree())) < 200_000


def test_too_few_photos_tell_no_distance() -> None:
    rng = np.random.default_rng(6)
    few, enough = like_photos(rng, FEWEST - 1), like_photos(rng, FEWEST)
    assert fit_reference(few, enough) is None
    assert fit_reference(enough, few) is None
    assert fit_reference(enough, None) is None


def test_an_unlike_photo_is_warned_of_and_its_distance_told(reference: Reference) -> None:
    from funduscope.imaging.framing import frame
    from funduscope.imaging.photo import Photo
    from funduscope.inference.predictor import Views, interpret
    from funduscope.inference.runtime import Outputs
    from funduscope.report.write import findings_schema

    pixels = np.zeros((300, 400, 3), np.uint8)
    pixels[50:250, 100:300] = (150, 80, 40)
    photo = Photo.open(pixels)
    card = Card(structures=(), landmarks=(), close=(), whole_px=64, close_px=128, distance=reference.to_tree())

    def told(features: np.ndarray | None, card: Card = card) -> dict:
        outputs = Outputs(
            classes={"grade": np.zeros((1, 5), np.float32)}, features=None if features is None else features[None]
        )
        found = interpret(photo, frame(photo, 128), Views(outputs, outputs), card, "0" * 64).to_dict()
        jsonschema.Draft202012Validator(findings_schema()).validate(found)
        return found

    rng = np.random.default_rng(8)
    near, far = told(like_photos(rng, 1)[0]), told(like_photos(rng, 1, world=7)[0])
    codes = [[note["code"] for note in found["warnings"]] for found in (near, far)]
    assert "FAR_FROM_TRAINING" not in codes[0]
    assert "FAR_FROM_TRAINING" in codes[1]
    assert near["training_distance"]["percentile"] < far["training_distance"]["percentile"] == 100
    assert told(None)["training_distance"] is None
    assert told(like_photos(rng, 1)[0], replace(card, distance=None))["training_distance"] is None
