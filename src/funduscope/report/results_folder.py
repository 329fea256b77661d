"""Reads many photos one by one and writes their results into a folder: flat memory, nothing half written."""

from __future__ import annotations

import hashlib
import itertools
import json
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from funduscope.atomic import file_sha256, write_json
from funduscope.i18n.errors import PhotoError, machine_fault
from funduscope.imaging.find_photos import RESULT, SETTINGS, why_unreadable
from funduscope.imaging.limits import may_be_read
from funduscope.imaging.photo import Photo, open_each
from funduscope.imaging.read_ahead import read_ahead
from funduscope.inference.findings import Failure, Findings
from funduscope.inference.runtime import ModelError
from funduscope.inference.urgency import urgency_table
from funduscope.report.result_places import ResultPlaces, source_of
from funduscope.version import __version__

if TYPE_CHECKING:
    from funduscope.report.outline import ExtraOutputs, Palette, Traced

SUMMARY = "summary.csv"
SUMMARY_PAGES = "summary.pdf"
Written = tuple[dict[str, Any], Path | None]
"""A photo's object of `predict --json`, and the folder of its results; None if none were written."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class OutputOptions:
    """What is written for a photo in addition to its findings: see `report.write.save`.

    pdf, leaflet: see `report.pdf_outputs`. force: what is refused is graded, too: see `Model`. dicom: DICOM
    objects, too; dicom_overlay: among them the overlay: see `dicom.results`. fhir: a FHIR bundle; fhir_subject: the
    patient's reference in it, or None: see `report.fhir`.
    """

    palette: Palette = "standard"
    probabilities: bool = False
    full_size: bool = False
    language: str = "en"
    explain: bool = False
    pdf: bool = False
    leaflet: bool = False
    force: bool = False
    dicom: bool = False
    dicom_overlay: bool = False
    fhir: bool = False
    fhir_subject: str | None = None


@dataclass(frozen=True)
class Unchanged:
    """Results that are there already, of the same photo, model, version and settings.

    found: as in findings.json; folder: where they are.
    """

    found: dict[str, Any]
    folder: Path


PhotoResult = Findings | Failure | Unchanged


def read_photos(
    answer: Callable[[Photo], Findings],
    paths: Iterable[Path],
    earlier: Callable[[Path], Unchanged | None] = lambda path: None,
) -> Iterator[tuple[Path, PhotoResult]]:
    """Each path with its answer, in order. The next photo is decoded while the model reads this one.

    earlier: returns the results of a photo that has them already; such a photo is not read again.

    A photo that cannot be read gives a `Failure`. So does any other error of one photo, with the code E_INTERNAL: one
    of a thousand must not end the run. A `ModelError` ends it, since the model would fail the next photo too.
    """
    for path, opened in read_ahead(paths, lambda path: earlier(path) or _open(path)):
        if isinstance(opened, Failure | Unchanged):
            yield path, opened
            continue
        for name, photo in opened:
            try:
                if isinstance(photo, Exception):
                    raise photo
                yield path, answer(photo)
            except ModelError:
                raise
            except PhotoError as error:
                yield path, Failure(name, error.code, error.says)
            except Exception as error:
                yield path, internal_failure(Path(name), error)


def _open(path: Path) -> Failure | Iterator[tuple[str, Photo | Exception]]:
    """Name and photo, or why it cannot be opened, of a file's first photo, and of its other frames, which are decoded
    when they are asked for."""
    if closed := why_unreadable(path):
        return Failure(path.name, "E_NOT_FOUND", closed)
    photos = open_each(path)
    first = next(photos)
    return itertools.chain([first], photos)


def internal_failure(path: Path, error: Exception) -> Failure:
    """The failure of an unexpected error. It omits the error's own text, which may contain the photo's metadata."""
    _log.debug("an unexpected error with one photo", exc_info=error)
    if fault := machine_fault(error):
        return Failure(path.name, fault.code, fault.says)
    says = f"an unexpected error with this photo ({type(error).__name__}): --debug shows where, please report it"
    return Failure(path.name, "E_INTERNAL", says)


def new_folder(now: datetime, place: Path = Path()) -> Path:
    """Makes a new folder named after the time, with a number if one of the same second exists."""
    name, number = f"funduscope-{now:%Y%m%d-%H%M%S}", 1
    while True:
        folder = place / (name if number == 1 else f"{name}-{number}")
        try:
            folder.mkdir()
        except FileExistsError:
            number += 1
        else:
            return folder


def places_in(folder: Path) -> ResultPlaces:
    """The places of a run's results, next to its tables."""
    return ResultPlaces(folder, (SUMMARY, SUMMARY_PAGES, *(f"summary-{number}.pdf" for number in range(2, 100))))


