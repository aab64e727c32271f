"""The simulation of drift: its streams are what they say, and its loop is the router's own."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from benchmarks.drift.cuts import NOW, cuts
from benchmarks.drift.labels import Publication, publications, sampled, warm_up
from benchmarks.drift.learning import judged_requests, scored, warmed
from benchmarks.drift.loop import Loop, Path
from benchmarks.drift.methods import METHODS, REFERENCE, STATIC
from benchmarks.drift.pools import Pool, acceptable, thirds
from benchmarks.drift.runs import runs
from benchmarks.drift.served import ALL, BEFORE, FIRST, best_by_set, figures, measured, served
from benchmarks.drift.streams import (
    ABRUPT,
    CHANGE,
    POLICY,
    REQUESTS,
    SLOPE,
    STATIONARY,
    WARM,
    Scenario,
    Stream,
    drawn,
    hard_share,
)
from online.clusters import unit_rows
from online.learn import OnlineLearner
from online.route import jittered, route
from online.state import PoolMember, RoutingState
from recalibrate.window import calibration_window, rescore
from store.records import SAFE, Expert, ExpertId, ExpertStatus, Price, PromptReceived

PROMPTS, KINDS = 600, 6
EXPERTS = tuple(ExpertId(name) for name in ("small", "middle", "large"))
COSTS = np.array([0.1, 0.3, 1.0])
SAMPLES = 200


@cache
def pool() -> Pool:
    """Six kinds of prompts; the small expert is worse from kind to kind, the large never is."""
    random = np.random.default_rng(5)
    kinds = np.arange(PROMPTS) % KINDS
    chance = np.stack([0.97 - 0.1 * kinds, 0.95 - 0.05 * kinds, np.full(PROMPTS, 0.97)], axis=1)
    quality = (random.random((PROMPTS, len(EXPERTS))) < chance).astype(float)
    noise = 0.3 * random.normal(size=(PROMPTS, 12))
    easy, hard = thirds(quality, kinds.astype(str), margin=POLICY.margin)
    return Pool(
        name="made",
        embeddings=unit_rows(random.normal(size=(KINDS, 12))[kinds] + noise).astype(np.float32),
        folds=(np.arange(PROMPTS) // KINDS) % 5,
        experts=EXPERTS,
        quality=quality,
        cost=np.tile(COSTS, (PROMPTS, 1)),
        easy=easy,
        hard=hard,
    )


@cache
def learner(scenario: Scenario) -> OnlineLearner:
    rows = judged_requests(pool(), drawn(pool(), scenario, 0), warm_up(scenario))
    return warmed(pool(), rows)


@cache
def ran(scenario: Scenario) -> tuple[Loop, Path, Stream]:
    stream = drawn(pool(), scenario, 0)
    loop = Loop(pool(), scenario, stream, learner(scenario))
    return loop, loop.run(np.random.default_rng(1)), stream


def state_at(threshold: float) -> RoutingState:
    """The router's own state with the simulation's scorer, nothing explored, nobody compared."""
    policy = replace(POLICY, reference=EXPERTS[-1], epsilon=0.0, ramp_quota=0.0, tau=1e-9)
    members = tuple(
        PoolMember(name=name, status=ExpertStatus.CERTIFIED, price=Price(request_usd=float(cost)))
        for name, cost in zip(EXPERTS, COSTS, strict=True)
    )
    return RoutingState(
        version=1,
        parent=0,
        policy=policy,
        policy_version=1,
        encoder="any",
        pool=members,
        model=learner(STATIONARY).frozen(),
        threshold=threshold,
        safe_reason=None,
        effective_labels=100.0,
    )


def test_what_is_acceptable_is_measured_against_the_reference() -> None:
    quality = np.array([[0.5, 0.9], [0.86, 0.9], [1.0, 0.0]])
    assert acceptable(quality, margin=0.05).tolist() == [[False, True], [True, True], [True, True]]


def test_the_ends_of_the_mix_are_whole_kinds_by_how_hard_they_are() -> None:
    kinds = np.arange(PROMPTS) % KINDS
    bad = np.asarray(~acceptable(pool().quality, margin=POLICY.margin).all(axis=1))
    assert len(set(kinds[pool().easy])) == len(set(kinds[pool().hard])) == 2
    assert bad[pool().easy].mean() + 0.2 < bad[pool().hard].mean()


def test_each_mix_has_its_shape() -> None:
    abrupt, slow, cyclic = (hard_share(mix) for mix in ("abrupt", "slow", "cyclic"))
    assert abrupt[CHANGE - 1] == 0.0
    assert abrupt[CHANGE] == 1.0
    assert slow[CHANGE + SLOPE // 2] == pytest.approx(0.5, abs=0.01)
    assert slow[CHANGE - 1] == 0.0
    assert slow[-1] == 1.0
    assert cyclic.mean() == pytest.approx(0.5, abs=0.01)
    hard = np.isin(drawn(pool(), ABRUPT, 3).prompts, pool().hard)
    assert not hard[: WARM + CHANGE].any()
    assert hard[WARM + CHANGE :].all()


def test_a_lenient_judge_turns_bad_answers_only_and_never_the_reference() -> None:
    stream = drawn(pool(), Scenario(name="lenient", lenient=0.1), 0)
    turned = stream.judged != stream.acceptable
    assert not (turned & stream.acceptable).any()
    assert not turned[:, -1].any()
    assert turned[~stream.acceptable].mean() == pytest.approx(0.1, abs=0.02)
    # The quality that the scorer learns from says the same as the verdict.
    assert np.array_equal(acceptable(stream.scores, margin=POLICY.margin), stream.judged)


def test_no_label_is_known_before_its_delay() -> None:
    scenario = Scenario(name="late", delay=700)
    labels = sampled(scenario, np.ones(WARM + REQUESTS), np.random.default_rng(0))
    found = publications(labels, scenario, judged=2)
    assert [one.end for one in found[:-1]] == [one.start for one in found[1:]]
    assert found[0].start == WARM
    assert found[-1].end == WARM + REQUESTS
    for one in found:
        known = labels.positions[WARM : one.known]
        assert one.known >= WARM
        assert np.all(known + scenario.delay < one.start)


def test_an_active_slice_keeps_its_rate_and_its_weights_undo_it() -> None:
    random = np.random.default_rng(2)
    keen = random.random(WARM + REQUESTS) < 0.3
    shares, rates = [], []
    for _ in range(SAMPLES):
        labels = sampled(Scenario(name="active", active=True), np.where(keen, 5.0, 1.0), random)
        asked = labels.positions >= WARM
        inverse = 1.0 / labels.inclusion[asked]
        shares.append(inverse @ keen[labels.positions[asked]] / inverse.sum())
        rates.append(asked.sum() / REQUESTS)
    assert np.mean(rates) == pytest.approx(0.1, abs=0.005)
    assert np.mean(shares) == pytest.approx(keen[WARM:].mean(), abs=0.005)
    assert np.all(labels.inclusion >= labels.minimum_inclusion)


def test_the_window_is_the_one_that_the_learn_role_makes() -> None:
    loop, _, stream = ran(STATIONARY)
    at = Publication(start=WARM + REQUESTS - 1, end=WARM + REQUESTS, known=WARM + 300)
    mine = loop._window(at)
    rows = judged_requests(pool(), stream, loop._labels)[: at.known]
    experts = [certified(name) for name in EXPERTS]
    theirs = calibration_window(
        rescore(rows, learner(STATIONARY).frozen(), experts),
        EXPERTS[:-1],
        last_seq=int(stream.seqs[at.start]),
        from_seq=0,
        policy=replace(POLICY, reference=EXPERTS[-1]),
    )
    assert np.allclose(mine.losses.points, theirs.losses.points, rtol=0.0, atol=1e-12)
    assert np.array_equal(mine.inclusion_probability, theirs.inclusion_probability)
    assert np.array_equal(mine.requests_ago, theirs.requests_ago)
    assert mine.minimum_inclusion == theirs.minimum_inclusion


@pytest.mark.parametrize("threshold", [0.0, 0.7, 0.9])
def test_what_is_served_is_what_route_would_serve(threshold: float) -> None:
    _, path, stream = ran(STATIONARY)
    state = state_at(threshold)
    mine = served(path, np.full(REQUESTS, threshold))
    for position in range(SAMPLES):
        row = stream.prompts[WARM + position]
        prompt = PromptReceived(request_id=stream.ids[WARM + position], text="any", received_at=NOW)
        fold = int(pool().folds[row])
        vector = pool().embeddings[row]
        theirs = route(prompt, vector, state, fold=fold, category="unknown")
        assert EXPERTS[mine[position]] == theirs.expert


def test_scores_are_those_of_the_entry_without_the_prompts_fold() -> None:
    stream = drawn(pool(), STATIONARY, 0)
    _, path, _ = ran(STATIONARY)
    model = learner(STATIONARY).frozen()
    first = stream.prompts[WARM : WARM + 5]
    quality = jittered(scored(model, pool(), first), stream.ids[WARM : WARM + 5], EXPERTS)
    assert path.quality[:5] == pytest.approx(quality, abs=1e-12)
    blinded = replace(model, table=model.table.copy())
    fold = int(pool().folds[first[0]])
    blinded.table[np.arange(5) != fold] = 0.0
    assert scored(blinded, pool(), first[:1])[0] == pytest.approx(
        scored(model, pool(), first[:1])[0]
    )


def test_regret_is_never_above_the_loss_in_force_and_safe_has_neither() -> None:
    _, path, stream = ran(ABRUPT)
    found = figures(path, stream)
    for one in found.values():
        assert np.all(one.regret <= one.set_loss + 1e-12)
    assert found[REFERENCE].set_loss[ALL] == 0.0
    assert found[REFERENCE].cost[ALL] == pytest.approx(1.0)
    assert found[REFERENCE].safe == 1.0
    assert not measured(path, stream, np.full(REQUESTS, SAFE)).cheap.any()


def test_the_best_threshold_in_hindsight_spends_the_risk_and_no_more() -> None:
    _, path, _ = ran(ABRUPT)
    best = best_by_set(path)
    assert np.mean(path.points > best) <= POLICY.alpha < np.mean(path.points > best - 1e-3) + 0.05


def test_labels_move_every_method_but_those_that_never_look() -> None:
    _, path, _ = ran(ABRUPT)
    for name in METHODS:
        moves = len(set(path.thresholds[name].tolist())) > 1
        assert moves == (name not in {STATIC, REFERENCE})


def test_a_change_of_mix_costs_the_static_threshold_more_than_ours() -> None:
    ((_, found),) = runs(pool(), [ABRUPT], 1)
    static, ours = found[STATIC], found["mean (ours)"]
    assert static.regret[BEFORE] <= POLICY.alpha + 0.02
    assert static.regret[FIRST] > ours.regret[FIRST] > 0.0


def test_an_expert_that_regresses_cuts_the_window_and_a_steady_one_does_not() -> None:
    counts = []
    for scenario in (STATIONARY, Scenario(name="worse", failing=0.5)):
        stream = drawn(pool(), scenario, 0)
        labels = sampled(scenario, np.ones(WARM + REQUESTS), np.random.default_rng(0))
        rows = judged_requests(pool(), stream, labels)
        known = [WARM, WARM + 200, len(rows) - 200, len(rows)]
        found = cuts(rows, known, EXPERTS[:-1], reference=EXPERTS[-1])
        counts.append(len(found))
        assert all(cut.from_seq > stream.seqs[WARM + CHANGE] for cut in found)
    assert counts[0] == 0 < counts[1]


def test_a_new_expert_is_served_only_once_its_own_labels_allow_it() -> None:
    _, path, _ = ran(Scenario(name="new", joins=True, learns=True))
    assert not path.members[: CHANGE + 500, 0].any()
    assert path.members[-1_000:, 0].any()


def certified(name: ExpertId) -> Expert:
    return Expert(
        name=name,
        status=ExpertStatus.CERTIFIED,
        price=Price(request_usd=1.0),
        client={"kind": "recorded"},
        added_at=NOW,
        status_changed_at=NOW,
    )
