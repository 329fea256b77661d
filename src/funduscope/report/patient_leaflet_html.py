"""The patient leaflet as one HTML file that prints on one A4 page, without a script."""

from __future__ import annotations

from funduscope.report.html_frame import data_url, render
from funduscope.report.patient_leaflet import PatientLeaflet


def patient_leaflet_html(leaflet: PatientLeaflet, jpeg: bytes | None = None) -> str:
    """The page. jpeg: the photo as a small JPEG without metadata; None for no picture."""
    values = {"leaflet": leaflet, "picture": None if jpeg is None else data_url("image/jpeg", jpeg)}
    template, style = "report/patient_leaflet.html.j2", "report/patient_leaflet.css"
    return render(template, values, style=style, language=leaflet.language)
