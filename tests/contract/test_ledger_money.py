"""Budgets of money, on every ledger."""

from __future__ import annotations

import threading
from contextlib import suppress

import pytest

from store.ledger import Ledger
from store.money import Budget, day_of, judge_budget_of, micro_usd, until_next_day
from tests.factories import NOON

DAY, NEXT = "2026-11-25", "2026-11-26"
ALL, ACME, BOLT = "judge_usd", judge_budget_of("acme"), judge_budget_of("bolt")


def both(limit: int = 100, *, tenant: str = ACME, tenant_limit: int = 60) -> list[Budget]:
    return [Budget(kind=ALL, limit=limit), Budget(kind=tenant, limit=tenant_limit)]


def used(ledger: Ledger, *kinds: str, day: str = DAY) -> list[int]:
    with ledger.begin() as tx:
        return list(tx.money.used(kinds, day=day).values())


def test_money_is_taken_from_every_budget_or_from_none(ledger: Ledger) -> None:
    with ledger.begin() as tx:
        assert tx.money.reserve(both(), day=DAY, amount=50)
        assert not tx.money.reserve(both(), day=DAY, amount=11), "the tenant's has 10 left"
        assert tx.money.reserve(both(), day=DAY, amount=10)
        assert not tx.money.reserve(both(tenant=BOLT), day=DAY, amount=41), "all together 40"
        assert not tx.money.reserve([Budget(kind="new", limit=5)], day=DAY, amount=6)
        assert tx.money.reserve(both(tenant=BOLT), day=DAY, amount=40)
    assert used(ledger, ALL, ACME, BOLT, "new", "unknown") == [100, 60, 40, 0, 0]


def test_a_day_has_money_of_its_own(ledger: Ledger) -> None:
    with ledger.begin() as tx:
        assert tx.money.reserve(both(), day=DAY, amount=60)
        assert tx.money.reserve(both(), day=NEXT, amount=60)
    assert used(ledger, ALL, day=NEXT) == [60]


def test_settling_gives_back_or_adds(ledger: Ledger) -> None:
    with ledger.begin() as tx:
        assert tx.money.reserve(both(), day=DAY, amount=60)
        tx.money.settle([ALL, ACME], day=DAY, change=-45)
        assert tx.money.reserve(both(), day=DAY, amount=45)
        tx.money.settle([ACME, ALL], day=DAY, change=7)
        tx.money.settle([ALL], day=NEXT, change=7)
    assert used(ledger, ALL, ACME) == [67, 67]
    assert used(ledger, ALL, day=NEXT) == [0], "nothing was reserved that day"
    with ledger.begin() as tx:
        tx.money.settle([ALL], day=DAY, change=-1_000)
    assert used(ledger, ALL, ACME) == [0, 67]


def test_a_transaction_that_fails_takes_nothing(ledger: Ledger) -> None:
    with suppress(RuntimeError), ledger.begin() as tx:
        assert tx.money.reserve(both(), day=DAY, amount=60)
        raise RuntimeError
    assert used(ledger, ALL, ACME) == [0, 0]


@pytest.mark.parametrize("seed", range(2))
def test_32_workers_never_overspend_although_some_die(ledger: Ledger, seed: int) -> None:
    """Each call takes 7 at most and costs 3; every fourth worker dies once with a reservation."""
    most, cost, limit = 7, 3, 2_000
    begun, kept, lock = [0], [0], threading.Lock()
    start = threading.Barrier(32)

    def work(number: int) -> None:
        tenant = ACME if (number + seed) % 2 else BOLT
        wanted = both(limit, tenant=tenant, tenant_limit=1_200)
        start.wait()
        for call in range(40):
            with ledger.begin() as tx:
                is_granted = tx.money.reserve(wanted, day=DAY, amount=most)
            if not is_granted:
                continue
            with lock:
                begun[0] += cost
            if number % 4 == 0 and call == 3:
                with lock:
                    kept[0] += most - cost
                return
            with ledger.begin() as tx:
                # In either order: settling meets reservations and other settlings.
                kinds = [tenant, ALL] if call % 2 else [ALL, tenant]
                tx.money.settle(kinds, day=DAY, change=cost - most)

    workers = [threading.Thread(target=work, args=(number,)) for number in range(32)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    total, acme, bolt = used(ledger, ALL, ACME, BOLT)
    assert begun[0] + kept[0] == total == acme + bolt
    assert total <= limit
    assert max(acme, bolt) <= 1_200
    assert total > limit - 32 * most, "and it was nearly all used"


def test_dollars_are_counted_upwards_and_days_end_at_midnight() -> None:
    assert [micro_usd(usd) for usd in (0.0, 3e-6, 1.001e-6, 0.1 + 0.2)] == [0, 3, 2, 300_000]
    assert micro_usd(1e-9) == 1
    assert day_of(NOON) == NOON.date().isoformat()
    assert until_next_day(NOON) == 12 * 3600
