"""Dead letters: what they say, which of them to send again, and what was sent again already.

That a letter was sent again is noted behind it in its own topic. A group's committed offsets would
not do: they are one position for a partition and cannot say "letter 40, but not letter 17". A note
is younger than its letter and so is kept longer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import islice
from typing import NamedTuple, Protocol

from ingest.dead_letters import REPLAYED_FROM
from ingest.ports import EventSink, Outbound
from ingest.topics import ReceivedEvent
from store.errors import EventRejected, NotFound

REPLAYED = "replayed"
"""Reason of a note, and its header that holds the letter's place."""
BATCH = 20
"""Letters sent at once; each may be a megabyte."""


class TopicReader(Protocol):
    """Reads topics as a bystander: in no group, moving nobody's position."""

    def read(self, topic: str) -> Iterator[ReceivedEvent]:
        """Yield what the topic holds, in order within each partition; nothing if there is none.

        Comes to an end however fast the topic is written to: what is sent after the call need not
        be among it. Raises ``BrokerUnavailable``.
        """
        ...


class LetterPlace(NamedTuple):
    """Where a letter is in its topic."""

    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.partition}:{self.offset}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """A dead letter without its bytes, which are a user's words and up to a megabyte."""

    topic: str
    """Full name of the dead-letter topic."""
    place: LetterPlace
    sent_at: datetime
    key: str
    size: int
    headers: Mapping[str, str]
    was_replayed: bool = False
    """It was sent again, or is what came of a letter that was."""

    @property
    def reason(self) -> str:
        """Return the code of what is wrong."""
        return self.headers.get("reason", "")

    @property
    def message(self) -> str:
        """Return what is wrong, for a person."""
        return self.headers.get("message", "")

    @property
    def is_cut(self) -> bool:
        """Return whether only the beginning of the original bytes was kept."""
        return "original_bytes" in self.headers


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Which letters go back to their topic, and which of those meant do not."""

    chosen: Sequence[Letter]
    replayed_before: Sequence[Letter]
    cut: Sequence[Letter]


def place_of(text: str) -> LetterPlace:
    """Return the place that reads ``PARTITION:OFFSET``; raises ``EventRejected``."""
    partition, _, offset = text.partition(":")
    if not (partition.isdecimal() and offset.isdecimal()):
        raise EventRejected("invalid_place", f"a place reads PARTITION:OFFSET, not {text!r}")
    return LetterPlace(int(partition), int(offset))


def letters_of(reader: TopicReader, topic: str) -> list[Letter]:
    """Return the letters of a dead-letter topic, the oldest first."""
    found: list[Letter] = []
    noted: set[str] = set()
    for event in reader.read(topic):
        if REPLAYED in event.headers:
            noted.add(event.headers[REPLAYED])
        else:
            found.append(_letter(event))
    seen = [
        replace(letter, was_replayed=True) if str(letter.place) in noted else letter
        for letter in found
    ]
    return sorted(seen, key=lambda letter: (letter.sent_at, letter.place))


def original_of(reader: TopicReader, letter: Letter) -> bytes:
    """Return a letter's bytes; raises ``NotFound`` when its time has run out meanwhile."""
    for event in reader.read(letter.topic):
        if _place(event) == letter.place:
            return event.value
    raise no_letter(letter.topic, letter.place)


def find(letters: Iterable[Letter], topic: str, place: LetterPlace) -> Letter:
    """Return the letter at a place; raises ``NotFound``."""
    for letter in letters:
        if letter.place == place:
            return letter
    raise no_letter(topic, place)


def no_letter(topic: str, place: LetterPlace) -> NotFound:
    """Return the refusal of a place that holds no letter."""
    return NotFound(
        "no_letter", f"no dead letter at {place} in {topic}: `steersman dlq list` shows them"
    )


def counted(letters: Iterable[Letter]) -> str:
    """Return how many letters there are of each reason, the most frequent first."""
    reasons = Counter(letter.reason for letter in letters)
    return ", ".join(f"{count} {reason}" for reason, count in reasons.most_common())


def choose(
    letters: Iterable[Letter],
    *,
    places: Collection[LetterPlace] = (),
    reasons: Collection[str] = (),
    again: bool = False,
) -> Choice:
    """Sort out which letters to send again: of these places and reasons, by default of any.

    Parameters
    ----------
    again
        Also those that were replayed before.
    """
    meant = [
        letter
        for letter in letters
        if (not places or letter.place in places) and (not reasons or letter.reason in reasons)
    ]
    whole = [letter for letter in meant if not letter.is_cut]
    return Choice(
        chosen=[letter for letter in whole if again or not letter.was_replayed],
        replayed_before=[letter for letter in whole if letter.was_replayed and not again],
        cut=[letter for letter in meant if letter.is_cut],
    )


def replay(reader: TopicReader, sink: EventSink, letters: Sequence[Letter], *, to: str) -> int:
    """Send letters of one topic to the topic ``to`` once more and note it; return how many.

    They stay where they are. A crash before the note means that a letter may be sent twice, which
    the ledger recognises; none is ever noted that was not sent.
    """
    wanted = {letter.place for letter in letters}
    dead = {letter.topic for letter in letters}
    events = (event for topic in dead for event in reader.read(topic) if _place(event) in wanted)
    sent = 0
    while batch := list(islice(events, BATCH)):
        sink.publish([_again(event, to) for event in batch])
        sink.publish([_note(event, to) for event in batch])
        sent += len(batch)
    return sent


def _letter(event: ReceivedEvent) -> Letter:
    return Letter(
        topic=event.topic,
        place=_place(event),
        sent_at=event.sent_at,
        key=_key(event),
        size=len(event.value),
        headers=event.headers,
        was_replayed=REPLAYED_FROM in event.headers,
    )


def _again(event: ReceivedEvent, topic: str) -> Outbound:
    headers = {REPLAYED_FROM: f"{event.topic}/{_place(event)}"}
    return Outbound(topic=topic, key=_key(event), value=event.value, headers=headers)


def _note(event: ReceivedEvent, topic: str) -> Outbound:
    place = str(_place(event))
    headers = {
        "reason": REPLAYED,
        "message": f"no dead letter: the one at {place} was sent to {topic} again",
        "source_topic": topic,
        REPLAYED: place,
    }
    return Outbound(topic=event.topic, key=_key(event), value=b"", headers=headers)


def _place(event: ReceivedEvent) -> LetterPlace:
    return LetterPlace(event.partition, event.offset)


def _key(event: ReceivedEvent) -> str:
    return (event.key or b"").decode(errors="replace")
