"""A PostgreSQL that is restored from a backup while a learner and a replica go on running."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from ingest.announce import announce_alert
from ingest.live import Live, StateWatcher
from recalibrate.cycle import Recalibrator
from store.clock import ManualClock
from store.errors import StoreUnavailable
from store.ledger import Ledger
from store.postgres import migrate
from store.postgres.ledger import PostgresLedger
from tests import factories
from tests.factories import NOON
from tests.integration.backups import dump, restore
from tests.unit import state_fakes
from tests.unit.test_live import ENCODER, record

pytestmark = pytest.mark.postgres


def judge(ledger: Ledger, *names: str) -> None:
    with ledger.begin() as tx:
        tx.decisions.record([factories.decided(name) for name in names])
        tx.labels.add([], [factories.label(name) for name in names])


def looked_again(step: Callable[[], object]) -> None:
    """Take a step; the first after a restore may find its connection gone."""
    try:
        step()
    except StoreUnavailable:
        step()


def test_a_replica_goes_back_and_a_learner_starts_over_when_the_ledger_is_restored(
    database_url: str, tmp_path: Path
) -> None:
    clock = ManualClock(NOON)
    with closing(PostgresLedger(database_url, clock=clock)) as ledger:
        live = Live(encoder=ENCODER, dimension=state_fakes.DIMENSION)
        watcher = StateWatcher(live, ledger, clock, replica="r-1", send=lambda _: None)
        learner = Recalibrator(
            ledger, clock, encoder=ENCODER, announce=announce_alert, send=lambda _: None
        )
        judge(ledger, "before-1", "before-2")
        with ledger.begin() as tx:
            tx.states.publish(record(1))
        dump(database_url, tmp_path / "ledger.dump")

        judge(ledger, "lost-1", "lost-2", "lost-3")
        with ledger.begin() as tx:
            tx.states.publish(record(2))
        watcher.step()
        learner.step()
        assert (live.version(), learner.labels) == (2, 5)

        restore(database_url, tmp_path / "ledger.dump")
        migrate.upgrade(database_url, now=NOON)
        looked_again(watcher.step)
        looked_again(learner.step)
        assert (live.version(), learner.labels) == (1, 2)
        judge(ledger, "after-1")
        learner.step()
        assert learner.labels == 3

        with ledger.begin() as tx:
            tx.states.publish(record(2, threshold=0.123))
        watcher.step()
        assert live.describe()["lambda"] == 0.123
