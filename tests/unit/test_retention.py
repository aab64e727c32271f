"""Which days may go: old enough, and needed by nothing. And what the command does about it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.retention import Retention, erase_texts, told
from store.clock import ManualClock
from store.errors import RequestConflict, SettingsInvalid, StoreUnavailable
from store.memory import MemoryLedger, MemoryTransaction
from store.records import RequestId, RoutingStateRecord
from store.retention import (
    LABELS_KEPT,
    STATES_KEPT,
    RetentionPlan,
    RetentionSettings,
    plan_retention,
    states_to_drop,
)
from store.upkeep import KeptDay
from tests.factories import (
    CHEAP,
    NOON,
    PROBE_SET,
    calibration,
    decided,
    label,
    message,
    probe_answer,
    response,
    state,
    task,
)

TODAY = NOON.date()
SETTINGS = RetentionSettings(facts_days=90, text_days=30, keys_days=20)


def day(age: int, **changes: Any) -> KeptDay:
    values: dict[str, Any] = {
        "facts_bytes": 3_000_000,
        "text_bytes": 1_000_000,
        "has_text": True,
        "has_keys": True,
        "judged": 0,
        "open_tasks": 0,
        "unpublished": 0,
    } | changes
    return KeptDay(day=TODAY - timedelta(days=age), **values)


def plan(*days: KeptDay) -> RetentionPlan:
    return plan_retention(days, [], active_version=0, settings=SETTINGS, today=TODAY)


def ages(days: tuple[KeptDay, ...]) -> list[int]:
    return [(TODAY - one.day).days for one in days]


def test_each_kind_goes_on_the_day_after_its_last() -> None:
    found = plan(*(day(age) for age in (0, 20, 21, 30, 31, 90, 91)))
    assert ages(found.facts) == [91]
    assert ages(found.text) == [90, 31]
    assert [(TODAY - one).days for one in found.keys] == [91, 90, 31, 30, 21]
    assert found.held == ()
    assert found.facts_from == TODAY - timedelta(days=90)


def test_what_has_gone_does_not_go_again() -> None:
    found = plan(day(40, has_text=False, has_keys=False))
    assert (found.text, found.keys) == ((), ())


def test_an_open_task_keeps_facts_and_text_and_the_plan_says_so() -> None:
    found = plan(day(95, open_tasks=2), day(40, open_tasks=1))
    assert (found.facts, found.text) == ((), ())
    [held] = found.held
    assert held.day == TODAY - timedelta(days=95)
    assert held.reasons == ("2 judge tasks are not finished",)


def test_a_message_that_has_not_left_keeps_facts_and_ids_but_not_text() -> None:
    found = plan(day(95, unpublished=1))
    assert (found.facts, found.keys) == ((), ())
    assert ages(found.text) == [95]
    assert found.held[0].reasons == ("1 messages have not left",)


def test_the_newest_judged_requests_stay_however_old() -> None:
    half = LABELS_KEPT // 2
    found = plan(day(400, judged=half), day(300, judged=half), day(200, judged=half), day(150))
    assert ages(found.facts) == [400, 150]
    assert [(TODAY - one.day).days for one in found.held] == [300, 200]
    assert "10,000 judged requests" in found.held[0].reasons[0]


def test_a_day_with_the_last_of_the_newest_judged_requests_stays() -> None:
    found = plan(day(200, judged=5), day(100, judged=LABELS_KEPT - 1))
    assert found.facts == ()
    assert ages(plan(day(200, judged=5), day(100, judged=LABELS_KEPT)).facts) == [200]


DAYS = st.lists(
    st.builds(
        day,
        st.integers(0, 200),
        judged=st.integers(0, 6_000),
        open_tasks=st.integers(0, 1),
        unpublished=st.integers(0, 1),
        has_text=st.booleans(),
        has_keys=st.booleans(),
    ),
    unique_by=lambda one: one.day,
)


@given(DAYS)
def test_nothing_young_or_needed_ever_goes(days: list[KeptDay]) -> None:
    found = plan(*days)
    going = set(found.facts)
    assert all((TODAY - one.day).days > 90 for one in going)
    assert all(one.open_tasks == one.unpublished == 0 for one in going)
    assert all((TODAY - one.day).days > 30 and one.open_tasks == 0 for one in found.text)
    assert going.isdisjoint(found.text)
    left = sum(one.judged for one in days if one not in going)
    assert left >= min(LABELS_KEPT, sum(one.judged for one in days))
    old = {one.day for one in days if (TODAY - one.day).days > 90}
    assert {one.day for one in going} | {one.day for one in found.held} == old


# Routing states


def published(version: int, age: int = 0, cause: str = "labels") -> RoutingStateRecord:
    return state(version, published_at=NOON - timedelta(days=age), cause=cause)


def gone(states: list[RoutingStateRecord], active: int) -> set[int]:
    return set(states_to_drop(states, active_version=active, settings=SETTINGS, today=TODAY))


def test_the_newest_states_and_the_last_of_each_day_stay() -> None:
    last = STATES_KEPT + 60
    states = [published(v, age=0 if v > 40 else 40 if v > 20 else 100) for v in range(1, last + 1)]
    dropped = gone(states, last)
    assert dropped == set(range(1, 61)) - {40}


def test_the_active_state_and_the_last_rollback_stay_however_old() -> None:
    states = [published(v, age=120) for v in range(1, STATES_KEPT + 10)]
    states[4] = published(5, age=120, cause="rollback")
    states[6] = published(7, age=120, cause="rollback")
    dropped = gone(states, 3)
    assert {3, 7}.isdisjoint(dropped)
    assert dropped == {1, 2, 4, 5, 6, 8, 9}


def test_few_states_all_stay() -> None:
    assert gone([published(v, age=500) for v in range(1, STATES_KEPT + 1)], STATES_KEPT) == set()


# Settings


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"facts_days": 1, "text_days": 1}, "facts_days must be at least 2"),
        ({"text_days": 91}, "text_days .91. must be at most facts_days .90."),
        ({"keys_days": 0}, "keys_days must be at least 2"),
    ],
)
def test_settings_that_cannot_hold_are_refused(changes: dict[str, int], said: str) -> None:
    with pytest.raises(SettingsInvalid, match=said):
        RetentionSettings(**changes)


# The command


class Busy(MemoryLedger):
    """A ledger whose days are in use for the first few tries."""

    def __init__(self, clock: ManualClock, *, refusals: int) -> None:
        super().__init__(clock=clock)
        self.refusals = refusals

    @contextmanager
    def begin(self) -> Iterator[MemoryTransaction]:
        if self.refusals > 0:
            self.refusals -= 1
            raise StoreUnavailable("lock timeout")
        with super().begin() as tx:
            yield tx


def filled(ledger: MemoryLedger) -> None:
    """Three old days and today; one old day has an open task."""
    with ledger.begin() as tx:
        for age in (100, 95, 40, 0):
            then = NOON - timedelta(days=age)
            tx.decisions.record(
                [
                    decided(f"s{age}", decided_at=then),
                    decided(f"u{age}", decided_at=then, is_sampled=False),
                ]
            )
            tx.responses.record([response(f"s{age}")])
        tx.tasks.add([task("s95")])
        tx.labels.add([], [label("s0")])
        for version in range(1, STATES_KEPT + 3):
            tx.states.publish(state(version))
        [sent] = tx.outbox.add([message("s100")])
        tx.outbox.mark([sent.message_id or 0], now=NOON)
        tx.states.record_calibration(calibration(calibrated_at=NOON - timedelta(days=91)))
        tx.states.record_calibration(calibration())
        for number, age in enumerate((29, 31)):
            said_at = NOON - timedelta(days=age)
            tx.describing.answer(probe_answer(number, answered_at=said_at))


def days_left(ledger: MemoryLedger) -> list[date]:
    with ledger.begin() as tx:
        return tx.upkeep.days()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NOON)


def test_a_run_drops_what_was_planned_and_says_so(clock: ManualClock) -> None:
    ledger = MemoryLedger(clock=clock)
    filled(ledger)
    clock.advance(1)
    work = Retention(ledger, clock, RetentionSettings())
    found = work.plan()
    shown = "\n".join(told(found))
    assert f"{TODAY - timedelta(days=95)}  stays: 1 judge tasks are not finished" in shown
    assert "1 days of facts, 1 days of text, request ids of 3 days" in shown
    assert days_left(ledger)[0] == TODAY - timedelta(days=100)  # a plan changes nothing
    said = list(work.carry_out(found))
    assert said[-1] == (
        "done: facts of 1 days, text of 1 days, 3 request ids, 2 routing states, 1 rows of sent"
        " messages, feedback and calibrations, 0 kept verdicts, texts of 1 probe answers"
    )
    assert days_left(ledger) == [TODAY - timedelta(days=age) for age in (95, 40, 0)]
    with ledger.begin() as tx:
        assert tx.decisions.prompt_text(RequestId("s40")) is None
        assert tx.decisions.prompt_text(RequestId("s95")) is not None
        assert tx.decisions.find(RequestId("u40")) is None
        probes = tx.describing.answers(CHEAP, probe_set=PROBE_SET)
        newest, *_ = tx.operations.audit_trail(limit=9)
    assert [one.text is None for one in probes] == [False, True]
    assert newest.action == "retention.finished"
    assert newest.actor.startswith("cli:")
    assert (newest.detail["facts_days"], newest.detail["ids"]) == (1, 3)


def test_a_second_run_finds_nothing(clock: ManualClock) -> None:
    ledger = MemoryLedger(clock=clock)
    filled(ledger)
    work = Retention(ledger, clock, RetentionSettings())
    list(work.carry_out(work.plan()))
    found = work.plan()
    assert (found.facts, found.text, found.keys, found.states) == ((), (), (), ())


def test_a_day_in_use_is_tried_again(clock: ManualClock) -> None:
    ledger = Busy(clock, refusals=0)
    filled(ledger)
    work = Retention(ledger, clock, RetentionSettings(keys_days=90))
    found = work.plan()
    done = work.carry_out(found)
    ledger.refusals = 0
    first = next(done)
    ledger.refusals = 3
    rest = list(done)
    assert "text dropped" in first
    assert any("facts dropped" in line for line in rest)


def test_a_day_that_stays_in_use_is_an_error_and_the_next_run_does_it(clock: ManualClock) -> None:
    ledger = Busy(clock, refusals=0)
    filled(ledger)
    work = Retention(ledger, clock, RetentionSettings())
    done = work.carry_out(work.plan())
    next(done)
    ledger.refusals = 1_000
    with pytest.raises(StoreUnavailable):
        next(done)
    ledger.refusals = 0
    list(work.carry_out(work.plan()))
    assert days_left(ledger)[0] == TODAY - timedelta(days=95)


def test_two_runs_at_once_are_refused(clock: ManualClock) -> None:
    ledger = MemoryLedger(clock=clock)
    work = Retention(ledger, clock, RetentionSettings())
    other = Retention(ledger, clock, RetentionSettings())
    with work.alone(), pytest.raises(RequestConflict, match="another"):
        other.alone().__enter__()
    with other.alone():
        assert other.plan().facts == ()


def test_erasing_says_how_much_and_is_audited_each_time(clock: ManualClock) -> None:
    ledger = MemoryLedger(clock=clock)
    filled(ledger)
    said = list(erase_texts(ledger, clock, tenant="default", session_id=None))
    assert said[:2] == ["prompts: 8", "responses: 4"]
    assert "embeddings: 4" in said
    again = list(erase_texts(ledger, clock, tenant="default", session_id=None))
    assert all(line.endswith(": 0") for line in again)
    with ledger.begin() as tx:
        actions = [entry.action for entry in tx.operations.audit_trail(limit=99)]
    assert actions.count("erase.finished") == 2
