"""Is it safe to turn it on? Read from the ledger alone, in any mode."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from online.learner import LabelWindow
from recalibrate.crossfit import Evidence
from recalibrate.inputs import read_inputs
from recalibrate.outlook import Outlook, Spending, outlook
from recalibrate.supply import LOOK_BACK, Waiting, labels_per_hour, waiting
from recalibrate.window import rescore, settled
from store.clock import Clock
from store.errors import NotFound
from store.ledger import Ledger
from store.records import ExpertId, RequestId

TARGETS = (0.05, 0.10, 0.20)


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """What the judged traffic says about turning it on, by risk target."""

    mode: str
    reference: ExpertId
    alpha: float
    """The target in force; it is among the outlooks."""
    state_version: int
    at: datetime
    judged: int
    """Requests with settled labels against this reference."""
    left_out: int
    """Labels of the last 30 days that a judge's quarantine keeps out of this and of λ."""
    looked_at: int
    """Of these, the newest that say something about every certified expert."""
    oldest: datetime | None
    """When the first that was looked at was decided."""
    labels_per_hour: float | None
    waiting: Waiting | None
    """What λ still waits for at the target in force."""
    outlooks: tuple[Outlook, ...]
    """Empty before anything is learnt."""


def observe(ledger: Ledger, clock: Clock) -> Observation:
    """Return the outlooks of the routing state in force.

    Raises
    ------
    NotFound
        There is no policy, no reference or no readable routing state yet.
    """
    inputs = read_inputs(ledger, clock)
    if inputs is None or inputs.active is None:
        raise NotFound(
            "no_state", "there is no routing state to look at yet: does `steersman learn` run?"
        )
    state, now = inputs.active, clock.now()
    with ledger.begin() as tx:
        missing = waiting(tx, now=now)
        per_hour = labels_per_hour(tx, encoder=state.encoder, now=now)
        left_out = sum(one.left_out for one in tx.judging.labelled(since=now - LOOK_BACK))
    window = LabelWindow(encoder=state.encoder)
    window.read(ledger)
    known = settled(window.rows(), watermark=inputs.watermark, reference=state.policy.reference)
    outlooks: tuple[Outlook, ...] = ()
    rows = []
    if state.model is not None and known:
        given = Evidence(
            state=state,
            labels=rescore(known, state.model, inputs.experts),
            last_seq=inputs.last_seq,
            from_seq=inputs.from_seq,
        )
        rows = [known[i] for i in given.looked_at]
        spending = _spending(ledger, [row.request.request_id for row in rows])
        outlooks = tuple(
            outlook(given, spending, alpha=alpha, labels_per_hour=per_hour)
            for alpha in sorted({*TARGETS, state.policy.alpha})
        )
    return Observation(
        mode=state.policy.mode,
        reference=state.policy.reference,
        alpha=state.policy.alpha,
        state_version=state.version,
        at=now,
        judged=len(known),
        left_out=left_out,
        looked_at=len(rows),
        oldest=rows[0].request.decided_at if rows else None,
        labels_per_hour=per_hour,
        waiting=missing,
        outlooks=outlooks,
    )


def _spending(ledger: Ledger, request_ids: Sequence[RequestId]) -> Spending:
    with ledger.begin() as tx:
        return Spending(
            stated=tx.responses.costs(request_ids), texts=tx.decisions.prompt_texts(request_ids)
        )
