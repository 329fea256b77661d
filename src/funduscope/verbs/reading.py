"""The verbs that read photos: demo, predict."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from funduscope.options import AsJson, LanguageName, ModelOption, OutFolder, PaletteName, Threads

DEMO_PHOTO = "hrf_07_dr.jpg"
DEMO_FOLDER = "funduscope-demo"


def demo(
    out: OutFolder = None,
    model: ModelOption = None,
) -> int:
    """Read a photo that is packaged: what predict writes.

    Without --out the results go to funduscope-demo/.
    """
    from importlib import resources

    from funduscope.loading import load
    from funduscope.predict.folder import Drawn, answers, open_results
    from funduscope.terminal import complain, sentence

    predictor = load(model or None)
    with (
        resources.as_file(resources.files("funduscope") / "demo" / DEMO_PHOTO) as photo,
        open_results(out or Path(DEMO_FOLDER), many=False, drawn=Drawn()) as put,
    ):
        found, place = next(put(path, answer) for path, answer in answers(predictor, [photo]))
    if place is None:
        complain(f"{DEMO_PHOTO}: {found['error']['code']}: {found['error']['says']}")
        return 1
    print(sentence(found))
    print(f"Open {place / 'report.html'}")
    return 0


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
    from funduscope.loading import load
    from funduscope.paper.beside import Asked
    from funduscope.predict.folder import Drawn
    from funduscope.predict.gather import gather
    from funduscope.reading import predict_all
    from funduscope.terminal import complain

    paper = Asked(pdf, sheet, language.value, palette.value)
    drawn = Drawn(palette.value, probabilities, full_size, language.value, explain)
    if as_json and out is None and (paper.any or drawn != Drawn()):
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
    return predict_all(predictor, paths, out, drawn, as_json=as_json, paper=paper)
