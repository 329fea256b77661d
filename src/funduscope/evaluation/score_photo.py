"""A model and labeled photos in, `PhotoScore`s out: the only path to a published number. Protocol: docs/protocol.md.

The findings of `predict` are scored in the photo's own pixels. Each photo becomes a few states (sums); `summarize` adds
them up over a data set and takes the scores with their intervals.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial, reduce
from itertools import tee
from typing import Final

import cv2
import numpy as np

from funduscope.data.case import Case, LabelError, Mask
from funduscope.data.masks import read_votes, size_of
from funduscope.evaluation.extra_scores import Extra, score_extra
from funduscope.evaluation.score_key import DR, Aspect, Question
from funduscope.evaluation.scores import ADVICE, FALSE_LESIONS, GRADABILITY, ON_NEGATIVES, PhotoScore
from funduscope.inference.card import Card
from funduscope.inference.findings import Failure, Findings
from funduscope.inference.model import Model
from funduscope.inference.rules import DME_REFERABLE_FROM
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
    ProbabilityState,
    State,
    VotesState,
    froc_candidates,
)
from funduscope.vocabulary import (
    AGREEING_VOTERS,
    DME_RISKS,
    EITHER_EXUDATE,
    GRADES,
    LESIONS,
    NOISY_GRADE_SETS,
    PHOTO_TASKS,
    PhotoTask,
    referable,
)

_log = logging.getLogger(__name__)

REFERABLE: Final = Question("referable DR")
BOTH: Final = Question("DR and DME")
OF_WITNESS: Final = {"photo": Question("referable DR by the photo"), "lesions": Question("referable DR by the lesions")}
"""What each witness alone says of the referral (inference/witnesses.py)."""

HEAVY_PHOTO: Final = "IDRiD_17"
"""It has a third of the haemorrhage pixels of IDRiD's masks: haemorrhages are also scored without it."""

YES_OR_NO: Final[dict[frozenset[int], tuple[str, int]]] = {
    frozenset(risks): (name, lowest)
    for name, lowest in (("maculopathy", 1), ("macular edema", len(DME_RISKS) - 1))
    for risks in (range(lowest), range(lowest, len(DME_RISKS)))
}
"""By the edema risks that a yes or a no leaves possible: the question, and the lowest risk that is a yes (srahim's
maculopathy: exudates anywhere; Messidor-2's macular edema: exudates near the fovea)."""

MARKS_PX: Final = 480
"""Largest width of the reduced masks that are kept with a photo's scores."""


def score_stream(predictor: Model, cases: Iterable[Case], extra: Extra | None = None) -> Iterator[PhotoScore]:
    """Predicts and scores one photo after another. extra: as in `score_photo`."""
    asked, scored = tee(cases)
    for answer, case in zip(predictor.stream((case.path for case in asked), frames=False), scored, strict=True):
        yield score_photo(answer, case, predictor.card, extra, judges=predictor.refuses)


def can_score(card: Card, case: Case) -> bool:
    """Whether a model predicts any label of the photo."""
    labels, outlined = case.labels, set(card.outlined)
    may_be_clean = labels.grade == 0 and case.dataset not in NOISY_GRADE_SETS
    return bool(
        any(labels.class_of(task) is not None for task in card.photo_tasks)
        or (card.dme and labels.known_classes("dme") in YES_OR_NO)
        or any(labels.point(name) for name in card.located)
        or any(set(codes.split("|")) <= outlined for codes in labels.masks)
        or (may_be_clean and any(set(codes) <= outlined for codes in FALSE_LESIONS.values()))
        or outlined & labels.experts.keys()
    )


