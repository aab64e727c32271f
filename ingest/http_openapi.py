"""What ``/openapi.json`` says beyond the annotations: events, errors and keys."""

from __future__ import annotations

import copy
from collections.abc import Collection
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI

from ingest import wire
from ingest.http_models import ErrorDocument

TITLE = "Steersman"
BEARER: dict[str, list[str]] = {"bearer": []}
_NOTE = {
    401: "No API key, or an unknown one",
    403: "The API key lacks the scope",
    404: "There is nothing under that name",
    409: "In conflict with what is stored",
    413: "The body or the prompt is too large",
    429: "Too many from one source; see Retry-After",
    503: "Not possible now; see Retry-After",
}


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the documentation of the errors a route answers with."""
    return {
        status: {
            "model": ErrorDocument,
            "description": _NOTE.get(status, HTTPStatus(status).phrase),
        }
        for status in (*statuses, 500)
    }


def event_reply(kind: str) -> dict[int | str, dict[str, Any]]:
    """Return the documentation of a reply that is an event."""
    content = {"application/json": {"schema": _embedded(kind)}}
    return {200: {"description": str(wire.schema_of(kind)["title"]), "content": content}}


def event_request(
    kind: str, *, optional: Collection[str] = (), without: Collection[str] = ()
) -> dict[str, Any]:
    """Return the documentation of a body that is an event whose envelope may be left out."""
    schema = _embedded(kind)
    optional = {"schema", "version", *optional, *without}
    schema["required"] = [name for name in schema["required"] if name not in optional]
    for name in without:
        schema["properties"].pop(name)
    content = {"application/json": {"schema": schema}}
    return {"requestBody": {"required": True, "content": content}}


def open_on_loopback() -> dict[str, Any]:
    """Return the documentation of a route that needs a key only off loopback or through a proxy."""
    return {"security": [{}, BEARER]}


def admin_only() -> dict[str, Any]:
    """Return the documentation of a route that always needs an admin key."""
    return {"security": [BEARER]}


def describe_keys(app: FastAPI) -> None:
    """Add the security scheme to the document; the routes name it."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        document = generate()
        schemes = document.setdefault("components", {}).setdefault("securitySchemes", {})
        schemes["bearer"] = {
            "type": "http",
            "scheme": "bearer",
            "description": "API key; needed off loopback or through a proxy, and always to change"
            " something.",
        }
        return document

    # The documented way to extend the document is to replace the method on the instance.
    app.openapi = openapi  # type: ignore[method-assign]


def _embedded(kind: str) -> dict[str, Any]:
    schema: dict[str, Any] = copy.deepcopy(wire.schema_of(kind))
    return {name: value for name, value in schema.items() if name not in {"$schema", "$id"}}
