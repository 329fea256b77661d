"""Several models as one: the mean of their calibrated probabilities, for every task over the models that answer it.

Lakshminarayanan et al., "Simple and Scalable Predictive Uncertainty Estimation using Deep Ensembles", NeurIPS 2017;
what differs: members may look at other sizes and answer other questions (a grader and a segmenter are one product),
thresholds are the mean of the members' own, and landmarks the mean of the points that were found.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from funduscope.imaging.framing import Frame, frame
from funduscope.imaging.photo import Photo, PhotoError
from funduscope.inference.card import Card
from funduscope.inference.findings import Failure, Findings, Point, gate, interpret
from funduscope.inference.predictor import Predictor, examine
from funduscope.inference.runtime import ModelError
from funduscope.vocabulary import CODES, LANDMARKS


class Ensemble:
    """Answers as a `Predictor` does. Raises `ModelError` where there is no member.

    Every member answers by its own card: temperatures, and lesions gated by its own grade. A member that seeks lesions
    but gives no grade is gated by the ensemble's grade, and only where its card has `lowest_grades`: its thresholds
    were then fixed on gated maps. A card without them, which is what calibration makes of a model that gives no grade,
    belongs to maps that were not gated, and gating those would hide lesions below a threshold that was not meant so.
    Members' experts and routers are their own: an ensemble tells of no gates.
    """

    def __init__(self, members: Sequence[Predictor]) -> None:
        self.members = list(members)
        self.card = _joined([member.card for member in self.members])
        digests = "".join(sorted(member.runtime.sha256 for member in self.members))
        self.sha256 = hashlib.sha256(digests.encode()).hexdigest()

    def __call__(self, photo: Any, *, name: str | None = None) -> Findings:
        """Findings of one photo, as `Predictor.__call__`: decoded once, framed once for each size that is looked at.

        A structure's map has the side of the largest that a member made of it; the frame is the largest member's.
        """
        opened = photo if isinstance(photo, Photo) else Photo.open(photo, name=name)
        return self.answer(opened, frame(opened, self.card.close_px))

    def answer(self, photo: Photo, framed: Frame) -> Findings:
        """Findings of a photo that was framed before, at `card.close_px`: the largest member's."""
        reasons, quality = examine(framed, photo.pixels)
        if reasons:
            return Findings(photo, framed.transform, self.card, self.sha256, reasons=reasons, quality=quality)
        found = self._found(photo, framed)
        grade_probs = _mean([one.grade_probs for one in found])
        maps = [_gated(one, grade_probs) for one in found]
        disc_xy = _middle([one.disc_xy for one in found if "optic_disc" in one.card.landmarks])
        fovea_xy = _middle([one.fovea_xy for one in found if "fovea" in one.card.landmarks])
        placed = {"optic_disc": disc_xy, "fovea": fovea_xy}
        distances = [one.training_distance for one in found if one.training_distance is not None]
        return Findings(
            photo,
            framed.transform,
            self.card,
            self.sha256,
            quality=quality,
            grade_probs=grade_probs,
            dme_probs=_mean([one.dme_probs for one in found]),
            disc_xy=disc_xy,
            fovea_xy=fovea_xy,
            estimated=tuple(name for name, xy in placed.items() if xy and any(name in one.estimated for one in found)),
            exudates=_weighed_in(found),
            # The one that lies furthest: an ensemble knows a photo no better than the member that knows it least.
            training_distance=max(distances, key=lambda one: one.percentile, default=None),
            frame_probs={
                code: _mean_map([planes[code] for planes in maps if code in planes]) for code in self.card.structures
            },
            cams=_mean_cams(found),
        )

    def _found(self, photo: Photo, largest: Frame) -> list[Findings]:
        """What each member says, each of the frame that it looks at."""
        frames = {largest.transform.side_px: largest}
        found: list[Findings] = []
        for member in self.members:
            side = member.card.close_px
            if side not in frames:
                frames[side] = _at(photo, largest, side)
            outputs = member.forward_views(frames[side].image)
            found.append(interpret(photo, frames[side], *outputs, member.card, self.sha256))
        return found

    def stream(self, photos: Iterable[Any]) -> Iterator[Findings | Failure]:
        """One answer a photo, in order, as `Predictor.stream`."""
        for photo in photos:
            try:
                yield self(photo)
            except PhotoError as error:
                named = Path(photo).name if isinstance(photo, str | Path) else "photo"
                yield Failure(named, error.code, error.says)


