"""Bradley-Terry strengths: against choix, by hand, and with the answers' length."""

from __future__ import annotations

from dataclasses import replace

import choix
import numpy as np
import pytest

from judge.strength import RIDGE, Comparisons, components, strengths
from store.records import ExpertId, FloatArray

NAMES = tuple(ExpertId(name) for name in ("a", "b", "c", "d", "e"))
RNG = 11


def played(theta: FloatArray, count: int, *, effect: float = 0.0, seed: int = RNG) -> Comparisons:
    """Return drawn comparisons of experts with these strengths, some of them ties."""
    rng = np.random.default_rng(seed)
    first = rng.integers(len(theta), size=count)
    second = (first + rng.integers(1, len(theta), size=count)) % len(theta)
    longer = rng.normal(scale=100.0, size=count) + 80.0 * (first == 0) - 80.0 * (second == 0)
    odds = theta[first] - theta[second] + effect * np.tanh(longer / longer.std())
    won = (rng.random(count) < 1.0 / (1.0 + np.exp(-odds))).astype(float)
    if not effect:  # ties would pull the effect towards 0
        won[rng.random(count) < 0.1] = 0.5
    return Comparisons(
        experts=NAMES[: len(theta)],
        first=first,
        second=second,
        preference=won,
        weight=np.ones(count),
        prompt=np.arange(count) // 4,
        longer_by=longer if effect else None,
    )


def fitted(pairs: Comparisons) -> FloatArray:
    found = strengths(pairs, rng=np.random.default_rng(0), resamples=2)
    assert found is not None
    return found.values


def test_strengths_are_those_of_choix() -> None:
    pairs = played(np.array([1.5, 0.5, 0.0, -0.5, -1.5]), 400)
    games = []
    for a, b, won in zip(pairs.first, pairs.second, pairs.preference, strict=True):
        games += [(a, b)] * int(2 * won) + [(b, a)] * int(2 - 2 * won)
    # Each half win is a game there, so the same penalty weighs twice as much here.
    theirs = choix.opt_pairwise(5, games, alpha=RIDGE, tol=1e-10)
    assert fitted(pairs) == pytest.approx(theirs - theirs.mean(), abs=1e-5)


def test_two_experts_by_hand() -> None:
    """30 wins of 40: the odds are 3 to 1, up to the small penalty."""
    pairs = Comparisons(
        experts=NAMES[:2],
        first=np.zeros(40, dtype=np.int64),
        second=np.ones(40, dtype=np.int64),
        preference=np.repeat([1.0, 0.0], [30, 10]),
        weight=np.ones(40),
        prompt=np.arange(40),
    )
    found = strengths(pairs, rng=np.random.default_rng(0))
    assert found is not None
    chance = found.against(NAMES[0], NAMES[1])
    assert chance.value == pytest.approx(0.75, abs=1e-3)
    assert chance.low == pytest.approx(0.61, abs=0.04)
    assert chance.high == pytest.approx(0.88, abs=0.04)
    assert found.strength(NAMES[0]).value == pytest.approx(np.log(3.0) / 2.0, abs=5e-3)


def test_an_expert_that_never_lost_stays_finite() -> None:
    pairs = played(np.zeros(3), 200)
    pairs = replace(pairs, preference=np.where(pairs.first == 0, 1.0, 0.0))
    assert np.isfinite(fitted(pairs)).all()


def test_pairs_that_were_sampled_more_often_weigh_less() -> None:
    theta = np.array([1.0, 0.0, -1.0])
    whole = played(theta, 6_000)
    rng = np.random.default_rng(5)
    chance = np.where(whole.preference == 1.0, 0.2, 0.8)  # wins are drawn four times as rarely
    kept = rng.random(6_000) < chance
    drawn = replace(
        whole,
        first=whole.first[kept],
        second=whole.second[kept],
        preference=whole.preference[kept],
        prompt=whole.prompt[kept],
        weight=1.0 / chance[kept],
    )
    weighted, plain = fitted(drawn), fitted(replace(drawn, weight=np.ones(int(kept.sum()))))
    truth = fitted(whole)
    assert np.abs(weighted - truth).max() < 0.12
    assert np.abs(weighted - truth).max() < np.abs(plain - truth).max()


def test_experts_that_were_never_compared_have_no_common_scale() -> None:
    pairs = Comparisons(
        experts=NAMES[:4],
        first=np.array([0, 2]),
        second=np.array([1, 1]),
        preference=np.array([1.0, 0.5]),
        weight=np.ones(2),
        prompt=np.array([0, 1]),
    )
    assert components(pairs) == [[*NAMES[:3]], [NAMES[3]]]
    assert strengths(pairs, rng=np.random.default_rng(0)) is None


def test_length_is_taken_out_of_the_strength() -> None:
    """Expert a writes long answers and is no better; the judge likes length."""
    pairs = played(np.zeros(4), 4_000, effect=1.5)
    controlled = strengths(pairs, rng=np.random.default_rng(0), resamples=50)
    plain = fitted(replace(pairs, longer_by=None))
    assert controlled is not None
    assert controlled.length_effect is not None
    assert controlled.length_effect.low < 1.5 < controlled.length_effect.high
    assert plain[0] > 0.3
    assert abs(controlled.values[0]) < 0.15


def test_intervals_are_wider_where_verdicts_on_a_prompt_hang_together() -> None:
    """Each prompt's one verdict, given four times over, tells no more than once."""
    once = played(np.array([0.5, 0.0, -0.5]), 300)
    again = replace(
        once,
        first=np.repeat(once.first, 4),
        second=np.repeat(once.second, 4),
        preference=np.repeat(once.preference, 4),
        weight=np.repeat(once.weight, 4),
        prompt=np.repeat(np.arange(300), 4),
    )
    apart = replace(again, prompt=np.arange(1_200))

    def width(pairs: Comparisons) -> float:
        found = strengths(pairs, rng=np.random.default_rng(0))
        assert found is not None
        one = found.strength(NAMES[0])
        return one.high - one.low

    assert width(again) > 1.6 * width(apart)
