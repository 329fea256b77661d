"""Text on paper in every language that the tables speak: one typeface, shaped by HarfBuzz, and copied out as written.

Noto Sans Devanagari has Latin letters too. In a PDF a shaped word is a row
of glyphs, from which no reader finds the letters again; so every paragraph carries its text beside them (ActualText),
for searching, copying and screen readers.
"""

from __future__ import annotations

from functools import cache
from io import BytesIO
from typing import Final, cast
from xml.sax.saxutils import escape

import uharfbuzz  # noqa: F401 (ReportLab would draw Hindi unshaped without a word where this is missing)
from reportlab.lib.colors import HexColor
from reportlab.lib.styles import ParagraphStyle
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.platypus import Paragraph

from funduscope.report.fonts import font_file
from funduscope.report.html_frame import printable

PLAIN: Final = "funduscope-plain"
BOLD: Final = "funduscope-bold"
WEIGHTS: Final = {PLAIN: "plain", BOLD: "bold"}
INK, DIM, LINE, ALERT = (HexColor(color) for color in ("#111111", "#555555", "#bbbbbb", "#8a4b00"))

_FIRM: Final = "\u00a0"
"""A space at which no line ends."""

_LONGEST: Final = 2_000
"""Characters in one paragraph: nothing that findings say comes near it."""


class Said(Paragraph):
    """A paragraph of plain text: no markup is read in it, and what a reader copies out is the text itself."""

    def __init__(self, text: str, style: ParagraphStyle) -> None:
        self.said = printable(text[:_LONGEST])
        super().__init__(escape(_drawable(self.said, style.fontName)), style)

    def split(self, aW: float, aH: float) -> list[Paragraph]:
        """Never in two: half of it would carry the whole text."""
        return []

    def draw(self) -> None:
        said = self.said.encode("utf-16-be", "replace").hex().upper()
        self.canv.addLiteral(f"/Span <</ActualText <FEFF{said}>>> BDC")
        super().draw()
        self.canv.addLiteral("EMC")


@cache
def style(size: float, *, bold: bool = False, color: str = "ink", before: float = 0.0) -> ParagraphStyle:
    """A paragraph's look. size: in points; color: ink, dim or alert; before: room above it, in points."""
    _register()
    return ParagraphStyle(
        f"{size}{bold}{color}{before}",
        fontName=BOLD if bold else PLAIN,
        fontSize=size,
        leading=size * 1.38,
        spaceBefore=before,
        textColor={"ink": INK, "dim": DIM, "alert": ALERT}[color],
        shaping=1,
        splitLongWords=1,
    )


def percent(share: float) -> str:
    """A share as whole percent, which no line parts."""
    return f"{100 * share:.0f}{_FIRM}%"


@cache
def _register() -> None:
    for name, weight in WEIGHTS.items():
        pdfmetrics.registerFont(TTFont(name, BytesIO(font_file(weight))))


def _drawable(text: str, font: str) -> str:
    """What the typeface has no glyph for (a name in another script) is shown as a question mark."""
    known = cast(TTFont, pdfmetrics.getFont(font)).face.charToGlyph
    return "".join(char if ord(char) in known else "?" for char in text)
