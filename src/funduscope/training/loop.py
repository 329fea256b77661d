"""The training loop, explicit from the first line to the last.

Interrupted anywhere, it goes on from the last finished epoch and ends in the same bytes as an unbroken run: every draw
of an epoch is seeded by the epoch, and the checkpoint holds weights, average and optimizer.
"""

from __future__ import annotations

import itertools
import math
import sys
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
from funduscope.data.case import Case
from funduscope.duplicates.search import Progress
from funduscope.network.network import Network
from funduscope.network.routing import routing_loss
from funduscope.recipe import Recipe
from funduscope.training.balance import make_balance
from funduscope.training.checkpoints import LAST, keep_previous, newest
from funduscope.training.distill import Teachers, distill_loss
from funduscope.training.expert_usage import Usage
from funduscope.training.journal import Journal
from funduscope.training.losses import add, class_weights, task_losses
from funduscope.training.optimise import Average, Plateau, make_optimizer, rate_at
from funduscope.training.samples import EpochOrder, Samples, draw_epoch
from funduscope.vocabulary import DME_RISKS, GRADES

Judge = Callable[[Network], dict[str, float]]
"""Scores a network on the validation photos; `selection` among the scores decides which epoch is kept."""

MOST_BAD_STEPS = 20


class TrainingError(RuntimeError):
    """A training that cannot go on; the message says why and what to do."""


@dataclass
class State:
    """Where a run stands."""

    epoch: int = 0
    step: int = 0
    best_score: float = -math.inf
    best_epoch: int = 0
    plateau: dict[str, float] = field(default_factory=dict)


