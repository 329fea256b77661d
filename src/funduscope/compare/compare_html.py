"""The sections as compare.html: one file that needs no network and can be handed on.

The page allows nothing but itself: its content security policy names its own style by its hash, no script at all, and
pictures only as data inside the file. Every text passes through Jinja's escaping; a run's name is a stranger's text.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources

import jinja2
from markupsafe import Markup

from funduscope.compare.page_parts import Section, Table

TITLE = "Runs compared"


def render(sections: Sequence[Section], pictures: Mapping[str, bytes]) -> str:
    """The page. pictures: SVG files by name; a picture that is not there is left out."""
    style = _part("page.css")
    return _template().render(
        title=TITLE,
        sections=sections,
        style=Markup(style),
        policy=_policy(style),
        is_table=lambda block: isinstance(block, Table),
        source={name: _embedded(svg) for name, svg in pictures.items()},
    )


def _embedded(svg: bytes) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(svg).decode("ascii")


def _policy(style: str) -> str:
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode("ascii")
    return f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"


def printable(text: str) -> str:
    """The text with what cannot be shown (control characters, turned writing directions, broken Unicode) replaced."""
    return "".join(char if char.isprintable() else "\ufffd" for char in text)


@cache
def _part(name: str) -> str:
    return resources.files("funduscope").joinpath("compare", name).read_text(encoding="utf-8")


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value,
    )
    return environment.from_string(_part("page.html.j2"))
