"""One fixture, every ledger: the suite below it is the port's promises."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from store.clock import ManualClock
from store.ledger import Ledger
from store.memory import MemoryLedger
from tests.factories import NOON


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NOON)


@pytest.fixture(params=["memory", pytest.param("postgres", marks=pytest.mark.postgres)])
def ledger(request: pytest.FixtureRequest, clock: ManualClock) -> Iterator[Ledger]:
    if request.param == "memory":
        yield MemoryLedger(clock=clock)
        return
    from store.postgres.ledger import PostgresLedger  # noqa: PLC0415  # only where it is tested

    held = PostgresLedger(request.getfixturevalue("database_url"), clock=clock)
    yield held
    assert held.connections_in_use() == 0
    held.close()
