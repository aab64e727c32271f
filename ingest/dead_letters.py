"""What becomes of an event that cannot be used: its own bytes and why, in a topic of its own."""

from __future__ import annotations

from ingest.ports import Event, Outbound
from ingest.topics import ReceivedEvent, dead_letters_of
from store.errors import EventRejected

VALUE_BYTES = 900_000
"""A longer value is cut, so that bytes and headers stay under a broker's usual limit of 1 MB; a
dead letter that cannot be sent would hold up its partition."""
KEY_BYTES = 1_000
"""The same for a key and for what comes back in a header; bytes that are no text triple."""
REPLAYED_FROM = "replayed_from"
"""Header of an event that is a dead letter sent again (ingest/letters.py), and of the dead letter
that it becomes if it still cannot be used: it would else be sent again with every replay.
"""


def dead_letter(event: Event, refusal: EventRejected) -> Outbound:
    """Return the dead letter of an event that was read from a topic."""
    place = {"partition": str(event.partition), "offset": str(event.offset)}
    if isinstance(event, ReceivedEvent) and REPLAYED_FROM in event.headers:
        place[REPLAYED_FROM] = event.headers[REPLAYED_FROM][:KEY_BYTES]
    key = (event.key or b"")[:KEY_BYTES].decode(errors="replace")
    return _letter(event.topic, key, event.value, refusal, place)


def dead_letter_of_parked(
    original: bytes, refusal: EventRejected, *, topic: str, key: str
) -> Outbound:
    """Return the dead letter of a parked event, whose partition and offset are forgotten."""
    return _letter(topic, key, original, refusal, {})


def _letter(
    topic: str, key: str, value: bytes, refusal: EventRejected, place: dict[str, str]
) -> Outbound:
    headers = {"reason": refusal.code, "message": refusal.message, "source_topic": topic} | place
    if refusal.field is not None:
        headers["field"] = refusal.field
    if len(value) > VALUE_BYTES:
        headers["original_bytes"] = str(len(value))
    return Outbound(
        topic=dead_letters_of(topic), key=key, value=value[:VALUE_BYTES], headers=headers
    )