def score_photo(
    answer: Findings | Failure, case: Case, card: Card, extra: Extra | None = None, *, judges: bool = True
) -> PhotoScore:
    """Scores the answer against every label of the case. A photo that failed counts as refused.

    card: of the model that answered. Labels that the model does not predict are not scored. extra: more scores, each
    asked of the findings of a photo that was not refused; refused photos are counted next to it. judges: whether the
    model may refuse photos. Raises `ValueError` if an extra score has a name that is not free, or gives no number.
    """
    found = answer if isinstance(answer, Findings) and answer.gradable_ok else None
    scored = PhotoScore(case, refused=found is None)
    scored.row.update(key=case.key, dataset=case.dataset, visit=case.visit, fold=case.fold, refused=found is None)
    if isinstance(answer, Failure):
        scored.row["error"] = answer.code
    for task in PHOTO_TASKS:
        if task.name in card.photo_tasks:
            _score_class(task, found, scored, card)
    _score_advice(found, scored, card)
    labels = case.labels
    if card.grade and card.dme and labels.grade is not None and labels.dme is not None:
        both = (found.grade, found.dme) if found and found.grade is not None and found.dme is not None else None
        scored.states[BOTH] = JointState.of([(labels.grade, labels.dme)], [both])
    _score_landmarks(found, scored, card)
    _score_masks(answer, found, scored, card)
    _score_presence(found, scored, card)
    if found and found.gates:
        scored.row["gates"] = {name: [round(share, 4) for share in shares] for name, shares in found.gates.items()}
    _score_false_lesions(answer, found, scored, card)
    if judges and labels.quality in ("good", "reject"):
        quality = answer.quality if isinstance(answer, Findings) else None
        chance = float(found is not None) if quality is None else quality.score
        scored.states[GRADABILITY] = BinaryState.of([labels.quality == "good"], [chance])
        scored.decisions[GRADABILITY] = _decision(labels.quality == "good", found is not None)
    score_extra(found, scored, extra or {})
    return scored


def _score_class(task: PhotoTask, found: Findings | None, scored: PhotoScore, card: Card) -> None:
    """The class of a photo task. Of grades also the referral and the sets, of edema risks also a yes or no."""
    labels, title, classes = scored.case.labels, task.title, len(task.classes)
    truth, answer = labels.class_of(task.name), found.answer(task.name) if found else None
    probs = _probabilities(found and found.class_probs.get(task.name), classes)
    refused = [found is None]
    if truth is not None:
        table = ProbabilityState.of([truth], probs[None], refused)
        scored.states[Question(title)] = GradingState.of([truth], [answer], classes)
        scored.states[Question(title, Aspect.PROBABILITIES)] = (
            BinaryState.of([truth > 0], probs[1:], refused) if classes == 2 else table
        )
        if title == DR:
            _score_referable(truth, table, found, scored, card)
        scored.states[Question(title, Aspect.CALIBRATION)] = CalibrationState.of([truth], probs[None], refused)
    elif not (task.name == "dme" and _score_yes_or_no(probs, answer, scored)):
        return
    scored.row.update({task.name: truth, f"predicted_{task.name}": answer, f"{task.name}_probs": _plain(probs)})
    if title == DR and truth is not None and card.grade_quantile is not None:
        grades = (found and found.grade_set) or ()
        sets = np.isin(np.arange(classes), grades)[None]
        scored.states[Question(title, Aspect.GRADE_SETS)] = ConformalState.of([truth], sets, refused)
        scored.row["grade_set"] = list(grades) if found else None


def _score_referable(
    truth: int, table: ProbabilityState, found: Findings | None, scored: PhotoScore, card: Card
) -> None:
    chance = found.referable_probability if found else None
    scored.states[REFERABLE] = table.referable()
    scored.decisions[REFERABLE] = _decision(
        referable(truth), None if chance is None else chance >= card.referable_threshold
    )
    if "grade" not in card.witnesses or (found and not found.witness_probs):
        return
    for name, question in OF_WITNESS.items():
        probs = _probabilities(found and found.witness_probs[name]["grade"], len(GRADES))
        scored.states[question] = ProbabilityState.of([truth], probs[None], [found is None]).referable()
        scored.row[f"grade_probs_of_{name}"] = _plain(probs)


def _score_yes_or_no(probs: np.ndarray, risk: int | None, scored: PhotoScore) -> bool:
    """Where the edema risk is known as a yes or no: that question. Returns whether it is."""
    among = scored.case.labels.known_classes("dme")
    if among not in YES_OR_NO:
        return False
    name, lowest = YES_OR_NO[among]
    ill = min(among) >= lowest
    scored.states[Question(name)] = BinaryState.of([ill], [float(probs[lowest:].sum())], [scored.refused])
    scored.decisions[Question(name)] = _decision(ill, None if risk is None else risk >= lowest)
    scored.row[name] = ill
    return True


