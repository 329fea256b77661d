"""Predictor x cases -> Scores: the only path to a published number. The protocol is docs/protocol.md.

What is scored is what `predict` would have said, in the photo's own pixels. Every photo becomes a few states (sums);
`summarize` adds them up over a data set and takes the scores with their intervals.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

import cv2
import numpy as np

from funduscope.data.case import Case, LabelError, Mask
from funduscope.data.masks import read_votes, size_of
from funduscope.evaluation.scores import (
    DECISION,
    FALSE_LESIONS,
    GRADABILITY,
    ON_NEGATIVES,
    PhotoScore,
    Scores,
    scores_of,
    summarize,
)
from funduscope.inference.card import Card
from funduscope.inference.findings import Failure, Findings
from funduscope.inference.model import Model
from funduscope.metrics import (
    BinaryState,
    CalibrationState,
    ConformalState,
    DenseState,
    DistanceState,
    FalseLesionState,
    FrocState,
    GradingState,
    JointState,
    MaskState,
    PerPhotoState,
    ScoresState,
    VotesState,
    froc_candidates,
)
from funduscope.metrics.per_photo import VOTE
from funduscope.vocabulary import DME_RISKS, EITHER_EXUDATE, GRADES, LESIONS, referable

__all__ = ["PhotoScore", "Scores", "evaluate", "score_photo", "score_stream", "scores_of", "shrunk", "summarize"]

_log = logging.getLogger(__name__)

HEAVY_PHOTO: Final = "IDRiD_17"
"""It holds most of all haemorrhage pixels of IDRiD's masks: their scores are stated without it too."""

YES_OR_NO: Final = {
    frozenset({0}): ("maculopathy", 1),
    frozenset({1, 2}): ("maculopathy", 1),
    frozenset({0, 1}): ("macular edema", 2),
    frozenset({2}): ("macular edema", 2),
}
"""What a yes or a no constrains the edema risk to: the question's name, and the lowest risk that is a yes (srahim's
maculopathy: exudates anywhere; Messidor-2's macular edema: exudates near the fovea)."""

SEEN_BY: Final = 2
"""Of DIARETDB1's four experts, so many make a lesion present; none make it absent; one leaves it unknown."""

DOUBTED: Final = ("eyepacs400",)
"""Data sets whose grade 0 is one quick reader's word at 400 px: no proof that every lesion found there is false."""

MARKS_PX: Final = 480
"""How wide the small masks are that go with a photo's scores, at most."""


def evaluate(
    predictor: Model, cases: Iterable[Case], *, repeats: int = 1000, photos: list[PhotoScore] | None = None
) -> Scores:
    """Scores of every data set among the cases, each by itself; 95 % intervals over visits.

    photos: scores of photos that were made before (by other folds' models, say), to be counted with these.
    """
    return summarize([*(photos or []), *score_stream(predictor, cases)], repeats)


def score_stream(predictor: Model, cases: Iterable[Case]) -> Iterator[PhotoScore]:
    """Predicts and scores one photo after another."""
    for case in cases:
        answer = next(predictor.stream([case.path]))
        yield score_photo(answer, case, predictor.card)


def score_photo(answer: Findings | Failure, case: Case, card: Card) -> PhotoScore:
    """Everything that the case's labels allow to be said of the answer. A photo that failed counts as refused.

    card: of the model that answered; what the model does not answer is not scored.
    """
    found = answer if isinstance(answer, Findings) and answer.gradable_ok else None
    scored = PhotoScore(case, refused=found is None)
    scored.row.update(key=case.key, dataset=case.dataset, visit=case.visit, fold=case.fold, refused=found is None)
    if isinstance(answer, Failure):
        scored.row["error"] = answer.code
    if card.grade:
        _score_grade(found, scored, card)
    if card.dme:
        _score_dme(found, scored)
    if card.grade and card.dme:
        _score_both(found, scored)
    _score_landmarks(found, scored, card)
    _score_masks(answer, found, scored, card)
    _score_presence(found, scored, card)
    if found and found.gates:
        scored.row["gates"] = {name: [round(share, 4) for share in shares] for name, shares in found.gates.items()}
    _score_false_lesions(found, scored, card)
    if case.labels.quality in ("good", "reject"):
        good = case.labels.quality == "good"
        scored.states[GRADABILITY] = BinaryState.of([good], [_gradability(answer, found)])
        scored.states[GRADABILITY + DECISION] = GradingState.of([int(good)], [int(found is not None)], 2)
    return scored


def _gradability(answer: Findings | Failure, found: Findings | None) -> float:
    """How well the photo is said to be gradable; 0 where it could not be read or shows no eye."""
    if isinstance(answer, Findings) and answer.quality is not None:
        return answer.quality.score
    return float(found is not None)


