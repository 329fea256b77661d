"""The sections as compare.html: one file that needs no network and can be handed on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from funduscope.compare.page_parts import Section, Table
from funduscope.report import html_frame

TITLE = "Runs compared"


def render(sections: Sequence[Section], pictures: Mapping[str, bytes]) -> str:
    """The page. pictures: SVG files by name; a picture that is not there is left out."""
    values = {
        "title": TITLE,
        "sections": sections,
        "is_table": lambda block: isinstance(block, Table),
        "source": {name: html_frame.data_url("image/svg+xml", svg) for name, svg in pictures.items()},
    }
    return html_frame.render("compare/page.html.j2", values, style="compare/page.css")
