"""From the bytes of an upload to what the session holds of it; one photo at a time, whoever asks."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import threading
from contextlib import suppress
from importlib import import_module, resources
from pathlib import Path
from typing import Final

import cv2
import numpy as np
import simplejpeg
import streamlit as st

from funduscope.app.reviewed import told
from funduscope.app.server import MODEL_VARIABLE
from funduscope.app.session import Entry, Opened
from funduscope.app.threshold_sliders import planes
from funduscope.explain.counterfactual import Change, counterfactual
from funduscope.i18n.errors import CODES, PhotoError
from funduscope.imaging.photo import Photo
from funduscope.inference.ensemble import Ensemble
from funduscope.inference.findings import Failure, Findings
from funduscope.inference.loading import load
from funduscope.inference.predictor import OnGrade, Predictor
from funduscope.report.outline import Palette
from funduscope.report.photo_jpegs import marked_jpeg

DEMO_PHOTO: Final = "hrf_07_dr.jpg"
_JPEG_QUALITY: Final = 94
"""Of the photo in the browser: its own pixels, without chroma subsampling, without what a camera wrote beside them."""

_SMALL_PX: Final = 960
"""As wide as the photo stands on a page of usual width."""

_TABLES: Final = ("pandas", "pyarrow")
"""What Streamlit draws its tables with, and imports when it draws the first: a second that the first answer need not
wait for."""

_ONE_AT_A_TIME = threading.Lock()
_log = logging.getLogger(__name__)


@st.cache_resource(show_spinner=False)
def model() -> Predictor | Ensemble:
    """The model, loaded once for every session, and ready: its first answer takes nearly twice as long as the next."""
    named = [Path(part) for part in json.loads(os.environ.get(MODEL_VARIABLE) or "[]")]
    found = load(named) if named else load()
    with suppress(Exception):  # whatever is wrong, the first photo meets it again, and there it is told
        findings = found(Photo.open(demo_photo(), name=DEMO_PHOTO))
        _opened(findings)
        marked_jpeg(findings, "standard")
    for package in _TABLES:
        import_module(package)
    return found


def demo_photo() -> bytes:
    """The bytes of the packaged photo."""
    return (resources.files("funduscope") / "demo" / DEMO_PHOTO).read_bytes()


def read(
    data: bytes, name: str, palette: Palette = "standard", on_grade: OnGrade | None = None
) -> tuple[Entry, Opened] | Failure:
    """Reads one file; whatever is wrong with it becomes a `Failure`, never an exception that would hold its name.

    palette: of the small picture that the PDF takes. on_grade: is given the grade before lesions are sought.
    """
    try:
        findings = _answered(data, name, on_grade)
        opened = _opened(findings)
        entry = Entry(findings.photo.sha256, name, data, told(findings), marked_jpeg(findings, palette), palette)
    except PhotoError as error:
        return Failure(name, error.code, error.says)
    except Exception as error:
        return _internal(data, name, error)
    return entry, opened


def reopened(entry: Entry) -> Opened | None:
    """A photo of the session, read once more from its bytes; None where they were let go."""
    if entry.data is None:
        return None
    findings = _answered(entry.data, entry.name)
    return _opened(findings)


def _opened(findings: Findings) -> Opened:
    return Opened(findings, _jpeg(findings.photo), planes(findings))


def filled_in(shown: Findings) -> tuple[Change, ...]:
    """What filling in each kind of lesion, as outlined in these findings, changes of the answer."""
    with _ONE_AT_A_TIME:
        return counterfactual(model(), shown)


def small_picture(photo: Photo) -> bytes:
    """A JPEG of a photo, `_SMALL_PX` wide at most."""
    height = max(1, round(photo.height * _SMALL_PX / photo.width))
    pixels = photo.pixels
    if photo.width > _SMALL_PX:
        pixels = cv2.resize(pixels, (_SMALL_PX, height), interpolation=cv2.INTER_AREA)
    return simplejpeg.encode_jpeg(np.ascontiguousarray(pixels), quality=_JPEG_QUALITY, colorspace="RGB")


def _answered(data: bytes, name: str, on_grade: OnGrade | None = None) -> Findings:
    with _ONE_AT_A_TIME:  # two at once would be no quicker, and take twice the memory
        answers, photo = model(), Photo.open(data, name=name)
        return answers(photo, on_grade=on_grade) if isinstance(answers, Predictor) else answers(photo)


def _internal(data: bytes, name: str, error: Exception) -> Failure:
    """A fault, which the person is asked to report; trouble with the model has a code and a sentence of its own."""
    digest = hashlib.sha256(data).hexdigest()[:12]
    _log.error("photo %s met an unexpected %s", digest, type(error).__name__)
    code, says = getattr(error, "code", None), getattr(error, "says", None)
    if code in CODES and isinstance(says, str):
        return Failure(name, code, says)
    return Failure(name, "E_INTERNAL", f"an unexpected error met this photo ({type(error).__name__}): please report it")


def _jpeg(photo: Photo) -> bytes:
    return simplejpeg.encode_jpeg(photo.pixels, quality=_JPEG_QUALITY, colorspace="RGB", colorsubsampling="444")
