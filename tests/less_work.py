"""What takes long and is not what most tests are about, done less; for processes that a test starts, too.

Each function sets attributes of the package by `put`: a test's monkeypatch, or `setattr` in a process of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

Put = Callable[[Any, str, Any], None]


def draw_less(put: Put = setattr) -> None:
    """Intervals rest on at most 20 draws of the bootstrap instead of 1000, which take ten times a tiny training."""
    intervals = import_module("funduscope.metrics.intervals")
    draws = intervals._draws
    put(intervals, "_draws", lambda count, repeats, seed: draws(count, min(repeats, 20), seed))


def draw_no_pictures(put: Put = setattr) -> None:
    """A training's pictures of samples, scores and curves are left out."""
    put(import_module("funduscope.training.train_network"), "draw_samples", lambda recipe, cases, files, path: None)
    put(import_module("funduscope.training.validation"), "draw_all", lambda scores, folder: [])
    put(import_module("funduscope.training.journal"), "draw_curves", lambda lines, path: None)


def draw_no_scores(put: Put = setattr) -> None:
    """The pictures that `funduscope evaluate` draws are left out."""
    put(import_module("funduscope.evaluation.plots"), "draw_all", lambda scores, folder: [])


def export_less(put: Put = setattr) -> None:
    """Few photos calibrate and check the INT8 file of a tiny network."""
    export = import_module("funduscope.export.run")
    put(export, "CALIBRATION_PHOTOS", 8)
    put(export, "CHECK_PHOTOS", 4)
