"""The comparison of two visits as files: a CSV with a row per lesion, and one page of PDF."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from typing import Any, Final, get_args

import cv2
import numpy as np
from reportlab.lib.colors import HexColor
from reportlab.platypus import Flowable, Spacer, Table

from funduscope.app.visit_comparison import LesionChange, Outlined, State, VisitComparison
from funduscope.data.csv_cells import guarded
from funduscope.i18n.languages import Words
from funduscope.report.html import model_line
from funduscope.report.outline import Palette, color_of
from funduscope.report.pdf import TEXT_WIDTH, Document, picture
from funduscope.report.pdf_page import shortened, swatch
from funduscope.report.pdf_text import LINE, Text, style
from funduscope.report.photo_jpegs import jpeg
from funduscope.vocabulary import LESIONS

COLUMNS: Final = (
    "earlier_photo", "later_photo", "kind", "change", "earlier_outlines", "later_outlines", "earlier_area_px",
    "later_area_px", "earlier_area_ppm", "later_area_ppm", "earlier_probability", "later_probability", "earlier_x_px",
    "earlier_y_px", "later_x_px", "later_y_px",
)  # fmt: skip
"""Areas and places in px are of each photo itself, a place that of the largest outline; areas in ppm are in millionths
of the square around the later photo's field of view, after registration. A probability is the mean over the outlines,
or if there are none the highest at the place."""

Found = Mapping[str, Any]
"""As in findings.json."""

SIZE: Final = 8.5


def visits_csv(visits: VisitComparison, earlier: Found, later: Found) -> bytes:
    """A row per lesion; the header alone where the vessels do not prove one eye. UTF-8 with a byte order mark."""
    file = io.StringIO()
    table = csv.writer(file, lineterminator="\n")
    table.writerow(COLUMNS)
    names = [guarded(found["photo"]["name"]) for found in (earlier, later)]
    table.writerows([*names, *_cells(change)] for change in visits.changes or ())
    return file.getvalue().encode("utf-8-sig", "replace")


def _cells(change: LesionChange) -> list[str | int | float]:
    both = (change.earlier, change.later)
    cells: list[str | int | float] = [change.code, change.state]
    cells += [len(one.lesions) for one in both]
    cells += [one.area_px if one.lesions else "" for one in both]
    cells += [round(one.area_ppm, 2) if one.lesions else "" for one in both]
    cells += [round(one.probability, 4) for one in both]
    return cells + [value for one in both for value in _place(one)]


def _place(one: Outlined) -> tuple[float | str, float | str]:
    if not one.lesions:
        return "", ""
    largest = max(one.lesions, key=lambda lesion: lesion.area_px)
    return round(largest.x_px, 1), round(largest.y_px, 1)


def visits_pdf(visits: VisitComparison, earlier: Found, later: Found, words: Words, palette: Palette) -> bytes:
    """One page: what each photo's headline says, both photos registered, and the lesions by kind and change."""
    half = TEXT_WIDTH / 2
    heads = [_heads(name, found, words) for name, found in (("earlier", earlier), ("later", later))]
    images = [picture(jpeg(_ringed(visits, which, palette)), half - 8, half - 8) for which in ("gone", "new")]
    cells = [("VALIGN", (0, 0), (-1, -1), "TOP"), ("LEFTPADDING", (0, 0), (-1, -1), 2)]
    column: list[Flowable] = [Text(words("visits.paper"), style(13, bold=True)), Spacer(1, 4)]
    column += [Table([heads, images], [half, half], style=cells)]
    if visits.is_one_eye:
        column += [Spacer(1, 6), _counts(visits, words, palette), Spacer(1, 4), Text(words("visits.note"), style(SIZE))]
        if visits.registration is not None and visits.registration.mirrored:
            column.append(Text(words("visits.mirrored"), style(SIZE, color="alert")))
    else:
        column.append(Text(words("visits.not_one_eye"), style(SIZE + 2, bold=True, color="alert")))
    column += [Spacer(1, 6), Text(words("not_a_device"), style(SIZE, color="dim"))]
    document = Document(words.language)
    document.add(column, model_line(later["model"], words))
    return document.to_bytes()


def _heads(name: str, found: Found, words: Words) -> list[Flowable]:
    """A photo's name and headlines, a warning first."""
    parts: list[Flowable] = [
        Text(words(f"visits.{name}"), style(SIZE, color="dim")),
        Text(shortened(found["photo"]["name"]), style(SIZE, bold=True)),
    ]
    headline = found["headline"]
    parts += [
        Text(words.message(headline[key]), style(SIZE, bold=key == "trust", color="alert" if key == "trust" else "ink"))
        for key in ("trust", "grade", "dme", "referral")
        if headline[key] is not None
    ]
    return parts


def _ringed(visits: VisitComparison, which: State, palette: Palette) -> np.ndarray:
    """A visit's picture with rings around its new or gone lesions."""
    image = (visits.first if which == "gone" else visits.second).copy()
    for change in visits.of_state(which):
        center = (round(change.xy[0]), round(change.xy[1]))
        cv2.circle(image, center, round(change.radius_px) + 10, color_of(change.code, palette), 3, cv2.LINE_AA)
    return image


def _counts(visits: VisitComparison, words: Words, palette: Palette) -> Flowable:
    """A line per kind, with the color of its rings: how many lesions of each change."""
    states = get_args(State)
    rows: list[list[str | Flowable]] = [["", words("lesions.kind"), *(words(f"visits.{state}") for state in states)]]
    for code in LESIONS:
        of_kind = [change.state for change in visits.changes or () if change.code == code]
        color = swatch(color_of(code, palette), SIZE)
        rows.append([color, words.structure(code), *(str(of_kind.count(state)) for state in states)])
    cells = [
        [Text(cell, style(SIZE, color="ink" if number else "dim")) if isinstance(cell, str) else cell for cell in row]
        for number, row in enumerate(rows)
    ]
    lines = [("LINEBELOW", (0, 0), (-1, 0), 0.5, LINE), ("BACKGROUND", (0, 0), (-1, -1), HexColor("#ffffff"))]
    return Table(
        cells,
        [TEXT_WIDTH * 0.04, TEXT_WIDTH * 0.28, *[TEXT_WIDTH * 0.68 / len(states)] * len(states)],
        hAlign="LEFT",
        style=lines,
    )
