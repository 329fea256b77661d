"""Table, CSV, PDF and advice follow a person's corrections, whether the photo is open or not."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("streamlit", reason="the page needs the extra `app`")

from streamlit.testing.v1 import AppTest

from funduscope.app import printing, saving_view
from funduscope.app.edits import apply_edit
from funduscope.app.export_labels import LabeledPhoto, as_zip
from funduscope.app.import_labels import read_zip
from funduscope.app.many_view import as_csv
from funduscope.app.patients import patients, rows
from funduscope.app.printing import page_pdf, pages_pdf
from funduscope.app.reviewed import Corrections, History, describe, mark_complete, with_advice, without_objects
from funduscope.app.saving_view import restore_corrections
from funduscope.app.session import MAX_OPEN_PHOTOS, Entry, OpenPhoto, Session
from funduscope.i18n.languages import LANGUAGES, Words
from funduscope.i18n.messages import Message
from funduscope.imaging.framing import CropTransform
from funduscope.imaging.photo import Photo
from funduscope.inference.card import Card
from funduscope.inference.findings import Findings
from funduscope.report.html import report
from funduscope.report.patient_leaflet import PatientLeaflet, compose
from funduscope.report.photo_jpegs import marked_jpeg
from funduscope.vocabulary import CODES

SIDE = 300


def _findings(number: int, *, haemorrhages: int = 0) -> Findings:
    """A gray photo graded 0, with this many haemorrhages outlined."""
    planes = {code: np.zeros((SIDE, SIDE), np.float32) for code in CODES}
    for left in range(haemorrhages):
        planes["HE"][60:66, 20 + 20 * left : 26 + 20 * left] = 0.9
    pixels = np.full((SIDE, SIDE, 3), 90, np.uint8)
    pixels[::7] = 120 + number
    grades, risks = np.array([0.9, 0.04, 0.02, 0.02, 0.02]), np.array([0.9, 0.05, 0.05])
    transform, card = CropTransform(0, 0, SIDE, SIDE, SIDE, SIDE), Card(whole_px=SIDE, close_px=SIDE, landmarks=())
    photo = Photo.open(pixels, name=f"{number}.jpg")
    return Findings(photo, transform, card, "0" * 64, class_probs={"grade": grades, "dme": risks}, frame_probs=planes)


def _put(session: Session, findings: Findings) -> str:
    key = findings.photo.sha256
    entry = Entry(key, findings.photo.name, b"", without_objects(findings), marked_jpeg(findings, "standard"), b"")
    session.add(entry, OpenPhoto(findings, b""))
    return key


@pytest.mark.parametrize("stated", [Corrections(grade=3), Corrections(dme=1)])
def test_a_person_s_grade_or_risk_refers(stated: Corrections) -> None:
    session = Session()
    healthy, other = (_put(session, _findings(number)) for number in range(2))
    assert [patient.state for patient in patients(session)] == ["person", "person"], "the photos have no color"
    session.history(other).step(stated)
    assert [row.key for row in rows(session)] == [other, healthy]
    assert patients(session)[0].is_referred
    table = list(csv.DictReader(io.StringIO(as_csv(rows(session), []).decode("utf-8-sig"))))
    assert [line["refer"] for line in table] == ["yes", "no"]
    session.history(other).undo()
    assert not any(patient.is_referred for patient in patients(session))


@pytest.mark.parametrize("grade", [None, 0, 1, 2])
@pytest.mark.parametrize("dme", [None, 0, 1])
@pytest.mark.parametrize("haemorrhages", [0, 3])
def test_page_and_leaflet_give_the_same_advice(grade: int | None, dme: int | None, haemorrhages: int) -> None:
    found, words = _findings(0, haemorrhages=haemorrhages).to_dict(), Words()
    shown = with_advice(found, Corrections(grade=grade, dme=dme))
    is_open = shown["headline"]["referral"]["code"] == "NO_REFERRAL_PERSON"  # the photo has no color
    step = "refer" if shown["advice"]["refer"] else "clinic" if is_open else "no_referral"
    leaflet = compose(found, words, grade=grade, dme=dme)
    assert words(f"sheet.next.{step}") in leaflet.parts[2].says


@pytest.mark.parametrize("grade", [None, 0, 1, 2])
def test_page_and_leaflet_follow_a_clinics_own_table(
    grade: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that has an eye of grade 1 seen soon."""
    own = tmp_path / "urgency.toml"
    own.write_text('grade = ["routine", "soon", "soon", "urgent", "urgent"]\ndme = ["routine", "soon", "soon"]\n')
    monkeypatch.setenv("FUNDUSCOPE_URGENCY", str(own))
    found, words = _findings(0).to_dict(), Words()
    shown = with_advice(found, Corrections(grade=grade))
    assert shown["advice"]["refer"] is bool(grade)
    codes = {None: "NO_REFERRAL_PERSON", 0: "NO_REFERRAL"}  # the photo has no color
    assert shown["headline"]["referral"]["code"] == codes.get(grade, "REFER_SOON")
    leaflet = compose(found, words, grade=grade)
    step = {None: "clinic", 0: "no_referral"}.get(grade, "refer")
    assert words(f"sheet.next.{step}") in leaflet.parts[2].says
    told = {part["code"] for part in found["headline"].values() if part}
    assert (words("sheet.found.unsure") in leaflet.parts[1].after) is (
        grade is None and "TRUST_UNLIKE_TRAINING" in told
    )


