"""What `predict --pdf --sheet` leaves beside the findings: a page and a sheet in each photo's folder, and all pages.

results/eye/report.pdf     one page: see pdf_page.py
results/eye/sheet.html     the sheet for the patient; with --pdf also sheet.pdf
results/summary.pdf        of more than one photo: a page each, in the order of summary.csv, and one for every file
                           that could not be read; at most 100 pages, then summary-2.pdf: memory stays flat
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

from funduscope.i18n.languages import Words
from funduscope.imaging.photo import LIMITS
from funduscope.inference.findings import Failure, Findings
from funduscope.report.outline import Palette, Traced, trace_all

if TYPE_CHECKING:
    from funduscope.report.pdf import Document

MOST_PAGES: Final = 100
PAGE, SHEET, STACK = "report.pdf", "sheet", "summary"


@dataclass(frozen=True)
class PdfOptions:
    """What is wanted on paper. language: one of `languages.LANGUAGES`."""

    pdf: bool = False
    sheet: bool = False
    language: str = "en"
    palette: Palette = "standard"

    @property
    def any(self) -> bool:
        return self.pdf or self.sheet

    def check(self) -> None:
        """Raises `ModuleNotFoundError` where PDF is wanted and the extra `report` is not there, before any work."""
        if self.pdf:
            import funduscope.report.pdf_text  # noqa: F401


class Papers:
    """The papers of one run; a context, which ends the file of all pages whole, with what was read until then.

    folder: of the results; count: how many photos the run has, of which one alone needs no file of all pages.
    """

    def __init__(self, options: PdfOptions, folder: Path, count: int) -> None:
        self.asked, self.folder, self.count = options, folder, count
        self.words = Words(options.language)
        self._document: Document | None = None
        self._files = self._pages = 0

    def __enter__(self) -> Papers:
        """Raises `FileExistsError` where a file of somebody else has the name of one that will be written."""
        if self.asked.pdf and self.count > 1:
            from funduscope.report.pdf import check_place

            for number in range(1, -(-self.count // MOST_PAGES) + 1):
                check_place(self.folder / _stack_name(number))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        # A broken pipe is that of who read our lines; any other such error is the disk's, which would refuse again.
        if not isinstance(error, OSError) or isinstance(error, BrokenPipeError):
            self._end()
        if error is None:
            self._drop_older()

    @property
    def extra_outputs(self) -> Callable[[Findings, Traced, Path], None] | None:
        """What `predict.write.write` calls with findings, outlines and the folder, where anything is asked for."""
        return self._write if self.asked.any else None

    def answered(self, findings: Findings, traced: Traced | None = None) -> bytes | None:
        """Adds a photo's page to the file of all pages and returns it as a file of its own; None without PDF."""
        if not self.asked.pdf:
            return None
        from funduscope.report.pdf import Document
        from funduscope.report.pdf_page import OnPaper, foot, page
        from funduscope.report.photo_jpegs import marked_jpeg

        traced = traced or trace_all(findings)
        picture = marked_jpeg(findings, self.asked.palette, traced)
        figures = findings.card.about.get("figures", ())
        shown = OnPaper(traced.found, picture, self.asked.palette, figures)
        line = foot(traced.found, self.words)
        self._add(lambda: page(shown, self.words), line)
        alone = Document(self.asked.language)
        alone.add(page(shown, self.words), line)
        return alone.finished()

    def refused(self, failure: Failure) -> None:
        """Adds the page that says why a file could not be read."""
        if not self.asked.pdf:
            return
        from funduscope.report.pdf_page import refused

        says = self.words.error(failure.code, failure.says, LIMITS.told)
        self._add(lambda: refused(failure.photo_name, says, failure.code, self.words), "")

    def _write(self, findings: Findings, traced: Traced, folder: Path) -> None:
        pdf = self.answered(findings, traced)
        if pdf is not None:
            (folder / PAGE).write_bytes(pdf)
        if self.asked.sheet:
            self._write_sheet(findings, traced, folder)

    def _write_sheet(self, findings: Findings, traced: Traced, folder: Path) -> None:
        from funduscope.report.patient_leaflet import compose
        from funduscope.report.patient_leaflet_html import patient_leaflet_html
        from funduscope.report.photo_jpegs import alone_jpeg

        leaflet, picture = compose(traced.found, self.words), alone_jpeg(findings.photo)
        (folder / f"{SHEET}.html").write_text(patient_leaflet_html(leaflet, picture), "utf-8")
        if self.asked.pdf:
            from funduscope.report.patient_leaflet_pdf import patient_leaflet_pdf

            (folder / f"{SHEET}.pdf").write_bytes(patient_leaflet_pdf(leaflet, picture))

    def _add(self, column: Callable[[], list[Any]], line: str) -> None:
        if self.count < 2:
            return
        from funduscope.report.pdf import Document

        self._pages += 1
        self._document = self._document or Document(self.asked.language)
        number = self.words("paper.page", {"number": self._pages, "count": self.count})
        self._document.add(column(), f"{line} {number}".strip())
        if self._document.pages >= MOST_PAGES:
            self._end()

    def _end(self) -> None:
        if self._document is not None:
            self._files += 1
            document, self._document = self._document, None
            document.write(self.folder / _stack_name(self._files))

    def _drop_older(self) -> None:
        """Removes what an earlier, longer run left behind the last file: it would be printed with this run's pages."""
        if not self.asked.pdf or not self._files:
            return
        from funduscope.report.pdf import check_place

        number = self._files + 1
        while (path := self.folder / _stack_name(number)).exists():
            with suppress(FileExistsError):
                check_place(path)
                path.unlink()
            number += 1


def _stack_name(number: int) -> str:
    return f"{STACK}.pdf" if number == 1 else f"{STACK}-{number}.pdf"
