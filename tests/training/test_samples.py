"""What an epoch shows, and what of each sample is known: nothing is made up, nothing that is known is lost."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from funduscope.data.case import ABSENT, Case, Labels, Mask
from funduscope.data.masks import read_mask, size_of
from funduscope.data.prepare import CHANNELS, DISC_IN_BOX, cached, prepare, read_prepared
from funduscope.recipe import Recipe
from funduscope.testing.drawn_eyes import Style, draw_eye
from funduscope.training.batch import Batch, Item, Samples, _crop_center, frame_px
from funduscope.training.photo_dataset import NO_AUGMENTATION
from funduscope.training.samples import draw_epoch, has_examples, serves
from funduscope.vocabulary import EITHER_EXUDATE, LESIONS, View

SIDE, CROP = 128, 64
STYLE = Style(aspect=1.0, radius_frac=0.48, center_frac=(0.5, 0.5), notch=False)
EYE = draw_eye(11, grade=3, dme=2, width_px=320, style=STYLE)


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One drawn photo with a mask of each of its structures."""
    folder = tmp_path_factory.mktemp("photo")
    Image.fromarray(EYE.pixels).save(folder / "eye.png")
    for code, mask in EYE.masks.items():
        Image.fromarray(mask.astype(np.uint8) * 255).save(folder / f"{code}.png")
    return folder / "eye.png"


def _mask(photo: Path, code: str) -> Mask:
    return Mask((photo.with_name(f"{code}.png"),), read_mask)


def _case(photo: Path, labels: Labels, name: str = "eye", dataset: str = "set") -> Case:
    return Case(f"{dataset}/{name}", dataset, name, photo, name, labels)


def _sample(case: Case, view: View, tiny: Recipe, cache: Path, *seed: int, **augment: float) -> Batch:
    recipe = tiny.model_copy(update={"augment": tiny.augment.model_copy(update=augment)})
    return Samples({case.key: cached(case, SIDE, cache)}, recipe)[Item(case, view, seed or (1, 1, 1))]


STILL = {"mirror": 0.0, "rotate_deg": 0.0, "scale_frac": 0.0, "shift_frac": 0.0, "brightness": 0.0, "contrast": 0.0}
STILL |= {"gamma": 0.0, "color": 0.0, "blur": 0.0, "noise": 0.0, "jpeg": 0.0}


def _known(sample: Batch) -> set[str]:
    return {code for index, code in enumerate(CHANNELS) if sample.known[index].any()}


def _allowed(sample: Batch) -> dict[str, list[int]]:
    """The classes that are possible, by task."""
    return {task: allowed.nonzero().flatten().tolist() for task, allowed in sample.allowed.items()}


@pytest.mark.parametrize("view", ["whole", "close"])
def test_of_an_unlabeled_photo_nothing_is_known(view: View, photo: Path, tiny: Recipe, cache: Path) -> None:
    sample = _sample(_case(photo, Labels()), view, tiny, cache)
    assert sample.image.shape == (CROP, CROP, 3)
    assert all(allowed.all() for allowed in sample.allowed.values())
    assert not sample.known.any()
    assert not sample.landmarks_known.any()


def test_the_whole_view_has_the_photos_labels_and_no_lesions(photo: Path, tiny: Recipe, cache: Path) -> None:
    masks = {code: _mask(photo, code) for code in ("MA", "EX", "OD")}
    labels = Labels(grade=3, dme=2, disc_xy=EYE.disc_xy, fovea_xy=EYE.fovea_xy, masks=masks)
    sample = _sample(_case(photo, labels), "whole", tiny, cache)
    assert _allowed(sample) == {"grade": [3], "dme": [2]}
    assert sample.landmarks_known.all()
    assert _known(sample) == {"OD"}


