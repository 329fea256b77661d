"""One photograph and its labels.

Each data set labels other things. `Labels` therefore has one rule: what is not known is absent (`None`, or no key), and
nothing downstream may turn absence into a label.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np

Point = tuple[float, float]
Box = tuple[float, float, float, float]
Quality = Literal["good", "usable", "reject"]
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

    @property
    def is_absent(self) -> bool:
        return not self.paths

    def load(self, height_px: int, width_px: int) -> np.ndarray | None:
        """(H, W) bool of the photo's size; None where nothing is marked and that means unknown.

        Raises `LabelError` where a file has another size, or marks nothing and that is an error.
        """
        united = np.zeros((height_px, width_px), bool)
        for path in self.paths:
            assert self.read is not None
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
    """

    grade: int | None = None
    dme: int | None = None
    classes: dict[str, int | frozenset[int]] = field(default_factory=dict)
    quality: Quality | None = None
    laterality: Laterality | None = None
    disc_xy: Point | None = None
    fovea_xy: Point | None = None
    masks: dict[str, Mask] = field(default_factory=dict)
    negatives: Mask | None = None
    votes: dict[str, Path] = field(default_factory=dict)
    experts: dict[str, int] = field(default_factory=dict)
    boxes: dict[str, tuple[Box, ...]] = field(default_factory=dict)

    def known(self, task: str) -> int | frozenset[int] | None:
        """What is known of a photo task: its class, the classes that are possible, or None."""
        own = {"grade": self.grade, "dme": self.dme}.get(task)
        return self.classes.get(task) if own is None else own

    def among(self, task: str) -> list[int]:
        """The possible classes of a photo task where it is known by a constraint alone; otherwise empty."""
        known = self.known(task)
        return [] if known is None or isinstance(known, int) else sorted(known)

    def label(self, task: str) -> int | None:
        """The class of a photo task; None where it is not known, or not exactly."""
        known = self.known(task)
        return known if isinstance(known, int) else None

    def point(self, landmark: str) -> Point | None:
        """The center of a landmark of the vocabulary in the photo's pixels; None where it is not known."""
        return {"optic_disc": self.disc_xy, "fovea": self.fovea_xy}[landmark]


@dataclass(frozen=True)
class Case:
    """A photo, its labels, and the visit that it shares with other photos of the same eyes.

    key: unique over all data sets, "dataset/name" (IDRiD: "idrid-B/train/IDRiD_001", since its numbers repeat).
    visit: photos of one visit (or patient) are always in one fold. fold: 0-4, or None where none is set.
    split: the authors' own, where they made one; photos of their "test" get no fold, and nothing is learned from them.
    same_photo: key of the case that has other labels of this very photo (`shared_labels.py`). research_only: whether
    the data set's terms keep what learned from it to research and education; True where they are not known.
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
    def of(cls, dataset: str, path: Path, labels: Labels, visit: str = "") -> Case:
        """The case of a photo in a data set where no name repeats. visit: by default its own."""
        return cls(f"{dataset}/{path.stem}", dataset, path.stem, path, f"{dataset}/{visit or path.stem}", labels)

    def in_fold(self, fold: int | None, visit: str | None = None) -> Case:
        """The same case with this fold, and with this visit where one is given."""
        return replace(self, fold=fold, visit=self.visit if visit is None else visit)
