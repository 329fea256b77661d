"""Fixes a model's card on validation photos: temperatures, thresholds, smallest areas.

Temperature scaling: Guo et al., "On Calibration of Modern Neural Networks", ICML 2017. Grade sets: `conformal`; their
quantile is fitted on the same photos as the temperature.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np

from funduscope.data.case import Case
from funduscope.data.derived_labels import derive_labels
from funduscope.duplicates.search import Progress
from funduscope.evaluation.evaluate import DOUBTED
from funduscope.imaging.framing import CropTransform, frame
from funduscope.imaging.photo import Photo, PhotoError
from funduscope.inference.card import Card
from funduscope.inference.conformal import fit_quantile
from funduscope.inference.edema import exudate_evidence, exudate_logits
from funduscope.inference.findings import Findings
from funduscope.inference.landmarks import find_landmarks, usual_distance
from funduscope.inference.objects import Components
from funduscope.inference.ood import Reference, fit_reference
from funduscope.inference.predictor import Predictor, gate
from funduscope.inference.runtime import Outputs, softmax
from funduscope.quality.assessment import assess, not_gradable
from funduscope.vocabulary import DME_RISKS, GRADES, LESIONS, REFERABLE_FROM, structure

THRESHOLDS = np.array([*np.arange(2, 20) / 20, 0.97, 0.98, 0.99])
SMALLEST_PX2 = (0.0, 4.0, 8.0, 16.0, 32.0, 64.0)
MOST_REFERENCE_PHOTOS = 800
"""So many training photos, evenly spread, are the reference of the out-of-distribution score: more change nothing."""

FEWEST_POSITIVE = 3
"""Structures with fewer positive validation photos keep a threshold of 0.5."""

MOST_FALSE = 0.06
"""Largest share of healthy validation photos, in the worst data set, with a false lesion of one kind."""

MOST_FALSE_DOTS = 0.2
"""The same for microaneurysms: similar dots are common, and the strict share would remove all true ones."""

FEWEST_OF_RISK = 5
"""With fewer photos of any risk, edema is predicted from the model's output alone, without the exudates."""

RIDGE = 3.3
"""Ridge penalty of the edema layer, by cross-validation within the first shipped model's validation photos."""


@dataclass(frozen=True, eq=False)
class Seen:
    """The predictions and labels of one validation photo that calibration needs.

    exudates: measured around the fovea that the predictor's own card finds. logits: by photo task (G,). probs: uint8
    (S, S) in the close frame, per structure, 255 being 1. truths: bool (S, S) per structure with a true mask. healthy:
    the lesions that a photo of grade 0 is known to lack. maps: where the edema risk is known, what the exudates are
    measured on: the landmarks' maps, and the logits (h, w) of hard exudates.
    """

    case: Case
    transform: CropTransform
    exudates: tuple[float, float] | None
    logits: dict[str, np.ndarray]
    probs: dict[str, np.ndarray]
    truths: dict[str, np.ndarray]
    healthy: frozenset[str]
    maps: tuple[Outputs, np.ndarray] | None = None


def calibrate(predictor: Predictor, cases: Iterable[Case]) -> Card:
    """The predictor's card, fixed on those validation cases. `about` has their number and what could not be fixed.

    The predictor's own card must be neutral: temperatures of 1.
    """
    # Many graded photos have no label of lesions or edema: they do without the close view, which is most of the work.
    plain = predictor.without_structures()
    found = (_see(predictor if _needs_lesions(case) else plain, case) for case in cases)
    seen = [photo for photo in found if photo is not None]
    card, about = predictor.card, dict[str, Any](validation_photos=len(seen))
    temperatures = {}
    for task in dict.fromkeys(("grade", "dme", *card.photo_tasks)):
        pairs = [(photo.logits.get(task), photo.case.labels.label(task)) for photo in seen]
        known = [(logits, label) for logits, label in pairs if logits is not None and label is not None]
        temperatures[task] = fit_temperature(*map(np.array, zip(*known, strict=True))) if known else 1.0
        about[f"{task}_labels"] = len(known)
    lowest = {code: structure(code).lowest_grade for code in card.outlined if about["grade_labels"]}
    lowest = {code: grade for code, grade in lowest.items() if grade}
    seen = [_gated(photo, lowest, temperatures["grade"]) for photo in seen]
    thresholds, smallest = dict(card.thresholds), dict(card.smallest_px2)
    for code in card.outlined:
        thresholds[code], smallest[code], about[f"{code}_threshold"] = fit_threshold(seen, code)
    referable = _fit_referable(seen, temperatures["grade"])
    card = replace(card, fovea_from_disc=_fit_distance(seen))
    return replace(
        card,
        temperatures=temperatures,
        thresholds=thresholds,
        smallest_px2=smallest,
        lowest_grades=lowest,
        referable_threshold=referable,
        grade_quantile=fit_sets(seen, temperatures["grade"]),
        dme_evidence=_fit_evidence([_measured_again(photo, card) for photo in seen]),
        about={**card.about, "calibration": about},
    )


