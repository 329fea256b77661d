"""The picture of what a training sees: masks as they are learned, in their colors, next to the photo."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from funduscope.data.case import Case
from funduscope.data.prepare import CHANNELS, cached
from funduscope.recipe import Recipe
from funduscope.training.batch import Batch, Item, Samples
from funduscope.training.journal import draw_samples
from funduscope.training.samples import draw_epoch
from funduscope.vocabulary import structure

SIDE, CAPTION = 320, 44
GRAY = (96, 96, 96)


@pytest.fixture
def files(tiny: Recipe, cases: list[Case], cache: Path) -> dict[str, Path]:
    return {case.key: cached(case, tiny.views.close_px, cache) for case in cases}


def _sheet(recipe: Recipe, cases: list[Case], files: dict[str, Path], path: Path) -> np.ndarray:
    draw_samples(recipe, cases, files, path)
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"))


def _first(recipe: Recipe, cases: list[Case], files: dict[str, Path]) -> tuple[Item, Batch]:
    """The sample that the sheet begins with."""
    item = next(item for item in draw_epoch(cases, recipe, 0) if item.case.labels.masks)
    return item, Samples(files, recipe)[item]


def test_known_masks_stand_beside_the_photo_soft_and_binary(
    tiny: Recipe, cases: list[Case], files: dict[str, Path], tmp_path: Path
) -> None:
    """Each pixel of a mask, as wide as the tile makes it, has the color of its structure, as strong as it is."""
    masked = [case for case in cases if case.labels.masks]
    recipe = tiny.model_copy(update={"sampling": tiny.sampling.model_copy(update={"lesion_centered": 1.0})})
    sheet = _sheet(recipe, masked, files, tmp_path / "samples.png")
    assert sheet.shape[1] == 6 * SIDE, "two samples beside each other, three tiles each"
    _, sample = _first(recipe, masked, files)
    size = sample.image.shape[0]
    middles = ((np.arange(size) + 0.5) * SIDE / size).astype(int)
    at = np.ix_(middles, middles[:-1])  # a sample ends in a white line
    coverage, known = sample.coverage.numpy()[..., :-1], sample.known.numpy().any(axis=0)[:, :-1]
    soft, hard = (sheet[:SIDE, number * SIDE : (number + 1) * SIDE][at] for number in (1, 2))
    seen = 0
    for index, code in enumerate(CHANNELS):
        alone = (coverage[index] > 0) & (np.delete(coverage, index, axis=0) == 0).all(axis=0) & known
        share = coverage[index][alone][:, None] / 255
        seen += int(alone.sum())
        if alone.any():
            color = np.array(structure(code).color)
            np.testing.assert_allclose(soft[alone], share * color, atol=1)
            np.testing.assert_array_equal(hard[alone], (share >= 0.5) * color)
    assert seen > 20
    assert not soft[known & (coverage == 0).all(axis=0)].any()
    assert (soft[~known] == GRAY).all()
    assert (hard[~known] == GRAY).all()


def test_samples_without_masks_are_one_tile_each(
    tiny: Recipe, cases: list[Case], files: dict[str, Path], tmp_path: Path
) -> None:
    plain = tiny.model_copy(update={"sampling": tiny.sampling.model_copy(update={"close": {}})})
    graded = [case for case in cases if not case.labels.masks][:2]
    sheet = _sheet(plain, graded, files, tmp_path / "samples.png")
    assert sheet.shape == (SIDE + CAPTION, 6 * SIDE, 3)
    tiles = sheet[:SIDE].reshape(SIDE, 6, SIDE, 3).mean(axis=(0, 2, 3))
    assert (tiles[: len(graded)] < 200).all()
    assert (tiles[len(graded) :] == 255).all()
