"""The routing state in force: prepared, then swapped; the last good one stays."""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest

from ingest.live import LOOK_BACK, Live, StateWatcher
from online.snapshot import checksum, dump, load_state
from store.clock import ManualClock
from store.errors import StateRefused, StoreUnavailable
from store.memory import MemoryLedger
from store.memory_pool import MemoryOperations, MemoryStates
from store.needs import Capabilities
from store.records import AlertKind, OutboxMessage, RoutingStateRecord
from tests import factories
from tests.unit import state_fakes

ENCODER = "encoder-1"


def record(
    version: int, *, encoder: str = ENCODER, inside: int | None = None, threshold: float = 0.4
) -> RoutingStateRecord:
    made = replace(
        state_fakes.state(),
        version=inside or version,
        parent=version - 1,
        encoder=encoder,
        threshold=threshold,
    )
    payload = dump(made)
    return replace(factories.state(version), payload=payload, sha256=checksum(payload))


def live() -> Live:
    return Live(encoder=ENCODER, dimension=state_fakes.DIMENSION)


class Replica:
    """A watcher and what it follows."""

    def __init__(self, ledger: MemoryLedger | None = None) -> None:
        self.ledger = ledger or MemoryLedger()
        self.live = live()
        clock = ManualClock(factories.NOON)
        self.sent: list[OutboxMessage] = []
        self.watcher = StateWatcher(
            self.live, self.ledger, clock, replica="r-1", send=self.sent.extend
        )

    def restore(self, *published: RoutingStateRecord) -> None:
        """Give the ledger back what a backup holds; this replica goes on running."""
        with self.ledger.begin() as tx:
            self.ledger._tables.states.clear()
            for one in published:
                tx.states.publish(one)

    def publish(self, published: RoutingStateRecord) -> bool:
        with self.ledger.begin() as tx:
            tx.states.publish(published)
        return self.watcher.step()

    def acknowledged(self, version: int) -> set[str]:
        with self.ledger.begin() as tx:
            return set(tx.states.acknowledged(version))


def test_a_prepared_state_is_not_in_force_before_the_swap() -> None:
    mine = live()
    assert (mine.version(), mine.current(), mine.describe()) == (0, None, {"version": 0})
    prepared = mine.prepare(record(1))
    assert mine.version() == 0
    mine.swap(prepared)
    assert mine.version() == 1
    assert mine.describe()["lambda"] == prepared.threshold


def test_a_replica_follows_a_restored_ledger_back_and_sees_a_reused_version_number() -> None:
    replica = Replica()
    for version in (1, 2, 3):
        assert replica.publish(record(version))
    replica.restore(record(1))
    assert replica.watcher.step()
    assert replica.live.version() == 1
    other = record(2, threshold=0.123)
    assert other.sha256 != record(2).sha256
    assert replica.publish(other)
    assert replica.live.describe()["lambda"] == 0.123
    assert replica.acknowledged(2) == {"r-1"}
    assert not replica.watcher.step()


def damaged(whole: RoutingStateRecord) -> RoutingStateRecord:
    middle = len(whole.payload) // 2
    flipped = bytes([whole.payload[middle] ^ 0xFF])
    return replace(whole, payload=whole.payload[:middle] + flipped + whole.payload[middle + 1 :])


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param(damaged(record(2)), id="damaged"),
        pytest.param(replace(record(2), payload=record(2).payload[:100]), id="cut"),
        pytest.param(factories.state(2), id="not a state"),
        pytest.param(record(2, encoder="encoder-2"), id="another encoder"),
        pytest.param(record(2, inside=9), id="another version inside"),
    ],
)
def test_a_state_that_must_not_go_live_is_refused_once(
    bad: RoutingStateRecord, caplog: pytest.LogCaptureFixture
) -> None:
    replica = Replica()
    assert replica.publish(record(1))
    with caplog.at_level(logging.ERROR):
        assert not replica.publish(bad)
        assert not replica.watcher.step()
    assert [r.getMessage() for r in caplog.records] == ["state.refused"]
    assert replica.live.version() == 1
    assert replica.acknowledged(1) == {"r-1"}
    assert replica.acknowledged(2) == set()
    assert [m.topic for m in replica.sent] == ["alerts"]
    with replica.ledger.begin() as tx:
        (alert,) = tx.operations.alerts(limit=10)
    assert (alert.kind, alert.evidence) == (AlertKind.STATE_REFUSED, {"refused_version": 2.0})
    # What comes after it is looked at again.
    assert replica.publish(record(3))
    assert replica.live.version() == 3


def test_a_state_that_cannot_route_is_refused() -> None:
    narrow = Live(encoder=ENCODER, dimension=state_fakes.DIMENSION + 1)
    with pytest.raises(StateRefused, match="cannot route"):
        narrow.prepare(record(1))


