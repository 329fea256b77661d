"""Fixes a model's card on validation photos: temperatures, thresholds, smallest areas.

Temperature scaling: Guo et al., "On Calibration of Modern Neural Networks", ICML 2017. Grade sets: `conformal`; their
quantile is fitted on the same photos as the temperature.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import cv2
import numpy as np

from funduscope.data.case import Case
from funduscope.data.derived_labels import derive_labels
from funduscope.i18n.errors import PhotoError, refuse_machine_fault
from funduscope.imaging.framing import frame
from funduscope.imaging.photo import Photo
from funduscope.inference.card import Card, FoveaOffset
from funduscope.inference.conformal import fit_quantile
from funduscope.inference.findings import Findings
from funduscope.inference.landmarks import fit_fovea_offset
from funduscope.inference.ood import fit_reference
from funduscope.inference.predictor import Predictor, grade_factor, lesion_features
from funduscope.inference.runtime import softmax
from funduscope.inference.witnesses import LesionFeatures, Witness
from funduscope.progress import Progress, no_progress
from funduscope.quality.assessment import assess, not_gradable
from funduscope.training.fit_scale import UNSCALED, Scale, fit_scale, scaled, to_bytes
from funduscope.training.fit_threshold import MIN_POSITIVE, OutlineThreshold, ThresholdPhoto, fit_threshold
from funduscope.training.fit_witnesses import fit_witness
from funduscope.vocabulary import GRADES, LESIONS, NOISY_GRADE_SETS, REFERABLE_FROM, structure

WITNESSED = {"grade": LESIONS, "dme": ("EX",)}
"""The photo tasks that lesions are asked about, and which: edema risk is defined by hard exudates."""

MIN_LABELED = 20
"""With fewer labels of a photo task a fine-tuned model keeps the calibration of its first weights."""

OFFSET_FRAME_PX = 512  # of the frame in which landmarks are measured; only shares of its side count

MAX_REFERENCE_PHOTOS = 800
"""So many training photos, evenly spread, are the reference of the out-of-distribution score: more change nothing."""


@dataclass(frozen=True, eq=False)
class CalibrationPhoto:
    """The predictions and labels of one validation photo that calibration needs.

    features: of its lesions, none if they were not sought. logits: by photo task (G,). steps: uint8 (S, S) in the
    close frame, per structure, of the logits (`fit_scale.to_bytes`). probs: uint8 (S, S) likewise, 255 being 1, once
    the logits are scaled. truths: bool (S, S) per structure with a true mask. healthy: the lesions
    that a photo of grade 0 is known to lack.
    """

    case: Case
    features: LesionFeatures
    logits: dict[str, np.ndarray]
    steps: dict[str, np.ndarray]
    truths: dict[str, np.ndarray]
    healthy: frozenset[str]
    probs: dict[str, np.ndarray] = field(default_factory=dict)


def calibrate(
    predictor: Predictor,
    cases: Sequence[Case],
    progress: Progress = no_progress,
    before: Card | None = None,
    *,
    witnesses: bool = True,
) -> Card:
    """The predictor's card, fixed on those validation cases. `about` has their number and what could not be fixed.

    The predictor's own card must be neutral: temperatures of 1, no scales, no witnesses. before: the card of the model
    that this one was fine-tuned from; what the cases cannot fix stays as it is there. witnesses: see `Tasks`.
    """
    # First: where the fovea is found decides what is near it.
    fovea_from_disc = _fit_fovea_offset(cases) or (before.fovea_from_disc if before else None)
    predictor = Predictor(predictor.runtime, replace(predictor.card, fovea_from_disc=fovea_from_disc))
    # Many photos have no label that the lesions say anything of: they do without the close view, most of the work.
    plain, card = predictor.without_structures(), predictor.card
    watched = progress(cases, "Calibrating", len(cases))
    found = (_predict_photo(predictor if _needs_lesions(case, card) else plain, case) for case in watched)
    seen = [photo for photo in found if photo is not None]
    about = dict[str, Any](validation_photos=len(seen))
    temperatures = {}
    for task in dict.fromkeys(("grade", "dme", *card.photo_tasks)):
        known = _labeled(seen, task)
        labels = np.array([photo.case.labels.class_of(task) for photo in known], int)
        temperatures[task] = fit_temperature(np.array([p.logits[task] for p in known]), labels) if known else 1.0
        about[f"{task}_labels"] = len(known)
    trees, joint = _fit_witnesses(seen, card) if witnesses else ({}, {})
    scales, cuts, lowest = dict[str, Scale](), dict[str, OutlineThreshold](), dict[str, int]()
    kept = [] if before is None else _kept_tasks(replace(card, witnesses=trees), before, about, witnesses)
    if before is not None and "grade" in kept:
        theirs = _witnesses_of(before, card) if witnesses else {}
        answers = _grades(seen, before.temperatures.get("grade", 1.0), theirs, {})
    else:
        answers = _grades(seen, temperatures["grade"], trees, joint)
    for code in card.outlined:
        scales[code] = _scale(seen, code)
        cuts[code], lowest[code] = _fit_cut(seen, code, answers if witnesses else {})
        about[f"{code}_threshold"] = cuts[code].says
    graded = _labeled(seen, "grade")
    labels = np.array([photo.case.labels.grade for photo in graded], int)
    probs = np.array([answers[photo.case.key] for photo in graded]).reshape(len(graded), len(GRADES))
    fixed = replace(
        card,
        temperatures=temperatures,
        scales={code: scale for code, scale in scales.items() if scale != UNSCALED},
        thresholds=card.thresholds | {code: cut.threshold for code, cut in cuts.items()},
        smallest_px2=card.smallest_px2 | {code: cut.smallest_px2 for code, cut in cuts.items()},
        lowest_grades={code: grade for code, grade in lowest.items() if grade},
        referable_threshold=_fit_referable(probs, labels),
        grade_quantile=fit_grade_quantile(probs, labels),
        witnesses=trees,
        about={**card.about, "calibration": about},
    )
    return fixed if before is None else _with_before(fixed, before, seen, witnesses)


def _kept_tasks(card: Card, before: Card, about: dict[str, Any], witnesses: bool) -> list[str]:
    """The photo tasks of both cards that are calibrated as in the first weights': of too few labels, or of so few
    that their witness could not be fitted, which the other parts belong to."""
    lost = {*(_witnesses_of(before, card) if witnesses else ())} - {*card.witnesses}
    few = (task for task in before.photo_tasks if about.get(f"{task}_labels", MIN_LABELED) < MIN_LABELED)
    return [task for task in dict.fromkeys((*few, *lost)) if task in before.temperatures]


def _with_before(card: Card, before: Card, seen: list[CalibrationPhoto], witnesses: bool = True) -> Card:
    """The card with what too few photos could fix taken from the card of the first weights.

    Witnesses are not taken over, nor what was fixed on joint answers or on outlines that faded with them.
    """
    about = dict(card.about["calibration"])
    rare = [code for code in card.outlined if code in before.outlined and _positive(seen, code) < MIN_POSITIVE]
    rare = rare if before.close_px == card.close_px else []  # areas are in pixels of its frame
    if "grade" not in card.photo_tasks or not witnesses:  # their outlines faded with a grade that there is no more
        rare = [code for code in rare if not before.lowest_grades.get(code)]
    same = {f"{code}_threshold": f"{about[f'{code}_threshold']}; that of the first weights" for code in rare}
    parts: dict[str, Any] = {}
    for name in ("scales", "thresholds", "smallest_px2", "lowest_grades"):
        ours, theirs = getattr(card, name), getattr(before, name)
        kept = {code: value for code, value in ours.items() if code not in rare}
        parts[name] = kept | {code: theirs[code] for code in rare if code in theirs}
    unknown = _kept_tasks(card, before, about, witnesses)
    same |= {f"{task}_calibration": "that of the first weights" for task in unknown}
    parts["temperatures"] = card.temperatures | {task: before.temperatures[task] for task in unknown}
    theirs = {task: tree for task, tree in _witnesses_of(before, card).items() if task in unknown and witnesses}
    if "grade" in unknown and ("grade" in theirs or "grade" not in before.witnesses):
        parts |= {name: getattr(before, name) for name in ("referable_threshold", "grade_quantile")}
    parts["witnesses"] = theirs | {task: tree for task, tree in card.witnesses.items() if task not in unknown}
    return replace(card, **parts, about={**card.about, "calibration": about | same})


def _witnesses_of(before: Card, card: Card) -> dict[str, Any]:
    """The first weights' witnesses of tasks that both models answer, by lesions that both outline."""
    tasks, codes = {*before.photo_tasks} & {*card.photo_tasks}, {*before.outlined} & {*card.outlined}
    return {
        task: tree
        for task, tree in before.witnesses.items()
        if task in tasks and {name.split()[0] for name in tree["numbers"]} <= codes
    }