def test_the_close_view_has_lesions_alone(photo: Path, tiny: Recipe, cache: Path) -> None:
    masks = {code: _mask(photo, code) for code in ("MA", "EX", "OD")}
    labels = Labels(grade=3, dme=2, disc_xy=EYE.disc_xy, fovea_xy=EYE.fovea_xy, masks=masks)
    sample = _sample(_case(photo, labels), "close", tiny, cache)
    assert _allowed(sample) == {"grade": [0, 1, 2, 3, 4], "dme": [0, 1, 2]}
    assert not sample.landmarks_known.any()
    assert _known(sample) == {"MA", "EX"}


@pytest.mark.parametrize(
    ("labels", "absent"),
    [
        (Labels(grade=0), {"MA", "HE", "EX", "SE"}),
        (Labels(grade=1), {"HE", "EX", "SE"}),
        (Labels(grade=2, dme=0), {"EX"}),
        (Labels(grade=2, dme=1), set()),
        (Labels(masks={EITHER_EXUDATE: ABSENT}), {"EX", "SE", EITHER_EXUDATE}),
    ],
)
def test_what_a_grade_rules_out_is_known_to_be_absent(
    labels: Labels, absent: set[str], photo: Path, tiny: Recipe, cache: Path
) -> None:
    sample = _sample(_case(photo, labels), "close", tiny, cache, **STILL)
    assert _known(sample) == absent
    assert not sample.coverage.any()
    assert not _known(_sample(_case(photo, labels), "whole", tiny, cache))


def test_exudates_of_either_kind(photo: Path, tiny: Recipe, cache: Path) -> None:
    """Outside neither is there; inside one of the two is, and nobody said which."""
    case = _case(photo, Labels(masks={EITHER_EXUDATE: _mask(photo, "EX")}))
    for seed in range(5):
        sample = _sample(case, "close", tiny, cache, seed)
        both, ex, se = (CHANNELS.index(code) for code in (EITHER_EXUDATE, "EX", "SE"))
        known = sample.known
        assert _known(sample) <= {EITHER_EXUDATE, "EX", "SE"}
        assert not sample.coverage[[ex, se]].any()
        assert not known[[ex, se]][:, sample.coverage[both] > 127].any()
        assert (known[ex] == known[se]).all()
        assert not (known[ex] & ~known[both]).any()
    framed = prepare(case, SIDE)
    assert (framed.known["EX"] == (framed.coverage[EITHER_EXUDATE] == 0)).all()


def test_regions_of_experts_are_certain_only_where_nobody_marked(
    photo: Path, tiny: Recipe, cache: Path, tmp_path: Path
) -> None:
    votes = np.zeros(EYE.pixels.shape[:2], np.uint8)
    cv2.circle(votes, (160, 160), 40, 60, -1)
    Image.fromarray(votes).save(tmp_path / "votes.png")
    labels = Labels(votes={"HE": tmp_path / "votes.png"}, experts={"HE": 1, "SE": 0, "MA": 2, "EX": 3})
    case = _case(photo, labels)
    framed = prepare(case, SIDE)
    assert framed.absent == ("SE",)
    assert framed.known.keys() == {"HE"}
    marked = cv2.dilate((framed.transform.map_to_frame(votes > 0) > 0).astype(np.uint8), np.ones((3, 3))) > 0
    assert not framed.known["HE"][framed.transform.map_to_frame(votes > 0) > 0].any()
    assert framed.known["HE"][~marked].all()
    samples = [_sample(case, "close", tiny, cache, seed) for seed in range(4)]
    assert all(_known(sample) <= {"HE", "SE"} for sample in samples)
    assert not any(sample.coverage.any() for sample in samples)


