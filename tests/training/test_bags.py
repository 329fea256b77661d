"""Bags: what boxes and experts' regions say is inside them, and where a sample shows them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from funduscope.data.case import Case, Labels, Mask
from funduscope.data.masks import read_mask
from funduscope.data.prepare import CHANNELS, cached, prepare, read_prepared
from funduscope.recipe import Recipe
from funduscope.testing.drawn_eyes import Style, draw_eye
from funduscope.training.batch import BAGS, Batch, Item, Samples
from funduscope.training.losses import MIN_PX, bag_losses
from funduscope.training.samples import serves
from funduscope.vocabulary import View

SIDE = 128
STYLE = Style(aspect=1.0, radius_frac=0.48, center_frac=(0.5, 0.5), notch=False)
EYE = draw_eye(11, grade=3, dme=2, width_px=320, style=STYLE)
STILL = {"mirror": 0.0, "rotate_deg": 0.0, "scale_frac": 0.0, "shift_frac": 0.0}
BRIGHT, RED, VOTED = (list(BAGS).index(kind) for kind in ("EX boxes", "HE boxes", "HE votes"))


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A drawn photo, its exudates as a mask, and four experts' votes for its haemorrhages: two drew around them, one
    saw more than that."""
    folder = tmp_path_factory.mktemp("photo")
    Image.fromarray(EYE.pixels).save(folder / "eye.png")
    Image.fromarray(EYE.masks["EX"].astype(np.uint8) * 255).save(folder / "EX.png")
    drawn = EYE.masks["HE"].astype(np.uint8)
    votes = 60 * cv2.dilate(drawn, np.ones((5, 5), np.uint8))
    votes[drawn > 0] = 180
    Image.fromarray(votes).save(folder / "HE-votes.png")
    return folder / "eye.png"


def _case(photo: Path, labels: Labels) -> Case:
    return Case("set/eye", "set", "eye", photo, "eye", labels)


def _sample(case: Case, view: View, recipe: Recipe, cache: Path, seed: int = 1, **augment: float) -> Batch:
    recipe = recipe.model_copy(update={"augment": recipe.augment.model_copy(update=augment)})
    return Samples({case.key: cached(case, SIDE, cache)}, recipe)[Item(case, view, (seed,))]


def _boxed(*boxes: tuple[int, slice, slice]) -> torch.Tensor:
    planes = torch.zeros(1, len(BAGS), 16, 16, dtype=torch.uint8)
    for number, (kind, rows, columns) in enumerate(boxes, start=1):
        planes[0, kind, rows, columns] = number
    return planes


def test_a_box_wants_some_of_its_pixels_and_says_nothing_of_others() -> None:
    logits = torch.full((1, 4, 16, 16), -3.0, requires_grad=True)
    boxes = _boxed((0, slice(2, 10), slice(2, 10)))
    losses = bag_losses(logits, boxes, ("MA", "HE", "EX", "SE"))
    assert set(losses) == {"EX boxes"}
    losses["EX boxes"].backward()
    assert logits.grad is not None
    outside = logits.grad.clone()
    outside[0, 2, 2:10, 2:10] = 0
    assert not outside.any(), "outside all boxes and in other structures nothing is known"
    assert int((logits.grad < 0).sum()) == MIN_PX, "a twentieth of the box, at least a few pixels"
    found = torch.full((1, 4, 16, 16), -3.0)
    found[0, 2, 4:6, 4:6] = 6.0
    assert bag_losses(found, boxes, ("MA", "HE", "EX", "SE"))["EX boxes"] < 0.01 < losses["EX boxes"]


def test_a_box_of_red_lesions_is_answered_by_either_kind() -> None:
    boxes = _boxed((1, slice(0, 4), slice(0, 4)), (1, slice(8, 14), slice(8, 14)))
    dots = torch.full((1, 4, 16, 16), -5.0)
    dots[0, 0, 0:4, 0:4] = 8.0  # MA in the first, HE in the second
    dots[0, 1, 9:13, 9:13] = 8.0
    codes = ("MA", "HE", "EX", "SE")
    assert bag_losses(dots, boxes, codes)["HE boxes"] < 0.01
    dots[0, 1] = -5.0
    assert bag_losses(dots, boxes, codes)["HE boxes"] == pytest.approx(5 / 2, rel=0.02)
    assert not bag_losses(dots[:, :1], boxes, ("MA",)), "a network without haemorrhages learns nothing from them"
    assert not bag_losses(dots, torch.zeros_like(boxes), codes)


def _with_boxes(recipe: Recipe) -> Recipe:
    return recipe.model_copy(update={"loss": recipe.loss.model_copy(update={"boxes": 1.0})})


