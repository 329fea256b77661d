"""Draws every augmentation on the demo photo: a contact sheet, as `docs/augmentations.png` is one.

    python -m research.augmentations docs/augmentations.png

A panel shows one augmentation alone, at the strength that a recipe gives it: of eight draws the one that changes most.
Outlines of what the shipped model found, its points and a net of lines went through the same map as the pixels, so run
it when a new model ships. Needs the extra `train`, for matplotlib.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import cv2
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from PIL import Image

import funduscope
from funduscope.imaging.framing import frame
from funduscope.recipe import Recipe
from funduscope.settings import Augment
from funduscope.training.augment import Warp, draw_warp, plain_warp, recolor
from funduscope.vocabulary import CODES, STRUCTURES, Structure

DEMO: Final = Path(funduscope.__file__).parent / "demo" / "hrf_07_dr.jpg"
CREDIT: Final = """Strengths of the recipe attention_moe where no other is named
Photo: image 07_dr of the HRF database, Budai et al. 2013, doi 10.1155/2013/154860, CC BY 4.0, changed"""
FRAME_PX, PANEL_PX = 1024, 352
CLOSE_PX, CLOSE_XY = 96, (640.0, 480.0)
PANEL_IN, GAP_IN, EDGE_IN, TITLE_IN, HEADING_IN, LEGEND_IN = 2.05, 0.1, 0.15, 0.26, 0.34, 0.34
S1, S4 = "attention_moe", "unet34"
SHARES: Final = (
    *("mirror", "flip", "transpose", "quarter_turns", "warp", "elastic", "grid"),
    *("tone", "blur", "noise", "sensor_noise", "multiplicative_noise", "jpeg"),
)
TONES: Final = ("brightness", "contrast", "gamma", "color", "saturation")
INK, DIM = "#1c1e22", "#6a6f78"


@dataclass(frozen=True)
class Panel:
    """One picture: its title, the shares that are 1 (none: as it is), the tones that keep their bounds, the recipe."""

    title: str
    on: tuple[str, ...] = ()
    tones: tuple[str, ...] = ()
    recipe: str = S1


@dataclass(frozen=True)
class Row:
    """Panels side by side: whole eyes with all that goes through the map, whole eyes alone, or a part close by."""

    heading: str
    kind: Literal["marked", "bare", "close"]
    panels: tuple[Panel, ...]


ROWS: Final = (
    Row(
        "Geometry: pixels, outlines, points and the net go through one map; what is hatched is unknown",
        "marked",
        (
            Panel("as it is"),
            Panel("mirror", ("mirror",)),
            Panel("flip", ("flip",)),
            Panel("transpose", ("transpose",)),
            Panel("quarter_turns", ("quarter_turns",)),
            Panel("warp (unet34)", ("warp",), recipe=S4),
        ),
    ),
    Row(
        "",
        "marked",
        (
            Panel("warp", ("warp",)),
            Panel("elastic", ("elastic",)),
            Panel("grid", ("grid",)),
            Panel("elastic and grid", ("elastic", "grid")),
            Panel("all of them", SHARES[:7]),
            Panel("all, and color", SHARES, TONES),
        ),
    ),
    Row(
        "Tone: what light and eye change; black stays black",
        "bare",
        (
            Panel("brightness (unet34)", ("tone",), ("brightness",), S4),
            Panel("contrast (unet34)", ("tone",), ("contrast",), S4),
            Panel("gamma", ("tone",), ("gamma",)),
            Panel("color", ("tone",), ("color",)),
            Panel("saturation", ("tone",), ("saturation",)),
            Panel("tone: all of it", ("tone",), TONES),
        ),
    ),
    Row(
        "Camera: a part of the frame, 96 px wide",
        "close",
        (
            Panel("as it is"),
            Panel("blur", ("blur",)),
            Panel("noise", ("noise",)),
            Panel("sensor_noise", ("sensor_noise",)),
            Panel("multiplicative_noise", ("multiplicative_noise",)),
            Panel("jpeg", ("jpeg",)),
        ),
    ),
)


@dataclass(frozen=True, eq=False)
class Seen:
    """The framed photo, what the model found in it (coverage 0-255 by code), disc center and fovea: (2, 2)."""

    image: np.ndarray
    coverage: dict[str, np.ndarray]
    points: np.ndarray


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("sheet", type=Path, help="the file that is written, .png")
    given = parser.parse_args()
    seen = look()
    heights = [TITLE_IN + PANEL_IN + (HEADING_IN if row.heading else 0) for row in ROWS]
    width, height = 2 * EDGE_IN + 6 * PANEL_IN + 5 * GAP_IN, sum(heights) + 2 * EDGE_IN + LEGEND_IN
    figure, below = Figure(figsize=(width, height), facecolor="white"), height - EDGE_IN
    for number, row in enumerate(ROWS):
        if row.heading:
            figure.text(EDGE_IN / width, (below - 0.29) / height, row.heading, fontsize=12, color=INK, weight="bold")
        below -= heights[number]
        for column, panel in enumerate(row.panels):
            left = EDGE_IN + column * (PANEL_IN + GAP_IN)
            axes = figure.add_axes((left / width, below / height, PANEL_IN / width, PANEL_IN / height))
            show(axes, seen, panel, row.kind, seed=100 * number + column)
            axes.set_title(panel.title, fontsize=9.5, color=INK, pad=4, loc="left", family="monospace")
    finish(figure, seen, given.sheet)
    return 0


def look() -> Seen:
    """The demo photo as a network is shown it, with the shipped model's findings as masks and points."""
    findings = funduscope.load()(DEMO)
    framed = frame(findings.photo, FRAME_PX)
    coverage = {
        code: np.rint(framed.transform.map_to_frame(findings.mask(code)) * 255).astype(np.uint8) for code in CODES
    }
    places = findings.to_dict()["landmarks"]
    points = [[places[name]["x_px"], places[name]["y_px"]] for name in ("optic_disc", "fovea")]
    return Seen(framed.image, coverage, framed.transform.to_frame(np.array(points)))


