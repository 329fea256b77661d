"""The loop: what it skips, when it stops, what it keeps; and that a network learns."""

from __future__ import annotations

import gc
import json
import math
import multiprocessing
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from funduscope import checkpoint
from funduscope.data.case import Case
from funduscope.data.prepare import cached
from funduscope.network.network import Network, build
from funduscope.network.routing import ExpertUsage
from funduscope.recipe import Recipe
from funduscope.training import TrainingError
from funduscope.training import loop as loop_module
from funduscope.training.loop import MAX_NONFINITE_STEPS, Loop, Validation
from funduscope.training.samples import draw_epoch


def _loop(recipe: Recipe, cases: list[Case], cache: Path, folder: Path, validate: Validation | None = None) -> Loop:
    torch.manual_seed(0)
    files = {case.key: cached(case, recipe.views.close_px, cache) for case in cases}
    folder.mkdir(exist_ok=True)
    return Loop(recipe, build(recipe), cases, files, folder, validate)


def _stop(_: object) -> None:
    raise KeyboardInterrupt


def _lines(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "journal.jsonl").read_text().splitlines()]


@pytest.fixture
def quick(changes: list[str]) -> Recipe:
    """One epoch of few steps, no worker."""
    few = ["training.epochs=1", "training.workers=0", "sampling.whole={idrid-B = 1}", "sampling.close={}"]
    return Recipe.load("plain", changes + few)


def _spoil(monkeypatch: pytest.MonkeyPatch, steps: Sequence[int], how: float = math.nan) -> None:
    """Makes the loss of those steps (counted from 1) something that is no number."""
    honest, calls = loop_module.losses_of, [0]

    def losses_of(*arguments):
        calls[0] += 1
        losses = honest(*arguments)
        return {name: loss * how for name, loss in losses.items()} if calls[0] in steps else losses

    monkeypatch.setattr(loop_module, "losses_of", losses_of)


