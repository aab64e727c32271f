"""The schema: built, undone, the same as the metadata, and safe to build twice at once."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from datetime import timedelta

import pytest
from sqlalchemy import Engine, event

from store.errors import SettingsInvalid, StoreError, StoreUnavailable
from store.lives import Step
from store.postgres import migrate
from store.postgres.connecting import make_engine, raw_connection
from store.postgres.ledger import PostgresLedger
from store.postgres.partitions import listed
from store.postgres.tables import DAY_TABLES, metadata
from store.records import ExpertId, ExpertStatus
from store.upkeep import coming_days
from tests.factories import CHEAP, NOON, decided, later

pytestmark = pytest.mark.postgres

_RELATIONS = "SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace"
_INVALID = "SELECT count(*) FROM pg_index WHERE NOT indisvalid"


def test_the_schema_goes_down_to_nothing_and_up_again(database_url: str) -> None:
    migrate.check(database_url)
    migrate.downgrade(database_url)
    with pytest.raises(StoreError, match="steersman migrate"):
        migrate.check(database_url)
    with raw_connection(database_url) as connection:
        left = connection.execute(
            f"{_RELATIONS} AND relname NOT LIKE '%%alembic_version%%'"  # constant
        ).fetchone()
    assert left == (0,)
    migrate.upgrade(database_url, now=NOON)
    migrate.check(database_url)


def test_the_schema_built_by_migrations_equals_the_metadata(database_url: str) -> None:
    assert migrate.differences(database_url) == []


def test_partitioning_and_partial_indexes_are_as_the_metadata_says(database_url: str) -> None:
    with raw_connection(database_url) as connection:
        keys: dict[str, str] = dict(
            connection.execute(
                "SELECT relname, pg_get_partkeydef(oid) FROM pg_class WHERE relkind = 'p'"
            ).fetchall()
        )
        partial: dict[str, str] = dict(
            connection.execute(
                "SELECT c.relname, pg_get_expr(indpred, indrelid) FROM pg_index"
                " JOIN pg_class c ON c.oid = indexrelid"
                " WHERE indpred IS NOT NULL AND NOT c.relispartition"
            ).fetchall()
        )
        invalid = connection.execute(_INVALID).fetchone()
    expected = {
        table.name: table.dialect_options["postgresql"]["partition_by"]
        for table in metadata.tables.values()
        if table.dialect_options["postgresql"]["partition_by"]
    }
    assert keys == expected
    assert set(partial) == {
        index.name
        for table in metadata.tables.values()
        for index in table.indexes
        if index.dialect_options["postgresql"]["where"] is not None
    }
    assert partial["ux_routing_states_active"] == "is_active"
    assert invalid == (0,)


def test_every_day_table_has_partitions_from_yesterday_to_a_week_ahead(database_url: str) -> None:
    engine = make_engine(database_url, pooled=False)
    with engine.begin() as connection:
        days = listed(connection)
    assert days == [NOON.date() + timedelta(days=n) for n in range(-1, 8)]
    with raw_connection(database_url) as raw:
        for table in DAY_TABLES:
            found = raw.execute(
                "SELECT count(*) FROM pg_class WHERE relname LIKE %s AND relkind = 'r'",
                [f"{table.name}_p2026%"],
            ).fetchone()
            assert found == (len(days),)


def test_the_daily_run_makes_only_what_is_missing(database_url: str) -> None:
    tomorrow = coming_days(NOON + timedelta(days=1))
    with closing(PostgresLedger(database_url)) as ledger:
        for made in ([NOON.date() + timedelta(days=8)], []):
            with ledger.begin() as tx:
                assert tx.upkeep.prepare_days(tomorrow) == made


def test_two_upgrades_at_once_do_not_collide(database_url: str) -> None:
    migrate.downgrade(database_url)
    with ThreadPoolExecutor(3) as pool:
        runs = [pool.submit(migrate.upgrade, database_url, now=NOON) for _ in range(3)]
    for run in runs:
        run.result()
    migrate.check(database_url)
    assert migrate.differences(database_url) == []


_WAITS = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'responses'::regclass"

_WAITS_FOR_EXPERTS = _WAITS.replace("responses", "experts")


def test_whoever_reads_experts_goes_on_while_answers_are_indexed(database_url: str) -> None:
    """Bug: the columns of ``experts`` came first, and their lock was held through the indexes."""
    migrate.downgrade(database_url, revision="0001")
    with ThreadPoolExecutor(1) as pool, raw_connection(database_url) as reader:
        with raw_connection(database_url) as writer, writer.transaction():
            writer.execute("LOCK TABLE responses IN ROW EXCLUSIVE MODE")  # as an INSERT does
            upgrading = pool.submit(migrate.upgrade, database_url, now=NOON)
            while reader.execute(_WAITS).fetchone() == (0,):
                assert not upgrading.done()
            reader.execute("SET lock_timeout = '500ms'")
            assert reader.execute("SELECT count(*) FROM experts").fetchone() == (0,)
        upgrading.result()
    migrate.check(database_url)
    assert migrate.differences(database_url) == []


@contextmanager
def sent_statements() -> Iterator[list[str]]:
    """Collect what any engine executes."""
    sent: list[str] = []

    def listen(_: object, __: object, statement: str, *___: object) -> None:
        sent.append(statement)

    event.listen(Engine, "before_cursor_execute", listen)
    try:
        yield sent
    finally:
        event.remove(Engine, "before_cursor_execute", listen)


def test_an_upgrade_that_meets_live_traffic_in_a_deadlock_tries_again(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bug: the program ended. Traffic read ``experts`` and stored an answer in one transaction."""
    monkeypatch.setattr(migrate, "LOCK_TIMEOUT_MS", 60_000)  # the deadlock comes first
    monkeypatch.setattr(migrate, "PAUSE_S", 0.0)
    migrate.downgrade(database_url, revision="0001")
    with (
        ThreadPoolExecutor(1) as pool,
        raw_connection(database_url) as watch,
        sent_statements() as sent,
    ):
        with raw_connection(database_url) as traffic, traffic.transaction():
            traffic.execute("SET LOCAL deadlock_timeout = '1h'")  # so the upgrade gives way
            traffic.execute("SELECT count(*) FROM experts")
            upgrading = pool.submit(migrate.upgrade, database_url, now=NOON)
            while watch.execute(_WAITS_FOR_EXPERTS).fetchone() == (0,):
                assert not upgrading.done()
            traffic.execute("LOCK TABLE responses IN ROW EXCLUSIVE MODE")
        upgrading.result()
    assert sum("LOCK TABLE alerts, experts" in one for one in sent) > 1
    migrate.check(database_url)
    assert migrate.differences(database_url) == []


