"""The risk report of a period, read from the ledger alone: for whoever answers for the risk."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, time, timedelta

from judge.audit_report import bound_in_force
from judge.error import Bound
from recalibrate.served_risk import ServedRisk, served_risk, with_holm
from store.clock import Clock
from store.errors import NotFound
from store.ledger import Ledger
from store.records import OUTSIDE_PROMISE, Alert, Calibration, ExpertId
from store.served import Period, ServedGroup


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """A part of the traffic against the one target: λ is set for all of it together."""

    name: str
    risk: ServedRisk
    """Its verdict is Holm's, over all segments of a kind."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RiskReport:
    """What was promised for a period, and what its labels show."""

    period: Period
    made_at: datetime
    references: tuple[ExpertId, ...]
    """In force in the period."""
    alpha: float
    """Mean target over the routed requests, each with the one in force when it was decided."""
    alphas: tuple[float, ...]
    overall: ServedRisk
    days: tuple[Segment, ...]
    tenants: tuple[Segment, ...]
    categories: tuple[Segment, ...]
    experts: tuple[Segment, ...]
    """Among what each served; nothing is promised for one of them."""
    reasons: dict[str, int]
    """Requests by why their expert was chosen, most first."""
    outside: int
    """Pinned, observed or off: not routed."""
    degraded: int
    """Decided while the ledger was away."""
    calibrations: tuple[Calibration, ...]
    """Of the period, oldest first."""
    alerts: tuple[Alert, ...]
    judge: Bound | None
    facts: str
    """SHA-256 of the counts behind all figures of risk: the same counts give the same report."""


def risk_report(ledger: Ledger, clock: Clock, period: Period) -> RiskReport:
    """Return the report.

    Raises
    ------
    NotFound
        Nothing was decided in the period.
    """
    with ledger.begin() as tx:
        by_day = [(day, tx.decisions.served(day)) for day in _days(period)]
        bound = bound_in_force(tx)
        calibrations = tuple(tx.states.calibrations_in(period))
        alerts = tuple(tx.operations.alerts_in(period))
    groups = [group for _, found in by_day for group in found]
    if not groups:
        raise NotFound("no_decisions", f"nothing was decided {_words(period)}")
    routed = [g for g in groups if g.reason not in OUTSIDE_PROMISE]
    asked = routed or groups
    alpha = _target(asked)
    return RiskReport(
        period=period,
        made_at=clock.now(),
        references=tuple(sorted({g.reference for g in asked})),
        alpha=alpha,
        alphas=tuple(sorted({g.risk_target for g in asked})),
        overall=served_risk(groups, alpha=alpha),
        days=_segments([(f"{day.since:%Y-%m-%d}", found) for day, found in by_day], alpha),
        tenants=_by("tenant", routed, alpha),
        categories=_by("category", routed, alpha),
        experts=_by("expert", routed, alpha),
        reasons=_reasons(groups),
        outside=sum(g.requests for g in groups) - sum(g.requests for g in routed),
        degraded=sum(g.requests for g in groups if g.degraded),
        calibrations=calibrations,
        alerts=alerts,
        judge=bound,
        facts=_hash(by_day),
    )


def _days(period: Period) -> list[Period]:
    """Return the UTC days of a period, the first and the last as far as they belong to it."""
    made, since = [], period.since
    while since < period.until:
        midnight = datetime.combine(since.date() + timedelta(days=1), time(), tzinfo=since.tzinfo)
        made.append(Period(since=since, until=min(midnight, period.until)))
        since = midnight
    return made


def _target(groups: Sequence[ServedGroup]) -> float:
    total = sum(g.requests for g in groups)
    return sum(g.risk_target * g.requests for g in groups) / total


def _by(name: str, groups: Sequence[ServedGroup], alpha: float) -> tuple[Segment, ...]:
    """Return the segments of one kind, those with most requests first."""
    parts: dict[str, list[ServedGroup]] = {}
    for group in groups:
        parts.setdefault(getattr(group, name), []).append(group)
    made = _segments(list(parts.items()), alpha)
    return tuple(sorted(made, key=lambda one: (-one.risk.requests, one.name)))


def _segments(
    parts: Sequence[tuple[str, Sequence[ServedGroup]]], alpha: float
) -> tuple[Segment, ...]:
    risks = [served_risk(groups, alpha=alpha) for _, groups in parts]
    return tuple(
        Segment(name=name, risk=replace(risk, verdict=verdict))
        for (name, _), risk, verdict in zip(parts, risks, with_holm(risks), strict=True)
    )


def _reasons(groups: Sequence[ServedGroup]) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for group in groups:
        counts[group.reason] += group.requests
    return dict(counts.most_common())


def _hash(by_day: Sequence[tuple[Period, Sequence[ServedGroup]]]) -> str:
    facts = [
        [f"{day.since.isoformat()} {day.until.isoformat()}", sorted(map(_plain, groups))]
        for day, groups in by_day
    ]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _plain(group: ServedGroup) -> str:
    return json.dumps(asdict(group), sort_keys=True)


def _words(period: Period) -> str:
    return f"from {period.since:%Y-%m-%d %H:%M} to {period.until:%Y-%m-%d %H:%M} UTC"
