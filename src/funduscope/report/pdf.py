"""A PDF of A4 pages, built page by page; the same pages give the same bytes."""

from __future__ import annotations

import io
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from reportlab.lib.pagesizes import A4
from reportlab.lib.units import mm
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import Flowable, Image

from funduscope.report.pdf_text import Text, style

WIDTH, HEIGHT = A4
MARGIN: Final = 15 * mm
TEXT_WIDTH: Final = WIDTH - 2 * MARGIN
FOOTER_HEIGHT: Final = 19 * mm
"""Space at the bottom for the footer of every page."""

_GAP: Final = 2.5
"""Points between the parts of a page."""

_CREATOR: Final = "funduscope"

_FONT_LOCK: Final = threading.RLock()
"""The font is shared by all documents of the process and changes while glyphs are drawn."""


class Document:
    """A document of pages. language: for screen readers; title: of the reader's window, never a photo's name."""

    def __init__(self, language: str, title: str = "funduscope") -> None:
        self._file = io.BytesIO()
        self._canvas = Canvas(self._file, pagesize=A4, pageCompression=1, invariant=1, lang=language)
        self._canvas.setTitle(title)
        self._canvas.setCreator(_CREATOR)
        self.pages = 0

    def add(self, column: Sequence[Flowable], footer: str) -> None:
        """Adds a page. column: its parts, which fit (see `room_left`), one below the other; footer: its last line."""
        with _FONT_LOCK:
            y = HEIGHT - MARGIN
            for part in column:
                y -= _height(part)
                rest = TEXT_WIDTH - part.wrap(TEXT_WIDTH, HEIGHT)[0]
                part.drawOn(self._canvas, MARGIN, y, rest)  # pyright: ignore[reportCallIssue] (`rest` is for centering)
                y -= _GAP
            small = Text(footer, style(7, color="dim"))
            small.wrapOn(self._canvas, TEXT_WIDTH, FOOTER_HEIGHT)
            small.drawOn(self._canvas, MARGIN, 9 * mm)
            self._canvas.showPage()
            self.pages += 1

    def to_bytes(self) -> bytes:
        """The file's bytes; there must be a page."""
        with _FONT_LOCK:
            self._canvas.save()
        return self._file.getvalue()


def check_place(path: Path) -> None:
    """Raises `FileExistsError` if the path has a file that no `Document` wrote."""
    if path.exists() and not (path.is_file() and f"/Creator ({_CREATOR})".encode() in path.read_bytes()):
        raise FileExistsError(f"{path} is no file of this program and would be lost: choose another folder.")


def picture(jpeg: bytes, room: float, across: float = TEXT_WIDTH) -> Flowable:
    """A JPEG centered in its column, as large as fits. jpeg: the file's bytes; room: largest height in points."""
    return Image(io.BytesIO(jpeg), across, room, kind="proportional", hAlign="CENTER")


def room_left(column: Sequence[Flowable]) -> float:
    """The height in points that these parts leave free on a page; below 0 if they do not fit."""
    with _FONT_LOCK:
        taken = sum(_height(part) + _GAP for part in column)
    return HEIGHT - MARGIN - FOOTER_HEIGHT - taken


def _height(part: Flowable) -> float:
    """Including the space above it that its style sets."""
    return part.wrap(TEXT_WIDTH, HEIGHT)[1] + part.getSpaceBefore()
