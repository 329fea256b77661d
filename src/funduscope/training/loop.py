"""The training loop, explicit from the first line to the last.

An interrupted run continues after its last finished epoch and ends in the same bytes as an uninterrupted one: every
random number of an epoch is seeded by the epoch, and the checkpoint has weights, average and optimizer.
"""

from __future__ import annotations

import itertools
import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor
from torch.utils.data import DataLoader

from funduscope import checkpoint
from funduscope.checkpoint import LAST
from funduscope.data.case import Case
from funduscope.duplicates.search import Progress
from funduscope.network.network import Network
from funduscope.network.routing import ExpertUsage, routing_loss
from funduscope.recipe import Recipe
from funduscope.training import TrainingError
from funduscope.training.balance import make_balance
from funduscope.training.batch import Batch, Samples, collate
from funduscope.training.distill import Teachers, distill_loss
from funduscope.training.journal import Journal
from funduscope.training.losses import add, class_weights, task_losses
from funduscope.training.optimise import Average, Plateau, make_optimizer, rate_at
from funduscope.training.samples import EpochOrder, draw_epoch
from funduscope.vocabulary import CLASSES

Validation = Callable[[Network], dict[str, float]]
"""Scores a network on the validation photos; the score `selection` decides which epoch is kept."""

MOST_BAD_STEPS = 20


@dataclass
class State:
    """The progress of a run. best_epoch: 0 before the first. plateau: see `Plateau.state`."""

    epoch: int = 0
    step: int = 0
    best_score: float = -math.inf
    best_epoch: int = 0
    plateau: dict[str, float] = field(default_factory=dict)


