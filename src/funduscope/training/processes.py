"""Several processes that train one network: what they add up, how they are started, and how they end.

Each process has a share of every batch. Their loss sums are added before a loss is taken, and their gradients after the
backward pass, so that a step is that of one process with the whole batch (batch norm apart, which sees a process's own
share unless the recipe says otherwise).

A process is bound to its own cores: two processes whose threads share cores slow each other down many times.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import math
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing.queues import SimpleQueue
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from accelerate import PartialState
from torch import Tensor, nn
from torch.distributed.elastic.utils.distributed import get_free_port
from torch.multiprocessing.spawn import ProcessContext, ProcessException, start_processes

from funduscope.capacity import TRAINING_BYTES, allowed_cores, core_count, worker_count
from funduscope.freed_memory import NO_LIMIT, keep_freed_memory
from funduscope.i18n.errors import SHARED_MEMORY, CodedError, machine_fault
from funduscope.process_pool import end_with_parent, ignoring_interrupts
from funduscope.progress import Progress, no_progress
from funduscope.training import TrainingError

T = TypeVar("T")
OnEpoch = Callable[[dict[str, Any]], None]
"""Receives an epoch's line of the journal."""


@dataclass(frozen=True)
class Watch:
    """Who follows a training. progress: wraps what takes long. report: takes the journal's line of each epoch;
    without it `train_network` prints a sentence."""

    progress: Progress = no_progress
    report: OnEpoch | None = None


MAX_WAIT = timedelta(hours=12)
"""How long the other processes wait while one prepares photos."""
STEPS_TIMED = 2
POLL_S = 0.1
"""How often the reports of processes are read, and how long those wait that are to end after a failed one."""

logging.getLogger("torch.multiprocessing.spawn").setLevel(logging.ERROR)  # it warns of each process that it ends


def state() -> PartialState:
    """Which process this is, of how many. One of one, unless `run` or `accelerate launch` started several."""
    return PartialState(cpu=not torch.accelerator.is_available(), timeout=MAX_WAIT)


def is_distributed() -> bool:
    """Whether this process is one of several that train together."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


@atexit.register
def _leave_group() -> None:
    """Ends what this process exchanges sums with: at its end gloo's threads would abort it."""
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


class _AllReduce(torch.autograd.Function):
    """The sum over the processes. Its gradient is that of a process's own part."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        total = values.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0]


def local_count() -> int:
    """The processes of this machine, which share its cores."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def loading_context(count: int) -> str | None:
    """How loading processes are started, None for torch's own choice. In a process that was spawned that would be to
    spawn them: every epoch each of them would import torch anew."""
    return "fork" if count and sys.platform == "linux" else None


