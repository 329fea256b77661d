"""Interrupted and unbroken training end in the same bytes; a folder continues with its own run and no other."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from funduscope.data.case import Case
from funduscope.data.prepare import CACHE_VARIABLE
from funduscope.network.network import Network
from funduscope.recipe import Recipe
from funduscope.training import TrainingError, journal
from funduscope.training.initialization import Start
from funduscope.training.journal import draw_curves
from funduscope.training.loop import Validation
from funduscope.training.samples import draw_epoch
from funduscope.training.train_network import train_network

KILLED = """
import os, signal, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from funduscope.data.sources import read_data
from funduscope.recipe import Recipe
from funduscope.training import loop, train_network
data, folder, toml, dies_at = sys.argv[1:]
step = loop.Loop._step
def _step(self, batch, usage, *, update):
    if self.state.step + 1 == int(dies_at):
        os.kill(os.getpid(), signal.SIGKILL)
    return step(self, batch, usage, update=update)
loop.Loop._step = _step
def make(recipe, cases):
    return lambda network: {"selection": network.heads["grade"].linear.bias.sum().item()}
recipe, cases = Recipe.from_toml(Path(toml).read_text()), read_data([Path(data)])
train_network.train_network(recipe, cases, Path(folder), fold=0, make_validation=make)
"""


def make_validation(recipe: Recipe, cases: list[Case]) -> Validation:
    """Scores by something that training moves up and down, so that best and last may differ."""

    def validate(network: Network) -> dict[str, float]:
        return {"selection": network.heads["grade"].linear.bias.sum().item()}  # pyright: ignore

    return validate


def _content(path: Path) -> tuple[dict[str, Any], bytes]:
    """Header and tensors of a file, byte by byte; only the order of the header's entries is free."""
    data = path.read_bytes()
    end = 8 + int.from_bytes(data[:8], "little")
    return json.loads(data[8:end]), data[end:]


def _bytes(folder: Path) -> tuple[Any, Any]:
    return _content(folder / "best.safetensors"), _content(folder / "last.safetensors")


