"""Several models as one: the mean of their calibrated probabilities, for every task over the models that answer it.

Lakshminarayanan et al., "Simple and Scalable Predictive Uncertainty Estimation using Deep Ensembles", NeurIPS 2017.
What differs: members may have other image sizes and other tasks (a grader and a segmenter are one product), thresholds
are the mean of the members' own, and a landmark is the mean of the points that were found.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import cv2
import numpy as np

from funduscope.imaging.framing import Frame
from funduscope.imaging.photo import Photo
from funduscope.inference.anatomy import Point
from funduscope.inference.card import Card, FoveaOffset
from funduscope.inference.findings import Findings
from funduscope.inference.model import Model, OnGrade
from funduscope.inference.predictor import Predictor, class_probabilities, grade_factor
from funduscope.inference.runtime import ModelError
from funduscope.quality.gradability import Quality
from funduscope.vocabulary import CLASSES, CODES, DISC_DIAMETER_FRAC, LANDMARKS

_MAX_APART_DD: Final = 0.5
"""In disc diameters. A member's landmark further from the members' median is another place."""


class Ensemble(Model):
    """Answers as a `Predictor` does. An ensemble among the members stands for its own members. Raises `ModelError` if
    there is no member.

    Every member answers by its own card: temperatures, and lesions gated by its own grade. A member that segments
    lesions but gives no grade is gated by the ensemble's grade, and only if its card has `lowest_grades`: its
    thresholds were then fixed on gated maps. Calibration writes no `lowest_grades` for a model without a grade. The
    maps of such a member were not gated, and gating them would hide lesions below a threshold that was not meant so.
    Members' experts and routers are their own: an ensemble reports no gates.
    """

    def __init__(self, members: Sequence[Predictor | Ensemble]) -> None:
        self.members = [one for member in members for one in getattr(member, "members", [member])]
        self.card = _joined([member.card for member in self.members])
        self.sha256 = hashlib.sha256("".join(sorted(member.sha256 for member in self.members)).encode()).hexdigest()
        self.refuses = True

    def find(self, photo: Photo, framed: Frame, quality: Quality | None, on_grade: OnGrade | None) -> Findings:
        """See `Model.find`. framed: at the largest member's size; the other sizes are cut from the same square.

        All whole views run before the first close view, so that the mean grade is known early. A structure's map has
        the side of the largest map that a member made of it.
        """
        frames = {framed.transform.side_px: framed}
        for side in {member.card.close_px for member in self.members} - frames.keys():
            frames[side] = framed.resampled(photo.pixels, side)
        runs = [(member, frames[member.card.close_px]) for member in self.members]
        wholes = [member.whole_view(own.image) for member, own in runs]
        if on_grade is not None and any(member.has_close_view for member in self.members):
            runs_of_view = zip(wholes, self.members, strict=True)
            graded = [(whole, member.card) for whole, member in runs_of_view if "grade" in whole.classes]
            probs = _mean_classes([{"grade": class_probabilities(whole, "grade", card)} for whole, card in graded])
            if probs:
                on_grade(self._early(photo, framed, quality, probs))
        found = [member.run(photo, own, whole)[0] for (member, own), whole in zip(runs, wholes, strict=True)]
        return self._joined_findings(photo, framed, quality, found)

    def _joined_findings(self, photo: Photo, framed: Frame, quality: Quality | None, found: list[Findings]) -> Findings:
        """The members' findings as one."""
        probs = _mean_classes([one.class_probs for one in found])
        maps = [_gated(one, probs.get("grade")) for one in found]
        apart = _MAX_APART_DD * DISC_DIAMETER_FRAC * framed.transform.size_px
        disc_xy = _mean_point([one.disc_xy for one in found if "optic_disc" in one.card.located], apart)
        fovea_xy = _mean_point([one.fovea_xy for one in found if "fovea" in one.card.located], apart)
        points = {"optic_disc": disc_xy, "fovea": fovea_xy}
        distances = [one.training_distance for one in found if one.training_distance is not None]
        return Findings(
            photo,
            framed.transform,
            self.card,
            self.sha256,
            quality=quality,
            class_probs=probs,
            disc_xy=disc_xy,
            fovea_xy=fovea_xy,
            estimated=tuple(name for name, xy in points.items() if xy and any(name in one.estimated for one in found)),
            witness_probs=_mean_witnesses(found),
            by_lesions=tuple(task for task in probs if any(task in one.by_lesions for one in found)),
            # The largest distance: an ensemble knows a photo no better than the member that knows it least.
            training_distance=max(distances, key=lambda one: one.percentile, default=None),
            has_marks=framed.marks is not None,
            frame_probs={
                code: _mean_map([planes[code] for planes in maps if code in planes]) for code in self.card.structures
            },
            cams=_mean_cams(found),
        )


