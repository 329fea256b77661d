"""Answers of a model kept on disk, so that a table of them can be made again in seconds."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from funduscope.imaging.framing import frame
from funduscope.imaging.photo import Photo
from funduscope.inference.findings import Findings
from funduscope.inference.predictor import Predictor

_STEPS = 65535
_FLOOR = 0.002
"""Lower probabilities are stored as 0: they are most of a map, and no threshold is near them."""


def stored(model: Predictor, name: str, read: Callable[[], Photo], folder: Path) -> Findings | None:
    """What the model finds in a photo, from the folder or computed; None if the photo is refused.

    name: of the photo and of what was done to it; read: opens it. Probabilities are rounded to 1/65535.
    """
    photo, card = read(), model.card
    file = folder / f"{hashlib.sha256(f'{model.sha256} {name}'.encode()).hexdigest()[:20]}.npz"
    if not file.is_file():
        found = model(photo)
        folder.mkdir(parents=True, exist_ok=True)
        maps = {
            code: np.rint(np.where(plane < _FLOOR, 0, plane) * _STEPS).astype(np.uint16)
            for code, plane in found.frame_probs.items()
        }
        points = {n: np.array(xy) for n, xy in (("disc", found.disc_xy), ("fovea", found.fovea_xy)) if xy is not None}
        classes = {f"p_{task}": probs for task, probs in found.class_probs.items()}
        np.savez_compressed(file, allow_pickle=False, ok=np.array(found.gradable_ok), **maps, **points, **classes)
    with np.load(file) as kept:
        if not kept["ok"]:
            return None
        points = {n: (float(kept[n][0]), float(kept[n][1])) if n in kept else None for n in ("disc", "fovea")}
        return Findings(
            photo,
            frame(photo, card.close_px).transform,
            card,
            model.sha256,
            class_probs={n.removeprefix("p_"): kept[n] for n in kept.files if n.startswith("p_")},
            disc_xy=points["disc"],
            fovea_xy=points["fovea"],
            frame_probs={code: (kept[code] / _STEPS).astype(np.float32) for code in card.outlined if code in kept},
        )
