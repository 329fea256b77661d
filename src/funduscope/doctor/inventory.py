"""Which files of a data set are photographs, masks and label files, and which photo a name means: nothing is opened.

IDRiD's official splits repeat names, so that a label file's own split decides; its C shares the photos of B.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from funduscope.data.case import LabelError
from funduscope.data.match_photos import PHOTO_SUFFIXES
from funduscope.data.rows import SHEET_SUFFIXES, read_tolerantly
from funduscope.data.table import spelled_as_stored
from funduscope.doctor.columns import plain
from funduscope.imaging.find_photos import find_photos
from funduscope.imaging.hidden_files import is_hidden
from funduscope.vocabulary import CODES

_SPLIT: Final = re.compile(
    r"(?<![a-z])(train|test|val(?:id)?)(ing|ation)?(sets?|images?|photos?|labels?|data)?(?![a-z])"
)
_NEW_WORD: Final = re.compile(r"(?<=[a-z])(?=[A-Z])")
"""Where a word begins within another: trainLabels."""

_MASK_FOLDER: Final = re.compile(
    r"(?<![a-z])mask(?!ed|ing)|masks?(?![a-z])|ground ?truth|annotation|^votes?$|^(segmentation )?labels?$",
    re.IGNORECASE,
)
_MASK_NAME: Final = re.compile(
    rf"(?P<photo>.+)[-_ ](?:{'|'.join((*CODES, 'IRMA', 'NV', 'other', 'mask', 'vessels?'))})$", re.IGNORECASE
)


@dataclass(frozen=True)
class Inventory:
    """The files of a data set, absolute and sorted; `root` is what their names are relative to."""

    root: Path
    photos: tuple[Path, ...]
    masks: tuple[Path, ...]
    tables: tuple[Path, ...]

    def relative(self, path: Path) -> str:
        """The file's name relative to the data set, with forward slashes."""
        return relative(path, self.root)


def relative(path: Path, root: Path) -> str:
    """The name of a file relative to a folder, with forward slashes; with `..` where it lies elsewhere."""
    return Path(os.path.relpath(path, root)).as_posix()  # follows no link


def take_inventory(data: Path) -> Inventory:
    """The files of a data set: a folder with whatever is in it, or a table (.csv) with the photos that it names.

    A picture is a mask if its folder is called masks, Groundtruths or votes, or if its name is another picture's
    followed by a structure's code. Hidden files and earlier results are skipped. Raises `LabelError` if there is no
    such path.
    """
    if data.is_file() and data.suffix.lower() in SHEET_SUFFIXES:
        return _of_table(data)
    if not data.is_dir():
        what = "is a file" if data.is_file() else "is not there"
        raise LabelError(f"{data} {what}; expected a data set's folder, or a table (.csv) of photos.")
    root = data.absolute()  # links are not followed: names stay as the user knows them
    photos, masks = _separated(find_photos([root]), root)
    return Inventory(root, photos, masks, tuple(sorted(_with_suffix(root, SHEET_SUFFIXES))))


def _of_table(table: Path) -> Inventory:
    root = table.parent.absolute()
    # As far as a broken table can be read: the label checks report what is wrong with it, and which photos are missing.
    names = {name.replace("\\", "/") for row in read_tolerantly(table).rows if (name := row.text("path"))}
    named = {Path(os.path.normpath(path)) for name in names if (path := spelled_as_stored(root, name))}
    return Inventory(root, tuple(sorted(named)), (), (root / table.name,))


def _separated(pictures: Iterable[Path], root: Path) -> tuple[tuple[Path, ...], tuple[Path, ...]]:
    """Photos and masks, each sorted."""
    photos, masks, pictures = [], [], sorted(set(pictures))
    stems = {(path.parent, path.stem.lower()) for path in pictures}
    for path in pictures:
        named = _MASK_NAME.match(path.stem)
        is_of_photo = named is not None and (path.parent, named["photo"].lower()) in stems
        is_mask = is_of_photo or any(map(_MASK_FOLDER.search, path.relative_to(root).parts[:-1]))
        (masks if is_mask else photos).append(path)
    return tuple(photos), tuple(masks)