def _scale(seen: list[CalibrationPhoto], code: str) -> Scale:
    """Fits the Platt scaling of a structure, and replaces the photos' quantized logits by probabilities."""
    with_truth = [photo for photo in seen if code in photo.truths]
    is_known = _positive(seen, code) >= MIN_POSITIVE
    scale = fit_scale((photo.steps[code], photo.truths[code]) for photo in with_truth) if is_known else UNSCALED
    for photo in seen:
        if code in photo.steps:
            photo.probs[code] = scaled(photo.steps.pop(code), scale)
    return scale


def _grades(
    seen: list[CalibrationPhoto],
    temperature: float,
    witnesses: dict[str, Any],
    joint: dict[tuple[str, str], np.ndarray],
) -> dict[str, np.ndarray]:
    """By photo the probabilities of its grade, by both witnesses; out of fold where its own label fitted them."""
    witness = Witness.of_tree(witnesses["grade"]) if "grade" in witnesses else None
    answers: dict[str, np.ndarray] = {}
    for photo in (photo for photo in seen if "grade" in photo.logits):
        of_photo = softmax(photo.logits["grade"])
        if ("grade", photo.case.key) in joint:
            answers[photo.case.key] = joint["grade", photo.case.key]
        elif witness is not None and photo.features:
            answers[photo.case.key] = witness.joint(of_photo, witness.probabilities(photo.features))
        else:
            answers[photo.case.key] = softmax(photo.logits["grade"] / temperature)
    return answers


