"""Two serving replicas under load: what an operator changes reaches both, and no call fails."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from ingest.commands import Operator
from ingest.topics import KafkaSettings
from online.state import RoutingState
from recalibrate.rollback import roll_back
from store.errors import StateSuperseded
from store.postgres.ledger import PostgresLedger
from store.records import ExpertId, JsonObject, Price
from tests.contract.kafka_fixtures import embedded_broker, kafka_settings
from tests.replicas import (
    CLOCK,
    RECORDED,
    Callers,
    Replica,
    acknowledged_by,
    active,
    judge_all,
    register,
    replicas,
)
from tests.traffic import short_texts
from tests.waiting import until

__all__ = ["embedded_broker", "kafka_settings"]

pytestmark = [pytest.mark.postgres, pytest.mark.kafka]

WARM = 400


@pytest.fixture
def pair(
    postgres_ledger: PostgresLedger,
    database_url: str,
    kafka_settings: KafkaSettings,
    tmp_path: Path,
) -> Iterator[list[Replica]]:
    register(Operator(postgres_ledger, CLOCK))
    with replicas(tmp_path / "run", database_url, kafka_settings) as started:
        yield started


def in_force(ledger: PostgresLedger, callers: Callers, version: int) -> None:
    """Wait until both replicas have acknowledged a state and decided by it."""
    names = {r.name for r in callers.replicas}
    until(lambda: acknowledged_by(ledger, version) >= names, what=f"acknowledged state {version}")
    until(lambda: callers.have_seen(version), what=f"decisions by state {version} on both")


def first_with(
    ledger: PostgresLedger, holds: Callable[[RoutingState], bool], *, what: str
) -> RoutingState:
    until(lambda: holds(active(ledger)), what=what)
    return active(ledger)


def pinned(ask: Sequence[Replica], expert: str, name: str) -> list[tuple[int, JsonObject]]:
    body: JsonObject = {"prompt": "soup", "expert": expert}
    return [
        r.ask("POST", "/v1/routing/decision", body | {"request_id": f"{name}-{r.name}"})
        for r in ask
    ]


@pytest.mark.timeout(900)  # two loads of the real encoder on a busy machine
def test_changes_reach_both_replicas_under_load_and_no_call_fails(
    pair: list[Replica], postgres_ledger: PostgresLedger
) -> None:
    ledger, operator = postgres_ledger, Operator(postgres_ledger, CLOCK)
    with Callers(pair, short_texts(60)) as callers:
        until(lambda: len(callers.answers) >= WARM, what="warm start")
        assert judge_all(ledger, callers.answers) >= WARM
        learnt = first_with(ledger, lambda s: s.model is not None, what="learnt state")
        in_force(ledger, callers, learnt.version)

        assert [status for status, _ in pinned(pair, "new", "before")] == [422, 422]
        operator.add_expert("new", Price(request_usd=0.2), RECORDED)
        added = first_with(ledger, lambda s: "new" in s.members, what="state with the new expert")
        in_force(ledger, callers, added.version)
        told = pinned(pair, "new", "after")
        assert [(status, body["expert"]) for status, body in told] == [(200, "new")] * 2

        operator.set_price("cheap", Price(request_usd=0.3))
        cheap = ExpertId("cheap")
        dearer = first_with(
            ledger, lambda s: s.members[cheap].price.request_usd == 0.3, what="the new price"
        )
        in_force(ledger, callers, dearer.version)

        operator.set_policy({"alpha": "0.17"})
        stricter = first_with(ledger, lambda s: s.policy.alpha == 0.17, what="the new target")
        in_force(ledger, callers, stricter.version)
        assert {a.risk_target for r in pair if (a := callers.newest(r.name))} == {0.17}

        back = rolled_back(ledger, learnt.version)
        in_force(ledger, callers, back)
        assert active(ledger).policy.hold
        assert {a.risk_target for r in pair if (a := callers.newest(r.name))} == {0.17}
    assert callers.failures == []
    asked = {a.request_id for a in callers.answers}
    with ledger.begin() as tx:
        assert len(tx.decisions.find_many(asked)) == len(asked)  # type: ignore[arg-type]


def rolled_back(ledger: PostgresLedger, version: int) -> int:
    """Roll back as an operator does who is told that a newer state was published meanwhile."""
    for _ in range(20):
        try:
            return roll_back(ledger, version, actor="test", clock=CLOCK)
        except StateSuperseded:
            continue
    raise AssertionError("a newer state came each time")