class Loop:
    """Trains a network on cases. files: prepared file by case key. folder: the run's; judge: see `Judge`; teachers:
    models whose answers are learned beside the labels."""

    def __init__(
        self,
        recipe: Recipe,
        network: Network,
        cases: list[Case],
        files: dict[str, Path],
        folder: Path,
        judge: Judge | None,
        teachers: Teachers | None = None,
    ) -> None:
        settings = recipe.training
        self.recipe, self.folder, self.judge, self.teachers = recipe, folder, judge, teachers
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
            drop_last=True,  # a last batch of one has no batch statistics
            persistent_workers=False,
        )
        network = network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        start = {task: getattr(recipe.loss, task) for task in ("grade", "dme", "dense", "landmarks", "distill")}
        self.balance = make_balance(recipe.balance, start).to(self.accelerator.device)
        optimizer = make_optimizer(network, settings, list(self.balance.parameters()), recipe.balance.rate)
        self.network, self.optimizer, self.loader = self.accelerator.prepare(network, optimizer, loader)
        self.plateau = Plateau(settings.plateau_factor, settings.plateau_patience)
        self.average = Average(self._plain(), settings.average_decay)
        labels = [case.labels for case in cases if recipe.sampling.whole.get(case.dataset)]
        power = recipe.loss.class_weight_power
        device = self.accelerator.device
        self.class_weights = {
            "grade": class_weights([label.grade for label in labels], len(GRADES), power).to(device),
            "dme": class_weights([label.dme for label in labels], len(DME_RISKS), power).to(device),
        }
        self.state = State()
        self.progress: Progress = lambda items, words, total: items
        self.gathered = 0  # batches whose gradients wait for the next step

    def run(
        self, say: Callable[[str], None] = print, until: int | None = None, progress: Progress | None = None
    ) -> State:
        """All epochs that are left, or those up to `until`; returns where it ended. progress: shows each one's
        batches."""
        self.progress = progress or self.progress
        self._resume(say)
        journal = Journal(self.folder, self.state.epoch)
        settings = self.recipe.training
        last = settings.epochs if until is None else until
        if last == 0 and not (self.folder / LAST).is_file():  # nothing is learned: what it began with is judged
            self._end({"epoch": 0}, journal, time.monotonic(), say)
        while self.state.epoch < last and self.state.epoch - self.state.best_epoch < settings.patience:
            started = time.monotonic()
            line = {"epoch": self.state.epoch + 1, **self._epoch(self.state.epoch + 1)}
            self._end(line, journal, started, say)
        return self.state

    def _end(self, line: dict[str, float], journal: Journal, started: float, say: Callable[[str], None]) -> None:
        """Judges the weights as they are after that many epochs, and writes everything down."""
        settings = self.recipe.training
        scores = self._judge()
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
        """Takes note of an epoch's score. One that is not a number is the lowest, but the first is kept in any case."""
        score = -math.inf if math.isnan(score) else score
        better = not self.state.best_epoch or score > self.state.best_score
        if better:
            self.state.best_score, self.state.best_epoch = score, self.state.epoch
        return better

    def _epoch(self, epoch: int) -> dict[str, float]:
        """One pass; returns the mean of each loss, and of each weight that it had, over the steps that had it."""
        torch.manual_seed(self.recipe.training.seed * 100_003 + epoch)  # dropout's draws
        # A resumed run must tell accelerate where it stands, which else starts again with the first epoch's photos.
        self.loader.set_epoch(epoch - 1)
        self.network.train()
        sums: dict[str, float] = defaultdict(float)
        counts: dict[str, int] = defaultdict(int)
        bad, usage = 0, Usage()
        words = f"Epoch {epoch} of {self.recipe.training.epochs}"
        for batch in self.progress(_begun(self.loader), words, self.steps_each[epoch - 1]):
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

    def _step(self, batch: dict[str, Tensor], usage: Usage) -> tuple[dict[str, float] | None, float]:
        """One batch: losses and the tasks' weights by name, and the rate; None for them where loss or gradient was not
        finite and the step was skipped."""
        settings, tasks = self.recipe.training, self.recipe.tasks
        self.state.step += 1
        rate = rate_at(self._progress(), settings.warm_up_frac, settings.schedule) * self.plateau.scale
        for group in self.optimizer.param_groups:
            group.setdefault("full_rate", group["lr"])
            group["lr"] = group["full_rate"] * rate
        self.gathered += 1
        with self.accelerator.accumulate(self.network):
            with self.accelerator.autocast():  # in float32 a large teacher takes longer than all of the training
                outputs = self.network(batch["image"])
                taught = self.teachers and self.teachers(batch["image"], batch["whole"])
            told: dict[str, Tensor] = {}
            losses = task_losses(
                outputs, batch, self.recipe.loss, tasks.structures, self.class_weights, tasks.landmarks, told
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
        losses |= {f"dense {code}": loss for code, loss in told.items()} | {"total": total}
        numbers = {f"loss {name}": float(loss.detach()) for name, loss in losses.items()}
        weights = {} if self.recipe.balance.kind == "fixed" else self.balance.applied
        return numbers | {f"weight {task}": weight for task, weight in weights.items()}, rate

    def _update(self) -> bool:
        """Steps by what has gathered in the gradients; False where nothing has, or it is not finite."""
        short, self.gathered = self.recipe.training.accumulate / self.gathered, 0
        if short != 1:  # an epoch ends with fewer batches than accelerate divides by: the step is their mean, too
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

    def peak_mb(self) -> float | None:
        """The most memory so far in 10**6 bytes: of the accelerator's where there is one, else resident, of this
        process since its start and without the loader's workers; None where the system does not say.
        """
        if self.accelerator.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.accelerator.device) / 1e6
        try:
            import resource
        except ImportError:  # not a Unix
            return None
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6

    def _progress(self) -> float:
        """The share of all steps that is done."""
        return self.state.step / max(sum(self.steps_each), 1)

    def _judge(self) -> dict[str, float]:
        """Scores of the averaged weights on the validation photos; nothing where there is no judge."""
        if self.judge is None or not self.accelerator.is_main_process:
            return {}
        network = self._plain()
        own = {name: value.clone() for name, value in network.state_dict().items()}
        network.load_state_dict(self.average.state)
        try:
            return self.judge(network.eval())
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
        for index, held in self.optimizer.state_dict()["state"].items():
            moments |= {f"{index} {name}": torch.as_tensor(value) for name, value in held.items()}
        groups = {"weights": self.average.state, "raw": self._plain().state_dict(), "optimizer": moments}
        groups["balance"] = self.balance.state_dict()
        progress = progress | {"average_steps": self.average.steps}
        keep_previous(self.folder)
        checkpoint.save(self.folder / LAST, self.recipe, groups, {}, progress)

    def _resume(self, say: Callable[[str], None]) -> None:
        held = newest(self.folder, ("weights", "raw", "optimizer", "balance"))
        if held is None:
            return
        if held.recipe != self.recipe:
            raise TrainingError(
                f"{self.folder} holds a run of another recipe: choose another folder, or the same settings."
            )
        progress: dict[str, Any] = dict(held.progress)
        self.average.load(held.group("weights"), progress.pop("average_steps"))
        self.state = State(**progress)
        self._plain().load_state_dict(held.group("raw"))
        self.balance.load_state_dict(held.group("balance"))
        if self.state.plateau:
            self.plateau.load(self.state.plateau)
        own = self.optimizer.state_dict()
        own["state"] = defaultdict(dict)
        for key, value in held.group("optimizer").items():
            index, name = key.split(" ", 1)
            own["state"][int(index)][name] = value
        self.optimizer.load_state_dict(own)
        say(f"Going on after epoch {self.state.epoch}.")


def _begun(loader: Iterable[dict[str, Tensor]]) -> Iterator[dict[str, Tensor]]:
    """The loader's batches, the first of them made at once: its workers are forked then, before a progress bar has a
    thread whose locks they would inherit."""
    batches = iter(loader)
    return itertools.chain([next(batches)], batches)


def bfloat16(precision: str) -> bool:
    """Whether to compute in bfloat16: asked for, or the machine has instructions for it."""
    if precision != "auto":
        return precision == "bfloat16"
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return bool(torch.cpu.get_capabilities().get("avx512_bf16")) if hasattr(torch.cpu, "get_capabilities") else False


def _sentence(line: dict[str, Any], epochs: int) -> str:
    """An epoch in one line for the terminal: the tasks' losses and what selects; everything else is in the journal."""
    shown = [name for name in line if name.startswith("loss ") and name.count(" ") == 1] + ["validation selection"]
    numbers = [f"{name} {line[name]:.3f}" for name in shown if name in line]
    return f"epoch {line['epoch']}/{epochs}  {line['seconds']:.0f} s  " + "  ".join(numbers)
