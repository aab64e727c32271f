"""Who can enter C_λ: nested in λ, and leaving the dominated out changes no choice."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from judge.sampling import due_experts
from online.admission import MAX_CANDIDATES, eligible, preference
from online.route import route
from store.records import ExpertId, FloatArray, RequestId
from tests.factories import embedding, prompt
from tests.unit.state_fakes import NAMES, STRONG, scorer, state
from tests.unit.test_route import candidates

UNIT = st.floats(0.0, 1.0)
POLICY = st.sampled_from([("auto", 0.0), ("auto", 0.5), ("auto", 3.0), ("cheapest", 1.0)])


@st.composite
def pools(draw: st.DrawFn, *, most: int = 8) -> tuple[FloatArray, FloatArray, list[bool]]:
    """Distinct scores (jitter sees to that), the reference first; some have none."""
    m = draw(st.integers(1, most))
    scores = np.array(draw(st.permutations(np.linspace(0.05, 0.95, m).tolist())))
    unknown = draw(st.lists(st.booleans(), min_size=m, max_size=m))
    scores[np.array(unknown) & (np.arange(m) > 0)] = np.nan
    costs = np.array(draw(st.lists(st.floats(0.01, 3.0), min_size=m, max_size=m)))
    costs[0] = 1.0
    return scores, costs, draw(st.lists(st.booleans(), min_size=m, max_size=m))


def by_definition(scores: FloatArray, preferred: FloatArray, certified: list[bool]) -> list[int]:
    inside = [
        i
        for i in range(1, len(scores))
        if certified[i] and np.isfinite(scores[i]) and preferred[i] > preferred[0]
    ]
    undominated = [
        i
        for i in inside
        if not any(scores[j] > scores[i] and preferred[j] >= preferred[i] for j in inside)
    ]
    return sorted(undominated, key=lambda i: -scores[i])[:MAX_CANDIDATES]


@given(pools(), POLICY)
def test_members_are_the_undominated_by_definition(
    pool: tuple[FloatArray, FloatArray, list[bool]], how: tuple[str, float]
) -> None:
    scores, costs, certified = pool
    preferred = preference(scores[None], costs, policy=how[0], cost_weight=how[1])
    found = eligible(scores[None], preferred, np.array(certified), reference=0)[0]
    assert set(np.flatnonzero(found)) == set(by_definition(scores, preferred[0], certified))


@given(st.lists(st.tuples(st.sampled_from([0.2, 0.5, 0.8]), UNIT), min_size=2, max_size=4))
def test_equal_scores_do_not_rule_each_other_out(experts: list[tuple[float, float]]) -> None:
    scores, costs = (np.array(x) for x in zip(*experts, strict=True))
    preferred = preference(scores[None], costs, policy="auto", cost_weight=1.0)
    everyone = np.ones(len(scores), dtype=bool)
    found = eligible(scores[None], preferred, everyone, reference=0)[0]
    expected = by_definition(scores, preferred[0], everyone.tolist())
    assert set(np.flatnonzero(found)) == set(expected)


@given(pools(most=4), POLICY, UNIT)
def test_leaving_the_dominated_out_changes_no_choice(
    pool: tuple[FloatArray, FloatArray, list[bool]], how: tuple[str, float], threshold: float
) -> None:
    scores, costs, certified = pool
    preferred = preference(scores[None], costs, policy=how[0], cost_weight=how[1])
    found = eligible(scores[None], preferred, np.array(certified), reference=0)[0]
    with np.errstate(invalid="ignore"):
        above = scores > threshold
    whole = [0, *np.flatnonzero(np.array(certified) & above & (np.arange(len(scores)) > 0))]
    kept = [0, *np.flatnonzero(found & above)]
    value = preferred[0]
    assert max(value[i] for i in kept) == max(value[i] for i in whole)


@given(st.integers(0, 2_000), st.floats(0.0, 3.0), st.sampled_from(["auto", "cheapest"]))
def test_every_member_of_the_set_is_judged_in_a_large_pool(
    number: int, cost_weight: float, policy: str
) -> None:
    """Experts too dear or dominated make room in C_λ for others, which must be judged too."""
    names = (STRONG, *(ExpertId(f"x{i}") for i in range(9)))
    made = state(
        model=scorer(names, seed=number), threshold=0.0, cost_weight=cost_weight, policy=policy
    )
    made = replace(made, threshold=0.0)
    found = route(prompt(f"r{number}"), embedding(number), made, fold=0, category="unknown")
    due = due_experts(RequestId(f"r{number}"), made, found.retrieved)
    assert candidates(found) <= set(due)
    assert len(due) == len(set(due)) == MAX_CANDIDATES + 1


def test_a_reference_without_a_score_rules_nobody_out() -> None:
    scores = np.array([[np.nan, 0.4, 0.6]])
    costs = np.array([1.0, 0.2, 0.5])
    preferred = preference(scores, costs, policy="auto", cost_weight=1.0)
    found = eligible(scores, preferred, np.ones(3, dtype=bool), reference=0)
    assert found.tolist() == [[False, True, True]]


def test_the_reference_is_never_a_member() -> None:
    made = state(threshold=0.0)
    for number in range(50):
        found = route(prompt(f"r{number}"), embedding(number), made, fold=0, category="unknown")
        assert STRONG not in candidates(found)
        assert candidates(found) <= set(NAMES)
