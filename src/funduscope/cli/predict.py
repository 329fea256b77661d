"""The verb `predict`: reads photos and writes findings, masks and a report for each."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from funduscope.cli.options import (
    AsJson,
    DeviceName,
    DeviceOption,
    Dicom,
    DicomOverlay,
    Fhir,
    FhirSubject,
    Force,
    LanguageName,
    ModelOption,
    OutFolder,
    PaletteName,
    Pdf,
    Sheet,
    Threads,
)

if TYPE_CHECKING:
    from funduscope.report.results_folder import OutputOptions


def predict(
    photos: Annotated[
        list[Path], typer.Argument(metavar="PHOTO...", help="JPEG, PNG, TIFF or DICOM files, or folders.")
    ],
    model: ModelOption = None,
    out: OutFolder = None,
    palette: Annotated[PaletteName, typer.Option(help="Colors; safe suits color-blind eyes.")] = PaletteName.STANDARD,
    probabilities: Annotated[bool, typer.Option("--probabilities", help="Also write 8-bit probability maps.")] = False,
    full_size: Annotated[bool, typer.Option("--full-size", help="Draw the overlay as wide as the photo.")] = False,
    explain: Annotated[bool, typer.Option("--explain", help="Also draw maps of the evidence for the answers.")] = False,
    pdf: Pdf = False,
    sheet: Sheet = False,
    language: Annotated[LanguageName, typer.Option(help="Language of report, PDF page and leaflet.")] = LanguageName.EN,
    dicom: Dicom = False,
    dicom_overlay: DicomOverlay = False,
    fhir: Fhir = False,
    fhir_subject: FhirSubject = None,
    again: Annotated[bool, typer.Option("--again", help="Read photos again even if --out has their results.")] = False,
    force: Force = False,
    as_json: AsJson = False,
    threads: Threads = 0,
    device: DeviceOption = DeviceName.AUTO,
) -> int:
    """Read photos: findings, masks and a report for each.

    Each photo gets its own folder in --out. Without --out a new folder named after the time is made; with --json alone,
    none. For more than one photo, summary.csv is written too and, with --pdf, summary.pdf. Results of the same photo
    are replaced; another photo of the same name gets a folder whose name ends with a hash. With the same --out again,
    only photos are read that are new or changed, or whose results are of another model, version or settings (all of
    them where --pdf makes summary.pdf). A photo that cannot be read gives one line on stderr and exit code 1; the
    others are read. A photo that cannot be graded, or that is no fundus photo, is refused: a result without a grade.
    With --force it is graded all the same, and marked as not to be trusted.
    """
    from funduscope.capacity import thread_limit
    from funduscope.cli.predict_photos import predict_all
    from funduscope.cli.terminal import complain, note_system_files
    from funduscope.imaging.find_photos import find_photos
    from funduscope.inference.loading import load
    from funduscope.report.results_folder import OutputOptions

    options = OutputOptions(
        palette=palette.value, probabilities=probabilities, full_size=full_size, language=language.value,
        explain=explain, pdf=pdf, leaflet=sheet, force=force, dicom=dicom or dicom_overlay,
        dicom_overlay=dicom_overlay, fhir=fhir or fhir_subject is not None, fhir_subject=fhir_subject,
    )  # fmt: skip
    if out is None:
        _check_without_folder(as_json and options != OutputOptions(force=force), again)
    _need_extras(options)
    paths = find_photos(photos)
    note_system_files(photos)
    if not paths:
        complain(f"no photo was found in {', '.join(map(str, photos))}: expected JPEG, PNG, TIFF or DICOM files")
        return 1
    if threads := threads or thread_limit():
        import cv2

        cv2.setNumThreads(threads)
    return predict_all(
        load(model or None, threads=threads, device=device.value), paths, out, options, as_json=as_json, again=again
    )


def _check_without_folder(sets_files: bool, again: bool) -> None:
    """Refuses options that do nothing without a folder."""
    if sets_files:
        raise typer.BadParameter(
            "--pdf, --sheet, --dicom, --dicom-overlay, --fhir, --probabilities, --full-size, --explain, --palette and"
            " --language set what files contain, and --json alone writes none: name a folder with --out."
        )
    if again:
        raise typer.BadParameter("--again reads photos again that have results in --out: name that folder with --out.")


def _need_extras(options: OutputOptions) -> None:
    """Fails before any work where what is asked for needs an extra that is not installed."""
    if options.pdf:
        import funduscope.report.pdf_text  # noqa: F401
    if options.dicom:
        import highdicom  # noqa: F401