def _needs_lesions(case: Case) -> bool:
    """Whether calibration needs the photo's lesion maps: for outlined or absent lesions, or an edema risk."""
    labels = derive_labels(case.labels)
    outlined = any(not mask.is_absent for mask in labels.masks.values())
    return labels.dme is not None or outlined or bool(case.labels.masks) or _healthy(case)


def _healthy(case: Case) -> bool:
    """Whether any lesion found in the photo is false."""
    return case.labels.grade == 0 and case.dataset not in DOUBTED


def _see(predictor: Predictor, case: Case) -> Seen | None:
    try:
        photo = Photo.open(case.path)
    except PhotoError:
        return None
    card = predictor.card
    framed = frame(photo, card.close_px)
    if assess(framed, photo.pixels)[0]:
        return None
    found, (whole, close) = predictor.run(photo, framed)
    labels, side = derive_labels(case.labels), card.close_px
    masks = {code: mask for code, mask in labels.masks.items() if code in found.codes}
    absent = [code for code, mask in masks.items() if mask.is_absent and code in LESIONS]
    healthy = frozenset(absent if _healthy(case) else ())
    # Absence that is a label counts as an empty mask, as in the scores; absence that a grade implies does not.
    loaded = {
        code: mask.load(photo.height, photo.width)
        for code, mask in masks.items()
        if code in case.labels.masks or not mask.is_absent
    }
    truths = {code: found.transform.map_to_frame(mask) >= 0.5 for code, mask in loaded.items() if mask is not None}
    planes = {code: _plane(found, code, side) for code in {*truths, *healthy}}
    exudates = exudate_logits(whole, close, card) if labels.dme is not None else None
    maps = None if exudates is None else (Outputs(landmarks=whole.landmarks), exudates.copy())
    logits = {task: np.log(np.maximum(probs, 1e-12)) for task, probs in found.class_probs.items()}
    return Seen(case, found.transform, found.exudates, logits, planes, truths, healthy, maps)


def _measured_again(photo: Seen, card: Card) -> Seen:
    """The photo with its exudates measured around the fovea that this card finds, which also uses the disc."""
    if photo.maps is None:
        return photo
    spot = find_landmarks(photo.maps[0], card, photo.transform).get("fovea")
    return replace(photo, exudates=exudate_evidence(photo.maps[1], spot and spot.xy, photo.transform))


def _fit_distance(seen: list[Seen]) -> tuple[float, float, float, float] | None:
    """The usual distance of the fovea from the disc in the frames of photos in which both are marked."""
    discs, foveas = [], []
    for photo in seen:
        disc, fovea = photo.case.labels.disc_xy, photo.case.labels.fovea_xy
        if disc is not None and fovea is not None:
            places = photo.transform.to_frame(np.array([disc, fovea])) / photo.transform.side_px
            discs.append(places[0])
            foveas.append(places[1])
    return usual_distance(discs, foveas)


def _fit_evidence(seen: list[Seen]) -> dict[str, Any] | None:
    """Weights of the model's output and its exudates for the edema risk; None with too few photos of a risk."""
    rows = [
        (np.concatenate([photo.logits["dme"], photo.exudates]), photo.case.labels.dme)
        for photo in seen
        if "dme" in photo.logits and photo.exudates is not None and photo.case.labels.dme is not None
    ]
    labels = np.array([label for _, label in rows], int)
    if np.bincount(labels, minlength=len(DME_RISKS)).min() < FEWEST_OF_RISK:
        return None
    weights, bias = fit_linear(np.array([row for row, _ in rows]), labels, len(DME_RISKS))
    return {"weights": np.round(weights, 5).tolist(), "bias": np.round(bias, 5).tolist(), "photos": len(rows)}


