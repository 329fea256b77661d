"""Whether groups (folds, cameras) and labels go together: Pearson's chi-square against shuffled groups."""

from __future__ import annotations

from typing import Final

import numpy as np

PERMUTATIONS: Final = 2000


def expected_counts(counts: np.ndarray) -> np.ndarray:
    """What a table of counts would be if its rows and columns were independent."""
    return np.outer(counts.sum(axis=1), counts.sum(axis=0)) / max(1.0, counts.sum())


def chi_square(counts: np.ndarray) -> float:
    """Pearson's chi-square of a table of counts."""
    expected = expected_counts(counts)
    return float((np.square(counts - expected) / np.maximum(expected, 1e-9)).sum())


def permutation_p_value(groups: np.ndarray, counts: np.ndarray) -> float:
    """How often shuffled groups have as large a chi-square as these, counting these groups once.

    groups: (N,) int, the group of each unit that is shuffled as a whole. counts: (N, K), the labels of each unit.
    """
    members, rng = np.eye(int(groups.max()) + 1), np.random.default_rng(0)
    observed = chi_square(members[groups].T @ counts)
    shuffled = (chi_square(members[rng.permutation(groups)].T @ counts) for _ in range(PERMUTATIONS))
    return (sum(value >= observed - 1e-9 for value in shuffled) + 1) / (PERMUTATIONS + 1)
