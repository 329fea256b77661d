"""What the page gives away on paper: photos as pages of PDF, and sheets for patients, made when they are asked for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from funduscope.app.answers import grade_name
from funduscope.app.corrections import Corrections
from funduscope.app.many import Row
from funduscope.app.reviewed import advised, in_words
from funduscope.app.session import Session
from funduscope.app.uploads import model
from funduscope.i18n.languages import Words
from funduscope.imaging.photo import LIMITS
from funduscope.inference.findings import Failure, Findings
from funduscope.report.outline import Palette
from funduscope.report.patient_leaflet import Corrected, PatientLeaflet, compose
from funduscope.report.patient_leaflet_html import patient_leaflet_html
from funduscope.report.patient_leaflet_pdf import patient_leaflet_pdf
from funduscope.report.pdf import Document
from funduscope.report.pdf_page import OnPaper, foot, page, refused
from funduscope.report.photo_jpegs import alone_jpeg, marked_jpeg


def pages_pdf(session: Session, told: Sequence[Row], failed: Iterable[Failure], words: Words) -> bytes:
    """A page for each row, in their order, and one for each file that was refused; there must be one at least."""
    document, failed = Document(words.language), list(failed)
    count, figures = len(told) + len(failed), model().card.about.get("figures", ())
    for number, row in enumerate(told, start=1):
        entry = session.entries[row.key]
        said = _said(session.history(row.key).now, words)
        shown = OnPaper(row.found, session.picture(row.key), entry.palette, figures, said)
        line = f"{foot(row.found, words)} {words('paper.page', {'number': number, 'count': count})}"
        document.add(page(shown, words), line)
    for number, one in enumerate(failed, start=len(told) + 1):
        says = words.error(one.code, one.says, LIMITS.told)
        line = words("paper.page", {"number": number, "count": count})
        document.add(refused(one.photo_name, says, one.code, words), line)
    return document.finished()


def page_pdf(shown: Findings, now: Corrections, words: Words, palette: Palette) -> bytes:
    """The page of one photo as it is shown: under its thresholds and corrections."""
    found = advised(shown.to_dict(), now)
    figures = shown.card.about.get("figures", ())
    document = Document(words.language)
    on_paper = OnPaper(found, marked_jpeg(shown, palette), palette, figures, _said(now, words))
    document.add(page(on_paper, words), foot(found, words))
    return document.finished()


def patient_pdf(shown: Findings, now: Corrections, words: Words) -> bytes:
    """The sheet for the patient; a person's word counts before the model's."""
    return patient_leaflet_pdf(_sheet(shown, now, words), alone_jpeg(shown.photo))


def patient_html(shown: Findings, now: Corrections, words: Words) -> bytes:
    """The same sheet as a page for the browser."""
    return patient_leaflet_html(_sheet(shown, now, words), alone_jpeg(shown.photo)).encode()


def _sheet(shown: Findings, now: Corrections, words: Words) -> PatientLeaflet:
    return compose(shown.to_dict(), words, Corrected(now.grade, now.dme))


def _said(now: Corrections, words: Words) -> str:
    """All that a person said of the photo, as on the page."""
    return in_words(now, words, "" if now.grade is None else grade_name(now.grade, words))
