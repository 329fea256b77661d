"""Sets of neighboring grades that contain the true one with a guaranteed frequency, whatever the model's errors.

Split conformal prediction with the ordinal score of Lu, Angelopoulos and Pomerantz, "Improving Trustworthiness of AI
Disease Severity Rating in Medical Imaging with Ordinal Conformal Prediction Sets", MICCAI 2022: from the most probable
grade the set grows to whichever neighbor is more probable. What differs: a grade's score is the probability of the set
*before* that grade is added, as their own algorithm stops, so no set is empty and nothing is random. The score also
grows with the size of the set, as in Angelopoulos, Bates, Jordan and Malik, "Uncertainty Sets for Image Classifiers
using Conformal Prediction", ICLR 2021, so an uncertain photo does not get every grade. The coverage is guaranteed on
average over photos like those that fixed the quantile, not for each photo and not for each grade.

A photo may be healthy or diseased and hardly anything between, so that a set of neighbors would leave out a grade that
is likelier than one in it. Such grades are added with whatever lies between: a set only grows by that, and contains the
true grade no less often.

MAPIE, the library for such sets, has no score whose sets are always intervals of grades. This is its split procedure
with a score whose sets are.
"""

from __future__ import annotations

from typing import Final

import numpy as np

COVERAGE: Final = 0.9
"""Share of photos whose set must contain the true grade."""

PENALTY: Final = 0.1
"""Each grade in a set adds this to the score of the next (docs/trust.md has what other values give)."""


def nonconformity(probabilities: np.ndarray) -> np.ndarray:
    """(G,) probabilities of one photo's grades to (G,) scores of the grades.

    The score is the probability of the set before the grade is added, plus `PENALTY` for each of its grades; 0 for the
    most probable grade. Of two equally probable neighbors the higher grade, the more careful one, is added first.
    """
    probs = np.asarray(probabilities, np.float64)
    low = high = int(probs.argmax())
    scores, total = np.zeros(len(probs)), float(probs[low])
    for size in range(1, len(probs)):
        below = probs[low - 1] if low > 0 else -1.0
        above = probs[high + 1] if high + 1 < len(probs) else -1.0
        low, high, added = (low - 1, high, low - 1) if below > above else (low, high + 1, high + 1)
        scores[added] = total + PENALTY * size
        total += float(probs[added])
    return scores


def fit_quantile(probabilities: np.ndarray, truth: np.ndarray) -> float:
    """The largest score of a grade that belongs to a set, from photos that the model did not learn from.

    probabilities: (N, G); truth: (N,) grades. The ceil((N + 1) * COVERAGE)-th smallest score of the true grades. With
    too few photos for that rank it is above any score, so a set contains every grade.
    """
    scores = np.sort([closed(row, nonconformity(row))[grade] for row, grade in zip(probabilities, truth, strict=True)])
    rank = int(np.ceil((len(scores) + 1) * COVERAGE))
    return float(scores[rank - 1]) if 0 < rank <= len(scores) else 1 + PENALTY * probabilities.shape[1]


def grade_set(probabilities: np.ndarray, quantile: float) -> tuple[int, ...]:
    """The grades that cannot be excluded, ascending and without a gap; always with the most probable one."""
    scores = closed(probabilities, nonconformity(probabilities))
    return tuple(int(grade) for grade in np.flatnonzero(scores <= quantile))


def closed(probabilities: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Scores (G,) of one photo's grades, each lowered to the smallest threshold whose closed set holds the grade. A
    closed set has no gap, and no grade outside it is likelier than one inside."""
    lowered = np.full(len(probabilities), np.inf)
    for score in np.unique(scores):
        inside = scores <= score
        while True:
            inside |= np.asarray(probabilities) > np.min(probabilities, where=inside, initial=np.inf)
            between = np.flatnonzero(inside)
            if inside[between[0] : between[-1] + 1].all():
                break
            inside[between[0] : between[-1] + 1] = True
        lowered[inside] = np.minimum(lowered[inside], score)
    return lowered