def _epochs(folder: Path) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in (folder / "journal.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name not in ("seconds", "waiting_frac")} for line in lines]


@pytest.fixture(scope="module")
def unbroken(tiny: Recipe, cases: list[Case], cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that nobody disturbed."""
    folder = tmp_path_factory.mktemp("unbroken")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(CACHE_VARIABLE, str(cache))
        patch.setattr(journal, "draw_curves", draw_curves)
        train_network(tiny, cases, folder, fold=0, make_validation=make_validation)
    return folder


@pytest.mark.slow
@pytest.mark.usefixtures("use_cache")
def test_killed_in_the_middle_of_an_epoch_and_resumed_equals_unbroken(
    tiny: Recipe, cases: list[Case], data: Path, unbroken: Path, tmp_path: Path
) -> None:
    folder, toml = tmp_path / "run", tmp_path / "recipe.toml"
    toml.write_text(tiny.to_toml())
    # The counts of steps differ a little from epoch to epoch; the third step of the second is past all first ones.
    first = len(draw_epoch([case for case in cases if case.fold in (2, 3, 4)], tiny, 1)) // tiny.training.batch
    command = [sys.executable, "-c", KILLED, str(data), str(folder), str(toml), str(first + 3)]
    died = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert died.returncode == -signal.SIGKILL, died.stderr
    assert [line["epoch"] for line in _epochs(folder)] == [1], "killed in the second epoch"
    train_network(tiny, cases, folder, fold=0, make_validation=make_validation)
    assert _epochs(folder) == _epochs(unbroken)
    assert [line["epoch"] for line in _epochs(folder)] == [1, 2, 3]
    assert _bytes(folder) == _bytes(unbroken)


TERMINATED = """
import os, signal, sys
import torch
torch.set_num_threads(1)
from funduscope.training import loop
step = loop.Loop._step
def _step(self, batch, usage, *, update):
    if self.state.epoch == 1:
        os.kill(os.getpid(), signal.SIGTERM)
    return step(self, batch, usage, update=update)
loop.Loop._step = _step
from funduscope.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.slow
@pytest.mark.usefixtures("use_cache")
def test_at_sigterm_it_ends_with_one_sentence_and_goes_on_after_the_last_epoch(
    tiny: Recipe, cases: list[Case], data: Path, unbroken: Path, tmp_path: Path
) -> None:
    folder, toml = tmp_path / "run", tmp_path / "recipe.toml"
    toml.write_text(tiny.to_toml())
    arguments = ["train", toml, "--data", data, "--run", folder, "--fold", "0", "--processes", "1"]
    command = [sys.executable, "-c", TERMINATED, *map(str, arguments)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert ended.returncode == 143, ended.stderr
    said = [line for line in ended.stderr.splitlines() if line.startswith("funduscope: ")]
    assert len(said) == 1
    assert "the same command continues" in said[0]
    assert "Traceback" not in ended.stderr
    assert not list(folder.rglob("*.partial"))
    assert [line["epoch"] for line in _epochs(folder)] == [1]
    train_network(tiny, cases, folder, fold=0, make_validation=make_validation)
    assert [line["epoch"] for line in _epochs(folder)] == [1, 2, 3]
    assert _content(folder / "last.safetensors")[1] == _content(unbroken / "last.safetensors")[1]


@pytest.mark.slow
@pytest.mark.usefixtures("use_cache")
def test_a_damaged_last_checkpoint_costs_an_epoch_and_no_more(
    tiny: Recipe, cases: list[Case], unbroken: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(unbroken, folder)
    whole = (folder / "last.safetensors").read_bytes()
    (folder / "last.safetensors").write_bytes(whole[:-100])
    train_network(tiny, cases, folder, fold=0, make_validation=make_validation)
    assert capsys.readouterr().err.count("continues from the checkpoint before it, after epoch 2") == 1
    assert _epochs(folder) == _epochs(unbroken)
    assert _bytes(folder) == _bytes(unbroken)


@pytest.mark.usefixtures("use_cache")
def test_a_finished_run_is_left_as_it_is(tiny: Recipe, cases: list[Case], unbroken: Path) -> None:
    before = _bytes(unbroken)
    assert (
        train_network(tiny, cases, unbroken, fold=0, make_validation=make_validation) == unbroken / "best.safetensors"
    )
    assert _bytes(unbroken) == before


@pytest.mark.usefixtures("use_cache")
def test_what_a_run_folder_holds(tiny: Recipe, unbroken: Path) -> None:
    assert Recipe.load(str(unbroken / "recipe.toml")) == tiny
    about = json.loads((unbroken / "run.json").read_text())
    assert (about["fold"], about["seed"]) == (0, tiny.training.seed)
    assert len(about["data_fingerprint"]) == 64
    assert about["environment"]["packages"]["torch"]
    assert str(Path.home()) not in json.dumps(about)
    assert about["photos"]["test"]
    assert about["photos"]["validation"]
    assert (unbroken / "curves.png").stat().st_size > 1000
    assert list((unbroken / "tensorboard").iterdir())
    for line in _epochs(unbroken):
        assert {f"loss {task}" for task in ("grade", "dme", "dense", "landmarks", "total")} <= line.keys()
        assert {"learning rate", "skipped", "validation selection", "best"} <= line.keys()


@pytest.mark.usefixtures("use_cache")
@pytest.mark.parametrize(
    ("change", "fold", "says"),
    [
        (["training.learning_rate=0.01"], 0, r"another recipe \(training.learning_rate is .* there and 0.01 here\)"),
        (["training.seed=7"], 0, "another recipe"),
        ([], 1, "another test fold: expected 0, got 1"),
    ],
)
def test_a_folder_with_another_run_is_refused_and_left_alone(
    change: list[str], fold: int, says: str, cases: list[Case], changes: list[str], unbroken: Path
) -> None:
    before = _bytes(unbroken), (unbroken / "recipe.toml").read_bytes(), (unbroken / "run.json").read_bytes()
    with pytest.raises(TrainingError, match=says):
        train_network(Recipe.load("plain", changes + change), cases, unbroken, fold=fold)
    assert before == (_bytes(unbroken), (unbroken / "recipe.toml").read_bytes(), (unbroken / "run.json").read_bytes())


@pytest.mark.slow
@pytest.mark.usefixtures("use_cache")
def test_the_seed_decides_the_bytes(cases: list[Case], changes: list[str], tmp_path: Path) -> None:
    def trained(name: str, seed: int) -> Any:
        recipe = Recipe.load("plain", [*changes, "training.epochs=1", "training.workers=0", f"training.seed={seed}"])
        return _content(train_network(recipe, cases, tmp_path / name))[1]

    assert trained("a", 3) == trained("b", 3)
    assert trained("a", 3) != trained("c", 4)


@pytest.mark.usefixtures("use_cache")
def test_fine_tuning_starts_from_the_given_weights_and_the_same_command_goes_on(
    cases: list[Case], changes: list[str], unbroken: Path, tmp_path: Path
) -> None:
    """The recipe's tasks hold, and whatever it shares with the given model; with a rate of almost nothing it stays."""
    from funduscope import checkpoint

    recipe = Recipe.load(
        "plain",
        [*changes, "tasks.landmarks=[]", "training.epochs=1", "training.workers=0", "training.learning_rate=1e-12"],
    )
    given = checkpoint.load(unbroken / "best.safetensors")
    folder = tmp_path / "tuned"
    for _ in range(2):
        tuned = checkpoint.load(train_network(recipe, cases, folder, start=Start((unbroken / "best.safetensors",))))
    assert tuned.recipe.tasks.landmarks == ()
    assert {name for name in given.group("weights") if name not in tuned.group("weights")} == {
        "heads.landmarks.conv.weight", "heads.landmarks.conv.bias"
    }  # fmt: skip
    for name, value in given.group("weights").items():
        if name.endswith("weight") and name in tuned.group("weights"):
            assert (tuned.group("weights")[name] - value).abs().max() < 1e-6


def test_no_photo_to_train_on_is_said(tiny: Recipe, cases: list[Case], tmp_path: Path) -> None:
    alone = [case for case in cases if case.fold == 0]
    with pytest.raises(TrainingError, match="No photo is left"):
        train_network(tiny, alone, tmp_path / "run", fold=0)


def test_killed_while_photos_are_prepared_goes_on(tiny: Recipe, data: Path, cases: list[Case], tmp_path: Path) -> None:
    """Killed between and inside two writes: what is in the cache is whole, and the run begins as if nothing was."""
    from funduscope.data.prepare import cached, read_prepared

    cache = tmp_path / "cache"
    script = """
import os, signal, sys
from pathlib import Path
import numpy as np
from funduscope.data import prepare
from funduscope.data.sources import read_data
cases, cache, side = read_data([Path(sys.argv[1])]), Path(sys.argv[2]), int(sys.argv[3])
for case in cases[:2]:
    prepare.cached(case, side, cache)
def half(file, **arrays):
    file.write(b"PK" + bytes(5000))
    file.flush()
    os.kill(os.getpid(), signal.SIGKILL)
np.savez = half
prepare.cached(cases[2], side, cache)
"""
    side = tiny.views.close_px
    command = [sys.executable, "-c", script, str(data), str(cache), str(side)]
    died = subprocess.run(command, capture_output=True, text=True, timeout=120, env=os.environ)
    assert died.returncode == -signal.SIGKILL, died.stderr
    whole = list(cache.glob("*.npz"))
    assert len(whole) == 2
    for path in whole:
        assert read_prepared(path).image.shape == (side, side, 3)
    made = [cached(case, side, cache) for case in cases[:3]]
    assert {*whole} < {*made}
    assert read_prepared(made[2]).image.any()
