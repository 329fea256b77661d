"""A batch from its list of photos to its tables: `run_batch`."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

from funduscope.atomic import write_atomically, write_json
from funduscope.batch.batch_html import PagePatients, page
from funduscope.batch.columns import LESION_COLUMNS, Column, finding_columns, measure_columns, place_columns
from funduscope.batch.patients import PATIENT_COLUMNS, patient_rows, sorting_key
from funduscope.batch.photo_list import PhotoList, TablePhotos, open_list
from funduscope.batch.reader import ReadingSettings, places_without_files, remove_old_files
from funduscope.batch.readers import Job, read_all
from funduscope.batch.store import Result, Store
from funduscope.batch.tables import lesion_rows, write_csv, write_parquet
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
_ANSWERED: Final = "state != 'failed'"
_WITH_FILES: Final = f"select place, name from results where {_ANSWERED} and code is null"


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
            total = store.read_again(places_without_files(reading.files, store.select(_WITH_FILES)))
        if ray and total:
            from funduscope.batch.ray_readers import read_with_ray

            answers = read_with_ray(store.waiting(), source, ray, reading, model.sha256)
        else:
            answers = read_all(_jobs(photos, store), min(processes, total), reading, store.ended_its_process)
        for done, (place, results) in enumerate(answers if total else (), 1):
            if any(one.code == "E_NOT_FOUND" for one in results) and (gone := _gone(source, photos, store, place)):
                says = f"{gone} is not there any more: run the same command again as soon as it is"
                raise CodedError("E_NOT_FOUND", says)
            _check_model(results, model)
            store.put(place, results)
            first_answer = time.monotonic() if done == 1 else first_answer
            progress(BatchProgress(done, total, time.monotonic() - first_answer))
        store.commit()
        run = {"photos": _counts(store), "model": identity(model), "settings": settings}
        _write_tables(store, out, finding_columns(model.card, columns, files), columns)
        patients = _write_patients(store, out)
        if reading.files is not None:
            remove_old_files(reading.files, store.select(f"select place, name from results where {_ANSWERED}"))
        write_atomically(out / "batch.html", page(store, run["photos"], run["model"], patients, files).encode())
        run |= {"processes": None if ray else processes, "threads": reading.threads, "versions": _versions()}
        run |= {"last_run": {"photos": total, "seconds": round(time.monotonic() - began, 1)}}
        write_json(out / "run.json", run)
    return run


def _gone(source: Path, photos: PhotoList, store: Store, place: str) -> Path | None:
    """What is not there any more: the source, or the folder of a photo that was there when a table was listed."""
    if not source.exists():
        return source
    if not isinstance(photos, TablePhotos) or not store.count(
        "select version != '' from photos where place = ?", place
    ):
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
    by_state = dict(store.select("select state, count(*) from results group by state"))
    counts = {state: by_state.get(state, 0) for state in ("read", "refused", "failed")}
    unwritten = store.count("select count(*) from results where state != 'failed' and code is not null and code != ''")
    return {"given": sum(counts.values()), **counts} | ({"without_files": unwritten} if unwritten else {})


def _versions() -> dict[str, str]:
    """Versions of what computes an answer, as far as it is installed."""
    found = {"funduscope": __version__, "python": platform.python_version()}
    for package in _PACKAGES:
        with suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found


def _write_tables(store: Store, out: Path, found: Sequence[Column], columns: Sequence[str]) -> None:
    found = [*found, *measure_columns()]
    write_parquet(out / "findings.parquet", found, store.results(where=_ANSWERED))
    of_photo = [replace(column, value=partial(_of_photo, column)) for column in place_columns(columns)]
    write_parquet(
        out / "lesions.parquet", [*of_photo, *LESION_COLUMNS], lesion_rows(store.results(where="state = 'read'"))
    )
    failed = (
        {"place": one.place, "photo": one.name, "code": one.code, "says": one.says}
        for one in store.results(where="code is not null")
    )
    write_csv(out / "failures.csv", ("place", "photo", "code", "says"), failed)


def _write_patients(store: Store, out: Path) -> PagePatients:
    """Writes patients.csv and patients.parquet, and returns what the page shows of them."""
    by_patient = store.results("iif(patient = '', place, patient), visit")
    names = [column.name for column in PATIENT_COLUMNS]
    shown = PagePatients()
    write_csv(out / "patients.csv", names, shown.noting(store.in_order(patient_rows(by_patient), sorting_key)))
    by_patient = store.results("iif(patient = '', place, patient), visit")
    write_parquet(out / "patients.parquet", PATIENT_COLUMNS, store.in_order(patient_rows(by_patient), sorting_key))
    return shown


def _of_photo(column: Column, row: dict[str, Any]) -> Any:
    return column.value(row["of"])
