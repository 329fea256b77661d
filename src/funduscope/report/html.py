"""report.html: what was found in one photo, as one file that needs no network and can be handed on.

The page allows nothing but itself: a content security policy names its own script and style by their hashes, and
pictures only as data inside the file. Every text passes through Jinja's escaping; a photo's name is a stranger's text.
"""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any, Final

import cv2
import jinja2
import numpy as np
from markupsafe import Markup
from PIL import Image

from funduscope.i18n.languages import Words
from funduscope.inference.model_scores import figures_note, figures_table
from funduscope.report.fonts import font_face
from funduscope.report.outline import Outline, Palette, Traced, color_of, drawing_order, trace_all
from funduscope.vocabulary import DME_RISKS, GRADES, LANDMARKS, REFERABLE_FROM, structure

if TYPE_CHECKING:
    from funduscope.inference.findings import Findings

PHOTO_WIDTH_PX: Final = 2048
_JPEG_QUALITY: Final = 85


def report(
    findings: Findings, *, palette: Palette = "standard", traced: Traced | None = None, language: str = "en"
) -> str:
    """The page, as text of one self-contained HTML file.

    `traced`: the findings' outlines where they are worked out already. `language`: one of `languages.LANGUAGES`. Raises
    `ValueError` for an unknown palette or language.
    """
    traced = traced or trace_all(findings)
    found, outlines = traced.found, traced.outlines
    style, script, words = font_face(language) + _part("viewer.css"), _part("viewer.js"), Words(language)
    return _template().render(
        words=words,
        found=found,
        name=printable(found["photo"]["name"]),
        width=found["photo"]["width"],
        height=found["photo"]["height"],
        picture=_embedded(findings.photo.pixels),
        layers=[_layer(code, outlines[code], found, palette, words) for code in drawing_order(outlines)],
        landmarks=dict.fromkeys(LANDMARKS) | (found.get("landmarks") or {}),
        grades=[words(f"grade.{number}") for number in range(len(GRADES))],
        risks=[words(f"dme.{number}") for number in range(len(DME_RISKS))],
        figures=figures_table(findings.card.about.get("figures", ()), words),
        figures_note=figures_note(findings.card.about.get("figures", ()), words),
        referable_from=REFERABLE_FROM,
        mark_px=found["photo"]["width"] / 64,
        style=Markup(style),
        script=Markup(script),
        policy=_policy(style, script),
    )


def printable(text: str) -> str:
    """The text with what cannot be shown (control characters, turned writing directions, broken Unicode) replaced."""
    return "".join(char if char.isprintable() else "\ufffd" for char in text)


def svg_path(outline: Outline) -> str:
    """The outline as an SVG path in the photo's pixels; a single pixel becomes a dot, which a round pen draws."""
    pieces = []
    for ring in outline.rings:
        # Half a pixel of tolerance keeps the path a third as long and no edge moves that anyone could see.
        points = cv2.approxPolyDP(ring, 0.5, True).reshape(-1, 2)
        steps = np.diff(points, axis=0).tolist()
        lines = "".join(f"l{x} {y}" for x, y in steps) if steps else "h0"
        pieces.append(f"M{points[0][0]} {points[0][1]}{lines}z")
    return "".join(pieces)


def _layer(code: str, outline: Outline, found: Mapping[str, Any], palette: Palette, words: Words) -> dict[str, Any]:
    item, meaning = structure(code), f"meaning.{code}"
    red, green, blue = color_of(code, palette)
    return {
        "code": code,
        "name": words.structure(code),
        "meaning": words(meaning) if words.has(meaning) else item.meaning,
        "color": f"#{red:02x}{green:02x}{blue:02x}",
        "is_lesion": item.is_lesion,
        "path": svg_path(outline),
        "lesion": (found.get("lesions") or {}).get(code),
    }


def _embedded(pixels: np.ndarray) -> str:
    """The photo as a data address, at most 2048 px wide; pixels only, so nothing else of the file can come along."""
    height, width = pixels.shape[:2]
    if width > PHOTO_WIDTH_PX:
        size = PHOTO_WIDTH_PX, max(1, round(height * PHOTO_WIDTH_PX / width))
        pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=_JPEG_QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode("ascii")


def _policy(style: str, script: str) -> str:
    return (
        f"default-src 'none'; img-src data:; font-src data:; style-src '{_hash(style)}'; script-src '{_hash(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")


@cache
def _part(name: str) -> str:
    return resources.files("funduscope").joinpath("report", "viewer", name).read_text(encoding="utf-8")


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["zip_with"] = zip
    environment.filters["percent"] = lambda value: f"{100 * value:.0f} %"
    environment.filters["thousands"] = lambda value: f"{value:,.0f}".replace(",", "\u202f")
    return environment.from_string(_part("report.html.j2"))
