"""Fits what the lesions say of grade and edema risk, and how much it counts, on validation photos.

A sharp photo shows more dots than a small one, true and false. So a number counts by how far it lies above what healthy
eyes of the same detail show. Every data set weighs the same, however many photos it has.

Everything that is chosen from the joint answers later, such as thresholds, takes those that were made out of fold: a
photo's own label has no part in the fit that answers for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch

from funduscope.network.answer import MIN_PROBABILITY, ordinal

RIDGE: Final = 1.0
"""Penalty of the squared weights, which are of numbers scaled to a standard deviation of 1."""

DETAIL_RIDGE: Final = 2.0
"""Penalty of the squared slopes of a number over the detail of healthy eyes."""

PARTS: Final = 5
"""Parts of the photos, in whole visits, for answers out of fold."""

MIN_WEIGHT: Final = 1e-3
"""Numbers of a smaller weight are left out: they change nothing."""

MIN_OF_CLASS: Final = 5
"""With fewer photos of the two rarest classes together nothing is fitted."""


@dataclass(frozen=True, eq=False)
class WitnessPhotos:
    """Validation photos with a label of one photo task.

    numbers: (N, F) of their lesions, with `names`. detail: (N, 3). of_photo: (N, C) the network's own probabilities.
    labels: (N,). datasets, visits: of each; the photos of a visit stay together.
    """

    names: tuple[str, ...]
    numbers: np.ndarray
    detail: np.ndarray
    of_photo: np.ndarray
    labels: np.ndarray
    datasets: np.ndarray
    visits: Sequence[str]

    @property
    def weights(self) -> np.ndarray:
        """(N,) see `equal_weights`."""
        return equal_weights(self.datasets)

    def only(self, chosen: np.ndarray) -> WitnessPhotos:
        """The photos of a mask (N,) bool."""
        visits = [visit for visit, is_chosen in zip(self.visits, chosen, strict=True) if is_chosen]
        return WitnessPhotos(
            self.names,
            self.numbers[chosen],
            self.detail[chosen],
            self.of_photo[chosen],
            self.labels[chosen],
            self.datasets[chosen],
            visits,
        )


def equal_weights(datasets: np.ndarray) -> np.ndarray:
    """(N,) weights of photos with a mean of 1: the photos of every data set have the same sum."""
    if not len(datasets):
        return np.ones(0)
    _, place, counts = np.unique(datasets, return_inverse=True, return_counts=True)
    weights = 1 / counts[place]
    return weights / weights.mean()


@dataclass(frozen=True, eq=False)
class Witness:
    """An ordinal regression on the lesions' numbers and the photo's detail; see `network.answer.LesionRegression`."""

    weights: np.ndarray
    detail: np.ndarray
    cuts: np.ndarray

    def probabilities(self, photos: WitnessPhotos) -> np.ndarray:
        """(N, C) of the classes, by the lesions alone."""
        score = photos.numbers @ self.weights + photos.detail @ self.detail
        return ordinal(torch.tensor(score), torch.tensor(self.cuts)).numpy()


@dataclass(frozen=True, eq=False)
class Fitted:
    """tree: for the card. lesions, joint: (N, C) probabilities out of fold, of the lesions alone and of both."""

    tree: dict[str, Any]
    lesions: np.ndarray
    joint: np.ndarray


def fit_witness(photos: WitnessPhotos) -> Fitted | None:
    """Fits a witness; None if the classes are too rare."""
    classes = photos.of_photo.shape[1]
    counts = np.sort(np.bincount(photos.labels, minlength=classes))
    part_of = _parts(photos.visits)
    if counts[:2].sum() < MIN_OF_CLASS or len(set(part_of)) < PARTS:
        return None

    lesions, joint = np.zeros_like(photos.of_photo), np.zeros_like(photos.of_photo)
    for part in range(PARTS):
        learned = photos.only(part_of != part)
        judged = photos.only(part_of == part)
        shares = fit_shares(learned, _out_of_fold(learned, part_of[part_of != part]))
        of_lesions = fit_regression(learned).probabilities(judged)
        lesions[part_of == part] = of_lesions
        joint[part_of == part] = geometric_mean(judged.of_photo, of_lesions, shares)

    whole = fit_regression(photos)
    spread = photos.numbers.std(axis=0)
    kept = [place for place, weight in enumerate(whole.weights) if weight * spread[place] >= MIN_WEIGHT]
    tree = {
        "numbers": [photos.names[place] for place in kept],
        "weights": [round(float(whole.weights[place]), 6) for place in kept],
        "detail": [round(float(weight), 6) for weight in whole.detail],
        "cuts": [round(float(cut), 4) for cut in whole.cuts],
        "shares": list(fit_shares(photos, lesions)),
    }
    return Fitted(tree, lesions, joint)


def _parts(visits: Sequence[str]) -> np.ndarray:
    """The part of each photo. Visits are dealt out in the order of their names."""
    place = {visit: index % PARTS for index, visit in enumerate(sorted(set(visits)))}
    return np.array([place[visit] for visit in visits])


def _out_of_fold(photos: WitnessPhotos, part_of: np.ndarray) -> np.ndarray:
    """(N, C) probabilities of the lesions, each by the other parts."""
    probabilities = np.zeros_like(photos.of_photo)
    for part in set(part_of.tolist()):
        witness = fit_regression(photos.only(part_of != part))
        probabilities[part_of == part] = witness.probabilities(photos.only(part_of == part))
    return probabilities


def fit_regression(photos: WitnessPhotos) -> Witness:
    """The ordinal regression of the labels. Weights are squares, and cuts sums of squares, so that none falls below 0
    and the cuts ascend."""
    classes = photos.of_photo.shape[1]
    slopes, base = _of_healthy(photos)
    above_healthy = photos.numbers - base - photos.detail @ slopes
    weights = photos.weights
    center = np.average(above_healthy, axis=0, weights=weights)
    spread = np.sqrt(np.average((above_healthy - center) ** 2, axis=0, weights=weights))
    spread[spread < 1e-6] = 1.0  # a number that is the same everywhere: divided by nearly 0, another would be huge

    inputs = torch.tensor((above_healthy - center) / spread)
    above = torch.tensor(photos.labels[:, None] >= np.arange(1, classes), dtype=torch.float64)
    counted = torch.tensor(weights)[:, None]
    count = inputs.shape[1]
    roots = torch.full((count,), count**-0.5, dtype=torch.float64, requires_grad=True)
    first = torch.tensor(-1.0, dtype=torch.float64, requires_grad=True)
    steps = torch.ones(classes - 2, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [roots, first, steps], max_iter=300, tolerance_grad=1e-6, line_search_fn="strong_wolfe"
    )

    def cuts() -> torch.Tensor:
        return first + torch.cat([torch.zeros(1, dtype=torch.float64), steps.square().cumsum(0)])

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        logits = (inputs @ roots.square())[:, None] - cuts()
        missed = torch.nn.functional.binary_cross_entropy_with_logits(logits, above, weight=counted, reduction="sum")
        total = missed + RIDGE / 2 * roots.pow(4).sum()
        total.backward()
        return total

    optimizer.step(loss)

    # Of the plain numbers: what was subtracted from them moves into the detail's weights and the cuts.
    of_numbers = roots.detach().square().numpy() / spread
    moved = float(of_numbers @ (base + center))
    return Witness(of_numbers, -slopes @ of_numbers, cuts().detach().numpy() + moved)


def _of_healthy(photos: WitnessPhotos) -> tuple[np.ndarray, np.ndarray]:
    """How the numbers of healthy eyes depend on detail: slopes (3, F), and numbers (F,) at a detail of 0."""
    healthy = photos.only(photos.labels == 0)
    if not len(healthy.labels):
        return np.zeros((photos.detail.shape[1], photos.numbers.shape[1])), np.zeros(photos.numbers.shape[1])
    weights = healthy.weights
    middle = np.average(healthy.detail, axis=0, weights=weights)
    base = np.average(healthy.numbers, axis=0, weights=weights)
    detail = (healthy.detail - middle) * np.sqrt(weights)[:, None]
    numbers = (healthy.numbers - base) * np.sqrt(weights)[:, None]
    slopes = np.linalg.solve(detail.T @ detail + DETAIL_RIDGE * np.eye(len(middle)), detail.T @ numbers)
    return slopes, base - middle @ slopes


def geometric_mean(first: np.ndarray, second: np.ndarray, shares: tuple[float, float]) -> np.ndarray:
    """(N, C) first ** shares[0] * second ** shares[1], scaled to a sum of 1."""
    powers = np.maximum(first, MIN_PROBABILITY) ** shares[0] * np.maximum(second, MIN_PROBABILITY) ** shares[1]
    return powers / powers.sum(axis=1, keepdims=True)


def fit_shares(photos: WitnessPhotos, of_lesions: np.ndarray) -> tuple[float, float]:
    """The exponents of both witnesses, at least 0, that make the labels likeliest."""
    logs = [torch.tensor(np.log(np.maximum(probs, MIN_PROBABILITY))) for probs in (photos.of_photo, of_lesions)]
    truth, weights = torch.tensor(photos.labels), torch.tensor(photos.weights)
    roots = torch.full((2,), 0.5**0.5, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([roots], max_iter=200, tolerance_grad=1e-8, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        first, second = roots.square()
        missed = torch.nn.functional.cross_entropy(first * logs[0] + second * logs[1], truth, reduction="none")
        total = (missed * weights).mean()
        total.backward()
        return total

    optimizer.step(loss)
    first, second = roots.detach().square().tolist()
    return round(first, 4), round(second, 4)
