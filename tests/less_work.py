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
    """Pictures of samples, scores and curves are left out."""
    put(import_module("funduscope.training.train_network"), "draw_samples", lambda recipe, cases, files, path: None)
    for module in ("training.validation", "evaluation.plots"):  # `evaluate` takes it from where it is
        put(import_module(f"funduscope.{module}"), "draw_all", lambda scores, folder: [])
    put(import_module("funduscope.training.journal"), "draw_curves", lambda lines, path: None)


def export_less(put: Put = setattr) -> None:
    """Few photos calibrate and check the INT8 file of a tiny network."""
    export = import_module("funduscope.export.run")
    put(export, "CALIBRATION_PHOTOS", 8)
    put(export, "CHECK_PHOTOS", 4)
