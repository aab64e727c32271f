"""What the loops of this folder see: sources and sinks of events, and the handler behind them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from store.errors import EventRejected
from store.facts import Recorded, ResponseOutcome
from store.records import Feedback, PromptReceived, ResponseReceived

Place = tuple[str, int]
"""Topic and partition."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One message of a stream, as bytes."""

    topic: str
    value: bytes
    key: bytes | None = None
    partition: int = 0
    offset: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Outbound:
    """One message to be sent."""

    topic: str
    key: str
    value: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


class EventSource(Protocol):
    """A consumer of topics with its position kept by the broker."""

    def poll(self, *, timeout_s: float, limit: int) -> list[Event]:
        """Return up to ``limit`` events, empty when none came in time.

        Raises ``BrokerUnavailable``; the caller retries with backoff.
        """
        ...

    def commit(self) -> None:
        """Note that every event returned so far is done; uncommitted ones come again."""
        ...

    def lag(self) -> Mapping[Place, int]:
        """Return how many events each partition of this member is ahead of what was returned.

        Known from the last fetches, without asking the broker: events that came since then are
        not counted, and nothing is known until each of its partitions was fetched from. Partitions
        that went to another member are left out. Never fails.
        """
        ...

    def close(self) -> None:
        """Leave the group without committing."""
        ...


class EventSink(Protocol):
    """A producer of events."""

    def publish(self, messages: Sequence[Outbound]) -> None:
        """Send; returns when the broker acknowledged every message.

        Raises ``BrokerUnavailable`` when any was not acknowledged; some may have been sent.
        """
        ...

    def close(self) -> None:
        """Flush and release."""
        ...


class Gauges(Protocol):
    """Where the present value of something is shown."""

    def set(self, name: str, value: float, **labels: str) -> None:
        """Show a value under that name and labels."""
        ...

    def forget(self, name: str, **labels: str) -> None:
        """Show nothing there any more."""
        ...


class Handler(Protocol):
    """What Kafka and HTTP share: one answer per event, in the order given."""

    def on_prompts(self, batch: Sequence[PromptReceived]) -> list[Recorded | EventRejected]:
        """Decide, store in one transaction, publish; an ``EventRejected`` is a value here, so
        that one bad event costs no other. Raises ``StoreUnavailable`` when nothing was stored.
        """
        ...

    def on_responses(
        self, batch: Sequence[ResponseReceived]
    ) -> list[ResponseOutcome | EventRejected]:
        """Store answers and, for sampled requests, the judge task, in one transaction."""
        ...

    def on_feedback(self, feedback: Feedback) -> bool:
        """Store feedback; False on a repeated idempotency key."""
        ...
