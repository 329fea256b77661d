"""The photo with the findings drawn on it and a legend below: one picture that explains itself."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from funduscope.report.outline import Outline, Palette, Traced, color_of, trace_all
from funduscope.vocabulary import FURTHER_TASKS, LESIONS, structure

if TYPE_CHECKING:
    from funduscope.inference.findings import Findings

WIDTH_PX: Final = 2048
"""Largest width of an overlay, unless the photo's full size is wanted."""

_FILL_FRAC: Final = 0.30
_INK, _DIM, _PAPER, _ALARM = (240, 240, 240), (170, 170, 170), (16, 18, 22), (255, 176, 32)
_SUBPIXEL_BITS: Final = 4
_MARK_LINES: Final = {
    "optic_disc": (((-0.7, 0.7), (0.7, -0.7)), ((-0.7, -0.7), (0.7, 0.7))),
    "fovea": (((0.35, 0), (1.25, 0)), ((-0.35, 0), (-1.25, 0)), ((0, 0.35), (0, 1.25)), ((0, -0.35), (0, -1.25))),
}
"""Ends of the lines of each mark, x and y in radii: a diagonal cross inside a circle, and a plus with an open center,
which leaves the fovea itself visible."""


@dataclass(frozen=True)
class Pen:
    """Thickness and size of what is drawn, chosen so that it stays visible in a thumbnail 400 px wide."""

    line_px: int
    smallest_px: float
    mark_px: float
    text_px: int

    @property
    def edge_px(self) -> float:
        """Width of the empty edge around the legend."""
        return self.text_px * 0.7

    @classmethod
    def for_width(cls, width_px: int) -> Pen:
        return cls(
            line_px=max(1, round(width_px / 850)),
            smallest_px=max(5.0, width_px / 140),
            mark_px=max(7.0, width_px / 64),
            text_px=max(13, round(width_px * 0.023)),
        )


def overlay(
    findings: Findings,
    *,
    palette: Palette = "standard",
    width_px: int | None = WIDTH_PX,
    traced: Traced | None = None,
) -> np.ndarray:
    """The photo with lesions, disc and fovea outlined and a legend below: (h, w, 3) uint8 RGB.

    `width_px`: the largest width; None keeps the photo's own. The photo is at the top left, scaled evenly; the legend
    is below it. `traced`: the findings' outlines if they are computed already. Raises `ValueError` for an unknown
    palette.
    """
    traced = traced or trace_all(findings)
    canvas = marked(findings, palette=palette, width_px=width_px, traced=traced)
    rows = _legend(traced.found, traced.outlines, palette) if findings.gradable_ok else _refusal(traced.found)
    width = canvas.shape[1]
    pen = Pen.for_width(width)
    return np.concatenate([canvas, band(_broken(rows, width - 2 * pen.edge_px, pen), width, pen)])


def marked(
    findings: Findings, *, palette: Palette, width_px: int | None = WIDTH_PX, traced: Traced | None = None
) -> np.ndarray:
    """The photo of `overlay` without its legend: (h, w, 3) uint8 RGB."""
    traced = traced or trace_all(findings)
    photo = findings.photo.pixels
    canvas = shrunk(photo, width_px or photo.shape[1])
    height, width = canvas.shape[:2]
    pen = Pen.for_width(width)
    if findings.gradable_ok:
        scale = width / photo.shape[1]
        _draw_outlines(canvas, traced.outlines, scale, pen, palette)
        _draw_landmarks(canvas, traced.found.get("landmarks") or {}, scale, pen)
    else:
        cv2.rectangle(canvas, (0, 0), (width - 1, height - 1), _ALARM, 4 * pen.line_px)
    return canvas


def shrunk(pixels: np.ndarray, width_px: int) -> np.ndarray:
    """A copy of a picture (H, W, 3) uint8, evenly scaled down to `width_px` if it is wider."""
    height, width = pixels.shape[:2]
    size = min(width, width_px), max(1, round(height * min(width, width_px) / width))
    return cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)


# ---- the photo ----


