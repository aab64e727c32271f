"""The decision: what may be served, what is chosen, and with which probability."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from judge.sampling import due_experts
from online import route as route_module
from online.route import Choice, admitted, jittered, route
from online.scorer import ScorerModel, score
from online.state import RoutingState
from store.errors import EventRejected
from store.records import (
    FOLDS,
    SAFE,
    ExpertId,
    ExpertStatus,
    FloatArray,
    Reason,
    RequestId,
)
from tests.factories import embedding, prompt
from tests.unit.state_fakes import NAMES, STRONG, scorer, state

A, B, C = NAMES[1:4]


def choose(made: RoutingState, request: str = "r1", *, seed: int = 0, **changes: Any) -> Choice:
    fold = changes.pop("fold", 0)
    degraded = changes.pop("degraded", False)
    asked = prompt(request, **changes)
    return route(asked, embedding(seed), made, fold=fold, category="unknown", degraded=degraded)


def candidates(choice: Choice) -> set[ExpertId]:
    return {r.expert for r in choice.retrieved if r.is_candidate}


def constant_scorer(quality: dict[ExpertId, float]) -> ScorerModel:
    """Every prompt has the same scores."""
    base = scorer(tuple(quality))
    levels = np.array(list(quality.values()))
    return replace(
        base,
        table=np.broadcast_to(levels, base.table.shape).copy(),
        calibration=np.broadcast_to(levels[:, None], base.calibration.shape).copy(),
    )


@given(st.integers(0, 10_000), st.integers(0, FOLDS - 1))
def test_the_same_request_and_state_give_the_same_choice(number: int, fold: int) -> None:
    made = state()
    first = choose(made, f"r{number}", seed=number, fold=fold)
    assert choose(state(), f"r{number}", seed=number, fold=fold) == first


def test_routing_changes_neither_state_nor_scorer() -> None:
    made = state()
    before = made.binding, made.model.sha256() if made.model else ""
    for number in range(200):
        choose(made, f"r{number}", seed=number, fold=number % FOLDS)
    fresh = replace(made)
    assert (fresh.binding, fresh.model.sha256() if fresh.model else "") == before


@given(st.integers(0, 10_000), st.floats(0.0, 1.0), st.floats(0.0, 1.0))
def test_a_higher_threshold_admits_a_subset(number: int, one: float, other: float) -> None:
    low, high = sorted((one, other))
    wide = choose(state(threshold=low), f"r{number}", seed=number)
    narrow = choose(state(threshold=high), f"r{number}", seed=number)
    assert candidates(narrow) <= candidates(wide)
    assert len(candidates(wide)) <= 4


@given(st.integers(0, 10_000), st.floats(0.0, 1.0))
def test_whatever_is_served_is_a_candidate_or_the_reference(number: int, threshold: float) -> None:
    found = choose(state(threshold=threshold, epsilon=0.05), f"r{number}", seed=number)
    assert found.expert in candidates(found) | {STRONG}


@given(st.integers(0, 10_000))
def test_at_safe_the_reference_serves_for_certain(number: int) -> None:
    ramping = {A: ExpertStatus.RAMPING}
    found = choose(state(threshold=SAFE, epsilon=0.05, statuses=ramping), f"r{number}", seed=number)
    assert (found.expert, found.propensity) == (STRONG, 1.0)
    assert found.reason is Reason.SAFE_INFEASIBLE
    assert not candidates(found)


def scores_of(made: RoutingState, request: str, seed: int) -> FloatArray:
    assert made.model is not None
    quality = score(made.model, embedding(seed)[None], excluded=0).quality
    row: FloatArray = jittered(quality, [RequestId(request)], made.model.columns)[0]
    return row


@pytest.mark.parametrize("fold", range(FOLDS))
def test_a_request_is_served_by_the_entry_that_never_saw_its_fold(fold: int) -> None:
    made = state(threshold=0.0)
    assert made.model is not None
    quality = score(made.model, embedding(3)[None], excluded=fold).quality
    expected = jittered(quality, [RequestId("r1")], made.model.columns)[0]
    found = choose(made, seed=3, fold=fold)
    assert [r.score for r in found.retrieved] == expected.tolist()


def inside_of(made: RoutingState, found: FloatArray, threshold: float) -> list[int]:
    assert made.model is not None
    return admitted(found, made.model, made, threshold=threshold)


def test_a_score_equal_to_the_threshold_is_not_admitted() -> None:
    made = state()
    found = scores_of(made, "r1", 0)
    best = inside_of(made, found, 0.0)[0]
    at = float(found[best])
    assert best not in inside_of(made, found, at)
    assert best in inside_of(made, found, float(np.nextafter(at, 0.0)))


@pytest.mark.parametrize(
    "status", [s for s in ExpertStatus if s not in {ExpertStatus.CERTIFIED, ExpertStatus.PAUSED}]
)
def test_an_expert_that_is_not_certified_is_never_a_candidate(status: ExpertStatus) -> None:
    made = state(threshold=0.0, statuses={A: status})
    found = [choose(made, f"r{n}", seed=n) for n in range(300)]
    assert all(A not in candidates(f) for f in found)
    served = {f.expert for f in found if f.reason is not Reason.RAMP}
    assert A not in served


def test_an_expert_without_evidence_has_no_score_and_is_no_candidate() -> None:
    model = scorer()
    model.evidence[:, 1] = 7.9
    found = [choose(state(model=model, threshold=0.0), f"r{n}", seed=n) for n in range(200)]
    assert all(A not in candidates(f) for f in found)
    assert all(r.expert != A for f in found for r in f.retrieved)


def test_a_reference_without_evidence_serves() -> None:
    model = scorer()
    model.evidence[:, 0] = 0.0
    found = choose(state(model=model, threshold=0.0))
    assert (found.expert, found.reason) == (STRONG, Reason.SAFE_COLD)


def test_an_empty_set_serves_the_reference_and_says_so() -> None:
    found = choose(state(threshold=1.5))
    assert (found.expert, found.reason) == (STRONG, Reason.NO_CANDIDATE)
    assert found.propensity == 1.0


def test_without_a_scorer_the_reference_serves() -> None:
    cold = replace(state(threshold=SAFE), model=None, safe_reason=Reason.SAFE_COLD)
    found = choose(cold)
    assert (found.expert, found.reason, found.propensity) == (STRONG, Reason.SAFE_COLD, 1.0)


def test_the_reference_policy_serves_the_reference() -> None:
    found = choose(state(threshold=0.0, policy="reference"))
    assert (found.expert, found.propensity) == (STRONG, 1.0)


def test_a_pin_outranks_learning() -> None:
    found = choose(state(threshold=SAFE), pinned_expert=B, allowed_experts=(STRONG,))
    assert (found.expert, found.reason, found.propensity) == (B, Reason.PINNED, 1.0)


def test_an_unknown_pin_is_rejected() -> None:
    with pytest.raises(EventRejected) as rejected:
        choose(state(), pinned_expert=ExpertId("nobody"))
    assert rejected.value.code == "unknown_expert"


@given(st.integers(0, 5_000))
def test_only_allowed_experts_serve(number: int) -> None:
    ramping = {C: ExpertStatus.RAMPING}
    made = state(threshold=0.0, epsilon=0.05, statuses=ramping, cost_weight=0.0)
    found = choose(made, f"r{number}", seed=number, allowed_experts=(STRONG, B))
    assert found.expert in {STRONG, B}
    assert {r.expert for r in found.retrieved} <= {STRONG, B}


def test_allowing_without_the_reference_is_rejected() -> None:
    with pytest.raises(EventRejected) as rejected:
        choose(state(), allowed_experts=(B,))
    assert rejected.value.code == "reference_not_allowed"


def test_without_a_cost_weight_the_best_score_serves() -> None:
    made = state(threshold=0.0, cost_weight=0.0, epsilon=0.0, tau=0.001)
    for n in range(200):
        found = choose(made, f"r{n}", seed=n)
        scored = {r.expert: r.score or 0.0 for r in found.retrieved}
        among = candidates(found) | {STRONG}
        assert found.expert == max(among, key=lambda e: scored[e])


@pytest.mark.parametrize("weight", [1e4, 1e30, 1e300])
def test_with_a_huge_cost_weight_the_cheapest_candidate_serves(weight: float) -> None:
    made = state(threshold=0.2, cost_weight=weight, epsilon=0.0, tau=0.001)
    for n in range(100):
        found = choose(made, f"r{n}", seed=n)
        among = candidates(found) | {STRONG}
        assert found.expert == min(among, key=lambda e: made.members[e].cost(1))


def test_the_cheapest_policy_serves_the_cheapest_candidate() -> None:
    made = state(threshold=0.2, policy="cheapest", cost_weight=0.0, epsilon=0.0, tau=0.001)
    for n in range(100):
        found = choose(made, f"r{n}", seed=n)
        among = candidates(found) | {STRONG}
        assert found.expert == min(among, key=lambda e: made.members[e].cost(1))


def test_degraded_decisions_do_not_explore() -> None:
    made = state(threshold=0.0, epsilon=0.05, statuses={A: ExpertStatus.RAMPING})
    found = [choose(made, f"r{n}", degraded=True) for n in range(500)]
    assert {f.propensity for f in found} == {1.0}
    assert not {f.reason for f in found} & {Reason.EXPLORED, Reason.RAMP}


@pytest.mark.parametrize(("ramping", "requests"), [(0, 4_000), (2, 20_000)])
def test_exploration_is_as_frequent_as_its_stored_propensity(
    ramping: int, requests: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The deterministic choice is the same for every id here, so counts and propensities meet."""
    monkeypatch.setattr(route_module, "jittered", lambda quality, ids, names: quality)
    quality = {STRONG: 0.5, A: 0.9, B: 0.8, C: 0.7, NAMES[4]: 0.1}
    statuses = dict.fromkeys((C, NAMES[4])[:ramping], ExpertStatus.RAMPING)
    made = state(
        model=constant_scorer(quality),
        threshold=0.6,
        epsilon=0.05,
        ramp_quota=0.01,
        cost_weight=0.0,
        tau=0.001,
        statuses=statuses,
    )
    found = [choose(made, f"request-{n}") for n in range(requests)]
    counts = Counter(f.expert for f in found)
    propensity = {f.expert: f.propensity for f in found}
    assert sum(propensity.values()) == pytest.approx(1.0)
    for expert, p in propensity.items():
        tolerance = 4.0 * (p * (1.0 - p) / requests) ** 0.5
        assert counts[expert] / requests == pytest.approx(p, abs=tolerance)
    quota = sum(f.reason is Reason.RAMP for f in found) / requests
    assert quota == pytest.approx(0.01 if ramping else 0.0, abs=0.003)
    inside = {f.expert for f in found if f.reason is not Reason.RAMP}
    assert inside <= {STRONG, A, B, C} - set(statuses)


def test_due_experts_cover_all_of_the_set_at_every_threshold() -> None:
    made = state(threshold=0.3)
    for n in range(200):
        found = choose(made, f"r{n}", seed=n)
        due = due_experts(RequestId(f"r{n}"), made, found.retrieved)
        at_zero = choose(replace(made, threshold=0.0), f"r{n}", seed=n)
        assert candidates(at_zero) <= set(due)
        assert len(due) == len(set(due)) == 5
        assert STRONG not in due
