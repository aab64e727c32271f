"""Responses that arrive before their decision is visible wait for it, ten minutes at most."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from datetime import timedelta

from ingest.dead_letters import dead_letter_of_parked
from ingest.patience import Counters, NoCounters
from ingest.ports import EventSink, Handler
from store.clock import Clock
from store.errors import EventRejected
from store.facts import ResponseOutcome
from store.ledger import Ledger, Transaction
from store.records import ExpertId, RequestId, ResponseReceived

log = logging.getLogger(__name__)

PATIENCE = timedelta(minutes=10)
BATCH = 500
Parked = tuple[ResponseReceived, bytes]
Taking = Callable[[Transaction], list[Parked]]


class _Untaken(Exception):
    pass


class Parking:
    """Holds early responses in the ledger.

    Parameters
    ----------
    ledger, handler, sink
        Where they wait, who takes them, and where the hopeless ones go.
    topic
        Full name of the topic of responses; names the dead-letter topic.
    """

    def __init__(
        self,
        ledger: Ledger,
        handler: Handler,
        sink: EventSink,
        clock: Clock,
        *,
        topic: str,
        counters: Counters | None = None,
    ) -> None:
        self._ledger = ledger
        self._handler = handler
        self._sink = sink
        self._clock = clock
        self._topic = topic
        self._counters = counters or NoCounters()

    def park(self, early: Sequence[Parked]) -> None:
        """Keep responses whose request is unknown so far; raises ``StoreUnavailable``."""
        if not early:
            return
        now = self._clock.now()
        with self._ledger.begin() as tx:
            for response, original in early:
                tx.responses.park(response, original, now=now)

    def sweep(self) -> int:
        """Hand over what is due and give up on what has waited too long; return how many.

        Raises ``StoreUnavailable`` or ``BrokerUnavailable``; what was not dealt with stays.
        """
        return self._deliver() + self._give_up()

    def _deliver(self) -> int:
        def take(tx: Transaction) -> list[Parked]:
            return tx.responses.take_parked(limit=BATCH)

        waiting = self._look(take)
        if not waiting:
            return 0
        outcomes = self._handler.on_responses([response for response, _ in waiting])
        settled: list[Parked] = []
        for parked, outcome in zip(waiting, outcomes, strict=True):
            if isinstance(outcome, EventRejected):
                self._bury([parked], outcome)
            elif outcome is ResponseOutcome.CONFLICT:
                self._bury([parked], response_conflict())
            if outcome is not ResponseOutcome.UNKNOWN_REQUEST:
                settled.append(parked)
        self._remove(take, settled)
        return len(settled)

    def _give_up(self) -> int:
        before = self._clock.now() - PATIENCE

        def take(tx: Transaction) -> list[Parked]:
            return tx.responses.take_expired(before=before, limit=BATCH)

        hopeless = self._look(take)
        if hopeless:
            refusal = EventRejected(
                "unknown_request",
                "no decision for this request appeared within ten minutes",
                field="request_id",
            )
            self._bury(hopeless, refusal)
            self._remove(take, hopeless)
        return len(hopeless)

    def _bury(self, parked: Sequence[Parked], refusal: EventRejected) -> None:
        letters = [
            dead_letter_of_parked(original, refusal, topic=self._topic, key=response.request_id)
            for response, original in parked
        ]
        self._sink.publish(letters)
        for _ in letters:
            self._counters.count("events_rejected", source="kafka", code=refusal.code)
        log.warning("parking.gave_up", extra={"code": refusal.code, "responses": len(letters)})

    def _look(self, take: Taking) -> list[Parked]:
        """Return what a take would remove and leave it there.

        Taking first would lose the responses to a crash before they are stored; handling them
        inside the taking transaction would nest a second one in it.
        """
        seen: list[Parked] = []
        try:
            with self._ledger.begin() as tx:
                seen = take(tx)
                raise _Untaken  # noqa: TRY301 - the exception is what rolls back
        except _Untaken:
            return seen

    def _remove(self, take: Taking, settled: Sequence[Parked]) -> None:
        """Take for good; what came in between is parked again."""
        known = {_key(response) for response, _ in settled}
        now = self._clock.now()
        with self._ledger.begin() as tx:
            for response, original in take(tx):
                if _key(response) not in known:
                    tx.responses.park(response, original, now=now)


def response_conflict() -> EventRejected:
    """Return why a second, different answer is not stored."""
    return EventRejected(
        "response_conflict", "the request already has another answer", field="request_id"
    )


def _key(response: ResponseReceived) -> tuple[RequestId, ExpertId]:
    return response.request_id, response.expert