@pytest.mark.parametrize("how", [math.nan, math.inf])
def test_a_step_whose_loss_is_no_number_is_skipped_and_counted(
    how: float, quick: Recipe, cases: list[Case], cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _spoil(monkeypatch, [2, 4], how)
    trained = _loop(quick, cases, cache, tmp_path)
    trained.run()
    line = _lines(tmp_path)[0]
    assert line["skipped"] == 2
    assert math.isfinite(line["loss total"])
    checkpoint.load(tmp_path / "best.safetensors").network()  # which refuses weights that are not finite


def test_a_skipped_step_leaves_every_weight_as_it_was(
    quick: Recipe, cases: list[Case], cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _spoil(monkeypatch, range(1, 100))
    trained = _loop(quick, cases, cache, tmp_path)
    before = {name: value.clone() for name, value in trained.network.named_parameters()}
    trained.run()
    assert all(torch.equal(value, before[name]) for name, value in trained.network.named_parameters())
    average = trained.average.module.state_dict()
    assert all(torch.equal(average[name], value) for name, value in before.items())


def test_a_gradient_that_is_no_number_is_skipped_too(
    quick: Recipe, cases: list[Case], cache: Path, tmp_path: Path
) -> None:
    """A finite loss may have such a gradient: the square root at nothing has."""
    trained = _loop(quick, cases, cache, tmp_path)
    bias = trained.network.heads["grade"].linear.bias
    calls = [0]

    def spoil(grad: torch.Tensor) -> torch.Tensor:
        calls[0] += 1
        return grad * math.nan if calls[0] == 2 else grad

    bias.register_hook(spoil)
    trained.run()
    assert _lines(tmp_path)[0]["skipped"] == 1
    assert all(torch.isfinite(value).all() for value in trained.network.parameters())


def test_too_many_bad_steps_end_the_run_and_say_what_to_do(
    quick: Recipe, cases: list[Case], cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _spoil(monkeypatch, range(1, 1000))
    many = quick.model_copy(
        update={
            "sampling": quick.sampling.model_copy(update={"whole": {"idrid-B": 2.0 * (MAX_NONFINITE_STEPS + 2) / 10}})
        }
    )
    with pytest.raises(TrainingError, match=r"lower training\.learning_rate"):
        _loop(many, cases, cache, tmp_path).run()
    assert not (tmp_path / "last.safetensors").exists(), "what is broken is not kept"


def test_a_batch_of_which_nothing_is_known_makes_no_step(
    quick: Recipe, cases: list[Case], cache: Path, tmp_path: Path
) -> None:
    trained = _loop(quick, cases, cache, tmp_path)
    batch = next(iter(trained.loader))
    for allowed in batch.allowed.values():
        allowed[:] = True
    batch.known[:], batch.landmarks_known[:] = False, False
    before = {name: value.clone() for name, value in trained.network.named_parameters()}
    losses, _ = trained._step(batch, ExpertUsage(), update=True)
    assert losses == {}
    assert all(torch.equal(value, before[name]) for name, value in trained.network.named_parameters())
    assert not trained.optimizer.state_dict()["state"], "nothing was stepped: not even the decay of weights"


def test_a_batch_of_which_nothing_is_known_does_not_dilute_the_gathered_gradients(
    quick: Recipe, cases: list[Case], cache: Path, tmp_path: Path
) -> None:
    trained = _loop(quick, cases, cache, tmp_path)
    before = {name: value.clone() for name, value in trained.network.state_dict().items()}
    batch, other = (next(iter(trained.loader)) for _ in range(2))
    for allowed in other.allowed.values():
        allowed[:] = True
    other.known[:], other.landmarks_known[:] = False, False
    norms = []
    for gathered in ([batch], [batch, other]):
        trained.network.load_state_dict(before)
        for one in gathered:
            torch.manual_seed(0)
            found = trained._step(one, ExpertUsage(), update=False)[0]
            norms += [found] if one is batch and found is None else []
        norms.append(trained._update())
    assert norms[0] == pytest.approx(norms[1], rel=1e-4)


@pytest.mark.parametrize(
    ("scores", "epochs", "best"),
    [
        ([0.1, 0.5, 0.4, 0.5, 0.45, 0.9], 4, 2),  # a tie is not better; two epochs of patience
        ([0.3, 0.2, 0.4, 0.1, 0.5, 0.4], 6, 5),
        ([0.3, 0.2, 0.1, 0.9, 0.9, 0.9], 3, 1),
        ([math.nan, math.nan, math.nan, 1.0, 1.0, 1.0], 3, 1),
        ([math.nan, 0.1, 0.2, 0.3, 0.4, 0.5], 6, 6),
    ],
)
def test_it_stops_when_validation_no_longer_improves_and_keeps_the_best(
    scores: list[float],
    epochs: int,
    best: int,
    quick: Recipe,
    cases: list[Case],
    cache: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    settings = quick.training.model_copy(update={"epochs": 6, "patience": 2, "batch": 5})
    recipe = quick.model_copy(update={"training": settings})
    scored: list[torch.Tensor] = []

    def validate(network: Network) -> dict[str, float]:
        assert not network.training
        scored.append(network.heads["grade"].linear.bias.detach().clone())  # pyright: ignore
        return {"selection": scores[len(scored) - 1], "kappa": math.nan}

    trained = _loop(recipe, cases[5:], cache, tmp_path, validate)
    state = trained.run()
    assert (state.epoch, state.best_epoch, len(scored)) == (epochs, best, epochs)
    said = f"ends after epoch {epochs} of 6: none was better since epoch {best}"
    assert (said in capsys.readouterr().err) == (epochs < 6)
    held = checkpoint.load(tmp_path / "best.safetensors")
    assert torch.equal(held.group("weights")["heads.grade.linear.bias"], scored[best - 1]), "what was scored is kept"
    assert all("validation kappa" not in line for line in _lines(tmp_path))


def test_an_epoch_of_one_step_leaves_nothing_to_time(
    quick: Recipe, cases: list[Case], cache: Path, tmp_path: Path
) -> None:
    for steps, is_timed in ((1, False), (3, True)):
        sampling = quick.sampling.model_copy(update={"per_epoch": steps * quick.training.batch})
        loop = _loop(quick.model_copy(update={"sampling": sampling}), cases[5:], cache, tmp_path, None)
        assert math.isfinite(loop.time_steps(2)[0]) is is_timed


def test_its_patience_counts_judged_epochs_alone(quick: Recipe, cases: list[Case], cache: Path, tmp_path: Path) -> None:
    settings = quick.training.model_copy(update={"epochs": 8, "patience": 1, "judge_every": 3, "batch": 5})
    scores = iter([0.5, 0.4, 0.9])
    trained = _loop(
        quick.model_copy(update={"training": settings}),
        cases[5:],
        cache,
        tmp_path,
        lambda _: {"selection": next(scores)},
    )
    state = trained.run()
    assert (state.epoch, state.best_epoch) == (6, 3)


def test_a_plateau_lowers_the_rate_after_its_rise_also_where_the_run_was_interrupted(
    quick: Recipe, cases: list[Case], cache: Path, tmp_path: Path
) -> None:
    plateau = {"schedule": "plateau", "plateau_patience": 1, "plateau_factor": 0.5, "warm_up_frac": 0.7}
    settings = quick.training.model_copy(update={"epochs": 6, "patience": 9, **plateau})
    recipe = quick.model_copy(update={"training": settings})

    def loop() -> Loop:
        scores = {0: 0.5, 1: 0.4, 2: 0.3, 3: 0.2, 4: 0.45, 5: 0.6}  # those of the first four are of the rise
        trained = _loop(recipe, cases, cache, tmp_path, lambda _: {"selection": scores[trained.state.epoch - 1]})
        return trained

    for _ in range(6):
        with pytest.raises(KeyboardInterrupt):
            loop().run(report=_stop)
    rates = [line["learning rate"] / settings.learning_rate for line in _lines(tmp_path)]
    assert rates[4:] == pytest.approx([1.0, 0.5])
    resumed = loop()
    resumed.run()
    assert resumed.plateau.get_last_lr() == [0.5]


def test_gradients_of_several_batches_make_one_step(
    quick: Recipe, cases: list[Case], cache: Path, tmp_path: Path
) -> None:
    settings = quick.training.model_copy(update={"accumulate": 2})
    trained = _loop(quick.model_copy(update={"training": settings}), cases, cache, tmp_path)
    trained.run()
    steps = {int(held["step"]) for held in trained.optimizer.state_dict()["state"].values()}
    assert steps == {math.ceil(trained.steps_each[0] / 2)}
    assert trained.average.n_averaged == 1 + max(steps), "the first weights count, too"


def test_what_is_left_of_an_epoch_makes_a_whole_step(
    quick: Recipe, cases: list[Case], cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Five batches make the same step where eight were to be gathered: the mean of those that there are."""
    gradients: list[torch.Tensor] = []
    for accumulate in (5, 8):
        settings = quick.training.model_copy(update={"accumulate": accumulate})
        trained = _loop(quick.model_copy(update={"training": settings}), cases, cache, tmp_path / str(accumulate))
        assert trained.steps_each == [5]
        clip = trained.accelerator.clip_grad_norm_

        def noted(parameters, norm, clip=clip, network=trained.network):
            gradients.append(network.heads["grade"].linear.bias.grad.clone())
            return clip(parameters, norm)

        monkeypatch.setattr(trained.accelerator, "clip_grad_norm_", noted)
        trained.run()
    assert len(gradients) == 2
    torch.testing.assert_close(gradients[0], gradients[1])


def test_each_epoch_shows_its_own_draw(quick: Recipe, cases: list[Case], cache: Path, tmp_path: Path) -> None:
    """Epoch by epoch other photos in another order, also where a run continues in a new process."""
    settings = quick.training.model_copy(update={"epochs": 3, "batch": 5})
    recipe = quick.model_copy(update={"training": settings})
    graded = [case for case in cases if case.dataset == "idrid-B"]

    def shown(trained: Loop) -> list[list[str]]:
        seen: list[list[str]] = []
        honest = trained.loader.dataset.__class__.__getitem__

        class Watched(trained.loader.dataset.__class__):
            def __getitem__(self, item):
                seen[-1].append(item.case.key)
                return honest(self, item)

        trained.loader.dataset.__class__ = Watched
        epoch = trained._epoch

        def _epoch(number: int) -> dict[str, float]:
            seen.append([])
            return epoch(number)

        trained._epoch = _epoch
        trained.run()
        return seen

    unbroken = shown(_loop(recipe, graded, cache, tmp_path / "unbroken"))
    assert len(unbroken) == 3
    assert len({tuple(order) for order in unbroken}) == 3
    short = recipe.model_copy(update={"training": settings.model_copy(update={"epochs": 3})})
    first = _loop(short, graded, cache, tmp_path / "broken")
    honest, first._epoch = first._epoch, lambda number: honest(number) if number < 2 else _interrupt()
    with pytest.raises(KeyboardInterrupt):
        first.run()
    assert shown(_loop(recipe, graded, cache, tmp_path / "broken")) == unbroken[1:]


def _interrupt() -> dict[str, float]:
    raise KeyboardInterrupt


def test_half_a_line_in_the_journal_does_not_lock_the_run_out(
    quick: Recipe, cases: list[Case], cache: Path, tmp_path: Path
) -> None:
    settings = quick.training.model_copy(update={"epochs": 2, "batch": 5})
    recipe = quick.model_copy(update={"training": settings})
    first = _loop(recipe, cases, cache, tmp_path)
    honest, first._epoch = first._epoch, lambda number: honest(number) if number < 2 else _interrupt()
    with pytest.raises(KeyboardInterrupt):
        first.run()
    with (tmp_path / "journal.jsonl").open("a") as file:
        file.write('{"epoch": 2, "loss tot')
    _loop(recipe, cases, cache, tmp_path).run()
    assert [line["epoch"] for line in _lines(tmp_path)] == [1, 2]


class Recording:
    """What a progress bar gets: for each pass the label, the number that was promised, and how many came."""

    def __init__(self) -> None:
        self.passes: list[list[Any]] = []

    def __call__(self, items: Iterable[Any], label: str, total: int | None) -> Iterator[Any]:
        self.passes.append([label, total, 0])
        for item in items:
            yield item
            self.passes[-1][2] += 1


def test_each_epoch_shows_its_progress_and_learns_the_same(
    quick: Recipe, cases: list[Case], cache: Path, tmp_path: Path
) -> None:
    """Batch by batch, with the number that comes; the numbers and weights are those of a run that shows none."""
    settings = quick.training.model_copy(update={"epochs": 2, "workers": 1})
    recipe = quick.model_copy(update={"training": settings})
    recording = Recording()
    shown = _loop(recipe, cases, cache, tmp_path / "shown")
    shown.run(progress=recording)
    silent = _loop(recipe, cases, cache, tmp_path / "silent")
    silent.run()
    first, second = shown.steps_each
    assert recording.passes == [["Epoch 1 of 2", first, first], ["Epoch 2 of 2", second, second]]
    for one, other in zip(_lines(tmp_path / "shown"), _lines(tmp_path / "silent"), strict=True):
        assert 0 <= one["waiting_frac"] <= 1
        times = {"seconds": 0, "waiting_frac": 0}
        assert one | times == other | times
    weights = [checkpoint.load(tmp_path / name / "last.safetensors").group("weights") for name in ("shown", "silent")]
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())


def test_loading_processes_stay_from_epoch_to_epoch_and_end_with_the_loop(
    quick: Recipe, cases: list[Case], cache: Path, tmp_path: Path
) -> None:
    """Forked anew each epoch, they would keep a copy of what the training had in memory."""
    recipe = quick.model_copy(update={"training": quick.training.model_copy(update={"epochs": 3, "workers": 1})})
    before = {child.pid for child in multiprocessing.active_children()}
    seen: list[set[int | None]] = []
    trained = _loop(recipe, cases, cache, tmp_path)
    trained.run(report=lambda _: seen.append({child.pid for child in multiprocessing.active_children()} - before))
    assert len(seen) == 3
    assert len(seen[0]) == 1
    assert seen[0] == seen[1] == seen[2]
    del trained
    gc.collect()
    assert {child.pid for child in multiprocessing.active_children()} <= before


def test_a_loop_that_begins_at_the_second_epoch_equals_one_that_goes_through(
    quick: Recipe, cases: list[Case], cache: Path, tmp_path: Path
) -> None:
    """Starting the loading processes draws a random number, which must not move the epoch's dropout."""
    recipe = quick.model_copy(update={"training": quick.training.model_copy(update={"epochs": 2, "workers": 1})})
    _loop(recipe, cases, cache, tmp_path / "through").run()
    with pytest.raises(KeyboardInterrupt):
        _loop(recipe, cases, cache, tmp_path / "twice").run(report=_stop)
    _loop(recipe, cases, cache, tmp_path / "twice").run()
    lines = [
        [{name: value for name, value in line.items() if name not in ("seconds", "waiting_frac")} for line in one]
        for one in (_lines(tmp_path / "through"), _lines(tmp_path / "twice"))
    ]
    assert [line["epoch"] for line in lines[0]] == [1, 2]
    assert lines[0] == lines[1]


def test_too_few_photos_for_a_batch_are_said(quick: Recipe, cases: list[Case], cache: Path, tmp_path: Path) -> None:
    few = [case for case in cases if case.dataset == "idrid-B"][:1]
    with pytest.raises(TrainingError, match=r"fewer than 2 samples.*lower training\.batch"):
        _loop(quick, few, cache, tmp_path)
    assert len(draw_epoch(few, quick, 1)) == 1


def test_figures_and_arrays_are_numbers(quick: Recipe, cases: list[Case], cache: Path, tmp_path: Path) -> None:
    """Every epoch's line is plain JSON: no NaN, which other readers refuse."""
    _loop(quick, cases, cache, tmp_path, lambda _: {"selection": 0.5, "disc": math.nan}).run()
    text = (tmp_path / "journal.jsonl").read_text()
    assert "NaN" not in text
    assert np.isfinite([value for value in json.loads(text).values() if isinstance(value, float)]).all()


def test_a_step_schedule_lowers_the_rate_every_so_many_epochs(
    quick: Recipe, cases: list[Case], cache: Path, tmp_path: Path
) -> None:
    steps = {"schedule": "step", "step_epochs": 2, "step_factor": 0.1, "epochs": 5, "warm_up_frac": 0.0}
    recipe = quick.model_copy(update={"training": quick.training.model_copy(update=steps)})
    _loop(recipe, cases, cache, tmp_path).run()
    full = recipe.training.learning_rate
    shares = [line["learning rate"] / full for line in _lines(tmp_path)]
    assert shares == pytest.approx([1, 1, 0.1, 0.1, 0.01])


@pytest.mark.parametrize("accumulate", [1, 8])
def test_a_training_of_one_update_learns(
    accumulate: int, quick: Recipe, cases: list[Case], cache: Path, tmp_path: Path
) -> None:
    """A cosine that had come to its end before the last update would take a step of no length."""
    one = {"epochs": 1, "accumulate": accumulate, "batch": 8 // accumulate if accumulate > 1 else 8}
    changed = {"training": quick.training.model_copy(update=one)}
    changed["sampling"] = quick.sampling.model_copy(update={"per_epoch": 8})
    loop = _loop(quick.model_copy(update=changed), cases, cache, tmp_path)
    before = {name: value.clone() for name, value in loop.network.named_parameters()}
    loop.run()
    assert loop.state.step == (1 if accumulate == 1 else accumulate)
    assert any(not torch.equal(value, before[name]) for name, value in loop.network.named_parameters())
