"""Rewinding the stream behind a restored ledger: what is taken back, what is read again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from typer.testing import CliRunner

from ingest.cli import app
from ingest.ports import Place
from ingest.rewind import MARGIN, Rewind
from ingest.topics import ReceivedEvent
from ingest.wire import encode_decision, encode_prompt
from store.clock import ManualClock
from store.errors import SettingsInvalid
from store.memory import MemoryLedger
from store.memory_pool import MemoryOperations
from store.records import AuditEntry, Decision, ExpertId, RequestId
from tests import factories
from tests.factories import NOON
from tests.unit.loop_fakes import ClusterEncoder

PROMPTS, RESPONSES = ("router.prompts", 0), ("router.responses", 0)
OTHER = ("router.prompts", 1)


class Kafka:
    """Topics and groups as lists and dicts."""

    def __init__(self) -> None:
        self.events: dict[str, list[ReceivedEvent]] = {}
        self.held: dict[str, dict[Place, int]] = {"serve": {}, "ingest": {}}
        self.consumers = 0

    def send(self, topic: str, key: str, value: bytes, *, partition: int = 0) -> None:
        queue = self.events.setdefault(f"router.{topic}", [])
        offset = sum(event.partition == partition for event in queue)
        queue.append(
            ReceivedEvent(
                topic=f"router.{topic}",
                value=value,
                key=key.encode(),
                partition=partition,
                offset=offset,
                sent_at=NOON + timedelta(minutes=len(queue)),
            )
        )

    def read(self, topic: str, *, since: datetime | None = None) -> Iterator[ReceivedEvent]:
        return iter([e for e in self.events.get(topic, ()) if since is None or e.sent_at >= since])

    def members(self, role: str) -> int:
        return self.consumers

    def positions(self, role: str) -> Mapping[Place, int]:
        return self.held[role]

    def offsets_at(self, topic: str, when: datetime) -> Mapping[Place, int]:
        first: dict[Place, int] = {}
        for event in self.read(topic, since=when):
            first.setdefault((topic, event.partition), event.offset)
        return first

    def move(self, role: str, to: Mapping[Place, int]) -> None:
        self.held[role] |= to


class Desk:
    def __init__(self) -> None:
        self.kafka = Kafka()
        self.ledger = MemoryLedger()
        self.encoders = 0
        clock = ManualClock(NOON + timedelta(hours=2))
        self.work = Rewind(
            self.ledger, self.kafka, self.kafka, self._encoder, clock, prefix="router."
        )

    def _encoder(self) -> ClusterEncoder:
        self.encoders += 1
        return ClusterEncoder()

    def prompt(self, name: str, *, partition: int = 0) -> None:
        value = encode_prompt(factories.prompt(name, text=f"prompt 1 {len(name)}"))
        self.kafka.send("prompts", name, value, partition=partition)

    def published(self, name: str, **changes: object) -> Decision:
        made = replace(factories.decided(name).decision, **changes)  # type: ignore[arg-type]
        self.kafka.send("decisions", name, encode_decision(made))
        return made

    def found(self, name: str) -> Decision | None:
        with self.ledger.begin() as tx:
            return tx.decisions.find(RequestId(name))


@pytest.fixture
def desk() -> Desk:
    made = Desk()
    with made.ledger.begin() as tx:
        tx.decisions.record([factories.decided("old")])
    for name in ("old", "lost-1", "lost-2", "undecided", "lost-3"):
        made.prompt(name)
    made.prompt("elsewhere", partition=1)
    made.kafka.held["serve"] = {PROMPTS: 5, OTHER: 1}
    return made


def test_published_decisions_come_back_as_they_were_and_the_rest_is_read_again(desk: Desk) -> None:
    first = desk.published("lost-1", expert=ExpertId("strong"), is_sampled=False)
    desk.published("lost-1", expert=ExpertId("cheap"))  # a later one never counts
    sampled = desk.published("lost-2", is_sampled=True)
    desk.published("lost-3", is_sampled=False)
    desk.published("elsewhere", is_sampled=False)
    planned = desk.work.look(NOON)
    assert desk.found("lost-1") is None
    found, moved = desk.work.carry_out(NOON)
    assert found == planned
    assert (found.known, found.taken_back, found.again) == (1, 4, 1)
    kept, drawn = desk.found("lost-1"), desk.found("lost-2")
    assert kept is not None
    assert drawn is not None
    assert replace(kept, seq=first.seq) == first
    assert replace(drawn, seq=sampled.seq) == sampled
    with desk.ledger.begin() as tx:
        (request,) = tx.decisions.sampled([RequestId("lost-2")], encoder=ClusterEncoder.identity)
        assert tx.outbox.unmarked(limit=9) == []  # they were published
        assert tx.operations.audit_trail(limit=1)[0].action == "stream.rewound"
    assert request.embedding.any()
    assert desk.encoders == 1
    assert moved == {"serve": {PROMPTS: (5, 3)}, "ingest": {}}
    assert desk.kafka.held["serve"] == {PROMPTS: 3, OTHER: 1}


def test_rewinding_twice_changes_nothing_more(desk: Desk) -> None:
    desk.published("lost-1", is_sampled=False)
    desk.work.carry_out(NOON)
    found, moved = desk.work.carry_out(NOON)
    assert (found.known, found.taken_back, found.again) == (2, 0, 4)
    assert moved == {"serve": {}, "ingest": {}}
    assert desk.encoders == 0


def test_an_interrupted_rewind_that_is_repeated_skips_nothing(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bug: with decisions taken back the ledger ends later, and the next run read only from there,
    so that prompts and answers before it were lost.
    """
    late = desk.published("lost-3", is_sampled=False, decided_at=NOON + timedelta(hours=5))
    desk.kafka.send("responses", "a", b"{}")
    desk.kafka.held["ingest"] = {RESPONSES: 1}
    first = desk.work.since()
    with monkeypatch.context() as patch:
        patch.setattr(desk.kafka, "move", killed)
        with pytest.raises(KeyboardInterrupt):
            desk.work.carry_out(first)
    assert desk.found("lost-3") == replace(late, seq=2)
    ends = desk.work.ledgers_end()
    assert ends is not None
    assert ends - timedelta(hours=1) > first
    assert desk.work.since() == first
    assert desk.work.since(ends) == first, "nor does a later time that is asked for skip any"
    desk.work.carry_out(desk.work.since())
    assert desk.kafka.held == {"serve": {PROMPTS: 1, OTHER: 0}, "ingest": {RESPONSES: 0}}
    assert desk.work.since() == ends - timedelta(hours=1), "once it has ended"


