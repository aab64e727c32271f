"""How fast labels come and how many are still to come: what λ waits for at SAFE."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from online.snapshot import load_state
from online.state import RoutingState
from recalibrate.rolling import FLOOR
from store.errors import StateRefused
from store.ledger import Transaction
from store.policy import OFF, PolicySettings
from store.records import FOLDS, SAFE, ExpertId, Reason
from store.transitions import JUDGED

OVER = timedelta(days=1)
"""The rate is that of the last day."""
LOOK_BACK = timedelta(days=30)
"""Older labels of experts that are not certified yet, or left out, are not looked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """What is missing before something else than the reference can serve."""

    reason: Reason
    """``safe_cold`` or ``safe_starved``."""
    counted: str
    """``prompts`` (sampled, before anything can be learnt) or ``labels``."""
    have: int
    need: int
    labels_per_hour: float | None
    """Judged requests an hour; None when there is no rate."""
    hours_left: float | None
    """At this rate; None when nobody can say."""
    text: str


def waiting(tx: Transaction, *, now: datetime) -> Waiting | None:
    """Return what the active state waits for; None unless it is SAFE for lack of labels."""
    record, current = tx.states.active(), tx.policies.current()
    if record is None or current is None or record.threshold < SAFE:
        return None
    try:
        state = load_state(record.payload, sha256=record.sha256)
    except StateRefused:
        return None
    policy = current[1]
    if state.safe_reason is Reason.SAFE_STARVED:
        fresh = tx.labels.arrived(since=record.published_at, encoder=state.encoder).requests
        have = effective_after(fresh, have=state.effective_labels, policy=policy)
        left = labels_to_floor(have, policy=policy)
        return _waiting(tx, state, policy, "labels", have, FLOOR, left, now=now)
    if state.safe_reason is not Reason.SAFE_COLD:
        return None
    if state.model is None:
        need = policy.cluster_prompts
        sampled = len(tx.decisions.first_sampled(need, excluding_fold=0, encoder=state.encoder))
        left = math.ceil((need - sampled) * FOLDS / (FOLDS - 1))
        return _waiting(tx, state, policy, "prompts", sampled, need, left, now=now)
    have = _labels_of_the_nearest(tx, state, now=now)
    left = math.ceil(max(0.0, FLOOR - have))
    return _waiting(tx, state, policy, "labels", have, FLOOR, left, now=now)


def labels_per_hour(tx: Transaction, *, encoder: str, now: datetime) -> float | None:
    """Return judged requests an hour over the last day, or since the first of that day."""
    arrived = tx.labels.arrived(since=now - OVER, encoder=encoder)
    if arrived.first_at is None or arrived.requests < 2 or arrived.first_at >= now:
        return None
    return (arrived.requests - 1) / ((now - arrived.first_at) / timedelta(hours=1))


def labels_to_floor(have: float, *, policy: PolicySettings, floor: float = FLOOR) -> int | None:
    """Return judged requests until ``have`` effective labels are ``floor``; None if they never are.

    A label fades as newer ones come (the discount) and as requests go by (the half-life), at 1/π
    requests a label, so that there are never more than ``1 / (1 - keep)`` effective ones.
    """
    if have >= floor:
        return 0
    keep = _kept(policy)
    if keep >= 1.0:
        return math.ceil(floor - have)
    most = most_effective(policy)
    if most <= floor:
        return None
    return math.ceil(math.log((most - floor) / (most - have)) / math.log(keep))


def effective_after(fresh: int, *, have: float, policy: PolicySettings) -> float:
    """Return the effective labels once ``fresh`` further ones have come."""
    keep = _kept(policy)
    if keep >= 1.0:
        return have + fresh
    most = most_effective(policy)
    return most - (most - have) * keep**fresh


def most_effective(policy: PolicySettings) -> float:
    """Return how many effective labels there can ever be; infinite if none fades."""
    keep = _kept(policy)
    return 1.0 / (1.0 - keep) if keep < 1.0 else math.inf


def sampled_to_learn(policy: PolicySettings) -> int:
    """Return the sampled requests until there is anything to score by; fold 0 fits no clusters."""
    return math.ceil(policy.cluster_prompts * FOLDS / (FOLDS - 1))


def hours(labels: int | None, per_hour: float | None) -> float | None:
    """Return how long so many judged requests take; None when nobody can say."""
    return None if labels is None or not per_hour else labels / per_hour


def _kept(policy: PolicySettings) -> float:
    """Return the weight of a label once the next one has come; 0 when none comes."""
    requests = policy.label_rate * policy.age_half_life_requests
    return policy.label_discount * 0.5 ** (1.0 / requests) if requests > 0.0 else 0.0


def _labels_of_the_nearest(tx: Transaction, state: RoutingState, *, now: datetime) -> int:
    """Return the labels of the expert that has most of those that may still be certified."""
    names: set[ExpertId] = {m.name for m in state.pool if m.status in JUDGED}
    by_expert = tx.labels.arrived(since=now - LOOK_BACK, encoder=state.encoder).by_expert
    return max((by_expert.get(n, 0) for n in names - {state.policy.reference}), default=0)


def _waiting(
    tx: Transaction,
    state: RoutingState,
    policy: PolicySettings,
    counted: str,
    have: float,
    need: float,
    left: int | None,
    *,
    now: datetime,
) -> Waiting:
    per_hour = None if policy.mode == OFF else labels_per_hour(tx, encoder=state.encoder, now=now)
    made = Waiting(
        reason=state.safe_reason or Reason.SAFE_COLD,
        counted=counted,
        have=min(int(have), int(need)),
        need=int(need),
        labels_per_hour=per_hour,
        hours_left=hours(left, per_hour) if left else None,
        text="",
    )
    return replace(made, text=_told(made, policy, left))


def _told(made: Waiting, policy: PolicySettings, left: int | None) -> str:
    counted = "sampled prompts" if made.counted == "prompts" else "labels"
    return (
        f"{made.have} of {made.need} {counted}, serving the reference; {_when(made, policy, left)}"
    )


def _when(made: Waiting, policy: PolicySettings, left: int | None) -> str:
    if policy.mode == OFF:
        return "mode is off, so no labels come"
    if left is None:
        return (
            f"they never come together at label_rate {policy.label_rate:g}: raise it, or"
            " age_half_life_requests"
        )
    if left == 0 and made.counted == "prompts":
        return "the next recalibration learns from them"
    if left == 0:
        return "if this stays, no expert meets the target"
    if made.hours_left is None:
        return "how long is unknown, no labels came in the last day"
    return f"about {duration(made.hours_left)} left at this rate"


def duration(amount: float) -> str:
    """Return hours in words: minutes under an hour, days over two."""
    if amount < 1.0:
        return f"{max(2, math.ceil(60.0 * amount))} minutes"
    return f"{amount:.1f} hours" if amount < 48.0 else f"{amount / 24.0:.1f} days"
