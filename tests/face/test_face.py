"""The Python face: rows, custom scores, scores read back, runs, samples and losses for a custom loop."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib import pyplot as plt

import funduscope as fs
from funduscope.training import PhotoDataset, bag_losses, class_loss, collate, dense_loss, landmark_loss
from funduscope.vocabulary import CODES

pytestmark = pytest.mark.usefixtures("place")
TABLE = "my-clinic/photos.csv"


@pytest.fixture(scope="module")
def cases(drawn: Path) -> list[fs.Case]:
    """The table's twelve photos."""
    return fs.read_data(drawn / TABLE)


@pytest.fixture
def scores(cases: list[fs.Case]) -> fs.Scores:
    """Of the shipped model, with an extra score that only some photos have."""

    def sought(findings: fs.Findings, case: fs.Case) -> float | None:
        return None if case.labels.grade == 4 else float(case.labels.grade or 0)

    return fs.evaluate("default", cases, extra={"own number": sought})


def test_a_row_has_the_same_columns_for_every_photo(drawn: Path) -> None:
    model = fs.load()
    good, black = model(drawn / "photos" / "eye0.jpg").to_row(), model(np.zeros((300, 300, 3), np.uint8)).to_row()
    assert list(good) == list(black)
    assert (good["gradable"], black["gradable"], black["grade"]) == (True, False, None)
    assert sum(float(good[f"p{grade}"] or 0) for grade in range(5)) == pytest.approx(1, abs=1e-3)
    assert {"MA_count", "EX_area_px", "EX_nearest_fovea_dd", "fovea_x_px", "disc_diameter_px"} <= set(good)
    assert all(value is None or isinstance(value, str | int | float) for value in good.values())


def test_the_field_of_view_is_a_mask(drawn: Path) -> None:
    findings = fs.load()(drawn / "photos" / "eye0.jpg")
    mask, light = findings.field_mask(), findings.photo.pixels.max(axis=2) > 30
    assert (mask.shape, mask.dtype) == (light.shape, bool)
    assert np.count_nonzero(mask & light) / np.count_nonzero(mask | light) > 0.95


def test_an_extra_score_is_a_mean_with_its_interval(scores: fs.Scores, cases: list[fs.Case], tmp_path: Path) -> None:
    known = [case.labels.grade for case in cases if case.labels.grade != 4]
    assert scores.value("table", "own number", "mean") == pytest.approx(np.mean(known))  # pyright: ignore
    interval = scores.tables["table"]["own number"]["mean"]
    assert interval.low < interval.value < interval.high
    assert interval.visits == len(known) == scores.details["table"]["states"]["own number"]["photos"]
    scores.write(tmp_path)
    assert "| own number | mean |" in (tmp_path / "scores.md").read_text("utf-8")
    rows = [json.loads(line) for line in (tmp_path / "photos.jsonl").read_text("utf-8").splitlines()]
    assert sum("own number" in row for row in rows) == len(known)