def earlier_results(
    places: ResultPlaces, model_sha256: str, options: OutputOptions, figures: Sequence[Any] = ()
) -> Callable[[Path], Unchanged | None]:
    """Gives the function that finds a photo's results, if they need not be made again.

    They are of the same bytes, of the same model, version of this package and settings, findings.json is unchanged, and
    no other file was removed or changed in size. figures: the model's own, which reports state.
    """
    settings = _settings(options, figures)

    def find(path: Path) -> Unchanged | None:
        try:
            if not may_be_read(path):
                return None
            sha256 = file_sha256(path)
            place = places.earlier(path.name, path, sha256)
            if place is None:
                return None
            text = (place / RESULT).read_bytes()
            found, made = json.loads(text), json.loads((place / SETTINGS).read_bytes())
            sizes, digest = made.pop("files").items(), made.pop("findings_sha256")
            is_whole = digest == _digest(text) and all((place / one).stat().st_size == size for one, size in sizes)
            known = found["photo"]["name"], found["photo"]["sha256"], found["model"]["sha256"], made | {"source": None}
        except (
            OSError,
            ValueError,
            LookupError,
            TypeError,
            AttributeError,
        ):  # of a photo that cannot be read the reader says why
            return None
        if not is_whole or known != (path.name, sha256, model_sha256, settings | {"source": None}):
            return None
        return Unchanged(found, places.take(path.name, path, sha256))

    return find


def _digest(text: bytes) -> str:
    return hashlib.sha256(text).hexdigest()


def _settings(options: OutputOptions, figures: Sequence[Any]) -> dict[str, Any]:
    """What settings.json says, without the photo's path."""
    stated = hashlib.sha256(json.dumps(figures).encode()).hexdigest()[:16]
    table = urgency_table().to_dict()
    tree = {"funduscope": __version__, "settings": asdict(options), "urgency": table, "figures": stated}
    return json.loads(json.dumps(tree))


@contextmanager
def open_results(
    folder: Path,
    many: bool,
    options: OutputOptions,
    extra_outputs: ExtraOutputs | None = None,
    places: ResultPlaces | None = None,
) -> Iterator[Callable[[Path, PhotoResult], Written]]:
    """Gives the function that writes one answer into a folder of its own in `folder`, by `places`.

    many: also write summary.csv, a row per photo; an existing summary gets a row for a single photo too. extra_outputs:
    see `report.write.save`. An earlier result of the same photo is replaced. If other files are in the way, nothing is
    written for the photo, and its object has an `error` with the code E_CONFIG next to the findings. Any other error
    fails this photo alone, with the code E_INTERNAL. The function raises `OSError` if the disk refuses.
    """
    from funduscope.report.summary_csv import SummaryRow, is_summary, open_summary

    folder.mkdir(parents=True, exist_ok=True)
    places = places or places_in(folder)
    has_rows = many or is_summary(folder / SUMMARY)
    with open_summary(folder / SUMMARY) if has_rows else nullcontext(lambda row: None) as add:

        def put(path: Path, answer: PhotoResult) -> Written:
            if isinstance(answer, Unchanged):
                _take_over(answer.folder, source_of(path, path.name))
                add(SummaryRow.of(answer.found, path, answer.folder.name))
                return answer.found, answer.folder
            if not isinstance(answer, Failure):
                try:
                    own = places.take(answer.photo.name, path, answer.photo.sha256)
                    source = source_of(path, answer.photo.name)
                    found, place = _written(answer, own, source, options, extra_outputs)
                    add(SummaryRow.of(found, path, own.name if place else ""))
                    return found, place
                except OSError:
                    raise
                except PhotoError as error:  # as of a DICOM file whose study cannot be named
                    answer = Failure(answer.photo.name, error.code, error.says)
                except Exception as error:  # lesions are measured and masks made only here
                    answer = internal_failure(path, error)
            failed = answer.to_dict()
            add(SummaryRow.of(failed, path))
            return failed, None

        yield put


def _take_over(place: Path, source: str) -> None:
    """Writes down where the photo of earlier results lies now. The results are found by it once its file changes."""
    settings = json.loads((place / SETTINGS).read_bytes())
    if settings["source"] != source:
        write_json(place / SETTINGS, settings | {"source": source})


def _written(
    answer: Findings,
    place: Path,
    source: str,
    options: OutputOptions,
    extra_outputs: ExtraOutputs | None,
) -> Written:
    """Writes the results into the folder `place`; gives the findings an `error` if the folder has other files."""
    from funduscope.report.write import save, to_json

    def write_more(findings: Findings, traced: Traced, unfinished: Path, stem: str) -> None:
        if extra_outputs is not None:
            extra_outputs(findings, traced, unfinished, stem)
        sizes = {file.name: file.stat().st_size for file in sorted(unfinished.iterdir())}
        made = {"source": source, "files": sizes, "findings_sha256": _digest((unfinished / RESULT).read_bytes())}
        text = json.dumps(_settings(options, findings.card.about.get("figures", ())) | made, indent=2) + "\n"
        (unfinished / SETTINGS).write_bytes(text.encode("ascii"))

    try:
        place = save(
            answer,
            place,
            palette=options.palette,
            probabilities=options.probabilities,
            full_size=options.full_size,
            language=options.language,
            extra_outputs=write_more,
            explain=options.explain,
        )
    except FileExistsError as error:
        return json.loads(to_json(answer.to_dict() | {"error": {"code": "E_CONFIG", "says": str(error)}})), None
    # Reading the file back is quicker than counting components once more.
    return json.loads((place / RESULT).read_bytes()), place
