"""The patient leaflet as one A4 page of PDF."""

from __future__ import annotations

from typing import Any, Final

from reportlab.lib.units import mm
from reportlab.platypus import Flowable, Spacer, Table

from funduscope.report.patient_leaflet import Part, PatientLeaflet
from funduscope.report.pdf import TEXT_WIDTH, Document, picture, room_left
from funduscope.report.pdf_text import INK, Text, style

SIZES: Final = (12.5, 12.0, 11.5, 11.0, 10.5, 10.0, 9.0)
"""Sizes of the text in points; the first with which everything fits is taken."""

_PICTURE: Final = 42 * mm
_GAP: Final = 5 * mm


def patient_leaflet_pdf(leaflet: PatientLeaflet, jpeg: bytes | None = None) -> bytes:
    """The file's bytes. jpeg: the photo, as a small JPEG; None for no picture."""
    column: list[Flowable] = []
    for size in SIZES:
        column = _column(leaflet, jpeg, size)
        if room_left(column) >= 0:
            break
    document = Document(leaflet.language, leaflet.title)
    document.add(column, leaflet.small)
    return document.to_bytes()


def _column(leaflet: PatientLeaflet, jpeg: bytes | None, size: float) -> list[Flowable]:
    parts: list[Flowable] = [_head(leaflet, jpeg, size)]
    for part in (*leaflet.parts, leaflet.contact):
        parts += _part(part, size)
    return [*parts, Spacer(1, 4), _fields(leaflet, size)]


def _head(leaflet: PatientLeaflet, jpeg: bytes | None, size: float) -> Flowable:
    """Title and eye next to the photo."""
    texts = [
        Text(leaflet.title, style(size + 9, bold=True)),
        Text(leaflet.subtitle, style(size, color="dim")),
        Text(leaflet.eye, style(size, bold=True)),
    ]
    photo: list[Flowable] = []
    if jpeg is not None:
        photo = [picture(jpeg, _PICTURE * 0.8, _PICTURE), Text(leaflet.picture, style(7.5, color="dim"))]
    return _row([texts, "", photo], [TEXT_WIDTH - _PICTURE - _GAP, _GAP, _PICTURE])


def _part(part: Part, size: float) -> list[Flowable]:
    text = style(size)
    return [
        Text(part.title, style(size + 1.5, bold=True, before=size * 0.5)),
        *(Text(says, text) for says in part.says),
        *(_row([Text("•", text), Text(says, text)], [size * 1.1, TEXT_WIDTH - size * 1.1]) for says in part.points),
        *(Text(says, text) for says in part.after),
    ]


def _row(cells: list[Any], widths: list[float]) -> Flowable:
    """Cells next to each other, without padding."""
    plain = {"VALIGN": "TOP", "ALIGN": "CENTER"}
    plain |= dict.fromkeys(("LEFTPADDING", "RIGHTPADDING", "TOPPADDING", "BOTTOMPADDING"), 0)
    return Table([cells], widths, style=[(name, (0, 0), (-1, -1), value) for name, value in plain.items()])


def _fields(leaflet: PatientLeaflet, size: float) -> Flowable:
    """Lines to fill in by hand, in two columns."""
    names = [Text(f"{name}:", style(size)) for name in leaflet.fields]
    names += [Text("", style(size))] * (len(names) % 2)
    rows = [names[number : number + 2] for number in range(0, len(names), 2)]
    lines = [("LINEBELOW", (column, 0), (column, -1), 0.6, INK) for column in range(2)]
    lines += [("VALIGN", (0, 0), (-1, -1), "BOTTOM"), ("LEFTPADDING", (0, 0), (-1, -1), 0)]
    return Table(rows, [TEXT_WIDTH / 2] * 2, rowHeights=[size * 2.3] * len(rows), style=lines)
