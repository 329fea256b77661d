"""One run of `predict`: reads the photos in order, writes their results, and prints sentences or JSON lines."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import ExitStack, suppress
from datetime import datetime
from functools import partial
from pathlib import Path

from funduscope.atomic import remove_abandoned
from funduscope.cli.terminal import complain, sentence, shown, tracked
from funduscope.cli.termination import interrupted_by_sigterm
from funduscope.explain.class_activation import EXPLAINED_TARGETS, TASK_OF
from funduscope.i18n.errors import PhotoError
from funduscope.imaging.dicom_file import is_dicom
from funduscope.imaging.find_photos import START_BYTES
from funduscope.imaging.limits import LIMITS, may_be_read, read_file
from funduscope.imaging.photo import Photo, frame_numbers
from funduscope.inference.findings import Failure, Findings
from funduscope.report.model_maps import checkpoint_maps
from funduscope.report.outline import ExtraOutputs, Traced
from funduscope.report.pdf_outputs import PdfOutputs
from funduscope.report.result_places import ResultPlaces
from funduscope.report.results_folder import (
    SUMMARY,
    OutputOptions,
    PhotoResult,
    Unchanged,
    Written,
    earlier_results,
    internal_failure,
    new_folder,
    open_results,
    places_in,
    read_photos,
)

NO_MAP = (
    "--explain: this model has no exact map of some answers; with its checkpoint as --model (best.safetensors in its "
    "run's folder) Grad-CAM, an approximation, is drawn for them"
)
NOTHING_TO_EXPLAIN = (
    "--explain: this model gives neither grade nor edema risk, and only their evidence is drawn; the outlines of its"
    " structures are in the overlay"
)


def predict_all(
    answer: Callable[..., Findings],
    paths: list[Path],
    out: Path | None,
    options: OutputOptions,
    *,
    as_json: bool,
    again: bool = False,
) -> int:
    """Reads all paths and returns the exit code: 1 if any photo failed.

    again: also what has its results in `out` already. out: folder for the results; None means a new folder named after
    the time or, with `as_json`, none. A new folder that stays empty is removed.
    """
    is_new = out is None or not out.exists()
    folder = new_folder(datetime.now()) if out is None and not as_json else out
    # Counting the frames of every file takes long in an archive of many, so it is done where a page says the number.
    expected = sum(map(_photos_in, paths)) if len(paths) == 1 or options.pdf else len(paths)
    many, count, failed, unchanged, lacks_maps = expected > 1, 0, 0, 0, False
    last: Written = {}, None
    maps = checkpoint_maps(answer) if options.explain and folder else None
    with interrupted_by_sigterm(), ExitStack() as stack:
        if folder and is_new:
            stack.callback(_remove_if_empty, folder)
        elif folder:
            remove_abandoned(folder)
        pdfs = stack.enter_context(PdfOutputs(options, folder, expected)) if folder else None
        clinical = ClinicalOutputs(options)
        # The PDF pages last: whatever fails before has no page among those of all photos.
        extra_outputs = _all_of([maps, clinical.extra_outputs, pdfs.extra_outputs if pdfs else None])
        places = places_in(folder) if folder else None
        written = folder and open_results(folder, many, options, extra_outputs, places)
        write = stack.enter_context(written) if written else _unwritten
        earlier = _earlier(answer, None if again else places, options, many=many)
        ask = partial(answer, force=True) if options.force else answer
        stream = read_photos(clinical.needs_study(ask) if folder and options.dicom else ask, paths, earlier)
        for path, result in stream if as_json else tracked(stream, "Reading", expected):
            count += 1
            unchanged += isinstance(result, Unchanged)
            lacks_maps = lacks_maps or (isinstance(result, Findings) and _lacks_maps(result))
            clinical.source = path
            last = write(path, result)
            if "error" in last[0]:
                failure = Failure(last[0]["photo"]["name"], **last[0]["error"])
                if pdfs:
                    _add_page(
                        pdfs, failure, result if isinstance(result, Findings) and "schema" in last[0] else failure
                    )
                complain(f"{path}: {failure.code}: {failure.says}")
                failed += 1
            elif many and not as_json:
                print(sentence(last[0], path), flush=True)
            if as_json:
                # ASCII escapes, so that any file name can be printed in any terminal's encoding.
                print(json.dumps(last[0], separators=(",", ":"), allow_nan=False), flush=True)
    if options.explain and folder:
        _say_what_has_no_map(answer, lacks_maps=lacks_maps and maps is None)
    if folder and not as_json:
        _conclude(folder, count, failed, unchanged, last)
    return 1 if failed else 0


def _photos_in(path: Path) -> int:
    """The number of photos in a file: the frames of a DICOM file are photos of their own. 1 for what cannot be read."""
    try:
        if not may_be_read(path):
            return 1
        with path.open("rb") as file:
            if not is_dicom(file.read(START_BYTES)):
                return 1
        return len(frame_numbers(path.read_bytes())) or 1
    except OSError:
        return 1


def _earlier(
    answer: Callable[[Photo], Findings], places: ResultPlaces | None, options: OutputOptions, *, many: bool
) -> Callable[[Path], Unchanged | None]:
    """What finds a photo's earlier results; nothing where summary.pdf needs a page of every photo."""
    sha256 = getattr(answer, "sha256", None)
    if places is None or sha256 is None or (options.pdf and many):
        return lambda path: None
    card = getattr(answer, "card", None)
    return earlier_results(places, sha256, options, card.about.get("figures", ()) if card else ())


