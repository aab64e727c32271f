"""Whatever is sent: stored or dead-lettered with its bytes and a reason; nothing else is lost."""

from __future__ import annotations

import json
import random
import re
import threading
from collections import Counter
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st

from ingest import wire
from ingest.broker import KafkaSink, KafkaSource
from ingest.broker_client import MESSAGE_BYTES, KafkaProducer, open_client
from ingest.broker_upkeep import KafkaReader
from ingest.parking import Parking
from ingest.stream import StreamWorker
from ingest.topics import INBOUND, KafkaSettings
from store.postgres.connecting import raw_connection
from store.postgres.ledger import PostgresLedger
from tests.contract.kafka_fixtures import (
    embedded_broker,
    kafka_settings,
)
from tests.integration.fuzzed_router import FuzzedRouter, drawn

__all__ = [
    "embedded_broker",
    "kafka_settings",
]
pytestmark = [pytest.mark.postgres, pytest.mark.kafka]

GENERATED, MUTATED, VALID = 500, 5_600, 60
"""How many messages are sent. Each file asserts its count, at least 10,000 inputs together: 6,200
here, 900 in test_http_fuzz.py, 3,080 in test_http_fuzz_ledger.py."""
LIMIT_S = 180.0
BASES: dict[str, dict[str, object]] = {
    "prompts": {
        "schema": "steersman.prompt", "version": 1, "request_id": "m", "prompt": "Is it é?",
        "tenant": "t", "session_id": "s", "allowed_experts": ["strong", "a"], "expert": None,
        "created_at": "2026-01-01T00:00:00+01:00",
    },
    "responses": {
        "schema": "steersman.response", "version": 1, "request_id": "valid-0", "expert": "a",
        "text": "Yes", "cost_usd": 0.25, "input_tokens": 3, "output_tokens": 4, "latency_ms": 1.5,
    },
    "feedback": {
        "schema": "steersman.feedback", "version": 1, "request_id": "valid-0", "rating": 0.5,
        "idempotency_key": "f", "source": "user", "comment": "fine",
    },
}  # fmt: skip
NASTY: list[object] = [
    None, True, -1, 0, 2**31, 2**63, 10**400, -0.0, 1e308, "", " ", "\x00", "a\x1fb", "\ud800",
    "\udfff\ud800", "\u202e", "e\u0301", "\u00e9", "\u212b", "x" * 200, "x" * 201, "é" * 200,
    "😀" * 201, "x" * 20_000, [], {}, [[]], ["strong"] * 1_001, [None], "strong", "ghost", "NaN",
    "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "2026-02-30T00:00:00Z",
    "2026-11-25T12:00:00", "2999-01-01T00:00:00Z", "1969-12-31T23:59:60Z", "../../etc", "%00",
    "'; DROP TABLE decisions; --", "steersman.prompt", [{"role": "user", "content": "hi"}],
    [{"role": "\x00", "content": [{"type": "text", "text": "\ud800"}]}],
]  # fmt: skip
LITERALS = [
    b"", b"{", b"null", b"[]", b"NaN", b"-Infinity", b'"x"', b"0", b"\xff\xfe{\x00}\x00",
    b"\xef\xbb\xbf{}", b"1" * 5_000, b"{} {}", b"\x00" * 9,
    b'{"prompt": "a", "prompt": "b"}', b'{"a": 1e999}', b'{"a": -1e-999}', b'{"a": 00}',
]  # fmt: skip
HUGE = [
    b"[" * 100_000, b'{"a":' * 50_000, b"\xff" * 500_000,
    json.dumps(BASES["prompts"] | {"prompt": "x" * 100_000}).encode(),
    json.dumps(BASES["responses"] | {"text": "\x00" * 100_000}).encode(),
]  # fmt: skip
"""Sent once to each topic: the client takes 0.1 s for the checksum of a megabyte."""
VALUES = st.one_of(
    st.sampled_from(NASTY),
    st.recursive(
        st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20)),
        lambda inner: st.one_of(
            st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)
        ),
        max_leaves=6,
    ),
)


