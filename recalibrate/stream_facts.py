"""What a report is made of: facts about a stream of served requests, without any prompt text."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from judge.error import Bound
from store.records import (
    OUTSIDE_PROMISE,
    Alert,
    Calibration,
    Decision,
    ExpertId,
    ExpertStatus,
    Reason,
    Retrieved,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Graded:
    """What is recorded of one expert's answer to one request."""

    score: float
    """Judged quality in [0, 1]."""
    cost_usd: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedRequest:
    """One request as it was decided and answered."""

    position: int
    """0 for the stream's first request."""
    phase: str
    decided_at: datetime
    expert: ExpertId
    reason: Reason
    propensity: float
    threshold: float
    effective_labels: float
    state_version: int
    gap: float | None
    gap_confidence: float | None
    comparator_probability: float | None
    score: float
    reference_score: float
    cost_usd: float | None
    reference_cost_usd: float | None
    answers: Mapping[ExpertId, Graded]
    """Every expert with a recorded answer; baselines and hindsight read it."""
    candidates: tuple[Retrieved, ...]
    """As logged with the decision, the reference too."""
    is_sampled: bool
    degraded: bool
    can_be_judged: bool
    """False: π = 0 was recorded."""
    opted_out: bool
    """Not to be judged by its tenant's will."""

    @property
    def is_covered(self) -> bool:
        """Return whether the promise is about this request."""
        return self.reason not in OUTSIDE_PROMISE and not self.opted_out

    def is_unacceptable(self, margin: float) -> bool:
        """Return whether the served answer was worse than the reference's by over the margin."""
        return is_worse(self.score, self.reference_score, margin=margin)


def is_worse(score: float, reference_score: float, *, margin: float) -> bool:
    """Return whether an answer is unacceptable against the reference's (y = 0)."""
    return score < reference_score - margin - 1e-9


def served_request(
    decision: Decision,
    answers: Mapping[ExpertId, Graded],
    *,
    position: int,
    phase: str,
    unjudged_tenants: Collection[str] = (),
) -> ServedRequest:
    """Return the facts of one decision whose answers are recorded.

    Parameters
    ----------
    answers
        By expert; must hold the served expert and the reference.
    unjudged_tenants
        Those that opted out of judging. A request of theirs that was decided while they had not is
        one like any other: its π says so.
    """
    can_be_judged = decision.inclusion_probability > 0.0
    own, reference = answers[decision.expert], answers[decision.reference]
    return ServedRequest(
        position=position,
        phase=phase,
        decided_at=decision.decided_at,
        expert=decision.expert,
        reason=decision.reason,
        propensity=decision.propensity,
        threshold=decision.threshold,
        effective_labels=decision.effective_labels,
        state_version=decision.state_version,
        gap=decision.gap,
        gap_confidence=decision.gap_confidence,
        comparator_probability=decision.comparator_probability,
        score=own.score,
        reference_score=reference.score,
        cost_usd=own.cost_usd,
        reference_cost_usd=reference.cost_usd,
        answers=answers,
        candidates=decision.retrieved,
        is_sampled=decision.is_sampled,
        degraded=decision.degraded,
        can_be_judged=can_be_judged,
        opted_out=not can_be_judged and decision.tenant in unjudged_tenants,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusChange:
    """An expert's new status, in force from the request at ``position`` on."""

    expert: ExpertId
    status: ExpertStatus
    position: int
    at: datetime | None = None
    """None under a simulated clock: then only requests are counted, never seconds."""
    traffic_labels: int | None = None
    """Labels the expert had from sampled traffic at that moment, if known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoryEvent:
    """Something the driver did on purpose or wants told."""

    position: int
    text: str
    subject: ExpertId | None = None
    is_injected: bool = False
    """A fault put in by the driver: always shown as such."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelTotals:
    """What learning was fed, and what that cost beyond serving."""

    labels: int = 0
    judge_calls: int | None = None
    probes: int | None = None
    shadow_cost_usd: float | None = None
    """Answers asked for only to be judged."""
    judge_cost_usd: float | None = None

    @property
    def cost_usd(self) -> float | None:
        """Return shadow answers plus judging; None when neither is known."""
        known = [c for c in (self.shadow_cost_usd, self.judge_cost_usd) if c is not None]
        return sum(known) if known else None


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamFacts:
    """Everything a summary needs."""

    title: str
    reference: ExpertId
    alpha: float
    margin: float
    requests: tuple[ServedRequest, ...]
    """In order of position."""
    phases: tuple[str, ...] = ()
    """Phases to list even if no request fell into them; others follow in order of appearance."""
    setup_phases: frozenset[str] = frozenset()
    """Phases (a warm start) that are shown but left out of the overall figures."""
    tau: float | None = None
    """Gap confidence below which the comparator is asked."""
    calibrations: tuple[Calibration, ...] = ()
    alerts: tuple[Alert, ...] = ()
    statuses: tuple[StatusChange, ...] = ()
    labels: LabelTotals = field(default_factory=LabelTotals)
    events: tuple[StoryEvent, ...] = ()
    judge: Bound | None = None
    """What audits leave of the promise; None where nothing was judged."""
