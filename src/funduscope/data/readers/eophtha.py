"""e-ophtha: microaneurysms (e-ophtha MA) and exudates (e-ophtha EX), outlined, and healthy photos of each.

Decencière et al., IRBM 34(2), 2013 (OPHDIAT, many cameras). Each part labels one lesion. Every microaneurysm is
outlined, as a disc around the dot, so a pixel outside is known to be none. Other lesions and grades are unknown.
Exudates are of either kind. In a healthy photo the part's lesion is absent.

Two layouts. The official one: `e_optha_MA/` with `MA/`, `Annotation_MA/` and `healthy/`, `e_optha_EX/` likewise, a
folder an examination (known from documentation alone); a photo of both parts is one case. A copy of the MA part:
`images/`, `masks/` and `labels.csv`.
"""

from __future__ import annotations

from pathlib import Path

from funduscope.data.case import ABSENT, Case, LabelError, Labels, Mask
from funduscope.data.masks import read_mask
from funduscope.data.match_photos import PHOTO_SUFFIXES, photo_rows, photos_in
from funduscope.data.rows import columns_of
from funduscope.imaging.hidden_files import is_hidden
from funduscope.vocabulary import EITHER_EXUDATE

NAME = "e-ophtha"

_COLUMNS = ("image", "patient", "MA_count")
_PARTS = {"MA": "MA", "EX": EITHER_EXUDATE}


def recognize(folder: Path) -> bool:
    """Whether the folder is this set's: `labels.csv` with its columns, or nothing but official parts."""
    if columns_of(folder / "labels.csv").issuperset(_COLUMNS):
        return True
    children = [child for child in folder.iterdir() if child.is_dir() and not is_hidden(child.name)]
    return bool(_parts(folder)) or (bool(children) and all(_parts(child) for child in children))


def read(folder: Path) -> list[Case]:
    """The cases, an examination per visit; raises `LabelError` naming what is not there."""
    if (folder / "labels.csv").is_file():
        return _read_copy(folder)
    places = [folder] if _parts(folder) else sorted(child for child in folder.iterdir() if child.is_dir())
    labels: dict[str, dict[str, Mask]] = {}
    photos: dict[str, Path] = {}
    for place in places:
        for part in _parts(place):
            for path, mask in _photos_of(place, part):
                if photos.setdefault(path.stem, path) != path and _PARTS[part] in labels[path.stem]:
                    raise LabelError(f"{path.name} is there twice, in {photos[path.stem].parent} and in {path.parent}.")
                labels.setdefault(path.stem, {})[_PARTS[part]] = mask
    return [
        Case.of("eophtha", path, Labels(masks=labels[name]), path.parent.name) for name, path in sorted(photos.items())
    ]


def _read_copy(folder: Path) -> list[Case]:
    photos, masks = photos_in(folder / "images"), photos_in(folder / "masks")
    cases = []
    for row, path in photo_rows(folder / "labels.csv", _COLUMNS, photos):
        count, name = row.number_at("MA_count"), f"{path.stem}_MA"
        if count and name not in masks:
            raise row.error("MA_count", f"{count:g} are counted, but masks/{name}.png is not there")
        mask = Mask((masks[name],), read_mask) if name in masks else ABSENT if count == 0 else None
        labels = Labels(masks={} if mask is None else {"MA": mask})  # without a count it is not known
        cases.append(Case.of("eophtha", path, labels, row.needed("patient")))
    return cases


def _parts(folder: Path) -> list[str]:
    """The parts whose annotations the folder has: "MA", "EX"."""
    return [part for part in _PARTS if (folder / f"Annotation_{part}").is_dir()]


def _photos_of(place: Path, part: str) -> list[tuple[Path, Mask]]:
    """Each photo of a part with its mask; raises `LabelError` if a photo with lesions has none."""
    # Masks are named after the photo, in the EX part with "_EX" behind it.
    annotated = _images(place / f"Annotation_{part}")
    masks = {(path.parent.name, path.stem.removesuffix(f"_{part}")): path for path in annotated}
    found = []
    for path in _images(place / part):
        if (path.parent.name, path.stem) not in masks:
            raise LabelError(
                f"{place.name}: {part}/{path.parent.name}/{path.name} has no mask in Annotation_{part}; add it, or "
                "remove the photo."
            )
        found.append((path, Mask((masks[path.parent.name, path.stem],), read_mask)))
    return found + [(path, ABSENT) for path in _images(place / "healthy")]


def _images(folder: Path) -> list[Path]:
    photos = (path for path in folder.rglob("*") if path.suffix.lower() in PHOTO_SUFFIXES)
    return sorted(path for path in photos if not is_hidden(*path.relative_to(folder).parts))
