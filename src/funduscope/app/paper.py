"""The session on paper: a PDF with one page a photo, for the file of a patient or for a second look.

ReportLab's own fonts have Latin letters alone: where the page speaks Hindi, the PDF is in English.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any, Final
from xml.sax.saxutils import escape

from reportlab.lib.colors import HexColor
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.lib.utils import ImageReader
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import Paragraph, Table, TableStyle
from reportlab.platypus.flowables import Flowable

from funduscope.app.many import Row
from funduscope.app.shelf import Shelf
from funduscope.languages import Words
from funduscope.predict.outline import Palette, color_of
from funduscope.vocabulary import GRADES, LESIONS

WIDTH, HEIGHT = A4
EDGE: Final = 15 * mm
ACROSS: Final = WIDTH - 2 * EDGE
PICTURE_HEIGHT: Final = 95 * mm
LATIN: Final = frozenset({"en", "de", "es"})

_TEXT: Final = ParagraphStyle("text", fontName="Helvetica", fontSize=9, leading=12)
_SMALL: Final = ParagraphStyle("small", parent=_TEXT, fontSize=7.5, leading=9.5, textColor=HexColor("#444444"))
_HEAD: Final = ParagraphStyle("head", parent=_TEXT, fontName="Helvetica-Bold", fontSize=13, leading=16)
_WORD: Final = ParagraphStyle("word", parent=_TEXT, fontName="Helvetica-Bold", fontSize=10, leading=13, spaceBefore=4)


def as_pdf(shelf: Shelf, told: Sequence[Row], words: Words) -> bytes:
    """The file's bytes. told: the rows in the order of the pages."""
    spoken = words if words.language in LATIN else Words("en")
    file = io.BytesIO()
    canvas = Canvas(file, pagesize=A4, pageCompression=1)
    canvas.setTitle("funduscope")
    for number, row in enumerate(told, start=1):
        entry = shelf.entries[row.key]
        y = _picture(canvas, entry.picture, row.name)
        for flowable in _page(row, spoken, entry.palette):
            y = _placed(canvas, flowable, y)
        footer = f"{spoken('not_a_device')} {spoken('paper.page', {'number': number, 'count': len(told)})}"
        _placed(canvas, Paragraph(_latin(footer), _SMALL), EDGE + 16 * mm)
        canvas.showPage()
    canvas.save()
    return file.getvalue()


def _picture(canvas: Canvas, jpeg: bytes, name: str) -> float:
    """The photo's name and picture; how high what follows may begin."""
    y = _placed(canvas, Paragraph(_latin(name), _HEAD), HEIGHT - EDGE)
    image = ImageReader(io.BytesIO(jpeg))
    width, height = image.getSize()
    scale = min(ACROSS / width, PICTURE_HEIGHT / height)
    canvas.drawImage(image, EDGE, y - height * scale - 4, width * scale, height * scale)
    return y - height * scale - 10


def _placed(canvas: Canvas, flowable: Flowable, y: float) -> float:
    """Draws it at that height, where there is room left on the page; how high the next begins."""
    _, height = flowable.wrapOn(canvas, ACROSS, y)
    if y - height < EDGE:
        return y
    flowable.drawOn(canvas, EDGE, y - height)
    return y - height - flowable.getSpaceAfter() - 3


def _page(row: Row, words: Words, palette: Palette) -> list[Flowable]:
    found = row.found
    if not row.gradable:
        says = [words.note(note) for note in found["gradable"]["reasons"]]
        return [
            _word(words("gradable.no")),
            *map(_line, says),
            _line(words("gradable.nothing_said")),
            _model(row, words),
        ]
    parts: list[Flowable] = []
    if found["predicted_grade"] is not None:
        grade = found["predicted_grade"]
        parts.append(_word(words("grade.answer", {"grade": grade, "name": words(f"grade.{grade}")})))
        chances = zip(range(len(GRADES)), found["probabilities"], strict=True)
        parts.append(_line("; ".join(f"{number} {words(f'grade.{number}')} {100 * p:.0f} %" for number, p in chances)))
    if found["dme"] is not None:
        parts.append(_word(words("dme.answer", {"risk": found["dme"]["risk"], "most": 2})))
    if found["advice"] is not None:
        parts.append(_word(words("advice.refer" if found["advice"]["refer"] else "advice.no_referral")))
        parts += [_line(words.note(note)) for note in found["advice"]["because"]]
    if found["evidence"]:
        parts.append(_word(words("evidence.title")))
        parts += [_line(words.note(note)) for note in found["evidence"]]
    if found["lesions"]:
        parts.append(_lesions(found["lesions"], words, palette))
    if row.grade is not None or row.dme is not None:
        said = [f"{words('grade.title')} {row.grade}"] if row.grade is not None else []
        said += [f"{words('dme.title')} {row.dme}"] if row.dme is not None else []
        parts.append(_word(f"{words('correct.yours')} {', '.join(said)}"))
    parts += [_line(words.note(note)) for note in found["warnings"]]
    return [*parts, _model(row, words)]


def _lesions(lesions: dict[str, Any], words: Words, palette: Palette) -> Table:
    """Counts and areas; the first column holds the color of the outlines."""
    heads = ["", *(_latin(words(f"lesions.{name}")) for name in ("kind", "count", "area", "fovea"))]
    body, style = [heads], [("FONT", (0, 0), (-1, -1), "Helvetica", 8), ("LINEBELOW", (0, 0), (-1, 0), 0.5, "#888888")]
    for number, code in enumerate((code for code in LESIONS if code in lesions), start=1):
        one = lesions[code]
        away = one["nearest_fovea_dd"]
        distance = "-" if away is None else words.number(away, ".2f")
        body.append(["", _latin(words.structure(code)), str(one["count"]), str(one["area_px"]), distance])
        color = "#{:02x}{:02x}{:02x}".format(*color_of(code, palette))
        style.append(("BACKGROUND", (0, number), (0, number), HexColor(color)))
    table = Table(body, [4 * mm, 50 * mm, 25 * mm, 35 * mm, 35 * mm], 5 * mm, hAlign="LEFT")
    table.setStyle(TableStyle(style))
    return table


def _model(row: Row, words: Words) -> Paragraph:
    model, photo = row.found["model"], row.found["photo"]
    line = words("model.line", {"name": model["name"], "version": model["version"], "sha": model["sha256"][:12]})
    return Paragraph(_latin(f"{line} {words('paper.photo', {'sha': photo['sha256'][:12]})}"), _SMALL)


def _word(text: str) -> Paragraph:
    return Paragraph(_latin(text), _WORD)


def _line(text: str) -> Paragraph:
    return Paragraph(_latin(text), _TEXT)


def _latin(text: str) -> str:
    """Text that the fonts have, escaped: a paragraph reads markup."""
    return escape(text.encode("cp1252", "replace").decode("cp1252"))
