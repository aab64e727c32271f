"""Counting again, from PostgreSQL and Kafka alone, what a run claims: nothing lost or doubled.

Shares no code with the loop beyond reading a JSON field and the list of requests that went in.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import closing
from dataclasses import dataclass
from uuid import uuid4

from ingest.broker import KafkaSource
from ingest.topics import DECISIONS, LABELS, PROMPTS, RESPONSES, KafkaSettings, full_name
from store.postgres.views import LedgerCount, count_ledger

QUIET_POLLS = 6
"""Empty polls after which a topic counts as read; the first join of a group takes seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One statement about a run."""

    claim: str
    holds: bool
    found: str


def recount(url: str, kafka: KafkaSettings, *, sent: Collection[str]) -> list[Check]:
    """Return what holds of a run whose input was exactly the request ids ``sent``."""
    ledger = count_ledger(url)
    topics = _read_topics(kafka, (PROMPTS, DECISIONS, RESPONSES, LABELS))
    wanted = set(sent)
    checks = [_same(f"ledger: {name}", getattr(ledger, name), wanted) for name in _LEDGER_SETS]
    checks += [_same(f"topic: {name}", set(topics[name]), wanted) for name in _TOPIC_SETS]
    return [*checks, *_single(ledger, topics), *_labels(ledger, topics[LABELS])]


_LEDGER_SETS = ("prompts", "decisions", "responses")
_TOPIC_SETS = (PROMPTS, DECISIONS, RESPONSES)


def _single(ledger: LedgerCount, topics: dict[str, Counter[str]]) -> Iterator[Check]:
    doubled = [r for r, n in ledger.response_hashes.items() if n != 1]
    yield Check(
        claim="one response hash per request", holds=not doubled, found=f"{len(doubled)} others"
    )
    yield Check(
        claim="one decision row per request",
        holds=ledger.decision_rows == len(ledger.decisions),
        found=f"{ledger.decision_rows} rows for {len(ledger.decisions)} ids",
    )
    yield Check(
        claim="everything in the outbox has left",
        holds=ledger.unpublished == 0,
        found=f"{ledger.unpublished} unpublished",
    )
    open_tasks = sum(ledger.tasks_by_status.get(s, 0) for s in ("pending", "leased"))
    yield Check(
        claim="every judge task has ended",
        holds=open_tasks == 0,
        found=", ".join(f"{n} {s}" for s, n in sorted(ledger.tasks_by_status.items())) or "none",
    )
    repeats = sum(topics[DECISIONS].values()) - len(topics[DECISIONS])
    yield Check(
        claim="decisions sent twice carry one id (allowed)", holds=True, found=f"{repeats} repeats"
    )


def _labels(ledger: LedgerCount, topic: Counter[str]) -> Iterator[Check]:
    sent = set(topic)
    stored = {"\x1f".join(key) for key in ledger.labels}
    yield _same("topic labels = ledger labels", sent, stored)


def _same(claim: str, found: Collection[str], wanted: Collection[str]) -> Check:
    missing, extra = len(set(wanted) - set(found)), len(set(found) - set(wanted))
    return Check(
        claim=claim,
        holds=not missing and not extra,
        found=f"{len(set(found))} ids, {missing} missing, {extra} extra",
    )


def _read_topics(kafka: KafkaSettings, names: tuple[str, ...]) -> dict[str, Counter[str]]:
    """Return, by topic, how often each id occurs, read from the beginning."""
    full = {full_name(name, prefix=kafka.topic_prefix): name for name in names}
    found: dict[str, Counter[str]] = {name: Counter() for name in names}
    quiet = 0
    with closing(
        KafkaSource(kafka, topics=list(full), role=f"recount-{uuid4().hex[:8]}")
    ) as source:
        while quiet < QUIET_POLLS or not any(found.values()):
            events = source.poll(timeout_s=1.0, limit=2_000)
            quiet = 0 if events else quiet + 1
            if quiet > 60:
                break
            for event in events:
                name = full[event.topic]
                found[name][_identity(name, json.loads(event.value))] += 1
    return found


def _identity(topic: str, event: dict[str, object]) -> str:
    if topic == LABELS:
        return "\x1f".join(str(event[k]) for k in ("request_id", "expert", "judge_version"))
    return str(event["request_id"])