def _joined(cards: list[Card]) -> Card:
    """What the members answer together, every fixed number the mean over those that answer what it is for.

    What turns logits into probabilities (temperatures, lowest grades, the landmarks' floor) stays the first's and is
    not read: members use their own.
    """
    if not cards:
        raise ModelError("E_MODEL", "An ensemble needs at least one model; none was given.")
    first, side = cards[0], max(card.close_px for card in cards)
    structures = _union([card.structures for card in cards], CODES)
    seeking = {code: [card for card in cards if code in card.structures] for code in structures}
    graders = [card for card in cards if card.grade] or cards
    return replace(
        first,
        name=" + ".join(dict.fromkeys(card.name for card in cards)),
        grade=any(card.grade for card in cards),
        dme=any(card.dme for card in cards),
        structures=structures,
        landmarks=_union([card.landmarks for card in cards], LANDMARKS),
        whole_px=max(card.whole_px for card in cards),
        close_px=side,
        close=_union([card.close for card in cards], CODES),
        thresholds={code: _average([card.thresholds[code] for card in seeking[code]]) for code in structures},
        smallest_px2={  # each in pixels of its own frame: the same area has more of them in a larger one
            code: _average([card.smallest_px2.get(code, 0.0) * (side / card.close_px) ** 2 for card in seeking[code]])
            for code in structures
        },
        referable_threshold=_average([card.referable_threshold for card in graders]),
        distance=None,
        dme_evidence=next((card.dme_evidence for card in cards if card.dme and card.dme_evidence is not None), None),
        fovea_from_disc=next((card.fovea_from_disc for card in cards if card.fovea_from_disc is not None), None),
        # A mean of grades has probabilities of its own: what one grader's quantile promises is not known of it.
        grade_quantile=graders[0].grade_quantile if len(graders) == 1 else None,
        routers=(),
        about={key: value for key, value in first.about.items() if key != "figures"},  # measured on one member alone
        research_only=any(card.research_only for card in cards),
    )


def _union(parts: list[tuple[str, ...]], order: Sequence[str]) -> tuple[str, ...]:
    """What is in any of the parts: in their own order where they agree, else in the vocabulary's."""
    if len(set(parts)) == 1:
        return parts[0]
    return tuple(sorted({name for part in parts for name in part}, key=order.index))


def _at(photo: Photo, framed: Frame, side_px: int) -> Frame:
    """The same square of the photo at another size; taken from the photo, not from the frame."""
    transform = replace(framed.transform, side_px=side_px)
    return Frame(transform.image_to_frame(photo.pixels), transform, framed.field_of_view)


def _gated(one: Findings, grade_probs: np.ndarray | None) -> dict[str, np.ndarray]:
    """A member's maps; see `Ensemble` for whose grade gates them. grade_probs: the ensemble's."""
    if one.grade_probs is not None:
        return one.frame_probs
    lowest = one.card.lowest_grades
    return {code: plane * gate(grade_probs, lowest.get(code, 0)) for code, plane in one.frame_probs.items()}


def _average(values: list[float]) -> float:
    return sum(values) / len(values)


def _mean(probabilities: list[np.ndarray | None]) -> np.ndarray | None:
    known = [one for one in probabilities if one is not None]
    return np.mean(known, axis=0) if known else None


def _mean_map(planes: list[np.ndarray]) -> np.ndarray:
    """The mean of maps (S, S) of one square, at the largest one's side."""
    side = max(len(plane) for plane in planes)
    size = (side, side)
    level = [p if len(p) == side else cv2.resize(p, size, interpolation=cv2.INTER_LINEAR) for p in planes]
    return np.mean(level, axis=0)


def _mean_cams(found: list[Findings]) -> dict[str, np.ndarray]:
    """By task the mean of the members' activation maps, at the largest's side; only where all who answer have one."""
    tasks = {
        "grade": [one for one in found if one.grade is not None],
        "dme": [one for one in found if one.dme is not None],
    }
    return {
        task: np.stack([_mean_map([one.cams[task][c] for one in those]) for c in range(len(those[0].cams[task]))])
        for task, those in tasks.items()
        if those and all(task in one.cams for one in those)
    }


def _weighed_in(found: list[Findings]) -> tuple[float, float] | None:
    """The mean of what spoke for edema beside the networks' own answers, over the members that weighed it in."""
    told = [
        one.exudates
        for one in found
        if one.exudates and one.dme_probs is not None and one.card.dme_evidence is not None
    ]
    return (_average([one for one, _ in told]), _average([one for _, one in told])) if told else None


def _middle(points: list[Point | None]) -> Point | None:
    """The mean of the points, where at least half of those who looked found one."""
    known = [point for point in points if point is not None]
    if not known or 2 * len(known) < len(points):
        return None
    return _average([x for x, _ in known]), _average([y for _, y in known])
