"""From the bytes of an upload to what the session holds of it; one photo at a time, whoever asks."""

from __future__ import annotations

import hashlib
import io
import logging
import os
import threading
from importlib import resources
from pathlib import Path
from typing import Any, Final

import numpy as np
import simplejpeg
import streamlit as st
from PIL import Image

from funduscope.app.serve import MODEL_VARIABLE
from funduscope.app.shelf import Entry, Opened
from funduscope.errors import PhotoError
from funduscope.loading import load
from funduscope.photo import Photo
from funduscope.predict.ensemble import Ensemble
from funduscope.predict.findings import Failure, Findings
from funduscope.predict.outline import Palette, Traced, trace
from funduscope.predict.overlay import overlay
from funduscope.predict.predictor import Predictor

DEMO_PHOTO: Final = "hrf_07_dr.jpg"
PICTURE_WIDTH_PX: Final = 1600
_JPEG_QUALITY: Final = 94
"""Of the photo in the browser: its own pixels, without chroma subsampling, without what a camera wrote beside them."""

_ONE_AT_A_TIME = threading.Lock()
_log = logging.getLogger(__name__)


@st.cache_resource(show_spinner=False)
def model() -> Predictor | Ensemble:
    """The model, loaded once for every session."""
    named = [Path(part) for part in os.environ.get(MODEL_VARIABLE, "").split(os.pathsep) if part]
    return load(named) if named else load()


def demo_photo() -> bytes:
    """The bytes of the packaged photo."""
    return (resources.files("funduscope") / "demo" / DEMO_PHOTO).read_bytes()


def read(data: bytes, name: str, palette: Palette = "standard") -> tuple[Entry, Opened] | Failure:
    """Reads one file; whatever is wrong with it becomes a `Failure`, never an exception that would hold its name.

    palette: of the small picture that the PDF takes.
    """
    try:
        findings = _answered(data, name)
        opened = Opened(findings, _jpeg(findings.photo))
        entry = Entry(findings.photo.sha256, name, data, _told(findings), _small(findings, palette), palette)
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
    return Opened(findings, _jpeg(findings.photo))


def _answered(data: bytes, name: str) -> Findings:
    with _ONE_AT_A_TIME:  # two at once would be no quicker, and take twice the memory
        return model()(Photo.open(data, name=name))


def _internal(data: bytes, name: str, error: Exception) -> Failure:
    digest = hashlib.sha256(data).hexdigest()[:12]
    _log.error("photo %s met an unexpected %s", digest, type(error).__name__)
    says = f"an unexpected error met this photo ({type(error).__name__}): please report it"
    return Failure(name, getattr(error, "code", "E_INTERNAL"), says)


def _told(findings: Findings) -> dict[str, Any]:
    """findings.json's content without the list of every lesion, which is the larger part of it."""
    found = findings.to_dict()
    for lesion in (found["lesions"] or {}).values():
        lesion["objects"] = []
    return found


def _jpeg(photo: Photo) -> bytes:
    return simplejpeg.encode_jpeg(photo.pixels, quality=_JPEG_QUALITY, colorspace="RGB", colorsubsampling="444")


def _small(findings: Findings, palette: Palette) -> bytes:
    codes = findings.codes if findings.gradable_ok else ()
    traced = Traced(findings.to_dict(), {code: trace(findings.mask(code)) for code in codes})
    drawn = overlay(findings, width_px=PICTURE_WIDTH_PX, traced=traced, palette=palette)
    height = round(findings.photo.height * min(1, PICTURE_WIDTH_PX / findings.photo.width))
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(drawn[:height])).save(file, "JPEG", quality=85, subsampling=0)
    return file.getvalue()
