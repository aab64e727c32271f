"""LOOP BODY: ask experts that are out of service for failing calls whether they answer again.

Judge workers do it, for they call experts anyway and hold the keys. The wait doubles with every
probe that fails; what the answers mean for the expert is decided by whoever leads learning.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import replace
from datetime import datetime, timedelta

from online.clients import ClientFactory
from store.clock import Clock
from store.errors import ExpertUnavailable
from store.health import CallError, Health
from store.ledger import Ledger
from store.policy import OFF
from store.records import Expert, RequestId

log = logging.getLogger(__name__)

PROMPT = "Reply with the word OK."
FIRST_WAIT = timedelta(seconds=30)
LONGEST_WAIT = timedelta(hours=1)
AFTER_AN_ANSWER = timedelta(seconds=10)
PROBES_PER_DAY = 500
"""Over all experts: a probe is a paid call."""
_DOUBLINGS = 7


def next_wait(failed: int) -> timedelta:
    """Return the wait before the next probe after so many failed ones."""
    doublings: int = 2 ** min(failed, _DOUBLINGS)
    return min(FIRST_WAIT * doublings, LONGEST_WAIT)


def claimed(health: Health, *, now: datetime) -> Health:
    """Return the health of an expert whose probe is under way: no other worker sends it too."""
    failed = health.probes + health.episodes - health.successes
    return replace(health, probes=health.probes + 1, next_probe_at=now + next_wait(failed))


def answered(health: Health, error: CallError | None, *, now: datetime) -> Health:
    """Return the health after a probe: answered, or failed with an error."""
    if error is not None:
        return replace(health, successes=0, error=error)
    return replace(health, successes=health.successes + 1, next_probe_at=now + AFTER_AN_ANSWER)


class Prober:
    """Sends the probes that are due; any number may run."""

    def __init__(self, ledger: Ledger, clients: ClientFactory, clock: Clock) -> None:
        self._ledger = ledger
        self._clients = clients
        self._clock = clock

    def step(self, stop: threading.Event | None = None) -> int:
        """Probe every expert that is due; return how many were. In mode ``off`` none: probes cost
        money. Once ``stop`` is set the rest is left for later.

        Raises ``StoreUnavailable``; a probe whose result is lost is sent again later.
        """
        due = self._claim()
        for expert, health in due:
            if stop is not None and stop.is_set():
                break
            error = self._ask(expert, health)
            after = answered(health, error, now=self._clock.now())
            with self._ledger.begin() as tx:
                tx.experts.set_health(expert.name, before=health, after=after)
            log.info("expert.probed", extra={"expert": expert.name, "error": error})
        return len(due)

    def _claim(self) -> list[tuple[Expert, Health]]:
        now = self._clock.now()
        taken = []
        with self._ledger.begin() as tx:
            current = tx.policies.current()
            if current is not None and current[1].mode == OFF:
                return []
            for expert in tx.experts.all():
                if not expert.is_failing or (expert.health.next_probe_at or now) > now:
                    continue
                after = claimed(expert.health, now=now)
                day = now.date().isoformat()
                if not tx.operations.reserve("probes", day=day, amount=1, limit=PROBES_PER_DAY):
                    break
                if tx.experts.set_health(expert.name, before=expert.health, after=after):
                    taken.append((expert, after))
        return taken

    def _ask(self, expert: Expert, health: Health) -> CallError | None:
        """Return how the probe failed, None if it was answered."""
        try:
            self._clients(expert).ask(RequestId(f"probe-{health.probes}"), PROMPT)
        except ExpertUnavailable as problem:
            # An expert that cannot be probed at all (recorded traffic) has nothing against it.
            return problem.error
        except Exception as unexpected:  # noqa: BLE001  one expert's problem is not the worker's end
            # By type alone: a message may quote what was sent or received.
            said = type(unexpected).__name__
            log.error("expert.probe_failed", extra={"expert": expert.name, "problem": said})  # noqa: TRY400
            return CallError.UNREADABLE
        return None