def _fit_cut(seen: list[CalibrationPhoto], code: str, answers: dict[str, np.ndarray]) -> tuple[OutlineThreshold, int]:
    """The cut of a structure, and the grade below which its outlines fade (`Card.lowest_grades`); 0: they do not.

    They do where healthy eyes are cleaner so, or equally clean and Dice is higher; where too few photos show the
    structure for a Dice, where the threshold is lower.
    """
    plain = [
        (
            photo.case.key,
            ThresholdPhoto(photo.case.dataset, photo.probs[code], photo.truths.get(code), code in photo.healthy),
        )
        for photo in seen
        if code in photo.truths or code in photo.healthy
    ]
    cut, lowest = fit_threshold([photo for _, photo in plain], code), structure(code).lowest_grade
    if not lowest or not all(key in answers for key, _ in plain):
        return cut, 0
    faded = [
        replace(photo, probs=np.rint(photo.probs * grade_factor(answers[key], lowest)).astype(np.uint8))
        for key, photo in plain
    ]
    other = fit_threshold(faded, code)
    return (other, lowest) if other.is_better(cut) else (cut, 0)


def _positive(seen: list[CalibrationPhoto], code: str) -> int:
    """The photos that show the structure."""
    return sum(bool(photo.truths[code].any()) for photo in seen if code in photo.truths)