def _draw_outlines(
    canvas: np.ndarray, outlines: Mapping[str, Outline], scale: float, pen: Pen, palette: Palette
) -> None:
    order = list(outlines)[::-1]  # the smallest kinds of lesion come last, on top
    rings = {code: [_subpixel(ring, scale) for ring in outlines[code].rings] for code in order}
    fill = canvas.copy()
    for code in order:
        if structure(code).is_lesion and rings[code]:
            cv2.fillPoly(fill, rings[code], color_of(code, palette), cv2.LINE_8, _SUBPIXEL_BITS)
    cv2.addWeighted(fill, _FILL_FRAC, canvas, 1 - _FILL_FRAC, 0, dst=canvas)
    for code in order:
        is_small = outlines[code].sizes_px * scale < pen.smallest_px
        large = [ring for ring, small in zip(rings[code], is_small, strict=True) if not small]
        small = [ring for ring, ringed in zip(rings[code], is_small & outlines[code].is_outer, strict=True) if ringed]
        # A dark line under the bright one: red on a red retina, yellow on a yellow disc stay visible.
        for color, extra_px in ((_PAPER, 2), (color_of(code, palette), 0)):
            thick = pen.line_px + extra_px
            cv2.polylines(canvas, large, True, color, thick, cv2.LINE_AA, _SUBPIXEL_BITS)
            for ring in small:
                _circle_around(canvas, ring, color, thick, pen)


def _circle_around(canvas: np.ndarray, ring: np.ndarray, color: tuple[int, int, int], thick: int, pen: Pen) -> None:
    """Draws a circle, visible in a thumbnail, around a ring that is too small for a line along its edge."""
    points = ring.reshape(-1, 2)
    center = (points.min(axis=0) + points.max(axis=0)) // 2
    radius = round(pen.smallest_px * 0.65 * (1 << _SUBPIXEL_BITS))
    cv2.circle(canvas, (int(center[0]), int(center[1])), radius, color, thick, cv2.LINE_AA, _SUBPIXEL_BITS)


def _draw_landmarks(canvas: np.ndarray, landmarks: Mapping[str, Any], scale: float, pen: Pen) -> None:
    radius = pen.mark_px
    for name, lines in _MARK_LINES.items():
        point = landmarks.get(name)
        if point is None:
            continue
        for color, thick in ((_PAPER, pen.line_px + 2), (_INK, pen.line_px)):
            x, y = point["x_px"] * scale - 0.5, point["y_px"] * scale - 0.5
            if name == "optic_disc":
                cv2.circle(canvas, (round(x), round(y)), round(radius), color, thick, cv2.LINE_AA)
            for start, end in lines:
                first, last = ((round(x + radius * across), round(y + radius * down)) for across, down in (start, end))
                cv2.line(canvas, first, last, color, thick, cv2.LINE_AA)


def _subpixel(ring: np.ndarray, scale: float) -> np.ndarray:
    return np.rint(((ring + 0.5) * scale - 0.5) * (1 << _SUBPIXEL_BITS)).astype(np.int32)


# ---- the legend below ----


@dataclass(frozen=True)
class Word:
    """A piece of the legend: text, and the mark before it (of a structure's code, a landmark's name, or none)."""

    text: str
    mark: str = ""
    ink: tuple[int, int, int] = _INK
    swatch: tuple[int, int, int] = _INK
    size: float = 1.0


RESEARCH_ONLY: Final = Word("Research only, not a medical device", ink=_DIM)


def _legend(found: Mapping[str, Any], outlines: Mapping[str, Outline], palette: Palette) -> list[list[Word]]:
    trust = found["headline"]["trust"]
    rows = [[Word(trust["says"], ink=_ALARM, size=1.25)]] if trust else []
    rows += [_verdict(found), []]
    lesions, landmarks = found.get("lesions") or {}, found.get("landmarks") or {}
    for code in outlines:
        text = structure(code).name
        if code in LESIONS:
            text = f"{text} {(lesions.get(code) or {}).get('count', 0)}"
        rows[-1].append(Word(text, code, swatch=color_of(code, palette)))
    rows[-1] += [
        Word(text, name) for name, text in (("optic_disc", "Disc center"), ("fovea", "Fovea")) if landmarks.get(name)
    ]
    rows[-1].append(RESEARCH_ONLY)
    return rows


def _verdict(found: Mapping[str, Any]) -> list[Word]:
    headline = found["headline"]
    words = [Word(headline[part]["says"], size=1.25) for part in ("grade", "dme") if headline[part]]
    answers = found.get("tasks") or {}
    words += [
        Word(f"{t.title}: {answers[t.name]['class_name']}", size=1.25) for t in FURTHER_TASKS if t.name in answers
    ]
    if headline["referral"]:
        words.append(Word(headline["referral"]["says"], size=1.25))
    return words


