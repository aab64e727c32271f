"""Time as an argument, so that midnight can be tested at noon."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """The only source of time."""

    def now(self) -> datetime:
        """Return the current instant, aware, in UTC."""
        ...

    def monotonic(self) -> float:
        """Return seconds that never go back; only differences mean anything."""
        ...

    def wait(self, stop: threading.Event, seconds: float) -> bool:
        """Rest up to ``seconds``; return True at once when ``stop`` is set."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        """Return the current instant."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Return the machine's monotonic seconds."""
        return time.monotonic()

    def wait(self, stop: threading.Event, seconds: float) -> bool:
        """Rest on the stop event."""
        return stop.wait(seconds)


class ManualClock:
    """A clock that only moves when told to."""

    def __init__(self, start: datetime) -> None:
        self._start = start
        self._now = start

    def now(self) -> datetime:
        """Return the set instant."""
        return self._now

    def monotonic(self) -> float:
        """Return seconds since the start."""
        return (self._now - self._start).total_seconds()

    def wait(self, stop: threading.Event, seconds: float) -> bool:
        """Advance by ``seconds`` without resting."""
        if not stop.is_set():
            self.advance(seconds)
        return stop.is_set()

    def advance(self, seconds: float) -> None:
        """Move forward."""
        self._now += timedelta(seconds=seconds)