def test_a_table_that_others_hold_is_not_waited_for_without_end(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrate, "LOCK_TIMEOUT_MS", 100)
    monkeypatch.setattr(migrate, "PAUSE_S", 0.0)
    migrate.downgrade(database_url, revision="0001")
    with raw_connection(database_url) as reader, reader.transaction():
        reader.execute("SELECT count(*) FROM experts")  # as a pg_dump does, for as long as it runs
        with (
            sent_statements() as sent,
            pytest.raises(StoreUnavailable, match=r"not changed.*run `steersman migrate`"),
        ):
            migrate.upgrade(database_url, now=NOON)
    assert sum("LOCK TABLE alerts, experts" in one for one in sent) == migrate.ATTEMPTS
    assert not any("CREATE INDEX" in one for one in sent)  # no attempt builds what it must undo
    with pytest.raises(StoreError, match="at revision 0001"):
        migrate.check(database_url)
    migrate.upgrade(database_url, now=NOON)
    migrate.check(database_url)


def test_experts_that_were_there_get_the_steps_that_are_known(database_url: str) -> None:
    migrate.downgrade(database_url, revision="0003")
    add = (
        "INSERT INTO experts (name, status, input_usd_per_mtok, output_usd_per_mtok, request_usd,"
        " client, added_at, status_changed_at, baseline_seq)"
        " VALUES (%s, %s, 1, 1, 0, '{}', %s, %s, 0)"
    )
    with raw_connection(database_url) as connection:
        connection.execute(add, ["cheap", "certified", NOON, later(60)])
        connection.execute(add, ["mid", "registered", later(9), later(9)])
    migrate.upgrade(database_url, now=NOON)
    with closing(PostgresLedger(database_url)) as ledger, ledger.begin() as tx:
        assert tx.lives.steps(CHEAP) == [
            Step(ExpertStatus.REGISTERED, NOON),
            Step(ExpertStatus.CERTIFIED, later(60)),
        ]
        assert tx.lives.steps(ExpertId("mid")) == [Step(ExpertStatus.REGISTERED, later(9))]


