"""Calling experts: the port, and what an expert's client settings name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from store.addresses import is_http_url
from store.errors import EventRejected
from store.records import Expert, Price, RequestId

RECORDED = "recorded"
"""Kind of the clients that answer from recorded traffic: once a request, and nobody is paid."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What an expert said, and what it took."""

    text: str | None
    """None for recorded traffic without texts."""
    cost_usd: float
    input_tokens: int | None = None
    output_tokens: int | None = None
    latency_ms: float | None = None


class ExpertClient(Protocol):
    """One expert, ready to be asked."""

    def ask(self, request_id: RequestId, prompt: str) -> Answer:
        """Return the expert's answer. Raises ``ExpertUnavailable`` after its own retries."""
        ...


ClientFactory = Callable[[Expert], ExpertClient]


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a chat."""

    role: str
    content: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """A model behind an OpenAI-compatible interface."""

    base_url: str
    """With its ``/v1``."""
    model: str
    api_key_env: str = ""
    """Variable that holds the key; empty for an endpoint without keys."""
    price: Price


def endpoint_of(client: Mapping[str, str], price: Price) -> Endpoint:
    """Return the endpoint that an expert's checked client settings name."""
    return Endpoint(
        base_url=client["base_url"],
        model=client["model"],
        api_key_env=client.get("api_key_env", ""),
        price=price,
    )


def check_client(client: Mapping[str, str]) -> Mapping[str, str]:
    """Return the client settings, or raise ``EventRejected`` naming what is missing or wrong."""
    kind = client.get("kind")
    needed = {RECORDED: (), "openai": ("base_url", "model")}
    if kind not in needed:
        raise EventRejected(
            "bad_client", f"client.kind must be one of {sorted(needed)}", field="client.kind"
        )
    for name in needed[kind]:
        if not client.get(name):
            raise EventRejected(
                "bad_client", f"a client of kind {kind} needs {name}", field=f"client.{name}"
            )
    if kind == "openai" and not is_http_url(client["base_url"]):
        raise EventRejected(
            "bad_client",
            "client.base_url must begin with http:// or https:// and name a host",
            field="client.base_url",
        )
    return client