def test_a_box_around_the_disc_is_its_ellipse(photo: Path, tiny: Recipe, cache: Path) -> None:
    y, x = np.nonzero(EYE.masks["OD"])
    center = np.array([x.min() + x.max() + 1, y.min() + y.max() + 1]) / 2
    half = np.array([np.ptp(x) + 1, np.ptp(y) + 1]) / DISC_IN_BOX / 2  # boxes are drawn a little too large
    box = (*(center - half).tolist(), *(center + half).tolist())
    framed = prepare(_case(photo, Labels(boxes={"OD": (box,)})), 512)
    truth = framed.transform.map_to_frame(EYE.masks["OD"])
    disc = framed.coverage["OD"] / 255
    assert np.minimum(disc, truth).sum() / np.maximum(disc, truth).sum() > 0.95
    sample = _sample(_case(photo, Labels(boxes={"OD": (box,)})), "whole", tiny, cache, **STILL)
    assert _known(sample) == {"OD"}


def test_image_masks_and_points_of_a_sample_agree(photo: Path, tiny: Recipe, cache: Path) -> None:
    """The disc's mask lies around the disc's point, whatever was drawn."""
    labels = Labels(disc_xy=EYE.disc_xy, fovea_xy=EYE.fovea_xy, masks={"OD": _mask(photo, "OD")})
    for seed in range(12):
        sample = _sample(_case(photo, labels), "whole", tiny, cache, seed)
        plane = sample.coverage[CHANNELS.index("OD")].numpy().astype(float)
        y, x = np.mgrid[:CROP, :CROP] + 0.5
        center = np.array([(x * plane).sum(), (y * plane).sum()]) / plane.sum()
        if sample.landmarks_known[0] and not plane[[0, -1]].any() and not plane[:, [0, -1]].any():
            assert np.abs(center - sample.landmarks[0].numpy()).max() < 0.7


def test_what_comes_from_beyond_the_frame_is_unknown(photo: Path, tiny: Recipe, cache: Path) -> None:
    case = _case(photo, Labels(grade=0, masks={"OD": _mask(photo, "OD")}))
    moved = STILL | {"shift_frac": 0.5, "rotate_deg": 30.0}
    partly = 0
    for seed in range(8):
        for view, code in (("whole", "OD"), ("close", "MA")):
            sample = _sample(case, view, tiny, cache, seed, **moved)
            known = sample.known[CHANNELS.index(code)].numpy()
            partly += not known.all()
            assert not sample.image.numpy()[cv2.erode((~known).astype(np.uint8), np.ones((3, 3))) > 0].any()
    assert partly >= 8


def test_a_landmark_that_left_the_sample_is_unknown(photo: Path, tiny: Recipe, cache: Path) -> None:
    labels = Labels(disc_xy=(-50.0, 100.0), fovea_xy=EYE.fovea_xy)
    assert _sample(_case(photo, labels), "whole", tiny, cache, **STILL).landmarks_known.tolist() == [False, True]


def test_a_constraint_is_handed_on_where_there_is_no_label(photo: Path, tiny: Recipe, cache: Path) -> None:
    labels = Labels(classes={"dme": frozenset({1, 2})})
    assert _allowed(_sample(_case(photo, labels), "whole", tiny, cache))["dme"] == [1, 2]
    assert _allowed(_sample(_case(photo, labels), "close", tiny, cache))["dme"] == [0, 1, 2]


def test_a_sample_is_the_same_whenever_it_is_made(photo: Path, tiny: Recipe, cache: Path) -> None:
    case = _case(photo, Labels(grade=3, masks={"MA": _mask(photo, "MA"), "OD": _mask(photo, "OD")}))
    for view in ("whole", "close"):
        one, again, other = (_sample(case, view, tiny, cache, 5, 1, place) for place in (1, 1, 2))
        for field in ("image", "coverage", "known", "landmarks", "landmarks_known"):
            assert torch.equal(getattr(one, field), getattr(again, field))
        assert not np.array_equal(one.image, other.image)


def test_crops_are_turned_unless_nothing_is_to_be_changed(photo: Path, tiny: Recipe, cache: Path) -> None:
    plain = tiny.model_copy(update={"augment": NO_AUGMENTATION})
    case = _case(photo, Labels(grade=3))
    files = {case.key: cached(case, SIDE, cache)}
    quarters = set[int]()
    for number in range(30):
        item = Item(case, "close", (1, number))
        turned, upright = (Samples(files, plain, turned=one)[item].image.numpy() for one in (True, False))
        quarters.update(k for k in range(4) if np.array_equal(np.rot90(upright, k), turned))
    assert quarters == {0, 1, 2, 3}