def changed(topic: str) -> st.SearchStrategy[bytes]:
    """Objects that are nearly events: some fields are anything, some are gone, one is doubled."""
    base = BASES[topic]
    names = st.sampled_from([*base, "messages", "metadata", "unknown"])

    def build(parts: tuple[dict[str, object], set[str], bool]) -> bytes:
        fields, gone, is_doubled = parts
        body = {k: v for k, v in (base | fields).items() if k not in gone}
        raw = json.dumps(body)
        if is_doubled and body:
            raw = raw[:-1] + ', "request_id": "other"}'
        return raw.encode()

    parts = st.tuples(
        st.dictionaries(names, VALUES, max_size=3), st.sets(names, max_size=1), st.booleans()
    )
    return parts.map(build)


@dataclass(frozen=True)
class Sent:
    """One message as a producer hands it over."""

    topic: str
    value: bytes | None
    key: bytes | None = None
    headers: tuple[tuple[str, bytes], ...] = ()
    timestamp_ms: int | None = None


KEYS = st.one_of(st.none(), st.binary(max_size=8), st.sampled_from([b"", b"\xff" * 20_000]))
HEADERS = st.lists(
    st.tuples(
        st.sampled_from(["replayed_from", "reason", "", "é"]),
        st.one_of(st.binary(max_size=8), st.just(b"\xff" * 20_000)),
    ),
    max_size=2,
).map(tuple)
TIMES = st.sampled_from([None, None, None, 0, 1, 2**40, 2**52, 2**62])


