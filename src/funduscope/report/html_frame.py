"""The frame of every HTML page: head, content security policy, common style; one file that needs no network.

A page allows nothing but itself: the policy names its own style and script by their hashes, and pictures and fonts only
as data inside the file. Every text is escaped, and what cannot be shown is replaced: names of files are input from
strangers. A page is a template that extends report/frame.html.j2 and fills its blocks.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any, Final

import jinja2
from markupsafe import Markup

from funduscope.report.fonts import font_face

_KEPT: Final = frozenset("\u00a0\u202f\u200c\u200d")
"""Spaces at which no line ends, and the joiners that some scripts are written with."""


def render(
    template: str, values: Mapping[str, Any], *, style: str, script: str | None = None, language: str = "en"
) -> str:
    """The page as the text of one HTML file.

    template, style, script: files by their paths in this package; the style follows the common one. values: what the
    template is filled with. language: of the page, one of `languages.LANGUAGES`.
    """
    css = font_face(language) + package_text("report/frame.css") + package_text(style)
    js = "" if script is None else package_text(script)
    policy = f"default-src 'none'; img-src data:; font-src data:; style-src '{_hash(css)}'; "
    policy += f"script-src '{_hash(js)}'; " if js else ""
    frame = {
        "language": language,
        "policy": policy + "base-uri 'none'; form-action 'none'",
        "style": Markup(css),
        "script": Markup(js),
    }
    return _environment().get_template(template).render({**values, **frame})


def printable(text: str) -> str:
    """The text with what cannot be shown (control characters, turned writing directions, broken Unicode) replaced."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() or char in _KEPT else "\ufffd" for char in text)


def data_url(kind: str, data: bytes) -> str:
    """A file as an address that holds its bytes. kind: its media type."""
    return f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}"


@cache
def package_text(path: str) -> str:
    """A text file of this package by its path in it."""
    return resources.files("funduscope").joinpath(path).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(package_text),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value,
    )
    environment.filters["zip_with"] = zip
    environment.filters["percent"] = lambda value: f"{100 * value:.0f} %"
    environment.filters["thousands"] = lambda value: f"{value:,.0f}".replace(",", "\u202f")
    return environment
