"""The verb `predict`: reads photos and writes findings, masks and a report for each."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from funduscope.cli.options import (
    AsJson,
    DeviceName,
    DeviceOption,
    LanguageName,
    ModelOption,
    OutFolder,
    PaletteName,
    Threads,
)


def predict(
    photos: Annotated[list[Path], typer.Argument(metavar="PHOTO", help="JPEG, PNG or TIFF files, or folders.")],
    model: ModelOption = None,
    out: OutFolder = None,
    palette: Annotated[PaletteName, typer.Option(help="Colors; safe suits color-blind eyes.")] = PaletteName.STANDARD,
    probabilities: Annotated[bool, typer.Option("--probabilities", help="Also write 8-bit probability maps.")] = False,
    full_size: Annotated[bool, typer.Option("--full-size", help="Draw the overlay as wide as the photo.")] = False,
    explain: Annotated[bool, typer.Option("--explain", help="Also draw maps of the evidence for the answers.")] = False,
    pdf: Annotated[
        bool, typer.Option("--pdf", help="Also write one PDF page per photo (needs the extra report).")
    ] = False,
    sheet: Annotated[
        bool,
        typer.Option("--sheet", help="Also write a leaflet in plain words for the patient (with --pdf, also as PDF)."),
    ] = False,
    language: Annotated[LanguageName, typer.Option(help="Language of report, PDF page and leaflet.")] = LanguageName.EN,
    as_json: AsJson = False,
    threads: Threads = 0,
    device: DeviceOption = DeviceName.AUTO,
) -> int:
    """Read photos: findings, masks and a report for each.

    Each photo gets its own folder in --out. Without --out a new folder named after the time is made; with --json alone,
    none. For more than one photo, summary.csv is written too and, with --pdf, summary.pdf. Results of the same photo
    are replaced; another photo of the same name gets a folder whose name ends with a hash. A photo that cannot be read
    gives one line on stderr and exit code 1; the others are read.
    """
    from funduscope.cli.predict_photos import predict_all
    from funduscope.cli.terminal import complain
    from funduscope.imaging.find_photos import gather
    from funduscope.inference.loading import load
    from funduscope.report.results_folder import OutputOptions

    options = OutputOptions(palette.value, probabilities, full_size, language.value, explain, pdf, sheet)
    if as_json and out is None and options != OutputOptions():
        raise typer.BadParameter(
            "--pdf, --sheet, --probabilities, --full-size, --explain, --palette and --language set what files contain,"
            " and --json alone writes none: name a folder with --out."
        )
    if pdf:
        import funduscope.report.pdf_text  # noqa: F401 (fails before any work if the extra `report` is not installed)
    paths = gather(photos)
    if not paths:
        complain(f"no photo was found in {', '.join(map(str, photos))}: expected JPEG, PNG or TIFF files")
        return 1
    if threads:
        import cv2

        cv2.setNumThreads(threads)
    return predict_all(load(model or None, threads=threads, device=device.value), paths, out, options, as_json=as_json)