def _labeled(seen: list[CalibrationPhoto], task: str) -> list[CalibrationPhoto]:
    """The photos with a known and a predicted class."""
    return [photo for photo in seen if task in photo.logits and photo.case.labels.class_of(task) is not None]


def _fit_witnesses(
    seen: list[CalibrationPhoto], card: Card
) -> tuple[dict[str, Any], dict[tuple[str, str], np.ndarray]]:
    """By task what the lesions say of it, as trees; by task and photo the joint answers out of fold."""
    trees: dict[str, Any] = {}
    joint: dict[tuple[str, str], np.ndarray] = {}
    for task, codes in WITNESSED.items():
        known = [photo for photo in _labeled(seen, task) if photo.features]
        if not known or not {*codes} & {*card.outlined}:
            continue
        features = [{n: v for n, v in photo.features.items() if n.split()[0] in codes} for photo in known]
        of_photo = np.array([softmax(photo.logits[task]) for photo in known])
        labels = np.array([photo.case.labels.class_of(task) for photo in known], int)
        fitted = fit_witness(features, of_photo, labels, [photo.case.visit for photo in known])
        if fitted is not None:
            trees[task] = fitted.witness.to_tree()
            joint |= {(task, photo.case.key): row for photo, row in zip(known, fitted.joint, strict=True)}
    return trees, joint


def _needs_lesions(case: Case, card: Card) -> bool:
    """Whether calibration needs the photo's lesion maps: for outlined or absent lesions, or as a witness."""
    labels = derive_labels(case.labels)
    outlined = any(not mask.is_absent for mask in labels.masks.values())
    witnessed = any(labels.class_of(task) is not None for task in WITNESSED if task in card.photo_tasks)
    return witnessed or outlined or bool(case.labels.masks) or _healthy(case)


def _healthy(case: Case) -> bool:
    """Whether any lesion found in the photo is false."""
    return case.labels.grade == 0 and case.dataset not in NOISY_GRADE_SETS


def _predict_photo(predictor: Predictor, case: Case) -> CalibrationPhoto | None:
    try:
        photo = Photo.open(case.path)
    except PhotoError as error:
        refuse_machine_fault(error)
        return None
    card = predictor.card
    framed = frame(photo, card.close_px)
    if assess(framed, photo.pixels)[0]:
        return None
    found, views = predictor.run(photo, framed)
    labels, side = derive_labels(case.labels), card.close_px
    masks = {code: mask for code, mask in labels.masks.items() if code in found.codes}
    # Absence that is a label counts as an empty mask, as in the scores; absence that a grade implies does not.
    loaded = {
        code: mask.load(photo.height, photo.width)
        for code, mask in masks.items()
        if code in case.labels.masks or not mask.is_absent
    }
    truths = {code: found.transform.map_to_frame(mask) >= 0.5 for code, mask in loaded.items() if mask is not None}
    blank = {code for code, mask in loaded.items() if mask is not None and not mask.any()}
    absent = [code for code, mask in masks.items() if code in LESIONS and (mask.is_absent or code in blank)]
    healthy = frozenset(absent if _healthy(case) else ())
    steps = {code: _steps(found, code, side) for code in {*truths, *healthy}}
    points = {"optic_disc": found.disc_xy, "fovea": found.fovea_xy}
    features = lesion_features(views, card, points, found.transform)
    logits = {task: np.log(np.maximum(probs, 1e-12)) for task, probs in found.class_probs.items()}
    return CalibrationPhoto(case, features, logits, steps, truths, healthy)


