"""What the routes answer, for FastAPI: it checks answers by these and makes the OpenAPI document."""

from __future__ import annotations

import json
from typing import Any, Final, Literal

from fastapi import FastAPI
from pydantic import BaseModel, Field, JsonValue

from funduscope.i18n.error_codes import ERROR_CODES, PHOTO_CODES
from funduscope.serve.answer_formats import DICOM, FHIR, JSON, ZIP

Responses = dict[int | str, dict[str, Any]]
"""What FastAPI takes as the responses of a route, by status."""


class RefusalReason(BaseModel):
    """Why a request is refused."""

    code: str = Field(
        description="Stable; docs/errors.md lists them.",
        json_schema_extra={"enum": list[JsonValue](sorted(ERROR_CODES))},
    )
    says: str = Field(description="What came, what was expected, what to do.")


class Refusal(BaseModel):
    """The answer to a request that is refused."""

    error: RefusalReason
    request: str = Field(description="The number of the request in the service's log.")


class Health(BaseModel):
    """The answer of a service that is well."""

    ok: Literal[True] = True


class ModelDescription(BaseModel):
    """The model that answers."""

    name: str
    version: str
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    research_only: bool
    license: str | None = Field(description="The terms; null for a custom model.")
    intended_use: str
    not_a_medical_device: Literal[True]
    card: dict[str, Any] = Field(description="Views, thresholds and what else makes answers of its numbers.")


# E_NOT_FOUND is of an address that the service does not have, not of a photo that is sent.
_PHOTO_REFUSALS: Final = tuple(code for code in PHOTO_CODES if code != "E_NOT_FOUND")
_REFUSED_ANYWHERE: Final = ("E_REQUEST", "E_TOKEN", "E_ORIGIN", "E_METHOD", "E_INTERNAL")


def refusals(*codes: str) -> Responses:
    """Return the responses that these codes, and those of every route, may give."""
    by_status: dict[int, list[str]] = {}
    for code in (*codes, *_REFUSED_ANYWHERE):
        by_status.setdefault(ERROR_CODES[code].http_status, []).append(code)
    return {status: _refusal(status, names) for status, names in sorted(by_status.items())}


def _refusal(status: int, codes: list[str]) -> dict[str, Any]:
    examples: dict[str, Any] = {}
    for code in codes:
        error = {"code": code, "says": ERROR_CODES[code].sentence}
        examples[code] = {"value": {"error": error, "request": "0" * 32}}

    meanings = "; ".join(ERROR_CODES[code].meaning for code in codes)
    response: dict[str, Any] = {
        "model": Refusal,
        "description": f"{meanings[0].upper()}{meanings[1:]}.",
        "content": {JSON: {"examples": examples}},
    }
    if status == 503:
        seconds = {"type": "integer", "minimum": 1}
        response["headers"] = {"Retry-After": {"description": "Seconds.", "schema": seconds}}
    return response


_FILE: Final = {"schema": {"type": "string", "format": "binary"}}

FINDINGS_RESPONSES: Final[Responses] = {
    200: {
        "description": "The findings. Of a photo that cannot be graded `gradable.ok` is false.",
        "content": {
            JSON: {"schema": {"$ref": "#/components/schemas/Findings"}},
            ZIP: _FILE,
            DICOM: _FILE,
            FHIR: {"schema": {"type": "object", "required": ["resourceType", "type", "entry"]}},
        },
        "headers": {"Vary": {"schema": {"type": "string"}}},
    },
    **refusals(*_PHOTO_REFUSALS, "E_ACCEPT", "E_SLOW", "E_CONFIG", "E_BUSY", "E_DEADLINE", "E_MEMORY"),
}

_FORM: Final = {
    "type": "object",
    "properties": {"photo": {"type": "string", "format": "binary"}},
    "required": ["photo"],
    "additionalProperties": False,
}
PHOTO_BODY: Final = {
    "required": True,
    "description": "The photo's file. Its content decides what it is, not the media type.",
    "content": {
        "image/jpeg": _FILE,
        "image/png": _FILE,
        "image/tiff": _FILE,
        "application/dicom": _FILE,
        "application/octet-stream": _FILE,
        "multipart/form-data": {"schema": _FORM},
    },
}
"""FastAPI cannot know it: the route reads its body itself, with the limits of `limits`."""


def complete_document(app: FastAPI) -> None:
    """Add to the OpenAPI document of an application what FastAPI cannot know.

    That is the schema of findings.json, which is a file of the package, and the optional token.
    """
    from funduscope.report.write import findings_schema

    schema = findings_schema()
    for key in ("$schema", "$id"):
        schema.pop(key, None)
    text = json.dumps(schema).replace('"#/$defs/', '"#/components/schemas/Findings/$defs/')

    document = app.openapi()
    document["components"]["schemas"]["Findings"] = json.loads(text)
    document["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    document["security"] = [{"token": []}, {}]