class Loop:
    """Trains a network on cases.

    files: prepared file by case key. folder: the run's folder. teachers: models whose answers are learned next to the
    labels. Raises `TrainingError` where an epoch has less than one batch.
    """

    def __init__(
        self,
        recipe: Recipe,
        network: Network,
        cases: list[Case],
        files: dict[str, Path],
        folder: Path,
        validation: Validation | None,
        teachers: Teachers | None = None,
    ) -> None:
        settings = recipe.training
        self.recipe, self.folder, self.validation, self.teachers = recipe, folder, validation, teachers
        self.accelerator = Accelerator(
            mixed_precision="bf16" if bfloat16(settings.precision) else "no",
            gradient_accumulation_steps=settings.accumulate,
        )
        if self.accelerator.num_processes > 1:
            raise TrainingError("A training runs in one process for now: start it without `accelerate launch`.")
        self.order = EpochOrder(cases, recipe)
        self.steps_each = [len(draw_epoch(cases, recipe, epoch)) // settings.batch for epoch in range(settings.epochs)]
        if not all(self.steps_each):
            raise TrainingError(
                f"An epoch has fewer than {settings.batch} samples: bring more photos, or lower training.batch."
            )
        loader = DataLoader(
            Samples(files, recipe),
            batch_size=settings.batch,
            sampler=self.order,
            num_workers=settings.workers,
            collate_fn=collate,
            drop_last=True,  # a last batch of one has no batch statistics
            persistent_workers=False,
        )
        network = network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        start = {task: getattr(recipe.loss, task) for task in (*CLASSES, "dense", "landmarks", "distill")}
        self.balance = make_balance(recipe.balance, start).to(self.accelerator.device)
        optimizer = make_optimizer(network, settings, list(self.balance.parameters()), recipe.balance.rate)
        self.network, self.optimizer, self.loader = self.accelerator.prepare(network, optimizer, loader)
        self.plateau = Plateau(settings.plateau_factor, settings.plateau_patience)
        self.average = Average(self._plain(), settings.average_decay)
        labels = [case.labels for case in cases if recipe.sampling.whole.get(case.dataset)]
        self.class_weights = {
            task: class_weights(
                [getattr(label, task) for label in labels], len(classes), recipe.loss.class_weight_power
            ).to(self.accelerator.device)
            for task, classes in CLASSES.items()
        }
        self.state = State()
        self.progress: Progress = lambda items, words, total: items
        self.gathered = 0  # batches whose gradients the next step will use

    def run(
        self, say: Callable[[str], None] = print, until: int | None = None, progress: Progress | None = None
    ) -> State:
        """All remaining epochs, or those up to `until`; returns the state after them.

        say: prints a line. progress: wraps an epoch's batches.
        """
        self.progress = progress or self.progress
        self._resume(say)
        journal = Journal(self.folder, self.state.epoch)
        settings = self.recipe.training
        last = settings.epochs if until is None else until
        if last == 0 and not (self.folder / LAST).is_file():  # nothing is learned: the first weights are scored
            self._end({"epoch": 0}, journal, time.monotonic(), say)
        while self.state.epoch < last and self.state.epoch - self.state.best_epoch < settings.patience:
            started = time.monotonic()
            line = {"epoch": self.state.epoch + 1, **self._epoch(self.state.epoch + 1)}
            self._end(line, journal, started, say)
        return self.state

    def _end(self, line: dict[str, float], journal: Journal, started: float, say: Callable[[str], None]) -> None:
        """Scores the weights after that epoch; writes the journal and the checkpoints."""
        settings = self.recipe.training
        scores = self._validate()
        self.state.epoch = int(line["epoch"])
        score = scores.get("selection", float(self.state.epoch))
        better = self._is_better(score)
        if settings.schedule == "plateau":
            self.plateau.step(score, warming_up=self._progress() < settings.warm_up_frac)
            self.state.plateau = self.plateau.state()
        line |= {f"validation {name}": value for name, value in scores.items() if not math.isnan(value)}
        line |= {"seconds": round(time.monotonic() - started, 1), "best": better}
        if self.accelerator.is_main_process:
            journal.write(line)
            self._save(better)
        self.accelerator.wait_for_everyone()
        say(_sentence(line, settings.epochs))

    def _is_better(self, score: float) -> bool:
        """Remembers the best epoch. A NaN counts as the lowest score, but the first epoch is kept in any case."""
        score = -math.inf if math.isnan(score) else score
        better = not self.state.best_epoch or score > self.state.best_score
        if better:
            self.state.best_score, self.state.best_epoch = score, self.state.epoch
        return better

    def _epoch(self, epoch: int) -> dict[str, float]:
        """One pass. Returns the mean of each loss and of each task weight over the steps that had it."""
        torch.manual_seed(self.recipe.training.seed * 100_003 + epoch)  # for dropout
        # accelerate counts epochs from the start of the process: a resumed run would repeat the first epoch's photos.
        self.loader.set_epoch(epoch - 1)
        self.network.train()
        sums: dict[str, float] = defaultdict(float)
        counts: dict[str, int] = defaultdict(int)
        bad, usage = 0, ExpertUsage()
        words = f"Epoch {epoch} of {self.recipe.training.epochs}"
        for batch in self.progress(_started(self.loader), words, self.steps_each[epoch - 1]):
            numbers, rate = self._step(batch, usage)
            if numbers is None:
                bad += 1
                if bad > MOST_BAD_STEPS:
                    raise TrainingError(
                        f"More than {MOST_BAD_STEPS} steps of epoch {epoch} had a loss that is not finite: "
                        "lower training.learning_rate."
                    )
                continue
            for name, value in numbers.items():
                sums[name] += value
                counts[name] += 1
        return {name: sums[name] / counts[name] for name in sums} | usage.numbers() | {"rate": rate, "skipped": bad}

    def _step(self, batch: Batch, usage: ExpertUsage) -> tuple[dict[str, float] | None, float]:
        """One batch: losses and task weights by name, and the share of the full learning rate.

        None instead of the losses where a loss or gradient was not finite; that step is skipped.
        """
        settings, tasks = self.recipe.training, self.recipe.tasks
        self.state.step += 1
        rate = rate_at(self._progress(), settings.warm_up_frac, settings.schedule) * self.plateau.scale
        for group in self.optimizer.param_groups:
            group.setdefault("full_rate", group["lr"])
            group["lr"] = group["full_rate"] * rate
        self.gathered += 1
        with self.accelerator.accumulate(self.network):
            with self.accelerator.autocast():  # in float32 a large teacher takes longer than the whole training
                outputs = self.network(batch.image)
                taught = self.teachers and self.teachers(batch.image, batch.whole)
            by_structure: dict[str, Tensor] = {}
            losses = task_losses(
                outputs, batch, self.recipe.loss, tasks.structures, self.class_weights, tasks.landmarks, by_structure
            )
            if taught is not None:
                loss = distill_loss(outputs, taught, self.recipe.loss, tasks.structures, tasks.landmarks)
                add(losses, "distill", loss)
            routing = routing_loss(outputs.routing, self.recipe.experts)
            usage.add(outputs.routing)
            total = self.balance.backward(
                losses, routing, list(self._plain().encoder.parameters()), self.accelerator.backward
            )
            stepped = self.accelerator.sync_gradients and self._update()
        if total is None or not bool(torch.isfinite(total)):
            return ({} if total is None else None), rate
        if self.accelerator.sync_gradients and not stepped:
            return None, rate
        if routing is not None:
            losses["routing"] = routing
        losses |= {f"dense {code}": loss for code, loss in by_structure.items()} | {"total": total}
        numbers = {f"loss {name}": float(loss.detach()) for name, loss in losses.items()}
        weights = {} if self.recipe.balance.kind == "fixed" else self.balance.applied
        return numbers | {f"weight {task}": weight for task, weight in weights.items()}, rate

    def _update(self) -> bool:
        """Takes a step with the accumulated gradients; False where there are none, or they are not finite."""
        short, self.gathered = self.recipe.training.accumulate / self.gathered, 0
        if short != 1:  # the last step of an epoch may have fewer batches than accelerate divides by: take their mean
            for parameter in (one for group in self.optimizer.param_groups for one in group["params"]):
                if parameter.grad is not None:
                    parameter.grad *= short
        if all(parameter.grad is None for parameter in self.network.parameters()):
            return False
        norm = self.accelerator.clip_grad_norm_(self.network.parameters(), self.recipe.training.clip_norm)
        sound = norm is None or math.isfinite(norm)
        if sound:
            self.optimizer.step()
            self.average.update(self._plain())
        self.optimizer.zero_grad()
        return sound

    def _progress(self) -> float:
        """The share of all steps that are done."""
        return self.state.step / max(sum(self.steps_each), 1)

    def _validate(self) -> dict[str, float]:
        """Scores of the averaged weights on the validation photos, if there are any."""
        if self.validation is None or not self.accelerator.is_main_process:
            return {}
        network = self._plain()
        own = {name: value.clone() for name, value in network.state_dict().items()}
        network.load_state_dict(self.average.state)
        try:
            return self.validation(network.eval())
        finally:
            network.load_state_dict(own)

    def _plain(self) -> Network:
        return self.accelerator.unwrap_model(self.network)

    def _save(self, better: bool) -> None:
        progress = vars(self.state)
        if better:
            checkpoint.save(
                self.folder / "best.safetensors", self.recipe, {"weights": self.average.state}, {}, progress
            )
        moments: dict[str, Tensor] = {}
        for index, state in self.optimizer.state_dict()["state"].items():
            moments |= {f"{index} {name}": torch.as_tensor(value) for name, value in state.items()}
        groups = {"weights": self.average.state, "raw": self._plain().state_dict(), "optimizer": moments}
        groups["balance"] = self.balance.state_dict()
        progress = progress | {"average_steps": self.average.steps}
        checkpoint.keep_previous(self.folder)
        checkpoint.save(self.folder / LAST, self.recipe, groups, {}, progress)

    def _resume(self, say: Callable[[str], None]) -> None:
        last = checkpoint.newest(self.folder, ("weights", "raw", "optimizer", "balance"))
        if last is None:
            return
        if last.recipe != self.recipe:
            raise TrainingError(
                f"{self.folder} has a run of another recipe: choose another folder, or the same settings."
            )
        progress: dict[str, Any] = dict(last.progress)
        self.average.load(last.group("weights"), progress.pop("average_steps"))
        self.state = State(**progress)
        self._plain().load_state_dict(last.group("raw"))
        self.balance.load_state_dict(last.group("balance"))
        if self.state.plateau:
            self.plateau.load(self.state.plateau)
        own = self.optimizer.state_dict()
        own["state"] = defaultdict(dict)
        for key, value in last.group("optimizer").items():
            index, name = key.split(" ", 1)
            own["state"][int(index)][name] = value
        self.optimizer.load_state_dict(own)
        say(f"Going on after epoch {self.state.epoch}.")


def _started(loader: Iterable[Batch]) -> Iterator[Batch]:
    """The loader's batches, the first of them fetched at once.

    This forks the workers before a progress bar starts a thread whose locks they would inherit.
    """
    batches = iter(loader)
    return itertools.chain([next(batches)], batches)


def bfloat16(precision: str) -> bool:
    """Whether to compute in bfloat16. auto: where the machine has instructions for it."""
    if precision != "auto":
        return precision == "bfloat16"
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return bool(torch.cpu.get_capabilities().get("avx512_bf16")) if hasattr(torch.cpu, "get_capabilities") else False


def _sentence(line: dict[str, Any], epochs: int) -> str:
    """An epoch in one line for the terminal: the tasks' losses and the selection score."""
    shown = [name for name in line if name.startswith("loss ") and name.count(" ") == 1] + ["validation selection"]
    numbers = [f"{name} {line[name]:.3f}" for name in shown if name in line]
    return f"epoch {line['epoch']}/{epochs}  {line['seconds']:.0f} s  " + "  ".join(numbers)
