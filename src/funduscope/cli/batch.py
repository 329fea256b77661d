"""The verb `batch`: reads a program's photos with several processes and writes tables."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from funduscope.cli.options import AsJson, DeviceName, DeviceOption, Force, ModelOption
from funduscope.cli.termination import ended_by_sigterm
from funduscope.progress import tell

if TYPE_CHECKING:
    from funduscope.batch.run import BatchProgress

MAX_PROCESSES = 256
LINE_S = 60.0
"""Between two lines of progress."""


def batch(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="INPUT", help="A folder, a table (.csv, .parquet) or an archive (.zip, .tar).", exists=True
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder for the tables.", file_okay=False, metavar="DIR")],
    model: ModelOption = None,
    processes: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(
            help="Processes that read. Default: one per core if there is memory; two on a GPU.",
            min=1,
            max=MAX_PROCESSES,
            metavar="N",
        ),
    ] = None,
    ray: Annotated[str, typer.Option(help="Read on this Ray cluster, not in local processes.", metavar="ADDRESS")] = "",
    threads: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(help="Processor threads of each. Default: its share of the cores.", min=1, max=256, metavar="N"),
    ] = None,
    device: DeviceOption = DeviceName.CPU,
    column: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(help="A further column of the table to copy; repeatable.", metavar="NAME"),
    ] = None,
    files: Annotated[bool, typer.Option("--files", help="Also write each photo's masks, overlay and report.")] = False,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Also read again what failed.")] = False,
    force: Force = False,
    as_json: AsJson = False,
) -> int:
    """Read many photos into tables of findings and patients.

    INPUT's table has the column path and any of patient, eye, visit, date and camera. --out gets findings.parquet,
    lesions.parquet, patients.parquet and .csv, failures.csv, run.json and batch.html. Stopped or killed, the same
    command continues; photos that are new or changed are read, the others are not read again. Progress is a line a
    minute on stderr; with --json, JSON lines on stdout.
    """
    from funduscope.batch.reader import ReadingSettings
    from funduscope.batch.run import run_batch
    from funduscope.cli.terminal import note_system_files
    from funduscope.inference.runtime import has_cuda

    on_gpu = device == DeviceName.CUDA or (device == DeviceName.AUTO and has_cuda())
    processes, threads = _shares(processes, threads, on_gpu=on_gpu, on_cluster=bool(ray))
    reading = ReadingSettings(tuple(model or ()), threads, device.value, force, out / "files" if files else None)
    if ray:
        print(f"Waiting for the Ray cluster at {ray}; without one Ray gives up after some minutes.", file=sys.stderr)
    note_system_files([source])
    with ended_by_sigterm("the batch was ended ({signal}): the same command continues"):
        photos = run_batch(
            source,
            out,
            reading,
            processes=processes,
            ray=ray,
            columns=column or (),
            retry_failed=retry_failed,
            progress=_Lines(as_json),
        )["photos"]
    _print_end(photos, source, out, as_json)
    return 1 if photos["failed"] or not photos["given"] else 0


def _print_end(photos: Mapping[str, int], source: Path, out: Path, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"event": "done", **photos}))
    else:
        _print_counts(photos, out)
    if not photos["given"]:
        print(f"funduscope: {source} has no photo: expected JPEG, PNG, TIFF or DICOM files", file=sys.stderr)


def _print_counts(photos: Mapping[str, int], out: Path) -> None:
    print(", ".join(f"{photos[state]} {state}" for state in ("given", "read", "refused", "failed")) + ".")
    if photos["failed"]:
        print(f"{out / 'failures.csv'} says why photos failed.")
    if unwritten := photos.get("without_files"):
        print(f"The files of {unwritten} photos that were answered could not be written: failures.csv says why.")
    if photos["given"]:
        print(f"Open {out / 'batch.html'}")


def _shares(processes: int | None, threads: int | None, *, on_gpu: bool, on_cluster: bool) -> tuple[int, int]:
    """How many processes read, and the threads of each, where a user leaves one or both to this machine."""
    from funduscope.capacity import READER_BYTES, core_count, worker_count

    cores = core_count()
    if processes is None:
        by_cores = max(1, min(MAX_PROCESSES, cores // (threads or 1)))
        processes = 2 if on_gpu else min(by_cores, worker_count(READER_BYTES))
    return processes, threads or (1 if on_cluster else max(1, cores // processes))


class _Lines:
    """Prints the progress, at most a line a minute. The first comes with the first photo."""

    def __init__(self, as_json: bool) -> None:
        self.as_json = as_json
        self._last_s: float | None = None

    def __call__(self, now: BatchProgress) -> None:
        if self._last_s is not None and time.monotonic() - self._last_s < LINE_S:
            return
        self._last_s = time.monotonic()
        rate = None if now.photos_per_s is None else round(now.photos_per_s, 2)
        left_s = None if now.left_s is None else round(now.left_s)
        if self.as_json:
            line = {"event": "progress", "done": now.done, "of": now.total, "photos_per_s": rate, "left_s": left_s}
            tell(json.dumps(line), sys.stdout)
        else:
            pace = "" if left_s is None else f", {rate} a second, {_duration(left_s)} left"
            tell(f"{now.done} of {now.total} photos{pace}", sys.stderr)


def _duration(seconds: int) -> str:
    if seconds < 120:
        return f"{seconds} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"
