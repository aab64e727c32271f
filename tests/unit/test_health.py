"""An expert whose calls fail goes out of service, is probed, and comes back; operators outrank."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.announce import announce_alert
from ingest.cli_experts_show import trouble
from ingest.commands import Operator
from ingest.expert_changes import set_status
from ingest.metrics import Metrics
from judge import probing
from judge.probing import LONGEST_WAIT, Prober, next_wait
from online.clients import Answer
from recalibrate.health import (
    IN_A_ROW,
    MOST,
    OUT_OF,
    PROBES_NEEDED,
    is_failing,
    paused,
    recovered,
)
from recalibrate.watch import EVERY, HealthWatch
from store.clock import ManualClock
from store.errors import ExpertUnavailable, RequestConflict
from store.facts import FailedCall
from store.health import ABSENCES_KEPT, HEALTHY, CallError, Health
from store.memory import MemoryLedger
from store.policy import OFF
from store.records import (
    Alert,
    AlertKind,
    Expert,
    ExpertId,
    ExpertStatus,
    OutboxMessage,
    RequestId,
)
from tests.factories import CHEAP, NOON, STRONG, decided, expert, later, response, settings

S = ExpertStatus


def answers_since(calls: Sequence[bool]) -> dict[int, int]:
    """What the ledger would say of calls, newest last; True was answered."""
    failed = [i for i, ok in enumerate(calls) if not ok][::-1]
    return {k: sum(calls[failed[k - 1] :]) for k in (IN_A_ROW, MOST) if len(failed) >= k}


@given(st.lists(st.booleans(), max_size=60))
def test_five_in_a_row_or_ten_of_twenty(calls: list[bool]) -> None:
    in_a_row = len(calls) >= IN_A_ROW and not any(calls[-IN_A_ROW:])
    # The latest failure may be followed by answers; the window is the latest calls all the same.
    often = calls[-OUT_OF:].count(False) >= MOST
    assert is_failing(answers_since(calls)) == (in_a_row or often)


def test_waits_double_and_stop_growing() -> None:
    waits = [next_wait(n).total_seconds() for n in range(9)]
    assert waits[:4] == [30.0, 60.0, 120.0, 240.0]
    assert waits[-1] == LONGEST_WAIT.total_seconds()


def test_an_expert_that_fails_again_soon_waits_longer() -> None:
    first = paused(expert(status=S.CERTIFIED), error="timeout", judged_to=10, now=NOON)
    back = expert(
        status=S.CERTIFIED, status_changed_at=later(600), health=recovered(first, last_seq=15)
    )
    soon = paused(back, error="timeout", judged_to=20, now=later(900))
    late = paused(back, error="timeout", judged_to=20, now=later(9_000))
    waits = [(h.next_probe_at or NOON) - (h.since or NOON) for h in (first, soon, late)]
    assert waits == [timedelta(seconds=s) for s in (30, 60, 30)]
    assert recovered(soon, last_seq=30).absences == ((10, 15), (20, 30))


class World:
    """A pool with a reference, its watch, and an endpoint that may be down."""

    def __init__(self) -> None:
        self.clock = ManualClock(NOON)
        self.ledger = MemoryLedger(clock=self.clock)
        self.sent: list[OutboxMessage] = []
        self.down: CallError | None = CallError.TIMEOUT
        self.asked: list[ExpertId] = []
        with self.ledger.begin() as tx:
            for name in (CHEAP, STRONG):
                tx.experts.add(expert(name, status=S.CERTIFIED))
            tx.policies.set(settings(), actor="test", now=NOON)
        self.watch = HealthWatch(
            self.ledger, self.clock, announce=announce_alert, send=self.sent.extend
        )
        self.prober = Prober(self.ledger, self.client, self.clock)

    def client(self, member: Expert) -> World:
        self.asked.append(member.name)
        return self

    def ask(self, request_id: RequestId, prompt: str) -> Answer:
        assert prompt == probing.PROMPT
        if self.down is not None:
            raise ExpertUnavailable("down", error=self.down)
        return Answer(text="OK", cost_usd=0.0)

    def fails(
        self, count: int, name: ExpertId = CHEAP, error: CallError = CallError.TIMEOUT
    ) -> None:
        for n in range(count):
            self.clock.advance(1.0)
            now = self.clock.now()
            call = FailedCall(
                request_id=RequestId(f"r{now.timestamp()}-{n}"),
                expert=name,
                source="gateway",
                error=error,
                failed_at=now,
            )
            with self.ledger.begin() as tx:
                tx.calls.record([call])

    def answers(self, *names: str) -> None:
        with self.ledger.begin() as tx:
            tx.decisions.record([decided(n) for n in names])
            tx.responses.record([response(n, received_at=self.clock.now()) for n in names])

    def look(self, wait_s: float = EVERY.total_seconds()) -> list[Alert]:
        """Let time pass and the watch look; return the alerts that it raises."""
        self.clock.advance(wait_s)
        with self.ledger.begin() as tx:
            before = len(tx.operations.alerts(limit=999))
        self.watch.step()
        with self.ledger.begin() as tx:
            found = tx.operations.alerts(limit=999)
        return found[: len(found) - before]

    def probe(self, wait_s: float) -> int:
        self.clock.advance(wait_s)
        return self.prober.step()

    def of(self, name: ExpertId = CHEAP) -> Expert:
        with self.ledger.begin() as tx:
            found = tx.experts.find(name)
        assert found is not None
        return found


@pytest.fixture
def world() -> World:
    return World()


def test_one_prompt_that_is_tried_again_pauses_nobody() -> None:
    world = World()
    with world.ledger.begin() as tx:
        tx.calls.record(
            [
                FailedCall(
                    request_id=RequestId("r1"),
                    expert=CHEAP,
                    source=f"judge-1-{attempt}",
                    error=CallError.UNREADABLE,
                    failed_at=later(attempt),
                )
                for attempt in range(1, 11)
            ]
        )
    assert world.look() == []
    world.fails(3)
    assert world.look() == []
    world.fails(1)
    assert [a.kind for a in world.look()] == [AlertKind.EXPERT_FAILING]


def test_five_failures_in_a_row_pause_an_expert_and_say_so(world: World) -> None:
    world.fails(4)
    assert not world.look()
    world.fails(1)
    (alert,) = world.look()
    assert (alert.kind, alert.subject) == (AlertKind.EXPERT_FAILING, CHEAP)
    assert "5 calls of cheap failed" in alert.message
    assert "timeout" in alert.message
    assert alert.evidence["failures"] == 5.0
    found = world.of()
    assert (found.status, found.is_failing, found.health.was) == (S.PAUSED, True, "certified")
    assert [m.topic for m in world.sent] == ["alerts"]
    assert not world.look(), "said once"


def test_answers_between_and_refusals_pause_nobody(world: World) -> None:
    world.fails(4)
    world.clock.advance(1.0)
    world.answers("a")
    world.fails(4)
    world.fails(9, error=CallError.REFUSED)
    assert not world.look()
    assert world.of().status is S.CERTIFIED


def test_half_of_the_latest_twenty_pause_too(world: World) -> None:
    for n in range(9):
        world.fails(1)
        world.answers(f"a{n}")
    assert not world.look()
    world.fails(1)
    assert [a.kind for a in world.look()] == [AlertKind.EXPERT_FAILING]


def test_failures_of_long_ago_pause_nobody(world: World) -> None:
    world.fails(5)
    assert not world.look(3_700.0)


def test_the_reference_goes_on_and_an_alert_says_so_once_an_hour(world: World) -> None:
    world.fails(5, STRONG)
    (alert,) = world.look()
    assert "reference" in alert.message
    assert world.of(STRONG).status is S.CERTIFIED
    other = replace(alert, kind=AlertKind.LABEL_STARVATION, alert_id=None)
    with world.ledger.begin() as tx:
        for _ in range(120):
            tx.operations.raise_alert(other)
    world.fails(5, STRONG)
    assert not world.look()
    world.clock.advance(3_600.0)
    world.fails(5, STRONG)
    assert world.look()


def test_it_comes_back_as_what_it_was_after_three_answered_probes(world: World) -> None:
    world.answers("before")
    world.fails(5)
    world.look()
    assert world.probe(20.0) == 0, "not before its time"
    assert world.probe(20.0) == 1
    assert world.probe(40.0) == 0, "the wait doubles"
    assert world.probe(40.0) == 1
    assert world.of().health.successes == 0
    world.down = None
    world.answers("meanwhile")
    assert world.probe(500.0) == 1
    world.down = CallError.UNAVAILABLE
    assert world.probe(11.0) == 1
    assert (world.of().health.successes, world.of().health.error) == (0, "unavailable")
    world.down = None
    for _ in range(PROBES_NEEDED):
        assert not world.look()
        assert world.probe(4_000.0) == 1
    (alert,) = world.look()
    assert (alert.kind, alert.subject) == (AlertKind.EXPERT_RECOVERED, CHEAP)
    found = world.of()
    assert (found.status, found.is_failing) == (S.CERTIFIED, False)
    assert found.health == replace(HEALTHY, episodes=1, absences=((0, 2),))
    assert world.probe(9_999.0) == 0
    world.fails(4)
    assert not world.look(), "what was before it came back is past"


def test_a_surprise_at_a_probe_is_a_failed_one_and_ends_no_worker(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def odd(request_id: RequestId, prompt: str) -> Answer:
        raise RuntimeError("a text of the answer")

    world.fails(5)
    world.look()
    monkeypatch.setattr(world, "ask", odd)
    assert world.probe(40.0) == 1
    assert (world.of().health.successes, world.of().health.error) == (0, "unreadable")
    assert "expert.probe_failed" in caplog.text
    assert "a text of the answer" not in caplog.text


def test_the_operator_sees_it_in_the_list_and_in_the_metrics(world: World) -> None:
    world.fails(5)
    world.look()
    metrics = Metrics()
    with world.ledger.begin() as tx:
        metrics.observe_ledger(tx, now=NOON)
    assert b'steersman_expert_failing{expert="cheap"} 1.0' in metrics.render()
    assert b'expert="strong"' not in metrics.render()
    said = trouble(world.of().health)
    assert said == (
        "failing since 2026-03-14 12:00:06 UTC: timeout; next probe 12:00:36; was certified"
    )


def test_requests_in_flight_at_a_pause_fall_into_the_absence(world: World) -> None:
    """Their judge leaves the paused expert out: without a label they would count as losses."""
    with world.ledger.begin() as tx:
        tx.decisions.record([decided("judged", is_sampled=False), decided("waiting")])
        tx.decisions.record([decided("last", is_sampled=False)])
    world.fails(5)
    world.look()
    assert world.of().health.absent_from == 1


def test_an_absence_too_many_makes_the_oldest_one_longer() -> None:
    health = HEALTHY
    for n in range(ABSENCES_KEPT + 3):
        health = recovered(replace(health, absent_from=10 * n), last_seq=10 * n + 5)
    assert len(health.absences) == ABSENCES_KEPT
    assert health.absences[:2] == ((0, 35), (40, 45))


def test_two_workers_send_one_probe(world: World) -> None:
    world.fails(5)
    world.look()
    other = Prober(world.ledger, world.client, world.clock)
    world.clock.advance(31.0)
    assert [world.prober.step(), other.step()] == [1, 0]


def test_probes_have_a_daily_budget(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probing, "PROBES_PER_DAY", 2)
    world.fails(5)
    world.look()
    assert [world.probe(4_000.0) for _ in range(3)] == [1, 1, 0]
    assert world.probe(86_400.0) == 1


def test_mode_off_sends_no_probes_and_takes_nothing_of_their_budget(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probing, "PROBES_PER_DAY", 1)
    world.fails(5)
    world.look()
    with world.ledger.begin() as tx:
        tx.policies.set(replace(settings(), mode=OFF), actor="test", now=NOON)
    assert world.probe(4_000.0) == 0
    assert not world.asked
    with world.ledger.begin() as tx:
        tx.policies.set(settings(), actor="test", now=NOON)
    assert world.probe(0.0) == 1


def test_an_operators_pause_is_never_ended_by_a_probe(world: World) -> None:
    operator = Operator(world.ledger, world.clock)
    operator.set_status(CHEAP, S.PAUSED)
    assert world.probe(4_000.0) == 0
    assert not world.of().is_failing
    assert not world.look()


def test_an_operator_takes_a_pause_over_or_ends_it(world: World) -> None:
    operator = Operator(world.ledger, world.clock)
    world.fails(5)
    world.look()
    operator.set_status(CHEAP, S.PAUSED)
    assert (world.of().status, world.of().is_failing) == (S.PAUSED, False)
    operator.set_status(CHEAP, S.SHADOW)
    world.fails(5)
    world.look()
    assert world.of().health.was == "shadow"
    operator.set_status(CHEAP, S.SHADOW)
    assert world.of().status is S.SHADOW
    assert world.probe(4_000.0) == 0


def test_an_operator_who_saw_what_a_probe_has_changed_since_is_told(world: World) -> None:
    """Bug: the pause looked taken over and was not."""
    world.fails(5)
    world.look()
    seen = world.of()
    assert world.probe(40.0) == 1
    with (
        pytest.raises(RequestConflict, match="has just changed"),
        world.ledger.begin() as tx,
    ):
        set_status(tx, seen, S.PAUSED, now=world.clock.now())
    assert world.of().is_failing


def test_an_operator_of_the_version_before_ends_it_too(world: World) -> None:
    """It changes the status and knows of no health: the instants no longer agree."""
    world.fails(5)
    world.look()
    for before, after in ((S.PAUSED, S.SHADOW), (S.SHADOW, S.PAUSED)):
        world.clock.advance(1.0)
        with world.ledger.begin() as tx:
            assert tx.experts.set_status(CHEAP, before=before, after=after, now=world.clock.now())
    assert not world.of().is_failing
    assert world.probe(4_000.0) == 0


def test_health_survives_being_stored() -> None:
    kept = Health(was="ramping", since=NOON, next_probe_at=later(9), absences=((1, 5), (9, 12)))
    assert Health.from_json(kept.to_json()) == kept
    assert Health.from_json(None) == HEALTHY