def _joined(cards: list[Card]) -> Card:
    """The ensemble's card. Each fixed number is the mean over the members that it applies to.

    What turns logits into probabilities (temperatures, lowest grades, the landmarks' floor) stays that of the first
    member and is not read: members use their own.
    """
    if not cards:
        raise ModelError("E_MODEL", "An ensemble needs at least one model; none was given.")
    first, side = cards[0], max(card.close_px for card in cards)
    structures = _union([card.outlined for card in cards], CODES)
    members = {code: [card for card in cards if code in card.outlined] for code in structures}
    graders = [card for card in cards if card.grade] or cards
    return replace(
        first,
        name=" + ".join(dict.fromkeys(card.name for card in cards)),
        grade=any(card.grade for card in cards),
        dme=any(card.dme for card in cards),
        tasks=_union([tuple(task for task in card.tasks if task in CLASSES) for card in cards], list(CLASSES)),
        structures=structures,
        not_learned=(),
        landmarks=_union([card.located for card in cards], LANDMARKS),
        whole_px=max(card.whole_px for card in cards),
        close_px=side,
        close=_union([card.close for card in cards], CODES),
        thresholds={code: _average([card.thresholds[code] for card in members[code]]) for code in structures},
        smallest_px2={  # each in pixels of its own frame: the same area has more of them in a larger one
            code: _average([card.smallest_px2.get(code, 0.0) * (side / card.close_px) ** 2 for card in members[code]])
            for code in structures
        },
        referable_threshold=_average([card.referable_threshold for card in graders]),
        distance=None,
        witnesses={
            task: some[0].witnesses[task]
            for task in CLASSES
            if (some := [card for card in cards if task in card.photo_tasks])
            and all(task in card.witnesses for card in some)
        },
        fovea_from_disc=_mean_row([card.fovea_from_disc for card in cards if card.fovea_from_disc is not None]),
        # One grader's quantile promises nothing about the mean of several.
        grade_quantile=graders[0].grade_quantile if len(graders) == 1 else None,
        routers=(),
        about=_what_all_say([card.about for card in cards]),
        research_only=any(card.research_only for card in cards),
    )


def _what_all_say(abouts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What the cards of all members say alike of their making; no figures, which were measured on one alone."""
    first = abouts[0]
    alike = [key for key in first if all(key in one and one[key] == first[key] for one in abouts)]
    return {key: first[key] for key in alike if key != "figures" or len(abouts) == 1}


def _union(parts: list[tuple[str, ...]], order: Sequence[str]) -> tuple[str, ...]:
    """What is in any of the parts: in their own order where they agree, otherwise in that of the vocabulary."""
    if len(set(parts)) == 1:
        return parts[0]
    return tuple(sorted({name for part in parts for name in part}, key=order.index))


def _gated(one: Findings, grade_probs: np.ndarray | None) -> dict[str, np.ndarray]:
    """A member's maps. grade_probs: the ensemble's; `Ensemble` says where they gate a member."""
    if one.grade_probs is not None:
        return one.frame_probs
    lowest = one.card.lowest_grades
    return {code: plane * grade_factor(grade_probs, lowest.get(code, 0)) for code, plane in one.frame_probs.items()}


def _mean_row(rows: Sequence[FoveaOffset]) -> FoveaOffset | None:
    if not rows:
        return None
    a, b, c, d = (_average(list(column)) for column in zip(*rows, strict=True))
    return a, b, c, d


def _average(values: list[float]) -> float:
    return sum(values) / len(values)


def _mean_classes(found: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """By photo task the mean of the probabilities of the members that answer it."""
    known = {task: [probs[task] for probs in found if task in probs] for task in CLASSES}
    return {task: np.mean(each, axis=0) for task, each in known.items() if each}


def _mean_witnesses(found: Sequence[Findings]) -> dict[str, dict[str, np.ndarray]]:
    """The means of what the members' witnesses say, of the tasks of which every member that answers has both."""
    answering = {task: [one for one in found if task in one.class_probs] for task in CLASSES}
    whole = [
        task
        for task, some in answering.items()
        if some and all(task in one.witness_probs.get("lesions", {}) for one in some)
    ]
    names = ("photo", "lesions") if whole else ()
    return {
        name: {task: np.mean([one.witness_probs[name][task] for one in answering[task]], axis=0) for task in whole}
        for name in names
    }


def _mean_map(planes: list[np.ndarray]) -> np.ndarray:
    """The mean of maps (S, S) of one square, at the largest one's side."""
    side = max(len(plane) for plane in planes)
    size = (side, side)
    resized = [p if len(p) == side else cv2.resize(p, size, interpolation=cv2.INTER_LINEAR) for p in planes]
    return np.mean(resized, axis=0)


def _mean_cams(found: list[Findings]) -> dict[str, np.ndarray]:
    """By task the mean of the members' activation maps, at the largest side.

    Only tasks for which every member that answers has a map.
    """
    tasks = {task: [one for one in found if task in one.class_probs] for task in CLASSES}
    return {
        task: np.stack([_mean_map([one.cams[task][c] for one in some]) for c in range(len(some[0].cams[task]))])
        for task, some in tasks.items()
        if some and all(task in one.cams for one in some)
    }


def _mean_point(points: list[Point | None], apart: float) -> Point | None:
    """The mean of the points that are no further than `apart` from their median, where at least half of the members
    that locate this landmark found it there. Between two that contradict each other there is no landmark."""
    known = [point for point in points if point is not None]
    if not known:
        return None
    middle = np.median(known, axis=0)
    known = [point for point in known if np.hypot(*(middle - point)) <= apart]
    if not known or 2 * len(known) < len(points):
        return None
    return _average([x for x, _ in known]), _average([y for _, y in known])
