"""doctor.html: the findings of a data set as one file that needs no network.

The frame (report/html_frame.py) escapes every text and allows nothing but the page's own parts. Pictures are drawn
here, for the first findings of a kind only, so that the page of a large data set still opens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any, Final

import cv2
import numpy as np
from markupsafe import Markup

from funduscope.doctor.finding import Finding
from funduscope.doctor.kinds import KINDS, SEVERITIES
from funduscope.i18n.errors import PhotoError
from funduscope.report.html_frame import data_url, render

SHOWN: Final = 60
"""Findings of a kind that are shown with pictures."""

LISTED: Final = 1000
"""Findings of a kind that are on the page; doctor.json has all."""

FILES: Final = 6
"""Files of one finding that are shown as thumbnails; the next hundred are named."""

_NAMED: Final = 100
_QUALITY: Final = 82
_FIRST: Final = 5

Thumbnail = Callable[[str], bytes | None]


def page(
    name: str, photos: int, findings: Sequence[Finding], thumbnail: Thumbnail, progress: Callable[..., Iterable[Any]]
) -> str:
    """The page as text of one self-contained HTML file.

    name: of the data set; findings: in the order of `finding.ordered`; thumbnail: a file's name to a small JPEG.
    """
    kinds = [list(each) for _, each in groupby(findings, key=lambda one: (one.severity, one.kind))]
    sections = [_section(each, thumbnail) for each in progress(kinds, "Drawing the page", len(kinds))]
    values = {
        "name": name,
        "photos": photos,
        "counts": {severity: sum(one.severity == severity for one in findings) for severity in SEVERITIES},
        "total": len(findings),
        "sections": sections,
        "first": [section for section in sections if section["severity"] != "info"][:_FIRST],
        "groups": list(dict.fromkeys(section["group"] for section in sections)),
        "with_code": _with_code,
    }
    return render("doctor/page/page.html.j2", values, style="doctor/page/page.css", script="doctor/page/page.js")


def _section(findings: Sequence[Finding], thumbnail: Thumbnail) -> dict[str, Any]:
    kind = KINDS[findings[0].kind]
    return {
        "id": f"{findings[0].kind}-{findings[0].severity}",
        "kind": findings[0].kind,
        "severity": findings[0].severity,
        "group": kind.group,
        "title": kind.title,
        "why": kind.why,
        "advice": findings[0].advice,
        "count": len(findings),
        "cards": [_card(one, thumbnail) for one in findings[:SHOWN]],
        "rows": [{"says": one.says, "files": list(one.files[:FILES])} for one in findings[SHOWN:LISTED]],
        "more": max(0, len(findings) - LISTED),
    }


def _card(one: Finding, thumbnail: Thumbnail) -> dict[str, Any]:
    """A finding with its pictures."""
    pictures = [(picture.caption, _embedded(picture.draw)) for picture in one.pictures]
    return {
        "says": one.says,
        "files": [(file, _data(thumbnail(file))) for file in one.files[:FILES]],
        "named": list(one.files[FILES : FILES + _NAMED]),
        "more": max(0, len(one.files) - FILES - _NAMED),
        "facts": [(_words(key), _text(value)) for key, value in one.evidence.items() if not _table(value)],
        "tables": [(_words(key), _table(value)) for key, value in one.evidence.items() if _table(value)],
        "pictures": [(caption, data) for caption, data in pictures if data],
    }


def _embedded(draw: Callable[[], np.ndarray | None]) -> str | None:
    try:
        pixels = draw()
    except (PhotoError, OSError):  # a photo may be gone since it was examined
        return None
    if pixels is None:
        return None
    picture = cv2.cvtColor(np.ascontiguousarray(pixels), cv2.COLOR_RGB2BGR)
    return _data(cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])[1].tobytes())


def _data(jpeg: bytes | None) -> str | None:
    return None if jpeg is None else data_url("image/jpeg", jpeg)


def _words(key: str) -> str:
    return key.replace("_", " ")


def _text(value: Any) -> str:
    """A JSON value as text for people."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{_words(str(key))}: {_text(each)}" for key, each in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(_text(each) for each in value)
    return str(value)


def _table(value: Any) -> list[list[str]]:
    """Rows of text, the heading first, of a list of objects or an object of objects; empty for other values."""
    objects = list(value.values()) if isinstance(value, Mapping) else value
    if not isinstance(objects, list) or not objects or not all(isinstance(each, Mapping) for each in objects):
        return []
    columns = list(dict.fromkeys(key for each in objects for key in each))
    rows = [[_words(str(key)) for key in columns], *([_text(each.get(key)) for key in columns] for each in objects)]
    if not isinstance(value, Mapping):
        return rows
    return [[name, *row] for name, row in zip(["", *map(_words, map(str, value))], rows, strict=True)]


def _with_code(text: str) -> Markup:
    """Escaped text, with words between backticks as code."""
    pieces = enumerate(text.split("`"))
    return Markup("").join(Markup("<code>{}</code>").format(piece) if at % 2 else piece for at, piece in pieces)
