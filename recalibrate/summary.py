"""The whole story of a stream in figures: pure, from facts to one value to print or draw."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from judge.error import Bound
from recalibrate.hindsight import CertifiedAt
from recalibrate.pace import (
    AlertRaised,
    ExpertJoined,
    Injected,
    Recalibrations,
    alerts_raised,
    experts_joined,
    injected,
    recalibrations,
)
from recalibrate.phases import PhaseSummary, phase_summary
from recalibrate.series import Series, series
from recalibrate.stream_facts import LabelTotals, StreamFacts
from store.records import ExpertId, ExpertStatus

OVERALL = "overall"
STEPS: Mapping[ExpertStatus, str] = {
    ExpertStatus.REGISTERED: "is added at run time and asked its probe questions",
    ExpertStatus.DESCRIBED: "is described by its answers to the probes",
    ExpertStatus.SHADOW: "answers in the shadow: judged on real traffic, never served",
    ExpertStatus.RAMPING: "serves a small quota of real traffic",
    ExpertStatus.CERTIFIED: "is certified: the risk target can be met with it in the pool",
    ExpertStatus.PAUSED: "is paused",
    ExpertStatus.RETIRED: "is retired",
}
"""What a new status means to somebody who has never seen the system."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TimelineEntry:
    """Something that happened, in stream order."""

    position: int
    kind: str
    """``phase``, ``expert``, ``alert``, ``injected`` or ``note``."""
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What was promised, what was realised, what it saved, what happened when."""

    title: str
    reference: ExpertId
    alpha: float
    margin: float
    tau: float | None
    has_costs: bool
    """False: only quality and regret mean something, and every output says so."""
    overall: PhaseSummary
    """Without the setup phases."""
    setup_phases: tuple[str, ...]
    phases: tuple[PhaseSummary, ...]
    recalibrations: Recalibrations
    joined: tuple[ExpertJoined, ...]
    labels: LabelTotals
    alerts: tuple[AlertRaised, ...]
    injected: tuple[Injected, ...]
    timeline: tuple[TimelineEntry, ...]
    series: Series
    judge: Bound | None = None
    """What the judge's audited error leaves of the promise."""


def summarise(facts: StreamFacts) -> Summary:
    """Return the summary of a stream."""
    certified = CertifiedAt(facts.statuses)
    names = tuple(dict.fromkeys((*facts.phases, *(r.phase for r in facts.requests))))
    counted = [r for r in facts.requests if r.phase not in facts.setup_phases]
    overall = phase_summary(OVERALL, counted, facts, certified)
    raised = alerts_raised(facts)
    lines = series(facts)
    return Summary(
        title=facts.title,
        reference=facts.reference,
        alpha=facts.alpha,
        margin=facts.margin,
        tau=facts.tau,
        has_costs=overall.cost_share is not None,
        overall=overall,
        setup_phases=tuple(name for name in names if name in facts.setup_phases),
        phases=tuple(
            phase_summary(name, [r for r in facts.requests if r.phase == name], facts, certified)
            for name in names
        ),
        recalibrations=recalibrations(facts),
        joined=experts_joined(facts),
        labels=facts.labels,
        alerts=raised,
        injected=injected(facts, raised),
        timeline=_timeline(facts, raised, lines),
        series=lines,
        judge=facts.judge,
    )


def _timeline(
    facts: StreamFacts, raised: tuple[AlertRaised, ...], lines: Series
) -> tuple[TimelineEntry, ...]:
    start = facts.requests[0].position if facts.requests else 0
    entries = [
        TimelineEntry(position=p.position, kind="phase", text=f"phase \u201c{p.name}\u201d begins")
        for p in lines.phase_starts
    ]
    entries += [
        TimelineEntry(
            position=event.position,
            kind="injected" if event.is_injected else "note",
            text=event.text,
        )
        for event in facts.events
    ]
    entries += [
        TimelineEntry(position=c.position, kind="expert", text=f"{c.expert} {STEPS[c.status]}")
        for c in facts.statuses
        if c.position > start
    ]
    entries += [
        TimelineEntry(position=a.position, kind="alert", text=a.alert.message) for a in raised
    ]
    return tuple(sorted(entries, key=lambda entry: entry.position))
