"""LOOP BODY: experts whose calls fail go out of service, and come back once probes are answered."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime, timedelta

from recalibrate.health import (
    IN_A_ROW,
    MOST,
    OUT_OF,
    PROBES_NEEDED,
    WITHIN,
    is_failing,
    is_well,
    paused,
    recovered,
)
from recalibrate.inputs import LABEL_TIMEOUT_S
from recalibrate.publication import AnnounceAlert, raise_alerts
from store.clock import Clock
from store.facts import FailedCall
from store.ledger import Ledger, Publish, Transaction
from store.records import Alert, AlertKind, Expert, ExpertId, ExpertStatus

log = logging.getLogger(__name__)

EVERY = timedelta(seconds=1)
KEPT = timedelta(days=7)
"""Failed calls are kept this long."""
OUT = frozenset({ExpertStatus.PAUSED, ExpertStatus.RETIRED})
TOLD = 100
"""Alerts of failing experts, the newest, among which one about the reference is looked for."""


class HealthWatch:
    """The leader's: changes statuses, and the next cycle publishes the pool.

    Parameters
    ----------
    announce, send
        As of ``Recalibrator``.
    """

    def __init__(
        self, ledger: Ledger, clock: Clock, *, announce: AnnounceAlert, send: Publish
    ) -> None:
        self._ledger = ledger
        self._clock = clock
        self._announce = announce
        self._send = send
        self._looked_at: datetime | None = None
        self._tidied_at: datetime | None = None

    def step(self) -> None:
        """Look once a second; raises ``StoreUnavailable``."""
        now = self._clock.now()
        if self._looked_at is not None and now - self._looked_at < EVERY:
            return
        with self._ledger.begin() as tx:
            experts = tx.experts.all()
            alerts = [*self._pauses(tx, experts, now), *self._returns(tx, experts, now)]
            outgoing = raise_alerts(tx, alerts, announce=self._announce)
            if self._tidied_at is None or now - self._tidied_at > WITHIN:
                tx.calls.forget(before=now - KEPT)
                self._tidied_at = now
        self._looked_at = now
        self._send(outgoing)
        for alert in alerts:
            log.warning(alert.kind, extra={"expert": alert.subject})

    def _pauses(self, tx: Transaction, experts: Sequence[Expert], now: datetime) -> list[Alert]:
        suspects = tx.calls.suspects(after=now - WITHIN, at_least=IN_A_ROW)
        policy = tx.policies.current()
        reference = policy[1].reference if policy else None
        alerts = []
        for expert in experts:
            if expert.name not in suspects or expert.status in OUT:
                continue
            failures = failures_of(tx, expert, now=now)
            if failures is None:
                continue
            if expert.name == reference:
                if not _told_already(tx, expert.name, now=now):
                    alerts.append(_alert(expert, failures, "it is the reference: it goes on", now))
            elif self._pause(tx, expert, failures[0], now):
                done = f"paused, and back as {expert.status} once {PROBES_NEEDED} probes in a row"
                alerts.append(_alert(expert, failures, f"{done} are answered", now))
        return alerts

    def _pause(self, tx: Transaction, expert: Expert, latest: FailedCall, now: datetime) -> bool:
        # Requests still to be judged get no label of it: they fall into its absence too.
        judged_to = tx.decisions.watermark(now=now, timeout_s=LABEL_TIMEOUT_S)
        after = paused(expert, error=latest.error, judged_to=judged_to, now=now)
        return tx.experts.set_status(
            expert.name, before=expert.status, after=ExpertStatus.PAUSED, now=now
        ) and tx.experts.set_health(expert.name, before=expert.health, after=after)

    def _returns(self, tx: Transaction, experts: Sequence[Expert], now: datetime) -> list[Alert]:
        alerts = []
        for expert in experts:
            if not expert.is_failing or not is_well(expert.health):
                continue
            after = recovered(expert.health, last_seq=tx.decisions.last_seq())
            if tx.experts.recover(expert, health=after, now=now):
                alerts.append(_recovery(expert, now))
        return alerts


def failures_of(tx: Transaction, expert: Expert, *, now: datetime) -> list[FailedCall] | None:
    """Return an expert's latest failures, newest first, if they are too many; else None.

    What was before its last change of status is past: an expert that came back begins anew.
    """
    after = max(now - WITHIN, expert.status_changed_at)
    failures = tx.calls.failures(expert.name, after=after, limit=MOST)
    answered = {
        k: tx.calls.answered(expert.name, after=failures[k - 1].failed_at, limit=OUT_OF)
        for k in (IN_A_ROW, MOST)
        if len(failures) >= k
    }
    return failures if is_failing(answered) else None


def _told_already(tx: Transaction, reference: ExpertId, *, now: datetime) -> bool:
    return any(
        alert.subject == reference and now - alert.raised_at < WITHIN
        for alert in tx.operations.alerts(limit=TOLD, kind=AlertKind.EXPERT_FAILING)
    )


def _alert(expert: Expert, failures: Sequence[FailedCall], done: str, now: datetime) -> Alert:
    kinds = ", ".join(sorted({f.error.value for f in failures}))
    seconds = (now - failures[-1].failed_at).total_seconds()
    return Alert(
        kind=AlertKind.EXPERT_FAILING,
        subject=expert.name,
        message=f"{len(failures)} calls of {expert.name} failed within {seconds:.0f} s ({kinds});"
        f" {done}",
        guarantee=f"exact: {IN_A_ROW} failures in a row, or {MOST} of the latest {OUT_OF} calls",
        evidence={"failures": float(len(failures)), "seconds": seconds},
        raised_at=now,
    )


def _recovery(expert: Expert, now: datetime) -> Alert:
    seconds = (now - (expert.health.since or now)).total_seconds()
    return Alert(
        kind=AlertKind.EXPERT_RECOVERED,
        subject=expert.name,
        message=f"{expert.name} answers again and is {expert.health.was} after {seconds:.0f} s and"
        f" {expert.health.probes} probes",
        guarantee=f"exact: {PROBES_NEEDED} answered probes in a row",
        evidence={"seconds": seconds, "probes": float(expert.health.probes)},
        raised_at=now,
    )
