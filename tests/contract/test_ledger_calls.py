"""Failed calls and the health of experts, on every ledger."""

from __future__ import annotations

from dataclasses import replace

import pytest

from store.facts import FailedCall
from store.health import HEALTHY, CallError, Health
from store.ledger import Ledger
from store.records import AlertKind, ExpertId, ExpertStatus, RequestId
from tests.contract.acts import at_once
from tests.factories import CHEAP, NOON, STRONG, alert, decided, expert, later, response

S = ExpertStatus
GONE = Health(was="certified", since=later(9), error="timeout", next_probe_at=later(39), episodes=1)


def failed(number: int, **changes: object) -> FailedCall:
    call = FailedCall(
        request_id=RequestId(f"r{number}"),
        expert=CHEAP,
        source="gateway",
        error=CallError.TIMEOUT,
        failed_at=later(number),
    )
    return replace(call, **changes)  # type: ignore[arg-type]


def test_a_failure_counts_once_however_often_it_is_told(ledger: Ledger) -> None:
    with ledger.begin() as tx:
        assert tx.calls.record([]) == []
        assert tx.calls.record([failed(1), failed(1), failed(2)]) == [True, False, True]
    with ledger.begin() as tx:
        again = failed(1, failed_at=later(50), error=CallError.UNREADABLE)
        earlier = failed(1, source="judge-1-1", failed_at=later(0.5))
        other = failed(1, expert=STRONG)
        assert tx.calls.record([again, earlier, other]) == [False, True, True]
        assert tx.calls.failures(CHEAP, after=NOON, limit=9) == [failed(2), failed(1)]


def test_attempts_for_one_request_are_one_failure_the_newest(ledger: Ledger) -> None:
    attempts = [failed(1, source=f"judge-1-{n}", failed_at=later(n)) for n in range(1, 6)]
    with ledger.begin() as tx:
        assert all(tx.calls.record([*attempts[::2], *attempts[1::2], failed(2)]))
    with ledger.begin() as tx:
        assert tx.calls.failures(CHEAP, after=NOON, limit=9) == [attempts[-1], failed(2)]
        assert tx.calls.failures(CHEAP, after=NOON, limit=1) == [attempts[-1]]
        assert tx.calls.suspects(after=NOON, at_least=2) == {CHEAP}
        assert tx.calls.suspects(after=NOON, at_least=3) == set()


def test_failures_are_read_newest_first_and_refusals_are_not(ledger: Ledger) -> None:
    with ledger.begin() as tx:
        tx.calls.record([failed(n) for n in (3, 1, 2)] + [failed(4, error=CallError.REFUSED)])
        tx.calls.record([failed(n, expert=STRONG) for n in (5, 6)])
    with ledger.begin() as tx:
        assert tx.calls.failures(CHEAP, after=later(1), limit=9) == [failed(3), failed(2)]
        assert tx.calls.failures(CHEAP, after=NOON, limit=1) == [failed(3)]
        assert tx.calls.suspects(after=NOON, at_least=3) == {CHEAP}
        assert tx.calls.suspects(after=NOON, at_least=2) == {CHEAP, STRONG}
        assert tx.calls.suspects(after=later(1), at_least=3) == set()
        assert tx.calls.forget(before=later(3)) == 2
        assert tx.calls.forget(before=later(3)) == 0
        assert tx.calls.failures(CHEAP, after=NOON, limit=9) == [failed(3)]


def test_answers_are_counted_served_and_shadow_up_to_the_limit(ledger: Ledger) -> None:
    with ledger.begin() as tx:
        tx.decisions.record([decided(f"r{n}") for n in range(4)])
        tx.responses.record([response(f"r{n}", received_at=later(n)) for n in range(3)])
        tx.responses.record_shadow(response("r3", received_at=later(3)))
        tx.responses.record_shadow(response("unknown", received_at=later(4)))
        tx.responses.record_shadow(response("r3", expert=STRONG, received_at=later(9)))
    with ledger.begin() as tx:
        counts = [tx.calls.answered(CHEAP, after=later(s), limit=9) for s in (-1, 0, 2, 4)]
        assert counts == [5, 4, 2, 0]
        assert tx.calls.answered(CHEAP, after=later(-1), limit=2) == 2


def test_health_is_compared_and_set(ledger: Ledger) -> None:
    with ledger.begin() as tx:
        tx.experts.add(expert())
        assert not tx.experts.set_health(CHEAP, before=GONE, after=GONE)
        assert tx.experts.set_health(CHEAP, before=HEALTHY, after=GONE)
        assert not tx.experts.set_health(CHEAP, before=HEALTHY, after=HEALTHY)
        assert not tx.experts.set_health(ExpertId("ghost"), before=HEALTHY, after=GONE)
    with ledger.begin() as tx:
        found = tx.experts.find(CHEAP)
        assert found == expert(health=GONE)
        assert not expert(health=GONE).is_failing


def test_only_one_of_many_claims_wins(ledger: Ledger) -> None:
    with ledger.begin() as tx:
        tx.experts.add(expert())

    def claim(number: int) -> bool:
        with ledger.begin() as tx:
            return tx.experts.set_health(
                CHEAP, before=HEALTHY, after=replace(GONE, probes=number + 1)
            )

    assert sum(at_once(6, claim)) == 1


def test_an_expert_recovers_unless_somebody_else_changed_it(ledger: Ledger) -> None:
    with ledger.begin() as tx:
        tx.experts.add(expert(status=S.CERTIFIED))
        assert tx.experts.set_status(CHEAP, before=S.CERTIFIED, after=S.PAUSED, now=later(9))
        assert tx.experts.set_health(CHEAP, before=HEALTHY, after=GONE)
        read = tx.experts.find(CHEAP)
    assert read is not None
    assert read.is_failing
    back = Health(episodes=1, absences=((1, 5),))
    probed = replace(read, health=replace(GONE, probes=1))
    with ledger.begin() as tx:
        assert not tx.experts.recover(probed, health=back, now=later(99))
        assert tx.experts.recover(read, health=back, now=later(99))
        assert not tx.experts.recover(read, health=back, now=later(99))
        assert not tx.experts.recover(expert("ghost"), health=back, now=later(99))
        found = tx.experts.find(CHEAP)
    assert found == expert(status=S.CERTIFIED, status_changed_at=later(99), health=back)


@pytest.mark.parametrize("kind", AlertKind)
def test_an_alert_of_every_kind_is_read_as_it_was_raised(ledger: Ledger, kind: AlertKind) -> None:
    with ledger.begin() as tx:
        raised = tx.operations.raise_alert(alert(kind=kind))
    with ledger.begin() as tx:
        assert tx.operations.alerts(limit=1) == [raised]