def test_boxes_of_lesions_are_examples_where_they_are_learned_from(photo: Path) -> None:
    """Otherwise healthy eyes alone would teach that there are no lesions."""
    changes = (
        "tasks={grade=false, dme=false, landmarks=[], structures=['MA', 'HE', 'EX', 'SE']}",
        "sampling.close.set=1",
    )
    boxed = _case(photo, Labels(grade=2, boxes={"EX": ((1.0, 1.0, 9.0, 9.0),)}))
    for weight, expected in ((0.2, True), (0.0, False)):
        recipe = Recipe.load("plain", [*changes, f"loss.boxes={weight}"])
        assert has_examples(recipe, [boxed]) is expected


@pytest.mark.parametrize(("view", "expected"), [("close", True), ("whole", False)])
def test_a_structure_is_an_example_in_the_view_that_learns_it(photo: Path, view: View, expected: bool) -> None:
    masked = _case(photo, Labels(masks={"MA": _mask(photo, "MA")}))
    assert has_examples(Recipe.load("plain", [f"sampling.{view}.set=1"]), [masked]) is expected


def test_a_file_that_marks_nothing_is_no_example(photo: Path) -> None:
    """A clinic's tool may write one for every structure of a healthy eye."""
    height, width = size_of(photo)
    Image.fromarray(np.zeros((height, width), np.uint8)).save(photo.with_name("blank.png"))
    recipe = Recipe.load("plain", ["sampling.close.set=1"])
    blank = Mask((photo.with_name("blank.png"),), read_mask, "absent")
    shown = Mask((photo.with_name("MA.png"),), read_mask, "absent")
    assert not has_examples(recipe, [_case(photo, Labels(masks={"MA": blank}))])
    assert has_examples(recipe, [_case(photo, Labels(masks={"HE": blank, "MA": shown}))])


def test_crops_go_where_lesions_are(photo: Path, tiny: Recipe) -> None:
    """Each kind as often as the others, and each lesion of a kind, large or small; with none, anywhere."""
    side = 256
    lesions = {"MA": [(40, 40, 3)], "SE": [(200, 60, 20), (60, 200, 3)]}
    coverage = {code: np.zeros((side, side), np.float32) for code in lesions}
    for code, places in lesions.items():
        for x, y, size in places:
            coverage[code][y : y + size, x : x + size] = 1
    prepared = replace(prepare(_case(photo, Labels()), side), coverage=coverage)

    def near(lesion_centered: float) -> list[int]:
        sampling = tiny.sampling.model_copy(update={"lesion_centered": lesion_centered})
        recipe = tiny.model_copy(update={"sampling": sampling})
        rng, reach = np.random.default_rng(0), recipe.views.whole_px / 4 + 12
        centers = np.array([_crop_center(prepared, {}, recipe, rng) for _ in range(400)])
        places = [(x + size / 2, y + size / 2) for of_kind in lesions.values() for x, y, size in of_kind]
        return [int((np.abs(centers - place).max(axis=1) < reach).sum()) for place in places]

    microaneurysm, large, small = near(1.0)
    assert 160 < microaneurysm < 240
    assert 70 < large < 130
    assert 70 < small < 130
    assert sum(near(0.0)) < 200


def _cases(photo: Path, count: int, dataset: str, labels: Labels) -> list[Case]:
    return [_case(photo, labels, f"{n}", dataset) for n in range(count)]


