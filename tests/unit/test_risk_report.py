"""The risk report of a ledger: figures that follow from its facts, and words for them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from html.parser import HTMLParser

import pytest

from recalibrate.realised import Verdict
from recalibrate.risk_report import RiskReport, risk_report
from recalibrate.risk_words import document, lines, page
from recalibrate.served_risk import served_risk, with_holm
from store.clock import ManualClock
from store.errors import NotFound
from store.memory import MemoryLedger
from store.records import Alert, AlertKind, Calibration, ExpertId, Reason
from store.served import Period, ServedGroup
from tests.factories import CHEAP, NOON, STRONG, decided, label, later, settings

DAYS = Period(since=NOON - timedelta(hours=12), until=NOON + timedelta(hours=36))


def group(**changes: object) -> ServedGroup:
    values: dict[str, object] = {
        "tenant": "default",
        "category": "coding",
        "expert": CHEAP,
        "reference": STRONG,
        "reason": Reason.ROUTED,
        "degraded": False,
        "inclusion_probability": 0.1,
        "risk_target": 0.1,
        "requests": 1_000,
        "sampled": 100,
        "acceptable": 100,
    } | changes
    return ServedGroup(**values)  # type: ignore[arg-type]


def filled(n: int = 400, bad_every: int = 20) -> MemoryLedger:
    """Half by the reference; the others judged, one in ``bad_every`` unacceptable."""
    made = MemoryLedger(clock=ManualClock(NOON))
    with made.begin() as tx:
        tx.policies.set(settings(), actor="test", now=NOON)
        for i in range(n):
            changes = {"expert": STRONG} if i % 2 else {"inclusion_probability": 1.0}
            at = later(3_600 * (i % 30))
            one = decided(f"r{i}", decided_at=at, risk_target=0.1, tenant=f"t{i % 3}", **changes)
            tx.decisions.record([one])
        made_labels = [label(f"r{i}", outcome=int(i % bad_every != 0)) for i in range(0, n, 2)]
        tx.labels.add([], made_labels)
    return made


def reported(ledger: MemoryLedger, period: Period = DAYS) -> RiskReport:
    return risk_report(ledger, ManualClock(NOON), period)


def test_the_reference_counts_as_0_and_the_others_by_their_labels() -> None:
    found = served_risk(
        [group(acceptable=90, unacceptable=10), group(expert=STRONG, requests=3_000, sampled=0)],
        alpha=0.1,
    )
    assert found.rate is not None
    assert found.rate.value == pytest.approx(0.1 * 1_000 / 4_000)
    assert (found.requests, found.by_reference, found.judged) == (4_000, 3_000, 100)
    assert found.verdict is Verdict.HELD


def test_strata_are_weighted_by_all_their_requests_and_not_by_their_labels() -> None:
    found = served_risk(
        [
            group(requests=9_000, acceptable=100),
            group(inclusion_probability=0.9, requests=1_000, acceptable=0, unacceptable=900),
        ],
        alpha=0.05,
    )
    assert found.rate is not None
    assert found.rate.value == pytest.approx(0.1)


def test_what_has_no_chance_of_a_label_is_left_out_and_said() -> None:
    found = served_risk([group(), group(inclusion_probability=0.0, requests=50)], alpha=0.1)
    assert (found.requests, found.uncovered) == (1_050, 50)
    pinned = group(reason=Reason.PINNED, requests=9_999)
    assert served_risk([group(), pinned], alpha=0.1).requests == 1_000


def test_a_stratum_without_labels_may_be_anything() -> None:
    found = served_risk([group(acceptable=0, sampled=0)], alpha=0.1)
    assert found.rate is not None
    assert (found.rate.low, found.rate.high) == (0.0, 1.0)
    assert found.verdict is Verdict.NOT_DECIDED
    assert found.labels_needed is None


def test_a_small_stratum_without_labels_widens_the_interval_and_moves_no_estimate() -> None:
    judged = group(acceptable=95, unacceptable=5)
    alone = served_risk([judged], alpha=0.1).rate
    both = served_risk(
        [judged, group(inclusion_probability=0.2, requests=20, sampled=0, acceptable=0)], alpha=0.1
    ).rate
    assert alone is not None
    assert both is not None
    assert both.value == pytest.approx(alone.value)
    assert both.high > alone.high


def test_unreadable_verdicts_widen_the_interval_to_both_sides() -> None:
    read = served_risk([group(acceptable=90, unacceptable=10)], alpha=0.1).rate
    some = served_risk([group(acceptable=81, unacceptable=9, unreadable=10)], alpha=0.1).rate
    assert read is not None
    assert some is not None
    assert some.value == pytest.approx(read.value)
    assert some.low < read.low < read.high < some.high


def test_nothing_served_decides_nothing() -> None:
    found = served_risk([], alpha=0.1)
    assert (found.rate, found.verdict, found.labels_needed) == (None, Verdict.NOT_DECIDED, None)


@pytest.mark.parametrize("share", [0.085, 0.12])
def test_the_labels_needed_are_about_those_that_decide(share: float) -> None:
    def judged(n: int) -> list[ServedGroup]:
        bad = round(n * share)
        return [group(requests=10 * n, acceptable=n - bad, unacceptable=bad)]

    undecided = served_risk(judged(200), alpha=0.1)
    assert undecided.verdict is Verdict.NOT_DECIDED
    needed = undecided.labels_needed
    assert needed is not None
    assert served_risk(judged(round(0.8 * needed)), alpha=0.1).verdict is Verdict.NOT_DECIDED
    assert served_risk(judged(round(1.25 * needed)), alpha=0.1).verdict is not Verdict.NOT_DECIDED


def test_holm_takes_back_what_chance_alone_shows() -> None:
    """One of fifty at 2.3 standard errors is no news; the same one alone is."""
    above = group(acceptable=130, unacceptable=24, requests=1_000)
    alone = served_risk([above], alpha=0.1)
    assert with_holm([alone]) == [Verdict.NOT_HELD]
    many = [alone, *[served_risk([group(acceptable=92, unacceptable=8)], alpha=0.1)] * 49]
    assert Verdict.NOT_HELD not in with_holm(many)


def test_the_report_is_of_its_period_and_adds_up() -> None:
    found = reported(filled())
    assert found.overall.requests == 400
    assert found.overall.verdict is Verdict.HELD
    for segments in (found.days, found.tenants, found.categories, found.experts):
        assert sum(one.risk.requests for one in segments) == 400
    first = DAYS.since.date()
    assert [one.name for one in found.days] == [f"{first}", f"{first + timedelta(days=1)}"]
    assert {one.name for one in found.tenants} == {"t0", "t1", "t2"}
    assert found.alpha == pytest.approx(0.1)
    assert found.alphas == (0.1,)


def test_a_bad_period_is_not_held() -> None:
    assert reported(filled(bad_every=4)).overall.verdict is Verdict.NOT_HELD


def test_only_what_happened_in_the_period_is_told() -> None:
    ledger = filled(8)
    with ledger.begin() as tx:
        for seconds, subject in ((-200_000, "before"), (0, "in it"), (200_000, "after")):
            tx.operations.raise_alert(alert(subject, seconds))
            tx.states.record_calibration(calibration(0.5 if seconds else 0.25, seconds))
    found = reported(ledger)
    assert [one.subject for one in found.alerts] == ["in it"]
    assert [one.threshold for one in found.calibrations] == [0.25]
    assert "λ from 0.250 to 0.250" in "\n".join(lines(found))


def alert(subject: str, seconds: int) -> Alert:
    return Alert(
        kind=AlertKind.STATE_REFUSED,
        subject=subject,
        message=f"about {subject}",
        guarantee="exact",
        evidence={},
        raised_at=later(seconds),
    )


def calibration(threshold: float, seconds: int) -> Calibration:
    return Calibration(
        state_version=1,
        threshold=threshold,
        risk_target=0.1,
        effective_labels=120.0,
        labels=200,
        new_labels=10,
        weighted_risk=0.08,
        reason="feasible",
        loss="worst_in_set",
        calibrated_at=later(seconds),
        took_ms=1.0,
    )


def test_a_long_time_ago_is_told_as_fully_as_yesterday() -> None:
    """Bug: the newest 10,000 recalibrations were looked through, however old the period."""
    ledger = filled(8)
    with ledger.begin() as tx:
        tx.states.record_calibration(calibration(0.25, 0))
        for _ in range(10_050):
            tx.states.record_calibration(calibration(0.5, 200_000))
    assert [one.threshold for one in reported(ledger).calibrations] == [0.25]


def test_answers_that_wait_for_a_label_and_what_was_decided_without_the_ledger_are_said() -> None:
    ledger = filled(40)
    with ledger.begin() as tx:
        tx.decisions.record(
            [decided("late", inclusion_probability=1.0), decided("cut off", degraded=True)]
        )
    found = reported(ledger)
    assert found.overall.waiting == 2
    text = "\n".join(lines(found))
    assert "2 sampled answers have no label yet" in text
    assert "1 while the ledger was away" in text


def test_every_reference_of_the_period_is_named() -> None:
    ledger = filled(40)
    with ledger.begin() as tx:
        tx.decisions.record([decided("new", reference=ExpertId("stronger"))])
    found = reported(ledger)
    assert found.references == (STRONG, ExpertId("stronger"))
    assert f"the reference, {STRONG}, stronger." in "\n".join(lines(found))


def test_the_same_facts_have_the_same_hash_and_other_facts_another() -> None:
    assert reported(filled()).facts == reported(filled()).facts
    assert reported(filled()).facts != reported(filled(bad_every=19)).facts


def test_a_period_without_decisions_is_said_to_have_none() -> None:
    empty = Period(since=NOON - timedelta(days=9), until=NOON - timedelta(days=8))
    with pytest.raises(NotFound, match="nothing was decided from"):
        reported(filled(), empty)


class Tags(HTMLParser):
    """Open tags that were never closed."""

    def __init__(self) -> None:
        super().__init__()
        self.opened: list[str] = []

    def handle_starttag(self, tag: str, attrs: Sequence[object]) -> None:
        if tag not in {"meta", "br"}:
            self.opened.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.opened.pop() == tag


def test_the_page_is_whole_needs_nothing_from_outside_and_escapes_names() -> None:
    found = reported(filled())
    odd = replace(found.tenants[0], name="<script>alert(1)</script>")
    html = page(replace(found, tenants=(odd,)))
    tags = Tags()
    tags.feed(html)
    assert tags.opened == []
    assert "<script" not in html
    assert "http" not in html
    assert found.facts in html
    assert "Realised risk by day" in html


def test_text_and_json_hold_the_verdict() -> None:
    found = reported(filled())
    text = "\n".join(lines(found))
    assert "Realised: Held:" in text
    assert "reference" in text
    made = json.loads(document(found))
    assert (made["kind"], made["format"]) == ("steersman.risk_report", 1)
    assert made["report"]["overall"]["verdict"] == "held"
    assert made["report"]["facts"] == found.facts