def test_a_refused_photo_is_counted_next_to_an_extra_score(
    cases: list[fs.Case], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, gone = fs.load(), cases[0].path
    opened = fs.Photo.open

    def refuse(source: Any, **named: Any) -> fs.Photo:
        if source == gone:
            raise fs.PhotoError("E_EMPTY", "It is empty.")
        return opened(source, **named)

    monkeypatch.setattr(fs.Photo, "open", refuse)
    none = {"nan": lambda f, c: math.nan, "infinite": lambda f, c: math.inf}
    found = fs.evaluate(model, cases, extra={"one": lambda findings, case: 1, **none})
    assert found.value("table", "one", "mean") == 1
    counts = found.details["table"]["states"]["one"]
    assert (counts["photos"], counts["refused"]) == (12, 1)
    assert all(math.isnan(found.value("table", name, "mean")) for name in none), "no photo has a number"
    for name in ("DR", "grade", "visit", "EX Dice", "SE by hand"):
        with pytest.raises(ValueError, match="choose another name"):
            fs.evaluate(model, cases, extra={name: lambda findings, case: 1})
    for name in ("", " ", "two\nlines"):
        with pytest.raises(ValueError, match="choose a name of one line"):
            fs.evaluate(model, cases, extra={name: lambda findings, case: 1})
    for value, kind in (("much", "str"), ([1.0, 2.0], "list")):
        with pytest.raises(ValueError, match=f"'own' gave {kind} for table/.*; expected a number or None"):
            fs.evaluate(model, cases, extra={"own": lambda findings, case, value=value: value})  # pyright: ignore[reportArgumentType]


def test_scores_are_read_back_and_named(scores: fs.Scores, tmp_path: Path) -> None:
    scores.write(tmp_path)
    again = fs.Scores.read(tmp_path)
    assert again.to_dict() == scores.to_dict() == json.loads((tmp_path / "scores.json").read_text("utf-8"))
    assert again.about["models"][0]["name"] == "shipped"
    with pytest.raises(FileNotFoundError, match="evaluate --out"):
        fs.Scores.read(tmp_path / "nowhere")
    before = (tmp_path / "photos.jsonl").read_bytes()
    again.write(tmp_path)
    assert (tmp_path / "photos.jsonl").read_bytes() == before
    fs.Scores({}, {}, {}).write(tmp_path)
    assert not (tmp_path / "photos.jsonl").exists(), "it is of other scores"
    for names, there in (
        (("idrid", "DR", "kappa"), "table"),
        (("table", "DRR", "kappa"), "DR calibration"),
        (("table", "DR", "kapa"), "accuracy, kappa"),
    ):
        with pytest.raises(KeyError, match=there):
            again.value(*names)
    assert math.isnan(fs.Scores({}, {}, {}).number(next(iter(scores.intervals)))), "for code that asks what may be"


def test_scores_are_a_data_frame(scores: fs.Scores, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pandas")
    frame = scores.to_frame()
    row = frame[(frame.question == "DR") & (frame.score == "kappa")].iloc[0]
    assert row.value == scores.value("table", "DR", "kappa")
    assert (row.photos, row.refused, len(frame)) == (12, 0, len(scores.intervals))
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ModuleNotFoundError, match="pip install pandas"):
        scores.to_frame()


def test_a_loaded_model_is_scored_as_its_path(place: Path, cases: list[fs.Case], tmp_path: Path) -> None:
    """With the same warning, where it learned from the photos."""
    run = tmp_path / "run"
    run.mkdir()
    (run / "model.onnx").write_bytes((place / "models" / "funduscope.onnx").read_bytes())
    about = {"fold": 0, "validation_fold": 1, "photos": {"train": {"table": 7}, "validation": {"table": 2}}}
    (run / "run.json").write_text(json.dumps(about), "utf-8")
    found = []
    few = [case for case in cases if case.fold not in (0, 1)][:4]
    for model in (str(run), fs.Run(run), fs.load(run), [run]):
        with pytest.warns(UserWarning, match="learned from .* of these 4 photos"):
            found.append(fs.evaluate(model, few).to_dict())
    assert all(one == found[0] for one in found)
    assert found[0]["about"]["models"][0]["learned from"] > 0
    assert fs.evaluate(fs.load(run), cases, 0).about["models"][0]["folds"] == [0]
    with pytest.raises(ValueError, match="leave out fold=0"):
        fs.evaluate([run, run], cases, fold=0)
    with pytest.raises(fs.ModelError, match="names no test fold"):
        fs.evaluate([fs.load(run), fs.load(run)], cases)  # pyright: ignore[reportArgumentType]


def test_findings_are_shown_on_axes(drawn: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    findings = fs.load()(drawn / "photos" / "eye0.jpg")
    figure, axes = plt.subplots()
    assert fs.show(findings, axes) is axes
    picture = axes.images[0].get_array()
    assert picture is not None
    assert picture.shape[0] > findings.photo.height, "the photo and its legend"
    plt.close(figure)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ModuleNotFoundError, match="pip install matplotlib"):
        fs.show(findings)


def test_a_training_is_a_call_that_goes_on(cases: list[fs.Case], tmp_path: Path) -> None:
    lines: list[dict] = []
    run = fs.train("plain", cases, tmp_path / "run", 0, init="default", on_epoch=lines.append)
    assert [line["epoch"] for line in lines] == [line["epoch"] for line in run.journal] == [1]
    assert run.about["init"]["name"] == "funduscope.onnx"
    assert (run.about["fold"], run.recipe.training.epochs) == (0, 1)
    assert run.best.is_file()
    assert run.load().card.name == run.recipe.name
    assert run.scores.details["table"]["photos"] == run.about["photos"]["validation"]["table"]
    again = fs.train("plain", cases, run, 0, init="default", on_epoch=lines.append)
    assert again == run
    assert len(lines) == 1, "nothing was left to do"


def test_a_setting_is_changed_by_its_name() -> None:
    recipe = fs.Recipe.load("plain", {"sampling.whole": {"table": 2}, "training.seed": 3})
    assert (recipe.sampling.whole, recipe.training.seed) == ({"table": 2}, 3)


def test_samples_for_a_loop_of_ones_own(cases: list[fs.Case]) -> None:
    recipe = fs.Recipe.load("plain")
    plain = PhotoDataset(cases, recipe=recipe)
    assert len(plain) == 12
    assert torch.equal(plain[3].image, plain[3].image), "a whole eye that is not augmented is always the same"
    assert plain[3].image.shape == (64, 64, 3)
    moved = PhotoDataset(cases, augment=True, recipe=recipe)
    torch.manual_seed(4)
    first, second = moved[3].image, moved[3].image
    torch.manual_seed(4)
    assert torch.equal(first, moved[3].image)
    assert not torch.equal(first, second)
    crop = PhotoDataset(cases, view="close", recipe=recipe)[0]
    assert not crop.whole
    assert crop.allowed["grade"].all(), "a crop says nothing of the grade"
    with pytest.raises(ValueError, match="whole or close"):
        PhotoDataset(cases, view="both")  # pyright: ignore[reportArgumentType]


def test_each_loss_works_alone_and_skips_what_is_unknown(cases: list[fs.Case]) -> None:
    batch = collate([PhotoDataset(cases, recipe=fs.Recipe.load("plain"))[index] for index in (0, 1)])
    logits = torch.zeros(2, 5, requires_grad=True)
    loss = class_loss(logits, batch.allowed["grade"])
    assert loss is not None
    loss.backward()
    assert logits.grad is not None
    assert bool(logits.grad.abs().sum(1).all())
    assert class_loss(logits, torch.ones(2, 5, dtype=torch.bool)) is None
    maps = torch.zeros(2, len(CODES), 16, 16)
    assert dense_loss(maps, batch.coverage, torch.zeros_like(batch.known), CODES) is None
    assert landmark_loss(torch.zeros(2, 2, 16, 16), batch.landmarks / 4, batch.landmarks_known) is not None
    assert landmark_loss(torch.zeros(2, 2, 16, 16), batch.landmarks, torch.zeros_like(batch.landmarks_known)) is None
    from funduscope.training.batch import BAGS

    assert bag_losses(maps, torch.zeros(2, len(BAGS), 64, 64, dtype=torch.uint8), CODES) == {}
