"""The card of a model: what it says of the answers that it does not give."""

from __future__ import annotations

from dataclasses import asdict

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
