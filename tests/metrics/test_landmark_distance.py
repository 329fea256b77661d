"""Distances of landmarks."""

from __future__ import annotations

import numpy as np
import pytest

from funduscope.metrics import DistanceState, to_disc_diameters


def test_distances_are_stated_at_the_standard_width() -> None:
    state = DistanceState.of((103, 204), (100, 200), 4288) + DistanceState.of((53, 104), (50, 100), 1072)
    assert state.distances.tolist() == [5, 20]
    assert (state.mean, state.median, state.largest, state.n) == (12.5, 12.5, 20, 2)


def test_missed_counts_as_a_disc_diameter_and_refused_has_none() -> None:
    state = sum(
        [
            DistanceState.of((110, 100), (100, 100), 4288),
            DistanceState.of(None, (5, 5), 300),
            DistanceState(np.zeros(0), 0),
        ]
    )
    assert (state.n, state.missed) == (2, 1)
    assert state.mean == 280
    assert state.largest == 550
    assert to_disc_diameters(state.largest) == 1


def test_no_photo_no_distance() -> None:
    state = DistanceState(np.zeros(0), 0)
    assert np.isnan([state.mean, state.median, state.largest]).all()


def test_a_point_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="no distance"):
        DistanceState.of((float("nan"), 1), (1, 1), 100)
