"""API keys: who may do what, and what is never stored."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import pytest

from ingest import keys
from ingest.keys import KeyRing, Scope
from ingest.settings import HttpSettings
from store.clock import ManualClock
from store.errors import NotAllowed, SettingsInvalid, StoreUnavailable
from store.ledger import Transaction
from store.memory import MemoryLedger

EXPOSED = HttpSettings(host="192.0.2.1")


class Flaky(MemoryLedger):
    """A ledger that can go away."""

    is_away = False
    asked = 0

    @contextmanager
    def begin(self) -> Iterator[Transaction]:  # type: ignore[override]  # same promise, as a port
        self.asked += 1
        if self.is_away:
            raise StoreUnavailable("away")
        with super().begin() as tx:
            yield tx


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(datetime(2026, 3, 1, tzinfo=UTC))


@pytest.fixture
def ledger() -> Flaky:
    return Flaky()


def test_a_key_opens_its_scopes_only(ledger: Flaky, clock: ManualClock) -> None:
    key = keys.create(ledger, "gateway", ["route"], clock)
    ring = KeyRing(ledger, clock)

    assert ring.require(f"Bearer {key}", Scope.ROUTE).name == "gateway"
    with pytest.raises(NotAllowed) as refused:
        ring.require(f"Bearer {key}", Scope.ADMIN)
    assert (refused.value.status, refused.value.code) == (403, "missing_scope")


def test_an_admin_key_opens_everything(ledger: Flaky, clock: ManualClock) -> None:
    key = keys.create(ledger, "operator", ["admin"], clock)
    ring = KeyRing(ledger, clock)

    assert {ring.require(f"bearer {key}", scope).name for scope in Scope} == {"operator"}


@pytest.mark.parametrize(
    "header",
    [None, "", "Bearer", "Bearer ", "Basic abc", "sk-steersman-x", "Bearer sk-steersman-guess",
     "Bearer \udce4", "Bearer ä" * 99],
)  # fmt: skip
def test_anything_else_is_unauthenticated(
    header: str | None, ledger: Flaky, clock: ManualClock
) -> None:
    keys.create(ledger, "operator", ["admin"], clock)

    with pytest.raises(NotAllowed) as refused:
        KeyRing(ledger, clock).require(header, Scope.READ)

    assert refused.value.status == 401


def test_the_key_itself_is_not_stored(ledger: Flaky, clock: ManualClock) -> None:
    key = keys.create(ledger, "operator", ["admin", "read"], clock)

    with ledger.begin() as tx:
        trail = tx.operations.audit_trail(limit=10)
    stored = KeyRing(ledger, clock).require(f"Bearer {key}", Scope.READ)

    assert key.startswith("sk-steersman-")
    assert len(key) >= len("sk-steersman-") + 43  # 32 bytes in base64
    assert key not in repr(trail) + repr(stored)
    assert stored.scopes == ("read", "admin")


@pytest.mark.parametrize(("name", "scopes"), [("", ["admin"]), ("x", []), ("x", ["root"])])
def test_a_key_without_name_or_known_scope_is_refused(
    name: str, scopes: list[str], ledger: Flaky, clock: ManualClock
) -> None:
    with pytest.raises(SettingsInvalid):
        keys.create(ledger, name, scopes, clock)


def test_a_known_key_works_while_the_ledger_is_away(ledger: Flaky, clock: ManualClock) -> None:
    known = keys.create(ledger, "gateway", ["route"], clock)
    fresh = keys.create(ledger, "other", ["route"], clock)
    ring = KeyRing(ledger, clock)
    ring.require(f"Bearer {known}", Scope.ROUTE)

    ledger.is_away = True
    clock.advance(3_600)

    assert ring.require(f"Bearer {known}", Scope.ROUTE).name == "gateway"
    with pytest.raises(StoreUnavailable):
        ring.require(f"Bearer {fresh}", Scope.ROUTE)


def test_the_ledger_is_asked_once_per_half_minute(ledger: Flaky, clock: ManualClock) -> None:
    key = keys.create(ledger, "gateway", ["route"], clock)
    ring = KeyRing(ledger, clock)
    before = ledger.asked

    for _ in range(100):
        ring.require(f"Bearer {key}", Scope.ROUTE)
    once = ledger.asked - before
    clock.advance(keys.FRESH_S)
    ring.require(f"Bearer {key}", Scope.ROUTE)

    assert (once, ledger.asked - before) == (1, 2)


def test_an_exposed_address_without_any_key_is_refused(ledger: Flaky, clock: ManualClock) -> None:
    keys.refuse_unprotected(ledger, HttpSettings())
    with pytest.raises(SettingsInvalid, match="keys create"):
        keys.refuse_unprotected(ledger, EXPOSED)

    keys.create(ledger, "operator", ["admin"], clock)

    keys.refuse_unprotected(ledger, EXPOSED)
