"""Several processes make the steps of one: the same samples, the same gradients, the same scores; and they end well."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.training.conftest import STEADY

from funduscope import checkpoint
from funduscope.data.case import Case
from funduscope.data.prepare import CACHE_VARIABLE, cached
from funduscope.network.network import Network, build
from funduscope.network.routing import ExpertUsage
from funduscope.recipe import Recipe
from funduscope.training import TrainingError, processes
from funduscope.training.initialization import START
from funduscope.training.loop import Loop
from funduscope.training.samples import EpochBatches, draw_epoch
from funduscope.training.train_network import train_network
from funduscope.training.validation import make_validation


@pytest.mark.quick
@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_several_processes_draw_the_samples_of_one(count: int, steady: Recipe, cases: list[Case]) -> None:
    whole, parts = EpochBatches(cases, steady), [EpochBatches(cases, steady, rank, count) for rank in range(count)]
    for epoch in (0, 1):
        for one in (whole, *parts):
            one.epoch = epoch
        batches = list(whole)
        shared = zip(*(list(part) for part in parts), strict=True)
        assert len(batches) == len(draw_epoch(cases, steady, epoch)) // 4
        for batch, shares in zip(batches, shared, strict=True):
            assert Counter(item.seed for item in batch) == Counter(item.seed for share in shares for item in share)
            assert all(shares), "each process has a share of every batch"
        assert whole.digest == sum(part.digest for part in parts)


def test_a_digest_sees_another_order(steady: Recipe, cases: list[Case], monkeypatch: pytest.MonkeyPatch) -> None:
    """Two samples that change their batches are another epoch."""
    items = draw_epoch(cases, steady, 0)
    digests = []
    for order in (items, [items[4], *items[1:4], items[0], *items[5:]]):
        monkeypatch.setattr(sys.modules[EpochBatches.__module__], "draw_epoch", lambda *_, order=order: order)
        batches = EpochBatches(cases, steady)
        list(batches)
        digests.append(batches.digest)
    assert digests[0] != digests[1]


def gradients(job: tuple[Recipe, list[Case], dict[str, Path], Path], watch: processes.Watch) -> dict[str, Any]:
    """Loss and gradients of the first step of an epoch, as lists, since they cross a process."""
    recipe, cases, files, folder = job
    torch.manual_seed(0)
    loop = Loop(recipe, build(recipe), cases, files, folder, None)
    loop._to_training()
    held: dict[str, torch.Tensor] = {}
    clip = loop.accelerator.clip_grad_norm_

    def noted(parameters: Any, norm: float) -> Any:
        held.update({name: one.grad.clone() for name, one in loop.network.named_parameters() if one.grad is not None})
        return clip(parameters, norm)

    loop.accelerator.clip_grad_norm_ = noted  # pyright: ignore[reportAttributeAccessIssue]
    losses, _ = loop._step(next(iter(loop.loader)), ExpertUsage(), update=True)
    return {"losses": losses, "gradients": {name: grad.flatten().tolist() for name, grad in held.items()}}


@pytest.mark.slow
def test_two_processes_have_the_gradients_of_one(
    steady: Recipe, cases: list[Case], cache: Path, tmp_path: Path
) -> None:
    """Photos with partial labels: of the four of the batch only some have masks, and not as many in each process."""
    files = {case.key: cached(case, steady.views.close_px, cache) for case in cases}
    first = next(iter(EpochBatches(cases, steady)))
    masked = [sum(bool(item.case.labels.masks) for item in first[rank::2]) for rank in range(2)]
    assert masked[0] != masked[1], "a mean of the two processes' means would be another number"
    job = (steady, cases, files, tmp_path)
    alone = gradients(job, processes.Watch())
    both = processes.run(2, gradients, job, processes.Watch())
    assert both["losses"] == pytest.approx(alone["losses"], rel=1e-5)
    assert both["gradients"].keys() == alone["gradients"].keys(), "a head that nothing is known of is left alone"
    for name, values in alone["gradients"].items():
        one, other = torch.tensor(values), torch.tensor(both["gradients"][name])
        assert (one - other).norm() <= 1e-5 * max(one.norm().item(), 1e-6), name


def _lines(folder: Path) -> list[dict[str, float]]:
    """Whole lines alone: a killed process may have left a part of one."""
    path = folder / "journal.jsonl"
    return [json.loads(line) for line in path.read_text().split("\n")[:-1]] if path.is_file() else []


@pytest.fixture(scope="module")
def undisturbed(cases: list[Case], cache: Path, changes: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one process."""
    folder = tmp_path_factory.mktemp("alone") / "run"
    recipe = Recipe.load("plain", [*changes, *STEADY, "training.epochs=2"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(CACHE_VARIABLE, str(cache))
        train_network(recipe, cases, folder, 0, START, make_validation)
    return folder


@pytest.mark.slow
@pytest.mark.usefixtures("use_cache")
def test_a_training_of_two_processes_is_that_of_one(
    steady: Recipe, cases: list[Case], undisturbed: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    reported: list[dict[str, Any]] = []
    train_network(steady, cases, folder, 0, START, make_validation, processes.Watch(report=reported.append), count=2)
    alone, both = _lines(undisturbed), _lines(folder)
    assert "Warning" not in capfd.readouterr().err, "torch warns of sums that still have a gradient"
    assert [line["epoch"] for line in reported] == [1, 2], "the lines reach the process that asked"
    for one, other in zip(alone, both, strict=True):
        assert one["samples_digest"] == other["samples_digest"]
        for name, value in one.items():
            if name.startswith(("loss", "validation")):
                assert other[name] == pytest.approx(value, rel=5e-3, abs=1e-4), name
    about = json.loads((folder / "run.json").read_text())
    assert about["processes"] == 2
    assert checkpoint.load(folder / "best.safetensors").card["about"]["batch norm"]["processes"] == 2


def die_in_the_second_epoch(recipe: Recipe, cases: list[Case]) -> Any:
    """A validation in which the second process kills itself."""

    def validate(network: Network) -> dict[str, float]:
        if processes.state().process_index == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return {"selection": processes.all_reduce_number(0.0)}

    return validate


@pytest.mark.slow
@pytest.mark.usefixtures("use_cache")
def test_a_process_that_dies_ends_all_and_the_run_goes_on_with_another_number(
    steady: Recipe, cases: list[Case], undisturbed: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    late = steady.model_copy(update={"training": steady.training.model_copy(update={"judge_every": 2})})
    with pytest.raises(TrainingError, match=r"Process 2 of 2 was ended by signal 9.* continues from the last epoch"):
        train_network(late, cases, folder, 0, START, die_in_the_second_epoch, count=2)
    assert [line["epoch"] for line in _lines(folder)] == [1]
    train_network(late, cases, folder, 0, START, make_validation)
    assert [line["samples_digest"] for line in _lines(folder)] == [
        line["samples_digest"] for line in _lines(undisturbed)
    ]
    first, last = _lines(folder)
    assert not any(name.startswith("validation") for name in first), "judged every second epoch"
    assert "validation selection" in last


@pytest.mark.slow
@pytest.mark.usefixtures("use_cache")
def test_a_compiled_training_is_that_of_plain_steps(
    steady: Recipe, cases: list[Case], undisturbed: Path, tmp_path: Path
) -> None:
    """In two processes; channels last, as all trainings."""
    folder = tmp_path / "run"
    recipe = steady.model_copy(
        update={"training": steady.training.model_copy(update={"compile": True, "judge_every": 2})}
    )
    train_network(recipe, cases, folder, 0, START, make_validation, count=2)
    for one, other in zip(_lines(undisturbed), _lines(folder), strict=True):
        assert one["samples_digest"] == other["samples_digest"]
        for name, value in one.items():
            if name.startswith("loss") or (name.startswith("validation") and one["epoch"] == 2):
                assert other[name] == pytest.approx(value, rel=5e-3, abs=1e-4), name
    plain, compiled = (checkpoint.load(one / "best.safetensors").group("weights") for one in (undisturbed, folder))
    assert compiled.keys() == plain.keys()


@pytest.mark.slow
def test_without_a_compiler_a_compiled_training_says_so(tmp_path: Path) -> None:
    code = "import torch; from funduscope.training.acceleration import compiled; compiled(torch.nn.Linear(1, 1))"
    environment = os.environ | {"CXX": "no-such-compiler", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path)}
    ended = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    last = ended.stderr.strip().splitlines()[-1]
    assert "TrainingError: training.compile needs a compiler, which torch could not use here: " in last
    assert last.endswith("or set training.compile = false.")


@pytest.mark.usefixtures("use_cache")
def test_a_batch_that_is_too_small_to_share_says_so(steady: Recipe, cases: list[Case], tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="5 processes cannot share a batch of 4: start fewer"):
        train_network(steady, cases, tmp_path / "run", 0, START, make_validation, count=5)