def test_a_reference_with_a_tiny_window_goes_live_and_ends_no_process() -> None:
    """Bug: the trial run before a swap was refused, and the refusal ended the watcher."""
    state = load_state(record(2).payload, sha256=record(2).sha256)
    tiny = Capabilities(context_tokens=10)
    pool = tuple(
        replace(m, capabilities=tiny) if m.name == state.policy.reference else m for m in state.pool
    )
    payload = dump(replace(state, pool=pool))
    replica = Replica()
    assert replica.publish(record(1))
    assert replica.publish(replace(record(2), payload=payload, sha256=checksum(payload)))
    assert replica.live.version() == 2


def test_the_watcher_swaps_and_acknowledges_once() -> None:
    replica = Replica()
    assert not replica.watcher.step()
    assert replica.publish(record(1))
    assert replica.acknowledged(1) == {"r-1"}
    assert not replica.watcher.step()


def test_a_restart_on_an_unreadable_state_serves_the_last_good_one() -> None:
    replica = Replica()
    with replica.ledger.begin() as tx:
        for published in (record(1), record(2), damaged(record(3)), damaged(record(4))):
            tx.states.publish(published)
    assert replica.watcher.step()
    assert replica.live.version() == 2
    assert replica.acknowledged(2) == {"r-1"}
    assert len(replica.sent) == 1, "about the active one"
    assert not replica.watcher.step()
    assert replica.publish(record(5))
    assert replica.live.version() == 5


def test_a_restart_with_another_encoder_raises_one_alarm_and_says_what_it_serves() -> None:
    """Bug: one alarm for each older state, each saying that the last good one was served."""
    ledger = MemoryLedger()
    for version in range(1, 6):
        with ledger.begin() as tx:
            tx.states.publish(record(version, encoder="encoder-2"))
    replica = Replica(ledger)
    assert not replica.watcher.step()
    assert not replica.watcher.step()
    with ledger.begin() as tx:
        (alert,) = tx.operations.alerts(limit=10)
    assert alert.evidence == {"refused_version": 5.0}
    assert alert.message.endswith("it serves nothing and answers 503")


def test_each_new_state_that_is_refused_raises_one_alert_and_older_ones_are_not_tried_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Bug: 21 alerts at the start, one per older state, and again with each new one."""
    replica = Replica()
    with replica.ledger.begin() as tx:
        for version in range(1, 26):
            tx.states.publish(record(version, encoder="encoder-2"))
    with caplog.at_level(logging.ERROR):
        assert not replica.watcher.step()
        assert len(caplog.records) == LOOK_BACK + 1
        assert not replica.publish(record(26, encoder="encoder-2"))
        assert len(caplog.records) == LOOK_BACK + 2
    assert len(replica.sent) == 2
    assert replica.publish(record(27))
    assert replica.live.version() == 27


def test_a_replica_acknowledges_again_when_the_ledger_is_restored_to_the_state_it_serves() -> None:
    """Bug: what it had acknowledged since the backup was never said again."""
    replica = Replica()
    assert replica.publish(record(1))
    replica.restore(record(1))
    replica.ledger._tables.acks.clear()
    assert not replica.watcher.step()
    assert replica.acknowledged(1) == {"r-1"}


def test_another_replica_raises_no_second_alarm_for_one_state() -> None:
    first = Replica()
    first.publish(record(1))
    second = Replica(first.ledger)
    first.publish(damaged(record(2)))
    with first.ledger.begin() as tx:
        (raised,) = tx.operations.alerts(limit=10)
        for _ in range(120):  # a storm of another kind hides nothing
            tx.operations.raise_alert(
                replace(raised, kind=AlertKind.EXPERT_FAILING, evidence={}, alert_id=None)
            )
    second.watcher.step()
    assert (len(first.sent), len(second.sent)) == (1, 0)
    assert second.live.version() == 1


def test_a_state_is_acknowledged_although_the_ledger_went_away_after_the_swap(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    replica = Replica()
    acknowledge = MemoryStates.acknowledge

    def away(*_: object, **__: object) -> None:
        raise StoreUnavailable("away")

    monkeypatch.setattr(MemoryStates, "acknowledge", away)
    with pytest.raises(StoreUnavailable):
        replica.publish(record(1))
    assert replica.live.version() == 1
    monkeypatch.setattr(MemoryStates, "acknowledge", acknowledge)
    assert not replica.watcher.step()
    assert replica.acknowledged(1) == {"r-1"}


def test_a_refused_state_raises_its_alert_although_the_ledger_went_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    replica = Replica()
    assert replica.publish(record(1))
    with monkeypatch.context() as patch:

        def away(*_: object, **__: object) -> None:
            raise StoreUnavailable("away")

        patch.setattr(MemoryOperations, "raise_alert", away)
        with pytest.raises(StoreUnavailable):
            replica.publish(damaged(record(2)))
    assert replica.sent == []
    assert not replica.watcher.step()
    assert [m.topic for m in replica.sent] == ["alerts"]
