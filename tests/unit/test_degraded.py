"""While the ledger is away HTTP decides by itself; what it said reaches the ledger afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ingest.degraded import DegradedHandler
from ingest.handler import RequestHandler
from ingest.live import Live
from ingest.memory_stream import MemoryBroker, MemorySink
from ingest.metrics import Metrics
from ingest.outbox import OutboxPublisher
from ingest.spool import Spool
from store.clock import ManualClock
from store.errors import SettingsInvalid, StoreUnavailable
from store.facts import Recorded
from store.memory import MemoryLedger, MemoryTransaction
from store.records import Decision, PromptReceived, Reason, RequestId
from tests import factories
from tests.unit import state_fakes
from tests.unit.loop_fakes import ClusterEncoder


class AbsentLedger(MemoryLedger):
    """A ledger that can go away."""

    is_away = False

    @contextmanager
    def begin(self) -> Iterator[MemoryTransaction]:
        if self.is_away:
            raise StoreUnavailable("connection refused")
        with super().begin() as tx:
            yield tx


class Desk:
    """The HTTP side of one replica."""

    def __init__(self, folder: Path, *, limit: int = 1_000_000) -> None:
        self.clock = ManualClock(factories.NOON)
        self.ledger = AbsentLedger(clock=self.clock)
        self.broker = MemoryBroker()
        self.encoder = ClusterEncoder()
        self.live = Live(encoder=self.encoder.identity, dimension=self.encoder.dimension)
        self.folder = folder
        self.open(limit=limit)

    def open(self, *, limit: int = 1_000_000) -> None:
        outbox = OutboxPublisher(self.ledger, MemorySink(self.broker), self.clock)
        metrics = Metrics()
        usual = RequestHandler(self.ledger, self.live, self.encoder, outbox, self.clock, metrics)
        self.spool = Spool(self.folder / "spool.jsonl", limit=limit)
        self.handler = DegradedHandler(usual, self.ledger, self.spool, outbox, self.clock, metrics)

    def load(self) -> None:
        """Put a routing state in force."""
        self.live.swap(replace(state_fakes.state(), encoder=self.encoder.identity))

    def conflicts(self) -> list[Any]:
        return list(self.ledger._tables.conflicts)

    def restart(self) -> None:
        """A new process on the same disk."""
        self.spool.close()
        self.open()

    def ask(self, *prompts: PromptReceived) -> list[Decision]:
        answers = self.handler.on_prompts(prompts)
        return [a.decision for a in answers if isinstance(a, Recorded) and a.decision is not None]

    def stored(self, name: str) -> Decision | None:
        with self.ledger.begin() as tx:
            return tx.decisions.find(RequestId(name))


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path)
    made.load()
    yield made
    made.spool.close()


def prompts(*names: str) -> list[PromptReceived]:
    return [factories.prompt(name, text=f"prompt {n % 4} {n}") for n, name in enumerate(names)]


def test_what_was_answered_without_the_ledger_reaches_it_and_the_topic(desk: Desk) -> None:
    desk.ledger.is_away = True
    told = desk.ask(*prompts("a", "b", "c"))
    assert [d.degraded for d in told] == [True] * 3
    assert {d.reason for d in told} <= {Reason.ROUTED, Reason.NO_CANDIDATE, Reason.COMPARATOR}
    assert {(d.is_sampled, d.inclusion_probability) for d in told} == {(False, 0.0)}
    with pytest.raises(StoreUnavailable):
        desk.handler.sweep()
    desk.ledger.is_away = False
    assert desk.handler.sweep() == 3
    for decision in told:
        found = desk.stored(decision.request_id)
        assert found is not None
        assert (found.expert, found.degraded) == (decision.expert, True)
    assert len(desk.broker.events("router.decisions")) == 3
    assert desk.handler.sweep() == 0
    assert not desk.ask(*prompts("d"))[0].degraded


def test_the_same_id_gets_the_same_answer_before_and_after(desk: Desk) -> None:
    desk.ledger.is_away = True
    (first,) = desk.ask(*prompts("a"))
    assert desk.ask(*prompts("a")) == [first]
    desk.ledger.is_away = False
    assert desk.ask(*prompts("a")) == [first]
    desk.handler.sweep()
    (later,) = desk.ask(*prompts("a"))
    assert (later.expert, later.decided_at) == (first.expert, first.decided_at)


def test_another_prompt_under_a_spooled_id_is_a_conflict(desk: Desk) -> None:
    desk.ledger.is_away = True
    desk.ask(*prompts("a"))
    other = factories.prompt("a", text="prompt 3 99")
    (answer,) = desk.handler.on_prompts([other])
    assert isinstance(answer, Recorded)
    assert answer.is_conflict
    first, second = desk.handler.on_prompts(
        [*prompts("b"), factories.prompt("b", text="prompt 1 7")]
    )
    assert isinstance(first, Recorded)
    assert isinstance(second, Recorded)
    assert (first.is_conflict, second.is_conflict) == (False, True)


def test_a_killed_process_finds_its_spool_again_without_its_torn_end(desk: Desk) -> None:
    desk.ledger.is_away = True
    told = desk.ask(*prompts("a", "b"))
    with (desk.folder / "spool.jsonl").open("ab") as file:
        file.write(b'{"prompt":{"schema":"steersman.pro')
    desk.restart()
    assert desk.ask(*prompts("a", "b")) == told
    desk.ledger.is_away = False
    assert desk.handler.sweep() == 2
    assert (desk.folder / "spool.jsonl").read_bytes() == b""


def test_a_crash_between_commit_and_forgetting_stores_nothing_twice(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.ledger.is_away = True
    desk.ask(*prompts("a", "b"))
    desk.ledger.is_away = False

    def crash(_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as killed:
        killed.setattr(desk.spool, "forget", crash)
        with pytest.raises(KeyboardInterrupt):
            desk.handler.sweep()
    desk.restart()
    assert desk.handler.sweep() == 2
    assert desk.conflicts() == []


def test_a_decision_that_was_in_the_ledger_already_is_kept_as_a_conflict(desk: Desk) -> None:
    """Another replica, or the stream, decided first and otherwise."""
    desk.ledger.is_away = True
    (told,) = desk.ask(*prompts("a"))
    desk.ledger.is_away = False
    other = next(n for n in (factories.CHEAP, factories.STRONG) if n != told.expert)
    with desk.ledger.begin() as tx:
        tx.decisions.record([factories.decided("a", text="prompt 0 0", expert=other)])
    desk.handler.sweep()
    ((name, detail, _),) = desk.conflicts()
    assert name == "a"
    assert told.expert in detail
    assert other in detail


def test_a_full_spool_refuses_and_keeps_what_it_has(tmp_path: Path) -> None:
    desk = Desk(tmp_path, limit=6_000)
    desk.load()
    desk.ledger.is_away = True
    answered = desk.ask(*prompts("a", "b"))
    with pytest.raises(StoreUnavailable, match="full"):
        desk.ask(*prompts("c", "d", "e", "f"))
    desk.ledger.is_away = False
    assert desk.handler.sweep() == len(answered)
    assert not desk.ask(*prompts("later"))[0].degraded
    desk.spool.close()


def test_without_a_routing_state_nothing_is_decided(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    with pytest.raises(StoreUnavailable, match="no routing state"):
        desk.ask(*prompts("a"))
    assert len(desk.spool) == 0
    desk.spool.close()


def test_a_spool_has_one_owner_and_only_this_user_reads_it(desk: Desk) -> None:
    with pytest.raises(SettingsInvalid, match="STEERSMAN_REPLICA"):
        Spool(desk.folder / "spool.jsonl")
    assert (desk.folder / "spool.jsonl").stat().st_mode & 0o077 == 0