def _score_grade(found: Findings | None, scored: PhotoScore, card: Card) -> None:
    truth = scored.case.labels.grade
    if truth is None:
        return
    probs, refused = _probabilities(found and found.grade_probs, len(GRADES)), [found is None]
    table = ScoresState.of([truth], probs[None], refused)
    chance = found.referable_probability if found else None
    called = None if chance is None else int(chance >= card.referable_threshold)
    scored.states["DR"] = GradingState.of([truth], [found.grade if found else None], len(GRADES))
    scored.states["DR probabilities"] = table
    scored.states["referable DR"] = table.referable()
    scored.states["referable DR" + DECISION] = GradingState.of([int(referable(truth))], [called], 2)
    scored.states["DR calibration"] = CalibrationState.of([truth], probs[None], refused)
    scored.row.update(grade=truth, predicted_grade=found.grade if found else None, grade_probs=_plain(probs))
    if card.grade_quantile is not None:
        held = (found and found.grade_set) or ()
        sets = np.isin(np.arange(len(GRADES)), held)[None]
        scored.states["DR grade sets"] = ConformalState.of([truth], sets, refused)
        scored.row["grade_set"] = list(held) if found else None


def _score_dme(found: Findings | None, scored: PhotoScore) -> None:
    truth, among = scored.case.labels.dme, scored.case.labels.dme_among
    probs, refused = _probabilities(found and found.dme_probs, len(DME_RISKS)), [found is None]
    risk = found.dme if found else None
    if truth is not None:
        scored.states["DME"] = GradingState.of([truth], [risk], len(DME_RISKS))
        scored.states["DME probabilities"] = ScoresState.of([truth], probs[None], refused)
        scored.states["DME calibration"] = CalibrationState.of([truth], probs[None], refused)
    elif among in YES_OR_NO:
        name, lowest = YES_OR_NO[among]
        ill, called = min(among) >= lowest, None if risk is None else int(risk >= lowest)
        scored.states[name] = BinaryState.of([ill], [float(probs[lowest:].sum())], refused)
        scored.states[name + DECISION] = GradingState.of([int(ill)], [called], 2)
        scored.row[name] = ill
    else:
        return
    scored.row.update(dme=truth, predicted_dme=risk, dme_probs=_plain(probs))


def _score_both(found: Findings | None, scored: PhotoScore) -> None:
    grade, dme = scored.case.labels.grade, scored.case.labels.dme
    if grade is None or dme is None:
        return
    answer = (found.grade, found.dme) if found and found.grade is not None and found.dme is not None else None
    scored.states["DR and DME"] = JointState.of([(grade, dme)], [answer])


def _score_landmarks(found: Findings | None, scored: PhotoScore, card: Card) -> None:
    labels = scored.case.labels
    for landmark, name, truth, xy in (
        ("optic_disc", "disc center", labels.disc_xy, found and found.disc_xy),
        ("fovea", "fovea", labels.fovea_xy, found and found.fovea_xy),
    ):
        if truth is None or landmark not in card.landmarks:
            continue
        if found is None:
            scored.states[name] = DistanceState.of_refused()
            continue
        scored.states[name] = distance = DistanceState.of(xy or None, truth, found.photo.width)
        scored.row[f"{name} px"] = round(distance.mean, 1)


def _score_masks(answer: Findings | Failure, found: Findings | None, scored: PhotoScore, card: Card) -> None:
    for code, mask in scored.case.labels.masks.items():
        codes = ("EX", "SE") if code == EITHER_EXUDATE else (code,)
        size = _size(answer, mask, scored.case)
        if size is None or not set(codes) <= set(card.structures):
            continue
        target = _loaded(mask, size, scored)
        if target is None:
            continue
        marked = _larger(found.mask, codes) if found else np.zeros(size, bool)
        _score_pixels(code, _larger(found.probability, codes) if found else np.zeros(size, np.float32), target, scored)
        _score_mask(code, marked, target, scored)
        if code == EITHER_EXUDATE:
            _score_present(code, bool(target.any()), found and _larger(found.probability, codes), marked, scored)
            negatives = scored.case.labels.negatives
            bright = None if negatives is None else _loaded(negatives, size, scored)
            if bright is not None:
                scored.states[ON_NEGATIVES] = MaskState.of(marked, bright)


def _score_pixels(code: str, prob: np.ndarray, target: np.ndarray, scored: PhotoScore) -> None:
    scored.states[f"{code} pixels"] = pixels = DenseState.of(prob, target)
    if code == "HE" and _is_idrid_but_heavy(scored.case):
        scored.states[f"HE pixels without {HEAVY_PHOTO}"] = pixels
    if code == "MA":
        scored.states["MA lesions"] = FrocState.of(*froc_candidates(prob, target))


