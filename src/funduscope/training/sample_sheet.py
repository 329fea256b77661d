"""A picture of what a training sees: samples as the network gets them, with their known targets drawn on."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from torch import Tensor

from funduscope.data.case import Case
from funduscope.data.prepare import CHANNELS
from funduscope.recipe import Recipe
from funduscope.training.batch import Batch, Item, Samples
from funduscope.training.samples import draw_epoch
from funduscope.vocabulary import CODES, EITHER_EXUDATE, STRUCTURES

_COLORS = {item.code: item.color for item in STRUCTURES} | {EITHER_EXUDATE: (255, 160, 60)}
_INK, _PAPER, _UNKNOWN = (30, 30, 30), (255, 255, 255), (96, 96, 96)
_HALF = 128
_COLUMNS, _SAMPLES = 6, 12
_SIDE_PX, _CAPTION_PX = 320, 44


def draw_samples(recipe: Recipe, cases: list[Case], files: dict[str, Path], path: Path) -> None:
    """Writes the first samples of the first epoch as one PNG, those with masks first.

    Outlines: structures in their colors; crosses: disc center and fovea; below: grade and edema risk, a dash where
    unknown. Where masks are known, two tiles follow: the coverage of each structure, and its binary mask, the coverage
    from a half on. Black is known background, gray is unknown.
    """
    items = draw_epoch(cases, recipe, 0)
    if not items:
        return
    items = sorted(items, key=lambda item: not item.case.labels.masks)[: _SAMPLES // 2] + items
    chosen = list({item.seed: item for item in items}.values())[:_SAMPLES]
    samples = Samples(files, recipe)
    masked: list[np.ndarray] = []
    plain: list[np.ndarray] = []
    for item in chosen:
        sample = samples[item]
        if bool(sample.known.any()):
            tiles = [_tile(sample, item), *_truth(sample)]
            for tile in tiles:
                tile[:, -1] = _PAPER  # black would meet black
            masked.append(np.hstack(tiles))
        else:
            plain.append(_tile(sample, item))
    rows = _rows(masked) + _rows(plain)
    cv2.imwrite(str(path), np.vstack(rows)[..., ::-1])


def _rows(blocks: list[np.ndarray]) -> list[np.ndarray]:
    """The blocks, all of one width, in rows of `_COLUMNS` tiles."""
    if not blocks:
        return []
    many = _COLUMNS * _SIDE_PX // blocks[0].shape[1]
    blocks = blocks + [np.full_like(blocks[0], 255)] * (-len(blocks) % many)
    for block in blocks:
        block[:, -4:] = _PAPER
    return [np.hstack(blocks[start : start + many]) for start in range(0, len(blocks), many)]


def _tile(sample: Batch, item: Item) -> np.ndarray:
    """(side + caption, side, 3) uint8 RGB of one sample."""
    image = cv2.resize(sample.image.numpy(), (_SIDE_PX, _SIDE_PX), interpolation=cv2.INTER_AREA)
    scale = _SIDE_PX / sample.image.shape[1]
    for index, code in enumerate(CHANNELS):
        mask = (sample.coverage[index].numpy() >= _HALF).astype(np.uint8)
        if mask.any():
            lines = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0]
            scaled = [np.rint((line + 0.5) * scale).astype(np.int32) for line in lines]
            cv2.drawContours(image, scaled, -1, _COLORS[code], 1, cv2.LINE_AA)
    for (x, y), known in zip(sample.landmarks.numpy() * scale, sample.landmarks_known.numpy(), strict=True):
        if known:
            cv2.drawMarker(image, (round(float(x)), round(float(y))), (255, 255, 255), cv2.MARKER_CROSS, 14, 1)
    known = [code for code, seen in zip(CHANNELS, sample.known.flatten(1).any(1).tolist(), strict=True) if seen]
    words = ["masks known: " + (" ".join(code for code in known if code in CODES) or "none")]
    grade, dme = (_label(sample.allowed[task]) for task in ("grade", "dme"))
    words.insert(0, f"{item.view}  grade {grade}  DME {dme}")
    return np.vstack([image, _caption(words)])


def _label(allowed: Tensor) -> str:
    """A photo's label, or a dash where it has none."""
    return str(int(allowed.int().argmax())) if int(allowed.sum()) == 1 else "-"


def _truth(sample: Batch) -> tuple[np.ndarray, np.ndarray]:
    """The tiles of a sample's coverage and of its binary masks."""
    coverage, known = sample.coverage.numpy(), sample.known.any(dim=0).numpy()
    soft = [_small(plane / 255) for plane in coverage]
    # A pixel with any part of a mask shows it: otherwise a microaneurysm would be lost.
    hard = [(_small(plane >= _HALF) > 0).astype(np.float32) for plane in coverage]
    there = [code for code, plane in zip(CHANNELS, coverage, strict=True) if plane.any()]
    captions = (
        _caption(["coverage, as it is learned", "" if there else "nothing there"]),
        _caption(["binary mask", "" if known.all() else "gray: not known"]),
    )
    left = 6
    for code in there:
        cv2.rectangle(captions[0], (left, 27), (left + 9, 36), _COLORS[code], -1)
        cv2.rectangle(captions[0], (left, 27), (left + 9, 36), _INK, 1)
        left = _write(captions[0], code, left + 14, 36) + 14
    shown = _small(known) > 0
    return np.vstack([_painted(soft, shown), captions[0]]), np.vstack([_painted(hard, shown), captions[1]])


def _small(plane: np.ndarray) -> np.ndarray:
    """(S, S) as a tile's (side, side) float32."""
    mode = cv2.INTER_AREA if len(plane) > _SIDE_PX else cv2.INTER_NEAREST
    return cv2.resize(plane.astype(np.float32), (_SIDE_PX, _SIDE_PX), interpolation=mode)


def _painted(shares: list[np.ndarray], known: np.ndarray) -> np.ndarray:
    """Structures in their colors, (side, side, 3) uint8, the smallest on top. shares: in 0..1, one per channel."""
    canvas = np.where(known[..., None], np.float32(0), np.array(_UNKNOWN, np.float32))
    for code, share in reversed(list(zip(CHANNELS, shares, strict=True))):
        canvas += share[..., None] * (np.array(_COLORS[code], np.float32) - canvas)
    return np.rint(canvas).astype(np.uint8)


def _caption(words: list[str]) -> np.ndarray:
    """A tile's lines of text on white."""
    caption = np.full((_CAPTION_PX, _SIDE_PX, 3), _PAPER, np.uint8)
    for line, text in enumerate(words):
        _write(caption, text, 6, 17 + 19 * line)
    return caption


def _write(caption: np.ndarray, text: str, left: int, bottom: int) -> int:
    """Writes into the caption. Returns the x at which the text ends."""
    cv2.putText(caption, text, (left, bottom), cv2.FONT_HERSHEY_SIMPLEX, 0.45, _INK, 1, cv2.LINE_AA)
    return left + cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 0.45, 1)[0][0]
