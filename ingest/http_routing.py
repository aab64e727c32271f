"""Decisions and feedback over HTTP: the same handler and the same JSON as the streams."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Header, Request
from fastapi.responses import JSONResponse, Response

from ingest import wire
from ingest.batcher import MicroBatcher
from ingest.feedback_rate import FeedbackRate
from ingest.fields import Fields
from ingest.http_body import StrictRoute
from ingest.http_context import Access, HttpContext
from ingest.http_models import FeedbackDone
from ingest.http_openapi import errors, event_reply, event_request, open_on_loopback
from ingest.keys import Scope
from store.errors import NotFound, RequestConflict
from store.records import Decision, JsonObject, RequestId

_HEADER_SAFE = " !#$&'()*+,-./:;<=>?@[]^_`{|}~"


class RoutingRoutes:
    """``/v1/routing/decision``, ``/v1/decisions/{request_id}`` and ``/v1/feedback``."""

    def __init__(self, context: HttpContext, access: Access, batcher: MicroBatcher) -> None:
        self._context = context
        self._access = access
        self._batcher = batcher
        self._feedback_rate = FeedbackRate(
            context.clock, per_minute=context.settings.feedback_per_minute
        )

    def router(self) -> APIRouter:
        """Return the routes."""
        router = APIRouter(route_class=StrictRoute, tags=["routing"])
        router.add_api_route(
            "/v1/routing/decision",
            self.decide,
            methods=["POST"],
            response_class=JSONResponse,
            responses=errors(400, 401, 403, 409, 413, 415, 422, 503) | event_reply("decision"),
            openapi_extra=event_request("prompt", optional={"request_id"}) | open_on_loopback(),
        )
        router.add_api_route(
            "/v1/decisions/{request_id:path}",
            self.show,
            methods=["GET"],
            response_class=JSONResponse,
            responses=errors(401, 403, 404, 422, 503) | event_reply("decision"),
            openapi_extra=open_on_loopback(),
        )
        router.add_api_route(
            "/v1/feedback",
            self.feedback,
            methods=["POST"],
            status_code=201,
            response_model=FeedbackDone,
            responses=errors(400, 401, 403, 404, 413, 415, 422, 429, 503)
            | {200: {"model": FeedbackDone, "description": "Repeated; nothing was stored"}},
            openapi_extra=event_request(
                "feedback", optional={"source"}, without={"idempotency_key"}
            )
            | open_on_loopback(),
        )
        return router

    def decide(self, request: Request) -> Response:
        """Decide which expert answers a prompt; the same request_id gets the same decision."""
        began = self._context.clock.monotonic()
        self._access.require(request, Scope.ROUTE)
        body: JsonObject = request.state.body
        if body.get("request_id") is None:
            body["request_id"] = str(uuid.uuid4())
        prompt = wire.decode_prompt(
            _event("prompt", body),
            now=self._context.clock.now(),
            limit=self._context.settings.max_prompt_bytes,
        )
        recorded = self._batcher.decide(prompt)
        if recorded.is_conflict:
            raise RequestConflict(
                "request_conflict", "the request_id belongs to another prompt", field="request_id"
            )
        if recorded.decision is None:
            raise RuntimeError("neither a decision nor a conflict was recorded")
        took_ms = 1_000.0 * (self._context.clock.monotonic() - began)
        return _reply(recorded.decision, headers=_headers(recorded.decision, took_ms=took_ms))

    def show(self, request: Request, request_id: str) -> Response:
        """Return a stored decision with everything needed to audit it."""
        self._access.require(request, Scope.READ)
        name = RequestId(Fields({"request_id": request_id}).identifier("request_id"))
        with self._context.ledger.begin() as tx:
            decision = tx.decisions.find(name)
        if decision is None:
            raise NotFound("unknown_request", "there is no decision under this request_id")
        return _reply(decision)

    def feedback(
        self,
        request: Request,
        response: Response,
        idempotency_key: Annotated[str, Header(min_length=1, max_length=200)],
    ) -> FeedbackDone:
        """Store a word on an answer once per Idempotency-Key; it never moves the threshold."""
        self._access.require(request, Scope.ROUTE)
        body: JsonObject = {"source": "http"} | request.state.body
        body["idempotency_key"] = idempotency_key
        feedback = wire.decode_feedback(_event("feedback", body), now=self._context.clock.now())
        self._feedback_rate.take(feedback.source)
        try:
            is_new = self._context.handler.on_feedback(feedback)
        except NotFound:
            self._context.metrics.count("feedback_unattributed")
            raise
        response.status_code = 201 if is_new else 200
        return FeedbackDone(request_id=feedback.request_id, repeated=not is_new)


def _event(kind: str, body: JsonObject) -> bytes:
    """Return the body as an event: over HTTP the path says what it is."""
    return json.dumps({"schema": f"steersman.{kind}", "version": wire.VERSION} | body).encode()


def _reply(decision: Decision, *, headers: Mapping[str, str] | None = None) -> Response:
    content = wire.encode_decision(decision)
    return Response(content, headers=dict(headers or {}), media_type="application/json")


def _headers(decision: Decision, *, took_ms: float) -> dict[str, str]:
    """Return the decision in short, for gateways that do not read bodies."""
    facts = {
        "decision-id": decision.request_id,
        "expert": decision.expert,
        "state-version": str(decision.state_version),
        "lambda": f"{decision.threshold:.6g}",
        "reason": decision.reason.value,
        "overhead-ms": f"{took_ms:.3f}",
    }
    # Ids may be any text; a header holds ASCII, so the rest is percent-encoded.
    return {f"x-steersman-{name}": quote(text, safe=_HEADER_SAFE) for name, text in facts.items()}
