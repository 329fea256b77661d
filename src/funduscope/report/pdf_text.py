"""Text in a PDF in every language: one font, shaped by HarfBuzz, that can be searched and copied.

Noto Sans Devanagari has Latin letters too. A shaped word in a PDF is a sequence of glyphs from which a reader cannot
recover the letters, so every paragraph has its text next to the glyphs (ActualText), for searching, copying and screen
readers.
"""

from __future__ import annotations

from functools import cache
from io import BytesIO
from typing import Final, cast
from xml.sax.saxutils import escape

import uharfbuzz  # noqa: F401 (without it ReportLab would draw Hindi unshaped and say nothing)
from reportlab.lib.colors import HexColor
from reportlab.lib.styles import ParagraphStyle
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.platypus import Paragraph

from funduscope.report.fonts import FILES, font_file
from funduscope.report.html_frame import printable

INK, DIM, LINE, ALERT = (HexColor(color) for color in ("#111111", "#555555", "#bbbbbb", "#8a4b00"))

_NO_BREAK_SPACE: Final = "\u00a0"
"""A space that does not end a line."""

_LONGEST: Final = 2_000
"""Most characters in one paragraph; the texts of findings are far shorter."""


class Text(Paragraph):
    """A paragraph of plain text: markup is not interpreted, and copying gives the text itself."""

    def __init__(self, text: str, style: ParagraphStyle) -> None:
        self.plain = printable(text[:_LONGEST])
        super().__init__(escape(_drawable(self.plain, style.fontName)), style)

    def draw(self) -> None:
        encoded = self.plain.encode("utf-16-be", "replace").hex().upper()
        self.canv.addLiteral(f"/Span <</ActualText <FEFF{encoded}>>> BDC")
        super().draw()
        self.canv.addLiteral("EMC")


@cache
def style(size: float, *, bold: bool = False, color: str = "ink", before: float = 0.0) -> ParagraphStyle:
    """A paragraph's style. size: in points; color: ink, dim or alert; before: space above it, in points."""
    _register()
    return ParagraphStyle(
        f"{size}{bold}{color}{before}",
        fontName="funduscope-bold" if bold else "funduscope-plain",
        fontSize=size,
        leading=size * 1.38,
        spaceBefore=before,
        textColor={"ink": INK, "dim": DIM, "alert": ALERT}[color],
        shaping=1,
        splitLongWords=1,
    )


def percent(share: float) -> str:
    """A share in whole percent, not broken over lines."""
    return f"{100 * share:.0f}{_NO_BREAK_SPACE}%"


@cache
def _register() -> None:
    for weight in FILES:
        pdfmetrics.registerFont(TTFont(f"funduscope-{weight}", BytesIO(font_file(weight))))


def _drawable(text: str, font: str) -> str:
    """Characters without a glyph in the font (a name in another script) become question marks."""
    known = cast(TTFont, pdfmetrics.getFont(font)).face.charToGlyph
    return "".join(char if ord(char) in known else "?" for char in text)
