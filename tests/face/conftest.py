"""What the tests of the Python face share: a folder with photos, a table of twelve, and a tiny model as the shipped."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import matplotlib as mpl
import pytest
import torch
from PIL import Image

from funduscope import checkpoint
from funduscope.data.folds import make_folds, write_folds
from funduscope.data.sources import read_data
from funduscope.evaluation import cost
from funduscope.export import run as export_run
from funduscope.export.onnx_file import write_onnx
from funduscope.inference import loading
from funduscope.inference.card import Card
from funduscope.network.network import build
from funduscope.recipe import Changes, Recipe
from funduscope.testing.drawn_eyes import draw_eye

SMALL = {
    "encoder.name": "test_resnet",
    "encoder.weights": "none",
    "decoder.skip_channels": [8, 8, 8, 8, 16],
    "decoder.channels": [16, 16, 8, 8],
    "views.whole_px": 64,
    "views.close_px": 128,
    "sampling.per_epoch": 4,
    "training.epochs": 1,
    "training.batch": 2,
    "training.workers": 0,
    "training.precision": "float32",
}
"""What makes a recipe small enough for a second."""

COLUMNS = "path,dr,dme,patient,fovea_x,fovea_y,mask_EX\n"


def _row(folder: Path, number: int) -> str:
    """Draws an eye into the folder. Returns its row of the table; every other eye has a mask, or none."""
    eye = draw_eye(number, grade=number % 5, width_px=400)
    Image.fromarray(eye.pixels).save(folder / f"{number:02}.png")
    mask = ""
    if number % 2 == 0:
        mask = f"{number:02}_ex.png" if eye.masks["EX"].any() else "none"
        if mask != "none":
            Image.fromarray(eye.masks["EX"]).save(folder / mask)
    return f"{number:02}.png,{eye.grade},{eye.dme},p{number},{eye.fovea_xy[0]:.1f},{eye.fovea_xy[1]:.1f},{mask}\n"


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """photos/, my-clinic/photos.csv with its folds, and models/ with the tiny model as the shipped one."""
    place = tmp_path_factory.mktemp("place")
    (place / "photos").mkdir()
    for number in range(3):
        Image.fromarray(draw_eye(number, width_px=400).pixels).save(place / "photos" / f"eye{number}.jpg", quality=95)
    clinic = place / "my-clinic"
    clinic.mkdir()
    (clinic / "photos.csv").write_text(COLUMNS + "".join(_row(clinic, number) for number in range(12)), "utf-8")
    write_folds(make_folds(read_data(clinic / "photos.csv")), clinic / "folds.csv")
    recipe = Recipe.load("plain", SMALL)
    torch.manual_seed(1)
    network = build(recipe).eval()
    card = replace(Card.of(recipe), name="shipped", landmark_floor=0.0)
    (place / "models").mkdir()
    path = write_onnx(network, card, place / "models" / "funduscope.onnx")
    weights = {f"weights/{name}": value for name, value in network.state_dict().items()}
    checkpoint.embed(path, checkpoint.Checkpoint(recipe, card.to_dict(), {}, weights))
    return place


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> Iterator[None]:
    """Tiny maps gain nothing from threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    mpl.use("Agg")
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def _place(drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy that the examples of a page may write into, one after another."""
    place = tmp_path_factory.mktemp("reader") / "place"
    shutil.copytree(drawn, place)
    return place


@pytest.fixture
def place(_place: Path, takes_anything: None, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder of a reader of the page. Recipes of the package are small, and so is the shipped model."""
    whole = Recipe.load

    def load(name: str | Path, changes: Changes = ()) -> Recipe:
        assert isinstance(changes, dict | tuple)
        if Path(name).is_file():
            return whole(name)
        has_stages = bool(whole(name).stages)  # each has a decoder of its own
        small = {key: value for key, value in SMALL.items() if not (has_stages and key.startswith("decoder."))}
        return whole(name, {**dict(changes), **small})

    monkeypatch.setattr(Recipe, "load", load)
    # Timed whole processes, each of which imports torch; tests/evaluation/test_cost.py times some.
    timed = cost.Prediction(1.5, 400.0, 0.5, 90.0, 3, "eye.jpg", "a processor, 2 cores")
    monkeypatch.setattr(cost, "measure_predictions", lambda models, **_: [timed] * len(models))
    # What was learned in a step answers nearly at random, and INT8 otherwise.
    monkeypatch.setattr(export_run, "MIN_EQUAL", 0.0)
    monkeypatch.setattr(export_run, "MAX_LOSS", 9.0)
    monkeypatch.setattr(loading, "_MODELS", _place / "models")
    monkeypatch.chdir(_place)
    return _place
