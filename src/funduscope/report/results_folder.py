"""Many photos, one after the other, and the folder that their results go to: flat memory, nothing half written."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from funduscope.imaging.find_photos import RESULT, is_folder, resolved
from funduscope.imaging.photo import Photo, PhotoError
from funduscope.inference.findings import Failure, Findings
from funduscope.inference.runtime import ModelError
from funduscope.report.naming import safe_stem

if TYPE_CHECKING:
    from funduscope.report.outline import Palette, Traced

SUMMARY = "summary.csv"
SUMMARY_PAGES = "summary.pdf"
Written = tuple[dict[str, Any], Path | None]
"""What was said of a photo, as one object of `predict --json`, and the folder that it was written to."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class OutputOptions:
    """What is written of a photo beside its findings: see `predict.write.write`."""

    palette: Palette = "standard"
    probabilities: bool = False
    full_size: bool = False
    language: str = "en"
    explain: bool = False


def answers(answer: Callable[[Photo], Findings], paths: Iterable[Path]) -> Iterator[tuple[Path, Findings | Failure]]:
    """Each path with its answer, in order. The next photo is decoded while the model looks at this one.

    A photo that cannot be read gives a `Failure`. So does any other trouble with one photo, with the code E_INTERNAL:
    one of a thousand must not end the run. A `ModelError` does end it: the model fails the next photo too.
    """
    for path, opened in _opened_ahead(paths):
        if isinstance(opened, Failure):
            yield path, opened
            continue
        try:
            yield path, answer(opened)
        except ModelError:
            raise
        except Exception as error:
            yield path, internal(path, error)


def _opened_ahead(paths: Iterable[Path]) -> Iterator[tuple[Path, Photo | Failure]]:
    with ThreadPoolExecutor(1, "decode") as pool:
        waiting: tuple[Path, Future[Photo | Failure]] | None = None
        for path in paths:
            upcoming = path, pool.submit(_open, path)
            if waiting:
                yield waiting[0], waiting[1].result()
            waiting = upcoming
        if waiting:
            yield waiting[0], waiting[1].result()


def _open(path: Path) -> Photo | Failure:
    try:
        return _closed(path) if is_folder(path) else Photo.open(path)
    except PhotoError as error:
        return Failure(path.name, error.code, error.says)
    except Exception as error:
        return internal(path, error)


def _closed(folder: Path) -> Failure:
    """Of a folder into which `gather` could not look."""
    reason = "it changed meanwhile"
    try:
        next(folder.iterdir(), None)
    except OSError as error:
        reason = error.strerror or reason
    says = f"the folder cannot be looked into ({reason}); expected photos in it: check its permissions"
    return Failure(folder.name, "E_NOT_FOUND", says)


def internal(path: Path, error: Exception) -> Failure:
    """What one photo met that nobody foresaw. Nothing of the error's own text: it may hold the photo's metadata."""
    _log.debug("one photo met an unexpected error", exc_info=error)
    says = f"an unexpected error met this photo ({type(error).__name__}): --debug shows where, please report it"
    return Failure(path.name, "E_INTERNAL", says)


def new_folder(now: datetime, place: Path = Path()) -> Path:
    """Makes a folder named after the time; one of the same second is left alone."""
    name, number = f"funduscope-{now:%Y%m%d-%H%M%S}", 1
    while True:
        folder = place / (name if number == 1 else f"{name}-{number}")
        try:
            folder.mkdir()
        except FileExistsError:
            number += 1
        else:
            return folder


@contextmanager
def open_results(
    folder: Path,
    many: bool,
    options: OutputOptions,
    extra_outputs: Callable[[Findings, Traced, Path], None] | None = None,
) -> Iterator[Callable[[Path, Findings | Failure], Written]]:
    """Gives the function that writes one answer into a folder of its own in `folder`.

    many: also write summary.csv, a row each; one that is there gets its row from a single photo too. extra_outputs: see
    `predict.write.write`. An earlier result of the same photo is replaced; that of another photo of the same name
    stays, and this one gets a name with a hash of its path. Where something of somebody else stands in the way of one
    photo, nothing is written of it: what is said of it gets an `error` of the code E_CONFIG beside the findings. What
    else goes wrong costs the one photo: it is said to have failed, with the code E_INTERNAL. The function raises
    `OSError` where the disk refuses, after which going on is no use.
    """
    from funduscope.report.summary_csv import SummaryRow, is_summary, open_summary

    folder.mkdir(parents=True, exist_ok=True)
    taken = {SUMMARY, SUMMARY_PAGES}
    has_rows = many or is_summary(folder / SUMMARY)
    with open_summary(folder / SUMMARY) if has_rows else nullcontext(lambda row: None) as add:

        def put(path: Path, answer: Findings | Failure) -> Written:
            if not isinstance(answer, Failure):
                try:
                    stem = _own_stem(folder, answer.photo, path, taken)
                    found, place = _written(answer, folder / stem, options, extra_outputs)
                    add(SummaryRow.of(found, stem if place else ""))
                    return found, place
                except OSError:
                    raise
                except Exception as error:  # its lesions are measured, and its masks made, only now
                    answer = internal(path, error)
            failed = answer.to_dict()
            add(SummaryRow.of_failure(failed))
            return failed, None

        yield put


def _written(
    answer: Findings,
    place: Path,
    options: OutputOptions,
    extra_outputs: Callable[[Findings, Traced, Path], None] | None,
) -> Written:
    """Writes the results into the folder `place`; says the findings with an `error` where it is somebody else's."""
    from funduscope.report.write import to_json, write

    try:
        place = write(
            answer,
            place,
            palette=options.palette,
            probabilities=options.probabilities,
            full_size=options.full_size,
            language=options.language,
            extra_outputs=extra_outputs,
            explain=options.explain,
        )
    except FileExistsError as error:
        unwritten = {"error": {"code": "E_CONFIG", "says": str(error)}}
        return json.loads(to_json(answer.to_dict() | unwritten)), None
    # Reading it back is quicker than to count components once more.
    return json.loads((place / RESULT).read_bytes()), place


def _own_stem(folder: Path, photo: Photo, path: Path, taken: set[str]) -> str:
    """A stem that was not in `taken`, and now is, whose folder is free or holds this very photo's earlier result."""
    passed: list[str] = []
    stem = safe_stem(photo.name, taken, resolved(path))
    while _is_anothers(folder / stem / RESULT, photo.sha256):
        passed.append(stem.casefold())
        stem = safe_stem(photo.name, taken, resolved(path))
    taken.difference_update(passed)  # they are that other photo's, which may be among the next
    return stem


def _is_anothers(result: Path, sha256: str) -> bool:
    """Whether a findings.json stands there that is not of the photo with this hash, or of which that is not known."""
    try:
        return json.loads(result.read_bytes())["photo"]["sha256"] != sha256
    except OSError:  # nothing there, or nothing that can be replaced, which the writer says
        return False
    except (ValueError, LookupError, TypeError):
        return True
