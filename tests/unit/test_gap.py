"""The gap, its confidence, and the comparator that decides below τ."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from online.cargo import GapConfidence, confidence, outcome, sigmoid
from online.categories import NAMES, UNKNOWN
from online.comparator import Comparator, probability
from online.regress import RegressorModel, score
from online.route import Choice, route
from online.state import RoutingState
from store.records import FOLDS, FloatArray, Reason, Retrieved
from tests.factories import embedding, prompt
from tests.unit.state_fakes import STRONG, scorer, state
from tests.unit.test_route import candidates

FINITE = st.floats(-1e3, 1e3)
ROW = npst.arrays(np.float64, 4, elements=FINITE)


@given(ROW, ROW, ROW)
def test_the_comparator_is_antisymmetric(
    first: FloatArray, second: FloatArray, w: FloatArray
) -> None:
    forth, back = probability(first, second, w), probability(second, first, w)
    assert forth + back == pytest.approx(1.0)
    assert probability(first, first, w) == 0.5


@given(st.floats(allow_nan=False))
def test_the_logistic_function_never_overflows(x: float) -> None:
    assert 0.0 <= sigmoid(x) <= 1.0


@given(npst.arrays(np.float64, 2, elements=FINITE), st.floats(0, 10), st.floats(0, 10))
def test_confidence_never_falls_as_the_gap_grows(
    frozen: FloatArray, one: float, other: float
) -> None:
    low, high = sorted((one, other))
    assert confidence(low, frozen) <= confidence(high, frozen)


def test_confidence_learns_that_small_gaps_mislead() -> None:
    learnt = GapConfidence()
    rng = np.random.default_rng(0)
    for gap in rng.uniform(0.0, 1.0, 4_000):
        learnt.learn(gap, first_holds=bool(rng.random() < 0.5 + gap / 2), weight=1.0)
    frozen = learnt.frozen()
    assert confidence(0.02, frozen) == pytest.approx(0.5, abs=0.1)
    assert confidence(0.9, frozen) > 0.85


@pytest.mark.parametrize("chance", [0.2, 0.49, 0.9])
def test_confidence_is_the_share_that_holds_where_gaps_lie_together(chance: float) -> None:
    learnt = GapConfidence()
    rng = np.random.default_rng(1)
    for n, gap in enumerate(rng.normal(0.83, 0.05, 3_000)):
        learnt.learn(gap, first_holds=bool(rng.random() < chance), weight=1.0)
        if n > 500 and n % 100 == 0:
            assert confidence(0.83, learnt.frozen()) == pytest.approx(chance, abs=0.2)


def test_nothing_learnt_is_no_confidence_either_way() -> None:
    assert confidence(0.3, GapConfidence().frozen()) == 0.5


def test_the_comparator_learns_which_description_wins() -> None:
    learnt = Comparator()
    rng = np.random.default_rng(0)
    for _ in range(2_000):
        first, second = rng.normal(size=(2, 4))
        learnt.learn(first, second, beats=float(first[0] > second[0]), weight=1.0)
    assert probability(np.array([1.0, 0, 0, 0]), np.zeros(4), learnt.frozen()) > 0.8


def test_a_tie_teaches_no_preference() -> None:
    learnt = Comparator()
    for _ in range(100):
        learnt.learn(np.ones(4), np.zeros(4), beats=0.5, weight=1.0)
    assert probability(np.ones(4), np.zeros(4), learnt.frozen()) == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize(
    ("lead", "saving", "beats"),
    [
        (0.2, 0.0, 1.0),  # better
        (0.2, -0.9, 1.0),  # better and dearer: quality beyond the margin comes first
        (-0.2, 0.9, 0.0),  # worse and cheaper
        (0.05, -0.9, 0.0),  # as good, dearer; 0.05 is the margin itself
        (-0.05, 0.9, 1.0),  # as good, cheaper
        (0.9 - 0.85, -0.1, 0.0),  # the margin after rounding
        (0.0, 0.0, 0.5),
    ],
)
def test_a_judged_pair_is_won_by_quality_beyond_the_margin_and_by_cost_within(
    lead: float, saving: float, beats: float
) -> None:
    assert outcome(lead, saving, margin=0.05) == beats
    assert outcome(-lead, -saving, margin=0.05) == 1.0 - beats


def chosen(made: RoutingState, n: int) -> Choice:
    return route(prompt(f"r{n}"), embedding(n), made, fold=n % FOLDS, category="unknown")


def test_the_comparator_is_asked_exactly_below_tau() -> None:
    asked = set()
    made = state(threshold=0.3, tau=0.75, cost_weight=0.0, epsilon=0.0)
    for n in range(400):
        found = chosen(made, n)
        assert found.gap is not None
        assert found.gap_confidence is not None
        assert (found.comparator_probability is not None) == (found.gap_confidence < 0.75)
        asked.add(found.comparator_probability is not None)
    assert asked == {True, False}


def best_two(found: Choice) -> tuple[Retrieved, Retrieved]:
    known = [r for r in found.retrieved if r.utility is not None]
    first, second = sorted(known, key=lambda r: -(r.utility or 0.0))[:2]
    return first, second


@pytest.mark.parametrize("category", ["coding", "unknown", "a newer one"])
def test_the_gap_is_that_of_the_regressors_for_the_two_best_by_utility(category: str) -> None:
    """Those of the prompt's category and of its fold's entry."""
    signs = set()
    model = scorer()
    assert model.regressors is not None
    for n in range(200):
        made = state(model=model, threshold=0.3, cost_weight=0.2)
        found = route(prompt(f"r{n}"), embedding(n), made, fold=n % FOLDS, category=category)
        columns = [model.columns.index(r.expert) for r in best_two(found)]
        kind = NAMES.index(category) if category in NAMES else NAMES.index(UNKNOWN)
        maps = RegressorModel(
            model.centroids[n % FOLDS], model.regressors[n % FOLDS, [kind]], np.ones(6)
        )
        first, second = score(maps, embedding(n)[None], np.array([0]))[0, columns]
        assert found.gap == pytest.approx(first - second)
        signs.add((found.gap or 0.0) > 0.0)
    assert signs == {True, False}


def test_a_state_from_before_the_regressors_takes_the_gap_of_the_scores() -> None:
    made = state(model=replace(scorer(), regressors=None), threshold=0.3, cost_weight=0.2)
    for n in range(50):
        found = chosen(made, n)
        first, second = best_two(found)
        assert found.gap == pytest.approx((first.score or 0.0) - (second.score or 0.0))


def test_the_comparator_decides_only_when_both_may_be_served() -> None:
    made = state(threshold=0.6, tau=0.999, cost_weight=0.0, epsilon=0.0)
    decided = 0
    for n in range(400):
        found = chosen(made, n)
        best = sorted(found.retrieved, key=lambda r: -(r.utility or -9.0))[:2]
        inside = {r.expert for r in best} <= candidates(found) | {STRONG}
        assert (found.reason is Reason.COMPARATOR) == inside
        assert found.expert in candidates(found) | {STRONG}
        if inside:
            decided += 1
            assert found.comparator_probability is not None
            winner = best[0] if found.comparator_probability >= 0.5 else best[1]
            assert found.expert == winner.expert
    assert 0 < decided < 400


def test_a_single_expert_has_no_gap() -> None:
    alone = scorer((STRONG,))
    found = chosen(replace(state(model=alone, threshold=0.0)), 1)
    assert (found.gap, found.gap_confidence, found.comparator_probability) == (None, None, None)
    assert found.expert == STRONG