def test_of_several_photos_in_one_picture_report_and_pdf_say_no_referral_and_are_made() -> None:
    findings = replace(_findings(0), reasons=(Message("SEVERAL_PHOTOS", ""),), forced=True)
    found, words = findings.to_dict(), Words()
    assert found["advice"] is not None
    assert found["headline"]["referral"] is None
    assert found["headline"]["trust"]["says"] in report(findings)
    assert page_pdf(findings, Corrections(), words, "standard").startswith(b"%PDF")


def test_the_leaflet_follows_what_was_stated_and_doubts_what_was_not() -> None:
    words = Words()

    def leaflet(grades: list[float], risks: list[float], **stated: int) -> PatientLeaflet:
        probs = {"grade": np.array(grades), "dme": np.array(risks)}
        return compose(replace(_findings(0), class_probs=probs).to_dict(), words, **stated)

    surely_none, surely_two = [0.9, 0.04, 0.02, 0.02, 0.02], [0.01, 0.01, 0.98]
    healthy = leaflet(surely_none, surely_two, dme=0)
    assert words("sheet.next.clinic") in healthy.parts[2].says, "of a photo without color a person decides"
    undecided = [0.3, 0.36, 0.34, 0.0, 0.0]
    assert words("sheet.found.unsure") in leaflet(undecided, [0.98, 0.01, 0.01], dme=0).parts[1].after
    assert words("sheet.found.unsure") not in leaflet(undecided, [0.98, 0.01, 0.01], dme=0, grade=0).parts[1].after


def test_nothing_says_no_referral_where_retinopathy_was_not_assessed() -> None:
    """By a model of edema risk alone: the page's table, the leaflet, the report and the PDF."""
    findings, words = _findings(0), Words()
    findings = replace(findings, class_probs={"dme": findings.class_probs["dme"]}, frame_probs={})
    found = findings.to_dict()
    session = Session()
    _put(session, findings)
    assert patients(session)[0].state == "person"
    assert words("sheet.next.clinic") in compose(found, words).parts[2].says
    assert found["headline"]["referral"]["says"] in report(findings)
    assert page_pdf(findings, Corrections(), words, "standard").startswith(b"%PDF")


def test_what_a_person_did_to_a_file_stands_when_it_is_dropped_again() -> None:
    session, findings = Session(), _findings(0)
    key = _put(session, findings)
    session.entries[key] = replace(session.entries[key], forced=True, original="of the saved corrections")
    session.open(key, OpenPhoto(findings, b"graded anyway"))
    _put(session, findings)
    assert session.entries[key].forced
    assert session.restored_from("of the saved corrections") == key
    assert session.opened[key].jpeg == b"graded anyway"


def test_a_restored_photo_whose_bytes_were_removed_comes_back_with_its_original() -> None:
    session, findings = Session(), _findings(0)
    key = _put(session, findings)
    session.entries[key] = replace(session.entries[key], original="of the saved corrections", data=None)
    session.opened.clear()
    again = replace(session.entries[key], key="of the saved corrections", data=b"the original")
    session.bring_back(key, again, None)
    assert session.entries[key].data == b"the original"
    session.bring_back(key, replace(again, data=b"another"), None)
    assert session.entries[key].data == b"the original", "what is there stays"


def test_what_was_undone_is_not_redone_over_restored_corrections() -> None:
    history = History()
    history.step(Corrections(grade=1))
    history.undo()
    history.restore(Corrections(grade=3))
    history.redo()
    assert history.now == Corrections(grade=3)


def test_counts_and_advice_follow_deleted_lesions_after_the_photo_was_closed() -> None:
    session, findings = Session(), _findings(0, haemorrhages=1)
    key = _put(session, findings)
    assert [patient.is_referred for patient in patients(session)] == [True]
    before = session.picture(key)
    edit = {"what": "delete", "code": "HE", "points": [[22.5, 62.5]]}
    session.history(key).step(apply_edit(findings, Corrections(), edit))

    def check() -> None:
        (row,) = (row for row in rows(session) if row.key == key)
        assert row.found["lesions"]["HE"]["count"] == 0
        assert row.answer.state == "person"
        assert row.corrections.by_hand == {"HE"}
        assert session.picture(key) != before

    check()
    for number in range(1, MAX_OPEN_PHOTOS + 1):
        _put(session, _findings(number))
    assert key not in session.opened
    check()


