"""On every ledger: a learner that saw days go holds what a restarted one reads, bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import numpy as np
import pytest

from ingest.announce import announce_alert
from online.clusters import unit_rows
from online.learn import LearnSettings
from online.learner import LabelWindow, Learner
from recalibrate.cycle import Recalibrator
from store.clock import ManualClock
from store.ledger import Ledger
from store.records import FOLDS
from tests.factories import CHEAP, NOON, STRONG, decided, label

CENTROIDS = unit_rows(np.random.default_rng(1).normal(size=(FOLDS, 4, 8))).astype(np.float32)
SETTINGS = LearnSettings(
    columns=(STRONG, CHEAP), relative_costs=(1.0, 0.1), cost_weight=1.0, margin=0.05
)
DAYS = 3
A_DAY = 30


def judged_days(ledger: Ledger) -> None:
    """Requests of three days, their labels in an order of their own."""
    rng = np.random.default_rng(2)
    names = [(day, f"r{day}-{n}") for day in range(DAYS) for n in range(A_DAY)]
    for place, (day, name) in enumerate(names):
        given = decided(
            name,
            seed=place,
            fold=place % FOLDS,
            tenant="acme" if place % 3 else "other",
            decided_at=NOON - timedelta(days=100 - day),
        )
        with ledger.begin() as tx:
            tx.decisions.record([given])
    for place in rng.permutation(len(names)):
        name = names[int(place)][1]
        with ledger.begin() as tx:
            tx.labels.add(
                [],
                [
                    label(name, expert=STRONG, score=0.9),
                    label(name, expert=CHEAP, score=float(rng.random())),
                ],
            )


def learner_of(ledger: Ledger, clock: ManualClock) -> Recalibrator:
    made = Recalibrator(
        ledger, clock, encoder="encoder-1", announce=announce_alert, send=lambda _: None
    )
    made.step()
    return made


def bits(window: LabelWindow) -> str:
    learnt = Learner(CENTROIDS, SETTINGS).replay(window, at_most=len(window))
    assert learnt is not None
    return learnt.sha256()


def drop_oldest(ledger: Ledger) -> None:
    with ledger.begin() as tx:
        assert tx.upkeep.drop_facts(tx.upkeep.days()[0], actor="ann", now=NOON)


def erase_tenant(ledger: Ledger) -> None:
    with ledger.begin() as tx:
        for day in tx.upkeep.days():
            tx.upkeep.erase(day, tenant="acme", session_id=None, actor="ann", now=NOON)


def forget_ids_and_text(ledger: Ledger) -> None:
    with ledger.begin() as tx:
        for day in tx.upkeep.days():
            tx.upkeep.drop_text(day, actor="ann", now=NOON)
            tx.upkeep.drop_keys(day, after=None, limit=1_000)


LEFT: dict[Callable[[Ledger], None], int] = {
    drop_oldest: (DAYS - 1) * A_DAY,
    erase_tenant: DAYS * A_DAY // 3,
    forget_ids_and_text: DAYS * A_DAY,
}


@pytest.mark.parametrize("go", LEFT)
def test_a_running_and_a_restarted_learner_agree(
    ledger: Ledger, clock: ManualClock, go: Callable[[Ledger], None]
) -> None:
    judged_days(ledger)
    running = learner_of(ledger, clock)
    before = bits(running._window)
    go(ledger)
    running.step()
    fresh = learner_of(ledger, clock)
    assert len(running._window) == len(fresh._window) == LEFT[go]
    assert bits(running._window) == bits(fresh._window)
    assert (bits(running._window) == before) == (go is forget_ids_and_text)


def test_labels_go_on_being_read_after_a_day_has_gone(ledger: Ledger, clock: ManualClock) -> None:
    judged_days(ledger)
    running = learner_of(ledger, clock)
    drop_oldest(ledger)
    with ledger.begin() as tx:
        tx.decisions.record([decided("new")])
        tx.labels.add([], [label("new"), label("r0-1", judge_version="judge-2")])
    running.step()
    fresh = learner_of(ledger, clock)
    assert len(running._window) == (DAYS - 1) * A_DAY + 1
    assert bits(running._window) == bits(fresh._window)
