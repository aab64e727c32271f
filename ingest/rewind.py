"""Bringing the stream back behind a ledger that was restored to an earlier time.

What was consumed since the backup is acknowledged on Kafka and unknown to the ledger. Decisions
that were published since are in their topic and bind us still: somebody acts on them. They are
taken back into the ledger as they were; only prompts without one are decided again. Positions go
back as far as the first such prompt and, for responses and feedback, to the time itself. Whatever
comes twice is recognised by its id, so all of it may be repeated: that a rewinding began, and since
when it reads, is audited before anything changes, and one that did not end goes on from there. By
then the ledger ends where the last decision was taken back, which says nothing of what is left.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Protocol

import numpy as np

from ingest import wire
from ingest.ports import Place
from ingest.topics import DECISIONS, PROMPTS, READERS, ReceivedEvent, full_name
from online.encode import Encoder
from store.clock import Clock
from store.errors import EventRejected, SettingsInvalid
from store.facts import Decided
from store.ledger import Ledger
from store.records import (
    AuditEntry,
    Decision,
    Float32Array,
    JsonObject,
    PromptReceived,
    RequestId,
)
from store.upkeep import REWOUND

log = logging.getLogger(__name__)

BATCH = 200
MARGIN = timedelta(hours=1)
"""Of the time the ledger ends: events sent before it may have been consumed after it."""
BEGUN = "stream.rewinding"
TRAIL = 10_000
"""Audit entries that are looked through for a rewinding that did not end."""
BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)


class Groups(Protocol):
    """Consumer groups and their positions, each by the role that reads so."""

    def members(self, role: str) -> int:
        """Return how many consumers the group has now. Raises ``BrokerUnavailable``."""
        ...

    def positions(self, role: str) -> Mapping[Place, int]:
        """Return the committed offsets. Raises ``BrokerUnavailable``."""
        ...

    def offsets_at(self, topic: str, when: datetime) -> Mapping[Place, int]:
        """Return the first offset of each partition sent at that time or later; a partition that
        got nothing since is left out. Raises ``BrokerUnavailable``.
        """
        ...

    def move(self, role: str, to: Mapping[Place, int]) -> None:
        """Commit these offsets for a group without members. Raises ``BrokerUnavailable``."""
        ...


class TimedReader(Protocol):
    """Reads topics as a bystander, as ``ingest.letters.TopicReader`` does."""

    def read(self, topic: str, *, since: datetime | None = None) -> Iterator[ReceivedEvent]:
        """Yield what the topic holds, with ``since`` only what was sent then or later."""
        ...


@dataclass(slots=True)
class Found:
    """What the topic of prompts holds since a time."""

    known: int = 0
    taken_back: int = 0
    again: int = 0
    unreadable: int = 0
    first_again: dict[Place, int] = field(default_factory=dict)
    """Of each partition, the first prompt that nobody has decided."""


class Rewind:
    """One rewinding.

    Parameters
    ----------
    encoder
        Makes the encoder; asked only if a sampled decision must be taken back, whose embedding is
        kept.
    prefix
        Of the topics.
    limit
        Bytes that a prompt may have.
    """

    def __init__(
        self,
        ledger: Ledger,
        groups: Groups,
        reader: TimedReader,
        encoder: Callable[[], Encoder],
        clock: Clock,
        *,
        prefix: str,
        limit: int = wire.PROMPT_BYTES,
    ) -> None:
        self._ledger = ledger
        self._groups = groups
        self._reader = reader
        self._make_encoder = encoder
        self._encoder: Encoder | None = None
        self._clock = clock
        self._prefix = prefix
        self._limit = limit

    def ledgers_end(self) -> datetime | None:
        """Return when the newest decision of the ledger was made."""
        with self._ledger.begin() as tx:
            return tx.decisions.newest_at()

    def since(self, to: datetime | None = None) -> datetime:
        """Return since when to read: the time asked for, or an hour before the ledger ends, and
        never later than a rewinding that began and did not end.
        """
        ends = self.ledgers_end()
        wanted = to or (ends - MARGIN if ends else BEGINNING)
        with self._ledger.begin() as tx:
            trail = tx.operations.audit_trail(limit=TRAIL)
        newest = next((entry for entry in trail if entry.action in {BEGUN, REWOUND}), None)
        if newest is None or newest.action == REWOUND:
            return wanted
        return min(wanted, datetime.fromisoformat(str(newest.detail["since"])))

    def check_nobody_reads(self) -> None:
        """Raise ``SettingsInvalid`` while a group has members: they would commit over us."""
        busy = {role: n for role in READERS if (n := self._groups.members(role))}
        if busy:
            told = ", ".join(f"{role} has {n}" for role, n in busy.items())
            raise SettingsInvalid(
                f"consumers are running ({told}): stop serve and ingest on every machine; one that"
                " was killed leaves its group after STEERSMAN_KAFKA_SESSION_TIMEOUT_MS"
            )

    def look(self, since: datetime) -> Found:
        """Return what would be done; changes nothing."""
        return self._through_prompts(since, take_back=False)

    def carry_out(self, since: datetime) -> tuple[Found, dict[str, dict[Place, tuple[int, int]]]]:
        """Take decisions back, move the groups; return what was done, and by role each partition's
        offset before and after.
        """
        self.check_nobody_reads()
        self._audit(BEGUN, {"since": since.isoformat()})
        found = self._through_prompts(since, take_back=True)
        moved = {}
        for role, topics in READERS.items():
            targets = dict(found.first_again)
            if PROMPTS not in topics:
                targets = {
                    place: offset
                    for topic in topics
                    for place, offset in self._groups.offsets_at(self._full(topic), since).items()
                }
            moved[role] = self._moved(role, targets)
        detail = {
            "since": since.isoformat(),
            "taken_back": found.taken_back,
            "again": found.again,
            "partitions_moved": sum(map(len, moved.values())),
        }
        self._audit(REWOUND, detail)
        return found, moved

    def _audit(self, action: str, detail: JsonObject) -> None:
        entry = AuditEntry(actor="cli", action=action, detail=detail, at=self._clock.now())
        with self._ledger.begin() as tx:
            tx.operations.audit(entry)

    def _moved(self, role: str, targets: Mapping[Place, int]) -> dict[Place, tuple[int, int]]:
        """Move a group back, never forward."""
        held = self._groups.positions(role)
        back = {
            place: (held[place], offset)
            for place, offset in targets.items()
            if offset < held.get(place, 0)
        }
        if back:
            self._groups.move(role, {place: offset for place, (_, offset) in back.items()})
        return back

    def _through_prompts(self, since: datetime, *, take_back: bool) -> Found:
        published = self._published(since)
        found = Found()
        for events in _batches(self._reader.read(self._full(PROMPTS), since=since)):
            prompts = self._decoded(events, found)
            with self._ledger.begin() as tx:
                known = tx.decisions.find_many({p.request_id for _, p in prompts})
            lacking = [(e, p) for e, p in prompts if p.request_id not in known]
            found.known += len(prompts) - len(lacking)
            kept = []
            for event, prompt in lacking:
                if (decision := _decision(published, prompt.request_id)) is not None:
                    kept.append((prompt, decision))
                    continue
                found.again += 1
                found.first_again.setdefault((event.topic, event.partition), event.offset)
            found.taken_back += len({prompt.request_id for prompt, _ in kept})
            if take_back and kept:
                self._store(kept)
        return found

    def _published(self, since: datetime) -> dict[bytes, bytes]:
        """Return the first decision that was published under each key, as the bytes it came in:
        there may be hundreds of thousands.
        """
        published: dict[bytes, bytes] = {}
        for event in self._reader.read(self._full(DECISIONS), since=since):
            published.setdefault(event.key or b"", event.value)
        return published

    def _decoded(
        self, events: Sequence[ReceivedEvent], found: Found
    ) -> list[tuple[ReceivedEvent, PromptReceived]]:
        now = self._clock.now()
        decoded = []
        for event in events:
            try:
                prompt = wire.decode_prompt(event.value, now=now, limit=self._limit)
            except EventRejected:  # was dead-lettered when it came
                found.unreadable += 1
                continue
            decoded.append((event, replace(prompt, received_at=event.sent_at)))
        return decoded

    def _store(self, kept: Sequence[tuple[PromptReceived, Decision]]) -> None:
        """Record decisions as they were published; they are not published again."""
        drawn = [prompt.text for prompt, decision in kept if decision.is_sampled]
        vectors = iter(self._encoded(drawn))
        nothing = np.empty(0, dtype=np.float32)
        identity = self._encoder.identity if self._encoder is not None else ""
        decided = [
            Decided(
                prompt=prompt,
                decision=decision,
                embedding=next(vectors) if decision.is_sampled else nothing,
                encoder_hash=identity if decision.is_sampled else "",
            )
            for prompt, decision in kept
        ]
        with self._ledger.begin() as tx:
            tx.decisions.record(decided)

    def _encoded(self, texts: Sequence[str]) -> Iterable[Float32Array]:
        if not texts:
            return ()
        if self._encoder is None:
            self._encoder = self._make_encoder()
        return self._encoder.encode(texts)

    def _full(self, topic: str) -> str:
        return full_name(topic, prefix=self._prefix)


def _decision(published: Mapping[bytes, bytes], request_id: RequestId) -> Decision | None:
    """Return what was published for a request, None if nothing that this version can read."""
    raw = published.get(request_id.encode())
    if raw is None:
        return None
    try:
        decision = wire.decode_decision(raw)
    except EventRejected as problem:
        log.warning("rewind.unreadable_decision", extra={"code": problem.code})
        return None
    return decision if decision.request_id == request_id else None


def _batches(events: Iterator[ReceivedEvent]) -> Iterator[list[ReceivedEvent]]:
    while batch := list(islice(events, BATCH)):
        yield batch
