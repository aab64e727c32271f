"""What the HTTP routes are given; nothing in them is global."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from fastapi import Request

from ingest.keys import KeyRing, Scope
from ingest.metrics import Metrics
from ingest.ports import Handler
from ingest.settings import HttpSettings
from store.clock import Clock
from store.ledger import Ledger
from store.records import JsonObject

_HOST = re.compile(r"(\[[^\]]*\]|[^:]*)(?::\d*)?")
_THIS_MACHINE = {"localhost", "127.0.0.1", "[::1]"}
_SET_BY_PROXIES = ("forwarded", "via", "x-real-ip")
"""Besides every ``X-Forwarded-…``."""


class Live(Protocol):
    """The routing state this process serves."""

    def version(self) -> int:
        """Return its version, 0 while none is loaded."""
        ...

    def describe(self) -> JsonObject:
        """Return what a person wants to know of it, as JSON."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpContext:
    """The dependencies of ``build_app``."""

    handler: Handler
    ledger: Ledger
    live: Live
    metrics: Metrics
    clock: Clock
    settings: HttpSettings
    replica: str
    rollback: Callable[[int, str], int]
    """``rollback(version, actor)`` publishes a copy of that state and returns its new version;
    raises ``NotFound``, ``StateSuperseded`` or ``StateRefused``."""


class Access:
    """Who may call a route: changes always need an admin key, the rest none on loopback.

    Behind a proxy every caller connects from loopback, and a web page whose name was bound to it
    anew (DNS rebinding) does so too: such requests need the key that others need off loopback.
    """

    def __init__(self, context: HttpContext) -> None:
        self._ring = KeyRing(context.ledger, context.clock)
        self._is_open = context.settings.is_loopback
        host = context.settings.host.lower()
        self._hosts = _THIS_MACHINE | {f"[{host}]" if ":" in host else host}

    def admin(self, request: Request) -> None:
        """Check the key of a request that changes something; its name is the actor.

        A dependency, so that it comes before the body is looked at; ``actor_of`` reads the name.
        """
        key = self._ring.require(request.headers.get("authorization"), Scope.ADMIN)
        request.state.actor = key.name

    def require(self, request: Request, scope: Scope) -> None:
        """Check the key of a request that changes no configuration."""
        if not (self._is_open and _is_direct(request) and self._names_us(request)):
            self._ring.require(request.headers.get("authorization"), scope)

    def _names_us(self, request: Request) -> bool:
        """Whether the ``Host`` is one by which only this machine is called, with any port."""
        found = _HOST.fullmatch(request.headers.get("host", ""))
        return found is not None and found[1].lower() in self._hosts


def _is_direct(request: Request) -> bool:
    """Whether no proxy says that it passed the request on."""
    return not any(
        name in _SET_BY_PROXIES or name.startswith("x-forwarded-") for name in request.headers
    )


def actor_of(request: Request) -> str:
    """Return whose key ``Access.admin`` found; without that check there is none to return."""
    actor: str = request.state.actor
    return actor