def test_an_epoch_is_the_same_whenever_it_is_drawn(photo: Path, tiny: Recipe) -> None:
    cases = _cases(photo, 20, "idrid-B", Labels(grade=0))
    assert draw_epoch(cases, tiny, 1) == draw_epoch(cases, tiny, 1)
    assert draw_epoch(cases, tiny, 1) != draw_epoch(cases, tiny, 2)
    other = tiny.model_copy(update={"training": tiny.training.model_copy(update={"seed": 1})})
    assert draw_epoch(cases, tiny, 1) != draw_epoch(cases, other, 1)
    seeds = {item.seed for epoch in (1, 2) for item in draw_epoch(cases, tiny, epoch)}
    assert len(seeds) == sum(len(draw_epoch(cases, tiny, epoch)) for epoch in (1, 2)), "no two draws share a seed"


def test_rates_are_kept(photo: Path, changes: list[str]) -> None:
    sets = ["sampling.whole={often = 2.3, seldom = 0.25, never = 0}", "sampling.close={often = 1}"]
    recipe = Recipe.load("plain", changes + sets)
    cases = [
        case
        for dataset in ("often", "seldom", "never", "unnamed")
        for case in _cases(photo, 100, dataset, Labels(grade=2))
    ]
    counts: Counter[str] = Counter()
    per_case: set[int] = set()
    for epoch in range(1, 11):
        drawn = Counter(item.case.key for item in draw_epoch(cases, recipe, epoch))
        per_case |= {drawn[case.key] for case in cases if case.dataset == "often"}
        for key, times in drawn.items():
            counts[key.split("/")[0]] += times
    assert per_case == {2, 3}
    assert counts.keys() == {"often", "seldom"}
    assert counts["often"] == pytest.approx(2300, rel=0.03)
    assert counts["seldom"] == pytest.approx(250, rel=0.2)


@pytest.mark.parametrize(
    ("labels", "whole", "close"),
    [
        (Labels(), False, False),
        (Labels(quality="good"), False, False),
        (Labels(grade=0), True, True),
        (Labels(grade=2), True, False),
        (Labels(dme=0), True, True),
        (Labels(classes={"dme": frozenset({1, 2})}), True, False),
        (Labels(disc_xy=(1.0, 2.0)), True, False),
        (Labels(masks={"OD": ABSENT}), True, False),
        (Labels(boxes={"OD": ((1.0, 2.0, 3.0, 4.0),)}), True, False),
        (Labels(boxes={"EX": ((1.0, 2.0, 3.0, 4.0),)}), False, False),
        (Labels(masks={"EX": ABSENT}), False, True),
        (Labels(votes={"EX": Path("votes.png")}, experts={"EX": 1}), False, True),
        (Labels(experts={"EX": 0}), False, True),
        (Labels(experts={"EX": 2}), False, False),
        (Labels(boxes={"OD": ()}), False, False),
    ],
)
def test_a_view_is_drawn_only_where_it_can_teach(
    labels: Labels, whole: bool, close: bool, photo: Path, tiny: Recipe
) -> None:
    assert (serves(labels, "whole", tiny), serves(labels, "close", tiny)) == (whole, close)
    recipe = tiny.model_copy(
        update={"sampling": tiny.sampling.model_copy(update={"whole": {"set": 1.0}, "close": {"set": 1.0}})}
    )
    views = {item.view for item in draw_epoch([_case(photo, labels)], recipe, 1)}
    assert views == {view for view, wanted in (("whole", whole), ("close", close)) if wanted}


def test_what_is_read_back_from_the_cache_is_what_was_prepared(photo: Path, cache: Path) -> None:
    case = _case(photo, Labels(grade=1, masks={EITHER_EXUDATE: _mask(photo, "EX"), "OD": _mask(photo, "OD")}))
    case = replace(case, name="again")
    made, read = prepare(case, SIDE), read_prepared(cached(case, SIDE, cache))
    assert read.transform == made.transform
    assert read.absent == made.absent
    assert (read.coverage.keys(), read.known.keys()) == (made.coverage.keys(), made.known.keys())
    assert {*made.coverage, *made.absent, *made.known} <= {*LESIONS, "OD", EITHER_EXUDATE}
    assert np.array_equal(read.image, made.image)


