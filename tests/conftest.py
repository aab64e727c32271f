"""What many tests share: a database of its own for each, and language models that answer."""

from __future__ import annotations

import itertools
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from store.postgres import migrate
from store.postgres.connecting import raw_connection
from store.postgres.embedded import EmbeddedPostgres
from store.postgres.ledger import PostgresLedger
from tests import fake_endpoints
from tests.contract.kafka_fixtures import apache_kafka, apache_kafka_jars
from tests.contract.legs import COLLECTED, LEGS
from tests.factories import NOON
from tests.fake_endpoints import Endpoints

__all__ = ["apache_kafka", "apache_kafka_jars"]
"""Here, and imported nowhere else: each module that imports a fixture gets a broker of its own."""

# The same examples every time, and no deadline: a busy machine is not a counterexample.
hypothesis.settings.register_profile("steersman", derandomize=True, deadline=None, database=None)
hypothesis.settings.load_profile("steersman")

_MEMORY = Path("/dev/shm")  # noqa: S108  # copying a template takes 25 ms there, 500 ms on a disk
_numbers = itertools.count(1)
_FAST = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "shared_buffers": "64MB",
    "autovacuum": "off",
}


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[EmbeddedPostgres]:
    roomy = _MEMORY.is_dir() and shutil.disk_usage(_MEMORY).free > 1 << 30
    with (
        tempfile.TemporaryDirectory(dir=_MEMORY if roomy else None) as folder,
        EmbeddedPostgres(Path(folder) / "data", settings=_FAST) as server,
    ):
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


@pytest.fixture
def endpoints() -> Iterator[Endpoints]:
    """Language models that answer on 127.0.0.1."""
    with fake_endpoints.running() as found:
        yield found


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Note every test before any is left out by -k or -m."""
    config.stash[COLLECTED] = [item.nodeid for item in items]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how many tests ran against each broker: a leg that was left out must be seen."""
    ran = [r.nodeid for r in terminalreporter.stats.get("passed", []) if r.when == "call"]
    held = [name for name in ran if "test_event_source" in name]
    counts = {leg: sum(f"[{leg}]" in name for name in held) for leg in LEGS}
    if any(counts.values()):
        told = ", ".join(f"{leg} {count}" for leg, count in counts.items())
        terminalreporter.write_line(f"tests passed by broker: {told}")