def only(panel: Panel) -> Augment:
    """The recipe's bounds with the panel's augmentations alone happening, each for certain."""
    changes = {name: float(name in panel.on) for name in SHARES}
    changes |= {name: 0.0 for name in TONES if name not in panel.tones}
    return Recipe.load(panel.recipe).augment.model_copy(update=changes)


def show(axes: Axes, seen: Seen, panel: Panel, kind: str, seed: int) -> None:
    """The strongest of eight draws, by what it changes in the picture."""
    bounds, close = only(panel), kind == "close"
    plain = plain_warp((FRAME_PX / 2, FRAME_PX / 2), PANEL_PX / FRAME_PX, PANEL_PX)
    if close:
        plain = plain_warp(CLOSE_XY, 1.0, CLOSE_PX)
    before, best, most = shown(seen, plain), (plain, shown(seen, plain)), -1.0
    for trial in range(8):
        rng = np.random.default_rng([seed, trial])
        warp = draw_warp(plain, bounds, rng, random_quarter_turns=False)
        image = recolor(shown(seen, warp), bounds, rng)
        change = float(np.abs(image.astype(float) - before).mean())
        if change > most:
            best, most = (warp, image), change
    warp, image = best
    axes.imshow(image, extent=(0, warp.size_px, warp.size_px, 0), interpolation="nearest" if close else "antialiased")
    if kind == "marked":
        annotate(axes, seen, warp)
    axes.set(xlim=(0, warp.size_px), ylim=(warp.size_px, 0), xticks=[], yticks=[])
    axes.spines[:].set_visible(False)


def shown(seen: Seen, warp: Warp) -> np.ndarray:
    """The warped image, smoothed first as far as it is shrunk."""
    shrunk = np.sqrt(abs(np.linalg.det(warp.matrix[:, :2])))
    return warp.pixels(cv2.GaussianBlur(seen.image, (0, 0), 0.4 / shrunk) if shrunk < 0.9 else seen.image)


def annotate(axes: Axes, seen: Seen, warp: Warp) -> None:
    """The net, what is unknown, outlines and points, each by the warp's own way."""
    along = np.linspace(0, FRAME_PX, 200)
    for at in np.linspace(0, FRAME_PX, 9):
        for line in (np.stack([np.full_like(along, at), along], 1), np.stack([along, np.full_like(along, at)], 1)):
            axes.plot(*warp.points(line).T, color="white", alpha=0.22, linewidth=0.6)
    centers = np.arange(warp.size_px) + 0.5
    inside = warp.pixels(np.full((FRAME_PX, FRAME_PX), 255, np.uint8)) == 255
    if not inside.all():
        axes.contourf(centers, centers, ~inside, [0.5, 1.5], colors="#26292f", hatches=["////"])
    for item in STRUCTURES:
        if seen.coverage[item.code].any():
            soft = cv2.GaussianBlur(warp.pixels(seen.coverage[item.code]), (0, 0), 0.8)
            for ink, line in (("#26292f", 2.0), (rgb(item), 0.9)):  # a dark line below: red on red stays visible
                axes.contour(centers, centers, soft, [90], colors=[ink], linewidths=line)
    disc, fovea = warp.points(seen.points)
    axes.plot(*disc, "x", color="white", markersize=5, markeredgewidth=1.2)
    axes.plot(*fovea, "+", color="white", markersize=7, markeredgewidth=1.2)


def rgb(item: Structure) -> tuple[float, float, float]:
    """A structure's color as matplotlib wants it."""
    red, green, blue = item.color
    return red / 255, green / 255, blue / 255


def finish(figure: Figure, seen: Seen, path: Path) -> None:
    """Legend, credit, and a file small enough for a repository."""
    keys = [
        Line2D([], [], color=rgb(item), linewidth=2, label=item.name)
        for item in STRUCTURES
        if seen.coverage[item.code].any()
    ]
    for marker, name in (("x", "disc center"), ("+", "fovea")):
        keys.append(Line2D([], [], color=INK, marker=marker, linestyle="", label=name))
    place = {"loc": "lower left", "bbox_to_anchor": (0.006, 0.0)}
    figure.legend(handles=keys, ncols=7, fontsize=8, frameon=False, handlelength=1.2, columnspacing=1.2, **place)
    figure.text(0.9875, 0.009, CREDIT, fontsize=7, color=DIM, ha="right", linespacing=1.4)
    figure.set_dpi(96)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3]).save(path, optimize=True)
    print(f"{path}: {path.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    sys.exit(main())
