"""The forms of an answer, by media type, and which of them a request's `Accept` asks for."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from funduscope.serve.limits import RefusalError

if TYPE_CHECKING:
    from funduscope.inference.findings import Findings

JSON: Final = "application/json"
ZIP: Final = "application/zip"
FHIR: Final = "application/fhir+json"
DICOM: Final = "multipart/related"
"""Its parts are of the media type application/dicom, as DICOMweb (PS3.18) sends several objects at once."""

_PART: Final = "application/dicom"


@dataclass(frozen=True, eq=False)
class AnswerSource:
    """What an answer is made of. source: the photo's file. subject: in FHIR the reference to the patient, or None."""

    findings: Findings
    source: bytes
    subject: str | None = None


def _json(answered: AnswerSource) -> bytes:
    from funduscope.report.write import to_json

    return to_json(answered.findings.to_dict())


def _zip(answered: AnswerSource) -> bytes:
    from funduscope.report.write import zipped

    return zipped(answered.findings)


def _fhir(answered: AnswerSource) -> bytes:
    from funduscope.report.fhir import to_fhir

    bundle = to_fhir(answered.findings, subject=answered.subject)
    return json.dumps(bundle, ensure_ascii=False, allow_nan=False).encode("utf-8", "replace")


def _dicom(answered: AnswerSource) -> bytes:
    """Structured Report and Segmentation as the parts of a body that DICOMweb's STOW-RS takes as it is."""
    from funduscope.dicom.results import to_dicom

    parts = list(to_dicom(answered.findings, answered.source).files().values())
    # Of the parts' own hash: no part can contain it, whatever the photo's file says.
    boundary = hashlib.sha256(b"".join(parts)).hexdigest().encode()
    head = b"--" + boundary + b"\r\nContent-Type: " + _PART.encode() + b"\r\n\r\n"
    return b"".join(head + part + b"\r\n" for part in parts) + b"--" + boundary + b"--\r\n"


FORMATS: Final[dict[str, Callable[[AnswerSource], bytes]]] = {JSON: _json, ZIP: _zip, FHIR: _fhir, DICOM: _dicom}
"""Media type to what makes the answer's bytes; the first is the one for a request that does not choose."""


def content_type(media: str, body: bytes) -> str:
    """The Content-Type of an answer: the media type, of several parts with what they are and their boundary."""
    if media != DICOM:
        return media
    boundary = body.partition(b"\r\n")[0][2:].decode()
    return f'{DICOM}; type="{_PART}"; boundary={boundary}'


def choose(accept: str) -> str:
    """The media type that an `Accept` header prefers; of equal ones the first of `FORMATS`.

    Raises `RefusalError` E_ACCEPT if it takes none of them.
    """
    wanted = _weights(accept) or {"*/*": 1.0}
    best, chosen = 0.0, None
    for media in FORMATS:
        ranges = (media, f"{media.partition('/')[0]}/*", "*/*")
        weight = next((wanted[one] for one in ranges if one in wanted), 0.0)
        if weight > best:
            best, chosen = weight, media
    if chosen is None:
        raise RefusalError(
            "E_ACCEPT", f"no answer has the form that Accept asks for; expected one of: {', '.join(FORMATS)}"
        )
    return chosen


def _weights(accept: str) -> dict[str, float]:
    """Media range to its weight, q. Parts of another type than DICOM are none that there are."""
    weights: dict[str, float] = {}
    for part in accept.split(","):
        media, *parameters = (piece.strip().lower() for piece in part.split(";"))
        given = next((one[2:] for one in parameters if one.startswith("q=")), "1")
        try:
            weight = float(given)
        except ValueError:
            weight = 0.0
        if any(one.startswith("type=") and one[5:].strip('"') != _PART for one in parameters):
            weight = 0.0
        if media:
            weights[media] = max(weight, weights.get(media, 0.0))
    return weights