def test_rare_grades_come_more_often_and_a_set_as_often_as_before(tiny: Recipe, tmp_path: Path) -> None:
    cases = [_case(tmp_path, Labels(grade=0), f"a{i}") for i in range(90)]
    cases += [_case(tmp_path, Labels(grade=4), f"b{i}") for i in range(10)]
    counts = {}
    for power in (0.0, 0.5, 1.0):
        sampling = tiny.sampling.model_copy(update={"whole": {"set": 3.0}, "close": {}, "grade_power": power})
        items = draw_epoch(cases, tiny.model_copy(update={"sampling": sampling}), 0)
        counts[power] = Counter(item.case.labels.grade for item in items)
    assert counts[0.0] == {0: 270, 4: 30}
    assert counts[0.5][0] == pytest.approx(225, abs=20)  # 3 to 1
    assert counts[1.0][4] == pytest.approx(150, abs=15)
    assert all(sum(each.values()) == pytest.approx(300, abs=25) for each in counts.values())


def test_a_whole_eye_from_a_large_frame_looks_as_it_is_predicted_on(photo: Path, tiny: Recipe, cache: Path) -> None:
    """One frame pixel in five would flicker; a shrunk eye is what the model sees when it answers."""
    labels = Labels(grade=3, masks={"OD": _mask(photo, "OD")}, fovea_xy=EYE.fovea_xy)
    case = _case(photo, labels)
    recipe = tiny.model_copy(update={"augment": tiny.augment.model_copy(update=STILL)})
    large = Samples({case.key: cached(case, 5 * CROP, cache)}, recipe)[Item(case, "whole", (1,))]
    framed = prepare(case, 5 * CROP)
    seen = cv2.resize(framed.image, (CROP, CROP), interpolation=cv2.INTER_AREA)
    assert np.abs(large.image.numpy().astype(int) - seen).mean() < 1.0
    fovea = framed.transform.to_frame(np.array([EYE.fovea_xy])) / 5
    assert large.landmarks[1].numpy() == pytest.approx(fovea[0], abs=1e-3)


def test_frames_are_no_larger_than_what_is_learned_from_them(photo: Path, tiny: Recipe, cache: Path) -> None:
    """Where nothing is learned from close by, reading large frames would only cost time; the sample is the same."""
    large = tiny.model_copy(update={"views": tiny.views.model_copy(update={"close_px": 5 * CROP})})
    whole = large.model_copy(update={"tasks": large.tasks.model_copy(update={"structures": ("OD",)})})
    whole = whole.model_copy(update={"augment": whole.augment.model_copy(update=STILL)})
    assert (frame_px(large), frame_px(whole)) == (5 * CROP, 2 * CROP)
    case = _case(photo, Labels(grade=3, masks={"OD": _mask(photo, "OD")}))
    made = [
        Samples({case.key: cached(case, side, cache)}, whole)[Item(case, "whole", (1,))]
        for side in (5 * CROP, 2 * CROP)
    ]
    from_large, from_small = (one.image.numpy().astype(int) for one in made)
    assert np.abs(from_large - from_small).mean() < 2


def test_crops_are_centered_on_what_the_recipe_seeks_alone(photo: Path, tiny: Recipe, cache: Path) -> None:
    """The prepared file has the masks of every structure; a recipe of one must not look at the others' places."""
    only = tiny.model_copy(
        update={
            "tasks": tiny.tasks.model_copy(update={"structures": ("MA", "OD")}),
            "sampling": tiny.sampling.model_copy(update={"lesion_centered": 1.0}),
        }
    )
    both = Labels(masks={code: _mask(photo, code) for code in ("MA", "EX")})
    alone = Labels(masks={"MA": _mask(photo, "MA"), "EX": ABSENT})
    for seed in range(4):
        crops = [_sample(_case(photo, labels), "close", only, cache, 1, 1, seed).image for labels in (both, alone)]
        assert bool((crops[0] == crops[1]).all())