def messages(values: dict[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[Sent]:
    """Messages of every topic, a few of them with odd keys, headers and times."""

    def of(topic: str) -> st.SearchStrategy[Sent]:
        plain = st.builds(Sent, st.just(topic), values[topic])
        odd = st.builds(Sent, st.just(topic), values[topic], KEYS, HEADERS, TIMES)
        return st.one_of(*[plain] * 15, odd)

    return st.one_of(*map(of, INBOUND))


def mutated(dice: random.Random) -> Sent:
    """Return an event with some bytes replaced, put in, flipped or cut off."""
    topic = dice.choice(INBOUND)
    raw = json.dumps(BASES[topic]).encode()
    value = bytearray(raw)
    for _ in range(dice.randint(1, 3)):
        place, width = dice.randrange(len(raw)), dice.randint(0, 2)
        match dice.randrange(4):
            case 0:
                value[place : place + width] = dice.randbytes(dice.randint(0, 3))
            case 1:
                value[place : place + width] = dice.choices(b'{}[]":,\\0-eE.tn ', k=width)
            case 2 if place < len(value):
                value[place] ^= 1 << dice.randrange(8)
            case _:
                del value[place + len(raw) // 2 :]
    return Sent(topic, bytes(value), dice.choice([None, b"", b"k", b"\xff"]))


def fuzzed() -> list[Sent]:
    made = {
        topic: st.one_of(
            changed(topic),
            changed(topic),
            st.sampled_from(
                [None, *LITERALS, *(json.dumps(base).encode() for base in BASES.values())]
            ),
        )
        for topic in INBOUND
    }
    dice = random.Random(7)  # noqa: S311  hypothesis takes 3 ms for each of them
    found = drawn(messages(made), GENERATED) + [mutated(dice) for _ in range(MUTATED)]
    found += [Sent(topic, value) for topic in INBOUND for value in HUGE]
    dice.shuffle(found)
    return found


def valid() -> list[Sent]:
    found = []
    for number in range(VALID):
        name = f"valid-{number}"
        for topic, own in (
            ("prompts", {"prompt": f"prompt {number}", "created_at": None}),
            ("responses", {"request_id": f"answered-{number}"}),
        ):
            body = BASES[topic] | {"request_id": name} | own
            found.append(Sent(topic, json.dumps(body).encode(), name.encode()))
    return found


def documented() -> set[str]:
    """Return the codes that docs/interfaces.md lists for Kafka."""
    page = Path("docs/interfaces.md").read_text().split("\n## Kafka")[1].split("\n## ")[0]
    rows = [line.split("|")[1] for line in page.splitlines() if line.startswith("| `")]
    return {code for row in rows for code in re.findall(r"`(\w+)`", row)}


def send(settings: KafkaSettings, sent: list[Sent]) -> None:
    """Produce with a client of the test's own, which sends what ours never would."""
    producer = open_client(
        KafkaProducer, settings, linger_ms=20, max_request_size=2 * MESSAGE_BYTES
    )
    with closing(producer):
        futures = [
            producer.send(
                settings.topic_prefix + one.topic,
                value=one.value,
                key=b"k" if one.key is None and one.value is None else one.key,
                headers=list(one.headers),
                timestamp_ms=one.timestamp_ms,
            )
            for one in sent
        ]
        for future in futures:
            future.get(timeout=60)


def work(router: FuzzedRouter, settings: KafkaSettings, sink: KafkaSink, count: int) -> None:
    """Let a stream worker take ``count`` events."""
    prefix = settings.topic_prefix
    source = KafkaSource(settings, topics=[prefix + one for one in INBOUND], role="all")
    parking = Parking(router.ledger, router.handler, sink, router.clock, topic=f"{prefix}responses")
    worker = StreamWorker(
        source, sink, router.handler, parking, router.clock,
        rng=np.random.default_rng(7), counters=router.metrics, topic_prefix=prefix,
    )  # fmt: skip
    stop = threading.Event()
    give_up = threading.Timer(LIMIT_S, stop.set)  # ends a step that insists for ever
    give_up.start()
    taken = 0
    with closing(source):
        while taken < count and not stop.is_set():
            taken += worker.step(stop)
    give_up.cancel()
    assert taken == count, f"{count - taken} events were not taken within {LIMIT_S} s"


def test_any_event_is_stored_or_dead_lettered_and_no_other_is_lost(
    kafka_settings: KafkaSettings, postgres_ledger: PostgresLedger, database_url: str
) -> None:
    settings = kafka_settings
    strange, fine = fuzzed(), valid()
    sent = [one for pair in zip(strange, fine, strict=False) for one in pair]
    sent += strange[len(fine) :]
    send(settings, sent)
    with closing(KafkaSink(settings)) as sink:
        router = FuzzedRouter(postgres_ledger, sink, prefix=settings.topic_prefix)
        work(router, settings, sink, len(sent))
    reader = KafkaReader(settings)
    codes = documented()
    buried: Counter[tuple[str, bytes]] = Counter()
    for topic in INBOUND:
        for letter in reader.read(f"{settings.topic_prefix}{topic}.dlq"):
            assert letter.headers["reason"] in codes
            assert int(letter.headers["offset"]) >= 0
            buried[topic, letter.value] += 1
    taken = Counter((one.topic, one.value or b"") for one in sent) - buried
    assert sum(buried.values()) + sum(taken.values()) == len(sent)
    assert {(one.topic, one.value) for one in fine} <= set(taken)

    now = router.clock.now()
    prompts = {wire.decode_prompt(v, now=now) for t, v in taken if t == "prompts"}
    answered = {wire.decode_response(v, now=now).request_id for t, v in taken if t == "responses"}
    words = {wire.decode_feedback(v, now=now).idempotency_key for t, v in taken if t == "feedback"}
    told = Counter(
        wire.decode_decision(event.value).request_id
        for event in reader.read(f"{settings.topic_prefix}decisions")
    )
    assert told == Counter({prompt.request_id for prompt in prompts})
    with postgres_ledger.begin() as tx:
        assert set(tx.decisions.find_many(list(told))) == set(told)
        assert tx.outbox.unmarked(limit=1) == []
    with raw_connection(database_url) as connection:

        def column(name: str, table: str) -> set[str]:
            return {row[0] for row in connection.execute(f"SELECT {name} FROM {table}").fetchall()}  # noqa: S608  our own names

        assert column("request_id", "decisions") == set(told)
        waiting = column("request_id", "parked_responses")
        assert column("request_id", "responses") | waiting == answered
        assert column("idempotency_key", "feedback") == words
    assert sum(buried.values()) > len(sent) / 3
    assert len(sent) >= 6_200
