"""Findings of outputs that a test made itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from funduscope.imaging.framing import Frame
from funduscope.imaging.photo import Photo
from funduscope.inference.card import Card
from funduscope.inference.findings import Findings
from funduscope.inference.predictor import Views, interpret
from funduscope.inference.runtime import AnswersByTorch

SHA = "0" * 64


def findings_of(photo: Photo, framed: Frame, views: Views, card: Card) -> Findings:
    """What a model with this card finds in a photo by these outputs of its two views."""
    if framed.marks is not None:
        views = views.without_lesions_at(framed.marks, card)
    answer = AnswersByTorch().answer(views.logits(framed.image), card)
    return interpret(photo, framed, views, answer, card, SHA)


def witness_tree(weights: dict[str, float], cuts: Sequence[float], shares: tuple[float, float]) -> dict[str, Any]:
    """A card's witness. weights: of the lesions' numbers, by name."""
    return {
        "numbers": list(weights),
        "weights": list(weights.values()),
        "detail": [0.0, 0.0, 0.0],
        "cuts": list(cuts),
        "shares": list(shares),
    }
