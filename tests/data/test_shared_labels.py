"""A photo that stands in two subsets has the labels of both, and no other photo has them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from funduscope.data.case import Case, Labels
from funduscope.data.shared_labels import share_labels
from funduscope.testing.drawn_eyes import draw_eye


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Case, Case]:
    """One eye as two files; the first names the second as the same photo."""
    for name in ("one", "two"):
        Image.fromarray(draw_eye(3, width_px=300).pixels).save(tmp_path / f"{name}.png")
    one = Case("a/one", "a", "one", tmp_path / "one.png", "1", Labels(dme=1), same_photo="b/two")
    return one, Case("b/two", "b", "two", tmp_path / "two.png", "1", Labels(grade=3, dme=2, laterality="left"))


def test_what_one_copy_lacks_the_other_gives(pair: tuple[Case, Case]) -> None:
    one, two = share_labels(pair)
    assert (one.labels.grade, one.labels.dme, one.labels.laterality) == (3, 1, "left")
    assert two == pair[1]


def test_a_contradiction_is_not_taken_over(pair: tuple[Case, Case]) -> None:
    vague = replace(pair[0], labels=Labels(classes={"grade": frozenset((0, 1)), "dme": frozenset((1, 2))}))
    exact = replace(pair[1], same_photo="a/one")
    first, second = share_labels([vague, exact])
    assert (first.labels.known_classes("grade"), first.labels.dme) == (frozenset((0, 1)), 2)
    assert second == exact, "a copy that knows the class needs no constraint on it"


def test_a_copy_that_is_kept_apart_gives_nothing(pair: tuple[Case, Case]) -> None:
    assert share_labels(pair[:1]) == [pair[0]]


def test_a_pair_of_two_photos_is_left_alone(pair: tuple[Case, Case]) -> None:
    """In a copy of the data with other numbers the names mean other photos."""
    other = replace(pair[1], path=pair[1].path.with_name("other.png"))
    Image.fromarray(draw_eye(4, width_px=300).pixels[:, ::-1]).save(other.path)
    assert share_labels([pair[0], other]) == [pair[0], other]
