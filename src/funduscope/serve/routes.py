"""The routes: findings of a photo, the model, health, figures."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from email.message import Message
from typing import Annotated, Final

from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.responses import PlainTextResponse, Response

from funduscope.i18n.errors import CodedError
from funduscope.imaging.dicom_file import MAX_FRAMES
from funduscope.report.fhir import REFERENCE
from funduscope.serve.answer_formats import ZIP, choose, content_type
from funduscope.serve.answer_models import (
    FINDINGS_RESPONSES,
    PHOTO_BODY,
    Health,
    ModelDescription,
    complete_document,
    refusals,
)
from funduscope.serve.auth import Guard
from funduscope.serve.json_logs import JsonLog
from funduscope.serve.limits import BodyMemory, ClientGoneError, RefusalError, ServiceLimits, check_declared, read_body
from funduscope.serve.request_gate import GONE, RequestGate, record_of, refusal_response, unexpected_error
from funduscope.serve.service_metrics import CONTENT_TYPE, ServiceMetrics
from funduscope.serve.worker import Job, PhotoAnswer
from funduscope.serve.worker_pool import WorkerPool
from funduscope.serve.wrapped_photos import check_unwrapped
from funduscope.version import __version__

_DESCRIPTION: Final = (
    "Reads photographs of the back of the eye: diabetic retinopathy grade, macular edema risk, "
    "lesions, optic disc and fovea. For research and education; not a medical device."
)

_MAX_NAME_LENGTH: Final = 255
_PIECE_BYTES: Final = 1_000_000
"""Bytes of a form that are parsed at a time."""


class _InMemory(MultiPartParser):
    """Keeps the photo of a form in memory: by default the parser writes large ones to temporary files."""

    spool_max_size = 0


@dataclass(frozen=True)
class Upload:
    """A photo's file, and its name where the client gave one."""

    body: bytes
    name: str | None


def make_service(workers: WorkerPool, limits: ServiceLimits, guard: Guard, log: JsonLog) -> RequestGate:
    """The whole service as an ASGI application. The workers start and end with it."""
    metrics = ServiceMetrics(workers)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        keeping = asyncio.create_task(workers.keep_alive())
        yield
        keeping.cancel()
        with suppress(asyncio.CancelledError):
            await keeping
        await workers.end()

    app = FastAPI(
        title="funduscope",
        version=__version__,
        description=_DESCRIPTION,
        docs_url=None,  # both pages load scripts of another host
        redoc_url=None,
        lifespan=lifespan,
        redirect_slashes=False,
    )
    _add_health(app, workers, metrics)
    _add_findings(app, workers, limits)
    _add_errors(app)
    complete_document(app)
    routes = frozenset(path for route in app.routes if (path := getattr(route, "path", None)))
    return RequestGate(app, guard, metrics, log, routes)


def _add_health(app: FastAPI, workers: WorkerPool, metrics: ServiceMetrics) -> None:
    @app.get("/healthz", tags=["health"], responses=refusals())
    async def healthz() -> Health:
        """Whether the service runs."""
        return Health()

    @app.get("/readyz", tags=["health"], responses=refusals("E_BUSY"))
    async def readyz() -> Health:
        """Whether photos are read: there is a worker whose model has answered once."""
        if not workers.is_ready:
            raise RefusalError("E_BUSY", "the model is not ready: ask again later", 1)
        return Health()

    @app.get("/metrics", tags=["health"], responses=refusals(), response_class=PlainTextResponse)
    async def figures() -> Response:
        """Figures for Prometheus: requests, refusals by code, the queue, seconds by stage, memory."""
        return Response(metrics.text(), headers={"content-type": CONTENT_TYPE})

    @app.get("/v1/model", tags=["findings"], responses=refusals("E_BUSY"))
    async def model() -> ModelDescription:
        """The model: name, version, hash, license, intended use, card."""
        if workers.model is None:
            raise RefusalError("E_BUSY", "the model is not ready: ask again later", 1)
        return ModelDescription(**workers.model)

    # as some load balancers ask
    endpoints = {"/healthz": healthz, "/readyz": readyz, "/metrics": figures, "/v1/model": model}
    for path, endpoint in endpoints.items():
        app.add_api_route(path, endpoint, methods=["HEAD"], include_in_schema=False)


