"""Reads uploaded files into what the session keeps. One photo is read at a time, for all sessions together."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import threading
from contextlib import suppress
from dataclasses import replace
from typing import Final

import streamlit as st

from funduscope.app import MODEL_VARIABLE
from funduscope.app.reviewed import without_objects
from funduscope.app.session import Entry, OpenPhoto, Session
from funduscope.app.viewer_data import probability_pngs
from funduscope.explain.counterfactual import Change, counterfactual
from funduscope.i18n.errors import PhotoError, code_and_sentence
from funduscope.imaging.demo_photo import DEMO_PHOTO, demo_photo
from funduscope.imaging.photo import Photo
from funduscope.inference.findings import Failure, Findings
from funduscope.inference.loading import load
from funduscope.inference.model import Model, OnGrade
from funduscope.report.outline import Palette
from funduscope.report.overlay import shrunk
from funduscope.report.photo_jpegs import jpeg, marked_jpeg

_JPEG_QUALITY: Final = 94
"""Quality of the photo in the browser, which is encoded again from its pixels, without chroma subsampling and without
metadata."""

_PREVIEW_WIDTH_PX: Final = 960
"""About the width of the photo on a page of usual width."""

_THUMBNAIL_WIDTH_PX: Final = 320
"""Twice the width of a photo in the list of patients, for fine screens."""

_LOCK = threading.Lock()
_log = logging.getLogger(__name__)


@st.cache_resource(show_spinner=False)
def model() -> Model:
    """The model, loaded once for all sessions and warmed up: its first prediction takes almost twice as long."""
    loaded = load(json.loads(os.environ.get(MODEL_VARIABLE) or "[]") or None)
    with suppress(Exception):  # a fault shows up again with the first photo, and is reported there
        findings = loaded(Photo.open(demo_photo().read_bytes(), name=DEMO_PHOTO))
        _prepare(findings)
        marked_jpeg(findings, "standard")
    # Streamlit imports these with its first component, which takes a second: now, so that no answer waits for them.
    import pandas  # noqa: F401
    import pyarrow  # noqa: F401

    return loaded


def read_upload(
    data: bytes,
    name: str,
    palette: Palette = "standard",
    on_grade: OnGrade | None = None,
    *,
    frame: int | None = None,
    force: bool = False,
) -> tuple[Entry, OpenPhoto] | Failure:
    """Reads one file; every error becomes a `Failure`, so that no exception carries the file's name.

    name: of the photo. palette: of the small picture for the PDF. on_grade: gets the findings once the grade is known,
    before lesions are.
    frame: of a DICOM file of several frames, which one. force: see `Model`.
    """
    try:
        findings = _predict(data, name, on_grade, frame=frame, force=force)
        opened = _prepare(findings)
        picture = marked_jpeg(findings, palette)
        thumbnail = jpeg(shrunk(findings.photo.pixels, _THUMBNAIL_WIDTH_PX))
    except PhotoError as error:
        return Failure(name, error.code, error.says)
    except Exception as error:
        _log.error("photo %s: unexpected %s", hashlib.sha256(data).hexdigest()[:12], type(error).__name__)
        return Failure(name, *code_and_sentence(error))
    photo = findings.photo
    entry = Entry(photo.sha256, name, data, without_objects(findings), picture, thumbnail, palette)
    return replace(entry, forced=force, frame=frame, acquired_on=photo.stated.acquired_on), opened


def open_photo(session: Session, key: str) -> OpenPhoto | None:
    """A photo of the session, read again from its bytes where it is not open; None if the bytes were removed."""
    entry = session.entries[key]
    if key in session.opened or entry.data is None:
        return session.opened.get(key)
    return _prepare(_predict(entry.data, entry.name, frame=entry.frame, force=entry.forced))


def grade_anyway(session: Session, key: str, palette: Palette) -> Failure | None:
    """Reads a refused photo of the session again and answers all the same; the failure where it cannot be read."""
    entry = session.entries[key]
    if entry.data is None:
        return None
    answer = read_upload(entry.data, entry.name, palette, frame=entry.frame, force=True)
    if isinstance(answer, Failure):
        return answer
    session.entries[key] = replace(answer[0], original=entry.original)
    session.open(key, answer[1])
    return None


def run_counterfactual(shown: Findings) -> tuple[Change, ...]:
    """How the answer changes when each kind of lesion, as outlined in these findings, is filled in."""
    with _LOCK:
        return counterfactual(model(), shown)


def preview_jpeg(photo: Photo) -> bytes:
    """A JPEG of a photo, at most 960 px wide."""
    return jpeg(shrunk(photo.pixels, _PREVIEW_WIDTH_PX), _JPEG_QUALITY)


def _prepare(findings: Findings) -> OpenPhoto:
    return OpenPhoto(findings, jpeg(findings.photo.pixels, _JPEG_QUALITY), probability_pngs(findings))


def _predict(
    data: bytes, name: str, on_grade: OnGrade | None = None, *, frame: int | None = None, force: bool = False
) -> Findings:
    with _LOCK:  # two photos at once would be no faster, and need twice the memory
        photo = replace(Photo.open(data, dicom_frame=frame), name=name)
        return model()(photo, on_grade=on_grade, force=force)
