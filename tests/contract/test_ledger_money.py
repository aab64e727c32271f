"""Budgets of money, on every ledger."""

from __future__ import annotations

import threading
from contextlib import suppress

import pytest

from store.ledger import Ledger
from store.money import Budget, Spent, day_of, judge_budget_of, micro_usd, until_next_day
from store.records import ExpertId
from tests.factories import NOON, STRONG, decided, label, later, response, verdict

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
        tx.money.settle([ALL, ACME], day=DAY, reserved=60, cost=15)
        assert tx.money.reserve(both(), day=DAY, amount=45)
        tx.money.settle([ACME, ALL], day=DAY, reserved=45, cost=52)
        tx.money.settle([ALL], day=NEXT, reserved=0, cost=7)
    assert used(ledger, ALL, ACME) == [67, 67]
    assert used(ledger, ALL, day=NEXT) == [0], "nothing was reserved that day"
    with ledger.begin() as tx:
        tx.money.settle([ALL], day=DAY, reserved=1_000, cost=0)
    assert used(ledger, ALL, ACME) == [0, 67]


def test_what_is_reserved_and_not_settled_is_known(ledger: Ledger) -> None:
    def under_way() -> list[int]:
        with ledger.begin() as tx:
            return list(tx.money.under_way([ALL, ACME, "unknown"], day=DAY).values())

    with ledger.begin() as tx:
        assert tx.money.reserve(both(), day=DAY, amount=20)
        assert tx.money.reserve(both(), day=DAY, amount=30)
    assert under_way() == [50, 50, 0]
    with ledger.begin() as tx:
        tx.money.settle([ALL, ACME], day=DAY, reserved=20, cost=25)
    assert under_way() == [30, 30, 0]
    assert used(ledger, ALL, ACME) == [55, 55]
    with ledger.begin() as tx:
        tx.money.settle([ALL, ACME], day=DAY, reserved=30, cost=30)
        assert not tx.money.reserve(both(), day=DAY, amount=6)
    assert under_way() == [0, 0, 0], "what was refused is not under way"


def test_a_transaction_that_fails_takes_nothing(ledger: Ledger) -> None:
    with suppress(RuntimeError), ledger.begin() as tx:
        assert tx.money.reserve(both(), day=DAY, amount=60)
        raise RuntimeError
    assert used(ledger, ALL, ACME) == [0, 0]


@pytest.mark.parametrize("seed", range(2))
def test_32_workers_never_overspend_although_some_die(ledger: Ledger, seed: int) -> None:
    """Each call takes 7 at most and costs 3; every fourth worker dies once with a reservation."""
    most, cost, limit = 7, 3, 2_000
    begun, kept, dead, lock = [0], [0], [0], threading.Lock()
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
                    dead[0] += 1
                return
            with ledger.begin() as tx:
                # In either order: settling meets reservations and other settlings.
                kinds = [tenant, ALL] if call % 2 else [ALL, tenant]
                tx.money.settle(kinds, day=DAY, reserved=most, cost=cost)

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
    with ledger.begin() as tx:
        left = tx.money.under_way([ALL], day=DAY)[ALL]
    assert left == most * dead[0], "only the dead have not settled"


def test_dollars_are_counted_upwards_and_days_end_at_midnight() -> None:
    assert [micro_usd(usd) for usd in (0.0, 3e-6, 1.001e-6, 0.1 + 0.2)] == [0, 3, 2, 300_000]
    assert micro_usd(1e-9) == 1
    assert day_of(NOON) == NOON.date().isoformat()
    assert until_next_day(NOON) == 12 * 3600


def test_what_judging_came_to_is_added_up_by_tenant(ledger: Ledger) -> None:
    with ledger.begin() as tx:
        for name, tenant in (("r1", "acme"), ("r2", "acme"), ("r3", "bolt"), ("r4", "acme")):
            tx.decisions.record([decided(name, tenant=tenant)])
        tx.labels.add(
            [
                verdict("r1", cost_usd=0.25),
                verdict("r1", call=1, cost_usd=0.5),
                verdict("r1", expert_a=ExpertId("other"), cost_usd=0.25),
                verdict("r1", judge_version="judge-2", cost_usd=8.0),
                verdict("r4", cost_usd=8.0),
            ],
            [
                label("r1"),
                label("r1", expert=STRONG),
                label("r2", judge_version="verifier-1"),
                label("r3", judge_version="judge-2"),
                label("r4", labelled_at=later(-1)),
            ],
        )
        for name, cost, tokens in (("cheap", 0.5, 30), ("strong", None, None)):
            shadow = response("r1", expert=ExpertId(name), cost_usd=cost, input_tokens=tokens)
            tx.responses.record_shadow(shadow)
    with ledger.begin() as tx:
        acme, bolt = tx.money.spent(["judge-1"], since=NOON)
        assert tx.money.spent(["judge-1"], since=later(1)) == []
        both_judges = tx.money.spent(["judge-1", "judge-2"], since=NOON)[0]
    assert acme == Spent(
        tenant="acme",
        requests=2,
        verified=1,
        asked=1,
        pairs=2,
        calls=3,
        verdicts_usd=1.0,
        shadow_answers=2,
        shadow_stated=1,
        shadow_usd=0.5,
        shadow_counted=1,
        shadow_input_tokens=30,
    )
    assert (bolt.tenant, bolt.requests, bolt.asked, bolt.verdicts_usd) == ("bolt", 1, 0, 0.0)
    assert (both_judges.pairs, both_judges.calls, both_judges.verdicts_usd) == (2, 4, 9.0)
