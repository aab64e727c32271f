"""What a body must be before anything looks at it: JSON, finite, shallow, without lone halves."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request
from fastapi.responses import Response
from fastapi.routing import APIRoute
from starlette.types import Message, Receive

from ingest.fields import read_object
from store.errors import EventRejected
from store.records import JsonObject

DEPTH = 32
"""Deeper than any message of ours; keeps every later walk and dump from exhausting the stack."""


class StrictRoute(APIRoute):
    """A route whose body was read strictly; the object is in ``request.state.body``.

    The framework's own reader takes NaN, any depth and any content type for text.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the handler with the check before it."""
        handle = super().get_route_handler()

        async def checked(request: Request) -> Response:
            if request.method in {"POST", "PATCH"}:
                _check_kind(request)
                raw = await _read(request, limit=request.app.state.max_body_bytes)
                request.state.body = shallow(read_object(raw))
                request = Request(request.scope, _replay(raw))
            return await handle(request)

        return checked


def shallow(body: JsonObject) -> JsonObject:
    """Return ``body``; raises ``EventRejected`` when it is nested too deep."""
    level: list[object] = [body]
    for _ in range(DEPTH):
        inner: list[object] = []
        for value in level:
            if isinstance(value, dict):
                inner.extend(value.values())
            elif isinstance(value, list):
                inner.extend(value)
        level = inner
    if level:
        raise EventRejected("unreadable_json", f"the body is nested more than {DEPTH} deep")
    return body


async def _read(request: Request, *, limit: int) -> bytes:
    # Here and not by the framework, whose 413 has another shape.
    length = request.headers.get("content-length", "")
    raw = bytearray()
    if not (length.isdecimal() and int(length[:18]) > limit):
        async for chunk in request.stream():
            raw += chunk
            if len(raw) > limit:
                break
        else:
            return bytes(raw)
    raise EventRejected("body_too_large", f"the body has more than {limit} bytes")


def _replay(raw: bytes) -> Receive:
    async def receive() -> Message:
        return {"type": "http.request", "body": raw, "more_body": False}

    return receive


def _check_kind(request: Request) -> None:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if kind != "application/json" or encoding != "identity":
        raise EventRejected(
            "unsupported_media_type", "send 'Content-Type: application/json', not compressed"
        )
