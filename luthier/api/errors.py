"""Errors in OpenAI's envelope: `{"error": {message, type, param, code}}`. All answers but successes are made here."""

from __future__ import annotations

import math
from http import HTTPStatus
from typing import Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Match

from luthier.api.invalid import explain
from luthier.api.wire.base import ErrorDetail, ErrorEnvelope
from luthier.core.errors import (
    Conflict,
    Forbidden,
    InvalidRequest,
    LuthierError,
    NotFound,
    RateLimited,
    TooLarge,
    Unauthenticated,
    Unavailable,
)

STATUS: Final[dict[type[LuthierError], HTTPStatus]] = {
    InvalidRequest: HTTPStatus.BAD_REQUEST,
    Unauthenticated: HTTPStatus.UNAUTHORIZED,
    Forbidden: HTTPStatus.FORBIDDEN,
    NotFound: HTTPStatus.NOT_FOUND,
    Conflict: HTTPStatus.CONFLICT,
    TooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    RateLimited: HTTPStatus.TOO_MANY_REQUESTS,
    Unavailable: HTTPStatus.SERVICE_UNAVAILABLE,
}
CLIENT_CLOSED_REQUEST: Final = 499  # nobody reads it; logs do


def error_response(error: LuthierError) -> JSONResponse:
    """The answer for an error of the tree."""
    headers: dict[str, str] = {}
    status = next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)
    if isinstance(error, RateLimited):
        headers = {  # rounded up: who comes back a little early is refused again
            "retry-after": str(math.ceil(error.retry_after_s)),
            "retry-after-ms": str(math.ceil(error.retry_after_s * 1000)),
        }
    return JSONResponse(error_body(error), status, headers)


def error_body(error: LuthierError) -> dict[str, object]:
    """The envelope of an error of the tree, also for streams that have begun."""
    kinds = {RateLimited: "requests", Unavailable: "server_error"}
    kind = next((kinds[k] for k in type(error).__mro__ if k in kinds), "invalid_request_error")
    return _enveloped(error.message, kind, error.param, error.code)


def envelope(
    status: int,
    message: str,
    *,
    kind: str = "invalid_request_error",
    param: str | None = None,
    code: str | None = None,
    headers: dict[str, str] | None = None,
) -> JSONResponse:
    """An error in OpenAI's form."""
    return JSONResponse(_enveloped(message, kind, param, code), status, headers)


def _enveloped(message: str, kind: str, param: str | None, code: str | None) -> dict[str, object]:
    detail = ErrorDetail(message=_sendable(message), type=kind, param=param and _sendable(param), code=code)
    return ErrorEnvelope(error=detail).model_dump()


def _sendable(text: str) -> str:
    """The text without halves of surrogate pairs, which JSON can bring in and UTF-8 cannot send out."""
    return text.encode(errors="replace").decode()


def _allowed(request: Request) -> list[str]:
    """The methods of a path. Each has a route of its own, and the framework tells those of the first alone."""
    routes = request.app.router.routes
    methods = ("GET", "POST", "DELETE")
    return [m for m in methods if any(r.matches({**request.scope, "method": m})[0] is Match.FULL for r in routes)]


def install(app: FastAPI) -> None:
    """Make the app answer its errors this way."""

    @app.exception_handler(LuthierError)
    async def ours(_request: Request, error: LuthierError) -> JSONResponse:
        return error_response(error)

    @app.exception_handler(ClientDisconnect)
    async def gone(_request: Request, _error: ClientDisconnect) -> Response:
        return Response(status_code=CLIENT_CLOSED_REQUEST)

    @app.exception_handler(RequestValidationError)
    async def invalid(_request: Request, error: RequestValidationError) -> JSONResponse:
        return error_response(explain(error.errors(), error.body))

    @app.exception_handler(HTTPException)
    async def framework(request: Request, error: HTTPException) -> JSONResponse:
        where = f"({request.method} {request.url.path})"
        if error.status_code == HTTPStatus.NOT_FOUND:
            return envelope(404, f"Invalid URL {where}", code="unknown_url")
        if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
            headers = {"allow": ", ".join(_allowed(request))}
            return envelope(405, f"Invalid method for URL {where}", code="method_not_allowed", headers=headers)
        if error.status_code == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
            return envelope(413, f"{error.detail} {where}", code="request_too_large")
        return envelope(error.status_code, error.detail)
