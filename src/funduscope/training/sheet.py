"""What a training sees, as a picture: samples as the network gets them, with what is known of each drawn on."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from funduscope.data.case import Case
from funduscope.data.prepare import CHANNELS
from funduscope.recipe import Recipe
from funduscope.training.samples import Item, Sample, Samples, draw_epoch
from funduscope.vocabulary import CODES, EITHER_EXUDATE, STRUCTURES

_COLORS = {item.code: item.color for item in STRUCTURES} | {EITHER_EXUDATE: (255, 160, 60)}
_COLUMNS, _ROWS = 4, 3
_SIDE_PX = 320


def draw_samples(recipe: Recipe, cases: list[Case], files: dict[str, Path], path: Path) -> None:
    """The first samples of the first epoch that carry masks or points, then others, as one PNG.

    Outlines: structures in their colors; a cross: disc center and fovea; below: grade and risk, what is not known as a
    dash.
    """
    items = draw_epoch(cases, recipe, 0)
    if not items:
        return
    items = sorted(items, key=lambda item: not item.case.labels.masks)[: _COLUMNS * _ROWS // 2] + items
    chosen = list({item.seed: item for item in items}.values())[: _COLUMNS * _ROWS]
    samples = Samples(files, recipe)
    tiles = [_tile(samples[item], item) for item in chosen]
    tiles += [np.full_like(tiles[0], 255)] * (-len(tiles) % _COLUMNS)
    rows = [np.hstack(tiles[start : start + _COLUMNS]) for start in range(0, len(tiles), _COLUMNS)]
    cv2.imwrite(str(path), np.vstack(rows)[..., ::-1])


def _tile(sample: Sample, item: Item) -> np.ndarray:
    """(side, side + caption, 3) uint8 RGB of one sample."""
    image = cv2.resize(sample["image"].numpy(), (_SIDE_PX, _SIDE_PX), interpolation=cv2.INTER_AREA)
    scale = _SIDE_PX / sample["image"].shape[1]
    for index, code in enumerate(CHANNELS):
        mask = (sample["coverage"][index].numpy() >= 128).astype(np.uint8)
        if mask.any():
            lines = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0]
            scaled = [np.rint((line + 0.5) * scale).astype(np.int32) for line in lines]
            cv2.drawContours(image, scaled, -1, _COLORS[code], 1, cv2.LINE_AA)
    for (x, y), known in zip(sample["landmarks"].numpy() * scale, sample["landmarks_known"].numpy(), strict=True):
        if known:
            cv2.drawMarker(image, (round(float(x)), round(float(y))), (255, 255, 255), cv2.MARKER_CROSS, 14, 1)
    known = [code for code, seen in zip(CHANNELS, sample["known"].flatten(1).any(1).tolist(), strict=True) if seen]
    words = ["masks known: " + (" ".join(code for code in known if code in CODES) or "none")]
    grade, dme = (int(sample[name]) for name in ("grade", "dme"))
    words.insert(0, f"{item.view}  grade {grade if grade >= 0 else '-'}  DME {dme if dme >= 0 else '-'}")
    caption = np.full((44, _SIDE_PX, 3), 255, np.uint8)
    for line, text in enumerate(words):
        cv2.putText(caption, text, (6, 17 + 19 * line), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (30, 30, 30), 1, cv2.LINE_AA)
    return np.vstack([image, caption])