def set_up_loading(worker: int) -> None:
    """Lets a process that reads samples leave SIGTERM to the training, which ends it: sent to a whole group, the signal
    would end the readers first, and the training would call that a fault. It ends with the training, too."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    threading.Thread(target=end_with_parent, daemon=True).start()


def with_shared_memory(count: int) -> int:
    """That number of loading processes. Raises `CodedError` (E_MEMORY) if they could not hand over data: /dev/shm is
    missing or read-only. Asked before torch starts them, which would add a traceback of its own."""
    try:
        if count:
            multiprocessing.Semaphore()
    except OSError as error:
        raise CodedError("E_MEMORY", SHARED_MEMORY) from error
    return count


def all_reduce_sums(sums: dict[str, Tensor]) -> dict[str, Tensor]:
    """The sums of all processes, in one exchange. sums: one-dimensional, the same names and lengths in each process."""
    if not is_distributed():
        return sums
    flat = torch.cat(list(sums.values()))
    if not flat.requires_grad:  # this process knows nothing of the batch, and takes part in the step all the same
        flat.requires_grad_()
    parts = _AllReduce.apply(flat).split([len(values) for values in sums.values()])  # pyright: ignore
    return dict(zip(sums, parts, strict=True))


def all_reduce_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Adds the gradients of all processes. A parameter without a gradient in every process keeps none."""
    if not is_distributed():
        return
    every = list(parameters)
    there = torch.tensor([parameter.grad is not None for parameter in every], dtype=torch.uint8)
    there = there.to(every[0].device)
    dist.all_reduce(there, dist.ReduceOp.MAX)
    used = [parameter for parameter, has in zip(every, there.tolist(), strict=True) if has]
    if not used:
        return
    for parameter in used:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    gradients = [parameter.grad for parameter in used if parameter.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(flat)
    for gradient, total in zip(gradients, flat.split([one.numel() for one in gradients]), strict=True):
        gradient.copy_(total.view_as(gradient))


def all_reduce_means(tensors: Iterable[Tensor]) -> None:
    """Makes floating tensors, such as running statistics, the mean over the processes, in place."""
    if not is_distributed():
        return
    for tensor in tensors:
        if tensor.is_floating_point():
            dist.all_reduce(tensor)
            tensor /= dist.get_world_size()


def broadcast_from_first(tensors: Iterable[Tensor]) -> None:
    """Gives every process the tensors of the first, in place."""
    if is_distributed():
        for tensor in tensors:
            dist.broadcast(tensor, 0)


def all_reduce_number(number: float) -> float:
    """The sum of a number over the processes."""
    if not is_distributed():
        return number
    value = torch.tensor(number, dtype=torch.float64, device=state().device)
    dist.all_reduce(value)
    return value.item()


def own_share() -> slice:
    """This process's part of any list: every N-th item. `all_gather` puts what was made of them back in order."""
    return slice(state().process_index, None, state().num_processes)


def all_gather(parts: list[T]) -> list[T]:
    """What all processes made of their shares of a list, in the order of the list."""
    if not is_distributed():
        return parts
    every: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(every, parts)
    longest = max(map(len, every))
    return [part[place] for place in range(longest) for part in every if place < len(part)]


def run(count: int, work: Callable[[Any, Watch], T], job: Any, watch: Watch) -> T:
    """Call `work(job, watch)` in that many processes of this machine. Return the result of the first.

    work: a function of a module.
    job: anything that can be pickled.
    watch: called in this process, with what the first process does.

    Raises `TrainingError` if a process ends before its work is done; the others are ended then.
    """
    reports = multiprocessing.get_context("spawn").SimpleQueue()
    place = (count, get_free_port(), allowed_cores(), math.ceil(core_count() / count))
    earlier_children = {*multiprocessing.active_children()}
    try:
        with ignoring_interrupts():
            group = start_processes(_child, (*place, reports, work, job), count, join=False)
    except BaseException:  # SIGTERM, or no memory: torch does not end those that it has started
        for process in {*multiprocessing.active_children()} - earlier_children:
            process.kill()
        raise

    assert group is not None, "it is None only where torch waits for the end"
    try:
        return _follow(_receive(group, reports), watch)
    finally:
        for process in filter(None, group.processes):
            process.kill()
            process.join()


def _slice(every: list[int], rank: int, count: int) -> list[int]:
    """The cores of one process: as equal parts as can be; shared ones where there are more processes than cores."""
    if count > len(every):
        return [every[rank % len(every)]]
    return every[rank * len(every) // count : (rank + 1) * len(every) // count]


def _child(
    rank: int,
    count: int,
    port: int,
    cores: list[int],
    n_threads: int,
    reports: SimpleQueue[Any],
    work: Callable[[Any, Watch], Any],
    job: Any,
) -> None:
    """The life of one process: its cores, its place among the others, the work, and reports to the parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; the parent ends them
    threading.Thread(target=end_with_parent, daemon=True).start()
    keep_freed_memory(NO_LIMIT)

    cores = _slice(cores, rank, count)
    with contextlib.suppress(AttributeError, OSError):  # not on every system, and no fault where it is refused
        os.sched_setaffinity(0, cores)
    n_threads = min(n_threads, len(cores))
    torch.set_num_threads(n_threads)

    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count}
    place |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": n_threads}
    os.environ |= {name: str(value) for name, value in place.items()}

    report: Callable[[Any], None] = reports.put if rank == 0 else lambda _: None

    def progress(items: Iterable[T], label: str, total: int | None = None) -> Iterator[T]:
        report(("begin", label, total))
        for item in items:
            yield item
            report(("step",))
        report(("end",))

    try:
        result = work(job, Watch(progress, lambda line: report(("epoch", line))))
    except Exception as error:
        is_sentence = isinstance(error, TrainingError | CodedError)
        fault = error if is_sentence else machine_fault(error)
        if fault is None:
            raise  # torch brings the traceback to the parent
        reports.put(("refused", fault))
        sys.exit(1)
    report(("result", result))


def _follow(events: Iterator[tuple[Any, ...]], watch: Watch) -> Any:
    """Pass on what the first process reports, and return its result. Raises what a process refused."""
    result = None
    for kind, *values in events:
        if kind == "begin":
            for _ in watch.progress(_steps(events), *values):
                pass
        elif kind == "epoch" and watch.report is not None:
            watch.report(*values)
        elif kind == "result":
            result = values[0]
    return result


def _steps(events: Iterator[tuple[Any, ...]]) -> Iterator[None]:
    for kind, *_ in events:
        if kind == "end":
            return
        yield


def _receive(group: ProcessContext, reports: SimpleQueue[Any]) -> Iterator[tuple[Any, ...]]:
    """Yield what the processes report until all have ended. Raises what a process refused, or `TrainingError`."""
    failure = None
    has_ended = False
    while not has_ended:
        try:
            has_ended = group.join(POLL_S, grace_period=POLL_S)
        except ProcessException as error:
            failure, has_ended = error, True

        while not reports.empty():
            kind, *values = reports.get()
            if kind == "refused":
                raise values[0]
            yield kind, *values

    if failure is not None:
        raise TrainingError(_explain(group, failure)) from failure


def _explain(group: ProcessContext, failure: ProcessException) -> str:
    """Say what failed. A process that was killed makes the others fail, or torch ends them by SIGTERM."""
    count = len(group.processes)
    remedy = "The same command continues from the last epoch."
    for number, process in enumerate(group.processes, 1):
        if process.exitcode < 0 and process.exitcode != -signal.SIGTERM:
            cause = " (often: too little memory)" if process.exitcode == -signal.SIGKILL else ""
            return f"Process {number} of {count} was ended by signal {-process.exitcode}{cause}. {remedy}"

    last_line = failure.msg.strip().splitlines()[-1]  # of the traceback
    return f"One of the {count} processes of the training failed. {remedy} {last_line}"


def candidates(batch: int) -> list[int]:
    """Numbers of processes worth a try: the number of GPUs; without any, powers of two up to the number of cores,
    as far as there is memory.

    Each process needs at least two samples of a batch, for batch norm.
    """
    gpus = torch.cuda.device_count()
    most = min(gpus or worker_count(TRAINING_BYTES), max(batch // 2, 1))
    return [most] if gpus else [count for count in (1, 2, 4, 8) if count <= most]
