"""Findings as a picture in a notebook, or on axes of matplotlib."""

from __future__ import annotations

from typing import TYPE_CHECKING

from funduscope.report.outline import Palette
from funduscope.report.overlay import overlay

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from funduscope.inference.findings import Findings

WIDTH_PX, WIDTH_IN = 1200, 8.0


def show(findings: Findings, ax: Axes | None = None, *, palette: Palette = "standard") -> Axes:
    """Draws the photo with what was found outlined and a legend below, as overlay.png has it; returns the axes.

    ax: axes to draw on; without it a new figure of pyplot, which a notebook shows. palette: "safe" is for color-blind
    eyes. Raises `ModuleNotFoundError` if matplotlib is not installed.
    """
    try:
        from matplotlib import pyplot as plt
    except ModuleNotFoundError as error:
        text = "funduscope.show needs matplotlib: pip install matplotlib. funduscope.save writes the same picture."
        raise ModuleNotFoundError(text, name=error.name) from error
    picture = overlay(findings, palette=palette, width_px=WIDTH_PX)
    if ax is None:
        height, width = picture.shape[:2]
        figure = plt.figure(figsize=(WIDTH_IN, WIDTH_IN * height / width))
        ax = figure.add_axes((0, 0, 1, 1))
    ax.imshow(picture)
    ax.set_axis_off()
    return ax