def fit_linear(features: np.ndarray, labels: np.ndarray, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Weights (classes, F) and bias (classes,) of a multinomial logistic regression of labels (N,) on features (N, F).

    Features are scaled to a standard deviation of 1. The summed loss includes `RIDGE` times half the squared weights.
    """
    import torch

    center, spread = features.mean(0), np.maximum(features.std(0), 1e-6)
    inputs, target = torch.tensor((features - center) / spread), torch.tensor(labels)
    weights = torch.zeros(classes, features.shape[1], dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(classes, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([weights, bias], max_iter=500, tolerance_grad=1e-9, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        missed = torch.nn.functional.cross_entropy(inputs @ weights.T + bias, target, reduction="sum")
        total = missed + RIDGE / 2 * weights.square().sum()
        total.backward()
        return total

    optimizer.step(loss)
    scaled = weights.detach().numpy() / spread
    return scaled, bias.detach().numpy() - scaled @ center


def _plane(found: Findings, code: str, side: int) -> np.ndarray:
    plane = cv2.resize(found.frame_probs[code], (side, side), interpolation=cv2.INTER_LINEAR)
    return np.rint(plane * 255).astype(np.uint8)


def _gated(photo: Seen, lowest: dict[str, int], temperature: float) -> Seen:
    """The photo with its planes as the finished card makes them: see `Card.lowest_grades`."""
    if "grade" not in photo.logits:
        return photo
    grade_probs = softmax(photo.logits["grade"] / temperature)
    gates = {code: gate(grade_probs, lowest.get(code, 0)) for code in photo.probs}
    return replace(photo, probs={code: np.rint(p * gates[code]).astype(np.uint8) for code, p in photo.probs.items()})


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """The temperature in 0.25..4 that makes (N, G) logits most likely for (N,) labels."""
    candidates = np.exp(np.linspace(np.log(0.25), np.log(4), 161))
    scaled = logits[None] / candidates[:, None, None]
    scaled = scaled - scaled.max(axis=2, keepdims=True)
    log_probs = scaled - np.log(np.exp(scaled).sum(axis=2, keepdims=True))
    likelihood = np.take_along_axis(log_probs, labels[None, :, None], axis=2).mean(axis=(1, 2))
    return round(float(candidates[likelihood.argmax()]), 4)


def fit_threshold(seen: list[Seen], code: str) -> tuple[float, float, str]:
    """The threshold and smallest area of a structure, and a sentence on how they were chosen.

    Of all pairs with which at most `MOST_FALSE` of the healthy photos of each data set show the structure (without such
    a pair, as few as possible), the one with the highest Dice over the photos with true masks; 0.5 where these are too
    few.
    """
    with_truth = [photo for photo in seen if code in photo.truths]
    positive = sum(bool(photo.truths[code].any()) for photo in with_truth)
    healthy = [photo for photo in seen if code in photo.healthy]
    pairs = [(float(t), a) for t in THRESHOLDS for a in (SMALLEST_PX2 if code != "OD" else (0.0,))]
    largest = [[largest_area(photo, code, threshold) for photo in healthy] for threshold in THRESHOLDS]
    sets = [photo.case.dataset for photo in healthy]
    shares = {
        (float(t), a): false_share(areas, sets, a)
        for t, areas in zip(THRESHOLDS, largest, strict=True)
        for _, a in pairs
    }
    allowed = MOST_FALSE_DOTS if code == "MA" else MOST_FALSE
    limit = max(allowed, min(shares.values()))
    clean = [pair for pair in pairs if shares[pair] <= limit]
    if positive < FEWEST_POSITIVE:
        return 0.5, 0.0, f"{positive} positive validation photos: 0.5"
    best = max(clean, key=lambda pair: dice(with_truth, code, *pair))
    share = f"{shares[best]:.0%} of healthy photos marked in the worst data set, {limit:.0%} allowed"
    return best[0], best[1], f"best Dice over {positive} positive validation photos; {share}"


def largest_area(photo: Seen, code: str, threshold: float) -> int:
    """Pixels of the largest component at that threshold."""
    mask = photo.probs[code] >= threshold * 255
    if not mask.any():
        return 0
    stats = cv2.connectedComponentsWithStats(mask.view(np.uint8), connectivity=8)[2]
    return int(stats[1:, cv2.CC_STAT_AREA].max())


def false_share(largest: list[int], datasets: list[str], smallest_px2: float) -> float:
    """Share of photos with a component of at least that area, in the worst data set; 0 without photos."""
    marked: dict[str, list[bool]] = {}
    for area, dataset in zip(largest, datasets, strict=True):
        marked.setdefault(dataset, []).append(area > 0 and area >= smallest_px2)
    return max((float(np.mean(flags)) for flags in marked.values()), default=0.0)


def dice(photos: list[Seen], code: str, threshold: float, smallest_px2: float) -> float:
    """Dice over the pixels of all photos, without components below the area."""
    overlap = marked = true = 0
    for photo in photos:
        parts = Components.of(photo.probs[code] >= threshold * 255)
        mask = (parts.largest() if code == "OD" else parts).at_least(smallest_px2).mask  # as findings have it
        truth = photo.truths[code]
        overlap += int(np.count_nonzero(mask & truth))
        marked += int(np.count_nonzero(mask))
        true += int(np.count_nonzero(truth))
    return 2 * overlap / (marked + true) if marked + true else 1.0


def _graded(seen: list[Seen], temperature: float) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities (N, G) and true grades (N,) of the photos with a known and a predicted grade; N may be 0."""
    known = [photo for photo in seen if "grade" in photo.logits and photo.case.labels.grade is not None]
    scaled = np.array([photo.logits["grade"] for photo in known]).reshape(len(known), len(GRADES)) / temperature
    grades = np.array([photo.case.labels.grade for photo in known], int)
    return softmax(scaled, axis=1), grades


def fit_sets(seen: list[Seen], temperature: float) -> float | None:
    """The quantile of conformal grade sets, one for all data sets; None where no grade is known."""
    probs, grades = _graded(seen, temperature)
    # Rounded up, so that the photo with this score stays in its own set.
    return float(np.ceil(fit_quantile(probs, grades) * 1e6) / 1e6) if len(grades) else None


def _fit_referable(seen: list[Seen], temperature: float) -> float:
    """The threshold of P(grade >= 2) with the largest sum of sensitivity and specificity; 0.5 with a single class."""
    probs, grades = _graded(seen, temperature)
    score, truth = probs[:, REFERABLE_FROM:].sum(1), grades >= REFERABLE_FROM
    if truth.all() or not truth.any():
        return 0.5
    cuts = np.unique(score)
    middles = (cuts[1:] + cuts[:-1]) / 2
    gain = [(score[truth] >= cut).mean() + (score[~truth] < cut).mean() for cut in middles]
    return round(float(middles[int(np.argmax(gain))]), 4) if len(middles) else 0.5


def fit_distance(
    predictor: Predictor,
    training: list[Case],
    held_out: list[Case],
    progress: Progress = lambda items, words, total: items,
) -> dict[str, Any] | None:
    """The card's `distance` (inference/ood.py): features of the training photos, percentiles by held-out photos.

    None where the model gives no features or there are too few photos. training, held_out: cases of the same clinics.
    predictor: its card may have the `distance` of a run by the same procedure, whose percentiles are kept where no
    photos were held out, as in a refit on every photo.
    """
    chosen = training[:: max(1, -(-len(training) // MOST_REFERENCE_PHOTOS))]
    words, count = "Measuring distances", len(chosen) + len(held_out)
    rows = list(features_of(predictor, progress([*chosen, *held_out], words, count)))
    of_training = [row for row in rows[: len(chosen)] if row is not None]
    of_held_out = [row for row in rows[len(chosen) :] if row is not None]
    if not of_training:
        return None
    known = predictor.card.distance
    like = Reference.from_tree(known) if known is not None and not held_out else None
    fitted = fit_reference(np.stack(of_training), np.stack(of_held_out) if of_held_out else None, like)
    return None if fitted is None else fitted.to_tree()


def features_of(predictor: Predictor, cases: Iterable[Case]) -> Iterable[np.ndarray | None]:
    """A row (C,) a case, by the whole view alone; None for a photo that is refused or a model that gives none."""
    plain = predictor.without_structures()
    for case in cases:
        try:
            photo = Photo.open(case.path)
        except PhotoError:
            yield None
            continue
        framed = frame(photo, plain.card.close_px)
        features = None if not_gradable(framed) else plain.run(photo, framed)[1].whole.features
        yield None if features is None else features[0]
