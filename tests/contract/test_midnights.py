"""Three midnights under load, on every ledger: room ahead, one decision an id, old days go."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from ingest.announce import announce_alert
from ingest.handler import RequestHandler
from ingest.live import Live
from ingest.memory_stream import MemoryBroker, MemorySink
from ingest.metrics import Metrics
from ingest.outbox import OutboxPublisher
from ingest.retention import Retention
from recalibrate.days import DayWatch
from store.clock import ManualClock
from store.facts import Recorded
from store.ledger import Ledger
from store.postgres.connecting import raw_connection
from store.postgres.ledger import PostgresLedger
from store.records import Alert, AlertKind, Decision, ExpertId, ExpertStatus, RequestId
from store.retention import RetentionSettings
from store.upkeep import DAYS_AHEAD, coming_days
from tests.contract.acts import at_once
from tests.factories import NOON, expert, prompt, response
from tests.unit import state_fakes
from tests.unit.loop_fakes import ClusterEncoder

WRITERS = 3
BATCHES = 6
SIZE = 5
HOUR_S = 3_600.0


class Router:
    """The decision path and its upkeep over one ledger."""

    def __init__(self, ledger: Ledger, clock: ManualClock) -> None:
        self.ledger, self.clock = ledger, clock
        self.broker, encoder = MemoryBroker(), ClusterEncoder()
        outbox = OutboxPublisher(ledger, MemorySink(self.broker), clock)
        live = Live(encoder=encoder.identity, dimension=encoder.dimension)
        state = state_fakes.state(statuses={ExpertId("e"): ExpertStatus.SHADOW}, label_rate=0.5)
        live.swap(replace(state, encoder=encoder.identity))
        self.handler = RequestHandler(ledger, live, encoder, outbox, clock, Metrics())
        self.days = DayWatch(ledger, clock, announce=announce_alert, send=outbox.publish_now)
        self.decided: dict[RequestId, Decision] = {}
        self._lock = threading.Lock()
        with ledger.begin() as tx:
            for name in state_fakes.NAMES:
                tx.experts.add(expert(name))

    def decide(self, *names: str) -> list[Recorded]:
        found = self.handler.on_prompts([prompt(n, text=f"prompt 1 {n[1:]}") for n in names])
        recorded = [r for r in found if isinstance(r, Recorded)]
        assert len(recorded) == len(names)
        return recorded

    def under_load(self, label: str) -> None:
        """Several writers at once, while the clock goes from one day into the next."""

        def write(writer: int) -> None:
            for batch in range(BATCHES):
                names = [f"r{label}{writer}{batch}{n}" for n in range(SIZE)]
                recorded = self.decide(*names)
                with self._lock:
                    self.clock.advance(1.0)
                    self.decided |= {r.request_id: r.decision for r in recorded if r.decision}

        at_once(WRITERS, write)

    def alerts(self) -> list[Alert]:
        with self.ledger.begin() as tx:
            found = tx.operations.alerts(limit=99)
        return [one for one in found if one.kind is AlertKind.PARTITION_MISSING]


def to_just_before_midnight(clock: ManualClock) -> None:
    day = (clock.now() + timedelta(days=1)).date()
    midnight = NOON.replace(year=day.year, month=day.month, day=day.day, hour=0)
    clock.advance((midnight - clock.now()).total_seconds() - WRITERS * BATCHES / 2)


@pytest.fixture
def router(ledger: Ledger, clock: ManualClock) -> Router:
    return Router(ledger, clock)


def test_three_midnights_pass_under_load(router: Router, clock: ManualClock) -> None:
    for number in range(3):
        to_just_before_midnight(clock)
        router.days.step()
        before = clock.now().date()
        router.under_load(str(number))
        assert clock.now().date() == before + timedelta(days=1)
        router.days.step()
        clock.advance(HOUR_S)
        router.days.step()
        with router.ledger.begin() as tx:
            assert set(coming_days(clock.now())) <= set(tx.upkeep.days())
    assert router.alerts() == []
    assert len(router.decided) == 3 * WRITERS * BATCHES * SIZE
    assert len({d.decided_at.date() for d in router.decided.values()}) == 4
    with router.ledger.begin() as tx:
        assert tx.decisions.find_many(list(router.decided)) == router.decided
        assert tx.outbox.unmarked(limit=9) == []


def test_a_redelivery_after_midnight_gets_the_stored_decision(
    router: Router, clock: ManualClock
) -> None:
    to_just_before_midnight(clock)
    router.under_load("0")
    clock.advance(HOUR_S)
    again = router.decide(*router.decided)
    assert not any(r.is_new or r.is_conflict for r in again)
    assert {r.request_id: r.decision for r in again} == router.decided
    assert len(router.broker.events("router.decisions")) == len(router.decided)


def test_old_days_go_once_nothing_needs_them_and_the_router_goes_on(
    router: Router, clock: ManualClock
) -> None:
    for number in range(3):
        to_just_before_midnight(clock)
        router.days.step()
        router.under_load(str(number))
    first = min(d.decided_at.date() for d in router.decided.values())
    sampled = next(
        d for d in router.decided.values() if d.is_sampled and d.decided_at.date() == first
    )
    router.handler.on_responses([response(sampled.request_id, expert=sampled.expert)])
    work = Retention(
        router.ledger, clock, RetentionSettings(facts_days=2, text_days=2, keys_days=2)
    )
    assert first in [held.day for held in work.plan().held]
    with router.ledger.begin() as tx:
        [task] = tx.tasks.lease(worker="w", now=clock.now(), lease_s=60, limit=9)
        tx.tasks.finish(task.task_id or 0, worker="w")

    list(work.carry_out(work.plan()))
    router.days.step()

    gone = {r for r, d in router.decided.items() if d.decided_at.date() == first}
    left = {r: d for r, d in router.decided.items() if r not in gone}
    assert gone
    with router.ledger.begin() as tx:
        assert tx.decisions.find_many(list(router.decided)) == left
    assert first not in [one.day for one in survey(router)]
    assert all(r.is_new for r in router.decide(*gone, "r999999"))
    assert not any(r.is_new for r in router.decide(*left))
    assert router.alerts() == []


def survey(router: Router) -> list[Any]:
    with router.ledger.begin() as tx:
        return tx.upkeep.survey()


def test_missing_days_raise_one_alert_until_they_are_there(
    router: Router, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    router.days.step()
    with router.ledger.begin() as tx:
        facts = type(tx.upkeep)
    made = facts.prepare_days
    monkeypatch.setattr(facts, "prepare_days", lambda self, days: [])
    for _ in range(3):
        clock.advance(86_400.0)
        router.days.step()
    [alert] = router.alerts()
    assert alert.evidence == {"missing_days": 1.0, "days_until_first": float(DAYS_AHEAD)}
    [event] = router.broker.events("router.alerts")
    assert b"partition_missing" in event.value

    monkeypatch.setattr(facts, "prepare_days", made)
    clock.advance(HOUR_S)
    router.days.step()
    assert len(router.alerts()) == 1
    monkeypatch.setattr(facts, "prepare_days", lambda self, days: [])
    clock.advance(86_400.0)
    router.days.step()
    assert len(router.alerts()) == 2


def test_upkeep_looks_once_an_hour(router: Router, clock: ManualClock) -> None:
    router.days.step()
    with router.ledger.begin() as tx:
        [*_, last] = tx.upkeep.days()
        assert tx.upkeep.drop_facts(last, actor="ann", now=clock.now())
    clock.advance(HOUR_S - 1)
    router.days.step()
    with router.ledger.begin() as tx:
        assert last not in tx.upkeep.days()
    clock.advance(1)
    router.days.step()
    with router.ledger.begin() as tx:
        assert last in tx.upkeep.days()


@pytest.mark.postgres
def test_a_table_left_in_the_way_costs_only_its_own_day(
    database_url: str, clock: ManualClock
) -> None:
    """Somebody detached a partition by hand and left it: that name is taken."""
    blocked = NOON.date() + timedelta(days=DAYS_AHEAD + 2)
    ledger = PostgresLedger(database_url, clock=clock)
    router = Router(ledger, clock)
    with raw_connection(database_url) as connection:
        connection.execute(f"CREATE TABLE labels_p{blocked:%Y%m%d} (LIKE labels)")
    clock.advance(3 * 86_400.0)
    router.days.step()
    [alert] = router.alerts()
    assert str(blocked) in alert.message
    with ledger.begin() as tx:
        assert set(coming_days(clock.now())) - set(tx.upkeep.days()) == {blocked}
    with raw_connection(database_url) as connection:
        connection.execute(f"DROP TABLE labels_p{blocked:%Y%m%d}")
    clock.advance(HOUR_S)
    router.days.step()
    with ledger.begin() as tx:
        assert set(coming_days(clock.now())) <= set(tx.upkeep.days())
    ledger.close()


@pytest.mark.postgres
def test_a_partition_taken_away_by_hand_is_made_again(
    database_url: str, clock: ManualClock
) -> None:
    tomorrow = NOON.date() + timedelta(days=1)
    ledger = PostgresLedger(database_url, clock=clock)
    router = Router(ledger, clock)
    router.days.step()
    with raw_connection(database_url) as connection:
        connection.execute(f"DROP TABLE labels_p{tomorrow:%Y%m%d}")
    clock.advance(HOUR_S)
    router.days.step()
    with ledger.begin() as tx:
        assert tomorrow in tx.upkeep.days()
    assert router.alerts() == []
    ledger.close()
