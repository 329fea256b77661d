"""The sections as compare.html: one file that needs no network and can be shared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markdown_it import MarkdownIt
from markupsafe import Markup

from funduscope.compare import markdown
from funduscope.compare.page_parts import Section
from funduscope.report import html_frame

TITLE = "Runs compared"


def render(sections: Sequence[Section], pictures: Mapping[str, bytes]) -> str:
    """The page. pictures: SVG files by name; pictures without a file are left out.

    `markdown.render` has escaped every name of a run, so its HTML is safe.
    """
    converter = MarkdownIt("commonmark").enable("table")
    for name, rule in (("image", _image), ("td_open", _cell_open), ("td_close", _cell_close)):
        converter.add_render_rule(name, rule)
    source = {name: html_frame.data_url("image/svg+xml", svg) for name, svg in pictures.items()}
    names = {name: name for name in pictures}
    bodies = [Markup(converter.render(markdown.render([one], names), {"source": source})) for one in sections]
    values = {"title": TITLE, "sections": list(zip([one.title for one in sections], bodies, strict=True))}
    return html_frame.render("compare/page.html.j2", values, style="compare/page.css")


def _image(self: Any, tokens: Sequence[Any], place: int, options: Any, env: Mapping[str, Any]) -> str:
    """The picture as data inside the page."""
    tokens[place].attrs["src"] = env["source"][tokens[place].attrs["src"]]
    return self.image(tokens, place, options, env)


def _cell_open(self: Any, tokens: Sequence[Any], place: int, *_: Any) -> str:
    """The first cell of a row is its heading."""
    return '<th scope="row">' if tokens[place - 1].type == "tr_open" else "<td>"


def _cell_close(self: Any, tokens: Sequence[Any], place: int, *_: Any) -> str:
    return "</th>" if tokens[place - 3].type == "tr_open" else "</td>"