def killed(*_: object) -> None:
    raise KeyboardInterrupt


def long_outage() -> Desk:
    """A backup from noon; what was lost came in the five hours after it."""
    made = Desk()
    with made.ledger.begin() as tx:
        tx.decisions.record([factories.decided("old")])
    for hour, name in enumerate(("undecided", "lost-1", "lost-2")):
        made.prompt(name)
        made.kafka.send("responses", name, b"{}")
        made.published(name, is_sampled=False, decided_at=NOON + timedelta(hours=3 + hour))
    made.kafka.events["router.decisions"].pop(0)
    made.kafka.held = {"serve": {PROMPTS: 3}, "ingest": {RESPONSES: 3}}
    return made


def killed_at(step: str, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the process end before a step; ``move 2`` is after the first group was moved."""
    moved: list[str] = []

    def move(role: str, to: Mapping[Place, int]) -> None:
        moved.append(role)
        if step == f"move {len(moved)}":
            raise KeyboardInterrupt
        desk.kafka.held[role] |= to

    def audit(operations: MemoryOperations, entry: AuditEntry) -> None:
        if step == entry.action:
            raise KeyboardInterrupt
        told(operations, entry)

    def store(rewind: Rewind, kept: Any) -> None:
        if step == "take back":
            raise KeyboardInterrupt
        taken(rewind, kept)

    told, taken = MemoryOperations.audit, Rewind._store
    monkeypatch.setattr(desk.kafka, "move", move)
    monkeypatch.setattr(MemoryOperations, "audit", audit)
    monkeypatch.setattr(Rewind, "_store", store)


@pytest.mark.parametrize(
    "step", ["stream.rewinding", "take back", "move 1", "move 2", "stream.rewound"]
)
@pytest.mark.parametrize("served_meanwhile", [False, True])
def test_a_rewind_killed_at_any_step_is_repeated_as_documented_and_skips_nothing(
    step: str, served_meanwhile: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bug: decisions taken back moved the ledger's end, and the repetition began behind what the
    first run had not moved yet.
    """
    desk = long_outage()
    begins = desk.work.since()
    with monkeypatch.context() as patch:
        killed_at(step, desk, patch)
        with pytest.raises(KeyboardInterrupt):
            desk.work.carry_out(desk.work.since())
    if served_meanwhile and step != "stream.rewinding":  # before it nothing was begun
        with desk.ledger.begin() as tx:
            late = replace(factories.decided("late").decision, decided_at=NOON + timedelta(hours=9))
            tx.decisions.record([replace(factories.decided("late"), decision=late)])
    assert desk.work.since() == begins
    desk.work.carry_out(desk.work.since())
    assert desk.kafka.held == {"serve": {PROMPTS: 0}, "ingest": {RESPONSES: 0}}
    assert desk.found("lost-1") is not None
    assert desk.found("lost-2") is not None
    assert desk.found("undecided") is None
    ends = desk.work.ledgers_end()
    assert ends is not None
    assert desk.work.since() == ends - MARGIN, "once it has ended"


def test_responses_go_back_to_the_time_and_nothing_goes_forward(desk: Desk) -> None:
    for number in range(4):
        desk.kafka.send("responses", f"r{number}", b"{}")
    desk.kafka.held["ingest"] = {RESPONSES: 4}
    assert desk.work.carry_out(NOON + timedelta(minutes=2))[1]["ingest"] == {RESPONSES: (4, 2)}
    assert desk.work.carry_out(NOON + timedelta(minutes=3))[1]["ingest"] == {}
    assert desk.kafka.held["ingest"] == {RESPONSES: 2}


def test_a_decision_that_cannot_be_read_means_deciding_again(desk: Desk) -> None:
    desk.kafka.send("decisions", "lost-1", b'{"schema": "steersman.decision", "version": 9}')
    desk.kafka.send("decisions", "lost-2", encode_decision(factories.decided("other").decision))
    desk.kafka.send("prompts", "bad", b"{")
    found = desk.work.look(NOON)
    assert (found.taken_back, found.again, found.unreadable) == (0, 5, 1)


def test_nothing_moves_while_consumers_run(desk: Desk) -> None:
    desk.kafka.consumers = 2
    desk.published("lost-1")
    with pytest.raises(SettingsInvalid, match="serve has 2"):
        desk.work.carry_out(NOON)
    assert desk.found("lost-1") is None


def test_an_empty_ledger_has_no_end(desk: Desk) -> None:
    assert desk.work.ledgers_end() == factories.decided("old").decision.decided_at
    assert Desk().work.ledgers_end() is None


def test_the_command_wants_a_broker_that_keeps_its_topics(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STEERSMAN_KAFKA_BOOTSTRAP_SERVERS", raising=False)
    refused = CliRunner().invoke(app, ["rewind", "--yes"]).exception
    assert isinstance(refused, SettingsInvalid)
    assert "name a Kafka" in str(refused)


def test_times_are_utc_and_say_so() -> None:
    said = CliRunner().invoke(app, ["rewind", "--to", "2026-11-25 09:30"])
    assert said.exit_code == 2
    assert "%Y-%m-%dT%H:%M:%SZ" in said.output
