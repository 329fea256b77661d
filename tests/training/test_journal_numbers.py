"""What an epoch's line says: losses on the validation photos, training accuracy, gradient norm, idle experts."""

from __future__ import annotations

import errno
import json
import math
import re
import threading
from dataclasses import replace
from pathlib import Path

import cv2
import pytest
import torch

from funduscope import checkpoint
from funduscope.data.case import Case, Labels
from funduscope.data.prepare import CHANNELS
from funduscope.network.network import Outputs, build
from funduscope.network.routing import ExpertUsage
from funduscope.recipe import Recipe
from funduscope.training.batch import Batch
from funduscope.training.journal import Journal
from funduscope.training.sample_scores import SampleScores, score_sums
from funduscope.training.train_network import Start, train_network
from funduscope.training.validation import make_validation
from funduscope.training.validation_loss import ValidationLoss
from funduscope.vocabulary import LANDMARKS


@pytest.mark.usefixtures("use_cache")
def test_the_loss_on_validation_photos_decides_where_the_recipe_says_so(
    cases: list[Case], changes: list[str], tmp_path: Path
) -> None:
    recipe = Recipe.load("plain", [*changes, "training.select=loss", "training.workers=0"])
    train_network(recipe, cases, tmp_path, 0, Start(), make_validation)
    lines = [json.loads(line) for line in (tmp_path / "journal.jsonl").read_text().splitlines()]
    losses = [line["validation loss total"] for line in lines]
    assert [line["validation selection"] for line in lines] == [-loss for loss in losses]
    assert [line["best"] for line in lines] == [loss < min([math.inf, *losses[:i]]) for i, loss in enumerate(losses)]
    for line in lines:
        assert {"validation loss grade", "validation loss dense", "gradient norm", "learning rate"} <= line.keys()
        assert 0 <= line["training grade accuracy"] <= 1
        assert line["gradient norm"] > 0
        for code in ("EX", "OD"):
            dice = line[f"training {code} Dice"]
            assert line[f"training {code} IoU"] == pytest.approx(dice / (2 - dice))
    best = checkpoint.load(tmp_path / "best.safetensors")
    assert best.progress["best_score"] == -min(losses)


@pytest.mark.usefixtures("use_cache")
def test_where_nothing_but_the_disc_is_labeled_the_disc_chooses_the_epoch(
    cases: list[Case], changes: list[str], tmp_path: Path
) -> None:
    recipe = Recipe.load("plain", [*changes, "training.workers=0"])
    discs = [replace(case, labels=Labels(masks={"OD": case.labels.masks["OD"]})) for case in cases if case.labels.masks]
    network = build(recipe)
    threads = cv2.getNumThreads()
    found = make_validation(recipe, discs)(network)
    assert 0 <= found["selection"] <= 1
    assert cv2.getNumThreads() == threads, "only processes that read samples use one thread"


@pytest.mark.usefixtures("use_cache")
def test_the_training_loss_is_on_the_scale_of_validation_where_batches_alternate(
    cases: list[Case], changes: list[str], tmp_path: Path
) -> None:
    """A batch of photos with masks has other tasks than one of photos with grades: the mean of their totals is neither
    of them."""
    recipe = Recipe.load("plain", [*changes, "sampling.order=alternate", "training.workers=0"])
    train_network(recipe, cases, tmp_path, 0, Start(), make_validation)
    for line in map(json.loads, (tmp_path / "journal.jsonl").read_text().splitlines()):
        for prefix in ("", "validation "):
            tasks = ("grade", "dme", "dense", "landmarks")
            parts = {task: line[name] for task in tasks if (name := f"{prefix}loss {task}") in line}
            assert {"grade", "dense"} <= parts.keys()
            whole = sum(getattr(recipe.loss, task) * loss for task, loss in parts.items())
            assert line[f"{prefix}loss total"] == pytest.approx(whole)


@pytest.mark.usefixtures("use_cache")
def test_the_validation_loss_repeats_and_adds_up(tiny: Recipe, cases: list[Case]) -> None:
    torch.manual_seed(0)
    network = build(tiny).eval()
    found = ValidationLoss(tiny, cases)(network)
    assert found == ValidationLoss(tiny, cases)(network), "no random number differs from epoch to epoch"
    parts = {name.removeprefix("loss "): value for name, value in found.items() if name != "loss total"}
    assert found["loss total"] == pytest.approx(sum(getattr(tiny.loss, task) * loss for task, loss in parts.items()))
    with torch.no_grad():
        network.heads["grade"].linear.bias.copy_(torch.tensor([30.0, 0, 0, 0, 0]))
    grades = [case.labels.grade for case in cases if case.dataset == "idrid-B"]
    plain = tiny.model_copy(update={"loss": tiny.loss.model_copy(update={"label_smoothing": 0.0})})
    found = ValidationLoss(plain, cases)(network)
    assert found["loss grade"] == pytest.approx(30 * sum(grade != 0 for grade in grades) / len(grades), rel=0.1)


