"""The OpenAPI document: what each route takes and answers, with examples."""

from __future__ import annotations

import json
from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from funduscope.i18n.errors import HTTP_STATUS, MEMORY
from funduscope.serve.answer_formats import DICOM, FHIR, JSON, ZIP
from funduscope.serve.limits import ServiceLimits

OPENAPI_PATH: Final = "/openapi.json"
DESCRIPTION: Final = (
    "Reads photographs of the back of the eye: diabetic retinopathy grade, macular edema risk, lesions, optic disc and "
    "fovea. For research and education; not a medical device."
)

_SENTENCES: Final = {
    "E_REQUEST": "the form has no file; expected one, the photo",
    "E_EMPTY": "the file is empty; expected a photo: copy it again",
    "E_TOKEN": "no valid token came; expected the header `Authorization: Bearer TOKEN`",
    "E_ORIGIN": "the request names another host, or comes from a page of another site",
    "E_METHOD": "the path takes another method: see /openapi.json",
    "E_ACCEPT": "no answer has the form that Accept asks for",
    "E_SLOW": "the body came too slowly",
    "E_TRIES": "more than 30 requests in a second had no valid token: retry later with a valid one",
    "E_TOO_LARGE": "the body is larger than the limit: save the photo smaller",
    "E_FORMAT": "the content is not a photo: export it as an ordinary JPEG, PNG or TIFF",
    "E_TRUNCATED": "the file ends too early; expected a whole file: copy it again",
    "E_CONFIG": "a value of the query cannot be used (frame)",
    "E_INTERNAL": "the worker process ended while it had this photo: send it again",
    "E_BUSY": "16 photos are waiting or being read, the queue is full: send the photo again later",
    "E_MEMORY": MEMORY,
    "E_DEADLINE": "the photo was not read within 60 s: send it again later",
}
"""Codes with an example of their sentence."""

_REFUSED_ANYWHERE: Final = ("E_REQUEST", "E_TOKEN", "E_TRIES", "E_ORIGIN", "E_METHOD", "E_INTERNAL")
_WHAT: Final = {
    400: "The request cannot be read, or has no photo.",
    401: "No valid token.",
    403: "Without tokens: a foreign host name, or a page of another site.",
    405: "Another method is expected.",
    406: "No answer has the form that Accept asks for.",
    408: "The body came too slowly.",
    413: "The body is larger than the limit. It is not read to its end.",
    415: "By its content the file is no JPEG, PNG, TIFF or DICOM photo.",
    422: "The photo is damaged or breaks a limit, or a value of the query cannot be used; the code says which.",
    429: "Too many requests without a valid token: see Retry-After.",
    500: "A fault in this program, or the process that read the photo ended.",
    503: "Too many photos wait, the model is not ready, memory is short, or the answer took too long: see Retry-After.",
}


def _refusals(*codes: str) -> dict[int | str, dict[str, Any]]:
    """The responses that these codes, and those of every route, may give."""
    by_status: dict[int, list[str]] = {}
    for code in (*codes, *_REFUSED_ANYWHERE):
        by_status.setdefault(HTTP_STATUS[code], []).append(code)
    return {status: _refusal(status, names) for status, names in sorted(by_status.items())}


def _refusal(status: int, codes: list[str]) -> dict[str, Any]:
    examples = {
        code: {"value": {"error": {"code": code, "says": _SENTENCES[code]}, "request": "0" * 32}} for code in codes
    }
    described: dict[str, Any] = {
        "description": _WHAT[status],
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
    **_refusals(
        *("E_EMPTY", "E_ACCEPT", "E_SLOW", "E_TOO_LARGE", "E_FORMAT", "E_TRUNCATED", "E_CONFIG", "E_BUSY"),
        *("E_DEADLINE", "E_MEMORY"),
    ),
}

_SCHEMAS: Final = {
    "Refusal": {
        "type": "object",
        "properties": {
            "error": {
                "type": "object",
                "properties": {
                    "code": {"enum": sorted(HTTP_STATUS), "description": "Stable; docs/errors.md lists them."},
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
