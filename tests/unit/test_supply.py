"""What a person is told while λ is SAFE for lack of labels."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.local import LocalLoop
from recalibrate.rolling import FLOOR, effective_labels
from recalibrate.supply import (
    Waiting,
    duration,
    effective_after,
    labels_per_hour,
    labels_to_floor,
    waiting,
)
from store.clock import ManualClock
from store.memory import MemoryLedger
from store.policy import PolicySettings
from store.records import Reason
from tests.contract.acts import decide
from tests.factories import ENCODER, NOON, label, later, settings
from tests.unit.loop_fakes import STRONG, TINY, loop, run, state_of, traffic


def waits(made: LocalLoop) -> Waiting | None:
    with made.ledger.begin() as tx:
        return waiting(tx, now=made.clock.now())


def shown(made: LocalLoop) -> Waiting:
    found = waits(made)
    assert found is not None
    return found


def simulated(have: float, labels: int, policy: PolicySettings) -> float:
    """Return n_eff as the rolling rule counts it, ``have`` labels being fresh at the start."""
    start = int(have)
    n = start + labels
    behind = np.arange(n - 1, -1, -1, dtype=np.float64)
    decay = 0.5 ** (behind / policy.label_rate / policy.age_half_life_requests)
    age = policy.label_discount**behind * decay
    return effective_labels(np.full(n, 1.0 / policy.label_rate), age)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"label_discount": 1.0, "label_rate": 1.0},
        {"label_rate": 0.02},
        {"label_discount": 0.992, "label_rate": 0.3},
    ],
)
def test_the_labels_to_the_floor_are_those_the_rolling_rule_needs(
    changes: dict[str, float],
) -> None:
    policy = settings(**changes)
    needed = labels_to_floor(0.0, policy=policy)
    assert needed is not None
    assert simulated(0, needed, policy) >= FLOOR - 1e-6
    assert simulated(0, needed - 1, policy) < FLOOR


def test_the_default_settings_need_139_labels() -> None:
    policy = settings(label_rate=1.0)
    assert labels_to_floor(0.0, policy=replace(policy, age_half_life_requests=2**31 - 1)) == 139


@given(st.integers(0, 400), st.floats(0.0, 99.0))
def test_labels_add_up_to_the_floor_when_that_many_have_come(fresh: int, have: float) -> None:
    policy = settings()
    needed = labels_to_floor(have, policy=policy)
    assert needed is not None
    reached = effective_after(fresh, have=have, policy=policy) >= FLOOR - 1e-9
    assert reached == (fresh >= needed)


@pytest.mark.parametrize("rate", [0.0, 0.005])
def test_a_label_rate_at_which_old_labels_fade_too_fast_never_gets_there(rate: float) -> None:
    assert labels_to_floor(50.0, policy=settings(label_rate=rate)) is None


@pytest.mark.parametrize(
    ("amount", "text"),
    [(0.001, "2 minutes"), (0.5, "30 minutes"), (3.21, "3.2 hours"), (60.0, "2.5 days")],
)
def test_a_duration_reads_like_one(amount: float, text: str) -> None:
    assert duration(amount) == text


# The rate


def rated(*seconds: float, at: float) -> float | None:
    ledger = MemoryLedger(clock=ManualClock(NOON))
    names = [f"r{n}" for n in range(len(seconds))]
    decide(ledger, *names)
    with ledger.begin() as tx:
        tx.labels.add(
            [], [label(n, labelled_at=later(s)) for n, s in zip(names, seconds, strict=True)]
        )
        return labels_per_hour(tx, encoder=ENCODER, now=NOON + timedelta(seconds=at))


def test_the_rate_is_that_since_the_first_label_of_the_last_day() -> None:
    assert rated(0, 600, 1200, 1800, at=3600.0) == pytest.approx(3.0)
    assert rated(0, 90_000, 93_600, at=97_200.0) == pytest.approx(0.5)


@pytest.mark.parametrize("seconds", [(), (0.0,), (0.0, 0.0)])
def test_without_two_labels_at_two_times_there_is_no_rate(seconds: tuple[float, ...]) -> None:
    assert rated(*seconds, at=0.0 if len(seconds) == 2 else 60.0) is None


def test_labels_of_more_than_a_day_ago_are_no_rate() -> None:
    assert rated(0, 60, at=2 * 86_400.0) is None


# Where people look


def cold(count: int, **changes: Any) -> LocalLoop:
    made = loop(traffic(count), **({"cluster_prompts": 400} | changes))
    run(made)
    return made


def test_a_cold_start_counts_the_sampled_prompts_first() -> None:
    found = shown(cold(64))
    assert (found.reason, found.counted, found.need) == (Reason.SAFE_COLD, "prompts", 400)
    assert 0 < found.have < 64  # fold 0 trains nothing
    assert found.hours_left is not None
    assert found.text.startswith(
        f"{found.have} of 400 sampled prompts, serving the reference; about"
    )
    assert found.text.endswith("left at this rate")


def test_without_labels_how_long_is_unknown() -> None:
    made = loop(traffic(64), cluster_prompts=400)
    list(made.serve(list(made.traffic.prompts), judge=lambda: False))
    found = shown(made)
    assert (found.labels_per_hour, found.hours_left) == (None, None)
    assert found.text.endswith("how long is unknown, no labels came in the last day")


def test_then_the_labels_are_counted_until_an_expert_is_certified() -> None:
    found = shown(cold(96, cluster_prompts=50))
    assert (found.reason, found.counted, found.need) == (Reason.SAFE_COLD, "labels", 100)
    assert 60 < found.have < 100
    assert f"{found.have} of 100 labels, serving the reference; about" in found.text


@pytest.mark.usefixtures("few_cycles")
def test_enough_labels_without_a_certified_expert_are_not_called_too_few() -> None:
    made = loop(traffic(250), experts=[STRONG, TINY], alpha=0.011)
    run(made)
    assert state_of(made).safe_reason is Reason.SAFE_COLD
    found = shown(made)
    assert (found.have, found.hours_left) == (100, None)
    assert "if this stays, no expert meets the target" in found.text


@pytest.mark.usefixtures("few_cycles")
def test_starved_counts_up_again_as_labels_come() -> None:
    made = loop(traffic(1_700))
    names = list(made.traffic.prompts)
    list(made.serve(names[:224]))
    assert waits(made) is None
    made.set_policy(replace(made.policy, age_half_life_requests=300))
    list(made.serve(names[224:1_600], judge=lambda: False))
    low = shown(made)
    assert (low.reason, low.counted, low.need) == (Reason.SAFE_STARVED, "labels", 100)
    assert low.have < 50


def test_off_says_that_no_labels_come() -> None:
    made = cold(64)
    made.set_policy(replace(made.policy, mode="off"))
    made.settle()
    found = shown(made)
    assert found.hours_left is None
    assert found.text.endswith("mode is off, so no labels come")


def test_nothing_is_waited_for_before_the_first_state() -> None:
    with MemoryLedger().begin() as tx:
        assert waiting(tx, now=NOON) is None
