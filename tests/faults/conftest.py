"""PostgreSQL and Apache Kafka that a test may kill; what they acknowledged is on a disk."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from store.postgres import migrate
from store.postgres.connecting import raw_connection
from store.postgres.embedded import EmbeddedPostgres
from tests.contract.apache_kafka import ApacheKafka
from tests.contract.kafka_fixtures import settings_of
from tests.faults.replays import Replay
from tests.faults.streaming import PROMPTS_SENT

_POSTGRES = {"fsync": "off", "shared_buffers": "64MB"}
"""Nothing here cuts the power: what the kernel has survives."""
_MEMORY = Path("/dev/shm")  # noqa: S108


@dataclass
class Servers:
    """Both servers; each comes back where it was."""

    kafka: ApacheKafka
    data: Path
    postgres: EmbeddedPostgres = field(init=False)

    def __post_init__(self) -> None:
        self.start_postgres()

    def start_postgres(self) -> None:
        self.postgres = EmbeddedPostgres(self.data, settings=_POSTGRES)

    def kill_postgres(self) -> None:
        assert self.postgres.pid is not None
        os.kill(self.postgres.pid, signal.SIGKILL)

    def replay(
        self, folder: Path, name: str, *, partitions: int = 1, prompts: int = PROMPTS_SENT
    ) -> Replay:
        """Return a replay with topics and a database of its own."""
        with raw_connection(self.postgres.url()) as admin:
            admin.execute(f"CREATE DATABASE {name}")
        url = self.postgres.url(name)
        migrate.upgrade(url)
        kafka = settings_of(self.kafka.bootstrap_servers, partitions=partitions)
        return Replay(folder / name, kafka, url, prompts)


@pytest.fixture(scope="session")
def servers(apache_kafka_jars: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    kafka = ApacheKafka(apache_kafka_jars, tmp_path_factory.mktemp("kafka"))
    kafka.start()
    # A short name: the server's socket lies inside.
    with tempfile.TemporaryDirectory(prefix="pg", dir=_MEMORY if _MEMORY.is_dir() else None) as pg:
        made = Servers(kafka, Path(pg) / "data")
        yield made
        made.postgres.stop()
    kafka.stop()
