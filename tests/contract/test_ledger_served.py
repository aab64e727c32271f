"""The promises of ``store/ledger.py`` on what a report reads."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from store.judging import Quarantine
from store.ledger import Ledger
from store.records import PROBE, ExpertId, Reason, RequestId
from store.served import Period, ServedGroup
from tests.contract.acts import decide
from tests.factories import CHEAP, NOON, STRONG, label, later

HOUR = Period(since=NOON, until=NOON + timedelta(hours=1))


def read(ledger: Ledger, period: Period = HOUR) -> dict[tuple[Any, ...], ServedGroup]:
    with ledger.begin() as tx:
        groups = tx.decisions.served(period)
    found = {(g.tenant, g.category, g.expert, g.reason, g.inclusion_probability): g for g in groups}
    assert len(found) == len(groups)
    return found


def judge(ledger: Ledger, request_id: str, **changes: Any) -> None:
    with ledger.begin() as tx:
        tx.labels.add([], [label(request_id, **changes)])


def only(ledger: Ledger) -> tuple[int, int, int, int, int]:
    [g] = read(ledger).values()
    return g.requests, g.sampled, g.acceptable, g.unacceptable, g.unreadable


def test_a_period_begins_with_its_first_instant_and_ends_before_its_last(ledger: Ledger) -> None:
    for name, seconds in {"before": -1, "first": 0, "last": 3_599, "after": 3_600}.items():
        decide(ledger, name, decided_at=later(seconds))
    assert only(ledger)[0] == 2
    week = Period(since=NOON - timedelta(days=3), until=NOON + timedelta(days=3))
    decide(ledger, "next day", decided_at=later(86_400))
    assert sum(g.requests for g in read(ledger, week).values()) == 5
    assert read(ledger, Period(since=NOON, until=NOON)) == {}


def test_requests_are_counted_apart_by_what_shapes_the_promise(ledger: Ledger) -> None:
    decide(ledger, "a")
    decide(ledger, "b")
    decide(ledger, "c", tenant="acme")
    decide(ledger, "d", category="coding")
    decide(ledger, "e", expert=STRONG, reason=Reason.SAFE_STARVED)
    decide(ledger, "f", inclusion_probability=0.5, is_sampled=False)
    found = read(ledger)
    alike = ("default", "math", CHEAP, Reason.ROUTED, 0.05)
    assert found[alike].requests == 2
    assert (found[alike].reference, found[alike].degraded) == (STRONG, False)
    assert found["acme", *alike[1:]].requests == 1
    assert found["default", "coding", *alike[2:]].requests == 1
    assert found["default", "math", STRONG, Reason.SAFE_STARVED, 0.05].requests == 1
    assert found[*alike[:4], 0.5].sampled == 0
    assert sum(g.requests for g in found.values()) == 6


def test_only_the_served_answers_label_counts(ledger: Ledger) -> None:
    for name in ("good", "bad", "unreadable", "waits", "other"):
        decide(ledger, name)
    judge(ledger, "good", outcome=1, score=0.9)
    judge(ledger, "bad", outcome=0, score=0.2)
    judge(ledger, "unreadable", outcome=0, score=None)
    judge(ledger, "other", expert=ExpertId("another"), outcome=0)
    judge(ledger, "waits", outcome=0, purpose=PROBE)
    assert only(ledger) == (5, 5, 1, 1, 1)


def test_labels_of_what_the_reference_served_or_of_unsampled_requests_are_none(
    ledger: Ledger,
) -> None:
    decide(ledger, "reference", expert=STRONG)
    judge(ledger, "reference", expert=STRONG, outcome=0)
    assert only(ledger) == (1, 1, 0, 0, 0)


def test_a_verifier_counts_else_the_lowest_judge_version(ledger: Ledger) -> None:
    decide(ledger, "r1")
    judge(ledger, "r1", judge_version="judge-2", outcome=0)
    assert only(ledger)[2:4] == (0, 1)
    judge(ledger, "r1", judge_version="judge-1", outcome=1)
    assert only(ledger)[2:4] == (1, 0)
    judge(ledger, "r1", judge_version="verifier-exact", outcome=0)
    assert only(ledger)[2:4] == (0, 1)


def test_labels_of_a_quarantined_judge_are_none(ledger: Ledger) -> None:
    decide(ledger, "r1")
    judge(ledger, "r1", judge_version="judge-1", outcome=0)
    quarantine = Quarantine(judge_version="judge-1", since=NOON, reason="canary", imposed_at=NOON)
    with ledger.begin() as tx:
        tx.judging.quarantine(quarantine, actor="test")
    assert only(ledger) == (1, 1, 0, 0, 0)


def test_each_request_is_counted_once_however_many_labels_it_has(ledger: Ledger) -> None:
    decide(ledger, "r1")
    for n in range(3):
        judge(ledger, "r1", judge_version=f"judge-{n}", outcome=n % 2)
    assert only(ledger) == (1, 1, 0, 1, 0)
    with ledger.begin() as tx:
        assert tx.decisions.find(RequestId("r1")) is not None
