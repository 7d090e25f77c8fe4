"""Every error as ``{"error": "<one sentence>"}`` with its HTTP status."""

from __future__ import annotations

import logging
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException as StarletteHTTPException

from fedlmd.data import MAX_PIXELS, DataError
from fedlmd.release import ReleaseError
from fedlmd.service.contract import Busy, Cancelled, Refused, Unavailable, UnknownJob, UnknownRelease, UnknownRun
from fedlmd.settings import SettingsError

log = logging.getLogger(__name__)

# By the exception's class; a subclass must come before its base.
STATUS: dict[type[Exception], int] = {
    ReleaseError: 500,
    Refused: 422,
    DataError: 422,
    SettingsError: 422,
    UnknownRelease: 404,
    UnknownRun: 404,
    UnknownJob: 404,
    Cancelled: 409,
    Busy: 503,
    Unavailable: 503,
}


def install(app: FastAPI) -> None:
    """Make an application send all its errors in one form."""
    for kind in STATUS:
        app.exception_handler(kind)(on_domain_error)
    app.exception_handler(RequestValidationError)(on_invalid_request)
    app.exception_handler(StarletteHTTPException)(on_http_error)
    # Starlette passes the exception on to the server after this response; the server logs the traceback.
    app.exception_handler(Exception)(on_unexpected_error)


def status_of(error: Exception) -> int:
    """The HTTP status of one of the package's own errors."""
    if isinstance(error, DataError) and f"{MAX_PIXELS:,} pixels" in str(error):
        return 413
    return next(status for kind, status in STATUS.items() if isinstance(error, kind))


def sentence(text: str) -> str:
    """A message on one line."""
    return " ".join(text.split())


def on_domain_error(request: Request, error: Exception) -> JSONResponse:  # noqa: ARG001
    """The package's own errors; their message says what was wrong."""
    headers = {"Retry-After": str(error.retry_after)} if isinstance(error, Busy | Unavailable) else None
    return JSONResponse({"error": sentence(str(error))}, status_of(error), headers)


def on_invalid_request(request: Request, error: RequestValidationError) -> JSONResponse:  # noqa: ARG001
    """FastAPI's validation errors: the first one as a sentence."""
    problems = error.errors()
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return JSONResponse({"error": sentence(describe(problems[0]) + more)}, 422)


def describe(problem: dict[str, Any]) -> str:
    """One of pydantic's errors as a sentence: which field, what was wrong, what is allowed."""
    place, kind, message = problem["loc"], problem["type"], str(problem["msg"]).removeprefix("Value error, ")
    # ("body", "labels_list", 1) is labels_list[1].
    where = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place[1:]).removeprefix(".")
    if kind == "json_invalid":
        return f"the body is not valid JSON: {problem['ctx']['error']} at character {place[-1]}"
    if place == ("body",) and kind != "value_error":
        return "the body must be a JSON object, sent with the header Content-Type: application/json"
    if "Expected UploadFile" in message:
        message = "it must be sent as a file of a multipart/form-data body, not as text"
    if kind == "missing":
        message = "it is missing"
    elif kind == "extra_forbidden":
        message = "no such field is known here; see /docs for those that are"
    elif kind != "value_error":
        message = f"{message[:1].lower()}{message[1:]}; it is {problem['input']!r:.60}"
    return f"{where}: {message}" if where else message


def on_http_error(request: Request, error: StarletteHTTPException) -> JSONResponse:
    """Errors of the framework: unknown path, wrong method, a body that cannot be parsed."""
    text = str(error.detail)
    if error.status_code == 404 and not isinstance(error, HTTPException):
        text = f"there is nothing at {request.url.path!r:.100}; see /docs for what there is"
    elif error.status_code == 405:
        allowed = dict(error.headers or {}).get("Allow", "another method")
        text = f"{request.method} is not allowed at {request.url.path!r:.100}; use {allowed}"
    elif error.status_code == 400 and "parsing the body" in text:
        text = "the body cannot be parsed; send what its Content-Type says"
    return JSONResponse({"error": sentence(text)}, error.status_code, error.headers)


def on_unexpected_error(request: Request, error: Exception) -> JSONResponse:  # noqa: ARG001
    """A defect: its details go to the log only."""
    # uvicorn closes the connection after an exception; the header keeps the client from using it again.
    return JSONResponse({"error": "the node failed at this; its log says why"}, 500, {"Connection": "close"})