def test_boxes_are_where_the_lesions_are_seen(photo: Path, tiny: Recipe, cache: Path) -> None:
    """Every box is filled with one number, around what it was drawn around, and only where it is wholly in the crop."""
    plane = EYE.masks["EX"]
    rows, columns = np.nonzero(plane)
    box = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    small = tuple(float(edge) for edge in box)
    masks = {"EX": Mask((photo.with_name("EX.png"),), read_mask)}
    case = _case(photo, Labels(masks=masks, boxes={"EX": (small,), "OD": ((1.0, 1.0, 5.0, 5.0),)}))  # pyright: ignore
    wide = tiny.model_copy(update={"views": tiny.views.model_copy(update={"whole_px": SIDE, "close_px": SIDE})})
    seen = 0
    for seed in range(8):
        sample = _sample(case, "close", _with_boxes(wide), cache, seed)
        red, bright = sample.bags[RED], sample.bags[BRIGHT]
        assert not red.any()
        if bright.any():
            seen += 1
            lesion = sample.coverage[CHANNELS.index("EX")] > 200
            assert set(bright.unique().tolist()) == {0, 1}
            assert (bright[lesion] == 1).float().mean() > 0.97
    assert seen, "the box is wholly in none of eight crops as large as the eye"
    assert not _sample(case, "whole", _with_boxes(wide), cache).bags.any()
    assert _sample(case, "close", wide, cache).bags is None


def test_a_photo_with_boxes_alone_serves_the_recipes_that_learn_from_them(tiny: Recipe) -> None:
    labels = Labels(grade=3, dme=2, boxes={"HE": ((10.0, 10.0, 30.0, 30.0),)})
    assert not serves(labels, "close", tiny)
    assert serves(labels, "close", _with_boxes(tiny))
    assert not serves(Labels(grade=3, dme=2), "close", _with_boxes(tiny))


def test_crops_are_cut_around_boxes(photo: Path, tiny: Recipe, cache: Path) -> None:
    box = (40.0, 40.0, 60.0, 60.0)
    case = _case(photo, Labels(grade=3, dme=2, boxes={"HE": (box,)}))
    recipe = _with_boxes(tiny)
    sampling = recipe.sampling.model_copy(update={"lesion_centered": 1.0})
    recipe = recipe.model_copy(update={"sampling": sampling})
    inside = [_sample(case, "close", recipe, cache, seed, **STILL).bags[RED].any().item() for seed in range(10)]
    assert all(inside)


def _voted(photo: Path) -> Case:
    return _case(photo, Labels(votes={"HE": photo.with_name("HE-votes.png")}, experts={"HE": 3}))


def test_regions_that_experts_agree_on_are_where_the_lesions_are(photo: Path, tiny: Recipe, cache: Path) -> None:
    """In the frame and in every crop: around the lesions, what one expert alone marked left out."""
    case = _voted(photo)
    wide = tiny.model_copy(update={"views": tiny.views.model_copy(update={"whole_px": SIDE, "close_px": SIDE})})
    lesions = prepare(
        replace(case, labels=Labels(masks={"HE": Mask((photo.with_name("HE-votes.png"),), _agreed)})), SIDE
    )
    seen = 0
    for seed in range(8):
        sample = _sample(case, "close", _with_boxes(wide), cache, seed, **STILL)
        region = sample.bags[VOTED].numpy() > 0
        unknown = ~sample.known[CHANNELS.index("HE")].numpy()
        assert not sample.bags[[BRIGHT, RED]].any()
        assert (region <= unknown).mean() > 0.99, "a region is no background"
        seen += region.sum() > 0
        assert region.sum() <= 1.5 * (lesions.coverage["HE"] > 100).sum()
    assert seen
    assert not _sample(case, "whole", _with_boxes(wide), cache).bags.any()


def _agreed(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path)) >= 120


def test_regions_come_back_from_the_cache_as_they_were_made(photo: Path, cache: Path) -> None:
    case = _voted(photo)
    made, read = prepare(case, SIDE).regions, read_prepared(cached(case, SIDE, cache)).regions
    assert made["HE"]
    assert len(made["HE"]) == len(read["HE"])
    assert all(np.array_equal(one, other) for one, other in zip(made["HE"], read["HE"], strict=True))


def test_a_network_learns_from_a_region(photo: Path, tiny: Recipe, cache: Path) -> None:
    """Where it finds nothing it pays, and what it pays for is inside."""
    wide = tiny.model_copy(update={"views": tiny.views.model_copy(update={"whole_px": SIDE, "close_px": SIDE})})
    bags = next(
        found[None]
        for seed in range(8)
        if (found := _sample(_voted(photo), "close", _with_boxes(wide), cache, seed).bags)[VOTED].any()
    )
    codes = tuple(wide.tasks.structures)
    logits = torch.full((1, len(codes), SIDE, SIDE), -3.0, requires_grad=True)
    (loss,) = bag_losses(logits, bags, codes).values()
    loss.backward()
    assert logits.grad is not None
    paid = logits.grad[0].abs().sum(0) > 0
    assert paid.any()
    assert (bags[0, VOTED] > 0)[paid].all()
    assert not logits.grad[0, [index for index, code in enumerate(codes) if code != "HE"]].any()
