"""One PostgreSQL for the session; each test that asks gets a fresh database from a template."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from store.postgres import migrate
from store.postgres.connecting import raw_connection
from store.postgres.embedded import EmbeddedPostgres
from store.postgres.ledger import PostgresLedger
from tests.factories import NOON

_numbers = itertools.count(1)
_FAST = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "shared_buffers": "64MB",
    "autovacuum": "off",
    "file_copy_method": "clone",
}


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    _FAST.pop("file_copy_method")
    with EmbeddedPostgres(tmp_path_factory.mktemp("postgres"), settings=_FAST) as server:
        with raw_connection(server.url()) as admin:
            admin.execute("CREATE DATABASE steersman_template")
        migrate.upgrade(server.url("steersman_template"), now=NOON)
        yield server


@pytest.fixture
def database_url(postgres_server: EmbeddedPostgres) -> Iterator[str]:
    name = f"test_{next(_numbers)}"
    with raw_connection(postgres_server.url()) as admin:
        admin.execute(f"CREATE DATABASE {name} TEMPLATE steersman_template STRATEGY file_copy")
        yield postgres_server.url(name)
        admin.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def postgres_ledger(database_url: str) -> Iterator[PostgresLedger]:
    ledger = PostgresLedger(database_url)
    yield ledger
    assert ledger.connections_in_use() == 0
    ledger.close()