def _score_advice(found: Findings | None, scored: PhotoScore, card: Card) -> None:
    """Whether referral is advised, which rests on grade, edema risk and lesions, against what the labels ask for.

    An eye whose grade asks for no referral counts as not to be referred unless macular edema is known, also if the
    edema risk is unknown or a constraint that allows none: few data sets state it (docs/protocol.md).
    """
    labels = scored.case.labels
    if not card.grade or labels.grade is None:
        return
    risk = labels.known_classes("dme")
    lowest = min(risk) if isinstance(risk, frozenset) else risk or 0
    advice = found and found.advice
    refer = advice.refer if advice else None
    scored.states[ADVICE] = _decision(referable(labels.grade) or lowest >= DME_REFERABLE_FROM, refer)
    scored.row["referral_advised"] = refer


def _score_landmarks(found: Findings | None, scored: PhotoScore, card: Card) -> None:
    labels = scored.case.labels
    for landmark, name, truth, xy in (
        ("optic_disc", "disc center", labels.disc_xy, found and found.disc_xy),
        ("fovea", "fovea", labels.fovea_xy, found and found.fovea_xy),
    ):
        if truth is None or landmark not in card.located:
            continue
        if found is None:
            scored.states[Question(name)] = DistanceState(np.zeros(0), 0)
            continue
        scored.states[Question(name)] = distance = DistanceState.of(xy or None, truth, found.photo.width)
        scored.row[f"{name} px"] = round(distance.mean, 1)


def _score_masks(answer: Findings | Failure, found: Findings | None, scored: PhotoScore, card: Card) -> None:
    for code, mask in scored.case.labels.masks.items():
        codes = ("EX", "SE") if code == EITHER_EXUDATE else (code,)
        size = _size(answer, mask, scored.case)
        if size is None or not set(codes) <= set(card.outlined):
            continue
        target = _load(partial(mask.load, *size), scored)
        if target is None:
            continue
        marked = _largest(found.mask, codes) if found else np.zeros(size, bool)
        prob = _largest(found.probability, codes) if found else np.zeros(size, np.float32)
        _put(Question(code, Aspect.PIXELS), DenseState.of(prob, target), scored)
        if code == "MA":
            scored.states[Question(code, Aspect.LESIONS)] = FrocState.of(*froc_candidates(prob, target))
        _score_mask(code, marked, target, scored)
        if code == EITHER_EXUDATE:
            _score_present(code, bool(target.any()), prob if found else None, marked, scored)
            negatives = scored.case.labels.negatives
            bright = None if negatives is None else _load(partial(negatives.load, *size), scored)
            if bright is not None:
                scored.states[ON_NEGATIVES] = MaskState.of(marked, bright)


def _score_mask(code: str, marked: np.ndarray, target: np.ndarray, scored: PhotoScore) -> None:
    overlap = MaskState.of(marked, target)
    _put(Question(code, Aspect.MASK), overlap, scored)
    name, own, aspect = (
        ("IoU", overlap.iou, Aspect.IOU_BY_PHOTO) if code == "OD" else ("Dice", overlap.dice, Aspect.DICE_BY_PHOTO)
    )
    scored.states[Question(code, aspect)] = PerPhotoState.of(own)
    scored.row[f"{code} {name}"] = None if np.isnan(own) else round(own, 4)
    scored.marks[code] = shrunk(marked)


def _put(question: Question, state: State, scored: PhotoScore) -> None:
    """The state under its question; of IDRiD's haemorrhages also under the question without the heavy photo."""
    scored.states[question] = state
    if question.subject == "HE" and scored.case.dataset == "idrid-A" and scored.case.name != HEAVY_PHOTO:
        scored.states[replace(question, without=HEAVY_PHOTO)] = state


def _score_presence(found: Findings | None, scored: PhotoScore, card: Card) -> None:
    """DIARETDB1: lesions that `AGREEING_VOTERS` saw against lesions that nobody saw; the votes of marked pixels."""
    labels = scored.case.labels
    for code in LESIONS:
        seen = labels.experts.get(code)
        if seen is None or code not in card.outlined:
            continue
        marked = found.mask(code) if found else np.zeros((0, 0), bool)
        if seen == 0 or seen >= AGREEING_VOTERS:
            _score_present(code, seen > 0, found and found.probability(code), marked, scored)
        path, votes = labels.votes.get(code) if found else None, None
        if found and seen and path is None:  # the votes could not be read: that is not the same as no votes
            continue
        if path is not None:
            votes = _load(partial(read_votes, path, *marked.shape), scored)
            if votes is None:
                continue
        scored.states[Question(code, Aspect.VOTES)] = VotesState.of(marked, votes)


