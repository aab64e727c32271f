"""PostgreSQL is killed under load: whatever was answered is in the ledger afterwards."""

from __future__ import annotations

import os
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from ingest.batcher import MicroBatcher
from ingest.degraded import DegradedHandler
from ingest.handler import RequestHandler
from ingest.live import Live
from ingest.memory_stream import MemoryBroker, MemorySink
from ingest.metrics import Metrics
from ingest.outbox import OutboxPublisher, Sweeper
from ingest.spool import Spool
from store.clock import SystemClock
from store.errors import StoreUnavailable
from store.postgres import migrate
from store.postgres.embedded import EmbeddedPostgres
from store.postgres.ledger import PostgresLedger
from store.records import Decision, RequestId
from tests import factories
from tests.unit import state_fakes
from tests.unit.loop_fakes import ClusterEncoder

pytestmark = [pytest.mark.postgres, pytest.mark.slow]
CALLERS = 8
PAUSE_S = 0.05
UP_S, AWAY_S, BACK_S = 2.0, 6.0, 3.0


@dataclass
class Callers:
    """Threads that ask all the time, each for ids of its own, and remember what they were told."""

    batcher: MicroBatcher
    stop: threading.Event = field(default_factory=threading.Event)
    told: dict[str, Decision] = field(default_factory=dict)
    refused: set[str] = field(default_factory=set)
    failed: list[Exception] = field(default_factory=list)
    threads: list[threading.Thread] = field(default_factory=list)

    def __enter__(self) -> Callers:
        self.threads = [
            threading.Thread(target=self._ask, args=(number,)) for number in range(CALLERS)
        ]
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        for thread in self.threads:
            thread.join()

    def _ask(self, number: int) -> None:
        count = 0
        while not self.stop.is_set():
            name = f"c{number}-{count}"
            count += 1
            try:
                answer = self.batcher.decide(
                    factories.prompt(name, text=f"prompt {count % 4} {number}")
                )
            except StoreUnavailable:
                self.refused.add(name)
            except Exception as problem:  # noqa: BLE001  a caller must see nothing else
                self.failed.append(problem)
            else:
                assert answer.decision is not None
                self.told[name] = answer.decision
            time.sleep(PAUSE_S)


@pytest.fixture
def data() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="pg") as folder:  # short: its socket lies inside
        yield Path(folder) / "data"


def test_every_answered_request_is_in_the_ledger_afterwards(data: Path, tmp_path: Path) -> None:
    clock = SystemClock()
    server = EmbeddedPostgres(data, settings={"shared_buffers": "64MB"})
    migrate.upgrade(server.url())
    ledger = PostgresLedger(server.url(), clock=clock)
    encoder, metrics = ClusterEncoder(), Metrics()
    live = Live(encoder=encoder.identity, dimension=encoder.dimension)
    live.swap(replace(state_fakes.state(), encoder=encoder.identity))
    outbox = OutboxPublisher(ledger, MemorySink(MemoryBroker()), clock)
    spool = Spool(tmp_path / "spool.jsonl")
    usual = RequestHandler(ledger, live, encoder, outbox, clock, metrics)
    handler = DegradedHandler(usual, ledger, spool, outbox, clock, metrics)
    stop = threading.Event()
    sweeper = threading.Thread(target=Sweeper(clock, [handler.sweep]).run, args=(stop,))
    sweeper.start()
    with MicroBatcher(handler) as batcher, Callers(batcher) as callers:
        time.sleep(UP_S)
        assert server.pid is not None
        os.kill(server.pid, signal.SIGKILL)
        time.sleep(AWAY_S)
        server = EmbeddedPostgres(data, settings={"shared_buffers": "64MB"})
        time.sleep(BACK_S)
    while len(spool):
        time.sleep(0.1)
    stop.set()
    sweeper.join()
    degraded = {name for name, decision in callers.told.items() if decision.degraded}
    with ledger.begin() as tx:
        found = tx.decisions.find_many([RequestId(name) for name in callers.told])
    ledger.close()
    spool.close()
    server.stop()
    assert callers.failed == []
    assert set(found) == set(callers.told)
    assert {n for n, d in found.items() if d.expert != callers.told[n].expert} == set()
    assert len(degraded) > 100
    assert len(callers.told) - len(degraded) > 100
    assert len(callers.refused) < 0.02 * len(callers.told)
