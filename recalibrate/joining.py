"""How far an expert has come, from the facts of the ledger: times, labels, share, replicas.

Definitions, the same for ``steersman experts show``, ``GET /v1/experts/{name}`` and the documents:

- *time to first route*: from ``added_at`` to the ``decided_at`` of the first decision in which
  routing chose the expert. Pins are not routing; in modes observe and off nobody is routed to.
- *time to certified*: from ``added_at`` to its first step to ``certified``.
- *labels needed*: labels of sampled traffic without which nobody is certified (``FLOOR``);
  *labels got*: requests of sampled traffic with a label of it since it was added, up to its first
  certification; probes, and what a judge in quarantine said, are none.
- *share*: of the decisions of the last day, pins and those of modes observe and off left out.
- *in force*: the active state lists the expert at its present status and price, or, when it is
  paused or retired, does not list it; *replicas*: those that acknowledged that state.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from online.snapshot import load_state
from online.state import RoutingState
from recalibrate.lifecycle import RAMP_AFTER
from recalibrate.rolling import FLOOR
from recalibrate.supply import duration, labels_per_hour
from store.describing import Descriptor
from store.errors import StateRefused
from store.ledger import Transaction
from store.lives import Share, Step
from store.policy import OFF, PolicySettings
from store.records import Expert, ExpertStatus

OVER = timedelta(days=1)
_SERVED = (ExpertStatus.RAMPING, ExpertStatus.CERTIFIED)
_OUT = (ExpertStatus.PAUSED, ExpertStatus.RETIRED)
_THERE = (ExpertStatus.CERTIFIED, ExpertStatus.RETIRED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Joining:
    """One expert's life so far."""

    expert: Expert
    steps: tuple[Step, ...]
    seconds_to_first_route: float | None
    """None while it was never routed to, or where that day's decisions have gone."""
    seconds_to_certified: float | None
    labels_needed: int
    labels_got: int
    share: Share
    descriptors: tuple[Descriptor, ...]
    probe_answers: int
    probe_usd: float
    state_version: int | None
    """Of the active state in which it is in force; None while it is not."""
    replicas: tuple[str, ...]
    waits_for: str
    """What its next step needs, in words; empty when there is none."""


def joining(tx: Transaction, expert: Expert, *, now: datetime) -> Joining:
    """Return how far an expert has come."""
    steps = with_present(tx.lives.steps(expert.name), expert)
    certified_at = first(steps, ExpertStatus.CERTIFIED)
    served_from = first(steps, *_SERVED)
    route = tx.lives.first_route(expert.name, since=served_from) if served_from else None
    got = tx.lives.labels(expert.name, since=expert.added_at, until=certified_at or now)
    answers, usd = tx.describing.spent(expert.name)
    active = _active(tx)
    version = active.version if active is not None and _is_in_force(expert, active) else None
    current = tx.policies.current()
    return Joining(
        expert=expert,
        steps=steps,
        seconds_to_first_route=_seconds(expert.added_at, route.at if route else None),
        seconds_to_certified=_seconds(expert.added_at, certified_at),
        labels_needed=int(FLOOR),
        labels_got=got,
        share=tx.lives.share(expert.name, since=now - OVER),
        descriptors=tuple(tx.describing.descriptors(expert.name)),
        probe_answers=answers,
        probe_usd=usd,
        state_version=version,
        replicas=tuple(sorted(tx.states.acknowledged(version))) if version else (),
        waits_for=waits_for(
            expert,
            current[1] if current else None,
            labels=got,
            per_hour=labels_per_hour(tx, encoder=active.encoder, now=now) if active else None,
        ),
    )


def with_present(steps: Sequence[Step], expert: Expert) -> tuple[Step, ...]:
    """Return the steps, the present status among them: an older program writes none."""
    if steps and steps[-1].status == expert.status:
        return tuple(steps)
    return (*steps, Step(expert.status, expert.status_changed_at))


def first(steps: Sequence[Step], *statuses: ExpertStatus) -> datetime | None:
    """Return when an expert first had one of these statuses."""
    return next((step.at for step in steps if step.status in statuses), None)


def waits_for(
    expert: Expert, policy: PolicySettings | None, *, labels: int, per_hour: float | None
) -> str:
    """Return what an expert's next step needs, in words for whoever added it."""
    if policy is None:
        return "a policy: steersman policy set reference=EXPERT"
    if expert.name == policy.reference or expert.status in _THERE:
        return ""
    if expert.is_failing:
        return "its endpoint to answer again; it is probed by itself"
    if expert.status is ExpertStatus.PAUSED:
        return f"an operator: steersman experts resume {expert.name}"
    if policy.mode == OFF:
        return "mode is off, so nobody is asked and nothing is judged"
    return _for_labels(expert.status, labels, per_hour)


def _for_labels(status: ExpertStatus, labels: int, per_hour: float | None) -> str:
    needed = {ExpertStatus.SHADOW: RAMP_AFTER, ExpertStatus.RAMPING: int(FLOOR)}.get(status, 0)
    if labels < needed:
        return f"{needed - labels} more labels of sampled traffic{_when(labels, per_hour)}"
    if status is ExpertStatus.RAMPING:
        return (
            "a λ at which the risk target holds with it in the pool: none was found so far"
            " (docs/experts.md: not certified)"
        )
    if status in {ExpertStatus.DESCRIBED, ExpertStatus.SHADOW}:
        return "evidence enough for a score: the next recalibrations"
    return "its answers to requests already judged (steersman judge tasks shows them)"


def _when(labels: int, per_hour: float | None) -> str:
    """Return how long the labels to the floor take, if every judged request brings one."""
    if not per_hour:
        return "; no labels came in the last day"
    return f"; about {duration((FLOOR - labels) / per_hour)} to certification at this rate"


def _active(tx: Transaction) -> RoutingState | None:
    record = tx.states.active()
    if record is None:
        return None
    try:
        return load_state(record.payload, sha256=record.sha256)
    except StateRefused:
        return None


def _is_in_force(expert: Expert, state: RoutingState) -> bool:
    member = state.members.get(expert.name)
    if expert.status in _OUT:
        return member is None
    return member is not None and (member.status, member.price) == (expert.status, expert.price)


def _seconds(start: datetime, end: datetime | None) -> float | None:
    return None if end is None else max(0.0, (end - start).total_seconds())