def _score_present(code: str, there: bool, prob: np.ndarray | None, marked: np.ndarray, scored: PhotoScore) -> None:
    """Whether the photo shows the structure: the highest probability ranks, the mask decides. prob: None if refused."""
    question, refused = Question(code, Aspect.PRESENT), prob is None
    score = float("nan") if prob is None else float(prob.max())
    named = None if refused else bool(marked.any())
    scored.states[question] = BinaryState.of([there], [score], [refused])
    scored.decisions[question] = _decision(there, named)
    scored.row[question.name], scored.row[f"{code} named"] = there, named is True


def _decision(truth: bool, predicted: bool | None) -> GradingState:
    """A yes or no as predicted and as true; None: refused."""
    return GradingState.of([int(truth)], [None if predicted is None else int(predicted)], 2)


def _score_false_lesions(answer: Findings | Failure, found: Findings | None, scored: PhotoScore, card: Card) -> None:
    """On a healthy eye every lesion found is false."""
    sought = [code for code in LESIONS if code in card.outlined]
    if not sought or scored.case.dataset in NOISY_GRADE_SETS or not _is_healthy(answer, scored, card):
        return
    counts = dict.fromkeys(LESIONS, 0) | {code: found.count(code) if found else 0 for code in sought}
    for question, codes in FALSE_LESIONS.items():
        if not set(codes) <= set(sought):  # a model that predicts fewer lesion kinds would score better for it
            continue
        scored.states[question] = FalseLesionState.of(counts, codes)
    scored.row["false lesions"] = counts


def _is_healthy(answer: Findings | Failure, scored: PhotoScore, card: Card) -> bool:
    """Whether the photo has grade 0, and no lesion in a box, in an expert's eyes or in a mask, also of a structure that
    the model does not outline. A mask that cannot be read, or leaves it open, may show one."""
    labels = scored.case.labels
    if labels.grade != 0 or any(labels.boxes.get(code) or labels.experts.get(code) for code in LESIONS):
        return False
    for code, mask in labels.masks.items():
        if code not in (*LESIONS, EITHER_EXUDATE) or mask.is_absent:
            continue
        state = scored.states.get(Question(code, Aspect.PIXELS))
        if isinstance(state, DenseState):
            is_clean = not state.positives
        elif set(code.split("|")) <= set(card.outlined):  # it was to be scored, and could not
            is_clean = False
        else:
            size = _size(answer, mask, scored.case)
            target = None if size is None else _load(partial(mask.load, *size), scored)
            is_clean = target is not None and not target.any()
        if not is_clean:
            return False
    return True


def _load(read: Callable[[], np.ndarray | None], scored: PhotoScore) -> np.ndarray | None:
    """What `read` gives; None if it is unknown, or its file cannot be used: one bad file ends no evaluation."""
    try:
        return read()
    except LabelError as error:
        _log.warning("%s: %s It is not scored.", scored.case.key, error)
        scored.row.setdefault("not scored", []).append(str(error))
        return None


def _size(answer: Findings | Failure, mask: Mask, case: Case) -> tuple[int, int] | None:
    """(height, width) of the photo. Of a photo that failed, from the header of its mask or file; None if unknown."""
    if isinstance(answer, Findings):
        return answer.photo.height, answer.photo.width
    try:
        return size_of(mask.paths[0] if mask.paths else case.path)
    except LabelError:
        return None


def _largest(plane: Callable[[str], np.ndarray], codes: Sequence[str]) -> np.ndarray:
    """The maximum of the structures' planes at every pixel."""
    return reduce(np.maximum, map(plane, codes))


def shrunk(mask: np.ndarray) -> np.ndarray:
    """(H, W) bool reduced to at most `MARKS_PX` wide; a pixel is True where any of the pixels it covers is."""
    return cv2.resize(mask.astype(np.float32), shrunk_size(*mask.shape), interpolation=cv2.INTER_AREA) > 0


def shrunk_size(height: int, width: int) -> tuple[int, int]:
    """(width, height) of a picture of at most `MARKS_PX` wide."""
    shrink = min(1.0, MARKS_PX / width)
    return max(1, round(width * shrink)), max(1, round(height * shrink))


def _probabilities(probs: np.ndarray | None, classes: int) -> np.ndarray:
    return np.full(classes, np.nan) if probs is None else probs


def _plain(probs: np.ndarray) -> list[float] | None:
    return None if np.isnan(probs).any() else [round(float(p), 5) for p in probs]
