"""One photograph and its labels.

Each data set labels other things. `Labels` therefore has one rule: what is not known is absent (`None`, or no key), and
nothing downstream may turn absence into a label.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from numbers import Real
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from funduscope.vocabulary import CLASSES, CODES, EITHER_EXUDATE

Point = tuple[float, float]
Box = tuple[float, float, float, float]
Quality = Literal["good", "usable", "reject", "not_fundus"]
Laterality = Literal["left", "right"]
Split = Literal["train", "valid", "test"]
Empty = Literal["absent", "unknown", "error"]


@dataclass(frozen=True)
class Mask:
    """A structure's mask: the union of one or more files, or the knowledge that the structure is absent.

    read: path -> (H, W) bool at the photo's own size. No path means known to be absent. empty: what a file that marks
    nothing means. It is as often a failed conversion as a label, so that it is an error unless a data set's authors, or
    the writer of a table, state that the structure is absent, or that nobody looked for it.
    """

    paths: tuple[Path, ...] = ()
    read: Callable[[Path], np.ndarray] | None = None
    empty: Empty = "error"

    def __post_init__(self) -> None:
        """Raises `LabelError` for a reader without files, since that nothing was found does not say that the structure
        is absent, and for files without a reader."""
        if self.paths and self.read is None:
            raise LabelError("A mask with files needs a reader, such as read=funduscope.data.masks.read_mask.")
        if self.read is not None and not self.paths:
            raise LabelError(
                "A mask with a reader has no file. Leave out a mask that is not known; write ABSENT where it is known "
                "that the structure is absent."
            )

    @property
    def is_absent(self) -> bool:
        return not self.paths

    def load(self, height_px: int, width_px: int) -> np.ndarray | None:
        """(H, W) bool of the photo's size; None if nothing is marked and that means unknown.

        Raises `LabelError` if a file has another size, or marks nothing and that is an error.
        """
        united = np.zeros((height_px, width_px), bool)
        for path in self.paths:
            assert self.read is not None, "files come with a reader"
            mask: np.ndarray = self.read(path)
            if mask.shape != united.shape:
                raise LabelError(
                    f"The mask {path.name} is {mask.shape[1]}x{mask.shape[0]} px, its photo {width_px}x{height_px} px: "
                    "both must be of one size."
                )
            if self.empty == "error" and not mask.any():
                raise LabelError(
                    f"The mask {path.name} marks nothing. Where the structure is absent, say so instead (IDRiD: remove "
                    "the file; a table: write none, or absent in its column empty_masks); where nobody looked, leave "
                    "it out."
                )
            united |= mask
        return None if self.empty == "unknown" and not united.any() else united


ABSENT = Mask()


class LabelError(ValueError):
    """A label file that cannot be used; the message names the file, row and column, and what was expected."""


def _class_of(task: str, given: object) -> int | None:
    """The class of a task as a plain number. Raises `LabelError` if it is none."""
    if task not in CLASSES:
        raise LabelError(f"A label names the task {task!r}; known are {', '.join(CLASSES)}.")
    if given is None or (isinstance(given, Real) and math.isnan(given)):
        return None
    classes = range(len(CLASSES[task]))
    if isinstance(given, bool | np.bool_) or not isinstance(given, Real) or float(given) not in classes:
        raise LabelError(f"The label {task} is {given!r}; expected a whole number from 0 to {classes[-1]}, or None.")
    return int(float(given))


def _possible_classes(task: str, known: int | frozenset[int]) -> int | frozenset[int]:
    """A class, or several that are possible, as plain numbers. Raises `LabelError` if one is none."""
    found = [_class_of(task, one) for one in (known if isinstance(known, frozenset) else [known])]
    given = [one for one in found if one is not None]
    if len(given) < len(found) or not given:
        raise LabelError(f"The label {task} is {known!r}; what is not known is left out of classes.")
    return frozenset(given) if isinstance(known, frozenset) else given[0]


def _point_of(name: str, given: Point | None) -> Point | None:
    """A point as plain numbers, None for one of NaN. Raises `LabelError` if only one of them is a number."""
    if given is None:
        return None
    try:
        x, y = map(float, () if isinstance(given, str) else given)
    except (TypeError, ValueError):
        raise LabelError(f"The label {name} is {given!r}; expected two numbers, or None.") from None
    if math.isnan(x) and math.isnan(y):
        return None
    if not (math.isfinite(x) and math.isfinite(y)):
        raise LabelError(f"The label {name} is ({x}, {y}); expected two numbers, or None.")
    return x, y


@dataclass(frozen=True)
class Labels:
    """The labels of one photo. Points and boxes are in the photo's own pixels (x right, y down, centers at +0.5).

    grade: 0-4. dme: risk of macular edema, 0-2. classes: by further photo task of the vocabulary its class, and by any
    photo task the possible classes where a data set tells only some of them apart (a yes or no about the edema risk).
    masks: structure code (or "EX|SE" for either exudate) to mask. `masks["EX"] = ABSENT` is a label: there is none.
    negatives: what looks like a lesion and is known to be none (drusen, reflections); bright ones only.
    votes: structure code to a file of uint8, 60 x the number of experts who marked the pixel (DIARETDB1).
    experts: structure code to the number of experts (0-4) who saw it anywhere.
    boxes: structure code (HE here: any red lesion) to boxes that contain such lesions; a lesion may have no box.
    quality: `not_fundus` is a picture of something else. finding: what else the data set's authors saw in the eye, in
    their words ("cataract"); nothing is learned from it and nothing is scored by it.
    """

    grade: int | None = None
    dme: int | None = None
    classes: dict[str, int | frozenset[int]] = field(default_factory=dict, hash=False)
    quality: Quality | None = None
    laterality: Laterality | None = None
    disc_xy: Point | None = None
    fovea_xy: Point | None = None
    masks: dict[str, Mask] = field(default_factory=dict, hash=False)
    negatives: Mask | None = None
    votes: dict[str, Path] = field(default_factory=dict, hash=False)
    experts: dict[str, int] = field(default_factory=dict, hash=False)
    boxes: dict[str, tuple[Box, ...]] = field(default_factory=dict, hash=False)
    finding: str | None = None

    def __post_init__(self) -> None:
        """Takes NumPy's numbers, whole floats, and NaN for what is not known, as tables give them.

        Raises `LabelError` for what is no class of its task, no known name, or no place.
        """
        for task in ("grade", "dme"):
            object.__setattr__(self, task, _class_of(task, getattr(self, task)))
        for name in ("disc_xy", "fovea_xy"):
            object.__setattr__(self, name, _point_of(name, getattr(self, name)))
        self._set_classes({task: _possible_classes(task, known) for task, known in self.classes.items()})
        for name, given, among in (
            ("quality", self.quality, get_args(Quality)),
            ("laterality", self.laterality, get_args(Laterality)),
            *(("masks", code, (*CODES, EITHER_EXUDATE)) for code in self.masks),
        ):
            if given is not None and given not in among:
                raise LabelError(f"The label {name} cannot be {given!r}; known are {', '.join(among)}.")
        negatives = ABSENT if self.negatives is None else self.negatives
        for code, mask in (*self.masks.items(), ("negatives", negatives)):
            if not isinstance(mask, Mask):
                raise LabelError(
                    f"The mask {code} is of type {type(mask).__name__}; expected a Mask of files, or ABSENT."
                )

    def _set_classes(self, classes: dict[str, int | frozenset[int]]) -> None:
        """Sets `classes`, without the grade or edema risk where it is known exactly: these have fields of their own.
        Raises `LabelError` if field and classes contradict each other."""
        for task in {"grade", "dme"} & classes.keys():
            own, among = getattr(self, task), classes[task]
            if isinstance(among, int):
                object.__setattr__(self, task, classes.pop(task))
            if own is not None and own not in (among if isinstance(among, frozenset) else (among,)):
                raise LabelError(f"The label {task} is {own}, and among classes it is {among!r}; expected one of them.")
        object.__setattr__(self, "classes", classes)

    def known_classes(self, task: str) -> int | frozenset[int] | None:
        """What is known of a photo task: its class, the classes that are possible, or None."""
        own = {"grade": self.grade, "dme": self.dme}.get(task)
        return self.classes.get(task) if own is None else own

    def possible_classes(self, task: str) -> list[int]:
        """The possible classes of a photo task where it is known by a constraint alone; otherwise empty."""
        known = self.known_classes(task)
        return [] if known is None or isinstance(known, int) else sorted(known)

    def class_of(self, task: str) -> int | None:
        """The class of a photo task; None if it is not known, or not exactly."""
        known = self.known_classes(task)
        return known if isinstance(known, int) else None

    def point(self, landmark: str) -> Point | None:
        """The center of a landmark of the vocabulary in the photo's pixels; None if it is not known."""
        return {"optic_disc": self.disc_xy, "fovea": self.fovea_xy}[landmark]

    def without(self, names: Collection[str]) -> Labels:
        """The labels but for those of these structures, photo tasks and landmarks. A mask of either exudate needs both
        kinds."""
        codes = {*names, *([EITHER_EXUDATE] if {"EX", "SE"} & {*names} else [])}
        kept = {
            what: {code: value for code, value in getattr(self, what).items() if code not in codes}
            for what in ("classes", "masks", "votes", "experts", "boxes")
        }
        own = {"grade": "grade", "dme": "dme", "optic_disc": "disc_xy", "fovea": "fovea_xy"}
        return replace(self, **kept, **{own[name]: None for name in names if name in own})


