"""The promises of ``store/ledger.py`` on experts, states, policies and operations."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from store.clock import ManualClock
from store.errors import EventRejected, NotFound, RequestConflict, StateSuperseded
from store.ledger import Ledger
from store.needs import UNDECLARED, Capabilities, Needs
from store.records import (
    AlertKind,
    ApiKey,
    AuditEntry,
    Baseline,
    ExpertId,
    ExpertStatus,
    Price,
    RequestId,
)
from store.served import Period
from tests.contract.acts import R1, R2, at_once, decide
from tests.factories import (
    CHEAP,
    ENCODER,
    NOON,
    STRONG,
    alert,
    calibration,
    decided,
    expert,
    feedback,
    later,
    message,
    settings,
    state,
    task,
)

# Experts


def test_an_expert_is_added_once(ledger: Ledger) -> None:
    with ledger.begin() as tx:
        tx.experts.add(expert("b"))
        tx.experts.add(expert("a"))
        tx.experts.add(expert("c", added_at=later(-1)))
    with pytest.raises(RequestConflict) as refused, ledger.begin() as tx:
        tx.experts.add(expert("a", price=Price(request_usd=1.0)))
    assert refused.value.code == "expert_exists"
    with ledger.begin() as tx:
        assert [one.name for one in tx.experts.all()] == ["c", "a", "b"]
        assert tx.experts.find(ExpertId("a")) == expert("a")
        assert tx.experts.find(ExpertId("z")) is None


def test_an_experts_status_changes_by_compare_and_set(ledger: Ledger) -> None:
    registered, described = ExpertStatus.REGISTERED, ExpertStatus.DESCRIBED
    with ledger.begin() as tx:
        tx.experts.add(expert())
        assert tx.experts.set_status(CHEAP, before=registered, after=described, now=later(5))
        assert not tx.experts.set_status(CHEAP, before=registered, after=described, now=later(6))
        assert not tx.experts.set_status(STRONG, before=registered, after=described, now=later(6))
        changed = tx.experts.find(CHEAP)
        assert changed == expert(status=described, status_changed_at=later(5))


def test_an_illegal_status_change_is_refused(ledger: Ledger) -> None:
    with ledger.begin() as tx:
        tx.experts.add(expert())
    with pytest.raises(EventRejected) as refused, ledger.begin() as tx:
        tx.experts.set_status(
            CHEAP, before=ExpertStatus.REGISTERED, after=ExpertStatus.CERTIFIED, now=NOON
        )
    assert refused.value.code == "illegal_status"


def test_concurrent_status_changes_succeed_once(ledger: Ledger) -> None:
    with ledger.begin() as tx:
        tx.experts.add(expert())

    def change(_: int) -> bool:
        with ledger.begin() as tx:
            return tx.experts.set_status(
                CHEAP, before=ExpertStatus.REGISTERED, after=ExpertStatus.DESCRIBED, now=NOON
            )

    assert sum(at_once(6, change)) == 1


CAN = Capabilities(
    context_tokens=8_000, max_output_tokens=900, tools=True, json_mode=True, regions=("eu", "us")
)


def test_what_an_expert_declares_is_kept_and_changes(ledger: Ledger) -> None:
    with ledger.begin() as tx:
        tx.experts.add(expert())
        tx.experts.add(expert("strong", capabilities=CAN))
        assert tx.experts.find(CHEAP) == expert()
        assert tx.experts.find(STRONG) == expert("strong", capabilities=CAN)
        tx.experts.set_capabilities(CHEAP, CAN)
        tx.experts.set_capabilities(STRONG, UNDECLARED)
        assert [e.capabilities for e in tx.experts.all()] == [CAN, UNDECLARED]
    with pytest.raises(NotFound), ledger.begin() as tx:
        tx.experts.set_capabilities(ExpertId("ghost"), CAN)


def test_what_a_request_needs_is_kept_with_its_decision(ledger: Ledger) -> None:
    needs = Needs(
        tools=True, regions=("eu",), output_tokens=7, allowed=("cheap", "strong"), input_tokens=40
    )
    with ledger.begin() as tx:
        tx.decisions.record([decided("r1", needs=needs, excluded={"mid": "tools"}, due_experts=())])
        tx.tasks.add([task("r1", experts=())])
    with ledger.begin() as tx:
        found = tx.decisions.find(R1)
        assert found is not None
        assert (found.needs, found.excluded) == (needs, {"mid": "tools"})
        assert [r.needs for r in tx.decisions.sampled([R1], encoder=ENCODER)] == [needs]
        leased = tx.tasks.lease(worker="w", now=NOON, lease_s=9.0, limit=9)
        assert [t.experts for t in leased] == [()]


def test_price_and_baseline_change_only_for_a_known_expert(ledger: Ledger) -> None:
    with ledger.begin() as tx:
        tx.experts.add(expert())
        tx.experts.set_price(CHEAP, Price(request_usd=0.5))
        tx.experts.set_baseline(CHEAP, Baseline(floor=0.9, seq=77, reference=STRONG))
        changed = tx.experts.find(CHEAP)
    assert changed == expert(
        price=Price(request_usd=0.5), baseline=Baseline(floor=0.9, seq=77, reference=STRONG)
    )
    with pytest.raises(NotFound) as unknown, ledger.begin() as tx:
        tx.experts.set_price(STRONG, Price(request_usd=0.5))
    assert unknown.value.code == "unknown_expert"
    with pytest.raises(NotFound), ledger.begin() as tx:
        tx.experts.set_baseline(STRONG, Baseline())


def test_how_an_expert_is_called_can_change(ledger: Ledger) -> None:
    called = {"kind": "openai", "base_url": "http://127.0.0.1:9000/v1", "model": "m"}
    with ledger.begin() as tx:
        tx.experts.add(expert())
        tx.experts.set_client(CHEAP, called)
    with ledger.begin() as tx:
        assert tx.experts.find(CHEAP) == expert(client=called)
    with pytest.raises(NotFound) as unknown, ledger.begin() as tx:
        tx.experts.set_client(STRONG, called)
    assert unknown.value.code == "unknown_expert"


# Routing states


def test_a_published_state_is_active_and_older_ones_are_kept(ledger: Ledger) -> None:
    with ledger.begin() as tx:
        assert tx.states.active() is None
        assert (tx.states.active_version(), tx.states.active_checksum()) == (0, "")
        tx.states.publish(state(1))
        tx.states.publish(state(2, payload=bytes(range(256))))
    with ledger.begin() as tx:
        assert tx.states.active_version() == 2
        assert tx.states.active_checksum() == state(2, payload=bytes(range(256))).sha256
        assert tx.states.active() == state(2, payload=bytes(range(256)))
        assert tx.states.find(1) == state(1)
        assert tx.states.find(3) is None
        assert [s.version for s in tx.states.history(limit=9)] == [2, 1]
        assert tx.states.history(limit=1)[0].payload == b""


@pytest.mark.parametrize(("version", "parent"), [(2, 0), (1, 0), (4, 2), (3, 1), (2, 1)])
def test_a_state_computed_from_another_version_is_superseded(
    ledger: Ledger, version: int, parent: int
) -> None:
    with ledger.begin() as tx:
        tx.states.publish(state(1))
        tx.states.publish(state(2))
    with pytest.raises(StateSuperseded) as superseded, ledger.begin() as tx:
        tx.states.publish(state(version, parent=parent))
    assert (superseded.value.expected, superseded.value.active) == (parent, 2)
    with ledger.begin() as tx:
        assert tx.states.active() == state(2)


@pytest.mark.parametrize("earlier", [0, 1])
def test_of_two_concurrent_publishers_one_is_superseded(ledger: Ledger, earlier: int) -> None:
    with ledger.begin() as tx:
        for version in range(1, earlier + 1):
            tx.states.publish(state(version))

    def publish(number: int) -> int:
        candidate = state(earlier + 1, note=str(number))
        try:
            with ledger.begin() as tx:
                tx.states.publish(candidate)
        except StateSuperseded as superseded:
            return superseded.active
        return 0

    assert sorted(at_once(2, publish)) == [0, earlier + 1]


def test_a_replica_acknowledges_a_version_once(ledger: Ledger) -> None:
    with ledger.begin() as tx:
        tx.states.publish(state(1))
        tx.states.acknowledge(1, replica="a", now=NOON)
        tx.states.acknowledge(1, replica="a", now=later(5))
        tx.states.acknowledge(1, replica="b", now=later(1))
        assert tx.states.acknowledged(1) == {"a": NOON, "b": later(1)}
        assert tx.states.acknowledged(2) == {}


def test_calibrations_come_newest_first(ledger: Ledger) -> None:
    refused = calibration(state_version=None, weighted_risk=None, reason="starved")
    with ledger.begin() as tx:
        tx.states.record_calibration(calibration())
        tx.states.record_calibration(refused)
    with ledger.begin() as tx:
        assert tx.states.calibrations(limit=9) == [refused, calibration()]
        assert tx.states.calibrations(limit=1) == [refused]


def test_calibrations_and_alerts_of_a_period_come_oldest_first(ledger: Ledger) -> None:
    period = Period(since=later(0), until=later(10))
    with ledger.begin() as tx:
        for at in (-1, 0, 9, 10):
            tx.states.record_calibration(calibration(calibrated_at=later(at)))
            tx.operations.raise_alert(alert(subject=f"at {at}", raised_at=later(at)))
    with ledger.begin() as tx:
        found = tx.states.calibrations_in(period)
        assert [one.calibrated_at for one in found] == [later(0), later(9)]
        assert [one.subject for one in tx.operations.alerts_in(period)] == ["at 0", "at 9"]


def test_the_first_snapshot_of_a_hash_stays_and_the_newest_of_a_kind_is_found(
    ledger: Ledger,
) -> None:
    with ledger.begin() as tx:
        assert tx.states.newest_snapshot("clusters") is None
        tx.states.save_snapshot("clusters", "aa", b"one", now=NOON)
        tx.states.save_snapshot("clusters", "bb", b"two", now=NOON)
        tx.states.save_snapshot("clusters", "aa", b"three", now=later(1))
        tx.states.save_snapshot("other", "cc", b"four", now=later(2))
    with ledger.begin() as tx:
        assert tx.states.newest_snapshot("clusters") == ("bb", b"two")


# Policies and operations


def test_every_policy_version_is_kept_and_audited(ledger: Ledger) -> None:
    with ledger.begin() as tx:
        assert tx.policies.current() is None
        assert tx.policies.set(settings(), actor="ann", now=NOON) == 1
        assert tx.policies.set(settings(alpha=0.2), actor="bob", now=later(1)) == 2
    with ledger.begin() as tx:
        assert tx.policies.current() == (2, settings(alpha=0.2))
        newest, oldest = tx.operations.audit_trail(limit=9)
    assert (newest.actor, newest.action, newest.at) == ("bob", "policy.set", later(1))
    assert newest.detail == {"version": 2, "settings": settings(alpha=0.2).to_json()}
    assert oldest.actor == "ann"


def test_concurrent_policy_changes_get_different_versions(ledger: Ledger) -> None:
    def change(number: int) -> int:
        with ledger.begin() as tx:
            return tx.policies.set(settings(), actor=str(number), now=NOON)

    assert sorted(at_once(6, change)) == [1, 2, 3, 4, 5, 6]


def test_the_outbox_gives_messages_in_order_until_they_are_marked(ledger: Ledger) -> None:
    with ledger.begin() as tx:
        first, second, third = tx.outbox.add([message("z"), message("a", value=b"\x00"), message()])
        assert first.message_id is not None
        assert second == replace(message("a", value=b"\x00"), message_id=second.message_id)
    with ledger.begin() as tx:
        assert tx.outbox.unmarked(limit=9) == [first, second, third]
        assert tx.outbox.unmarked(limit=2) == [first, second]
        tx.outbox.mark([first.message_id, 999_999], now=NOON)
    with ledger.begin() as tx:
        assert tx.outbox.unmarked(limit=9) == [second, third]


def test_messages_since_a_time_can_be_sent_again(ledger: Ledger, clock: ManualClock) -> None:
    with ledger.begin() as tx:
        tx.outbox.add([message("before")])
    clock.advance(30)
    with ledger.begin() as tx:
        tx.outbox.add([message("sent"), message("waiting")])
        sent = [one.message_id for one in tx.outbox.unmarked(limit=9) if one.message_id]
        tx.outbox.mark(sent[:2], now=clock.now())
    with ledger.begin() as tx:
        assert tx.outbox.unmark(since=clock.now()) == 1
        assert tx.outbox.unmark(since=clock.now()) == 0
    with ledger.begin() as tx:
        assert [one.key for one in tx.outbox.unmarked(limit=9)] == ["sent", "waiting"]


def test_the_outbox_can_leave_fresh_messages_to_their_writer(
    ledger: Ledger, clock: ManualClock
) -> None:
    with ledger.begin() as tx:
        tx.outbox.add([message("old")])
    clock.advance(30)
    with ledger.begin() as tx:
        tx.outbox.add([message("fresh")])
    with ledger.begin() as tx:
        waiting = tx.outbox.unmarked(limit=9, older_than=clock.now() - timedelta(seconds=10))
        assert [m.key for m in waiting] == ["old"]
        assert tx.outbox.unmarked(limit=9, older_than=NOON) == []


def test_a_budget_is_never_overspent_by_concurrent_callers(ledger: Ledger) -> None:
    def reserve(_: int) -> int:
        with ledger.begin() as tx:
            return tx.operations.reserve("judge", day="2026-03-14", amount=7, limit=50)

    granted = at_once(16, reserve)
    assert sum(granted) == 50
    assert sorted(granted, reverse=True) == [7] * 7 + [1] + [0] * 8


def test_budgets_are_apart_by_day_and_kind_and_may_shrink(ledger: Ledger) -> None:
    with ledger.begin() as tx:
        reserve = tx.operations.reserve
        assert reserve("judge", day="2026-03-14", amount=9, limit=10) == 9
        assert reserve("judge", day="2026-03-15", amount=9, limit=10) == 9
        assert reserve("uniform", day="2026-03-14", amount=9, limit=10) == 9
        assert reserve("judge", day="2026-03-14", amount=9, limit=5) == 0
        assert reserve("judge", day="2026-03-14", amount=9, limit=20) == 9
        assert reserve("judge", day="2026-03-14", amount=9, limit=20) == 2
        assert reserve("none", day="2026-03-14", amount=9, limit=0) == 0


def test_feedback_is_kept_once_per_idempotency_key(ledger: Ledger) -> None:
    decide(ledger, "r1", "r2")
    with ledger.begin() as tx:
        assert tx.operations.record_feedback(feedback())
        assert not tx.operations.record_feedback(feedback(rating=0.0, received_at=later(90_000)))
        assert not tx.operations.record_feedback(feedback(request_id=R2))
        assert tx.operations.record_feedback(feedback("f2", comment="good"))
    with pytest.raises(NotFound) as unknown, ledger.begin() as tx:
        tx.operations.record_feedback(feedback("f3", request_id=RequestId("nobody")))
    assert unknown.value.code == "unknown_request"


def test_alerts_come_newest_first_with_their_ids(ledger: Ledger) -> None:
    with ledger.begin() as tx:
        first = tx.operations.raise_alert(alert())
        second = tx.operations.raise_alert(alert(subject="other"))
    with ledger.begin() as tx:
        assert tx.operations.alerts(limit=9) == [second, first]
        assert tx.operations.alerts(limit=1) == [second]
    assert first == replace(alert(), alert_id=first.alert_id)
    assert first.alert_id is not None


def test_alerts_of_one_kind_are_found_behind_any_number_of_others(ledger: Ledger) -> None:
    others = (AlertKind.EXPERT_FAILING, AlertKind.EXPERT_RECOVERED, AlertKind.LABEL_STARVATION)
    with ledger.begin() as tx:
        first = tx.operations.raise_alert(alert())
        second = tx.operations.raise_alert(alert(subject="other"))
        for n in range(120):
            later_one = tx.operations.raise_alert(alert(kind=others[n % 3]))
    with ledger.begin() as tx:
        assert tx.operations.alerts(limit=9, kind=AlertKind.EXPERT_REGRESSION) == [second, first]
        assert tx.operations.alerts(limit=1, kind=AlertKind.EXPERT_REGRESSION) == [second]
        assert tx.operations.alerts(limit=1, kind=later_one.kind) == [later_one]
        assert tx.operations.alerts(limit=9, kind=AlertKind.STATE_REFUSED) == []


def test_a_key_is_found_by_its_hash(ledger: Ledger) -> None:
    key = ApiKey(key_hash="ab12", name="gateway", scopes=("decide", "admin"), created_at=NOON)
    with ledger.begin() as tx:
        tx.operations.add_key(key)
    with ledger.begin() as tx:
        assert tx.operations.find_key("ab12") == key
        assert tx.operations.find_key("cd34") is None


def test_the_audit_trail_comes_newest_first(ledger: Ledger) -> None:
    one = AuditEntry(actor="ann", action="experts.add", detail={"name": "cheap"}, at=NOON)
    two = AuditEntry(actor="bob", action="rollback", detail={"to": 3}, at=NOON)
    with ledger.begin() as tx:
        tx.operations.audit(one)
        tx.operations.audit(two)
        tx.operations.record_conflict(R1, "another prompt", now=NOON)
        tx.operations.record_conflict(R1, "another prompt", now=NOON)
    with ledger.begin() as tx:
        assert tx.operations.audit_trail(limit=9) == [two, one]
        assert tx.operations.audit_trail(limit=1) == [two]
