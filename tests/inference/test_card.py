"""The card of a model: what it says of the answers that it does not give."""

from __future__ import annotations

from dataclasses import asdict

import pytest

from funduscope.inference.card import Card
from funduscope.inference.witnesses import Witness


def test_a_witness_goes_with_the_lesions_that_it_counts() -> None:
    """It could not be asked any more."""
    of_both = Witness(("MA count 0.5", "EX strong"), (0.0, 0.0), (1.0, 1.0), (0.5, 0.2), (0.0, 1.0), (0.6, 0.4))
    of_one = Witness(("EX strong",), (0.0,), (1.0,), (0.5,), (0.0, 1.0), (0.6, 0.4))
    card = Card(structures=("MA", "EX"), witnesses={"grade": asdict(of_both), "dme": asdict(of_one)})
    assert card.without(["MA"]).witnesses.keys() == {"dme"}
    assert card.without(["dme"]).witnesses.keys() == {"grade"}
    assert card.without([]).witnesses == card.witnesses


def test_what_was_not_learned_before_is_still_not_learned() -> None:
    assert Card().without(["SE"]).without(["EX"]).not_learned == ("EX", "SE")


def test_a_card_of_a_newer_version_says_so() -> None:
    tree = Card().to_dict() | {"version": "9.1", "new_part": 1}
    with pytest.raises(ValueError, match=r"funduscope 9\.1 wrote it and knows new_part, this is .*: update funduscope"):
        Card.from_dict(tree)