def test_a_record_names_who_corrected_when_and_what_was_done() -> None:
    session, findings, words = Session(), _findings(0, haemorrhages=2), Words()
    key = _put(session, findings)
    delete = {"what": "delete", "code": "HE", "points": [[22.5, 62.5]]}
    session.correct(key, apply_edit(findings, Corrections(), delete))
    assert "by a person who gave no name: " in describe(session.history(key).now, words)

    session.name_grader("A. Rao")
    record = describe(session.history(key).now, words)
    assert record.startswith("Corrected by A. Rao, 20")
    assert record.endswith(": changed by hand, without a threshold: Haemorrhages (1 deleted)")
    draw = {"what": "draw", "code": "HE", "points": [[100, 100], [120, 100], [110, 120]]}
    session.correct(key, apply_edit(session.shown(key, session.opened[key]), session.history(key).now, draw))
    session.name_grader("B. Cruz")
    session.correct(key, replace(session.history(key).now, grade=2))
    record = describe(session.history(key).now, words)
    assert record.startswith("Corrected by A. Rao, B. Cruz, 20")
    assert record.endswith("; changed by hand, without a threshold: Haemorrhages (1 deleted, 1 drawn)")
    assert "retinopathy: 2 Moderate;" in record

    (line,) = csv.DictReader(io.StringIO(as_csv(rows(session), []).decode("utf-8-sig")))
    assert (line["corrected_edits"], line["corrected_by"]) == ("HE deleted 1, HE drawn 1", "A. Rao, B. Cruz")
    now = session.history(key).now
    (saved,) = read_zip(as_zip([LabeledPhoto(findings.photo, now, {})]))
    assert describe(saved.corrections, words) == record


@pytest.mark.parametrize(("haemorrhages", "risk", "rests"), [(0, 0, False), (0, 2, True), (3, 0, False)])
def test_a_stated_grade_0_asks_for_the_edema_risk_and_says_what_the_referral_rests_on(
    haemorrhages: int, risk: int, rests: bool
) -> None:
    findings = _findings(0, haemorrhages=haemorrhages)
    findings = replace(findings, class_probs={**findings.class_probs, "dme": np.eye(3)[risk] * 0.9 + 0.03})
    found = with_advice(findings.to_dict(), Corrections(grade=0))

    def script(found, grade, dme=None):  # type: ignore[no-untyped-def]  # run as a text of its own
        from funduscope.app.one_view import _ask_edema
        from funduscope.app.reviewed import Corrections
        from funduscope.i18n.languages import Words

        _ask_edema(found, Corrections(grade, dme), Words())

    page = AppTest.from_function(script, args=(found,), kwargs={"grade": 0}, default_timeout=60).run()
    (question,) = page.warning if rests else page.info
    says = question.value.replace("\\", "")
    assert "Which macular edema risk?" in says
    assert ("Macular edema risk 2: risk 1 or more is referable." in says) is rests
    page = AppTest.from_function(script, args=(found,), kwargs={"grade": 0, "dme": 0}, default_timeout=60).run()
    assert not [*page.warning, *page.info]


def test_corrections_from_a_file_apply_before_their_photo_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    session, findings = Session(), _findings(0, haemorrhages=1)
    key = _put(session, findings)
    session.opened.clear()
    stated = apply_edit(findings, Corrections(), {"what": "delete", "code": "HE", "points": [[22.5, 62.5]]})
    stated = mark_complete(findings, stated, frozenset({"HE"}))
    monkeypatch.setattr(saving_view, "open_photo", lambda *_: OpenPhoto(findings, b""))
    saved = as_zip([LabeledPhoto(findings.photo, stated, {"HE": np.zeros((SIDE, SIDE), bool)})])
    assert restore_corrections(session, saved, "corrections.zip") == key
    assert rows(session)[0].found["lesions"]["HE"]["count"] == 0


@pytest.mark.slow
def test_the_pdf_states_all_corrections(monkeypatch: pytest.MonkeyPatch) -> None:
    findings = _findings(0, haemorrhages=2)
    stated = apply_edit(findings, Corrections(), {"what": "delete", "code": "HE", "points": [[22.5, 62.5]]})
    stated = replace(mark_complete(findings, stated, frozenset({"HE", "EX"})), fovea_xy=(150.0, 150.0), grade=2)
    on_paper: list[Any] = []
    made = printing.PageContent
    monkeypatch.setattr(printing, "PageContent", lambda *given: on_paper.append(made(*given)) or on_paper[-1])
    session = Session()
    session.history(_put(session, findings)).step(stated)
    for language in LANGUAGES:
        words = Words(language)
        assert pages_pdf(session, list(session.entries), words).startswith(b"%PDF")
        assert page_pdf(findings, stated, words, "standard").startswith(b"%PDF")
        for one in on_paper[-2:]:
            assert one.found["advice"]["refer"]
            assert one.found["lesions"]["HE"]["threshold"] is None, "no threshold applies to a person's outlines"
            assert one.found["lesions"]["EX"]["threshold"] is not None
            assert f"{words('correct.by_hand')}: {words.structure('HE')}" in one.corrected
            assert f"{words('correct.confirmed')}: {words.structure('EX')}" in one.corrected
            assert words("correct.fovea") in one.corrected
    assert describe(Corrections(), Words()) == ""
