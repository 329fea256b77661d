"""Fits what the lesions say of grade and edema risk, and how much it counts, on validation photos.

Everything that is chosen from the joint answers later, such as thresholds, takes those that were made out of fold: a
photo's own label has no part in the fit that answers for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import torch

from funduscope.inference.witnesses import FLOOR, LesionFeatures, Witness, geometric_mean, ordinal

RIDGE: Final = 1.0
"""Penalty of the squared weights, which are of numbers scaled to a standard deviation of 1."""

PARTS: Final = 5
"""Parts of the photos, in whole visits, for answers out of fold."""

MIN_WEIGHT: Final = 1e-3
"""Numbers of a smaller weight are left out: they change nothing."""

COLUMNS: Final = ("numbers", "center", "spread", "weights")

MIN_OF_CLASS: Final = 5
"""With fewer photos of the two rarest classes together nothing is fitted."""


@dataclass(frozen=True, eq=False)
class Fitted:
    """witness: for the card. lesions, joint: (N, C) probabilities out of fold, of the lesions alone and of both."""

    witness: Witness
    lesions: np.ndarray
    joint: np.ndarray


def fit_witness(
    found: Sequence[LesionFeatures], of_photo: np.ndarray, labels: np.ndarray, visits: Sequence[str]
) -> Fitted | None:
    """Fits a witness on N photos. found: the lesions' numbers. of_photo: (N, C) the network's own probabilities.
    labels: (N,). visits: whose photos stay together. None if the classes are too rare."""
    classes = of_photo.shape[1]
    counts = np.sort(np.bincount(labels, minlength=classes))
    part_of = _parts(visits)
    if counts[:2].sum() < MIN_OF_CLASS or len(set(part_of)) < PARTS:
        return None
    names = tuple(found[0])
    rows = np.array([[numbers[name] for name in names] for numbers in found])
    lesions, joint = np.zeros_like(of_photo), np.zeros_like(of_photo)
    for part in range(PARTS):
        rest = part_of != part
        inner = _out_of_fold(rows[rest], labels[rest], part_of[rest], classes)
        shares = fit_shares(of_photo[rest], inner, labels[rest])
        lesions[~rest] = _answers(fit_ordinal(rows[rest], labels[rest], names, classes), rows[~rest])
        joint[~rest] = geometric_mean(of_photo[~rest], lesions[~rest], shares)
    whole = fit_ordinal(rows, labels, names, classes)
    kept = [place for place, weight in enumerate(whole.weights) if weight >= MIN_WEIGHT]
    columns = {name: tuple(getattr(whole, name)[place] for place in kept) for name in COLUMNS}
    return Fitted(replace(whole, **columns, shares=fit_shares(of_photo, lesions, labels)), lesions, joint)


def _parts(visits: Sequence[str]) -> np.ndarray:
    """The part of each photo. Visits are dealt out in the order of their names."""
    place = {visit: index % PARTS for index, visit in enumerate(sorted(set(visits)))}
    return np.array([place[visit] for visit in visits])


def _out_of_fold(rows: np.ndarray, labels: np.ndarray, part_of: np.ndarray, classes: int) -> np.ndarray:
    """(N, C) probabilities of the lesions, each by the other parts."""
    probs = np.zeros((len(rows), classes))
    names = tuple(map(str, range(rows.shape[1])))
    for part in set(part_of.tolist()):
        rest = part_of != part
        probs[~rest] = _answers(fit_ordinal(rows[rest], labels[rest], names, classes), rows[~rest])
    return probs


def _answers(witness: Witness, rows: np.ndarray) -> np.ndarray:
    return ordinal((rows - witness.center) / witness.spread, np.array(witness.weights), np.array(witness.cuts))


def fit_ordinal(rows: np.ndarray, labels: np.ndarray, names: tuple[str, ...], classes: int) -> Witness:
    """The ordinal regression of labels (N,) on rows (N, F), without shares. Weights are squares, and cuts sums of
    squares, so that none falls below 0 and the cuts ascend."""
    center, spread = rows.mean(0), rows.std(0)
    spread[spread < 1e-6] = 1.0  # a number that is the same everywhere: divided by nearly 0, another would be huge
    inputs = torch.tensor((rows - center) / spread)
    above = torch.tensor(labels[:, None] >= np.arange(1, classes), dtype=torch.float64)
    roots = torch.full((rows.shape[1],), rows.shape[1] ** -0.5, dtype=torch.float64, requires_grad=True)
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
        missed = torch.nn.functional.binary_cross_entropy_with_logits(logits, above, reduction="sum")
        total = missed + RIDGE / 2 * roots.pow(4).sum()
        total.backward()
        return total

    optimizer.step(loss)
    weights = np.round(roots.detach().square().numpy(), 4)
    return Witness(
        numbers=names,
        center=tuple(np.round(center, 5).tolist()),
        spread=tuple(np.round(spread, 6).tolist()),
        weights=tuple(weights.tolist()),
        cuts=tuple(np.round(cuts().detach().numpy(), 4).tolist()),
        shares=(1.0, 0.0),
    )


def fit_shares(of_photo: np.ndarray, of_lesions: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """The exponents of both witnesses, at least 0, that make the labels (N,) likeliest."""
    logs = [torch.tensor(np.log(np.maximum(probs, FLOOR))) for probs in (of_photo, of_lesions)]
    truth = torch.tensor(labels)
    roots = torch.full((2,), 0.5**0.5, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([roots], max_iter=200, tolerance_grad=1e-8, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        first, second = roots.square()
        total = torch.nn.functional.cross_entropy(first * logs[0] + second * logs[1], truth)
        total.backward()
        return total

    optimizer.step(loss)
    first, second = roots.detach().square().tolist()
    return round(first, 4), round(second, 4)
