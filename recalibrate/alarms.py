"""Which alerts a cycle raises, with the guarantee and the evidence of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from online.learn import JudgedRequest
from online.state import RoutingState
from recalibrate.controller import Threshold
from recalibrate.drift import THRESHOLD, TOLERANCE, evidence_of_regression
from recalibrate.realised import at_least
from recalibrate.rolling import FLOOR
from recalibrate.window import traffic_outcomes
from store.policy import OBSERVE, OFF
from store.records import (
    Alert,
    AlertKind,
    Baseline,
    Expert,
    ExpertId,
    ExpertStatus,
    Reason,
)

WINDOW_AFTER_ALARM = 200
"""Judged requests that stay in the window after an alarm (promise.md section 6: reset)."""

BASELINE_CONFIDENCE = 0.75
"""Of the baseline: a mean of some hundred labels is itself off by .04, and would alarm for it."""


def with_baselines(
    experts: Sequence[Expert], rows: Sequence[JudgedRequest], *, reference: ExpertId
) -> list[Expert]:
    """Return the experts, each certified one with a baseline once it has the labels for it.

    ``rows`` hold labels against the present reference only; a floor against another is void.
    """
    return [
        replace(e, baseline=_baseline(e, rows, reference=reference))
        if e.status is ExpertStatus.CERTIFIED and e.name != reference
        else replace(e, baseline=replace(e.baseline, floor=None))
        for e in experts
    ]


def without_floors(experts: Sequence[Expert]) -> list[Expert]:
    """Return the experts without the floors that a judge in quarantine may have helped to set: an
    honest judge would raise alarms against them. New ones need labels from here on.
    """
    return [replace(e, baseline=replace(e.baseline, floor=None)) for e in experts]


def _baseline(expert: Expert, rows: Sequence[JudgedRequest], *, reference: ExpertId) -> Baseline:
    kept = expert.baseline
    if kept.floor is not None and kept.reference == reference:
        return kept
    outcomes = traffic_outcomes(rows, expert.name, after_seq=kept.seq)
    if len(outcomes) < FLOOR:
        return Baseline(seq=kept.seq)
    floor = at_least(sum(outcomes), len(outcomes), confidence=BASELINE_CONFIDENCE)
    return Baseline(floor=floor, seq=rows[-1].request.seq, reference=reference)


def regressions(
    experts: Sequence[Expert], rows: Sequence[JudgedRequest], *, now: datetime
) -> tuple[list[Expert], list[Alert]]:
    """Return the experts, and an alert for each that has become worse.

    Such an expert has no baseline from then on until there are labels for a new one: outcomes
    from before the alarm straddle the change, and their end was chosen by the alarm.

    ``rows`` are the judged requests behind the watermark, in ledger order.
    """
    kept, alerts = [], []
    for expert in experts:
        floor = expert.baseline.floor
        if floor is None:
            kept.append(expert)
            continue
        outcomes = traffic_outcomes(rows, expert.name, after_seq=expert.baseline.seq)
        evidence = evidence_of_regression(outcomes, baseline_floor=floor)
        if evidence < THRESHOLD:
            kept.append(expert)
            continue
        alerts.append(_regression(expert, outcomes, rows, evidence=evidence, now=now))
        kept.append(replace(expert, baseline=Baseline(seq=rows[-1].request.seq)))
    return kept, alerts


def starvation(
    active: RoutingState | None, threshold: Threshold, *, mode: str, now: datetime
) -> Alert | None:
    """Return an alert when λ has just aged into SAFE for want of labels.

    In mode ``off`` nobody waits for labels.
    """
    if mode == OFF or threshold.safe_reason is not Reason.SAFE_STARVED:
        return None
    if active is None or active.safe_reason is not None:
        return None
    if mode == OBSERVE:
        effect = "routing would serve nothing but the reference"
    else:
        effect = "the reference serves everything"
    return Alert(
        kind=AlertKind.LABEL_STARVATION,
        subject="labels",
        message=(
            f"λ went to SAFE with {threshold.detail}: {effect} until labels come again; check the"
            " judge, its budget and the label rate"
        ),
        guarantee="exact: a count, not a test",
        evidence={"effective_labels": threshold.effective_labels},
        raised_at=now,
    )


def window_from(alerts: Sequence[Alert]) -> int:
    """Return the ledger sequence at which the last alarm cut the window; 0 without one."""
    cuts = [a.evidence["window_from"] for a in alerts if "window_from" in a.evidence]
    return int(max(cuts, default=0))


def _regression(
    expert: Expert,
    outcomes: Sequence[int],
    rows: Sequence[JudgedRequest],
    *,
    evidence: float,
    now: datetime,
) -> Alert:
    recent = outcomes[-WINDOW_AFTER_ALARM:]
    mean = sum(recent) / len(recent)
    cut = rows[-min(WINDOW_AFTER_ALARM, len(rows))].request.seq
    return Alert(
        kind=AlertKind.EXPERT_REGRESSION,
        subject=expert.name,
        message=(
            f"{expert.name} is acceptable on {mean:.2f} of its last {len(recent)} judged requests,"
            f" at least {expert.baseline.floor or 0.0:.2f} before; the window behind λ was cut to"
            f" the last {min(WINDOW_AFTER_ALARM, len(rows))} judged requests"
        ),
        guarantee=(
            f"at most one false alarm in {THRESHOLD:.0f} labels of this expert on average, as long"
            f" as it is acceptable at most {TOLERANCE:g} less often than before (a"
            f" {BASELINE_CONFIDENCE:.0%} lower limit)"
        ),
        evidence={
            "process": evidence,
            "baseline_floor": expert.baseline.floor or 0.0,
            "recent_mean": mean,
            "labels": float(len(outcomes)),
            "window_from": float(cut),
        },
        raised_at=now,
    )
