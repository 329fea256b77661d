"""Labels imply absence, and never against what is drawn on the photo."""

from __future__ import annotations

from pathlib import Path

import pytest

from funduscope.data.case import ABSENT, Labels, Mask
from funduscope.data.derived_labels import derive_labels
from funduscope.data.masks import read_mask
from funduscope.vocabulary import LESIONS

DRAWN = Mask((Path("drawn.png"),), read_mask)
BOX = ((1.0, 2.0, 3.0, 4.0),)


@pytest.mark.parametrize(
    ("labels", "absent"),
    [
        (Labels(), set()),
        (Labels(grade=0), set(LESIONS)),
        (Labels(grade=1), {"HE", "EX", "SE"}),
        (Labels(grade=2), set()),
        (Labels(grade=3, dme=0), {"EX"}),
        (Labels(grade=3, dme=1), set()),
        (Labels(classes={"dme": frozenset({0})}), set()),
        (Labels(grade=1, dme=2), {"HE", "SE"}),
        (Labels(grade=1, classes={"dme": frozenset({1, 2})}), {"HE", "SE"}),
        (Labels(grade=1, classes={"dme": frozenset({0, 1})}), {"HE", "EX", "SE"}),
        (Labels(grade=0, boxes={"OD": BOX}), set(LESIONS)),
        (Labels(grade=0, boxes={"HE": BOX}), {"EX", "SE"}),
        (Labels(grade=0, dme=0, boxes={"EX": BOX}), {"MA", "HE", "SE"}),
        (Labels(grade=3, dme=0, boxes={"EX": BOX}), set()),
        (Labels(masks={"EX|SE": ABSENT}), {"EX", "SE", "EX|SE"}),
        (Labels(grade=0, masks={"EX|SE": DRAWN}), {"MA", "HE"}),
        (Labels(grade=0, experts={"MA": 1, "HE": 0}), {"HE", "EX", "SE"}),
    ],
)
def test_what_is_absent(labels: Labels, absent: set[str]) -> None:
    result = derive_labels(labels)
    assert {code for code, mask in result.masks.items() if mask.is_absent} == absent


def test_a_mask_that_says_otherwise_stays() -> None:
    labels = Labels(grade=0, dme=0, masks={"EX": DRAWN})
    assert derive_labels(labels).masks["EX"] is DRAWN
    assert labels.masks == {"EX": DRAWN}, "the labels that came are not changed"
