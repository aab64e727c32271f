"""What one recalibration reads of the ledger, and whether one is due."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from online.snapshot import load_state
from online.state import PoolMember, RoutingState, pool_of
from recalibrate.alarms import window_from
from store.clock import Clock
from store.errors import StateRefused
from store.ledger import Ledger
from store.policy import PolicySettings
from store.records import AlertKind, Expert, ExpertId, ExpertStatus, RoutingStateRecord

log = logging.getLogger(__name__)

MIN_NEW_LABELS = 50
"""Labels that make a new state worth its cost; ``JOINING_LABELS`` while an expert is described."""
JOINING_LABELS = 20
AGE_EVERY_REQUESTS = 500
"""λ is recomputed after this many requests even without labels, so that it can age."""
CUTS = 100
"""Alerts that cut the window, the newest. The cut moves on with the labels."""
LABEL_TIMEOUT_S = 600.0
"""A sampled request without labels holds the watermark back this long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """A consistent reading, from one transaction."""

    policy_version: int
    policy: PolicySettings
    experts: tuple[Expert, ...]
    output_tokens: dict[ExpertId, float]
    active: RoutingState | None
    """None before the first state, and when the active one cannot be read."""
    active_version: int
    last_seq: int
    newest_version: int
    """State version of the newest decision."""
    watermark: int
    from_seq: int
    """Labels before this ledger sequence left the window at the last alarm."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """Where things stood when this process last published."""

    labels: int = 0
    seq: int = 0
    version: int = 0


def read_inputs(ledger: Ledger, clock: Clock) -> Inputs | None:
    """Return the inputs of a cycle; None before a policy is set and its reference registered."""
    with ledger.begin() as tx:
        current = tx.policies.current()
        experts = tuple(tx.experts.all())
        if current is None or all(e.name != current[1].reference for e in experts):
            return None
        record = tx.states.active()
        return Inputs(
            policy_version=current[0],
            policy=current[1],
            experts=experts,
            output_tokens=tx.responses.mean_output_tokens(),
            active=_loaded(record),
            active_version=record.version if record else 0,
            last_seq=tx.decisions.last_seq(),
            newest_version=tx.decisions.newest_version(),
            watermark=tx.decisions.watermark(now=clock.now(), timeout_s=LABEL_TIMEOUT_S),
            from_seq=window_from(
                tx.operations.alerts(limit=CUTS, kind=AlertKind.EXPERT_REGRESSION)
            ),
        )


def is_due(inputs: Inputs, published: Published, *, labels: int) -> bool:
    """Return whether labels, policy, pool or age ask for a new state.

    Labels do not while the state last published has served nobody: its successor would only
    replace what no request has seen.
    """
    active = inputs.active
    if active is None or active.policy_version != inputs.policy_version:
        return True
    if _shape(inputs.experts) != _pool_shape(active.pool):
        return True
    if inputs.last_seq - published.seq >= AGE_EVERY_REQUESTS:
        return True
    if inputs.active_version == published.version > inputs.newest_version:
        return False
    fresh = labels - published.labels
    joining = any(e.status is ExpertStatus.REGISTERED for e in inputs.experts)
    return fresh >= (JOINING_LABELS if joining else MIN_NEW_LABELS)


def cause_of(inputs: Inputs, experts: Sequence[Expert]) -> str:
    """Return why a state is published."""
    if inputs.active is None:
        return "cold start"
    if inputs.active.policy_version != inputs.policy_version:
        return "policy"
    if _shape(experts) != _pool_shape(inputs.active.pool):
        return "expert"
    return "labels"


def _shape(experts: Sequence[Expert]) -> list[tuple[object, ...]]:
    return _pool_shape(pool_of(experts, output_tokens={}))


def _pool_shape(pool: Sequence[PoolMember]) -> list[tuple[object, ...]]:
    return [(m.name, m.status, m.price, m.capabilities) for m in pool]


def _loaded(record: RoutingStateRecord | None) -> RoutingState | None:
    if record is None:
        return None
    try:
        return load_state(record.payload, sha256=record.sha256)
    except StateRefused as problem:
        log.exception("state.unreadable", extra={"version": record.version, "why": str(problem)})
        return None
