"""What must leave is published after the commit that made it true, and again until marked."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from datetime import timedelta

from ingest.patience import Counters, NoCounters
from ingest.ports import EventSink, Outbound
from ingest.topics import DEFAULT_PREFIX, full_name
from store.clock import Clock
from store.errors import BrokerUnavailable, StoreUnavailable
from store.ledger import Ledger
from store.records import OutboxMessage

log = logging.getLogger(__name__)

OLDER_THAN = timedelta(seconds=5)
"""Younger messages are still on their way from the process that wrote them."""
AWAY_S = 30.0
"""After a failure the sweeper alone tries, so that HTTP does not wait for a broker that is away."""
BATCH = 500
SWEEP_S = 1.0


class OutboxPublisher:
    """Sends outbox messages and marks them; safe for many threads.

    Consumers may see a message twice with one id, never not at all.

    Parameters
    ----------
    topic_prefix
        Put before a message's topic unless it is there: the outbox may say ``decisions``.
    """

    def __init__(
        self,
        ledger: Ledger,
        sink: EventSink,
        clock: Clock,
        topic_prefix: str = DEFAULT_PREFIX,
        *,
        counters: Counters | None = None,
    ) -> None:
        self._ledger = ledger
        self._sink = sink
        self._clock = clock
        self._prefix = topic_prefix
        self._counters = counters or NoCounters()
        self._away_until: float | None = None

    def publish_now(self, messages: Sequence[OutboxMessage]) -> None:
        """Send messages whose transaction has committed, then mark them.

        Never fails for a broker or a ledger that is away: the sweeper sends what is unmarked.
        """
        if not messages:
            return
        if self._away_until is not None and self._clock.monotonic() < self._away_until:
            self._defer(len(messages), "broker")
            return
        try:
            self._send(messages)
        except BrokerUnavailable as away:
            self._away_until = self._clock.monotonic() + AWAY_S
            self._defer(len(messages), "broker", str(away))
        except StoreUnavailable as away:
            self._defer(len(messages), "ledger", str(away))

    def sweep(self) -> int:
        """Republish what is unmarked and older than five seconds; return how many messages.

        Raises ``StoreUnavailable`` or ``BrokerUnavailable``; what was not marked stays.
        """
        swept = 0
        while True:
            before = self._clock.now() - OLDER_THAN
            with self._ledger.begin() as tx:
                waiting = tx.outbox.unmarked(limit=BATCH, older_than=before)
            if not waiting:
                return swept
            self._send(waiting)
            swept += len(waiting)
            log.info("outbox.swept", extra={"messages": len(waiting)})

    def _send(self, messages: Sequence[OutboxMessage]) -> None:
        self._sink.publish(
            [
                Outbound(topic=full_name(m.topic, prefix=self._prefix), key=m.key, value=m.value)
                for m in messages
            ]
        )
        self._away_until = None
        sent = [message.message_id for message in messages if message.message_id is not None]
        with self._ledger.begin() as tx:
            tx.outbox.mark(sent, now=self._clock.now())

    def _defer(self, messages: int, waiting_for: str, problem: str = "") -> None:
        self._counters.count("outbox_deferred", waiting_for=waiting_for)
        facts = {"messages": messages, "waiting_for": waiting_for, "problem": problem}
        log.warning("outbox.deferred", extra=facts)


class Sweeper:
    """Runs the sweeps of outbox and parking every second, in a thread of its own."""

    def __init__(self, clock: Clock, sweeps: Sequence[Callable[[], int]]) -> None:
        self._clock = clock
        self._sweeps = tuple(sweeps)

    def run(self, stop: threading.Event) -> None:
        """Sweep until ``stop`` is set."""
        while not stop.is_set():
            self.step()
            self._clock.wait(stop, SWEEP_S)

    def step(self) -> int:
        """Sweep everything once; what is away is tried again with the next round."""
        swept = 0
        for sweep in self._sweeps:
            try:
                swept += sweep()
            except (StoreUnavailable, BrokerUnavailable) as away:
                log.warning("sweeper.waiting", extra={"problem": str(away)})
        return swept
