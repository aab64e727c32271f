"""Hard filters: who cannot serve is neither served, nor explored, nor judged, and is named."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from judge.sampling import due_experts
from online.obstacles import Obstacle, needs_of, obstacle
from online.route import Choice, fallback, route
from online.scorer import ScorerModel
from online.state import RoutingState
from store.errors import EventRejected
from store.needs import Capabilities, Needs, check_capabilities
from store.records import SAFE, ExpertId, ExpertStatus, Reason, RequestId
from tests.factories import embedding, prompt
from tests.unit.state_fakes import NAMES, STRONG, scorer, state
from tests.unit.test_route import candidates

A, B, C, D = NAMES[1:5]
EVERYTHING = Capabilities(tools=True, json_mode=True, regions=("eu",))
TOOLS = Needs(tools=True)
X = ExpertId("x")


def declared(made: RoutingState, can: Mapping[ExpertId, Capabilities]) -> RoutingState:
    """Return the state with the reference able to do everything, and others as given."""
    known = {STRONG: EVERYTHING} | dict(can)
    pool = tuple(replace(m, capabilities=known.get(m.name, m.capabilities)) for m in made.pool)
    return replace(made, pool=pool)


def choose(made: RoutingState, number: int, **asked: Any) -> Choice:
    return route(prompt(f"r{number}", **asked), embedding(number), made, fold=0, category="unknown")


@pytest.mark.parametrize(
    ("needs", "can", "found"),
    [
        (Needs(), Capabilities(), None),
        (Needs(input_tokens=10**9), Capabilities(), None),
        (Needs(input_tokens=744), Capabilities(context_tokens=1_000), None),
        (Needs(input_tokens=745), Capabilities(context_tokens=1_000), Obstacle.CONTEXT_WINDOW),
        (
            Needs(input_tokens=1, output_tokens=1_000),
            Capabilities(context_tokens=1_000),
            Obstacle.CONTEXT_WINDOW,
        ),
        (Needs(output_tokens=9), Capabilities(max_output_tokens=9), None),
        (Needs(output_tokens=10), Capabilities(max_output_tokens=9), Obstacle.OUTPUT_LIMIT),
        (Needs(), Capabilities(max_output_tokens=9), None),
        (TOOLS, Capabilities(), Obstacle.TOOLS),
        (TOOLS, Capabilities(tools=True), None),
        (Needs(json_mode=True), Capabilities(tools=True), Obstacle.JSON_MODE),
        (Needs(regions=("eu",)), Capabilities(), Obstacle.REGION),
        (Needs(regions=("eu",)), Capabilities(regions=("us",)), Obstacle.REGION),
        (Needs(regions=("eu", "ch")), Capabilities(regions=("eu",)), None),
        (Needs(regions=("eu",)), Capabilities(regions=("eu", "us")), Obstacle.REGION),
        (Needs(allowed=("y",)), EVERYTHING, Obstacle.NOT_ALLOWED),
        (Needs(allowed=("x", "y")), EVERYTHING, None),
    ],
)
def test_the_rule(needs: Needs, can: Capabilities, found: Obstacle | None) -> None:
    """An ability that is not declared is missing, a limit that is not declared is none; a prompt
    stays within its regions only if every region of the expert is allowed.
    """
    assert obstacle(needs, X, can) is found


def test_a_prompt_is_counted_with_headroom_in_any_script() -> None:
    assert needs_of(prompt(text="a" * 4_000)).input_tokens == 1_250
    assert needs_of(prompt(text="字" * 4_000)).input_tokens == 3_750
    assert needs_of(prompt(text="a")).input_tokens == 2


def test_who_cannot_serve_is_left_out_with_the_reason() -> None:
    made = declared(state(threshold=0.0), {A: EVERYTHING, B: Capabilities(json_mode=True)})
    found = choose(made, 1, needs=TOOLS)
    assert found.excluded == dict.fromkeys(set(NAMES) - {STRONG, A}, "tools")
    assert {r.expert for r in found.retrieved} == {STRONG, A}
    assert found.needs == replace(TOOLS, input_tokens=needs_of(prompt()).input_tokens)


def test_a_request_without_needs_excludes_only_who_has_no_room() -> None:
    made = declared(state(), {A: Capabilities(context_tokens=256), B: Capabilities(tools=True)})
    assert choose(made, 1).excluded == {A: "context_window"}


@given(st.integers(0, 3_000), st.floats(0.0, 1.0), st.sets(st.sampled_from(NAMES[1:])))
def test_a_filter_only_takes_candidates_away_and_keeps_the_set_nested(
    number: int, threshold: float, able: set[ExpertId]
) -> None:
    made = declared(state(threshold=threshold), dict.fromkeys(able, EVERYTHING))
    inside = candidates(choose(made, number, needs=TOOLS))
    assert inside == candidates(choose(made, number)) & able
    wider = candidates(choose(replace(made, threshold=0.0), number, needs=TOOLS))
    assert inside <= wider


def test_an_excluded_expert_is_never_served_explored_ramped_or_judged() -> None:
    made = declared(
        state(threshold=0.0, epsilon=0.05, statuses={B: ExpertStatus.RAMPING}),
        {A: EVERYTHING, C: Capabilities(regions=("us",))},
    )
    asked = {"needs": Needs(regions=("eu",))}
    found = [choose(made, n, **asked) for n in range(4_000)]
    assert {f.expert for f in found} == {STRONG, A}
    assert {f.reason for f in found} >= {Reason.ROUTED, Reason.EXPLORED}
    assert Reason.RAMP not in {f.reason for f in found}
    assert any(choose(made, n).reason is Reason.RAMP for n in range(2_000))
    for number, choice in enumerate(found[:200]):
        due = due_experts(RequestId(f"r{number}"), made, choice.retrieved, choice.excluded)
        assert set(due) == {A}


@given(st.integers(0, 2_000), st.sets(st.integers(0, 8), min_size=5))
def test_every_member_of_a_filtered_set_is_judged_in_a_large_pool(
    number: int, able: set[int]
) -> None:
    names = (STRONG, *(ExpertId(f"x{i}") for i in range(9)))
    made = state(model=scorer(names, seed=number % 7), threshold=0.0)
    made = declared(made, {names[i + 1]: EVERYTHING for i in able})
    found = choose(made, number, needs=TOOLS)
    due = due_experts(RequestId(f"r{number}"), made, found.retrieved, found.excluded)
    assert candidates(found) <= set(due)
    assert not set(due) & set(found.excluded)


def wide(count: int) -> ScorerModel:
    return scorer((STRONG, *(ExpertId(f"x{i}") for i in range(count))))


def test_those_who_can_are_retrieved_however_many_cannot() -> None:
    """40 experts, 16 retrieved: the filter comes first."""
    made = state(model=wide(40), threshold=0.0)
    able = [ExpertId(f"x{i}") for i in range(0, 40, 4)]
    found = choose(declared(made, dict.fromkeys(able, EVERYTHING)), 1, needs=TOOLS)
    assert {r.expert for r in found.retrieved} == {STRONG, *able}
    assert len(choose(made, 1).retrieved) in {16, 17}


def test_a_pin_to_who_cannot_serve_is_refused_and_says_what_would_do() -> None:
    made = declared(state(), {A: Capabilities(context_tokens=1_000)})
    with pytest.raises(EventRejected, match=r"window of 1000 tokens.* about 1506") as refused:
        choose(made, 1, pinned_expert=A, text="a" * 4_000)
    assert (refused.value.code, refused.value.field) == ("expert_cannot_serve", "expert")
    assert choose(made, 1, pinned_expert=A).expert == A


def test_a_pin_does_without_a_reference_that_cannot_serve() -> None:
    made = declared(state(), {STRONG: Capabilities(), A: EVERYTHING})
    assert choose(made, 1, needs=TOOLS, pinned_expert=A).expert == A


@pytest.mark.parametrize("threshold", [0.4, SAFE])
@pytest.mark.parametrize("degraded", [False, True])
@pytest.mark.parametrize(
    ("needs", "field", "says"),
    [
        (TOOLS, "needs.tools", "does not declare tools"),
        (Needs(json_mode=True), "needs.json_mode", "does not declare json_mode"),
        (Needs(regions=("eu",)), "needs.regions", "may process a prompt in us"),
        (Needs(output_tokens=600), "needs.output_tokens", "writes at most 500 tokens, 600"),
        (Needs(output_tokens=10**6), "prompt", "window of 9000 tokens"),
    ],
)
def test_what_the_reference_cannot_serve_is_refused(
    needs: Needs, field: str, says: str, threshold: float, *, degraded: bool
) -> None:
    limits = Capabilities(context_tokens=9_000, max_output_tokens=500, regions=("us",))
    made = declared(state(threshold=threshold), {STRONG: limits, A: EVERYTHING})
    with pytest.raises(EventRejected, match=says) as refused:
        route(
            prompt(needs=needs), embedding(1), made, fold=0, category="unknown", degraded=degraded
        )
    assert refused.value.code == "reference_cannot_serve"
    assert refused.value.field == field


def test_an_error_serves_the_reference_and_still_names_the_excluded() -> None:
    """Nobody may be judged on a prompt that may not go there, whatever went wrong."""
    found = fallback(prompt(needs=TOOLS), declared(state(), {A: EVERYTHING}))
    assert (found.expert, found.reason) == (STRONG, Reason.ERROR)
    assert set(found.excluded) == set(NAMES) - {STRONG, A}


@pytest.mark.parametrize(
    ("wrong", "part"),
    [
        (Capabilities(context_tokens=0), "context_tokens"),
        (Capabilities(max_output_tokens=2**31), "max_output_tokens"),
        (Capabilities(regions=("",)), "regions"),
        (Capabilities(regions=("e\nu",)), "regions"),
        (Capabilities(regions=tuple("abc" * 11)), "regions"),
    ],
)
def test_a_declaration_that_means_nothing_is_refused(wrong: Capabilities, part: str) -> None:
    with pytest.raises(EventRejected, match=part):
        check_capabilities(wrong)
