"""What only PostgreSQL can show: overlapping transactions, statements counted, lost links."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import psycopg
import pytest
from sqlalchemy import event

from store.errors import EventRejected, StateSuperseded, StoreError, StoreUnavailable
from store.judging import Quarantine
from store.ledger import Transaction
from store.postgres.connecting import raw_connection
from store.postgres.embedded import EmbeddedPostgres
from store.postgres.ledger import PostgresLedger
from store.records import RequestId
from tests.factories import (
    ENCODER,
    NOON,
    decided,
    expert,
    failed_call,
    label,
    later,
    message,
    response,
    settings,
    state,
    task,
    verdict,
)

pytestmark = pytest.mark.postgres


def test_a_label_whose_transaction_commits_late_still_comes_exactly_once(
    postgres_ledger: PostgresLedger,
) -> None:
    ledger, names = postgres_ledger, []
    with ledger.begin() as late:
        late.labels.add([], [label("late")])
        with ledger.begin() as early:
            early.labels.add([], [label("early")])
        with ledger.begin() as reader:
            first = reader.labels.settled_since(0)
    with ledger.begin() as reader:
        second = reader.labels.settled_since(first.cursor)
    with ledger.begin() as reader:
        third = reader.labels.settled_since(second.cursor)
    names = [one.request_id for read in (first, second, third) for one in read.labels]
    assert first.labels == ()
    assert sorted(names) == ["early", "late"]
    assert third.labels == ()


def test_a_reader_racing_writers_reads_every_label_once(postgres_ledger: PostgresLedger) -> None:
    ledger, stop = postgres_ledger, threading.Event()

    def write(writer: int) -> None:
        for number in range(25):
            with ledger.begin() as tx:
                tx.labels.add([], [label(f"w{writer}-{number}-{n}") for n in range(3)])

    def read() -> list[str]:
        names: list[str] = []
        cursor = 0
        while True:
            was_last = stop.is_set()
            with ledger.begin() as tx:
                settled = tx.labels.settled_since(cursor, limit=7)
            names += [one.request_id for one in settled.labels]
            cursor = settled.cursor
            if was_last and not settled.labels:
                return names

    with ThreadPoolExecutor(5) as pool:
        reading = pool.submit(read)
        for writing in [pool.submit(write, writer) for writer in range(4)]:
            writing.result()
        stop.set()
        names = reading.result()
    assert len(names) == len(set(names)) == 300


def test_the_watermark_waits_for_a_decision_whose_transaction_commits_late(
    postgres_ledger: PostgresLedger,
) -> None:
    def watermark() -> int:
        with postgres_ledger.begin() as tx:
            return tx.decisions.watermark(now=later(1), timeout_s=60)

    with postgres_ledger.begin() as tx:
        [base] = tx.decisions.record([decided("base", is_sampled=False)])
    with postgres_ledger.begin() as late:
        [slow] = late.decisions.record([decided("slow")])
        with postgres_ledger.begin() as early:
            [fast] = early.decisions.record([decided("fast", is_sampled=False)])
        meanwhile = watermark()
    assert base.decision is not None
    assert slow.decision is not None
    assert fast.decision is not None
    assert slow.decision.seq is not None
    assert meanwhile == base.decision.seq
    assert watermark() == slow.decision.seq - 1
    with postgres_ledger.begin() as tx:
        assert tx.decisions.last_seq() == fast.decision.seq


def test_a_publisher_that_waited_for_another_is_superseded(postgres_ledger: PostgresLedger) -> None:
    with postgres_ledger.begin() as tx:
        tx.states.publish(state(1))

    def publish() -> None:
        with postgres_ledger.begin() as tx:
            tx.states.publish(state(2, note="second"))

    with ThreadPoolExecutor(1) as pool:
        with postgres_ledger.begin() as tx:
            tx.states.publish(state(2, note="first"))
            second = pool.submit(publish)
            wait_until_blocked(postgres_ledger)
        with pytest.raises(StateSuperseded):
            second.result()
    with postgres_ledger.begin() as tx:
        assert tx.states.active() == state(2, note="first")


def wait_until_blocked(ledger: PostgresLedger) -> None:
    """Return once some connection waits for a lock."""
    blocked = "SELECT count(*) FROM pg_locks WHERE NOT granted AND pid <> pg_backend_pid()"
    with raw_connection(ledger._url) as connection:
        while connection.execute(blocked).fetchone() == (0,):
            pass


Write = Callable[[Transaction, list[str]], object]


@pytest.mark.parametrize(
    "write",
    [
        lambda tx, names: tx.decisions.record([decided(f"new-{n}") for n in names]),
        lambda tx, names: tx.decisions.record([decided(n) for n in names]),
        lambda tx, names: tx.decisions.find_many(names),
        lambda tx, names: tx.decisions.sampled(names, encoder=ENCODER),
        lambda tx, names: tx.responses.record([response(n) for n in names]),
        lambda tx, names: tx.calls.record([failed_call(n) for n in names]),
        lambda tx, names: tx.tasks.add([task(n) for n in names]),
        lambda tx, names: tx.labels.add([verdict(n) for n in names], [label(n) for n in names]),
        lambda tx, names: tx.outbox.add([message(n) for n in names]),
        lambda tx, names: tx.outbox.mark(range(len(names)), now=NOON),
    ],
    ids=[
        "decide",
        "again",
        "find",
        "sampled",
        "respond",
        "failed",
        "tasks",
        "labels",
        "outbox",
        "mark",
    ],
)
def test_a_batch_costs_the_same_statements_whatever_its_size(
    postgres_ledger: PostgresLedger, write: Write
) -> None:
    names = [f"r{n}" for n in range(101)]
    with postgres_ledger.begin() as tx:
        tx.decisions.record([decided(name) for name in names])
    counted = []
    statements: list[str] = []
    event.listen(
        postgres_ledger._engine,
        "before_cursor_execute",
        lambda *call: statements.append(call[2]),
    )
    for batch in (names[:1], names[1:]):
        statements.clear()
        with postgres_ledger.begin() as tx:
            write(tx, batch)
        counted.append(len(statements))
    assert counted[0] == counted[1]
    assert counted[0] <= 7


def test_a_decision_whose_day_has_no_partition_gets_one(postgres_ledger: PostgresLedger) -> None:
    far = NOON + timedelta(days=400)

    def record(number: int) -> bool:
        with postgres_ledger.begin() as tx:
            recorded = tx.decisions.record([decided(f"r{number}", decided_at=far)])
            tx.responses.record([response(f"r{number}")])
            tx.labels.add([], [label(f"r{number}")])
        return recorded[0].is_new

    with ThreadPoolExecutor(6) as pool:
        assert all(pool.map(record, range(6)))


def test_a_partition_made_by_a_failed_transaction_is_made_again(
    postgres_ledger: PostgresLedger,
) -> None:
    far = NOON + timedelta(days=500)

    def record_and_fail() -> None:
        with postgres_ledger.begin() as tx:
            tx.decisions.record([decided("r1", decided_at=far)])
            tx.decisions.record([decided("r2", decided_at=far)])
            raise ArithmeticError

    with pytest.raises(ArithmeticError):
        record_and_fail()
    with postgres_ledger.begin() as tx:
        [recorded] = tx.decisions.record([decided("r1", decided_at=far)])
    assert recorded.is_new


def test_each_change_is_announced_when_it_commits(postgres_ledger: PostgresLedger) -> None:
    heard = postgres_ledger.notifications()
    try:
        with postgres_ledger.begin() as tx:
            tx.states.publish(state())
            assert heard.wait(0.05) == set()
        assert heard.wait(10) == {"state"}
        with postgres_ledger.begin() as tx:
            tx.policies.set(settings(), actor="me", now=NOON)
        assert heard.wait(10) == {"policy"}
        with postgres_ledger.begin() as tx:
            tx.experts.add(expert())
        assert heard.wait(10) == {"policy"}
        with postgres_ledger.begin() as tx:
            tx.tasks.add([task()])
            tx.labels.add([], [label()])
        assert heard.wait(10) == {"tasks", "labels"}
        with postgres_ledger.begin() as tx:
            tx.tasks.add([task()])
            tx.labels.add([], [label()])
        assert heard.wait(0.05) == set()
    finally:
        heard.close()
    assert heard.wait(10) == set()


def test_a_listener_that_lost_its_connection_listens_again(
    postgres_ledger: PostgresLedger,
) -> None:
    heard = postgres_ledger.notifications()
    try:
        cut_connections(postgres_ledger)
        assert heard.wait(10) == set()
        assert heard.wait(10) == {"state", "policy", "labels", "tasks"}
        with postgres_ledger.begin() as tx:
            tx.states.publish(state())
        assert heard.wait(10) == {"state"}
    finally:
        heard.close()


def cut_connections(ledger: PostgresLedger) -> None:
    with raw_connection(ledger._url) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            " WHERE pid <> pg_backend_pid() AND datname = current_database()"
        )


def test_a_connection_cut_inside_a_transaction_is_unavailable_and_stores_nothing(
    postgres_ledger: PostgresLedger,
) -> None:
    def record_while_cut() -> None:
        with postgres_ledger.begin() as tx:
            tx.decisions.record([decided()])
            cut_connections(postgres_ledger)
            tx.outbox.add([message()])

    with pytest.raises(StoreUnavailable):
        record_while_cut()
    with postgres_ledger.begin() as tx:
        assert tx.decisions.find(RequestId("r1")) is None


def test_connections_cut_while_idle_are_replaced_unnoticed(
    postgres_ledger: PostgresLedger,
) -> None:
    with postgres_ledger.begin() as tx:
        tx.experts.add(expert())
    cut_connections(postgres_ledger)
    with postgres_ledger.begin() as tx:
        assert len(tx.experts.all()) == 1


def test_a_server_that_is_away_is_unavailable(postgres_server: EmbeddedPostgres) -> None:
    ledger = PostgresLedger(postgres_server.url("no_such_database"))
    with pytest.raises(StoreUnavailable), ledger.begin():
        pass
    with pytest.raises(StoreUnavailable), ledger.lead("learn"):
        pass
    ledger.close()


def test_a_database_without_the_schema_says_what_to_run(postgres_server: EmbeddedPostgres) -> None:
    ledger = PostgresLedger(postgres_server.url())
    with pytest.raises(StoreError, match="steersman migrate"), ledger.begin() as tx:
        tx.experts.all()
    ledger.close()


def test_an_id_that_cannot_be_stored_is_rejected_without_its_text(
    postgres_ledger: PostgresLedger,
) -> None:
    with pytest.raises(EventRejected) as rejected, postgres_ledger.begin() as tx:
        tx.decisions.record([decided("a\x00b", text="a secret")])
    assert rejected.value.code == "unstorable"
    assert "secret" not in str(rejected.value)


def test_a_quarantine_waits_for_what_a_judge_is_just_storing(
    postgres_ledger: PostgresLedger,
) -> None:
    """Else its label would be out of λ, and its task done: nobody would judge the request again."""
    lying = Quarantine(judge_version="liar-1", since=NOON, reason="r", imposed_at=later(9))
    with postgres_ledger.begin() as tx:
        tx.decisions.record([decided("r1")])
        tx.tasks.add([task("r1")])
        [leased] = tx.tasks.lease(worker="w", now=later(1), lease_s=60.0, limit=1)

    def impose() -> int:
        with postgres_ledger.begin() as tx:
            return tx.judging.quarantine(lying, actor="canaries")

    with ThreadPoolExecutor(1) as pool:
        with postgres_ledger.begin() as worker:
            assert worker.judging.quarantines_until_end() == []
            imposing = pool.submit(impose)
            with pytest.raises(TimeoutError):
                imposing.result(0.3)
            worker.labels.add([], [label("r1", judge_version="liar-1", labelled_at=later(2))])
            worker.tasks.finish(leased.task_id or 0, worker="w")
        assert imposing.result() == 1
    with postgres_ledger.begin() as tx:
        assert tx.judging.quarantines_until_end() == [lying]
        assert tx.tasks.counts()["pending"] == 1


def test_a_server_that_goes_before_the_listener_listens_is_an_outage(
    postgres_ledger: PostgresLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(url: str) -> psycopg.Connection:
        connection = raw_connection(url)
        connection.close()
        return connection

    monkeypatch.setattr("store.postgres.notify.raw_connection", gone)
    with pytest.raises(StoreUnavailable):
        postgres_ledger.notifications()
