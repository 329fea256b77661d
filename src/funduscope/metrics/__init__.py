"""Scores by docs/protocol.md: one photo makes a state, states add up, and a score is taken of the sum."""

from __future__ import annotations

from funduscope.metrics.calibration import CalibrationState, ConformalState, ece_bias
from funduscope.metrics.dense import CoarseDenseState, DenseState, FrocState, MaskState, froc_by_area, froc_candidates
from funduscope.metrics.grading import BinaryState, GradingState, JointState, ProbabilityState
from funduscope.metrics.intervals import Interval, bootstrap, bootstrap_all, by_visit, paired_test
from funduscope.metrics.landmark_distance import DistanceState, to_disc_diameters
from funduscope.metrics.per_photo import ExtraState, FalseLesionState, MeanState, PerPhotoState, VotesState
from funduscope.metrics.state import State

__all__ = [
    "BinaryState",
    "CalibrationState",
    "CoarseDenseState",
    "ConformalState",
    "DenseState",
    "DistanceState",
    "ExtraState",
    "FalseLesionState",
    "FrocState",
    "GradingState",
    "Interval",
    "JointState",
    "MaskState",
    "MeanState",
    "PerPhotoState",
    "ProbabilityState",
    "State",
    "VotesState",
    "bootstrap",
    "bootstrap_all",
    "by_visit",
    "ece_bias",
    "froc_by_area",
    "froc_candidates",
    "paired_test",
    "to_disc_diameters",
]