def _refusal(found: Mapping[str, Any]) -> list[list[Word]]:
    trust = found["headline"]["trust"]["says"]
    rows = [[Word("NOT GRADABLE", ink=_ALARM, size=2.0), Word("No grade was given.", size=1.25)]]
    rows.append([Word(part, size=1.25) for part in trust.split()])
    rows += [[Word(part, size=1.1) for part in reason["says"].split()] for reason in found["gradable"]["reasons"]]
    rows.append([RESEARCH_ONLY])
    return rows


def _broken(rows: Iterable[list[Word]], width: float, pen: Pen) -> Iterator[list[Word]]:
    """The rows; text that is wider than a line gets a row of its own, word by word, so that it can be wrapped."""
    for row in rows:
        fitting: list[Word] = []
        for word in row:
            if word.mark or _length(word, pen) <= width:
                fitting.append(word)
                continue
            yield fitting
            yield [replace(word, text=part) for part in word.text.split()]
            fitting = []
        yield fitting


def band(rows: Iterable[list[Word]], width: int, pen: Pen) -> np.ndarray:
    """The rows of words, wrapped to the width, on a dark band: (h, width, 3) uint8."""
    edge = pen.edge_px
    lines = [line for row in rows for line in _wrap(row, width - 2 * edge, pen)]
    heights = [1.45 * pen.text_px * max(word.size for _, word in line) for line in lines]
    picture = Image.new("RGB", (width, round(sum(heights) + 1.3 * edge)), _PAPER)
    draw, y = ImageDraw.Draw(picture), edge
    for line, height in zip(lines, heights, strict=True):
        for x, word in line:
            _write_word(draw, edge + x, y + 0.7 * height, word, pen)
        y += height
    return np.asarray(picture)


def _wrap(row: list[Word], width: float, pen: Pen) -> list[list[tuple[float, Word]]]:
    """The lines of a row: its words, each with the x where it starts."""
    # Sentences are given as single words, which are one space apart.
    gap = pen.text_px * (0.9 if any(word.mark or " " in word.text for word in row) else 0.3)
    lines: list[list[tuple[float, Word]]] = []
    x = width + 1
    for word in row:
        length = _length(word, pen)
        if x + length > width:
            lines.append([])
            x = 0.0
        lines[-1].append((x, word))
        x += length + gap
    return lines


def _length(word: Word, pen: Pen) -> float:
    font = ImageFont.load_default(size=round(pen.text_px * word.size))
    return font.getlength(word.text) + (pen.text_px * 1.25 if word.mark else 0)


def _write_word(draw: ImageDraw.ImageDraw, x: float, baseline: float, word: Word, pen: Pen) -> None:
    if word.mark:
        side = pen.text_px * 0.8
        _draw_swatch(draw, x, baseline - side * 0.9, side, word)
        x += pen.text_px * 1.25
    font = ImageFont.load_default(size=round(pen.text_px * word.size))
    draw.text((x, baseline), word.text, fill=word.ink, font=font, anchor="ls")


def _draw_swatch(draw: ImageDraw.ImageDraw, x: float, y: float, side: float, word: Word) -> None:
    line = max(2, round(side / 10))
    if word.mark == "optic_disc":
        draw.ellipse((x, y, x + side, y + side), outline=word.swatch, width=line)
        inner = side * 0.2
        draw.line((x + inner, y + inner, x + side - inner, y + side - inner), fill=word.swatch, width=line)
        draw.line((x + inner, y + side - inner, x + side - inner, y + inner), fill=word.swatch, width=line)
    elif word.mark == "fovea":
        middle, arm = side / 2, side * 0.32
        for start, end in ((0, arm), (side - arm, side)):
            draw.line((x + start, y + middle, x + end, y + middle), fill=word.swatch, width=line)
            draw.line((x + middle, y + start, x + middle, y + end), fill=word.swatch, width=line)
    else:
        is_lesion = structure(word.mark).is_lesion
        draw.rounded_rectangle(
            (x, y, x + side, y + side), side / 5, word.swatch if is_lesion else None, word.swatch, line
        )
