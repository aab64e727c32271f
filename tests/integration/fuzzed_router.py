"""What the fuzz tests send things to: the real handler over PostgreSQL, with a cheap encoder."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from fastapi import FastAPI
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.strategies import SearchStrategy

from ingest import keys
from ingest.handler import RequestHandler
from ingest.http import HttpContext, build_app
from ingest.live import Live
from ingest.metrics import Metrics
from ingest.outbox import OutboxPublisher
from ingest.ports import EventSink
from ingest.settings import HttpSettings
from online.snapshot import checksum, dump
from recalibrate.rollback import roll_back
from store.clock import SystemClock
from store.ledger import Ledger
from store.records import Float32Array
from tests import factories
from tests.unit import state_fakes


class HashEncoder:
    """A unit vector for any text whatever."""

    identity = "fake-encoder-0123456789abcdef"
    dimension = state_fakes.DIMENSION

    def encode(self, texts: Sequence[str]) -> Float32Array:
        return np.stack([self._vector(text) for text in texts])

    def _vector(self, text: str) -> Float32Array:
        seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8])
        vector = np.random.default_rng(seed).normal(size=self.dimension)
        unit: Float32Array = (vector / np.linalg.norm(vector)).astype(np.float32)
        return unit


class FuzzedRouter:
    """A router with a state in force, whose outbox leaves through ``sink``."""

    def __init__(self, ledger: Ledger, sink: EventSink, *, prefix: str = "router.") -> None:
        self.ledger = ledger
        self.clock = SystemClock()
        self.metrics = Metrics()
        encoder = HashEncoder()
        self.live = Live(encoder=encoder.identity, dimension=encoder.dimension)
        state = replace(state_fakes.state(), encoder=encoder.identity)
        self.live.swap(state)
        outbox = OutboxPublisher(ledger, sink, self.clock, prefix)
        self.handler = RequestHandler(ledger, self.live, encoder, outbox, self.clock, self.metrics)
        with ledger.begin() as tx:
            for name in state_fakes.NAMES:
                tx.experts.add(factories.expert(name))
            tx.policies.set(state.policy, actor="test", now=factories.NOON)
            for version in (1, 2):
                payload = dump(replace(state, version=version, parent=version - 1))
                record = factories.state(version, payload=payload)
                tx.states.publish(replace(record, sha256=checksum(payload)))
        key = keys.create(ledger, "fuzz", [keys.Scope.ADMIN], self.clock)
        self.admin = {"authorization": f"Bearer {key}"}

    def app(self) -> FastAPI:
        """Build the application."""
        return build_app(
            HttpContext(
                handler=self.handler,
                ledger=self.ledger,
                live=self.live,
                metrics=self.metrics,
                clock=self.clock,
                settings=HttpSettings(),
                replica="r-1",
                rollback=lambda version, actor: roll_back(
                    self.ledger, version, actor=actor, clock=self.clock
                ),
            )
        )


def drawn(strategy: SearchStrategy[Any], count: int) -> list[Any]:
    """Return that many examples, the same ones in every run."""
    found: list[Any] = []

    @given(strategy)
    @settings(
        max_examples=count,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate],
    )
    def draw(one: Any) -> None:
        found.append(one)

    call: Callable[[], None] = draw
    call()
    return found
