"""The training loop, explicit from the first line to the last.

An interrupted run continues after its last finished epoch and ends in the same bytes as an uninterrupted one: every
random number of an epoch is seeded by the epoch, and the checkpoint has weights, average and optimizer.

The same lines run in one process and in several. What they exchange is in processes.py.
"""

from __future__ import annotations

import itertools
import math
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.data import DataLoader

from funduscope import checkpoint
from funduscope.capacity import READER_BYTES, worker_count
from funduscope.checkpoint import BEST, LAST
from funduscope.data.case import Case
from funduscope.network.network import Network
from funduscope.network.routing import ExpertUsage, Gate, routing_loss_of, routing_sums
from funduscope.progress import Progress, no_progress
from funduscope.recipe import Recipe
from funduscope.training import TrainingError, processes
from funduscope.training.acceleration import compiled, make_accelerator
from funduscope.training.balance import make_balance
from funduscope.training.batch import Batch, Samples, collate
from funduscope.training.distill import Teachers, distill_loss_of, distill_sums
from funduscope.training.hard_negatives import HardNegatives, Mined
from funduscope.training.journal import Journal
from funduscope.training.losses import add, class_weights, loss_sums, losses_of, with_total
from funduscope.training.optimize import load_plateau, make_average, make_optimizer, make_plateau, rate_at
from funduscope.training.sample_scores import SampleScores, score_sums
from funduscope.training.samples import EpochBatches, steps_each
from funduscope.vocabulary import CLASSES

Validation = Callable[[Network], dict[str, float]]
"""Scores a network on the validation photos; the score `selection` decides which epoch is kept."""

MAX_NONFINITE_STEPS = 20


@dataclass
class LoopState:
    """A run's progress. best_epoch: 0 before the first. best_score: -inf without scores. plateau: of `make_plateau`."""

    epoch: int = 0
    step: int = 0
    best_score: float = -math.inf
    best_epoch: int = 0
    plateau: dict[str, Any] = field(default_factory=dict)
    mined: Mined = field(default_factory=list)