def _score_mask(code: str, marked: np.ndarray, target: np.ndarray, scored: PhotoScore) -> None:
    scored.states[f"{code} mask"] = overlap = MaskState.of(marked, target)
    if code == "HE" and _is_idrid_but_heavy(scored.case):
        scored.states[f"HE mask without {HEAVY_PHOTO}"] = overlap
    name, own = ("IoU", overlap.iou) if code == "OD" else ("Dice", overlap.dice)
    scored.states[f"{code} {name} by photo"] = PerPhotoState.of(own)
    scored.row[f"{code} {name}"] = None if np.isnan(own) else round(own, 4)
    scored.marks[code] = shrunk(marked)


def _score_presence(found: Findings | None, scored: PhotoScore, card: Card) -> None:
    """DIARETDB1: seen by two experts or more against nobody, and how many votes the marked pixels have."""
    labels = scored.case.labels
    for code in LESIONS:
        seen = labels.experts.get(code)
        if seen is None or code not in card.structures:
            continue
        marked = found.mask(code) if found else np.zeros((0, 0), bool)
        if seen == 0 or seen >= SEEN_BY:
            _score_present(code, seen > 0, found and found.probability(code), marked, scored)
        path, votes = labels.votes.get(code) if found else None, None
        if path is not None:
            votes = _votes(path, marked.shape, scored)
            if votes is None:
                continue
        scored.states[f"{code} votes"] = VotesState.of(marked, votes)


def _score_present(code: str, there: bool, prob: np.ndarray | None, marked: np.ndarray, scored: PhotoScore) -> None:
    """Whether the photo shows any of it: its highest probability ranks, its mask decides. prob: None where refused."""
    refused = prob is None
    score = float("nan") if prob is None else float(prob.max())
    scored.states[f"{code} present"] = BinaryState.of([there], [score], [refused])
    called = None if refused else int(marked.any())
    scored.states[f"{code} present" + DECISION] = GradingState.of([int(there)], [called], 2)
    scored.row[f"{code} present"], scored.row[f"{code} named"] = there, called == 1


def _score_false_lesions(found: Findings | None, scored: PhotoScore, card: Card) -> None:
    """On a healthy eye all that is found is false. Grade 0 with a lesion's box drawn on it is no healthy eye."""
    labels, sought = scored.case.labels, [code for code in LESIONS if code in card.structures]
    boxed = any(labels.boxes.get(code) for code in LESIONS)
    if labels.grade != 0 or boxed or not sought or scored.case.dataset in DOUBTED:
        return
    counts = dict.fromkeys(LESIONS, 0) | {code: found.count(code) if found else 0 for code in sought}
    for name, codes in FALSE_LESIONS.items():
        if not set(codes) <= set(sought):  # who seeks fewer kinds marks fewer falsely: no merit
            continue
        scored.states[name] = FalseLesionState.of(counts, codes, refused=found is None)
    scored.row["false lesions"] = counts


def _loaded(mask: Mask, size: tuple[int, int], scored: PhotoScore) -> np.ndarray | None:
    """The mask; None where its file cannot be used: one bad file must not cost the scores of all other photos."""
    try:
        return mask.load(*size)
    except LabelError as error:
        _leave_out(error, scored)
        return None


def _votes(path: Path, size: tuple[int, ...], scored: PhotoScore) -> np.ndarray | None:
    """The votes of a file, 60 an expert, as `_loaded` loads a mask."""
    try:
        return read_votes(path, size[0], size[1]) * np.uint8(VOTE)
    except LabelError as error:
        _leave_out(error, scored)
        return None


def _leave_out(error: LabelError, scored: PhotoScore) -> None:
    _log.warning("%s: %s It is not scored.", scored.case.key, error)
    scored.row.setdefault("not scored", []).append(str(error))


def _size(answer: Findings | Failure, mask: Mask, case: Case) -> tuple[int, int] | None:
    """(height, width) of the photo, from its mask or its file's head where it could not be read; None where unknown."""
    if isinstance(answer, Findings):
        return answer.photo.height, answer.photo.width
    try:
        return size_of(mask.paths[0] if mask.paths else case.path)
    except LabelError:
        return None


def _is_idrid_but_heavy(case: Case) -> bool:
    return case.dataset == "idrid-A" and case.name != HEAVY_PHOTO


def _larger(plane: Callable[[str], np.ndarray], codes: Sequence[str]) -> np.ndarray:
    first = plane(codes[0])
    return first if len(codes) == 1 else np.maximum(first, plane(codes[1]))


def shrunk(mask: np.ndarray) -> np.ndarray:
    """(H, W) bool at most `MARKS_PX` wide; a pixel that holds any of the mask is in it."""
    height, width = mask.shape
    shrink = min(1.0, MARKS_PX / width)
    size = max(1, round(width * shrink)), max(1, round(height * shrink))
    return cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_AREA) > 0


def _probabilities(probs: np.ndarray | None, classes: int) -> np.ndarray:
    return np.full(classes, np.nan) if probs is None else probs


def _plain(probs: np.ndarray) -> list[float] | None:
    return None if np.isnan(probs).any() else [round(float(p), 5) for p in probs]
