"""One error shape for every refusal and failure.

``{"error": {"code": ..., "message": ..., "field": ... or null, "request_id": ... or null}}``

Messages never quote a prompt, a key or an exception that was not raised on purpose.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ingest.batcher import Overloaded
from ingest.logs import failure
from ingest.metrics import Metrics
from store.errors import (
    EventRejected,
    SettingsInvalid,
    StateRefused,
    StateSuperseded,
    SteersmanError,
    StoreUnavailable,
    TooMany,
)
from store.records import JsonObject

log = logging.getLogger(__name__)

RETRY_AFTER_S = "1"
STATUS_OF_CODE = {
    "unreadable_json": 400,
    "not_finite": 400,
    "prompt_too_long": 413,
    "body_too_large": 413,
    "unsupported_media_type": 415,
}
"""Refusals whose HTTP status says more than their class's 422."""
_CODE_OF_STATUS = {404: "no_route"}
_CODE_OF_VALIDATION = {"missing": "missing_field", "extra_forbidden": "unknown_field"}


def error_response(
    status: int,
    code: str,
    message: str,
    *,
    field: str | None = None,
    request_id: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Return an error in the one shape; ASCII escapes, so that any text can be sent."""
    error = {"code": code, "message": message, "field": field, "request_id": request_id}
    added = dict(headers or {})
    if status == HTTPStatus.UNAUTHORIZED:
        added["www-authenticate"] = "Bearer"
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        added["retry-after"] = RETRY_AFTER_S
    return Response(
        json.dumps({"error": error}).encode(),
        status_code=status,
        headers=added,
        media_type="application/json",
    )


def request_id_of(request: Request) -> str | None:
    """Return the request id that a body or path names, if it could be one."""
    body: JsonObject = getattr(request.state, "body", {})
    named = body.get("request_id", request.path_params.get("request_id"))
    return named if isinstance(named, str) and len(named) <= 200 else None


class ErrorHandlers:
    """Turns everything raised on purpose into the one shape, and counts it."""

    def __init__(self, metrics: Metrics, routes: Sequence[APIRoute]) -> None:
        self._metrics = metrics
        self._routes = routes

    def install(self, app: FastAPI) -> None:
        """Make the application answer every error in the one shape."""
        app.add_exception_handler(SteersmanError, self.on_steersman_error)
        app.add_exception_handler(RequestValidationError, self.on_validation_error)
        app.add_exception_handler(HTTPException, self.on_http_error)

    def on_steersman_error(self, request: Request, problem: Exception) -> Response:
        """Answer an error of ours; what has no status of its own is a failure (500)."""
        match problem:
            case EventRejected(code=code, message=message, field=field):
                status = STATUS_OF_CODE.get(code, problem.status)
                wait = problem.retry_after_s if isinstance(problem, TooMany) else None
                headers = {} if wait is None else {"retry-after": str(wait)}
                return self._answer(request, status, code, message, field, headers=headers)
            case Overloaded():
                return self._answer(request, 503, "overloaded", f"{problem}; try again later")
            case StoreUnavailable():
                message = "the ledger cannot be reached, nothing was stored; try again later"
                return self._answer(request, 503, "store_unavailable", message)
            case SettingsInvalid():
                return self._answer(request, 422, "invalid_settings", str(problem))
            case StateSuperseded():
                message = "another state was published meanwhile; look and try again"
                return self._answer(request, 409, "state_superseded", message)
            case StateRefused():
                return self._answer(request, 409, "state_refused", str(problem))
            case _:
                raise problem

    def on_validation_error(self, request: Request, problem: Exception) -> Response:
        """Answer the first of FastAPI's findings, without the value it found."""
        findings = problem.errors() if isinstance(problem, RequestValidationError) else []
        finding = findings[0] if findings else {}
        field = ".".join(str(place) for place in finding.get("loc", ())[1:]) or None
        code = _CODE_OF_VALIDATION.get(str(finding.get("type")), "invalid_field")
        problem_text = str(finding.get("msg", "is invalid")).removeprefix("Value error, ")
        message = f"{field or 'the body'}: {problem_text}"
        return self._answer(request, 422, code, message, field)

    def on_http_error(self, request: Request, problem: Exception) -> Response:
        """Answer what the framework raises: unknown routes, methods, oversized bodies."""
        status = problem.status_code if isinstance(problem, HTTPException) else 400
        phrase = HTTPStatus(status).phrase
        code = _CODE_OF_STATUS.get(status, phrase.lower().replace(" ", "_"))
        headers = dict(problem.headers or {}) if isinstance(problem, HTTPException) else {}
        if allowed := self._allowed(request):
            headers["allow"] = ", ".join(allowed)
        return self._answer(request, status, code, phrase, headers=headers)

    def _allowed(self, request: Request) -> list[str]:
        """Return the methods of every route of this path; the framework names the first one's."""
        methods: set[str] = set()
        for route in self._routes:
            if route.matches(request.scope)[0] is Match.PARTIAL:
                methods |= route.methods or set()
        return sorted(methods)

    def _answer(
        self,
        request: Request,
        status: int,
        code: str,
        message: str,
        field: str | None = None,
        *,
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        self._metrics.count("events_rejected", source="http", code=code)
        named = request_id_of(request)
        return error_response(status, code, message, field=field, request_id=named, headers=headers)


class LastResort:
    """Answers what nobody expected with a 500 in the one shape, and logs it without messages.

    The framework's own handler would log the exception's text, which may hold a prompt.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        has_begun = False

        async def watched(message: Message) -> None:
            nonlocal has_begun
            has_begun = True
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except ClientDisconnect:
            log.debug("http.client_left")
        except Exception as unexpected:  # noqa: BLE001 - the loop's one broad handler
            route = getattr(scope.get("route"), "path", "")
            log.error("http.failed", extra={"route": route, **failure(unexpected)})  # noqa: TRY400
            if not has_begun and scope["type"] == "http":
                answer = error_response(500, "internal_error", "something unexpected; it is logged")
                await answer(scope, receive, send)
