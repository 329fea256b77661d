"""The verb `predict`: photos read, with findings, masks and a report for each."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from funduscope.cli.options import AsJson, LanguageName, ModelOption, OutFolder, PaletteName, Threads


def predict(
    photos: Annotated[list[Path], typer.Argument(metavar="PHOTO", help="JPEG, PNG or TIFF files, or folders.")],
    model: ModelOption = None,
    out: OutFolder = None,
    palette: Annotated[PaletteName, typer.Option(help="Colors; safe is for color-blind eyes.")] = PaletteName.STANDARD,
    probabilities: Annotated[bool, typer.Option("--probabilities", help="Also write 8-bit probability maps.")] = False,
    full_size: Annotated[bool, typer.Option("--full-size", help="Draw the overlay as wide as the photo.")] = False,
    explain: Annotated[bool, typer.Option("--explain", help="Also draw what speaks for the answers.")] = False,
    pdf: Annotated[
        bool, typer.Option("--pdf", help="Also write a page a photo (PDF; needs the extra report).")
    ] = False,
    sheet: Annotated[
        bool,
        typer.Option("--sheet", help="Also write a sheet in plain words for the patient (with --pdf, as PDF too)."),
    ] = False,
    language: Annotated[LanguageName, typer.Option(help="Of report, page and sheet.")] = LanguageName.EN,
    as_json: AsJson = False,
    threads: Threads = 0,
) -> int:
    """Read photos: findings, masks and a report for each.

    Each photo gets a folder of its own in --out, by default a new one named after the time (with --json: none); more
    than one also gets summary.csv and, with --pdf, summary.pdf. Read again, a photo replaces its own results; another
    of the same name gets a folder with a hash behind the name. What cannot be read costs one line on stderr and exit
    code 1; the others are read.
    """
    from funduscope.cli.predict_photos import predict_all
    from funduscope.cli.terminal import complain
    from funduscope.imaging.find_photos import gather
    from funduscope.inference.loading import load
    from funduscope.report.pdf_outputs import PdfOptions
    from funduscope.report.results_folder import OutputOptions

    paper = PdfOptions(pdf, sheet, language.value, palette.value)
    options = OutputOptions(palette.value, probabilities, full_size, language.value, explain)
    if as_json and out is None and (paper.any or options != OutputOptions()):
        raise typer.BadParameter(
            "--pdf, --sheet, --probabilities, --full-size, --explain, --palette and --language are about files, and"
            " --json alone writes none: name a folder with --out."
        )
    paper.check()
    paths = gather(photos)
    if not paths:
        complain(f"no photo was found in {', '.join(map(str, photos))}: expected JPEG, PNG or TIFF files")
        return 1
    if threads:
        import cv2

        cv2.setNumThreads(threads)
    predictor = load(model or None, threads=threads)
    return predict_all(predictor, paths, out, options, as_json=as_json, paper=paper)
