"""How fast the loop turned: recalibrations, experts that joined, injected faults found."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from statistics import median

from recalibrate.rolling import FLOOR
from recalibrate.stream_facts import ServedRequest, StatusChange, StreamFacts
from store.records import Alert, ExpertId, ExpertStatus, Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Recalibrations:
    """How often λ was recomputed, and on how much news."""

    count: int
    feasible: int
    """The others published SAFE, each with its reason."""
    min_new_labels: int | None
    median_new_labels: float | None
    median_took_ms: float | None
    max_took_ms: float | None
    states_served: int
    """Distinct routing state versions that decided at least one request."""
    distinct_gap_confidences: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpertJoined:
    """How an expert that was added at run time earned its place."""

    expert: ExpertId
    joined_position: int
    requests_to_first_route: int | None
    """None while it was never served."""
    requests_to_certified: int | None
    seconds_to_first_route: float | None
    """None under a simulated clock."""
    seconds_to_certified: float | None
    first_route_reason: Reason | None
    labels_needed: int
    labels_got: int | None
    """From sampled traffic when it was certified, or so far."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertRaised:
    """An alert, at its place in the stream."""

    position: int
    alert: Alert


@dataclass(frozen=True, slots=True, kw_only=True)
class Injected:
    """A fault the driver put in, and when the alarm about its subject came."""

    position: int
    text: str
    requests_to_alert: int | None
    """None when no alert about the subject followed."""


def recalibrations(facts: StreamFacts) -> Recalibrations:
    """Return the figures of the loop's cycles."""
    fresh = [c.new_labels for c in facts.calibrations]
    took = [c.took_ms for c in facts.calibrations if c.took_ms > 0.0]  # 0: a simulated clock
    return Recalibrations(
        count=len(facts.calibrations),
        feasible=sum(c.reason == "feasible" for c in facts.calibrations),
        min_new_labels=min(fresh, default=None),
        median_new_labels=float(median(fresh)) if fresh else None,
        median_took_ms=median(took) if took else None,
        max_took_ms=max(took, default=None),
        states_served=len({r.state_version for r in facts.requests}),
        distinct_gap_confidences=len(
            {r.gap_confidence for r in facts.requests if r.gap_confidence is not None}
        ),
    )


def experts_joined(facts: StreamFacts) -> tuple[ExpertJoined, ...]:
    """Return the experts registered after the stream's first request, in that order."""
    born = [
        c
        for c in facts.statuses
        if c.status is ExpertStatus.REGISTERED and c.position > _start(facts)
    ]
    return tuple(_joined(change, facts) for change in sorted(born, key=lambda c: c.position))


def alerts_raised(facts: StreamFacts) -> tuple[AlertRaised, ...]:
    """Return the alerts in stream order, each before the first request decided after it."""
    decided = sorted(r.decided_at for r in facts.requests)  # partitions decide side by side
    ordered = sorted(facts.alerts, key=lambda a: a.raised_at)
    return tuple(
        AlertRaised(position=_position(facts.requests, decided, alert.raised_at), alert=alert)
        for alert in ordered
    )


def injected(facts: StreamFacts, raised: Sequence[AlertRaised]) -> tuple[Injected, ...]:
    """Return the injected faults with the delay of the first alert about their subject."""
    return tuple(
        Injected(
            position=event.position,
            text=event.text,
            requests_to_alert=min(
                (
                    found.position - event.position
                    for found in raised
                    if found.alert.subject == event.subject and found.position >= event.position
                ),
                default=None,
            ),
        )
        for event in facts.events
        if event.is_injected
    )


def _start(facts: StreamFacts) -> int:
    return facts.requests[0].position if facts.requests else 0


def _position(
    requests: Sequence[ServedRequest], decided: Sequence[datetime], instant: datetime
) -> int:
    index = bisect_left(decided, instant)
    if index < len(requests):
        return requests[index].position
    return requests[-1].position + 1 if requests else 0


def _joined(born: StatusChange, facts: StreamFacts) -> ExpertJoined:
    certified = next(
        (
            c
            for c in sorted(facts.statuses, key=lambda c: c.position)
            if c.expert == born.expert
            and c.status is ExpertStatus.CERTIFIED
            and c.position >= born.position
        ),
        None,
    )
    served = next(
        (r for r in facts.requests if r.position >= born.position and r.expert == born.expert), None
    )
    return ExpertJoined(
        expert=born.expert,
        joined_position=born.position,
        requests_to_first_route=served.position - born.position if served else None,
        requests_to_certified=certified.position - born.position if certified else None,
        seconds_to_first_route=_seconds(born.at, served.decided_at if served else None),
        seconds_to_certified=_seconds(born.at, certified.at if certified else None),
        first_route_reason=served.reason if served else None,
        labels_needed=int(FLOOR),
        labels_got=_labels(born.expert, facts.statuses),
    )


def _labels(expert: ExpertId, statuses: Sequence[StatusChange]) -> int | None:
    """Return the labels known at certification, else the latest count known."""
    own = [c for c in statuses if c.expert == expert and c.traffic_labels is not None]
    at_certified = [c.traffic_labels for c in own if c.status is ExpertStatus.CERTIFIED]
    counts = at_certified[:1] or [c.traffic_labels for c in own][-1:]
    return counts[0] if counts else None


def _seconds(start: datetime | None, end: datetime | None) -> float | None:
    return None if start is None or end is None else max((end - start).total_seconds(), 0.0)
