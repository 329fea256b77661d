"""A batch from its list of photos to its tables: `run_batch`."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

from funduscope.atomic import remove_abandoned, write_atomically, write_json
from funduscope.batch.batch_html import PagePatients, page, read_page_columns
from funduscope.batch.columns import LESION_COLUMNS, Column, finding_columns, measure_columns, place_columns
from funduscope.batch.patients import PATIENT_COLUMNS, patient_rows, sorting_key
from funduscope.batch.photo_list import PhotoList, TablePhotos, open_list
from funduscope.batch.reader import ReadingSettings, places_without_files, remove_old_files
from funduscope.batch.readers import Job, read_all
from funduscope.batch.results import Result
from funduscope.batch.store import Store
from funduscope.batch.tables import decode_rows, lesion_rows, sort_rows, write_csv, write_parquet
from funduscope.i18n.errors import CodedError
from funduscope.inference.model import Model, identity
from funduscope.inference.urgency import urgency_sha256
from funduscope.version import __version__

_PACKAGES: Final = (
    "numpy",
    "onnxruntime",
    "opencv-python-headless",
    "pillow",
    "pyarrow",
    "pydicom",
    "ray",
    "simplejpeg",
)


@dataclass(frozen=True)
class BatchProgress:
    """done: photos of `total` that this run has answered, the last of them `seconds` after the first. photos_per_s and
    left_s, the time left, are None after the first photo, whose time includes starting the processes."""

    done: int
    total: int
    seconds: float

    @property
    def photos_per_s(self) -> float | None:
        return (self.done - 1) / self.seconds if self.done > 1 and self.seconds else None

    @property
    def left_s(self) -> float | None:
        return (self.total - self.done) / self.photos_per_s if self.photos_per_s else None


def run_batch(
    source: Path,
    out: Path,
    reading: ReadingSettings,
    *,
    processes: int = 1,
    ray: str = "",
    columns: Sequence[str] = (),
    retry_failed: bool = False,
    progress: Callable[[BatchProgress], None] = lambda _: None,
) -> dict[str, Any]:
    """Reads every photo of `source` once, writes the tables into `out`, and returns what run.json holds.

    source: a folder, a table or an archive: see `open_list`. processes: of this machine. ray: address of a cluster that
    reads in their place: see `read_with_ray`. columns: of a table, further ones to copy. retry_failed: photos that
    failed earlier are read again, but for those that the list says must not be opened. progress: called after each
    photo. Called again with the same arguments it continues where it was stopped. Raises `CodedError` if `source`
    cannot be listed, `out` has a batch of another model or other settings, or the model cannot be loaded.
    """
    photos = open_list(source, columns)
    model = reading.load()
    files = "" if reading.files is None else Path(os.path.relpath(reading.files, out)).as_posix()
    _check_columns(model, columns, files)
    settings = _settings(model, reading, columns)
    began, first_answer = time.monotonic(), 0.0
    with closing(Store(out, settings)) as store:
        total = store.update(photos, retry_failed)
        if reading.files is not None:
            total = store.read_again(places_without_files(reading.files, _photos_with_files(store)))
        if ray and total:
            from funduscope.batch.ray_readers import read_with_ray

            answers = read_with_ray(store.waiting(), source, ray, reading, model.sha256)
        else:
            answers = read_all(_jobs(photos, store), min(processes, total), reading)
        for done, (place, results) in enumerate(answers if total else (), 1):
            if any(one.code == "E_NOT_FOUND" for one in results) and (gone := _gone(source, photos, store, place)):
                says = f"{gone} is not there any more: run the same command again as soon as it is"
                raise CodedError("E_NOT_FOUND", says)
            _check_model(results, model)
            store.put(place, results)
            first_answer = time.monotonic() if done == 1 else first_answer
            progress(BatchProgress(done, total, time.monotonic() - first_answer))
        store.flush()
        out.mkdir(parents=True, exist_ok=True)
        run = {"photos": _counts(store), "model": identity(model), "settings": settings}
        write_tables(store, out, finding_columns(model.card, columns, files), columns)
        patients = _write_patients(store, out)
        if reading.files is not None:
            answered = store.results(is_wanted=_is_answered)
            remove_old_files(reading.files, ((result.place, result.name) for result in answered))
        findings = read_page_columns(out / "findings.parquet")
        html = page(store, findings, run["photos"], run["model"], patients, files)
        write_atomically(out / "batch.html", html.encode())
        store.remove_old_results()
        remove_abandoned(out)
        run |= {"processes": None if ray else processes, "threads": reading.threads, "versions": _versions()}
        run |= {"last_run": {"photos": total, "seconds": round(time.monotonic() - began, 1)}}
        write_json(out / "run.json", run)
    return run


def _gone(source: Path, photos: PhotoList, store: Store, place: str) -> Path | None:
    """What is not there any more: the source, or the folder of a photo that was there when a table was listed."""
    if not source.exists():
        return source
    if not isinstance(photos, TablePhotos) or not store.photo(place).version:
        return None
    folder = photos.content(place).parent
    return None if folder.exists() else folder


def _check_model(results: Sequence[Result], model: Model) -> None:
    """Raises `CodedError` for an answer of another model: each process loads it, and its file may be replaced."""
    if {one.found["model"]["sha256"] for one in results if one.found} - {model.sha256}:
        says = "the model's file was replaced while the batch ran: put the former one back"
        raise CodedError("E_CONFIG", f"{says}, or begin again in another folder")


def _settings(model: Model, reading: ReadingSettings, columns: Sequence[str]) -> dict[str, Any]:
    """What the tables depend on. A batch continues only if all of it is the same."""
    return {
        "version": __version__,
        "model": f"{model.card.name} {model.card.version}",
        "model_sha256": model.sha256,
        "device": reading.device,
        "force": reading.force,
        "columns": list(columns),
        "files": reading.files is not None,
        "urgency": urgency_sha256(),
    }


def _check_columns(model: Model, columns: Sequence[str], files: str) -> None:
    """Raises `CodedError` if a column to be copied is named twice or has the name of another one."""
    repeated = [name for name in columns if list(columns).count(name) > 1]
    if repeated:
        raise CodedError("E_CONFIG", f"--column {repeated[0]} was given twice; expected each column once")
    findings = [*finding_columns(model.card, (), files), *measure_columns()]
    for own in (findings, [*place_columns(()), *LESION_COLUMNS]):
        names = [*(column.name for column in own), *columns]
        twice = [name for name in columns if names.count(name) > 1]
        if twice:
            says = f"--column {twice[0]}: the tables have a column of that name already; leave it out or rename it"
            raise CodedError("E_CONFIG", says)


def _jobs(photos: PhotoList, store: Store) -> Iterator[Job]:
    return ((place, partial(photos.content, place, entry)) for place, entry in store.waiting())


def _counts(store: Store) -> dict[str, int]:
    """Photos by what became of them; each frame of a file is a photo."""
    outcomes = Counter((state, code is not None) for _, state, code in store.outcomes())
    counts = {state: outcomes[state, False] + outcomes[state, True] for state in ("read", "refused", "failed")}
    counts = {"given": sum(counts.values()), **counts}
    if unwritten := outcomes["read", True] + outcomes["refused", True]:
        counts["without_files"] = unwritten
    return counts


def _is_answered(state: str, code: str | None) -> bool:
    return state != "failed"


def _photos_with_files(store: Store) -> Iterator[tuple[str, str]]:
    """Place and name of each photo whose files were written."""
    results = store.results(is_wanted=lambda state, code: state != "failed" and code is None)
    return ((result.place, result.name) for result in results)


def _versions() -> dict[str, str]:
    """Versions of what computes an answer, as far as it is installed."""
    found = {"funduscope": __version__, "python": platform.python_version()}
    for package in _PACKAGES:
        with suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found


def write_tables(store: Store, out: Path, columns: Sequence[Column], copied: Sequence[str]) -> None:
    """Writes findings.parquet, lesions.parquet and failures.csv."""
    answered = store.results(("found", "measures"), _is_answered)
    write_parquet(out / "findings.parquet", [*columns, *measure_columns()], answered)

    of_photo = [replace(column, value=partial(_of_photo, column)) for column in place_columns(copied)]
    read = store.results(("lesions",), lambda state, code: state == "read")
    write_parquet(out / "lesions.parquet", [*of_photo, *LESION_COLUMNS], lesion_rows(read))

    failed = store.results(is_wanted=lambda state, code: code is not None)
    rows = ({"place": row.place, "photo": row.name, "code": row.code, "says": row.says} for row in failed)
    write_csv(out / "failures.csv", ("place", "photo", "code", "says"), rows)


def _write_patients(store: Store, out: Path) -> PagePatients:
    """Writes patients.csv and patients.parquet, and returns what the page shows of them."""
    rows = sort_rows(patient_rows(store.results(("found",), places=store.by_patient())), sorting_key)
    write_parquet(out / "patients.parquet", PATIENT_COLUMNS, decode_rows(rows))

    names = [column.name for column in PATIENT_COLUMNS]
    page_patients = PagePatients()
    write_csv(out / "patients.csv", names, page_patients.noting(decode_rows(rows)))
    return page_patients


def _of_photo(column: Column, row: dict[str, Any]) -> Any:
    return column.value(row["of"])