def _add_findings(app: FastAPI, workers: WorkerPool, limits: ServiceLimits) -> None:
    memory = BodyMemory(limits.body_memory_bytes)

    @app.post(
        "/v1/findings",
        tags=["findings"],
        description=(
            "Read a photo: JPEG, PNG, TIFF or DICOM, by its content; as the body or as a file of a form. "
            f"At most {limits.max_body_bytes} bytes; {limits.queue} photos wait or are read at once, "
            f"any other is answered with 503; each has {limits.deadline_s:g} s."
        ),
        responses=FINDINGS_RESPONSES,
        response_class=Response,
        openapi_extra={"requestBody": PHOTO_BODY},
    )
    async def findings(
        request: Request,
        frame: Annotated[
            int | None, Query(ge=1, le=MAX_FRAMES, description="Of a DICOM file of several frames, which one.")
        ] = None,
        force: Annotated[
            bool, Query(description="Grade also what is refused; such an answer is marked as not to be trusted.")
        ] = False,
        subject: Annotated[
            str | None,
            Query(pattern=REFERENCE, description="Of a FHIR bundle, the patient's reference: Patient/123."),
        ] = None,
    ) -> Response:
        if request.query_params.keys() - {"frame", "force", "subject"}:  # a mistyped `force` would pass unseen
            raise RefusalError("E_CONFIG", "the query has an unknown name: known are frame, force and subject")
        if len(request.query_params.multi_items()) > len(request.query_params):
            raise RefusalError("E_CONFIG", "the query has a name twice; expected each once")
        media = choose(", ".join(request.headers.getlist("accept")))
        check_declared(request.headers, limits)
        workers.check_room()
        record = record_of(request.scope)
        with memory.body() as take:
            upload = await _upload(request, await read_body(request.receive, limits, take))
            job = Job(upload.body, media, upload.name, frame, force, subject)
            answer = await _unless_gone(request, workers, job)

        record.sha256 = answer.sha256
        record.seconds = answer.seconds
        if answer.error is not None:
            raise answer.error

        headers = {"content-type": content_type(media, answer.body), "vary": "Accept"}
        if media == ZIP:
            headers["content-disposition"] = 'attachment; filename="findings.zip"'
        return Response(answer.body, headers=headers)


async def _upload(request: Request, body: bytes) -> Upload:
    """The photo of a request: its body, or the one file of the form that the body is.

    Raises `RefusalError` for a form that cannot be read, and for a photo in another wrapping.
    """
    media_type = request.headers.get("content-type", "").strip().lower()
    if not media_type.startswith("multipart/form-data"):
        check_unwrapped(body, media_type)
        return Upload(body, None)

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(body), _PIECE_BYTES):
            yield body[start : start + _PIECE_BYTES]
            await asyncio.sleep(0)  # others' turn

    try:
        form = await _InMemory(request.headers, pieces(), max_files=1, max_fields=0).parse()  # pyright: ignore[reportArgumentType]
    except (MultiPartException, UnicodeError) as error:  # the latter of a charset that decodes no names
        why = error.message.rstrip(".") if isinstance(error, MultiPartException) else "its charset is of no use"
        raise RefusalError(
            "E_REQUEST", f"the form cannot be read ({why}); expected one file in it, the photo as it is, and no text"
        ) from None
    files = [one for _, one in form.multi_items() if not isinstance(one, str)]
    if not files:
        head = Message()
        head["content-type"] = request.headers["content-type"]
        if body and f"--{head.get_boundary()}--".encode() not in body:
            raise RefusalError("E_REQUEST", "the form was cut off before its last boundary: send it again")
        raise RefusalError("E_REQUEST", "the form has no file; expected one, the photo")
    name = re.split(r"[/\\]", files[0].filename or "")[-1][-_MAX_NAME_LENGTH:]
    content = await files[0].read()
    check_unwrapped(content)
    return Upload(content, name or None)


async def _unless_gone(request: Request, workers: WorkerPool, job: Job) -> PhotoAnswer:
    """Return a worker's answer; drop the job and raise `ClientGoneError` once its client is gone."""
    answering = asyncio.ensure_future(workers.answer(job))
    leaving = asyncio.ensure_future(_left(request))
    try:
        await asyncio.wait((answering, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not answering.done():
            raise ClientGoneError
        return answering.result()
    finally:
        leaving.cancel()
        answering.cancel()


async def _left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _add_errors(app: FastAPI) -> None:
    @app.exception_handler(CodedError)
    async def coded(request: Request, error: CodedError) -> Response:
        return refusal_response(error, record_of(request.scope))

    @app.exception_handler(ClientGoneError)
    async def gone(_: Request, error: ClientGoneError) -> Response:
        return Response(status_code=GONE)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        names = ", ".join(sorted({str(one["loc"][-1]) for one in error.errors() if one["loc"][0] == "query"}))
        says = f"a value of the query cannot be used ({names}): /openapi.json says which can"
        return refusal_response(RefusalError("E_CONFIG", says), record_of(request.scope))

    @app.exception_handler(HTTPException)
    async def by_server(request: Request, error: HTTPException) -> Response:
        if error.status_code == 404:
            refusal = RefusalError("E_NOT_FOUND", "there is no such path: see /openapi.json")
        elif error.status_code == 405:
            refusal = RefusalError("E_METHOD", "the path takes another method: see /openapi.json")
        else:
            refusal = RefusalError("E_REQUEST", "the request cannot be read: /openapi.json says what is expected")
        response = refusal_response(refusal, record_of(request.scope))
        response.headers.update(error.headers or {})
        return response

    @app.exception_handler(Exception)
    async def fault(request: Request, error: Exception) -> Response:
        return refusal_response(unexpected_error(error), record_of(request.scope))
