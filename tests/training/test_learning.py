"""A network learns on drawn eyes: its loss falls, and on unseen eyes it beats whoever only knows the average eye."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from funduscope import checkpoint
from funduscope.data.case import Case, Labels
from funduscope.data.prepare import cached, read_prepared
from funduscope.network.network import Network, build
from funduscope.recipe import Recipe
from funduscope.testing.drawn_eyes import Style, draw_eye
from funduscope.training.loop import Loop

SIDE = 64
STYLE = Style(aspect=1.0, radius_frac=0.48, center_frac=(0.5, 0.5), notch=False)


def _cases(folder: Path, seeds: range) -> list[Case]:
    """Drawn photos of both sides, with the disc's and the fovea's places."""
    cases = []
    for seed in seeds:
        eye = draw_eye(seed, grade=0, width_px=256, laterality="right" if seed % 2 else "left", style=STYLE)
        path = folder / f"{seed}.png"
        Image.fromarray(eye.pixels).save(path)
        labels = Labels(disc_xy=eye.disc_xy, fovea_xy=eye.fovea_xy)
        cases.append(Case(f"drawn/{seed}", "drawn", str(seed), path, str(seed), labels))
    return cases


def _points(network: Network, image: np.ndarray) -> np.ndarray:
    """(2, 2) frame pixels: the mean point of each map."""
    with torch.inference_mode():
        logits = network(torch.from_numpy(image)[None]).landmarks
    assert logits is not None
    size = logits.shape[-1]
    probs = logits[0].flatten(1).softmax(1).view(2, size, size)
    grid = (torch.arange(size) + 0.5) * (image.shape[0] / size)
    return torch.stack([(probs.sum(1) * grid).sum(1), (probs.sum(2) * grid).sum(1)], 1).numpy()


@pytest.fixture(scope="module")
def recipe(changes: list[str]) -> Recipe:
    """Landmarks alone, at a rate for starting from nothing."""
    only = [
        "tasks.grade=false",
        "tasks.dme=false",
        "tasks.structures=[]",
        "views.close_px=64",
        "sampling.whole={drawn = 4}",
        "sampling.close={}",
        "training.epochs=6",
        "training.batch=8",
        "training.workers=0",
        "training.learning_rate=2e-3",
        "training.patience=6",
        "augment.rotate_deg=5",
        "loss.landmarks=1",
    ]
    return Recipe.load("plain", changes + only)


@pytest.mark.slow
def test_a_network_learns_where_the_disc_and_the_fovea_are(recipe: Recipe, cache: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    seen, unseen = _cases(tmp_path, range(24)), _cases(tmp_path, range(100, 116))
    files = {case.key: cached(case, SIDE, cache) for case in (*seen, *unseen)}
    folder = tmp_path / "run"
    folder.mkdir()
    Loop(recipe, build(recipe), seen, files, folder, None).run(lambda _: None)
    lines = [json.loads(line) for line in (folder / "journal.jsonl").read_text().splitlines()]
    losses = [line["loss landmarks"] for line in lines]
    assert losses[-1] < losses[0] - 0.8, losses

    network = checkpoint.load(folder / "best.safetensors").network()

    def truth(case: Case) -> np.ndarray:
        transform = read_prepared(files[case.key]).transform
        return transform.to_frame(np.array([case.labels.disc_xy, case.labels.fovea_xy]))

    average = np.mean([truth(case) for case in seen], axis=0)
    guessed = np.mean([np.linalg.norm(average - truth(case), axis=1) for case in unseen], axis=0)
    points = {case.key: _points(network, read_prepared(files[case.key]).image) for case in unseen}
    found = np.mean([np.linalg.norm(points[case.key] - truth(case), axis=1) for case in unseen], axis=0)
    assert found[0] < 0.4 * guessed[0], f"disc: {found[0]:.1f} px, average eye {guessed[0]:.1f} px"
    assert found[1] < guessed[1], f"fovea: {found[1]:.1f} px, average eye {guessed[1]:.1f} px"
