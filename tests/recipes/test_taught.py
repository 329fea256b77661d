"""A small network learns from a larger one, and continues where it stopped."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from funduscope import checkpoint
from funduscope.cli.main import main
from funduscope.data.prepare import CACHE_VARIABLE
from funduscope.testing.drawn_eyes import draw_eye
from funduscope.training import journal
from funduscope.training import validation as training
from funduscope.training.loop import Loop

Train = Callable[..., int]
STUDENT = str(Path(__file__).with_name("student.toml"))


@pytest.fixture
def train(
    tiny: Callable[[str], list[str]], data: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Train:
    """`funduscope train` with a recipe made tiny, into a folder of that name."""
    monkeypatch.setenv(CACHE_VARIABLE, str(cache))
    # Scores and curves of a finished run are tested elsewhere, and would take four fifths of the time here.
    monkeypatch.setattr(training, "_score", lambda *_: None)
    monkeypatch.setattr(journal, "draw_curves", lambda *_: None)

    def run(recipe: str, folder: str, *options: str) -> int:
        changes = [part for change in tiny(recipe) for part in ("--set", change)]
        return main(["train", recipe, "--data", str(data), "--run", str(tmp_path / folder), "--fold", "0",
                     *changes, *options])  # fmt: skip

    return run


def _weights(run: Path) -> dict[str, torch.Tensor]:
    """Everything that a run continues from: the average, the weights themselves, the optimizer."""
    return checkpoint.load(run / "last.safetensors", ("weights", "raw", "optimizer", "balance")).tensors


@pytest.mark.slow
def test_a_student_learns_from_its_teacher_and_goes_on_with_it(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    assert train("plain", "teacher") == 0
    untaught = ("--set", "training.epochs=2")
    taught = (*untaught, "--teacher", str(tmp_path / "teacher"))
    capsys.readouterr()
    assert train(STUDENT, "through", *taught) == 0
    assert "plain does not teach EX, HE, MA, SE" in capsys.readouterr().err, "it reads them from the close view"

    lines = [json.loads(line) for line in (tmp_path / "through" / "journal.jsonl").read_text("utf-8").splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2]
    assert all(math.isfinite(line["loss distill"]) and line["loss distill"] > 0 for line in lines)
    about = json.loads((tmp_path / "through" / "run.json").read_text("utf-8"))
    assert about["teachers"] == ["teacher"]
    assert "--teacher teacher" in about["command"]

    step = Loop._step

    def stops(self: Loop, *given: Any, update: bool) -> Any:
        if self.state.step == 3:  # in the middle of the second epoch
            raise KeyboardInterrupt
        return step(self, *given, update=update)

    with monkeypatch.context() as patch:
        patch.setattr(Loop, "_step", stops)
        assert train(STUDENT, "resumed", *taught) == 130
        assert train(STUDENT, "alone", *untaught) == 130
    of_taught, of_untaught = _weights(tmp_path / "resumed"), _weights(tmp_path / "alone")
    assert any(not torch.equal(value, of_untaught[name]) for name, value in of_taught.items()), "it is taught something"
    assert train(STUDENT, "resumed", *untaught) == 1
    assert "other teachers" in capsys.readouterr().err, "it does not continue without the one that it began with"
    assert train(STUDENT, "resumed", *taught) == 0
    assert "Resuming after epoch 1." in capsys.readouterr().err
    of_through, of_resumed = _weights(tmp_path / "through"), _weights(tmp_path / "resumed")
    assert of_through.keys() == of_resumed.keys()
    assert all(torch.equal(value, of_resumed[name]) for name, value in of_through.items())

    Image.fromarray(draw_eye(5, width_px=480).pixels).save(tmp_path / "eye.png")
    capsys.readouterr()
    student = str(tmp_path / "resumed")
    assert main(["predict", str(tmp_path / "eye.png"), "--model", student, "--out", str(tmp_path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["predicted_grade"] in range(5)
    assert set(found["lesions"]) == {"MA", "HE", "EX", "SE"}


def test_each_stage_learns_what_the_teacher_knows_of_its_tasks(
    train: Train, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """A teacher of both views teaches both networks of `fast`, and the joined model answers with what each learned."""
    assert train("plain", "teacher") == 0
    capsys.readouterr()
    assert train("fast", "student", "--teacher", str(tmp_path / "teacher")) == 0
    assert "does not teach" not in capsys.readouterr().err
    lines = [json.loads(line) for line in (tmp_path / "student" / "journal.jsonl").read_text("utf-8").splitlines()]
    assert [line["stage"] for line in lines] == ["lesions", "whole"]
    assert all(math.isfinite(line["loss distill"]) and line["loss distill"] > 0 for line in lines)
    for folder in (tmp_path / "student", *(tmp_path / "student" / "stages").iterdir()):
        assert json.loads((folder / "run.json").read_text("utf-8"))["teachers"] == ["teacher"]
    assert train("fast", "student") == 1
    assert "teachers" in capsys.readouterr().err, "a stage that has ended is not taken for an untaught one"
