"""Decisions over HTTP while the ledger is away (design.md section 9), and their way into it."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np

from ingest.handler import RequestHandler, announced
from ingest.metrics import Metrics
from ingest.outbox import OutboxPublisher
from ingest.spool import Spool, Spooled
from store.clock import Clock
from store.errors import EventRejected, StoreUnavailable
from store.facts import Decided, Recorded, ResponseOutcome
from store.ledger import Ledger, Transaction
from store.records import Feedback, PromptReceived, RequestId, ResponseReceived

log = logging.getLogger(__name__)

BATCH = 200


class DegradedHandler:
    """``ingest.ports.Handler``: the usual one, and a spool behind it when its ledger is away.

    A degraded decision explores nothing and is never sampled, so that any replica on the same
    state gives the same one. The sweep alone finds out that the ledger is back: no request waits
    for a connection that will not come.
    """

    def __init__(
        self,
        handler: RequestHandler,
        ledger: Ledger,
        spool: Spool,
        outbox: OutboxPublisher,
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        self._handler = handler
        self._ledger = ledger
        self._spool = spool
        self._outbox = outbox
        self._clock = clock
        self._metrics = metrics
        self._is_away = False

    def on_prompts(self, batch: Sequence[PromptReceived]) -> list[Recorded | EventRejected]:
        """Decide, in the ledger if it can be; raises ``StoreUnavailable`` with a full spool."""
        held = [self._spool.find(prompt.request_id) for prompt in batch]
        fresh = [prompt for prompt, one in zip(batch, held, strict=True) if one is None]
        decided = iter(self._decided(fresh) if fresh else ())
        return [
            next(decided) if one is None else _answer(prompt, one)
            for prompt, one in zip(batch, held, strict=True)
        ]

    def on_responses(
        self, batch: Sequence[ResponseReceived]
    ) -> list[ResponseOutcome | EventRejected]:
        """Store answers; without a ledger they cannot be."""
        return self._handler.on_responses(batch)

    def on_feedback(self, feedback: Feedback) -> bool:
        """Store feedback; without a ledger it cannot be."""
        return self._handler.on_feedback(feedback)

    def sweep(self) -> int:
        """Bring what was spooled into the ledger; return how many decisions.

        Raises ``StoreUnavailable`` while the ledger is away; nothing is lost.
        """
        if not self._is_away and not len(self._spool):
            return 0
        swept = 0
        while waiting := self._spool.oldest(BATCH):
            self._store(waiting)
            swept += len(waiting)
        if not swept:
            with self._ledger.begin() as tx:
                tx.decisions.last_seq()
        self._is_away = False
        self._metrics.set("spooled_decisions", len(self._spool))
        log.info("degraded.ended", extra={"decisions": swept})
        return swept

    def _decided(self, batch: Sequence[PromptReceived]) -> list[Recorded | EventRejected]:
        if not self._is_away:
            try:
                return self._handler.on_prompts(batch)
            except StoreUnavailable as away:
                log.warning("degraded.tried", extra={"problem": str(away)})
        decided, _ = self._handler.decide(batch, degraded=True)  # raises without a routing state
        self._is_away = True
        made: dict[RequestId, Spooled] = {}
        for one in decided:
            if isinstance(one, Decided):  # of one id twice in a batch the first counts
                made.setdefault(one.prompt.request_id, Spooled(one.prompt, one.decision))
        self._spool.add(list(made.values()))
        self._metrics.set("spooled_decisions", len(self._spool))
        for spooled in made.values():
            self._metrics.decided(spooled.decision)
        return [
            _answer(one.prompt, made[one.prompt.request_id]) if isinstance(one, Decided) else one
            for one in decided
        ]

    def _store(self, waiting: Sequence[Spooled]) -> None:
        with self._ledger.begin() as tx:
            recorded = tx.decisions.record([_to_store(one) for one in waiting])
            fresh = [r.decision for r in recorded if r.is_new and r.decision is not None]
            outgoing = tx.outbox.add([announced(decision) for decision in fresh])
            for one, stored in zip(waiting, recorded, strict=True):
                self._note_clash(tx, one, stored)
        self._spool.forget(waiting)
        self._outbox.publish_now(outgoing)

    def _note_clash(self, tx: Transaction, one: Spooled, stored: Recorded) -> None:
        """Keep what the caller was told where the ledger holds something else."""
        held = stored.decision
        if held is not None and held.expert == one.decision.expert:
            return
        other = "another prompt" if held is None else f"{held.expert!r}"
        told = f"the caller was told {one.decision.expert!r} while degraded"
        tx.operations.record_conflict(
            one.decision.request_id, f"{told}; the ledger has {other}", now=self._clock.now()
        )


def _answer(prompt: PromptReceived, spooled: Spooled) -> Recorded:
    is_same = prompt.text == spooled.prompt.text
    return Recorded(
        request_id=prompt.request_id,
        decision=spooled.decision if is_same else None,
        is_new=prompt is spooled.prompt,
        is_conflict=not is_same,
    )


def _to_store(one: Spooled) -> Decided:
    # Only a sampled request's embedding is stored, and a degraded one is never sampled.
    nothing = np.empty(0, dtype=np.float32)
    return Decided(prompt=one.prompt, decision=one.decision, embedding=nothing, encoder_hash="")
