"""The sheet for the patient as one HTML file that prints on one A4 page: no script, nothing fetched, all text escaped.

Where the language is written in a script that not every machine has letters for, they travel inside the file.
"""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from importlib import resources

import jinja2
from markupsafe import Markup

from funduscope.report.fonts import font_face
from funduscope.report.patient_leaflet import PatientLeaflet


def patient_leaflet_html(leaflet: PatientLeaflet, jpeg: bytes | None = None) -> str:
    """The page. jpeg: the photo, as a small JPEG without what a camera wrote beside it; None for no picture."""
    style = font_face(leaflet.language) + _part("patient_leaflet.css")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode("ascii")
    return _template().render(
        sheet=leaflet,
        picture=None if jpeg is None else "data:image/jpeg;base64," + base64.b64encode(jpeg).decode("ascii"),
        style=Markup(style),
        policy=f"default-src 'none'; img-src data:; font-src data:; style-src 'sha256-{digest}'; "
        "base-uri 'none'; form-action 'none'",
    )


@cache
def _part(name: str) -> str:
    return (resources.files("funduscope") / "report" / name).read_text("utf-8")


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(_part("patient_leaflet.html.j2"))