class Loop:
    """Trains a network on cases.

    files: prepared file by case key. folder: the run's folder. teachers: models whose answers are learned next to the
    labels. Raises `TrainingError` if an epoch has less than one batch.
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
        self.accelerator = make_accelerator(settings.precision)
        rank, count = self.accelerator.process_index, self.accelerator.num_processes
        self.device = self.accelerator.device
        self.batches = EpochBatches(cases, recipe, rank, count)
        self.steps_each = steps_each(cases, recipe)
        workers = min(-(-settings.workers // processes.local_count()), worker_count(READER_BYTES))
        self.loader = DataLoader(
            Samples(files, recipe),
            batch_sampler=self.batches,
            num_workers=processes.with_shared_memory(workers),
            collate_fn=collate,
            multiprocessing_context=processes.loading_context(workers),
            worker_init_fn=processes.set_up_loading,
            pin_memory=self.device.type == "cuda",
            persistent_workers=workers > 0,  # forked anew they would keep the memory that the epochs before had filled
        )
        network = network.to(self.device, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        if settings.batch_norm == "synchronized" and count > 1 and self.device.type == "cuda":
            torch.nn.SyncBatchNorm.convert_sync_batchnorm(network)
        processes.broadcast_from_first(network.state_dict().values())
        self.network, self.forward = network, compiled(network) if settings.compile else network
        start = {task: getattr(recipe.loss, task) for task in (*CLASSES, "dense", "landmarks", "distill")}
        self.balance = make_balance(recipe.balance, start).to(self.device)
        optimizer = make_optimizer(network, settings, list(self.balance.parameters()), recipe.balance.rate)
        self.optimizer = self.accelerator.prepare(optimizer)
        self.plateau = make_plateau(settings.plateau_factor, settings.plateau_patience)
        self.average = make_average(network, settings.average_decay)
        labels = [case.labels for case in cases if recipe.sampling.whole.get(case.dataset)]
        self.class_weights = {
            task: class_weights(
                [label.class_of(task) for label in labels], len(classes), recipe.loss.class_weight_power
            ).to(self.device)
            for task, classes in CLASSES.items()
        }
        self.state = LoopState()
        self.progress: Progress = no_progress
        self.hard = HardNegatives(recipe)
        self.scores = SampleScores()  # of the epoch so far
        self.accumulated = 0  # batches whose gradients the next step will use

    def run(self, report: processes.OnEpoch = lambda line: None, progress: Progress | None = None) -> LoopState:
        """All remaining epochs; returns the state after them.

        report: takes the journal's line of each epoch. progress: wraps an epoch's batches."""
        self.progress = progress or self.progress
        self._resume()
        main = self.accelerator.is_main_process
        settings = self.recipe.training
        last = settings.epochs
        with Journal(self.folder, self.state.epoch) if main else nullcontext() as journal:
            if last == 0 and not (self.folder / LAST).is_file():  # nothing is learned: the first weights are scored
                self._finish_epoch({"epoch": 0}, journal, time.monotonic(), report, is_last=True)
            while self.state.epoch < last and not self._is_out_of_patience():
                started = time.monotonic()
                line = {"epoch": self.state.epoch + 1, **self._epoch(self.state.epoch + 1)}
                self._finish_epoch(line, journal, started, report, is_last=line["epoch"] == last)
        if main and self.state.epoch < last:
            why = f"none was better since epoch {self.state.best_epoch} (training.patience = {settings.patience})"
            print(f"note: the training ends after epoch {self.state.epoch} of {last}: {why}", file=sys.stderr)
        return self.state

    def _is_out_of_patience(self) -> bool:
        """Whether this epoch was judged, and the best one lies at least `patience` epochs back."""
        settings, epoch, best = self.recipe.training, self.state.epoch, self.state.best_epoch
        return best > 0 and epoch % settings.judge_every == 0 and epoch - best >= settings.patience

    def time_steps(self, steps: int) -> tuple[float, float]:
        """Over up to that many steps after a first one: seconds per sample (infinite if there are none), and the share
        spent waiting for data. For a comparison; the weights change."""
        self._to_training()
        batches = _TimedLoader(self.loader)
        self._step(next(batches), ExpertUsage(), update=True)
        batches.seconds, started, timed = 0.0, time.monotonic(), 0
        for batch in itertools.islice(batches, steps):
            self._step(batch, ExpertUsage(), update=True)
            timed += 1
        seconds = time.monotonic() - started
        each = seconds / timed / self.recipe.training.batch if timed else math.inf
        return each, batches.seconds / seconds

    def _finish_epoch(
        self, line: dict[str, Any], journal: Journal | None, started: float, report: processes.OnEpoch, *, is_last: bool
    ) -> None:
        """Scores the weights after that epoch; writes the journal and the checkpoints."""
        settings = self.recipe.training
        processes.all_reduce_means([*self.network.buffers(), *self.average.module.buffers()])
        self.state.epoch = int(line["epoch"])
        if is_last or self.state.epoch % settings.judge_every == 0:
            scores = self._validate()
            score = scores.get("selection")
            line["best"] = self._is_better(score)
            if settings.schedule == "plateau":
                score = self.state.epoch if score is None else score
                # While the rate rises, no epoch counts against it.
                if score > self.plateau.best or self._done_frac() >= settings.warm_up_frac:
                    self.plateau.step(score)
                self.state.plateau = self.plateau.state_dict()
            line |= {f"validation {name}": value for name, value in scores.items() if not math.isnan(value)}
        line |= {"seconds": round(time.monotonic() - started, 1)}
        if journal is not None:
            journal.write(line)
            self._save(line.get("best", False))
            report(line)
        self.accelerator.wait_for_everyone()

    def _is_better(self, score: float | None) -> bool:
        """Remembers the best epoch: without scores the last one. A NaN is the lowest, but a first epoch is kept."""
        score = -math.inf if score is not None and math.isnan(score) else score
        better = not self.state.best_epoch or score is None or score > self.state.best_score
        if better:
            self.state.best_score, self.state.best_epoch = -math.inf if score is None else score, self.state.epoch
        return better

    def _epoch(self, epoch: int) -> dict[str, float]:
        """One pass. Returns the mean of each loss and of each task weight over the steps that had it, and the learning
        rate of the last step (the encoder's is `encoder_rate_frac` times that)."""
        settings = self.recipe.training
        self.batches.epoch, self.batches.mined = epoch - 1, self.state.mined
        self.hard = HardNegatives(self.recipe, self.steps_each[epoch - 1] * settings.batch)
        self._to_training()
        sums: dict[str, float] = defaultdict(float)
        counts: dict[str, int] = defaultdict(int)
        bad, usage, steps = 0, ExpertUsage(), self.steps_each[epoch - 1]
        self.scores = SampleScores()
        started = time.monotonic()
        waiting = _TimedLoader(self.loader)  # which waits for its first batch already
        # for dropout, and after the loader, which draws a number when it starts its processes: in the first epoch alone
        torch.manual_seed(settings.seed * 100_003 + epoch + 7919 * self.accelerator.process_index)
        for step, batch in enumerate(self.progress(waiting, f"Epoch {epoch} of {settings.epochs}", steps), 1):
            numbers, rate = self._step(batch, usage, update=step % settings.accumulate == 0 or step == steps)
            if numbers is None:
                bad += 1
                if bad > MAX_NONFINITE_STEPS:
                    raise TrainingError(
                        f"More than {MAX_NONFINITE_STEPS} steps of epoch {epoch} had a loss that is not finite: "
                        "lower training.learning_rate."
                    )
                continue
            for name, value in numbers.items():
                sums[name] += value
                counts[name] += 1
        self.state.mined = self.hard.mined()
        for sentence in usage.neglected() if self.accelerator.is_main_process else ():
            print(f"warning: {sentence}", file=sys.stderr)
        means = with_total({name: sums[name] / counts[name] for name in sums}, self.recipe.loss)
        line = means | usage.numbers() | self.scores.numbers()
        line |= {"skipped": bad, "learning rate": rate * settings.learning_rate}
        line["waiting_frac"] = round(waiting.seconds / max(time.monotonic() - started, 1e-9), 4)
        return line | {
            "samples": steps * settings.batch,
            "samples_digest": int(processes.all_reduce_number(self.batches.digest)),
        }

    def _to_training(self) -> None:
        self.network.train()
        for module in self.network.modules():
            if isinstance(module, Gate):
                module.keeps_all_now = self._done_frac() < self.recipe.experts.every_until
            if self.recipe.training.batch_norm == "frozen" and isinstance(module, _BatchNorm):
                module.eval()

    def _step(self, batch: Batch, usage: ExpertUsage, *, update: bool) -> tuple[dict[str, float] | None, float]:
        """One batch: losses and task weights by name, and the share of the full learning rate.

        update: takes a step with the gradients since the last one. None instead of the losses where a loss or gradient
        was not finite; that step is skipped.
        """
        settings, tasks = self.recipe.training, self.recipe.tasks
        self.state.step += 1
        # that of the middle of an update's batches: at their end a cosine's last rate is 0
        middle = self._done_frac(settings.accumulate / 2)
        rate = rate_at(middle, settings.warm_up_frac, settings.schedule) * float(self.plateau.get_last_lr()[0])
        if settings.schedule == "step":
            rate *= settings.step_factor ** (self.state.epoch // settings.step_epochs)
        for group in self.optimizer.param_groups:
            group.setdefault("full_rate", group["lr"])
            group["lr"] = group["full_rate"] * rate
        batch = batch.to(self.device, non_blocking=True)
        with self.accelerator.autocast():  # in float32 a large teacher takes longer than the whole training
            outputs = self.forward(batch.image)
            taught = self.teachers and self.teachers(batch.image, batch.whole)
        if self.hard.count:
            self.hard.see(self.batches.parts, batch, outputs.structures)
        sums = loss_sums(outputs, batch, self.recipe.loss, tasks.structures, self.class_weights, tasks.landmarks)
        if taught is not None:
            sums |= distill_sums(outputs, taught, self.recipe.loss, tasks.structures, tasks.landmarks)
        sums |= routing_sums(outputs.routing, self.recipe.experts)
        sums |= score_sums(outputs, batch, tasks.structures)
        sums = processes.all_reduce_sums(sums)
        usage.add(sums)
        self.scores.take(sums)
        by_structure: dict[str, Tensor] = {}
        losses = losses_of(sums, self.recipe.loss, by_structure)
        add(losses, "distill", distill_loss_of(sums, self.recipe.loss))
        routing = routing_loss_of(sums, self.recipe.experts)
        total = self.balance.backward(losses, routing, self.accelerator.backward)
        self.accumulated += total is not None and bool(torch.isfinite(total))
        norm = self._update() if update else None
        if total is None or not bool(torch.isfinite(total)):
            return ({} if total is None else None), rate
        if update and norm is None:
            return None, rate
        if routing is not None:
            losses["routing"] = routing
        losses |= {f"dense {code}": loss for code, loss in by_structure.items()}
        numbers = {f"loss {name}": float(loss.detach()) for name, loss in losses.items()}
        numbers |= {"gradient norm": norm} if norm is not None else {}
        weights = {} if self.recipe.balance.kind == "fixed" else self.balance.applied
        return numbers | {f"weight {task}": weight for task, weight in weights.items()}, rate

    def _update(self) -> float | None:
        """Takes a step with the mean of the accumulated gradients, and returns their norm before it is clipped.

        None, and no step, if there are no gradients or they are not finite.
        """
        processes.all_reduce_gradients(self.network.parameters())
        accumulated, self.accumulated = self.accumulated, 0
        if accumulated > 1:
            for parameter in (one for group in self.optimizer.param_groups for one in group["params"]):
                if parameter.grad is not None:
                    parameter.grad /= accumulated
        if all(parameter.grad is None for parameter in self.network.parameters()):
            return None
        norm = self.accelerator.clip_grad_norm_(self.network.parameters(), self.recipe.training.clip_norm)
        norm = 0.0 if norm is None else float(norm)
        sound = math.isfinite(norm)
        if sound or self.accelerator.scaler is not None:  # the scaler skips the step itself, and lowers its scale
            self.optimizer.step()
        if sound:
            self.average.update_parameters(self.network)
        self.optimizer.zero_grad()
        return norm if sound else None

    def _done_frac(self, ago: float = 0.0) -> float:
        """The share of all steps that are done, or were so many steps ago."""
        return max(self.state.step - ago, 0.0) / max(sum(self.steps_each), 1)

    def _validate(self) -> dict[str, float]:
        """Scores of the averaged weights on the validation photos, if there are any."""
        if self.validation is None:
            return {}
        averaged = self.average.module.eval()
        assert isinstance(averaged, Network)
        return self.validation(averaged)

    def _save(self, better: bool) -> None:
        progress = vars(self.state)
        weights = self.average.module.state_dict()
        if better:
            nameless = progress | {"mined": []}  # the best weights are handed on, and name no photo
            checkpoint.save(self.folder / BEST, self.recipe, {"weights": weights}, {}, nameless)

        moments: dict[str, Tensor] = {}
        for index, state in self.optimizer.state_dict()["state"].items():
            moments |= {f"{index} {name}": torch.as_tensor(value) for name, value in state.items()}
        groups = {"weights": weights, "raw": self.network.state_dict(), "optimizer": moments}
        groups["balance"] = self.balance.state_dict()
        progress = progress | {"average_steps": int(self.average.n_averaged)}
        if self.accelerator.scaler is not None:
            progress |= {"scaler": self.accelerator.scaler.state_dict()}
        checkpoint.keep_previous(self.folder)
        checkpoint.save(self.folder / LAST, self.recipe, groups, {}, progress)

    def _resume(self) -> None:
        last = checkpoint.newest(self.folder, ("weights", "raw", "optimizer", "balance"))
        if last is None:
            return
        progress: dict[str, Any] = dict(last.progress)
        self.average.module.load_state_dict(last.group("weights"))
        self.average.n_averaged.fill_(progress.pop("average_steps"))
        scaler = progress.pop("scaler", None)
        if scaler and self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(scaler)
        self.state = LoopState(**progress)
        self.network.load_state_dict(last.group("raw"))
        self.balance.load_state_dict(last.group("balance"))
        if self.state.plateau:
            load_plateau(self.plateau, self.state.plateau)
        own = self.optimizer.state_dict()
        own["state"] = defaultdict(dict)
        for key, value in last.group("optimizer").items():
            index, name = key.split(" ", 1)
            own["state"][int(index)][name] = value
        self.optimizer.load_state_dict(own)
        if self.accelerator.is_main_process:
            print(f"Resuming after epoch {self.state.epoch}.", file=sys.stderr)


class _TimedLoader(Iterator[Batch]):
    """The loader's batches, the first of them fetched at once, and the seconds that were spent waiting for them.

    Fetching forks the workers before a progress bar starts a thread whose locks they would inherit.
    """

    def __init__(self, loader: Iterable[Batch]) -> None:
        self.batches = iter(loader)
        self.seconds = 0.0
        self.first: Batch | None = self._fetch()

    def __next__(self) -> Batch:
        first, self.first = self.first, None
        return self._fetch() if first is None else first

    def _fetch(self) -> Batch:
        started = time.monotonic()
        batch = next(self.batches)
        self.seconds += time.monotonic() - started
        return batch
