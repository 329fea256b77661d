"""Sets of neighboring grades that hold the true one as often as they promise, whatever the model's faults.

Split conformal prediction with the ordinal score of Lu, Angelopoulos and Pomerantz, "Improving Trustworthiness of AI
Disease Severity Rating in Medical Imaging with Ordinal Conformal Prediction Sets", MICCAI 2022: from the most probable
grade the set grows to whichever neighbor is more probable. What differs: a grade's score is the probability that the
set held *before* it was taken in, as their own algorithm stops, so that no set is ever empty and nothing is drawn by
chance; and it grows with the set, as in Angelopoulos, Bates, Jordan and Malik, "Uncertainty Sets for Image Classifiers
using Conformal Prediction", ICLR 2021, so that one unsure photo does not take in every grade. The promise is on average
over photos like those of the quantile, not for each photo and not for each grade.

MAPIE, the library for such sets, has no score whose sets are sure to be intervals of grades; these lines are its split
procedure with one that has.
"""

from __future__ import annotations

from typing import Final

import numpy as np

COVERAGE: Final = 0.9
"""Share of photos whose set shall hold the true grade."""

PENALTY: Final = 0.1
"""What each grade that a set holds already adds to the next one's score: the smallest sets on validation photos."""


def nonconformity(probabilities: np.ndarray) -> np.ndarray:
    """(G,) probabilities of one photo's grades to (G,) scores: how much a set holds before that grade enters.

    Its probability, and `PENALTY` for each of its grades; 0 for the most probable grade. Of two neighbors as probable
    the higher grade enters first: the more careful one.
    """
    probs = np.asarray(probabilities, np.float64)
    low = high = int(probs.argmax())
    scores, held = np.zeros(len(probs)), float(probs[low])
    for size in range(1, len(probs)):
        below = probs[low - 1] if low > 0 else -1.0
        above = probs[high + 1] if high + 1 < len(probs) else -1.0
        low, high, taken = (low - 1, high, low - 1) if below > above else (low, high + 1, high + 1)
        scores[taken] = held + PENALTY * size
        held += float(probs[taken])
    return scores


def fit_quantile(probabilities: np.ndarray, truth: np.ndarray, coverage: float = COVERAGE) -> float:
    """The score up to which grades belong to a set, from photos that the model did not learn from.

    probabilities (N, G), truth (N,) grades. It is the ceil((N + 1) * coverage)-th smallest score of the true grades;
    above any score, so that a set holds every grade, where there are too few photos for any promise.
    """
    scores = np.sort([nonconformity(row)[grade] for row, grade in zip(probabilities, truth, strict=True)])
    # The tiny share taken off keeps 10 * 0.9 from becoming the 10th where floats make it 9.000000000000002.
    place = int(np.ceil((len(scores) + 1) * coverage - 1e-9))
    return float(scores[place - 1]) if 0 < place <= len(scores) else 1 + PENALTY * probabilities.shape[1]


def grade_set(probabilities: np.ndarray, quantile: float) -> tuple[int, ...]:
    """The grades that cannot be excluded, ascending and without a gap; the most probable one is always among them."""
    return tuple(int(grade) for grade in np.flatnonzero(nonconformity(probabilities) <= quantile))
