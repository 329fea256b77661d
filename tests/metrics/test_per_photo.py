"""What is counted photo by photo."""

from __future__ import annotations

import numpy as np
import pytest

from funduscope.metrics import FalseLesionState, PerPhotoState, VotesState

CODES = ("HE", "EX", "SE")


def test_median_over_photos_leaves_out_where_there_is_none() -> None:
    state = sum(PerPhotoState.of(value) for value in (0.1, float("nan"), 0.5, 0.9, 0.2))
    assert state.median == pytest.approx(0.35)
    assert state.mean == pytest.approx(0.425)
    assert (state.n, state.undefined) == (4, 1)
    assert np.isnan(PerPhotoState.of(float("nan")).median)


def test_false_lesions_on_healthy_photos() -> None:
    photos = [{"MA": 9, "HE": 2, "EX": 0, "SE": 1}, {"HE": 0, "EX": 0, "SE": 0}, {"HE": 1, "EX": 0, "SE": 0}]
    state = sum(FalseLesionState.of(counts, CODES) for counts in photos) + FalseLesionState.of(
        dict.fromkeys(CODES, 0), CODES
    )
    assert state.rate == 0.5
    assert state.rates == pytest.approx([0.5, 0, 0.25])
    assert state.per_photo == pytest.approx([0.75, 0, 0.25])
    assert state.photos == 4


def test_votes_of_falsely_marked_pixels() -> None:
    votes = np.array([[0, 1, 2], [4, 0, 0]], np.uint8)
    state = VotesState.of(np.ones((2, 3), bool), votes) + VotesState.of(np.eye(2, dtype=bool), None)
    assert state.by_votes.tolist() == [5, 1, 1, 0, 1]
    assert [state.share(count) for count in (0, 1, 2)] == pytest.approx([5 / 8, 1 / 8, 1 / 8])
    assert np.isnan(VotesState.of(np.zeros((2, 3), bool), votes).share(0))


def test_votes_of_another_size_are_refused() -> None:
    with pytest.raises(ValueError, match="one size"):
        VotesState.of(np.ones((1, 2), bool), np.zeros((2, 2), np.uint8))