def test_labels_restored_from_another_clusters_future_are_readable_after_an_upgrade(
    database_url: str,
) -> None:
    with raw_connection(database_url) as connection:
        connection.execute(
            "INSERT INTO labels (day, request_id, expert, judge_version, outcome, purpose,"
            " labelled_at, xact) VALUES ('1970-01-01', 'r', 'e', 'j', 1, 'traffic', now(), 1 << 40)"
        )
        migrate.upgrade(database_url, now=NOON)
        moved = connection.execute(
            "SELECT count(*) FROM labels"
            " WHERE xact < pg_snapshot_xmax(pg_current_snapshot())::text::bigint"
        ).fetchone()
    assert moved == (1,)


def set_revision(url: str, revision: str) -> None:
    with raw_connection(url) as connection:
        connection.execute("UPDATE alembic_version SET version_num = %s", [revision])


def test_a_newer_schema_that_only_added_is_accepted_and_left_alone(database_url: str) -> None:
    set_revision(database_url, "8001")
    migrate.check(database_url)
    migrate.upgrade(database_url, now=NOON + timedelta(days=3))
    engine = make_engine(database_url, pooled=False)
    with engine.begin() as connection:
        assert listed(connection)[-1] == (NOON + timedelta(days=10)).date()
    with closing(PostgresLedger(database_url)) as ledger, ledger.begin() as tx:
        tx.decisions.record([decided("r-1")])
    with raw_connection(database_url) as raw:
        found = raw.execute("SELECT version_num FROM alembic_version").fetchone()
    assert found == ("8001",)


def test_a_newer_schema_that_says_which_program_it_needs_refuses_an_older_one(
    database_url: str,
) -> None:
    engine = make_engine(database_url, pooled=False)
    with engine.begin() as connection:
        migrate.require(connection, "7000")
    migrate.upgrade(database_url, now=NOON)  # the revision is this program's own
    set_revision(database_url, "8001")
    for start in (migrate.check, migrate.upgrade):
        with pytest.raises(StoreError, match=r"needs a program that knows 7000; this one knows 0"):
            start(database_url)


def comment_on_revisions(url: str) -> str | None:
    with raw_connection(url) as connection:
        found = connection.execute("SELECT obj_description('alembic_version'::regclass)").fetchone()
    assert found is not None
    comment: str | None = found[0]
    return comment


def test_a_downgrade_below_it_takes_the_required_program_back(database_url: str) -> None:
    engine = make_engine(database_url, pooled=False)
    with engine.begin() as connection:
        migrate.require(connection, "0002")
    migrate.downgrade(database_url, revision="0002")
    assert comment_on_revisions(database_url) == "least program: 0002"
    migrate.downgrade(database_url, revision="0001")
    assert comment_on_revisions(database_url) is None
    with engine.begin() as connection:
        migrate.require(connection, "0001")
    migrate.downgrade(database_url)
    assert comment_on_revisions(database_url) is None


@pytest.mark.parametrize("url", ["sqlite:///x.db", "postgresql+asyncpg://h/d", "nonsense"])
def test_a_url_that_is_not_postgresql_is_refused(url: str) -> None:
    with pytest.raises(SettingsInvalid):
        make_engine(url)