def _add_page(pdfs: PdfOutputs, failure: Failure, result: Findings | Failure) -> None:
    """Adds the page of a photo without results: with its findings, if they only could not be written to the folder."""
    if isinstance(result, Findings):
        try:
            pdfs.add_findings(result)
        except OSError:
            raise
        except Exception as error:
            failure = internal_failure(Path(failure.photo_name), error)
        else:
            return
    pdfs.add_failure(failure, lacks_study=pdfs.options.dicom and failure.says == _lacks_study())


def _lacks_study() -> str:
    """Why `--dicom` writes nothing for a photo of no DICOM file."""
    from funduscope.dicom.source import NO_STUDY

    return f"--dicom: {NO_STUDY}"


def _say_what_has_no_map(answer: Callable[..., Findings], *, lacks_maps: bool) -> None:
    """Why `--explain` draws no map of an answer, or none at all."""
    card = getattr(answer, "card", None)
    if card is not None and not {*TASK_OF.values()} & {*card.photo_tasks}:
        complain(NOTHING_TO_EXPLAIN)
    elif lacks_maps:
        complain(NO_MAP)


def _lacks_maps(findings: Findings) -> bool:
    """Whether the findings have an answer without an exact map."""
    answers = {"grade": findings.grade, "dme": findings.dme}
    return any(
        answers[TASK_OF[target]] is not None and TASK_OF[target] not in findings.cams for target in EXPLAINED_TARGETS
    )


class ClinicalOutputs:
    """What `--dicom` and `--fhir` add to a photo's results: {photo}_SR.dcm, _SEG.dcm, _SC.dcm and _fhir.json."""

    def __init__(self, options: OutputOptions) -> None:
        self.options = options
        self.source = Path()
        """The file of the photo whose results are written next."""

    def needs_study(self, answer: Callable[[Photo], Findings]) -> Callable[[Photo], Findings]:
        """The same function, which raises `PhotoError` for a photo of no DICOM file before the model reads it."""

        def answer_of_study(photo: Photo) -> Findings:
            if photo.dicom_frame is None:
                raise PhotoError("E_FORMAT", _lacks_study())
            return answer(photo)

        return answer_of_study

    @property
    def extra_outputs(self) -> ExtraOutputs | None:
        """For `report.write.save`; None if neither is asked for."""
        return self._write if self.options.dicom or self.options.fhir else None

    def _write(self, findings: Findings, traced: Traced, folder: Path, stem: str) -> None:
        if self.options.dicom:
            from funduscope.dicom.results import to_dicom

            overlay, palette = self.options.dicom_overlay, self.options.palette
            source = read_file(self.source, LIMITS)  # a file that went away since fails its photo alone
            for kind, data in to_dicom(findings, source, overlay=overlay, palette=palette).files().items():
                (folder / f"{stem}_{kind}.dcm").write_bytes(data)
        if self.options.fhir:
            from funduscope.report.fhir import to_fhir

            bundle = to_fhir(findings, subject=self.options.fhir_subject)
            text = json.dumps(bundle, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
            (folder / f"{stem}_fhir.json").write_bytes(text.encode("utf-8", "replace"))


def _all_of(extras: list[ExtraOutputs | None]) -> ExtraOutputs | None:
    """One function that writes all the extra outputs; None if there are none."""
    known = [extra for extra in extras if extra is not None]

    def write_all(findings: Findings, traced: Traced, folder: Path, stem: str) -> None:
        for extra in known:
            extra(findings, traced, folder, stem)

    return write_all if known else None


def _remove_if_empty(folder: Path) -> None:
    with suppress(OSError):  # not empty, or never made
        folder.rmdir()


def _unwritten(path: Path, result: PhotoResult) -> Written:
    """The JSON object of a result that is not written. Lesions are measured only here, and an error fails the photo."""
    if isinstance(result, Unchanged):
        return result.found, result.folder
    try:
        found = result.to_dict()
        json.dumps(found, allow_nan=False)
    except Exception as error:
        found = internal_failure(path, error).to_dict()
    return found, None


def _conclude(folder: Path, count: int, failed: int, unchanged: int, last: Written) -> None:
    found, photo_folder = last
    if count == 1:
        if photo_folder is not None:
            print(sentence(found))
            print(shown(f"Open {photo_folder / 'report.html'}"))
        return
    rest = f", {failed} failed" if failed else ""
    rest += f", {unchanged} unchanged and not read again (--again reads all)" if unchanged else ""
    print(f"{count - failed - unchanged} of {count} photos read{rest}.")
    print(shown(f"Results are in {folder}; its {SUMMARY} has one row per photo."))
