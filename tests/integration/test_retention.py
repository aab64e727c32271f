"""What only PostgreSQL and the command line can show of retention and erasure."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta

import pytest
from typer.testing import CliRunner

from ingest import cli
from store.clock import SystemClock
from store.errors import StoreUnavailable
from store.postgres import migrate
from store.postgres.connecting import raw_connection
from store.postgres.ledger import PostgresLedger
from store.postgres.partitions import partition_of
from store.postgres.tables import labels, prompts, responses
from store.records import RequestId
from tests.contract.acts import decide
from tests.factories import decided, label, response

pytestmark = pytest.mark.postgres

A = RequestId("a")
NOW = SystemClock().now()
OLD = NOW - timedelta(days=95)
MIDDLE = NOW - timedelta(days=40)


@pytest.fixture
def ledger(database_url: str) -> Iterator[PostgresLedger]:
    with closing(PostgresLedger(database_url)) as held:
        for name, then in (("a", OLD), ("b", MIDDLE), ("c", NOW)):
            decide(held, name, decided_at=then)
            decide(held, f"{name}-unsampled", decided_at=then, is_sampled=False)
            with held.begin() as tx:
                tx.responses.record([response(name, received_at=then)])
                tx.outbox.mark([m.message_id or 0 for m in tx.outbox.unmarked(limit=9)], now=NOW)
        yield held


def one(database_url: str, query: str) -> object:
    with raw_connection(database_url) as connection:
        row = connection.execute(query.encode()).fetchone()
    assert row is not None
    return row[0]


def drop_text(ledger: PostgresLedger) -> None:
    with ledger.begin() as tx:
        assert tx.upkeep.drop_text(OLD.date(), actor="ann", now=NOW)


def test_a_day_goes_as_partitions_and_leaves_no_dead_rows(
    ledger: PostgresLedger, database_url: str
) -> None:
    with ledger.begin() as tx:
        tx.labels.add([], [label("a")])
        assert tx.upkeep.drop_facts(OLD.date(), actor="ann", now=NOW)
    gone = f"SELECT count(*) FROM pg_class WHERE relname LIKE '%p{OLD:%Y%m%d}%'"  # noqa: S608
    assert one(database_url, gone) == 0
    assert migrate.differences(database_url) == []


def test_no_byte_of_a_dropped_text_is_left_in_the_tables(
    ledger: PostgresLedger, database_url: str
) -> None:
    drop_text(ledger)
    for table in (prompts, responses):
        name = partition_of(table, OLD.date())
        held = f"SELECT count(text_utf8) FROM {name}"  # noqa: S608
        assert one(database_url, held) == 0
        # One page: rows that an UPDATE would have left dead, with their text, are not there.
        assert one(database_url, f"SELECT pg_relation_size('{name}')") == 8_192
    assert migrate.differences(database_url) == []


def test_a_swapped_partition_is_like_the_others(ledger: PostgresLedger, database_url: str) -> None:
    drop_text(ledger)
    for table in (prompts, responses):
        swapped, other = (partition_of(table, day.date()) for day in (OLD, MIDDLE))
        for what in (
            "SELECT count(*) FROM pg_index WHERE indrelid = '{}'::regclass AND indisvalid",
            "SELECT count(*) FROM pg_constraint WHERE conrelid = '{}'::regclass",
            "SELECT count(*) FROM pg_inherits JOIN pg_index ON indexrelid = inhrelid"
            " WHERE indrelid = '{}'::regclass",
        ):
            expected = one(database_url, what.format(other))
            assert one(database_url, what.format(swapped)) == expected


def test_dropping_gives_up_soon_while_somebody_reads_and_keeps_nobody_waiting(
    ledger: PostgresLedger, database_url: str
) -> None:
    clock = SystemClock()
    with raw_connection(database_url) as reader, reader.transaction():
        reader.execute("SELECT count(*) FROM labels")
        started = clock.monotonic()
        with pytest.raises(StoreUnavailable), ledger.begin() as tx:
            tx.upkeep.drop_facts(OLD.date(), actor="ann", now=NOW)
        assert clock.monotonic() - started < 5.0
        decide(ledger, "meanwhile", decided_at=NOW)
    with ledger.begin() as tx:
        assert tx.decisions.find(A) is not None
        assert tx.upkeep.drop_facts(OLD.date(), actor="ann", now=NOW)


def test_a_process_that_knew_a_dropped_day_makes_it_again(
    ledger: PostgresLedger, database_url: str
) -> None:
    with ledger.begin() as tx:
        assert tx.upkeep.drop_facts(OLD.date(), actor="ann", now=NOW)
    with ledger.begin() as tx:
        [again] = tx.decisions.record([decided("late", decided_at=OLD)])
        assert again.is_new
    assert one(database_url, f"SELECT to_regclass('{partition_of(labels, OLD.date())}')::text")


# The commands


@pytest.fixture
def environment(ledger: PostgresLedger, database_url: str) -> dict[str, str]:
    assert ledger is not None  # filled before the commands look
    return {
        "STEERSMAN_DATABASE_URL": database_url,
        "STEERSMAN_KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1",
    }


def run(environment: dict[str, str], *arguments: str, says: str = "") -> tuple[int, str]:
    done = CliRunner().invoke(cli.app, arguments, env=environment, input=says)
    return done.exit_code, done.output


def audited(ledger: PostgresLedger) -> list[str]:
    with ledger.begin() as tx:
        return [entry.action for entry in tx.operations.audit_trail(limit=99)]


def test_a_dry_run_shows_sizes_and_changes_nothing(
    ledger: PostgresLedger, environment: dict[str, str]
) -> None:
    status, said = run(environment, "retention", "--dry-run")
    assert status == 0, said
    assert f"{OLD.date()}  all facts" in said
    assert f"{MIDDLE.date()}  text" in said
    assert "MB" in said
    assert audited(ledger) == []
    with ledger.begin() as tx:
        assert tx.decisions.find(A) is not None


@pytest.mark.parametrize("says", ["n\n", ""])
def test_whoever_does_not_say_yes_drops_nothing(
    ledger: PostgresLedger, environment: dict[str, str], says: str
) -> None:
    for command in (["retention"], ["erase", "--tenant", "default"]):
        status, said = run(environment, *command, says=says)
        assert status == 1
        assert "for good?" in said
    assert audited(ledger) == []


def test_retention_drops_and_says_what(ledger: PostgresLedger, environment: dict[str, str]) -> None:
    status, said = run(environment, "retention", "--yes")
    assert status == 0, said
    assert f"{OLD.date()}  facts dropped" in said
    assert f"{MIDDLE.date()}  text dropped" in said
    assert "text of 1 days, 2 request ids" in said
    assert set(audited(ledger)) == {"facts.dropped", "text.dropped", "retention.finished"}
    with ledger.begin() as tx:
        found = tx.decisions.find_many([RequestId(n) for n in ("a", "b", "b-unsampled", "c")])
        assert set(found) == {"b", "c"}
    _, again = run(environment, "retention", "--yes")
    assert "done: facts of 0 days, text of 0 days, 0 request ids" in again


def test_settings_say_how_many_days(environment: dict[str, str]) -> None:
    days = {"STEERSMAN_RETENTION_FACTS_DAYS": "400", "STEERSMAN_RETENTION_TEXT_DAYS": "50"}
    _, said = run(environment | days, "retention", "--dry-run")
    assert f"{OLD.date()}  text" in said
    assert "facts  " not in said
    assert str(MIDDLE.date()) not in said


def test_erasing_counts_and_may_be_repeated(
    ledger: PostgresLedger, environment: dict[str, str]
) -> None:
    status, said = run(environment, "erase", "--tenant", "default", says="y\n")
    assert status == 0, said
    assert "prompts: 6" in said
    assert "responses: 3" in said
    assert "embeddings: 3" in said
    _, again = run(environment, "erase", "--tenant", "default", "--yes")
    assert "prompts: 0" in again
    with ledger.begin() as tx:
        assert tx.decisions.prompt_text(A) is None
        assert tx.decisions.find(A) is not None
