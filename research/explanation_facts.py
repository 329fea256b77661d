"""What two benchmarks of explanations share: means with intervals, and the file that travels with the package."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from funduscope.explain.map_reliability import FILE
from funduscope.metrics.intervals import Interval, bootstrap, by_visit
from funduscope.metrics.per_photo import PerPhotoState

MODELS = Path(__file__).resolve().parents[1] / "src" / "funduscope" / "models"


def mean_of(values: Iterable[tuple[str, float]]) -> Interval:
    """Mean over photos, interval over visits."""
    states = by_visit((visit, PerPhotoState.of(value)) for visit, value in values)
    return bootstrap(states, lambda state: state.mean)


def said(interval: Interval | None) -> str:
    if interval is None:
        return ""
    return f"{interval.value:.2f} ({interval.low:.2f} to {interval.high:.2f})"


def mean(values: list[float]) -> float:
    return round(float(np.mean(values)), 4)


def triple(interval: Interval) -> list[float | None]:
    return [None if np.isnan(value) else round(value, 4) for value in (interval.value, interval.low, interval.high)]


def keep(sha256: str, name: str, part: str, content: dict[str, Any], command: str) -> None:
    """Enters what was measured of a model into the package's file."""
    path = MODELS / FILE
    tree = json.loads(path.read_text("utf-8")) if path.is_file() else {"models": {}}
    model = tree["models"].setdefault(sha256, {"name": name, "commands": {}})
    model[part] = content
    model["commands"][part] = command
    path.write_text(json.dumps(tree, indent=1) + "\n", "utf-8")
