"""Waiting for what is away: the same step again, with growing pauses."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Protocol, TypeVar

import numpy as np

from store.clock import Clock
from store.errors import BrokerUnavailable, StoreUnavailable

log = logging.getLogger(__name__)
T = TypeVar("T")

FIRST_S = 0.1
LONGEST_S = 10.0


class Counters(Protocol):
    """Where outcomes are counted."""

    def count(self, name: str, **labels: str) -> None:
        """Add one to the counter of that name and labels."""
        ...


class NoCounters:
    """Counts nothing."""

    def count(self, name: str, **labels: str) -> None:
        """Forget it."""


class StoppedWaiting(Exception):
    """The stop event was set before the step succeeded."""


class Patience:
    """Repeats a step until ledger and broker let it succeed.

    Parameters
    ----------
    rng
        Draws the jitter, so that many replicas do not come back at the same moment.
    """

    def __init__(self, clock: Clock, rng: np.random.Generator, counters: Counters) -> None:
        self._clock = clock
        self._rng = rng
        self._counters = counters

    def insist(self, step: Callable[[], T], *, name: str, stop: threading.Event) -> T:
        """Return what ``step`` returns, however often it takes; raises ``StoppedWaiting``.

        Pauses double up to ten seconds, each between half and all of it, and end with ``stop``.
        Errors other than ``StoreUnavailable`` and ``BrokerUnavailable`` pass through.
        """
        pause_s = FIRST_S
        while True:
            try:
                return step()
            except (StoreUnavailable, BrokerUnavailable) as away:
                self._report(name, away, pause_s)
            if self._clock.wait(stop, pause_s * self._rng.uniform(0.5, 1.0)):
                raise StoppedWaiting
            pause_s = min(2 * pause_s, LONGEST_S)

    def _report(self, name: str, away: Exception, pause_s: float) -> None:
        missing = "ledger" if isinstance(away, StoreUnavailable) else "broker"
        self._counters.count("stream_retries", step=name, waiting_for=missing)
        facts = {"step": name, "waiting_for": missing, "pause_s": pause_s, "problem": str(away)}
        log.warning("stream.waiting", extra=facts)