def _fit_fovea_offset(cases: Sequence[Case]) -> FoveaOffset | None:
    """The usual distance of the fovea from the disc in the frames of photos in which both are marked."""
    discs, foveas = [], []
    for case in cases:
        disc, fovea = case.labels.disc_xy, case.labels.fovea_xy
        if disc is None or fovea is None:
            continue
        try:
            transform = frame(Photo.open(case.path), OFFSET_FRAME_PX, paint_marks=False).transform
        except PhotoError as error:
            refuse_machine_fault(error)
            continue
        places = transform.to_frame(np.array([disc, fovea])) / transform.side_px
        discs.append(places[0])
        foveas.append(places[1])
    return fit_fovea_offset(discs, foveas)


def _steps(found: Findings, code: str, side: int) -> np.ndarray:
    return to_bytes(cv2.resize(found.frame_probs[code], (side, side), interpolation=cv2.INTER_LINEAR))


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """The temperature in 0.25..4 that makes (N, G) logits most likely for (N,) labels."""
    candidates = np.exp(np.linspace(np.log(0.25), np.log(4), 161))
    scaled = logits[None] / candidates[:, None, None]
    scaled = scaled - scaled.max(axis=2, keepdims=True)
    log_probs = scaled - np.log(np.exp(scaled).sum(axis=2, keepdims=True))
    likelihood = np.take_along_axis(log_probs, labels[None, :, None], axis=2).mean(axis=(1, 2))
    return round(float(candidates[likelihood.argmax()]), 4)


def fit_grade_quantile(probs: np.ndarray, grades: np.ndarray) -> float | None:
    """The quantile of conformal grade sets, one for all data sets; None if no grade is known. probs: (N, G)."""
    # Rounded up, so that the photo with this score stays in its own set.
    return float(np.ceil(fit_quantile(probs, grades) * 1e6) / 1e6) if len(grades) else None


def _fit_referable(probs: np.ndarray, grades: np.ndarray) -> float:
    """The threshold of P(grade >= 2) with the largest sum of sensitivity and specificity; 0.5 with a single class."""
    score, truth = probs[:, REFERABLE_FROM:].sum(1), grades >= REFERABLE_FROM
    if truth.all() or not truth.any():
        return 0.5
    cuts = np.unique(score)
    middles = (cuts[1:] + cuts[:-1]) / 2
    gain = [(score[truth] >= cut).mean() + (score[~truth] < cut).mean() for cut in middles]
    if not len(middles):
        return 0.5
    best = int(np.argmax(gain))
    rounded = round(float(middles[best]), 4)
    return rounded if cuts[best] < rounded <= cuts[best + 1] else float(middles[best])


def fit_ood_reference(
    predictor: Predictor,
    training: list[Case],
    held_out: list[Case],
    progress: Progress = no_progress,
) -> dict[str, Any] | None:
    """The card's `distance` (inference/ood.py): features of the training photos, percentiles by held-out photos.

    None if the model gives no features or there are too few photos. training, held_out: cases of the same clinics.
    """
    chosen = training[:: max(1, -(-len(training) // MAX_REFERENCE_PHOTOS))]
    words, count = "Fitting the out-of-distribution reference", len(chosen) + len(held_out)
    rows = list(features_of(predictor, progress([*chosen, *held_out], words, count)))
    of_training = [row for row in rows[: len(chosen)] if row is not None]
    of_held_out = [row for row in rows[len(chosen) :] if row is not None]
    if not of_training:
        return None
    fitted = fit_reference(np.stack(of_training), np.stack(of_held_out) if of_held_out else None)
    return None if fitted is None else fitted.to_tree()


def features_of(predictor: Predictor, cases: Iterable[Case]) -> Iterable[np.ndarray | None]:
    """A row (C,) a case, by the whole view alone; None for a photo that is refused or a model that gives none."""
    plain = predictor.without_structures()
    for case in cases:
        try:
            photo = Photo.open(case.path)
        except PhotoError as error:
            refuse_machine_fault(error)
            yield None
            continue
        framed = frame(photo, plain.card.close_px)
        features = None if not_gradable(framed) else plain.run(photo, framed)[1].whole.features
        yield None if features is None else features[0]