@dataclass(frozen=True)
class Case:
    """A photo, its labels, and the visit that it shares with other photos of the same eyes.

    key: unique over all data sets, "dataset/name" (IDRiD: "idrid-B/train/IDRiD_001", since its numbers repeat).
    visit: photos of one visit (or patient) are always in one fold. fold: 0-4, or None if none is set.
    split: the authors' own, where they made one; photos of their "test" get no fold, and nothing is learned from them.
    same_photo: key of the case that has other labels of this very photo (`shared_labels.py`). research_only: whether
    the data set's terms keep what learned from it to research and education; True if they are not known.
    """

    key: str
    dataset: str
    name: str
    path: Path
    visit: str
    labels: Labels
    fold: int | None = None
    split: Split | None = None
    same_photo: str | None = None
    research_only: bool = True

    @classmethod
    def of(cls, dataset: str, path: str | Path, labels: Labels, visit: str = "") -> Case:
        """The case of a photo in a data set where no file name (without suffix) repeats. visit: if none, its own."""
        path = Path(path)
        return cls(f"{dataset}/{path.stem}", dataset, path.stem, path, f"{dataset}/{visit or path.stem}", labels)

    def without(self, names: Collection[str]) -> Case:
        """The same case but for the labels of these structures, photo tasks and landmarks."""
        return replace(self, labels=self.labels.without(names))

    def in_fold(self, fold: int | None, visit: str | None = None) -> Case:
        """The same case with this fold, and with this visit where one is given."""
        return replace(self, fold=fold, visit=self.visit if visit is None else visit)
