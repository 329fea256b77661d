"""DDR: 13,673 photos of 147 Chinese hospitals with grades; 757 of them with masks of the four lesions.

Li et al., Information Sciences 501, 2019. Known from documentation alone: `DR_grading/{train,valid,test}.txt` with a
photo and a grade a line, the photos in folders of the same names; `lesion_segmentation/{train,valid,test}/image/` with
the masks in `label/` (`segmentation label/` under valid), a folder per lesion. Grade 5 means ungradable. A photo that
has masks is one case with its grade. Every photo there has four masks, and an empty one means that the lesion is absent
(some readers of the set doubt that of exudates). Photos are cut to the field of view, so their sizes differ.
"""

from __future__ import annotations

import re
from pathlib import Path

from funduscope.data.case import Case, LabelError, Labels, Mask, Split
from funduscope.data.masks import read_mask
from funduscope.data.match_photos import folder_named, photos_in

NAME = "DDR"

_SPLITS: tuple[Split, ...] = ("train", "valid", "test")
_LESIONS = ("MA", "HE", "EX", "SE")
_UNGRADABLE = 5
_LINE = re.compile(r"(\S+)[\s,]+([0-5])")
_NAME = re.compile(r"(\d{3}-\d{4})-\d{3}")


def recognize(folder: Path) -> bool:
    """Whether the folder is this set's: lists of grades in `DR_grading`, or masks in `lesion_segmentation`."""
    lists = any((folder / "DR_grading" / f"{split}.txt").is_file() for split in _SPLITS)
    return lists or any((folder / "lesion_segmentation" / split / "image").is_dir() for split in _SPLITS)


def read(folder: Path) -> list[Case]:
    """The cases, keyed by the split of the grades; official test photos are `ddr/test/...` and get no fold. Raises
    `LabelError` naming list and line."""
    cases: dict[str, Case] = {}
    masks = _masks(folder / "lesion_segmentation")
    for split in _SPLITS:
        for name, path, grade in _graded(folder / "DR_grading", split):
            if name in cases:
                raise LabelError(
                    f"DR_grading lists {name} under {cases[name].split} and under {split}; keep one of the lines."
                )
            # A photo whose masks are of the official test is a test photo for its grade too.
            _, masks_split, found = masks.pop(name, (path, split, {}))
            official = "test" if "test" in (split, masks_split) else split
            cases[name] = _case(name, path, official, grade, found)
    for name, (path, split, found) in masks.items():
        cases[name] = _case(name, path, split, None, found)
    return [cases[name] for name in sorted(cases)]


def _case(name: str, path: Path, split: Split, grade: int | None, masks: dict[str, Mask]) -> Case:
    # 007-1234-100 and 007-1234-200 seem to be photos of one patient. That is not documented; joining them is safe.
    patient = _NAME.fullmatch(name)
    rejected = grade == _UNGRADABLE
    labels = Labels(grade=None if rejected else grade, quality="reject" if rejected else None, masks=masks)
    return Case(f"ddr/{split}/{name}", "ddr", name, path, f"ddr/{patient[1] if patient else name}", labels, split=split)


def _graded(folder: Path, split: Split) -> list[tuple[str, Path, int]]:
    """(name, photo, grade 0-5) of each line of a split's list; none if there is no list."""
    file = folder / f"{split}.txt"
    if not file.is_file():
        return []
    photos = photos_in(folder / split)
    found = []
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise LabelError(f"DR_grading/{file.name} is not in UTF-8: save it as that.") from None
    for number, text in enumerate(lines, start=1):
        if not text.strip():
            continue
        line = _LINE.fullmatch(text.strip())
        if line is None:
            raise LabelError(f"DR_grading/{file.name}, line {number}: {text!r}; expected a photo and a grade 0 to 5.")
        name = Path(line[1]).stem
        if name not in photos:
            raise LabelError(
                f"DR_grading/{file.name}, line {number}: no photo {name} among the {len(photos)} in {split}/; add it, "
                "or remove the line."
            )
        found.append((name, photos[name], int(line[2])))
    return found


def _masks(folder: Path) -> dict[str, tuple[Path, Split, dict[str, Mask]]]:
    """Photo name to (photo, split, masks); a lesion whose file is missing stays unknown."""
    found: dict[str, tuple[Path, Split, dict[str, Mask]]] = {}
    for split in _SPLITS:
        if not (folder / split / "image").is_dir():
            continue
        labels = folder_named(folder / split, "label", "segmentation label")
        files = {code: photos_in(labels / code) for code in _LESIONS if (labels / code).is_dir()}
        for name, path in photos_in(folder / split / "image").items():
            known = {c: Mask((some[name],), read_mask, empty="absent") for c, some in files.items() if name in some}
            found[name] = (path, split, known)
    return found
