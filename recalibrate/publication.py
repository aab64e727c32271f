"""One transaction for everything a cycle makes true."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from online.snapshot import checksum
from online.state import RoutingState
from recalibrate.controller import Threshold
from recalibrate.inputs import Inputs, cause_of
from recalibrate.lifecycle import ORDER
from recalibrate.profiles import profiles
from store.clock import Clock
from store.errors import StateSuperseded
from store.ledger import Ledger, Transaction
from store.records import (
    Alert,
    Calibration,
    Expert,
    ExpertStatus,
    OutboxMessage,
    RoutingStateRecord,
)

AnnounceAlert = Callable[[Alert], OutboxMessage]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a cycle arrived at."""

    state: RoutingState
    payload: bytes
    threshold: Threshold
    experts: tuple[Expert, ...]
    alerts: tuple[Alert, ...]
    labels: int
    new_labels: int
    took_ms: float


def publish(
    ledger: Ledger, clock: Clock, inputs: Inputs, outcome: Outcome, *, announce: AnnounceAlert
) -> list[OutboxMessage]:
    """Store statuses, baselines, profiles, state, calibration and alerts; return what must be sent.

    Raises
    ------
    StateSuperseded
        Another publisher or an operator was faster; nothing was stored.
    """
    now = clock.now()
    with ledger.begin() as tx:
        for before, after in zip(inputs.experts, outcome.experts, strict=True):
            _store_expert(tx, before, after, clock)
        for profile in profiles(outcome.state, inputs.experts, outcome.experts, now=now):
            tx.describing.keep(profile)
        tx.states.publish(
            RoutingStateRecord(
                version=outcome.state.version,
                parent=outcome.state.parent,
                payload=outcome.payload,
                sha256=checksum(outcome.payload),
                threshold=outcome.state.threshold,
                risk_target=inputs.policy.alpha,
                effective_labels=outcome.state.effective_labels,
                cause=cause_of(inputs, outcome.experts),
                note=outcome.threshold.detail,
                published_at=now,
            )
        )
        tx.states.record_calibration(_calibration(inputs, outcome, clock))
        return raise_alerts(tx, outcome.alerts, announce=announce)


def raise_alerts(
    tx: Transaction, alerts: Sequence[Alert], *, announce: AnnounceAlert
) -> list[OutboxMessage]:
    """Store alerts and what announces them."""
    stored = [tx.operations.raise_alert(alert) for alert in alerts]
    return tx.outbox.add([announce(alert) for alert in stored])


def _store_expert(tx: Transaction, before: Expert, after: Expert, clock: Clock) -> None:
    for left, right in _steps(before.status, after.status):
        if not tx.experts.set_status(before.name, before=left, after=right, now=clock.now()):
            raise StateSuperseded(expected=0, active=0)
    if after.baseline != before.baseline:
        tx.experts.set_baseline(after.name, after.baseline)


def _steps(
    before: ExpertStatus, after: ExpertStatus
) -> Iterator[tuple[ExpertStatus, ExpertStatus]]:
    """Yield the legal single steps between two statuses of the usual order."""
    if before is not after:
        path = ORDER[ORDER.index(before) : ORDER.index(after) + 1]
        yield from pairwise(path)


def _calibration(inputs: Inputs, outcome: Outcome, clock: Clock) -> Calibration:
    return Calibration(
        state_version=outcome.state.version,
        threshold=outcome.threshold.value,
        risk_target=inputs.policy.alpha,
        effective_labels=outcome.threshold.effective_labels,
        labels=outcome.labels,
        new_labels=outcome.new_labels,
        weighted_risk=outcome.threshold.weighted_risk,
        reason=outcome.threshold.safe_reason or "feasible",
        loss="worst_in_set",
        calibrated_at=clock.now(),
        took_ms=outcome.took_ms,
    )
