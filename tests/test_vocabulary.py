"""The words of the field: in one order, distinct by code and by color, also by color-blind eyes."""

from __future__ import annotations

from itertools import combinations

import pytest

from funduscope import vocabulary
from funduscope.vocabulary import CODES, DME_RISKS, GRADES, LESIONS, PHOTO_TASKS, STRUCTURES, referable, structure


def test_orders_agree() -> None:
    assert tuple(item.code for item in STRUCTURES) == CODES
    assert set(LESIONS) == set(CODES) - {"OD"}
    assert [code for code in CODES if code in LESIONS] == list(LESIONS)
    assert (len(GRADES), len(DME_RISKS)) == (5, 3)


def test_photo_tasks_can_be_keys_everywhere() -> None:
    """Of recipes, cards, outputs and findings by name, of scores by title."""
    names, titles = [task.name for task in PHOTO_TASKS], [task.title for task in PHOTO_TASKS]
    assert names[:2] == ["grade", "dme"]
    assert all(name.isidentifier() for name in names)
    assert not {*names} & {"structures", "landmarks", "dense", "distill", "gates", "features"}
    assert len({*names}) == len({*titles}) == len(PHOTO_TASKS)
    assert all(" " not in title for title in titles)


def test_codes_names_and_colors_are_unique() -> None:
    for field in ("code", "name", "color", "safe_color"):
        values = [getattr(item, field) for item in STRUCTURES]
        assert len(set(values)) == len(values), field
        assert all(0 <= level <= 255 for value in values if isinstance(value, tuple) for level in value)
    assert all(item.meaning for item in STRUCTURES)


def test_the_colors_are_the_ones_that_were_promised() -> None:
    """Red MA, green HE, yellow EX, blue SE, cyan OD: which of red, green and blue are strong."""
    strong = {item.code: tuple(level > 150 for level in item.color) for item in STRUCTURES}
    assert strong == {
        "MA": (True, False, False),
        "HE": (False, True, False),
        "EX": (True, True, False),
        "SE": (False, False, True),
        "OD": (False, True, True),
    }


def test_any_two_colors_of_a_palette_are_far_apart() -> None:
    for field in ("color", "safe_color"):
        for one, other in combinations(STRUCTURES, 2):
            pairs = zip(getattr(one, field), getattr(other, field), strict=True)
            assert sum((a - b) ** 2 for a, b in pairs) ** 0.5 > 60, (field, one.code, other.code)


def test_a_structure_by_its_code() -> None:
    assert [structure(code).code for code in CODES] == list(CODES)
    with pytest.raises(KeyError, match="MA, HE, EX, SE, OD"):
        structure("IRMA")


def test_referable_begins_at_moderate() -> None:
    assert [referable(grade) for grade in range(5)] == [False, False, True, True, True]
    assert GRADES[vocabulary.REFERABLE_FROM] == "Moderate"