def _with_suffix(root: Path, suffixes: Collection[str]) -> Iterator[Path]:
    """The files below a folder with one of the suffixes, hidden ones left out."""
    for place, folders, files in os.walk(root):
        folders[:] = sorted(name for name in folders if not is_hidden(name))
        for path in (Path(place) / name for name in files if not is_hidden(name)):
            if path.suffix.lower() in suffixes and path.is_file():
                yield path


class PhotoIndex:
    """A data set's photos by name."""

    def __init__(self, inventory: Inventory) -> None:
        self.root = inventory.root
        self._all = {path for path in inventory.photos if path.is_file()}
        self._by_stem: dict[str, list[Path]] = defaultdict(list)
        for path in sorted(self._all):
            self._by_stem[_composed(path.stem)].append(path)

    def scope(self, file: Path, names: Sequence[str]) -> Path:
        """The nearest folder above a file that has a photo with any of the names; the root where none has."""
        photos = [path for name in names for path in self._by_stem.get(_composed(stem_of(name)), ())]
        above = (folder for folder in self._above(file) if any(folder in path.parents for path in photos))
        return next(above, self.root)

    def named(self, name: str, file: Path, scope: Path | None) -> Path | None:
        """The photo that a name in a label file means, by its path relative to the file or by its name alone."""
        given = name.replace("\\", "/")
        by_path = Path(os.path.normpath(spelled_as_stored(file.parent, given) or file.parent / given))
        if by_path in self._all:
            return self._shared(by_path)
        found = self._by_stem.get(_composed(stem_of(name)), [])
        return self._chosen([path for path in found if scope is None or scope in path.parents], file)

    def of_mask(self, stem: str, file: Path) -> Path | None:
        """The photo of that name nearest to a mask."""
        found = self._by_stem.get(_composed(stem), [])
        nearest = ([path for path in found if folder in path.parents] for folder in self._above(file))
        return self._chosen(next(filter(None, nearest), []), file)

    def _above(self, file: Path) -> Iterator[Path]:
        """The folders above a file, the nearest first, up to the root of the data set."""
        for folder in file.parents:
            yield folder
            if folder == self.root:
                return

    def _relative(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix() if self.root in path.parents else path.name

    def _chosen(self, candidates: Sequence[Path], file: Path) -> Path | None:
        """One of several photos with the same name: of the file's own split, otherwise of training."""
        # A label file's split may be in its own name: "a. IDRiD_Disease Grading_Training Labels.csv".
        name = self._relative(file)
        split = split_of(f"{name}/" if file.suffix.lower() in SHEET_SUFFIXES else name)
        wanted = [split] if split else ["train", None]
        of_split = {path: split_of(self._relative(path)) for path in sorted(candidates)}
        ranked = [path for word in wanted for path, own in of_split.items() if own == word]
        best = next(iter((*ranked, *of_split)), None)
        return None if best is None else self._shared(best)

    def _shared(self, photo: Path) -> Path:
        """The photo, or B's copy of a photo of IDRiD's C where there is one."""
        if not any(plain(part).endswith(("localization", "localisation")) for part in photo.parts):
            return photo
        split = split_of(self._relative(photo))
        for other in self._by_stem[_composed(photo.stem)]:
            of_grading = any(plain(part).endswith("diseasegrading") for part in other.parts)
            if of_grading and split_of(self._relative(other)) == split:
                return other
        return photo


def _composed(name: str) -> str:
    """A name with each letter and its accent as one character, however the file system or a table has it."""
    return unicodedata.normalize("NFC", name)


def stem_of(name: str) -> str:
    """A photo's name without folders, and without its suffix where that is a picture's."""
    last = name.replace("\\", "/").rsplit("/", 1)[-1]
    stem, dot, suffix = last.rpartition(".")
    return stem if dot and f".{suffix.lower()}" in PHOTO_SUFFIXES else last


def split_of(name: str) -> str | None:
    """ "train", "test" or "valid" by the last folder of a path with such a word ("b. Testing Set"); None without one.

    What follows the last slash is a file, whose name may have such a word by chance.
    """
    folders = [_NEW_WORD.sub(" ", folder).lower() for folder in name.split("/")[:-1]]
    words = [found[1] for folder in folders if (found := _SPLIT.search(folder))]
    return {"val": "valid"}.get(words[-1], words[-1]) if words else None
