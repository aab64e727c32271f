"""An expert earns its place: nobody is served on trust, and probes alone certify nobody."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ingest.local import LocalLoop
from online.learn import JudgedRequest
from recalibrate.inputs import read_inputs
from recalibrate.lifecycle import ORDER, PROBES, Lifecycle, Progress, next_status
from store.memory_tables import Tables
from store.needs import Capabilities
from store.records import PROBE, TRAFFIC, ExpertId, ExpertStatus, Price, Reason
from tests.factories import expert, sampled
from tests.unit.loop_fakes import (
    QUALITY,
    SMALL,
    STRONG,
    TINY,
    TRAINED,
    ClusterEncoder,
    cheap_share,
    expert_of,
    joined,
    loop,
    policy,
    run,
    scorer_of,
    state_of,
    traffic,
    trained,
)

NEW = ExpertId("new")
S = ExpertStatus


pytestmark = pytest.mark.usefixtures("few_cycles")


def test_an_expert_without_room_for_any_request_is_never_asked_and_costs_no_other() -> None:
    """Its missing labels are no losses: the others earn and keep their place."""
    made = loop(traffic(TRAINED + 100))
    with made.ledger.begin() as tx:
        tx.experts.set_capabilities(TINY, Capabilities(context_tokens=100))
    served = run(made)
    with made.ledger.begin() as tx:
        labels = tx.labels.settled_since(0).labels
    assert {x.expert for x in labels if x.request_id in list(made.traffic.prompts)[16:]} == {
        STRONG,
        SMALL,
    }
    assert expert_of(made, SMALL).status is S.CERTIFIED
    assert state_of(made).safe_reason is None
    assert cheap_share(served[TRAINED:]) > 0.3
    assert {s.decision.excluded.get(TINY) for s in served[16:]} == {"context_window"}


def test_an_expert_is_not_probed_on_what_it_could_not_serve() -> None:
    made = trained()
    for name, room in (("new", 10_000), ("narrow", 100)):
        can = Capabilities(context_tokens=room)
        with made.ledger.begin() as tx:
            tx.experts.add(expert(name, capabilities=can, added_at=made.clock.now()))
    made.settle(judge=False)
    with made.ledger.begin() as tx:
        waiting = tx.tasks.lease(worker="w", now=made.clock.now(), lease_s=9.0, limit=999)
    assert {t.experts for t in waiting} == {(NEW,)}
    assert expert_of(made, ExpertId("narrow")).status is S.SHADOW


def progress(**changes: Any) -> Progress:
    values: dict[str, Any] = {"probes": 0, "traffic": 0, "has_evidence": False} | changes
    return Progress(**values)


@pytest.mark.parametrize(
    ("status", "seen", "asked", "expected"),
    [
        (S.REGISTERED, progress(), 0, S.DESCRIBED),
        (S.REGISTERED, progress(probes=172), 192, S.REGISTERED),
        (S.REGISTERED, progress(probes=173), 192, S.DESCRIBED),
        (S.DESCRIBED, progress(), 0, S.SHADOW),
        (S.DESCRIBED, progress(probes=192), 192, S.DESCRIBED),
        (S.DESCRIBED, progress(has_evidence=True), 192, S.SHADOW),
        (S.SHADOW, progress(traffic=29, has_evidence=True), 0, S.SHADOW),
        (S.SHADOW, progress(traffic=30), 0, S.SHADOW),
        (S.SHADOW, progress(traffic=30, has_evidence=True), 0, S.RAMPING),
        (S.RAMPING, progress(probes=999, traffic=999, has_evidence=True), 0, S.RAMPING),
        (S.CERTIFIED, progress(), 0, S.CERTIFIED),
        (S.PAUSED, progress(traffic=999, has_evidence=True), 0, S.PAUSED),
        (S.RETIRED, progress(traffic=999, has_evidence=True), 0, S.RETIRED),
    ],
)
def test_each_step_is_earned(
    status: ExpertStatus, seen: Progress, asked: int, expected: ExpertStatus
) -> None:
    assert next_status(expert(status=status), seen, probes_asked=asked) is expected


def test_a_restarted_learner_still_waits_for_the_evidence_of_probes() -> None:
    made = trained()
    described = expert(NEW, status=S.DESCRIBED)
    inputs = read_inputs(made.ledger, made.clock)
    assert inputs is not None
    rows = [JudgedRequest(request=sampled(seq), probed={NEW}) for seq in range(PROBES)]
    for probes, expected in ((rows, S.DESCRIBED), ([], S.SHADOW)):
        restarted = Lifecycle(made.ledger, encoder=ClusterEncoder.identity)
        (moved,) = restarted.advanced(replace(inputs, experts=(described,)), probes, None, None)
        assert moved.status is expected


def traffic_labels(made: LocalLoop, name: ExpertId) -> int:
    with made.ledger.begin() as tx:
        labels = tx.labels.settled_since(0).labels
    return sum(x.expert == name and x.purpose == TRAFFIC for x in labels)


def tables(made: LocalLoop) -> Tables:
    return made.ledger._tables


def with_newcomer(chances: tuple[float, ...] = QUALITY[SMALL], more: int = 224) -> LocalLoop:
    """A trained loop; the newcomer's answers are recorded for all of its traffic."""
    made = loop(
        traffic(TRAINED + more, quality={**QUALITY, NEW: chances}), experts=[STRONG, SMALL, TINY]
    )
    run(made, last=TRAINED)
    return made


