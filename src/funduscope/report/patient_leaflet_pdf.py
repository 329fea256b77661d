"""The sheet for the patient as one A4 page of PDF."""

from __future__ import annotations

from typing import Final

from reportlab.lib.units import mm
from reportlab.platypus import Flowable, Table, TableStyle

from funduscope.report.patient_leaflet import Part, PatientLeaflet
from funduscope.report.pdf import ACROSS, Document, Picture, room_left, space
from funduscope.report.pdf_text import INK, Said, style

SIZES: Final = (12.5, 12.0, 11.5, 11.0, 10.5, 10.0, 9.0)
"""Of the text, in points; the first with which everything fits is taken."""

_PICTURE: Final = 42 * mm


def patient_leaflet_pdf(leaflet: PatientLeaflet, jpeg: bytes | None = None) -> bytes:
    """The file's bytes. jpeg: the photo, as a small JPEG; None for no picture."""
    column: list[Flowable] = []
    for size in SIZES:
        column = _column(leaflet, jpeg, size)
        if room_left(column) >= 0:
            break
    document = Document(leaflet.language, leaflet.title)
    document.add(column, leaflet.small)
    return document.finished()


def _column(leaflet: PatientLeaflet, jpeg: bytes | None, size: float) -> list[Flowable]:
    parts: list[Flowable] = [_head(leaflet, jpeg, size)]
    for part in (*leaflet.parts, leaflet.contact):
        parts += _part(part, size)
    return [*parts, space(4), _fields(leaflet, size)]


def _head(leaflet: PatientLeaflet, jpeg: bytes | None, size: float) -> Flowable:
    """Title and eye beside the photo."""
    texts = [
        Said(leaflet.title, style(size + 9, bold=True)),
        Said(leaflet.subtitle, style(size, color="dim")),
        Said(leaflet.eye, style(size, bold=True)),
    ]
    beside = (
        []
        if jpeg is None
        else [Picture(jpeg, _PICTURE * 0.8, _PICTURE), Said(leaflet.picture, style(7.5, color="dim"))]
    )
    table = Table([[texts, beside]], [ACROSS - _PICTURE, _PICTURE])
    table.setStyle(
        TableStyle(
            [
                ("VALIGN", (0, 0), (-1, -1), "TOP"),
                *(
                    (side, (0, 0), (-1, -1), 0)
                    for side in ("LEFTPADDING", "RIGHTPADDING", "TOPPADDING", "BOTTOMPADDING")
                ),
            ]
        )
    )
    return table


def _part(part: Part, size: float) -> list[Flowable]:
    text = style(size)
    return [
        Said(part.title, style(size + 1.5, bold=True, before=size * 0.5)),
        *(Said(says, text) for says in part.says),
        *(_point(says, size) for says in part.points),
        *(Said(says, text) for says in part.after),
    ]


def _point(says: str, size: float) -> Flowable:
    table = Table([[Said("•", style(size)), Said(says, style(size))]], [size * 1.1, ACROSS - size * 1.1])
    table.setStyle(
        TableStyle(
            [
                ("VALIGN", (0, 0), (-1, -1), "TOP"),
                *(
                    (side, (0, 0), (-1, -1), 0)
                    for side in ("LEFTPADDING", "RIGHTPADDING", "TOPPADDING", "BOTTOMPADDING")
                ),
            ]
        )
    )
    return table


def _fields(leaflet: PatientLeaflet, size: float) -> Flowable:
    """Lines to be filled in by hand, two beside each other."""
    names = [Said(f"{name}:", style(size)) for name in leaflet.fields]
    names += [Said("", style(size))] * (len(names) % 2)
    rows = [names[number : number + 2] for number in range(0, len(names), 2)]
    table = Table(rows, [ACROSS / 2] * 2, rowHeights=[size * 2.3] * len(rows))
    lines = [("LINEBELOW", (column, 0), (column, -1), 0.6, INK) for column in range(2)]
    table.setStyle(TableStyle([*lines, ("VALIGN", (0, 0), (-1, -1), "BOTTOM"), ("LEFTPADDING", (0, 0), (-1, -1), 0)]))
    return table
