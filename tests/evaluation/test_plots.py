"""The pictures of an evaluation: all of them for what was scored, none for what was not."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from funduscope.data.case import ABSENT, Case, Labels, Mask
from funduscope.data.masks import read_mask
from funduscope.evaluation.plots import FALSE, GAP_PX, MISSED, RIGHT, _ends, _grade_merit, _tile, draw_all, drawn_names
from funduscope.evaluation.score_photo import score_photo, shrunk
from funduscope.evaluation.scores import PhotoScore, Scores, summarize
from funduscope.i18n.messages import Message
from funduscope.imaging.framing import CropTransform
from funduscope.imaging.photo import Photo
from funduscope.inference.card import Card
from funduscope.inference.findings import Failure, Findings
from funduscope.testing.drawn_eyes import draw_eye

pytest.importorskip("matplotlib")

CARD = Card(structures=("EX", "OD"))


def scored(number: int, folder: Path, rng: np.random.Generator) -> PhotoScore:
    """A drawn eye on disk and an answer that is somewhat off."""
    eye = draw_eye(number, grade=number % 5, width_px=480)
    path = folder / f"IDRiD $1_$2 {number:02d}.png"  # dollars would be mathematics to matplotlib
    Image.fromarray(eye.pixels).save(path, compress_level=1)
    masks: dict[str, Mask] = {}
    for code in CARD.structures:
        file = folder / f"{number}_{code}.png"
        Image.fromarray(eye.masks[code]).save(file)
        masks[code] = Mask((file,), read_mask) if eye.masks[code].any() else ABSENT
    labels = Labels(eye.grade, eye.dme, disc_xy=eye.disc_xy, fovea_xy=eye.fovea_xy, masks=masks)
    case = Case(f"own/{number}", "own", path.stem, path, f"own/{number}", labels)
    height, width = eye.pixels.shape[:2]
    photo, transform = Photo.open(eye.pixels), CropTransform(0, 0, width, width, width, height)
    if number == 9:
        return score_photo(Findings(photo, transform, CARD, "", (Message("TOO_DARK", "Dark."),)), case, CARD)
    planes = {code: np.zeros((width, width), np.float32) for code in CARD.structures}
    for code, plane in planes.items():
        plane[:height] = 0.9 * np.roll(eye.masks[code], number // 3, axis=1) + 0.1 * rng.random((height, width))
    off = rng.normal(0, 4, (2, 2))
    answer = Findings(
        photo,
        transform,
        CARD,
        "",
        class_probs={
            "grade": rng.dirichlet(np.eye(5)[eye.grade] * 3 + 0.5),
            "dme": rng.dirichlet(np.eye(3)[eye.dme] * 3 + 0.5),
        },
        disc_xy=tuple(np.add(eye.disc_xy, off[0])),
        fovea_xy=tuple(np.add(eye.fovea_xy, off[1])),
        frame_probs=planes,
    )
    return score_photo(answer, case, CARD)


@pytest.fixture(scope="module")
def scores(tmp_path_factory) -> Scores:
    folder, rng = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    return summarize([scored(number, folder, rng) for number in range(10)], repeats=10)


def test_everything_that_was_scored_is_drawn(scores, tmp_path):
    files = draw_all(scores, tmp_path)
    names = {"precision_recall", "confusion", "reliability", "distances", "photos_grade", "photos_EX", "photos_OD"}
    assert {file.name for file in files} == {f"own_{name}.png" for name in names}
    for file in files:
        with Image.open(file) as picture:
            assert min(picture.size) > 300
            # Not a blank sheet.
            assert len(np.unique(np.asarray(picture.convert("L")))) > 20


def test_what_an_earlier_evaluation_drew_is_known_by_its_name(scores, tmp_path):
    drawn = {path.name for path in draw_all(scores, tmp_path)}
    (tmp_path / "my_photos.png").write_bytes(b"work")
    assert set(drawn_names(scores.details, tmp_path)) == drawn


def test_what_was_not_scored_is_not_drawn(scores, tmp_path):
    case = Case("own/a", "own", "a", Path("a.jpg"), "own/a", Labels(grade=1))
    alone = summarize([score_photo(Failure("a.jpg", "E_EMPTY", "Empty."), case, CARD)], repeats=2)
    # The photo itself is gone too: a gray tile stands for it.
    assert {file.name for file in draw_all(alone, tmp_path)} == {"own_confusion.png", "own_photos_grade.png"}


def test_the_same_scores_give_the_same_pictures(scores, tmp_path):
    few = replace(scores, photos=[])
    first, second = draw_all(few, tmp_path / "a"), draw_all(few, tmp_path / "b")
    assert [file.read_bytes() for file in first] == [file.read_bytes() for file in second]


def test_best_and_worst_are_apart_and_in_order(scores):
    best, worst = _ends(scores.photos, _grade_merit)
    assert not {photo.case.key for photo in best} & {photo.case.key for photo in worst}
    assert _grade_merit(best[0]) >= _grade_merit(best[-1]) >= _grade_merit(worst[-1]) >= _grade_merit(worst[0])
    assert scores.photos[9].refused
    # A refused photo is as bad as the grade it counts as: four off, for a photo of grade 4.
    assert worst[0].case.key == scores.photos[9].case.key
    assert len(_ends(scores.photos[:1], _grade_merit)[1]) == 0


def test_truth_stands_above_what_was_predicted(scores):
    """What was missed is white above and bare below, what is false black below and bare above, what is right in both
    blue: so every place can be seen as it is in one of the two."""
    photo = scores.photos[8]
    bare = _tile(photo, None)
    height = len(bare)
    pair = _tile(photo, "OD")
    assert pair.shape == (2 * height + GAP_PX, bare.shape[1], 3)
    truth, said = pair[:height], pair[-height:]
    true, found = shrunk(photo.case.labels.masks["OD"].load(*bare.shape[:2])), photo.marks["OD"]
    assert min((true & found).sum(), (true & ~found).sum(), (found & ~true).sum()) > 5
    for where, above, below in (
        (true & found, RIGHT, RIGHT),
        (true & ~found, MISSED, None),
        (found & ~true, None, FALSE),
        (~true & ~found, None, None),
    ):
        np.testing.assert_array_equal(
            truth[where], bare[where] if above is None else np.broadcast_to(above, (where.sum(), 3))
        )
        np.testing.assert_array_equal(
            said[where], bare[where] if below is None else np.broadcast_to(below, (where.sum(), 3))
        )


def test_matplotlib_is_loaded_only_to_draw():
    loaded = "funduscope.evaluation.plots, funduscope.evaluation.score_photo"
    code = f"import sys, {loaded}; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