def test_an_expert_goes_from_registered_to_certified_in_order_and_on_its_labels() -> None:
    made = with_newcomer()
    seen = [S.REGISTERED]
    made.add_expert(NEW, Price(request_usd=0.1))
    for start in range(TRAINED, TRAINED + 224, 32):
        status = expert_of(made, NEW).status
        if status is not seen[-1]:
            seen.append(status)
        served = run(made, first=start, last=start + 32)
        if expert_of(made, NEW).status is not S.CERTIFIED:
            assert {s.decision.reason for s in served if s.decision.expert == NEW} <= {Reason.RAMP}
        if expert_of(made, NEW).status is S.CERTIFIED:
            break
    assert expert_of(made, NEW).status is S.CERTIFIED
    assert [ORDER.index(s) for s in seen] == sorted(ORDER.index(s) for s in seen)
    assert traffic_labels(made, NEW) >= 100
    assert state_of(made).safe_reason is None
    found = expert_of(made, NEW).baseline
    assert found.floor is not None
    assert 0.0 < found.floor < 1.0
    assert (found.seq > TRAINED, found.reference) == (True, STRONG)


def test_an_expert_too_bad_for_the_target_costs_nobody_theirs() -> None:
    """It may be certified (λ keeps it out of C_λ), but it is not served beyond the target."""
    made = with_newcomer(chances=(0.02, 0.02, 0.02, 0.02))
    made.add_expert(NEW, Price(request_usd=0.001))
    served = run(made, first=TRAINED)
    assert sum(s.decision.expert == NEW for s in served[112:]) <= 0.1 * len(served[112:])
    assert state_of(made).safe_reason is None


def test_too_few_labels_never_cost_a_certification() -> None:
    made = trained()
    made.set_policy(policy(age_half_life_requests=20))
    made.settle()
    assert state_of(made).safe_reason is Reason.SAFE_STARVED
    assert expert_of(made, SMALL).status is S.CERTIFIED


def test_a_baseline_against_another_reference_is_void() -> None:
    made = trained(more=160)
    first = expert_of(made, SMALL).baseline
    assert first.reference == STRONG
    made.set_policy(policy(reference=TINY))
    made.settle()
    assert {expert_of(made, name).baseline.floor for name in (STRONG, SMALL, TINY)} == {None}
    run(made, first=TRAINED)
    second = expert_of(made, SMALL).baseline
    assert (second.reference, second.seq > first.seq) == (TINY, True)
    assert second.floor is not None
    assert expert_of(made, TINY).baseline.floor is None


def test_a_paused_expert_loses_its_baseline() -> None:
    made = trained()
    taken = expert_of(made, SMALL).baseline
    assert taken.floor is not None
    with made.ledger.begin() as tx:
        now = made.clock.now()
        assert tx.experts.set_status(SMALL, before=S.CERTIFIED, after=S.PAUSED, now=now)
    made.settle()
    assert expert_of(made, SMALL).baseline == replace(taken, floor=None)


def test_probes_leave_fold_zero_out_and_are_judged_requests() -> None:
    made = with_newcomer()
    made.add_expert(NEW, Price(request_usd=0.1))
    made.settle()
    held = tables(made)
    probes = [t.task for t in held.tasks.values() if t.task.purpose == PROBE]
    assert 0 < len(probes) <= PROBES
    assert all(held.decisions[t.request_id].fold != 0 for t in probes)
    assert all(t.experts == (NEW,) for t in probes)
    assert len({t.request_id for t in probes}) == len(probes)


def test_probes_alone_certify_nobody() -> None:
    made = with_newcomer()
    made.set_policy(policy(label_rate=0.0))
    made.add_expert(NEW, Price(request_usd=0.1))
    run(made, first=TRAINED)
    assert expert_of(made, NEW).status is S.SHADOW
    assert traffic_labels(made, NEW) == 0
    column = scorer_of(made).columns.index(NEW)
    assert scorer_of(made).evidence[0, column] >= 8.0


def test_probes_do_not_enter_fold_zero_s_calibration_of_a_newcomer() -> None:
    made = with_newcomer()
    made.add_expert(NEW, Price(request_usd=0.1))
    made.settle()
    rows = made.recalibrator._window.rows()
    assert not any(NEW in row.probed for row in rows if row.request.fold == 0)


def test_an_expert_that_never_answers_goes_nowhere_and_stops_nobody() -> None:
    silent = traffic(TRAINED + 96, quality=QUALITY)
    made = loop(silent, experts=[STRONG, SMALL, TINY])
    run(made, last=TRAINED)
    made.add_expert(NEW, Price(request_usd=0.1))
    for _ in range(8):
        made.clock.advance(60.0)
        made.settle()
    served = run(made, first=TRAINED)
    assert expert_of(made, NEW).status in {S.REGISTERED, S.DESCRIBED}
    assert cheap_share(served) > 0.3
    assert all(s.decision.expert != NEW for s in served)


def test_a_paused_expert_comes_back_as_a_shadow_and_is_not_served_on_trust() -> None:
    made = with_newcomer(more=32)
    with made.ledger.begin() as tx:
        now = made.clock.now()
        tx.experts.set_status(SMALL, before=S.CERTIFIED, after=S.PAUSED, now=now)
    made.settle()
    with made.ledger.begin() as tx:
        tx.experts.set_status(SMALL, before=S.PAUSED, after=S.SHADOW, now=now)
    served = run(made, first=TRAINED, last=TRAINED + 16)
    assert all(s.decision.expert != SMALL for s in served)


def test_the_first_experts_start_without_probes() -> None:
    made = loop(joined(traffic(16)))
    assert expert_of(made, SMALL).status is S.SHADOW
    assert expert_of(made, STRONG).status is S.CERTIFIED
