"""What a regressor learns from pairwise verdicts: sums with ties kept, or the paper's ranks."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from online.targets import Vote, rank_weights, targets


@given(st.integers(2, 6), st.integers(1, 4), st.integers(0, 2**32 - 1))
def test_with_every_pair_judged_it_is_the_normalised_sum(
    experts: int, judges: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    sums = np.zeros(experts)
    votes: list[Vote] = []
    for first, second in [*combinations(range(experts), 2)] * judges:
        preference = float(rng.choice([0.0, 0.5, 1.0]))
        votes.append((first, second, preference))
        sums[[first, second]] += preference, 1.0 - preference
    found = targets(votes, experts)
    np.testing.assert_allclose(found, sums / (judges * (experts - 1)), rtol=0.0, atol=1e-12)
    assert found.sum() == pytest.approx(experts / 2)


def test_a_tie_is_half_a_win_for_both() -> None:
    votes = [(0, 1, 0.5), (0, 2, 1.0), (1, 2, 1.0)]
    np.testing.assert_array_equal(targets(votes, 3), [0.75, 0.75, 0.0])


def test_an_expert_that_no_vote_compares_has_no_target() -> None:
    votes = [(0, 2, 1.0)]
    np.testing.assert_array_equal(targets(votes, 3), [1.0, np.nan, 0.0])
    np.testing.assert_allclose(targets(votes, 3, target="cargo"), [2 / 3, np.nan, 1 / 3])
    assert np.isnan(targets([], 3, target="cargo")).all()


def test_without_ties_the_paper_s_target_is_always_the_same_four_numbers() -> None:
    close = [(i, j, 0.51) for i, j in combinations(range(4), 2)]
    clear = [(i, j, 1.0) for i, j in combinations(range(4), 2)]
    for votes in (close, clear):
        np.testing.assert_allclose(targets(votes, 4, target="cargo"), [0.4, 0.3, 0.2, 0.1])
    assert np.ptp(targets(close, 4)) < 0.1 < np.ptp(targets(clear, 4))


def test_ties_share_the_better_rank() -> None:
    np.testing.assert_allclose(
        rank_weights(np.array([0.2, 0.9, 0.9, 0.1])), np.array([2, 4, 4, 1]) / 11
    )


@pytest.mark.parametrize("vote", [(1, 1, 0.5), (0, 1, 1.1), (0, 1, -0.1), (0, 1, float("nan"))])
def test_what_is_no_vote_is_rejected(vote: Vote) -> None:
    with pytest.raises(ValueError, match="no vote"):
        targets([vote], 3)
