"""Several models as one: the mean of their calibrated probabilities.

Lakshminarayanan et al., "Simple and Scalable Predictive Uncertainty Estimation using Deep Ensembles", NeurIPS 2017;
what differs: thresholds are the mean of the members' own, and landmarks the mean of the points that were found.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from funduscope.framing import frame
from funduscope.photo import Photo, PhotoError
from funduscope.predict.card import Card
from funduscope.predict.findings import Failure, Findings, Point, interpret
from funduscope.predict.predictor import Predictor, not_gradable
from funduscope.predict.runtime import ModelError

# What members must agree in: the frame they look at and the questions they answer.
_SHARED = ("whole_px", "close_px", "close", "structures", "landmarks", "grade", "dme")


class Ensemble:
    """Answers as a `Predictor` does. Raises `ModelError` for members that look at or answer something else."""

    def __init__(self, members: Sequence[Predictor]) -> None:
        self.members = list(members)
        self.card = _joined([member.card for member in self.members])
        digests = "".join(sorted(member.runtime.sha256 for member in self.members))
        self.sha256 = hashlib.sha256(digests.encode()).hexdigest()

    def __call__(self, photo: Any, *, name: str | None = None) -> Findings:
        """Findings of one photo, as `Predictor.__call__`: decoded and framed once for all members."""
        opened = photo if isinstance(photo, Photo) else Photo.open(photo, name=name)
        framed = frame(opened, self.card.close_px)
        reasons = not_gradable(framed)
        if reasons:
            return Findings(opened, framed.home, self.card, self.sha256, reasons=reasons)
        found = [
            interpret(opened, framed, *member.look(framed.image), member.card, self.sha256) for member in self.members
        ]
        return replace(
            found[0],
            card=self.card,
            grade_probs=_mean([one.grade_probs for one in found]),
            dme_probs=_mean([one.dme_probs for one in found]),
            disc_xy=_middle([one.disc_xy for one in found]),
            fovea_xy=_middle([one.fovea_xy for one in found]),
            frame_probs={code: np.mean([one.frame_probs[code] for one in found], axis=0) for code in found[0].codes},
        )

    def stream(self, photos: Iterable[Any]) -> Iterator[Findings | Failure]:
        """One answer a photo, in order, as `Predictor.stream`."""
        for photo in photos:
            try:
                yield self(photo)
            except PhotoError as error:
                named = Path(photo).name if isinstance(photo, str | Path) else "photo"
                yield Failure(named, error.code, error.says)


def _joined(cards: list[Card]) -> Card:
    """The first card with every fixed number replaced by the members' mean; temperatures are the members' own."""
    first = cards[0] if cards else None
    if first is None:
        raise ModelError("E_MODEL", "An ensemble needs at least one model; none was given.")
    for card in cards[1:]:
        for name in _SHARED:
            if getattr(card, name) != getattr(first, name):
                raise ModelError(
                    "E_MODEL",
                    f"{first.name} and {card.name} cannot answer together: {name} is {getattr(first, name)} in one and "
                    f"{getattr(card, name)} in the other.",
                )
    return replace(
        first,
        name=" + ".join(dict.fromkeys(card.name for card in cards)),
        thresholds={code: _average([card.thresholds[code] for card in cards]) for code in first.structures},
        smallest_px2={
            code: _average([card.smallest_px2.get(code, 0.0) for card in cards]) for code in first.structures
        },
        referable_threshold=_average([card.referable_threshold for card in cards]),
        research_only=any(card.research_only for card in cards),
    )


def _average(values: list[float]) -> float:
    return sum(values) / len(values)


def _mean(probabilities: list[np.ndarray | None]) -> np.ndarray | None:
    known = [one for one in probabilities if one is not None]
    return np.mean(known, axis=0) if known else None


def _middle(points: list[Point | None]) -> Point | None:
    """The mean of the points, where at least half of the members found one."""
    known = [point for point in points if point is not None]
    if not known or 2 * len(known) < len(points):
        return None
    return _average([x for x, _ in known]), _average([y for _, y in known])
