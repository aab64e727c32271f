"""Settings and traffic nobody would choose: nothing stops, and the promise keeps its direction."""

from __future__ import annotations

from typing import Any

import pytest

from store.errors import SettingsInvalid
from store.policy import PolicySettings
from store.records import ExpertId, Reason
from tests.unit.loop_fakes import (
    QUALITY,
    SMALL,
    STRONG,
    TINY,
    TRAINED,
    loop,
    regret,
    run,
    state_of,
    traffic,
    trained,
)

pytestmark = pytest.mark.usefixtures("few_cycles")


@pytest.mark.parametrize(
    "change",
    [
        {"alpha": 0.001, "ramp_quota": 0.0},
        {"label_rate": 0.0},
        {"epsilon": 0.05},
        {"cost_weight": 1e300},
        {"label_discount": 0.991},
        {"age_half_life_requests": 1},
    ],
)
def test_odd_settings_stop_nothing_and_never_break_the_promise(change: dict[str, Any]) -> None:
    made = trained(more=96, **change)
    served = run(made, first=TRAINED)
    alpha = change.get("alpha", 0.2)
    assert regret(served) <= alpha + 3.0 * (alpha * (1.0 - alpha) / 96) ** 0.5
    assert not any(s.decision.reason is Reason.ERROR for s in served)


@pytest.mark.parametrize("level", [0.0, 0.5, 1.0])
def test_pools_that_all_answer_alike_stop_nothing(level: float) -> None:
    alike = dict.fromkeys((STRONG, SMALL, TINY), (level,) * 4)
    made = loop(traffic(TRAINED + 96, quality=alike))
    served = run(made)
    assert regret(served[TRAINED:]) <= 0.2 + 3.0 * (0.2 * 0.8 / 96) ** 0.5
    assert not any(s.decision.reason is Reason.ERROR for s in served)


def test_a_pool_of_the_reference_alone_serves_it() -> None:
    made = loop(traffic(64), experts=[STRONG])
    assert {s.decision.expert for s in run(made)} == {STRONG}


def test_a_pool_of_twelve_experts_holds_its_target() -> None:
    many = {STRONG: QUALITY[STRONG]} | {
        ExpertId(f"e{i:02}"): tuple(max(0.0, q - 0.03 * i) for q in QUALITY[SMALL])
        for i in range(12)
    }
    made = loop(traffic(TRAINED + 96, quality=many))
    served = run(made)
    assert regret(served[TRAINED:]) <= 0.2 + 3.0 * (0.2 * 0.8 / 96) ** 0.5
    assert not any(s.decision.reason is Reason.ERROR for s in served)


def test_identical_prompts_stop_nothing() -> None:
    recorded = traffic(TRAINED)
    recorded.prompts = dict.fromkeys(recorded.prompts, "prompt 1 5")
    made = loop(recorded)
    served = run(made)
    assert not any(s.decision.reason is Reason.ERROR for s in served)
    assert state_of(made).version > 0


def test_a_spent_budget_stops_sampling_and_not_serving() -> None:
    made = trained(more=96, judge_budget_per_day=TRAINED)
    served = run(made, first=TRAINED)
    assert {s.decision.inclusion_probability for s in served} == {0.0}
    assert regret(served) <= 0.2 + 3.0 * (0.2 * 0.8 / 96) ** 0.5


@pytest.mark.parametrize("change", [{"label_discount": 0.99}, {"alpha": 0.01}])
def test_settings_that_always_mean_safe_are_refused(change: dict[str, float]) -> None:
    with pytest.raises(SettingsInvalid, match=next(iter(change))):
        PolicySettings(reference=ExpertId("strong"), **change)  # type: ignore[arg-type]
