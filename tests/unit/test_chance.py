"""Random choices that anyone can draw again."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from online import chance
from online.chance import JITTER, draw, jitter
from store.records import ExpertId, RequestId

IDS = [RequestId(f"request-{n}") for n in range(5_000)]
EXPERTS = [ExpertId(name) for name in ("a", "b", "c", "a\x1fb")]


@given(st.text(), st.text())
def test_draws_are_in_the_unit_interval_and_repeatable(purpose: str, request: str) -> None:
    value = draw(purpose, RequestId(request))
    assert 0.0 <= value < 1.0
    assert draw(purpose, RequestId(request)) == value


def test_a_draw_is_below_one_even_for_the_largest_word(monkeypatch: pytest.MonkeyPatch) -> None:
    """2**64 − 1 rounds up to 2**64: the pick would be one past the last expert."""
    monkeypatch.setattr(chance, "_word", lambda text: 2**64 - 1)
    assert draw("explore-expert", RequestId("r")) < 1.0


def kolmogorov(values: np.ndarray) -> float:
    """Distance to the uniform law, times √n."""
    found, n = np.sort(values), len(values)
    grid = np.arange(1, n + 1) / n
    return float(max(np.max(grid - found), np.max(found - grid + 1.0 / n)) * np.sqrt(n))


@pytest.mark.parametrize("purpose", ["judge", "explore", "ramp"])
def test_draws_are_uniform(purpose: str) -> None:
    assert kolmogorov(np.array([draw(purpose, r) for r in IDS])) < 1.63


def test_draws_for_two_purposes_are_independent() -> None:
    judged = np.array([draw("judge", r) for r in IDS])
    explored = np.array([draw("explore", r) for r in IDS])
    assert abs(np.corrcoef(judged, explored)[0, 1]) < 0.05


def test_another_seed_is_another_draw() -> None:
    assert draw("judge", IDS[0]) != draw("judge", IDS[0], seed="other")


def test_jitter_is_uniform_and_independent_between_experts() -> None:
    found = jitter(IDS, EXPERTS) / JITTER
    for column in range(len(EXPERTS)):
        assert kolmogorov(found[:, column]) < 1.63
    off_diagonal = np.corrcoef(found, rowvar=False) - np.eye(len(EXPERTS))
    assert np.max(np.abs(off_diagonal)) < 0.05


@given(st.lists(st.text(), min_size=1, max_size=5), st.lists(st.text(), min_size=1, max_size=5))
def test_jitter_in_a_batch_is_jitter_alone(requests: list[str], experts: list[str]) -> None:
    ids, names = [RequestId(r) for r in requests], [ExpertId(e) for e in experts]
    together = jitter(ids, names)
    assert np.all((together >= 0.0) & (together <= JITTER))
    for i, request in enumerate(ids):
        for j, expert in enumerate(names):
            assert jitter([request], [expert])[0, 0] == together[i, j]


def test_jitter_parts_every_score_on_a_plateau() -> None:
    scores = 0.5 + jitter(IDS, EXPERTS)
    assert len(np.unique(scores)) > 0.9999 * scores.size


def test_jitter_never_changes() -> None:
    """λ published by one version must mean the same to the next."""
    digest = hashlib.sha256(jitter(IDS[:50], EXPERTS).tobytes()).hexdigest()
    assert digest[:16] == "0f36b725899b0889"
