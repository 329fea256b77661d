"""The verb `demo`: reads the photo that comes with the package."""

from __future__ import annotations

from pathlib import Path

from funduscope.cli.options import ModelOption, OutFolder
from funduscope.imaging.demo_photo import DEMO_PHOTO, demo_photo

DEMO_FOLDER = "funduscope-demo"


def demo(out: OutFolder = None, model: ModelOption = None) -> int:
    """Read the photo that comes with the package, as predict does.

    Without --out the results are written to funduscope-demo/.
    """
    from importlib import resources

    from funduscope.cli.terminal import complain, sentence
    from funduscope.cli.termination import interrupted_by_sigterm
    from funduscope.inference.loading import load
    from funduscope.report.results_folder import OutputOptions, open_results, read_photos

    predictor = load(model or None)
    with (
        interrupted_by_sigterm(),
        resources.as_file(demo_photo()) as photo,
        open_results(out or Path(DEMO_FOLDER), many=False, options=OutputOptions()) as write,
    ):
        found, folder = next(write(path, answer) for path, answer in read_photos(predictor, [photo]))
    if folder is None:
        complain(f"{DEMO_PHOTO}: {found['error']['code']}: {found['error']['says']}")
        return 1
    print(sentence(found))
    print(f"Open {folder / 'report.html'}")
    return 0
