"""The tables of a PDF page: probabilities as bars, model against lesions, lesion kinds, the model's scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from reportlab.lib.colors import HexColor
from reportlab.lib.units import mm
from reportlab.platypus import Flowable, Table

from funduscope.i18n.languages import Words
from funduscope.inference.model_scores import UNKNOWN, figures_note, figures_table
from funduscope.report.outline import Palette, color_of
from funduscope.report.pdf import ACROSS
from funduscope.report.pdf_text import LINE, Text, percent, style

_PLAIN: Final = (
    ("VALIGN", (0, 0), (-1, -1), "MIDDLE"),
    ("TOPPADDING", (0, 0), (-1, -1), 0.5),
    ("BOTTOMPADDING", (0, 0), (-1, -1), 1.5),
    ("LEFTPADDING", (0, 0), (-1, -1), 0),
    ("RIGHTPADDING", (0, 0), (-1, -1), 6),
    ("LINEBELOW", (0, 0), (-1, 0), 0.5, LINE),
)


class Bars(Flowable):
    """One line of probabilities: a name, a bar, and the share in percent; the chosen one in bold."""

    def __init__(self, name: str, chance: float, *, chosen: bool, size: float) -> None:
        super().__init__()
        self.chance, self.chosen, self.size = min(1.0, max(0.0, chance)), chosen, size
        self.name = Text(name, style(size, bold=chosen))
        self.share = Text(percent(chance), style(size, bold=chosen))

    def wrap(self, aW: float, aH: float) -> tuple[float, float]:
        self.across = aW
        height = self.name.wrap(aW * 0.5, aH)[1]
        self.share.wrap(aW * 0.18, aH)
        self.height = height
        return aW, height

    def draw(self) -> None:
        self.name.drawOn(self.canv, 0, 0)
        self.share.drawOn(self.canv, self.across * 0.84, self.height - self.share.height)
        left, width, high = self.across * 0.5, self.across * 0.3, self.size * 0.55
        for share, color in ((1.0, "#e3e3e3"), (self.chance, "#1f5fbf" if self.chosen else "#8c8c8c")):
            self.canv.setFillColor(HexColor(color))
            self.canv.rect(left, self.height - self.size * 1.05, width * share, high, stroke=0, fill=1)


def lesions(found: Mapping[str, Any], palette: Palette, words: Words, size: float) -> list[Flowable]:
    """A line per kind of lesion: count, area, distance to the fovea, with a swatch in the color of its outlines.

    found: `lesions` of findings.json.
    """
    title = headed(words("lesions.title"), size)
    if not found:
        return [title, Text(words("paper.no_lesion_sought"), style(size))]
    heads = [words(f"lesions.{name}") for name in ("kind", "count", "area")]
    heads += [words("paper.area_dd2"), words("lesions.fovea"), words("paper.threshold")]
    rows: list[list[str | Flowable]] = [["", *heads]]
    for code, one in found.items():
        area, away = one["area_dd2"], one["nearest_fovea_dd"]
        rows.append(
            [
                Swatch("#{:02x}{:02x}{:02x}".format(*color_of(code, palette)), size),
                words.structure(code),
                str(one["count"]),
                f"{one['area_px']:,}".replace(",", " "),
                UNKNOWN if area is None else words.number(area, ".3f"),
                UNKNOWN if away is None else words.number(away, ".2f"),
                UNKNOWN if one["threshold"] is None else words.number(one["threshold"], ".2f"),
            ]
        )
    widths = [5 * mm, *((ACROSS - 5 * mm) * share for share in (0.28, 0.12, 0.14, 0.15, 0.16, 0.15))]
    return [title, table(rows, widths, size), Text(words("paper.dd"), style(size - 1, color="dim"))]


def headed(text: str, size: float) -> Text:
    """The title of a part, with space above it."""
    return Text(text, style(size + 1, bold=True, before=size * 0.6))


class Swatch(Flowable):
    """A small square in the color of an outline; its dark edge makes yellow visible on white paper."""

    def __init__(self, color: str, size: float) -> None:
        super().__init__()
        self.color, self.side = HexColor(color), size * 0.9

    def wrap(self, aW: float, aH: float) -> tuple[float, float]:
        return self.side, self.side

    def draw(self) -> None:
        self.canv.setFillColor(self.color)
        self.canv.setStrokeColor(HexColor("#444444"))
        self.canv.setLineWidth(0.4)
        self.canv.rect(0, 0, self.side, self.side, fill=1)


def figures(stated: Sequence[Mapping[str, Any]], words: Words, size: float) -> list[Flowable]:
    """The model's scores with intervals as its card states them; a sentence if it states none."""
    title, rows = headed(words("paper.figures"), size), figures_table(stated, words)
    if not rows:
        return [title, Text(words("paper.figures_none"), style(size))]
    sets = len(rows[0]) - 1
    widths = [ACROSS * 0.34, *[ACROSS * 0.66 / sets] * sets]
    return [title, table(rows, widths, size), Text(figures_note(stated, words), style(size - 1, color="dim"))]


def table(rows: Sequence[Sequence[str | Flowable]], widths: Sequence[float], size: float) -> Flowable:
    """A table of texts and drawings; the first row is the header."""
    heads, others = style(size, color="dim"), style(size)
    cells = [
        [Text(cell, others if number else heads) if isinstance(cell, str) else cell for cell in row]
        for number, row in enumerate(rows)
    ]
    return Table(cells, list(widths), hAlign="LEFT", style=list(_PLAIN))
