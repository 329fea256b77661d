"""The OpenAPI document: what each route takes and answers, with examples."""

from __future__ import annotations

import json
from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from funduscope.i18n.error_codes import ERROR_CODES, PHOTO_CODES
from funduscope.serve.answer_formats import DICOM, FHIR, JSON, ZIP
from funduscope.serve.limits import ServiceLimits

OPENAPI_PATH: Final = "/openapi.json"
DESCRIPTION: Final = (
    "Reads photographs of the back of the eye: diabetic retinopathy grade, macular edema risk, lesions, optic disc and "
    "fovea. For research and education; not a medical device."
)

# E_NOT_FOUND is of an address that the service does not have, not of a photo that is sent.
_PHOTO_REFUSALS: Final = tuple(code for code in PHOTO_CODES if code != "E_NOT_FOUND")
_REFUSED_ANYWHERE: Final = ("E_REQUEST", "E_TOKEN", "E_TRIES", "E_ORIGIN", "E_METHOD", "E_INTERNAL")


def _refusals(*codes: str) -> dict[int | str, dict[str, Any]]:
    """The responses that these codes, and those of every route, may give."""
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
    described: dict[str, Any] = {
        "description": f"{meanings[0].upper()}{meanings[1:]}.",
        "content": {JSON: {"schema": {"$ref": "#/components/schemas/Refusal"}, "examples": examples}},
    }
    if status in (429, 503):
        described["headers"] = {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer", "minimum": 1}}}
    return described


def _answered(description: str, media: str, schema: dict[str, Any], example: Any = None) -> dict[str, Any]:
    content = {"schema": schema} if example is None else {"schema": schema, "example": example}
    return {"description": description, "content": {media: content}}


_OK: Final = {"type": "object", "properties": {"ok": {"const": True}}, "required": ["ok"]}
HEALTH: Final = {200: _answered("Yes.", JSON, _OK, {"ok": True}), **_refusals("E_BUSY")}
METRICS: Final = {
    200: _answered("Prometheus's text form.", "text/plain", {"type": "string"}, "funduscope_ready 1.0\n"),
    **_refusals(),
}
_MODEL_EXAMPLE: Final = {
    "name": "funduscope",
    "version": "0.1.0",
    "sha256": "0" * 64,
    "research_only": True,
    "license": "Terms of the weights in this folder ...",
    "intended_use": "Research and education on color photographs of the back of the eye. Not a medical device.",
    "not_a_medical_device": True,
    "card": {"close_px": 1440, "structures": ["MA", "HE", "EX", "SE", "OD"]},
}
MODEL: Final = {
    200: _answered("The model.", JSON, {"$ref": "#/components/schemas/Model"}, _MODEL_EXAMPLE),
    **_refusals("E_BUSY"),
}
FINDINGS: Final = {
    200: {
        "description": "The findings. A photo that cannot be graded is an answer too: `gradable.ok` is false there.",
        "content": {
            JSON: {"schema": {"$ref": "#/components/schemas/Findings"}},
            ZIP: {"schema": {"type": "string", "format": "binary"}},
            DICOM: {"schema": {"type": "string", "format": "binary"}},
            FHIR: {"schema": {"type": "object", "required": ["resourceType", "type", "entry"]}},
        },
        "headers": {"Vary": {"schema": {"type": "string"}}},
    },
    **_refusals(*_PHOTO_REFUSALS, "E_ACCEPT", "E_SLOW", "E_CONFIG", "E_BUSY", "E_DEADLINE", "E_MEMORY"),
}

_SCHEMAS: Final = {
    "Refusal": {
        "type": "object",
        "properties": {
            "error": {
                "type": "object",
                "properties": {
                    "code": {"enum": sorted(ERROR_CODES), "description": "Stable; docs/errors.md lists them."},
                    "says": {"type": "string", "description": "What came, what was expected, what to do."},
                },
                "required": ["code", "says"],
            },
            "request": {"type": "string", "description": "The number of the request in the service's log."},
        },
        "required": ["error", "request"],
    },
    "Model": {
        "type": "object",
        "properties": {
            "name": {"type": "string"},
            "version": {"type": "string"},
            "sha256": {"type": "string", "pattern": "^[0-9a-f]{64}$"},
            "research_only": {"type": "boolean"},
            "license": {"type": ["string", "null"], "description": "The terms; null for a custom model."},
            "intended_use": {"type": "string"},
            "not_a_medical_device": {"const": True},
            "card": {"type": "object", "description": "Views, thresholds and what else makes answers of its numbers."},
        },
        "required": ["name", "version", "sha256", "research_only", "license", "intended_use", "card"],
    },
}
_PHOTO: Final = {"schema": {"type": "string", "format": "binary"}}
_BODY: Final = {
    "required": True,
    "description": "The photo's file. Its content decides what it is, not the media type.",
    "content": {
        **dict.fromkeys(("image/jpeg", "image/png", "image/tiff", "application/dicom"), _PHOTO),
        "application/octet-stream": _PHOTO,
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "properties": {"photo": {"type": "string", "format": "binary"}},
                "required": ["photo"],
                "additionalProperties": False,
            }
        },
    },
}


def complete(app: FastAPI, limits: ServiceLimits) -> dict[str, Any]:
    """The document of the application, made once: its routes, the schema of findings.json, the limits in words."""
    if app.openapi_schema is None:
        document = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
        schemas = document.setdefault("components", {}).setdefault("schemas", {})
        schemas.clear()  # FastAPI's own form of validation errors, which is not used
        schemas.update(_SCHEMAS, Findings=_findings())
        document["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        document["security"] = [{"token": []}, {}]
        post = document["paths"]["/v1/findings"]["post"]
        post["requestBody"] = _BODY
        post["description"] += (
            f" At most {limits.max_body_bytes} bytes; {limits.queue} photos wait or are read at once, any other is"
            f" answered with 503; each has {limits.deadline_s:g} s."
        )
        app.openapi_schema = document
    return app.openapi_schema


def _findings() -> dict[str, Any]:
    """The schema of findings.json, its references leading to where it stands in the document."""
    from funduscope.report.write import findings_schema

    schema = {key: value for key, value in findings_schema().items() if key not in ("$schema", "$id")}
    return json.loads(json.dumps(schema).replace('"#/$defs/', '"#/components/schemas/Findings/$defs/'))
