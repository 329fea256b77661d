"""Labels made in Python: numbers as NumPy and pandas give them, and what is no label is refused."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from funduscope.data.case import ABSENT, Case, LabelError, Labels, Mask
from funduscope.data.masks import read_mask
from funduscope.training.batch import allowed


@pytest.mark.parametrize("grade", [2, 2.0, np.int64(2), np.uint8(2), np.float64(2), np.float32(2)])
def test_a_class_is_a_plain_number_whatever_it_came_as(grade: Any) -> None:
    labels = Labels(grade=grade, classes={"dme": frozenset({np.int64(1), 2})})
    assert type(labels.class_of("grade")) is int
    assert labels == Labels(grade=2, classes={"dme": frozenset({1, 2})})
    assert allowed(labels, "grade") == [False, False, True, False, False]
    assert labels.possible_classes("dme") == [1, 2]


@pytest.mark.parametrize("task", ["grade", "dme"])
def test_an_exact_grade_or_edema_risk_may_stand_among_the_classes(task: str) -> None:
    labels = Labels(classes={task: 1})
    assert labels == Labels(**{task: 1})  # pyright: ignore[reportArgumentType]
    assert Labels(**{task: 1}, classes={task: frozenset({0, 1})}).class_of(task) == 1  # pyright: ignore


def test_what_a_table_leaves_out_is_not_known() -> None:
    labels = Labels(grade=float("nan"), dme=np.float32("nan"), fovea_xy=(math.nan, math.nan))  # pyright: ignore
    assert labels == Labels()
    assert allowed(labels, "grade") == [True] * 5


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"grade": -1}, "label grade is -1; expected a whole number from 0 to 4, or None"),
        ({"grade": 5}, "from 0 to 4"),
        ({"grade": 2.5}, "2.5"),
        ({"grade": "2"}, "'2'"),
        ({"grade": True}, "True"),
        ({"dme": 3}, "label dme is 3; expected a whole number from 0 to 2"),
        ({"classes": {"dme": frozenset({1, 7})}}, "label dme is 7"),
        ({"classes": {"dme": frozenset()}}, "what is not known is left out"),
        ({"classes": {"glaucoma": 1}}, "task 'glaucoma'; known are grade, dme"),
        ({"grade": np.bool_(True)}, "True"),
        ({"grade": 4, "classes": {"grade": frozenset({0, 1})}}, "grade is 4, and among classes it is"),
        ({"dme": 2, "classes": {"dme": 1}}, "dme is 2, and among classes it is 1"),
        ({"fovea_xy": (3.0, math.nan)}, r"fovea_xy is \(3.0, nan\)"),
        ({"fovea_xy": "12"}, "fovea_xy is '12'; expected two numbers"),
        ({"fovea_xy": (3.0,)}, r"fovea_xy is \(3.0,\); expected two numbers"),
        ({"masks": {"EX": np.ones((9, 9), bool)}}, "mask EX is of type ndarray; expected a Mask of files, or ABSENT"),
        ({"negatives": np.ones((9, 9), bool)}, "mask negatives is of type ndarray"),
        ({"quality": "fine"}, "quality cannot be 'fine'; known are good, usable, reject"),
        ({"laterality": "L"}, "laterality cannot be 'L'; known are left, right"),
        ({"masks": {"MAs": ABSENT}}, "masks cannot be 'MAs'; known are MA, HE,"),
    ],
)
def test_what_is_no_label_is_refused(given: dict[str, Any], says: str) -> None:
    with pytest.raises(LabelError, match=says):
        Labels(**given)


def test_cases_can_be_members_of_a_set() -> None:
    labels = Labels(grade=2, masks={"EX": ABSENT})
    assert len({Case.of("clinic", "eyes/a.jpg", labels), Case.of("clinic", Path("eyes/a.jpg"), labels)}) == 1


def test_files_that_were_not_found_do_not_say_that_nothing_is_there(tmp_path: Path) -> None:
    with pytest.raises(LabelError, match=r"no file\. Leave out a mask that is not known"):
        Mask(tuple(tmp_path.glob("*_EX.png")), read_mask)


def test_a_mask_with_files_needs_a_reader(tmp_path: Path) -> None:
    with pytest.raises(LabelError, match=r"needs a reader, such as read=funduscope\.data\.masks\.read_mask"):
        Mask((tmp_path / "a_EX.png",))
