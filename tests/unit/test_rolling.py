"""The rolling controller: weights, ages, effective labels, quotas (promise.md section 6)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from recalibrate.controller import Window
from recalibrate.crc import Feasible, crc_threshold
from recalibrate.losses import worst_in_set
from recalibrate.rolling import RollingCrc, charged, effective_labels
from store.records import SAFE, FloatArray, Reason


def controller(**changes: Any) -> RollingCrc:
    values: dict[str, Any] = {
        "alpha": 0.1,
        "label_discount": 1.0,
        "age_half_life_requests": 1e12,
    } | changes
    return RollingCrc(**values)


def window(n: int = 400, *, seed: int = 0, **changes: Any) -> Window:
    rng = np.random.default_rng(seed)
    scores = rng.random((n, 2))
    values: dict[str, Any] = {
        "losses": worst_in_set(scores, rng.random((n, 2)) < 0.3 + 0.7 * scores),
        "inclusion_probability": np.full(n, 0.05),
        "requests_ago": np.arange(n, 0, -1) * 20.0,
        "minimum_inclusion": 0.05,
    } | changes
    return Window(**values)


def test_uniform_labels_without_discount_give_plain_crc() -> None:
    asked = window()
    plain = crc_threshold(asked.losses, np.ones(400), test_weight=1.0, alpha=0.1)
    assert isinstance(plain, Feasible)
    found = controller().threshold(asked)
    assert found.value == plain.threshold
    assert found.weighted_risk == pytest.approx(plain.corrected_risk)
    assert found.effective_labels == pytest.approx(400)
    assert found.safe_reason is None


def test_unequal_sampling_is_undone_by_inverse_weights() -> None:
    pi = np.where(np.arange(400) % 2 == 0, 0.02, 0.10)
    asked = window(inclusion_probability=pi, minimum_inclusion=0.02)
    inverse = 1.0 / pi
    test_weight = (1.0 / 0.02) / inverse.mean()
    by_hand = crc_threshold(
        asked.losses, inverse / inverse.mean(), test_weight=test_weight, alpha=0.1
    )
    assert test_weight == pytest.approx(50 / 30)
    assert isinstance(by_hand, Feasible)
    assert controller().threshold(asked).value == by_hand.threshold


def test_the_test_weight_is_the_rarest_request_the_settings_allow() -> None:
    """A smaller least π makes the next request weigh more, undecayed: λ can only rise."""
    usual = controller(label_discount=0.995).threshold(window())
    rare = controller(label_discount=0.995).threshold(window(minimum_inclusion=0.01))
    weights = 0.995 ** np.arange(399, -1, -1.0)
    expected = crc_threshold(window().losses, weights, test_weight=5.0, alpha=0.1)
    assert isinstance(expected, Feasible)
    assert rare.value == expected.threshold
    assert rare.value >= usual.value


def test_discount_and_age_multiply() -> None:
    ago = np.arange(400, 0, -1) * 7.0
    found = controller(label_discount=0.998, age_half_life_requests=2_000.0).threshold(
        window(requests_ago=ago)
    )
    weights = 0.998 ** np.arange(399, -1, -1.0) * 0.5 ** (ago / 2_000.0)
    expected = crc_threshold(window().losses, weights, test_weight=1.0, alpha=0.1)
    assert isinstance(expected, Feasible)
    assert found.value == expected.threshold
    assert found.effective_labels == pytest.approx(weights.sum())


def test_effective_labels_by_hand() -> None:
    """v = 1, 1, 2 and a = .5, 1, 1: (.5 + 1 + 2)² / (.5 + 1 + 4)."""
    found = effective_labels(np.array([1.0, 1.0, 2.0]), np.array([0.5, 1.0, 1.0]))
    assert found == pytest.approx(3.5**2 / 5.5)


POSITIVE = npst.arrays(np.float64, 12, elements=st.floats(0.1, 50.0))


@given(POSITIVE, npst.arrays(np.float64, 12, elements=st.floats(0.01, 1.0)), st.floats(0.01, 0.99))
def test_effective_labels_fall_under_a_common_decay_where_kish_s_would_not(
    inverse: FloatArray, age: FloatArray, decay: float
) -> None:
    def kish(a: FloatArray) -> float:
        return float((a @ inverse) ** 2 / (a**2 @ inverse**2))

    before, after = effective_labels(inverse, age), effective_labels(inverse, decay * age)
    assert after == pytest.approx(decay * before)
    assert kish(decay * age) == pytest.approx(kish(age))


@given(POSITIVE, st.floats(0.1, 100.0))
def test_effective_labels_do_not_depend_on_the_scale_of_the_weights(
    inverse: FloatArray, scale: float
) -> None:
    age = np.linspace(0.2, 1.0, 12)
    assert effective_labels(scale * inverse, age) == pytest.approx(effective_labels(inverse, age))


@pytest.mark.parametrize(("n", "reason"), [(99, Reason.SAFE_STARVED), (100, None)])
def test_fewer_than_a_hundred_effective_labels_let_the_reference_serve(
    n: int, reason: Reason | None
) -> None:
    found = controller(alpha=0.5).threshold(window(n, requests_ago=np.zeros(n)))
    assert found.safe_reason is reason
    assert (found.value == SAFE) == (reason is not None)
    assert found.effective_labels == pytest.approx(n)


def test_a_threshold_ages_into_safe_when_labels_stop() -> None:
    later = [0.0, 10_000.0, 20_000.0, 40_000.0, 60_000.0]
    ageing = controller(age_half_life_requests=20_000.0, alpha=0.5)
    found = [ageing.threshold(window(requests_ago=np.full(400, ago))) for ago in later]
    assert [t.effective_labels for t in found] == pytest.approx([400, 282.8, 200, 100, 50], abs=0.1)
    assert [t.safe_reason for t in found][-1] is Reason.SAFE_STARVED
    values = [t.value for t in found]
    assert values == sorted(values)


def test_labels_decayed_to_nothing_are_no_labels() -> None:
    """A half-life of one request and a judge that stopped: 0 effective labels, not 0/0."""
    ago = np.full(400, 50_000.0)
    found = controller(age_half_life_requests=1).threshold(window(requests_ago=ago))
    assert found.safe_reason is Reason.SAFE_STARVED
    assert found.effective_labels == 0.0


def test_no_labels_are_a_cold_start() -> None:
    assert controller().threshold(window(0)).safe_reason is Reason.SAFE_COLD


def test_an_impossible_target_is_a_reason_and_not_a_silent_default() -> None:
    found = controller(alpha=0.001).threshold(window())
    assert found.safe_reason is Reason.SAFE_INFEASIBLE
    assert found.value == SAFE
    assert "0.0025" in found.detail


@given(st.floats(0.001, 0.99), st.floats(0.0, 0.01))
def test_a_quota_outside_the_set_is_paid_for(alpha: float, quota: float) -> None:
    left = charged(alpha, quota)
    assert left <= alpha
    assert quota + (1.0 - quota) * left == pytest.approx(alpha)


def test_no_quota_costs_nothing() -> None:
    assert charged(0.1, 0.0) == 0.1
    assert charged(0.1, 0.01) == pytest.approx(0.0909, abs=1e-4)
