"""A broker in memory with the promises of the real one; for tests and single-process runs."""

from __future__ import annotations

import threading
import zlib
from collections import defaultdict
from collections.abc import Iterator, Sequence

from ingest.ports import Event, Outbound, Place
from ingest.topics import ReceivedEvent
from store.clock import Clock, SystemClock
from store.errors import BrokerUnavailable


class MemoryBroker:
    """Topics, partitions and the positions of groups.

    Parameters
    ----------
    partitions
        Partitions of every topic; a key always meets the same one.
    """

    def __init__(self, *, partitions: int = 1, clock: Clock | None = None) -> None:
        self.partitions = partitions
        self._clock = clock or SystemClock()
        self.is_away = False
        """Set to make every call fail as if the broker could not be reached."""
        self._changed = threading.Condition(threading.RLock())
        self._logs: defaultdict[Place, list[ReceivedEvent]] = defaultdict(list)
        self._committed: defaultdict[str, dict[Place, int]] = defaultdict(dict)
        self._members: defaultdict[str, list[MemorySource]] = defaultdict(list)

    def append(self, messages: Sequence[Outbound]) -> None:
        """Add messages to the end of their partitions."""
        with self._changed:
            self._check()
            for message in messages:
                key = message.key.encode()
                place = (message.topic, zlib.crc32(key) % self.partitions)
                event = ReceivedEvent(
                    topic=message.topic,
                    value=message.value,
                    key=key,
                    partition=place[1],
                    offset=len(self._logs[place]),
                    headers=dict(message.headers),
                    sent_at=self._clock.now(),
                )
                self._logs[place].append(event)
            self._changed.notify_all()

    def events(self, topic: str) -> list[ReceivedEvent]:
        """Return everything in a topic, by partition."""
        with self._changed:
            self._check()
            return [
                event
                for partition in range(self.partitions)
                for event in self._logs[topic, partition]
            ]

    def committed(self, group: str) -> dict[Place, int]:
        """Return the group's committed offsets."""
        with self._changed:
            return dict(self._committed[group])

    def join(self, member: MemorySource) -> None:
        """Add a member to its group and share the partitions anew."""
        with self._changed:
            self._members[member.group].append(member)
            self._share(member.group)

    def leave(self, member: MemorySource) -> None:
        """Take a member out; its uncommitted events go to the others, or to the next."""
        with self._changed:
            if member in self._members[member.group]:
                self._members[member.group].remove(member)
                self._share(member.group)

    def fetch(self, member: MemorySource, *, timeout_s: float, limit: int) -> list[Event]:
        """Return the member's next events, resting until there is one or time is up."""
        with self._changed:
            self._check()
            if not (events := self._next(member, limit)):
                self._changed.wait(timeout_s)
                self._check()
                events = self._next(member, limit)
            return events

    def commit(self, member: MemorySource) -> None:
        """Keep the member's positions."""
        with self._changed:
            self._check()
            self._committed[member.group].update(member.positions)

    def lag(self, member: MemorySource) -> dict[Place, int]:
        """Return how far the member's positions are behind the ends."""
        with self._changed:
            return {
                place: len(self._logs[place]) - position
                for place, position in member.positions.items()
            }

    def _check(self) -> None:
        if self.is_away:
            raise BrokerUnavailable("the broker in memory is set to be away")

    def _share(self, group: str) -> None:
        members = self._members[group]
        committed = self._committed[group]
        for rank, member in enumerate(members):
            mine = [
                (topic, partition)
                for topic in member.topics
                for partition in range(self.partitions)
                if partition % len(members) == rank
            ]
            kept = member.positions
            member.positions = {place: kept.get(place, committed.get(place, 0)) for place in mine}
        self._changed.notify_all()

    def _next(self, member: MemorySource, limit: int) -> list[Event]:
        events: list[Event] = []
        for place, position in member.positions.items():
            batch = self._logs[place][position : position + limit - len(events)]
            member.positions[place] = position + len(batch)
            events.extend(batch)
        return events


class MemorySource:
    """A member of a group that reads a ``MemoryBroker``."""

    def __init__(self, broker: MemoryBroker, *, topics: Sequence[str], group: str = "g") -> None:
        self.topics = tuple(topics)
        self.group = group
        self.positions: dict[Place, int] = {}
        self._broker = broker
        broker.join(self)

    def poll(self, *, timeout_s: float, limit: int) -> list[Event]:
        return self._broker.fetch(self, timeout_s=timeout_s, limit=limit)

    def commit(self) -> None:
        self._broker.commit(self)

    def lag(self) -> dict[Place, int]:
        return self._broker.lag(self)

    def close(self) -> None:
        self._broker.leave(self)
        self.positions = {}


class MemoryReader:
    """Reads a ``MemoryBroker`` in no group."""

    def __init__(self, broker: MemoryBroker) -> None:
        self._broker = broker

    def read(self, topic: str) -> Iterator[ReceivedEvent]:
        yield from self._broker.events(topic)


class MemorySink:
    """Writes to a ``MemoryBroker``."""

    def __init__(self, broker: MemoryBroker) -> None:
        self._broker = broker

    def publish(self, messages: Sequence[Outbound]) -> None:
        self._broker.append(messages)

    def close(self) -> None:
        """Nothing is held back."""
