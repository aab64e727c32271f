"""A running HTTP interface over the in-memory ledger, with a handler that decides at once."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Any

from fastapi import FastAPI
from starlette.testclient import TestClient

from ingest import keys
from ingest.http import HttpContext, build_app
from ingest.metrics import Metrics
from ingest.settings import HttpSettings
from store.clock import ManualClock
from store.errors import EventRejected, NotFound, StoreUnavailable
from store.facts import Decided, Recorded, ResponseOutcome
from store.ledger import Ledger, Transaction
from store.memory import MemoryLedger
from store.records import Feedback, JsonObject, PromptReceived, ResponseReceived
from tests import factories

WHISPERED = "the launch code is 0000-prompt"
EXPERT: dict[str, Any] = {
    "name": "vendor/new-1.5",
    "price": {"input_usd_per_mtok": 0.1, "output_usd_per_mtok": 0.2, "request_usd": 0},
    "client": {"kind": "openai", "base_url": "https://llm.example/v1", "model": "new-1.5"},
}


class AtOnce:
    """A handler that chooses ``cheap`` and stores it, as the real one does."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self.fails_with: Exception | None = None

    def on_prompts(self, batch: Sequence[PromptReceived]) -> list[Recorded | EventRejected]:
        if self.fails_with is not None:
            raise self.fails_with
        decided = [
            Decided(
                prompt=prompt,
                decision=factories.decision(prompt.request_id, tenant=prompt.tenant),
                embedding=factories.embedding(),
                encoder_hash="encoder-1",
            )
            for prompt in batch
        ]
        with self._ledger.begin() as tx:
            return [*tx.decisions.record(decided)]

    def on_responses(
        self, batch: Sequence[ResponseReceived]
    ) -> list[ResponseOutcome | EventRejected]:
        with self._ledger.begin() as tx:
            return [*tx.responses.record(batch)]

    def on_feedback(self, feedback: Feedback) -> bool:
        with self._ledger.begin() as tx:
            return tx.operations.record_feedback(feedback)


class Loaded:
    """A live state of a set version."""

    def __init__(self) -> None:
        self.loaded = 1

    def version(self) -> int:
        return self.loaded

    def describe(self) -> JsonObject:
        return {"version": self.loaded, "gap": float("nan")}


class Away:
    """A ledger that can go away."""

    def __init__(self) -> None:
        self._ledger = MemoryLedger()
        self.is_away = False

    def begin(self) -> AbstractContextManager[Transaction]:
        if self.is_away:
            raise StoreUnavailable("connection to db.internal:5432 refused")
        return self._ledger.begin()

    def lead(self, role: str) -> AbstractContextManager[bool]:
        return self._ledger.lead(role)

    def close(self) -> None:
        self._ledger.close()


@dataclass
class Api:
    """The application, what is behind it and the keys to it."""

    settings: HttpSettings = field(default_factory=HttpSettings)
    ledger: Away = field(default_factory=Away)
    live: Loaded = field(default_factory=Loaded)
    metrics: Metrics = field(default_factory=Metrics)
    clock: ManualClock = field(default_factory=lambda: ManualClock(factories.NOON))

    def __post_init__(self) -> None:
        self.handler = AtOnce(self.ledger)
        with self.ledger.begin() as tx:
            for name in ("cheap", "strong"):
                tx.experts.add(factories.expert(name))
            tx.policies.set(factories.settings(), actor="test", now=factories.NOON)
            tx.states.publish(factories.state(1))
            tx.states.acknowledge(1, replica="r-1", now=factories.NOON)
            tx.operations.raise_alert(factories.alert())
        made = {scope: keys.create(self.ledger, scope, [scope], self.clock) for scope in keys.Scope}
        self.keys = {scope.value: {"authorization": f"Bearer {key}"} for scope, key in made.items()}
        self.secrets = list(made.values())

    def roll_back(self, version: int, actor: str) -> int:
        """Publish a copy, as ``recalibrate.rollback.republish`` does."""
        with self.ledger.begin() as tx:
            old = tx.states.find(version)
            if old is None:
                raise NotFound("unknown_state", "there is no such state", field="version")
            active = tx.states.active_version()
            tx.states.publish(
                replace(old, version=active + 1, parent=active, cause="rollback", note=actor)
            )
        return active + 1

    def app(self) -> FastAPI:
        """Build the application."""
        return build_app(
            HttpContext(
                handler=self.handler,
                ledger=self.ledger,
                live=self.live,
                metrics=self.metrics,
                clock=self.clock,
                settings=self.settings,
                replica="r-1",
                rollback=self.roll_back,
            )
        )

    def client(self) -> TestClient:
        """Return a client; inside its ``with`` block the application runs."""
        return client_of(self.app())


def client_of(app: FastAPI) -> TestClient:
    """Return a client on this machine; what the application does not catch is a 500."""
    return TestClient(app, base_url="http://localhost", raise_server_exceptions=False)


def error_of(reply: Any, status: int) -> dict[str, Any]:
    """Check the one error shape and return its content."""
    assert reply.status_code == status, reply.text
    assert reply.headers["content-type"] == "application/json"
    assert set(reply.json()) == {"error"}
    error: dict[str, Any] = reply.json()["error"]
    assert set(error) == {"code", "message", "field", "request_id"}
    return error
