"""Modes ``off``, ``observe`` and ``apply``: what is served, judged, learnt and counted."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.local import LocalLoop
from ingest.wire import decode_decision, encode_decision
from online.route import route
from online.state import RoutingState
from recalibrate.hindsight import CertifiedAt
from recalibrate.phases import phase_summary
from store.errors import SettingsInvalid
from store.policy import PolicySettings
from store.postgres.rows import decision_of, decision_row
from store.records import (
    FOLDS,
    SAFE,
    ExpertId,
    ExpertStatus,
    Reason,
    RequestId,
    TaskStatus,
)
from tests import factories
from tests.factories import embedding, prompt
from tests.unit import story
from tests.unit.loop_fakes import (
    QUALITY,
    SMALL,
    STRONG,
    TINY,
    TRAINED,
    ClusterEncoder,
    alerts_of,
    cheap_share,
    expert_of,
    loop,
    run,
    state_of,
    traffic,
)
from tests.unit.state_fakes import NAMES, state

NEW = ExpertId("new")
S = ExpertStatus


def in_mode(made: RoutingState, mode: str) -> RoutingState:
    return replace(made, policy=replace(made.policy, mode=mode))


numbers = st.integers(0, 10_000)
thresholds = st.one_of(st.floats(0.0, 1.0), st.just(SAFE))
states = st.builds(
    lambda threshold, status, policy: state(
        threshold=threshold, epsilon=0.05, statuses={NAMES[1]: status}, policy=policy
    ),
    thresholds,
    st.sampled_from([S.CERTIFIED, S.RAMPING, S.SHADOW]),
    st.sampled_from(["auto", "cheapest", "reference"]),
)


@given(numbers, st.integers(0, FOLDS - 1), states, st.booleans())
def test_observing_serves_the_reference_and_notes_what_apply_would_serve(
    number: int, fold: int, made: RoutingState, degraded: bool
) -> None:
    asked = prompt(f"r{number}")
    applied = route(
        asked, embedding(number), made, fold=fold, category="unknown", degraded=degraded
    )
    observed = route(
        asked,
        embedding(number),
        in_mode(made, "observe"),
        fold=fold,
        category="unknown",
        degraded=degraded,
    )
    assert (observed.expert, observed.reason, observed.propensity) == (
        made.policy.reference,
        Reason.OBSERVED,
        1.0,
    )
    assert (observed.would_serve, observed.would_reason) == (applied.expert, applied.reason)
    assert applied.would_serve is None
    logged = ("retrieved", "gap", "gap_confidence", "comparator_probability")
    assert [getattr(observed, n) for n in logged] == [getattr(applied, n) for n in logged]


@given(numbers, st.integers(0, FOLDS - 1), states)
def test_off_serves_the_reference_and_looks_at_nothing(
    number: int, fold: int, made: RoutingState
) -> None:
    found = route(
        prompt(f"r{number}"), embedding(number), in_mode(made, "off"), fold=fold, category="unknown"
    )
    assert (found.expert, found.reason, found.propensity) == (
        made.policy.reference,
        Reason.OFF,
        1.0,
    )
    assert (found.retrieved, found.would_serve) == ((), None)


@pytest.mark.parametrize("mode", ["apply", "observe", "off"])
def test_a_pin_is_served_in_every_mode(mode: str) -> None:
    asked = prompt("r1", pinned_expert=NAMES[2])
    found = route(asked, embedding(1), in_mode(state(), mode), fold=0, category="unknown")
    assert (found.expert, found.reason, found.would_serve) == (NAMES[2], Reason.PINNED, None)


@pytest.mark.parametrize("mode", ["observe", "off"])
def test_a_state_without_a_scorer_still_serves_by_mode(mode: str) -> None:
    cold = replace(
        state(threshold=SAFE), model=None, safe_reason=Reason.SAFE_COLD, effective_labels=0.0
    )
    found = route(prompt("r1"), embedding(1), in_mode(cold, mode), fold=0, category="unknown")
    assert found.expert == STRONG
    assert found.reason == {"observe": Reason.OBSERVED, "off": Reason.OFF}[mode]
    assert found.would_reason == {"observe": Reason.SAFE_COLD, "off": None}[mode]


def test_the_threshold_does_not_depend_on_the_mode() -> None:
    made = state()
    assert len({in_mode(made, mode).binding for mode in ("apply", "observe", "off")}) == 1


def test_a_policy_that_was_stored_before_there_were_modes_is_applied() -> None:
    stored = factories.settings().to_json()
    del stored["mode"]
    assert PolicySettings.from_json(stored).mode == "apply"


def test_an_unknown_mode_is_refused_with_the_valid_ones() -> None:
    with pytest.raises(SettingsInvalid, match="apply, observe or off"):
        factories.settings().changed({"mode": "shadow"})


def test_a_decision_keeps_what_would_have_been_served_on_the_wire() -> None:
    made = factories.decision(
        reason=Reason.OBSERVED, would_serve=SMALL, would_reason=Reason.COMPARATOR
    )
    assert decode_decision(encode_decision(made)) == made
    older = json.loads(encode_decision(factories.decision()))
    del older["would_serve"], older["would_reason"]
    assert decode_decision(json.dumps(older).encode()) == factories.decision()


def test_a_row_from_before_there_were_modes_is_read() -> None:
    made = factories.decision(seq=7)
    row: Any = decision_row(made, made.decided_at.date())
    assert decision_of(row) == made
    del row["details"]["would_serve"], row["details"]["would_reason"]
    assert decision_of(row) == made


# The loop


def tasks(made: LocalLoop) -> dict[str, int]:
    with made.ledger.begin() as tx:
        return tx.tasks.counts()


def observed(count: int, **changes: Any) -> LocalLoop:
    made = loop(traffic(count), mode="observe", **changes)
    run(made)
    return made


@pytest.mark.usefixtures("few_cycles")
def test_observing_learns_as_applying_does_and_serves_the_reference_throughout() -> None:
    applied, watched = loop(traffic(500)), loop(traffic(500), mode="observe")
    live, seen = run(applied), run(watched)
    assert {s.decision.expert for s in seen} == {STRONG}
    assert {s.decision.reason for s in seen} == {Reason.OBSERVED}
    assert [s.decision.would_serve for s in seen] == [s.decision.expert for s in live]
    assert [s.decision.would_reason for s in seen] == [s.decision.reason for s in live]
    assert [s.decision.threshold for s in seen] == [s.decision.threshold for s in live]
    assert cheap_share(live[TRAINED:]) > 0.2
    one, other = state_of(applied), state_of(watched)
    assert (one.binding, one.threshold) == (other.binding, other.threshold)


@pytest.mark.usefixtures("few_cycles")
def test_an_expert_is_certified_while_observing_though_nobody_is_served_by_it() -> None:
    made = loop(
        traffic(TRAINED + 224, quality={**QUALITY, NEW: QUALITY[SMALL]}),
        experts=[STRONG, SMALL, TINY],
        mode="observe",
    )
    run(made, last=TRAINED)
    made.add_expert(NEW, factories.expert().price)
    served = []
    seen = {S.REGISTERED}
    for one in made.serve(list(made.traffic.prompts)[TRAINED:]):
        served.append(one)
        seen.add(expert_of(made, NEW).status)
    assert S.RAMPING in seen
    assert expert_of(made, NEW).status is S.CERTIFIED
    assert {s.decision.expert for s in served} == {STRONG}


@pytest.mark.usefixtures("few_cycles")
def test_a_regression_is_alarmed_while_observing() -> None:
    worse = {**QUALITY, SMALL: (0.2, 0.2, 0.2, 0.2)}
    good, bad = traffic(400), traffic(300, quality=worse, start=400)
    good.prompts |= bad.prompts
    good.answers |= bad.answers
    made = loop(good, mode="observe")
    run(made)
    assert [a.subject for a in alerts_of(made)] == [SMALL]


@pytest.mark.usefixtures("few_cycles")
def test_off_samples_judges_and_probes_nothing_and_alarms_nobody() -> None:
    made = loop(traffic(900, quality={**QUALITY, NEW: QUALITY[SMALL]}), experts=[STRONG, SMALL])
    run(made, last=TRAINED)
    before = tasks(made)
    made.set_policy(replace(made.policy, mode="off", age_half_life_requests=50))
    made.settle()
    made.add_expert(NEW, factories.expert().price)
    served = run(made, first=TRAINED)
    assert {(s.decision.expert, s.decision.reason) for s in served} == {(STRONG, Reason.OFF)}
    assert {(s.decision.is_sampled, s.decision.inclusion_probability) for s in served} == {
        (False, 0.0)
    }
    assert tasks(made) == before
    assert expert_of(made, NEW).status is S.REGISTERED
    assert state_of(made).safe_reason is Reason.SAFE_STARVED
    assert alerts_of(made) == []
    made.set_policy(replace(made.policy, mode="observe"))
    made.settle()  # asks for the probes that nobody asked for meanwhile
    made.settle()
    assert tasks(made)["done"] > before["done"]


@pytest.mark.usefixtures("few_cycles")
def test_tasks_that_wait_when_it_is_turned_off_wait_until_it_is_turned_on() -> None:
    made = loop(traffic(96))
    list(made.serve(list(made.traffic.prompts)[:48], judge=lambda: False))
    waiting = tasks(made)[TaskStatus.PENDING]
    assert waiting == 48
    made.set_policy(replace(made.policy, mode="off"))
    assert made.worker.step() == 0
    assert tasks(made)[TaskStatus.PENDING] == waiting
    made.set_policy(replace(made.policy, mode="apply"))
    made.settle()
    assert tasks(made)[TaskStatus.PENDING] == 0


@pytest.mark.usefixtures("few_cycles")
def test_from_observing_to_applying_the_threshold_stays_and_traffic_moves() -> None:
    made = loop(traffic(TRAINED + 200), mode="observe")
    run(made, last=TRAINED)
    before = state_of(made)
    made.set_policy(replace(made.policy, mode="apply"))
    made.settle(judge=False)
    assert (state_of(made).binding, state_of(made).threshold) == (before.binding, before.threshold)
    served = run(made, first=TRAINED)
    assert cheap_share(served) > 0.2
    assert {s.decision.would_serve for s in served} == {None}


# Counting


def test_observed_requests_are_no_evidence_that_the_promise_was_held() -> None:
    requests = [
        story.request(i, STRONG, reason=Reason.OBSERVED, would_serve=SMALL) for i in range(60)
    ]
    requests += [story.request(60 + i, STRONG, reason=Reason.OFF) for i in range(20)]
    bad = story.graded(cheap=0.1, strong=0.9)
    requests += [story.request(80 + i, answers=bad) for i in range(20)]
    found = phase_summary("stream", requests, story.facts(requests), CertifiedAt([]))
    assert (found.regret.requests, found.regret.unacceptable) == (20, 20)
    assert found.shares is not None
    assert found.shares.not_routed == 0.8


def test_a_sampled_id_in_mode_off_is_not_sampled() -> None:
    made = loop(traffic(16), mode="off")
    run(made)
    with made.ledger.begin() as tx:
        names = {RequestId(f"r{n}") for n in range(16)}
        assert tx.decisions.sampled(names, encoder=ClusterEncoder.identity) == []