def test_training_masks_count_known_pixels_alone() -> None:
    """A map of half the side: the first quarter is true and marked, the second unknown, the third marked."""
    coverage = torch.zeros(1, len(CHANNELS), 8, 8, dtype=torch.uint8)
    known = torch.ones(1, len(CHANNELS), 8, 8, dtype=torch.bool)
    coverage[:, CHANNELS.index("EX"), :4, :4] = 200
    coverage[:, CHANNELS.index("EX"), 4:, 4:] = 100  # by less than half
    known[:, CHANNELS.index("EX"), :4, 4:] = False
    logits = torch.full((1, 2, 4, 4), -3.0)
    logits[:, 1, :2] = 2.0
    logits[:, 1, 2:, :2] = 2.0
    image, whole = torch.zeros(1, 8, 8, 3, dtype=torch.uint8), torch.ones(1, dtype=torch.bool)
    points = torch.zeros(1, len(LANDMARKS), 2)
    batch = Batch(image, whole, {}, coverage, known, points, points[..., 0] > 0)
    sums = score_sums(Outputs(structures=logits), batch, ("OD", "EX"))
    assert {name: values.tolist() for name, values in sums.items()} == {"OD mask": [0, 0, 0], "EX mask": [4, 8, 4]}
    assert score_sums(Outputs(), batch, ("EX",)) == {}


def test_every_labeled_photo_counts_the_same_in_the_training_accuracy() -> None:
    """A batch with one labeled photo and one with three; a photo without a grade is not counted."""
    scores = SampleScores()
    for labels, answers in (([2, None], [2, 0]), ([1, 1, 3], [0, 0, 3])):
        allowed = torch.tensor([[label is None or label == grade for grade in range(5)] for label in labels])
        image = torch.zeros(len(labels), 8, 8, 3, dtype=torch.uint8)
        points, nothing = torch.zeros(len(labels), len(LANDMARKS), 2), torch.zeros(len(labels), len(CHANNELS), 8, 8)
        whole = torch.ones(len(labels), dtype=torch.bool)
        batch = Batch(image, whole, {"grade": allowed}, nothing.byte(), nothing.bool(), points, points[..., 0] > 0)
        logits = torch.nn.functional.one_hot(torch.tensor(answers), 5).float()
        sums = score_sums(Outputs(classes={"grade": logits}), batch, ()) | {"grade": torch.ones(2)}
        scores.take(sums)
        assert list(sums) == ["grade"], "what is no score is left to the losses"
    assert scores.numbers() == {"training grade accuracy": 2 / 4}


@pytest.mark.parametrize(
    ("taken", "gates", "said"),
    [
        ([99.0, 1], [90.0, 10], r"router of grade hardly uses expert 1, .* for 1\.0% of the photos, 10\.0% of"),
        ([100.0, 100], [99.9, 0.1], r"expert 1, .*: computed for 100\.0% of the photos, 0\.1% of the weight"),
    ],
    ids=["top-p", "every expert is computed"],
)
def test_an_expert_that_is_hardly_used_is_named(taken: list[float], gates: list[float], said: str) -> None:
    usage = ExpertUsage()
    sums = [torch.tensor([50.0, 50]), torch.tensor(taken), torch.tensor(gates), torch.tensor([0.0, 100])]
    usage.add({"routing grade": torch.cat(sums)})
    (sentence,) = usage.neglected()
    assert re.search(said, sentence)
    assert usage.numbers()["experts grade 1 weight"] == pytest.approx(gates[1] / sum(gates))


def test_a_full_disk_is_one_error_and_no_trace_of_tensorboards_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    journal = Journal(tmp_path, 0)
    events = journal.board.file_writer.event_writer._async_writer  # pyright: ignore

    def refuse(data: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(events._writer, "write", refuse)
    with pytest.raises(OSError, match="No space left"):
        _write_epochs(journal)
    events._worker.join(10)
    assert not events._worker.is_alive()
    assert "Traceback" not in capsys.readouterr().err


def test_a_journal_that_is_closed_leaves_threads_as_they_were(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[threading.ExceptHookArgs] = []
    monkeypatch.setattr(threading, "excepthook", seen.append)  # a host's own
    threads = threading.active_count()
    with Journal(tmp_path, 0) as journal:
        _write_epochs(journal)
        failing = threading.Thread(target=lambda: 1 // 0)
        failing.start()
        failing.join()
    assert len(seen) == 1
    assert threading.active_count() == threads
    assert threading.excepthook == seen.append


def _write_epochs(journal: Journal) -> None:
    for epoch in range(1, 5):
        journal.write({"epoch": epoch, "loss total": 1.0})
