"""The package's fonts, and the style that embeds one in a page for machines without a font for the language."""

from __future__ import annotations

import base64
from functools import cache
from importlib import resources
from typing import Final

FILES: Final = {"plain": "NotoSansDevanagari-Regular.ttf", "bold": "NotoSansDevanagari-Bold.ttf"}
"""The font that comes with the package, for Latin and Devanagari (fonts/OFL.txt: SIL Open Font License 1.1)."""

EMBEDDED_FOR: Final = frozenset({"hi"})
"""Languages for which a page embeds the font."""


@cache
def font_file(weight: str) -> bytes:
    """The bytes of one of `FILES`."""
    return (resources.files("funduscope") / "fonts" / FILES[weight]).read_bytes()


@cache
def font_face(language: str, family: str = "Letters", ranges: str = "") -> str:
    """The CSS rule that embeds the font as a family; empty if every machine has a font for the language.

    ranges: CSS's unicode-range, for a family that the page has already without these letters. The page's content
    security policy must allow `font-src data:`.
    """
    if language not in EMBEDDED_FOR:
        return ""
    source = base64.b64encode(font_file("plain")).decode("ascii")
    only = f" font-weight: 100 900; unicode-range: {ranges};" if ranges else ""
    return (
        f'@font-face {{ font-family: "{family}"; src: url(data:font/ttf;base64,{source}) format("truetype");{only} }}\n'
    )
