"""What `predict --pdf --sheet` adds: a PDF page and a patient leaflet per photo, and one file with all pages.

results/eye/eye_report.pdf one page: see pdf_page.py
results/eye/eye_sheet.html the patient leaflet; with --pdf also eye_sheet.pdf
results/summary.pdf        for more than one photo: their pages in the order of summary.csv, and a page for every file
                           that could not be read; at most 100 pages, then summary-2.pdf, which bounds memory
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

from funduscope.atomic import write_atomically
from funduscope.i18n.languages import Words
from funduscope.imaging.limits import LIMITS
from funduscope.inference.findings import Failure, Findings
from funduscope.report.outline import ExtraOutputs, Traced, trace_all
from funduscope.report.results_folder import OutputOptions

if TYPE_CHECKING:
    from funduscope.report.pdf import Document

MAX_PAGES: Final = 100
OF_THE_MACHINE: Final = ("E_INTERNAL", "E_MEMORY", "E_DISK", "E_CONFIG")
"""Codes of failures that do not say that a file is no photo."""
PAGE, LEAFLET, ALL_PAGES = "report.pdf", "sheet", "summary"


class PdfOutputs:
    """The PDF pages and leaflets of one run. A context: on exit the file of all pages is finished, also after an error,
    unless the disk refused to be written.

    folder: for the results; count: photos in the run; a single photo gets no file of all pages.
    """

    def __init__(self, options: OutputOptions, folder: Path, count: int) -> None:
        self.options, self.folder, self.count = options, folder, count
        self.words = Words(options.language)
        self._document: Document | None = None
        self._files = self._pages = 0

    def __enter__(self) -> PdfOutputs:
        """Raises `FileExistsError` if a file that is not of this program has a name that will be written."""
        if self.options.pdf and self.count > 1:
            from funduscope.report.pdf import check_place

            for number in range(1, -(-self.count // MAX_PAGES) + 1):
                check_place(self.folder / _all_pages_name(number))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        # A broken pipe is of the reader of stdout; any other OSError is of the disk, which would refuse again.
        if not isinstance(error, OSError) or isinstance(error, BrokenPipeError):
            self._end()
            self._remove_later_files()

    @property
    def extra_outputs(self) -> ExtraOutputs | None:
        """What `report.write.save` calls to add files to a photo's folder; None if nothing is wanted."""
        return self._write if self.options.pdf or self.options.leaflet else None

    def add_findings(self, findings: Findings, traced: Traced | None = None) -> bytes | None:
        """Adds a photo's page to the file of all pages and returns it as a PDF file of its own; None without PDF."""
        if not self.options.pdf:
            return None
        from funduscope.report.pdf import Document
        from funduscope.report.pdf_page import PageContent, footer, page
        from funduscope.report.photo_jpegs import marked_jpeg

        traced = traced or trace_all(findings)
        picture = marked_jpeg(findings, self.options.palette, traced)
        figures = findings.card.about.get("figures", ())
        content = PageContent(traced.found, picture, self.options.palette, figures)
        line = footer(traced.found, self.words)
        self._add(lambda: page(content, self.words), line)
        alone = Document(self.options.language)
        alone.add(page(content, self.words), line)
        return alone.to_bytes()

    def add_failure(self, failure: Failure, *, lacks_study: bool = False) -> None:
        """Adds the page that says why a file could not be read. lacks_study: whether that is because DICOM objects are
        asked for, and it is no DICOM file."""
        if not self.options.pdf:
            return
        from funduscope.report.pdf_page import failure_page

        reason = self.words.error(failure.code, failure.says, LIMITS.message_values)
        reason = self.words("paper.no_study") if lacks_study else reason
        is_read = lacks_study or failure.code in OF_THE_MACHINE
        self._add(lambda: failure_page(failure.photo_name, reason, failure.code, self.words, is_read=is_read), "")

    def _write(self, findings: Findings, traced: Traced, folder: Path, stem: str) -> None:
        if self.options.leaflet:
            self._write_leaflet(findings, traced, folder, stem)
        pdf = self.add_findings(findings, traced)  # last: a photo that fails has no page in the file of all pages
        if pdf is not None:
            (folder / f"{stem}_{PAGE}").write_bytes(pdf)

    def _write_leaflet(self, findings: Findings, traced: Traced, folder: Path, stem: str) -> None:
        from funduscope.report.patient_leaflet import compose
        from funduscope.report.patient_leaflet_html import patient_leaflet_html
        from funduscope.report.photo_jpegs import unmarked_jpeg

        leaflet, picture = compose(traced.found, self.words), unmarked_jpeg(findings.photo)
        (folder / f"{stem}_{LEAFLET}.html").write_text(patient_leaflet_html(leaflet, picture), "utf-8")
        if self.options.pdf:
            from funduscope.report.patient_leaflet_pdf import patient_leaflet_pdf

            (folder / f"{stem}_{LEAFLET}.pdf").write_bytes(patient_leaflet_pdf(leaflet, picture))

    def _add(self, column: Callable[[], list[Any]], line: str) -> None:
        if self.count < 2:
            return
        from funduscope.report.pdf import Document

        self._pages += 1
        self._document = self._document or Document(self.options.language)
        number = self.words("paper.page", {"number": self._pages, "count": self.count})
        self._document.add(column(), f"{line} {number}".strip())
        if self._document.pages >= MAX_PAGES:
            self._end()

    def _end(self) -> None:
        if self._document is not None and self._document.pages:  # none if its first page was interrupted
            self._files += 1
            document, self._document = self._document, None
            write_atomically(self.folder / _all_pages_name(self._files), document.to_bytes())

    def _remove_later_files(self) -> None:
        """Removes the files with higher numbers that an earlier, longer run left."""
        if not self.options.pdf or not self._files:
            return
        from funduscope.report.pdf import check_place

        number = self._files + 1
        while (path := self.folder / _all_pages_name(number)).exists():
            with suppress(FileExistsError):
                check_place(path)
                path.unlink()
            number += 1


def _all_pages_name(number: int) -> str:
    return f"{ALL_PAGES}.pdf" if number == 1 else f"{ALL_PAGES}-{number}.pdf"
