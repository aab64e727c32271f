"""The scorer is a pure function of the labels, however late, often or shuffled they come."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from online import learner as learner_module
from online.cargo import GapConfidence, confidence
from online.categories import NAMES, number_of
from online.learn import FORGETTING, JudgedRequest, LearnSettings, OnlineLearner
from online.learner import LabelWindow, Learner
from online.regress import Regressors, features, predicted
from online.scorer import ScorerModel, score
from store.memory import MemoryLedger
from store.records import FOLDS, PROBE, ExpertId, Float32Array, Label, RequestId
from tests.factories import ENCODER, decided, embedding, label, sampled

A, B, C = (ExpertId(name) for name in "abc")
SETTINGS = LearnSettings(
    columns=(A, B, C), relative_costs=(1.0, 0.3, 0.1), cost_weight=0.5, margin=0.05
)
REQUESTS = 150


def _centroids() -> Float32Array:
    drawn = np.random.default_rng(9).normal(size=(FOLDS, 4, 8))
    unit: Float32Array = (drawn / np.linalg.norm(drawn, axis=2, keepdims=True)).astype(np.float32)
    return unit


CENTROIDS = _centroids()


def ledger(count: int = REQUESTS) -> MemoryLedger:
    made = MemoryLedger()
    with made.begin() as tx:
        tx.decisions.record(
            [
                decided(
                    f"r{n}",
                    seed=n,
                    fold=n % FOLDS,
                    due_experts=(A, B),
                    inclusion_probability=0.05 if n % 3 else 0.5,
                )
                for n in range(count)
            ]
        )
    return made


def labels_of(n: int, *, version: str = "judge-1", purpose: str = "traffic") -> list[Label]:
    rng = np.random.default_rng((n, len(version), ord(version[-1])))
    return [
        label(
            f"r{n}",
            expert=expert,
            judge_version=version,
            purpose=purpose,
            outcome=int(rng.random() < 0.7),
            score=float(rng.random()) if rng.random() < 0.9 else None,
        )
        for expert in (A, B, C)
    ]


ALL_LABELS = [x for n in range(REQUESTS) for x in labels_of(n)]


def replayed(learner: Learner, window: LabelWindow) -> ScorerModel:
    """Learn all that is new in one go."""
    found = learner.replay(window, at_most=REQUESTS)
    assert found is not None
    return found


def learnt(pieces: list[list[Label]], *, replay_every: int = 1) -> ScorerModel:
    """Commit the pieces one after the other and replay in between, as cycles do."""
    held, window, learner = ledger(), LabelWindow(encoder=ENCODER), Learner(CENTROIDS, SETTINGS)
    for count, piece in enumerate(pieces, start=1):
        with held.begin() as tx:
            tx.labels.add([], piece)
        learner.forget_from(window.read(held))
        if count % replay_every == 0:
            replayed(learner, window)
    return replayed(learner, window)


@cache
def in_order() -> ScorerModel:
    return learnt([ALL_LABELS])


def in_pieces(labels: list[Label], size: int) -> list[list[Label]]:
    return [labels[i : i + size] for i in range(0, len(labels), size)]


def test_labels_in_many_small_commits_give_the_same_bits() -> None:
    assert learnt(in_pieces(ALL_LABELS, 30)).sha256() == in_order().sha256()


def test_labels_that_come_twice_give_the_same_bits() -> None:
    twice = [piece for piece in in_pieces(ALL_LABELS, 90) for _ in range(2)]
    assert learnt(twice).sha256() == in_order().sha256()


@pytest.mark.parametrize("seed", range(4))
def test_shuffled_labels_give_the_same_bits(seed: int) -> None:
    shuffled = [ALL_LABELS[i] for i in np.random.default_rng(seed).permutation(len(ALL_LABELS))]
    pieces = in_pieces(shuffled, 90)
    assert learnt(pieces, replay_every=2).sha256() == in_order().sha256()


@pytest.mark.parametrize("late", [0, 7, 129, 145])
def test_a_label_that_comes_last_is_learnt_in_its_place(late: int) -> None:
    """Also when a checkpoint has already gone past it."""
    name = RequestId(f"r{late}")
    first = [x for x in ALL_LABELS if x.request_id != name]
    last = [x for x in ALL_LABELS if x.request_id == name]
    assert learnt([*in_pieces(first, 150), last]).sha256() == in_order().sha256()


def test_half_of_a_request_s_labels_may_come_later() -> None:
    early = [x for x in ALL_LABELS if x.expert == A]
    late = [x for x in ALL_LABELS if x.expert != A]
    assert learnt([*in_pieces(early, 100), *in_pieces(late, 200)]).sha256() == in_order().sha256()


def test_labels_of_unknown_requests_teach_nothing() -> None:
    stray = [label("never-decided", expert=A)]
    assert learnt([stray, ALL_LABELS]).sha256() == in_order().sha256()


@pytest.mark.parametrize("seed", range(3))
def test_a_second_judge_version_is_ranked_by_name_not_by_arrival(seed: int) -> None:
    both = ALL_LABELS + [x for n in range(0, REQUESTS, 2) for x in labels_of(n, version="judge-0")]
    expected = learnt([both]).sha256()
    shuffled = [both[i] for i in np.random.default_rng(seed).permutation(len(both))]
    assert learnt(in_pieces(shuffled, 200)).sha256() == expected
    assert expected != in_order().sha256()


@pytest.mark.parametrize("swap", [False, True])
def test_whether_a_label_is_a_probe_does_not_depend_on_arrival(swap: bool) -> None:
    probe = labels_of(1, version="judge-2", purpose=PROBE)
    traffic = labels_of(1, version="judge-1")
    held, window = ledger(2), LabelWindow(encoder=ENCODER)
    for piece in (traffic, probe) if swap else (probe, traffic):
        with held.begin() as tx:
            tx.labels.add([], piece)
        window.read(held)
    (row,) = window.rows()
    assert row.probed == set()
    assert row.outcomes == {x.expert: x.outcome for x in traffic}


@pytest.mark.parametrize("swap", [False, True])
def test_a_verifier_outranks_every_judge(swap: bool) -> None:
    verified = labels_of(1, version="verifier-1")
    judged = labels_of(1, version="llm-1")
    held, window = ledger(2), LabelWindow(encoder=ENCODER)
    for piece in (verified, judged) if swap else (judged, verified):
        with held.begin() as tx:
            tx.labels.add([], piece)
        window.read(held)
    (row,) = window.rows()
    assert row.outcomes == {x.expert: x.outcome for x in verified}
    assert row.scores == {x.expert: x.score for x in verified if x.score is not None}
    assert row.scores != {x.expert: x.score for x in judged if x.score is not None}


def test_a_new_judge_version_empties_no_window() -> None:
    held, window = ledger(3), LabelWindow(encoder=ENCODER)
    before, after = labels_of(0, version="llm-1"), labels_of(1, version="llm-1-0a1b2c")
    for piece in (before, after):
        with held.begin() as tx:
            tx.labels.add([], piece)
        window.read(held)
    assert [row.outcomes for row in window.rows()] == [
        {x.expert: x.outcome for x in piece} for piece in (before, after)
    ]


def test_a_restart_reads_every_label_before_it_learns(monkeypatch: pytest.MonkeyPatch) -> None:
    """The ledger gives labels in pieces; a state from the first piece would be an old one."""
    held, window = ledger(), LabelWindow(encoder=ENCODER)
    with held.begin() as tx:
        tx.labels.add([], ALL_LABELS)
        facts = type(tx.labels)
    whole = facts.settled_since
    monkeypatch.setattr(facts, "settled_since", lambda self, cursor: whole(self, cursor, limit=7))
    window.read(held)
    assert (window.labels, len(window)) == (len(ALL_LABELS), REQUESTS)


def test_a_judged_request_takes_no_more_memory_for_its_vector_than_in_the_ledger() -> None:
    held, window = ledger(), LabelWindow(encoder=ENCODER)
    with held.begin() as tx:
        tx.labels.add([], ALL_LABELS)
        stored = {
            r.request_id: r.embedding
            for r in tx.decisions.sampled([RequestId("r3")], encoder=ENCODER)
        }
    window.read(held)
    (row,) = (r for r in window.rows() if r.request.request_id == "r3")
    assert row.request.embedding.nbytes == 2 * len(row.request.embedding)
    assert row.request.embedding.tolist() == stored[RequestId("r3")].tolist()


@pytest.mark.parametrize("at_most", [1, 7, 64])
def test_learning_in_pieces_gives_the_same_bits(at_most: int) -> None:
    held, window, learner = ledger(), LabelWindow(encoder=ENCODER), Learner(CENTROIDS, SETTINGS)
    with held.begin() as tx:
        tx.labels.add([], ALL_LABELS)
    window.read(held)
    calls = 1
    while (found := learner.replay(window, at_most=at_most)) is None:
        calls += 1
    assert calls == -(-REQUESTS // at_most)
    assert found.sha256() == in_order().sha256()


def test_memory_levels_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learner_module, "CHECKPOINT_EVERY", 4)
    held, window, learner = ledger(), LabelWindow(encoder=ENCODER), Learner(CENTROIDS, SETTINGS)
    for piece in in_pieces(ALL_LABELS, 45):
        with held.begin() as tx:
            tx.labels.add([], piece)
        learner.forget_from(window.read(held))
        replayed(learner, window)
        assert len(learner._checkpoints) <= 8
    assert learner._checkpoints[0][0] == 0
    assert replayed(learner, window).sha256() == in_order().sha256()


def judged(n: int, *, fold: int, scores: dict[ExpertId, float], pi: float = 0.05) -> JudgedRequest:
    request = sampled(n + 1, fold=fold, inclusion_probability=pi, embedding=embedding(n))
    return JudgedRequest(request=request, scores=scores)


def taught(rows: list[JudgedRequest]) -> ScorerModel:
    learner = OnlineLearner(CENTROIDS, SETTINGS)
    for row in rows:
        learner.learn(row)
    return learner.frozen()


def entry(model: ScorerModel, fold: int) -> list[bytes]:
    arrays = (model.table, model.evidence, model.descriptors, model.calibration)
    assert model.regressors is not None
    return [a[fold].tobytes() for a in (*arrays, model.gap, model.comparator, model.regressors)]


UNIT = st.floats(0.0, 1.0)
SCORES = st.fixed_dictionaries({A: UNIT, B: UNIT}, optional={C: UNIT})
ROWS = st.lists(st.tuples(st.integers(0, FOLDS - 1), SCORES, UNIT), min_size=1, max_size=40)


@settings(max_examples=60)
@given(ROWS, st.integers(0, FOLDS - 1))
def test_what_a_label_of_a_fold_says_never_reaches_that_fold_s_entry(
    rows: list[tuple[int, dict[ExpertId, float], float]], fold: int
) -> None:
    """Fold f's labels may be anything: entry f, which scores them, has the same bits."""
    told = [judged(n, fold=f, scores=s) for n, (f, s, _) in enumerate(rows)]
    lied = [
        judged(n, fold=f, scores=dict.fromkeys(s, x) if f == fold else s)
        for n, (f, s, x) in enumerate(rows)
    ]
    assert entry(taught(told), fold) == entry(taught(lied), fold)


@settings(max_examples=40)
@given(ROWS)
def test_fold_zero_changes_nothing(rows: list[tuple[int, dict[ExpertId, float], float]]) -> None:
    told = [judged(n, fold=f, scores=s) for n, (f, s, _) in enumerate(rows)]
    without = [row for row in told if row.request.fold != 0]
    assert taught(told).sha256() == taught(without).sha256()


@settings(max_examples=40)
@given(ROWS)
def test_nan_never_appears_and_tables_stay_in_the_unit_interval(
    rows: list[tuple[int, dict[ExpertId, float], float]],
) -> None:
    model = taught([judged(n, fold=f, scores=s, pi=1e-6 + p) for n, (f, s, p) in enumerate(rows)])
    assert model.regressors is not None
    for array in (model.evidence, model.descriptors, model.gap, model.comparator, model.regressors):
        assert np.all(np.isfinite(array))
    for array in (model.table, model.calibration):
        assert np.all((array >= -1e-9) & (array <= 1.0 + 1e-9))
    assert np.all(np.diff(model.calibration, axis=2) >= 0.0)


def test_the_regressors_of_an_entry_are_those_of_its_folds_labels() -> None:
    """By category, with the weights of the tables."""
    kinds = ("coding", "all", "unknown", "reasoning")
    rows = [judged(n, fold=n % FOLDS, scores={A: n % 3 / 2, B: n % 2}) for n in range(90)]
    rows = [
        replace(row, request=replace(row.request, category=kinds[n % 4]))
        for n, row in enumerate(rows)
    ]
    found = taught(rows).regressors
    assert found is not None
    for excluded in range(FOLDS):
        alone = Regressors(CENTROIDS[excluded], experts=3, categories=len(NAMES))
        for row in rows:
            if row.request.fold not in {0, excluded}:
                kind = number_of(row.request.category)
                known = {0: row.scores[A], 1: row.scores[B]}
                described = features(row.request.embedding, CENTROIDS[[excluded]])[0]
                alone.learn(described, kind, known, weight=1.0)
        np.testing.assert_allclose(found[excluded], alone.weights(range(len(NAMES))), rtol=1e-9)
    coding, unknown = found[0, number_of("coding")], found[0, number_of("unknown")]
    assert not np.allclose(coding[:, 0], unknown[:, 0])


def test_the_gap_is_learnt_from_what_the_regressors_said_before_the_label(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    learner, learnt = OnlineLearner(CENTROIDS, SETTINGS), []
    monkeypatch.setattr(
        GapConfidence,
        "learn",
        lambda it, gap, **_: learnt.append(gap) if it is learner._gaps[0] else None,
    )
    expected = []
    for n in range(120):
        row = judged(n, fold=1 + n % 4, scores={A: 0.9, B: 0.4 + n % 2 / 10})
        described = features(row.request.embedding, CENTROIDS[:1])[0]
        a, b = predicted(learner._maps[0, -1], described, (0, 1))
        expected.append(a - b)
        learner.learn(row)
    assert len(learnt) > 100, "those from before the experts had scores are missing"
    # Which of the two is first changes, and with it the sign.
    assert np.abs(learnt) == pytest.approx(np.abs(expected[-len(learnt) :]))
    assert np.any(np.abs(learnt) > 0.3)


@pytest.mark.parametrize(("quality", "is_trusted"), [(0.86, True), (0.85, True), (0.84, False)])
def test_a_gap_is_trusted_where_its_first_is_acceptable(quality: float, is_trusted: bool) -> None:
    """B is preferred, for it is cheaper; the margin is .05."""
    model = taught([judged(n, fold=1 + n % 4, scores={A: 0.9, B: quality}) for n in range(200)])
    assert (confidence(quality - 0.9, model.gap[0]) > 0.5) == is_trusted


def test_unreadable_labels_train_nothing() -> None:
    rows = [judged(n, fold=1 + n % 4, scores={A: 0.9, B: 0.4}) for n in range(40)]
    unreadable = [judged(100 + n, fold=1 + n % 4, scores={}) for n in range(20)]
    mixed = [row for pair in zip(rows, [*unreadable, *unreadable], strict=True) for row in pair]
    assert taught(mixed).sha256() == taught(rows).sha256()


def test_scoring_does_not_change_the_scorer() -> None:
    before = in_order().sha256()
    for n in range(50):
        score(in_order(), judged(n, fold=1, scores={}).request.embedding[None], excluded=n % FOLDS)
    assert in_order().sha256() == before


def test_a_frozen_scorer_is_not_changed_by_later_labels() -> None:
    learner = OnlineLearner(CENTROIDS, SETTINGS)
    for n in range(60):
        learner.learn(judged(n, fold=1 + n % 4, scores={A: 0.9, B: 0.1}))
    frozen = learner.frozen()
    before = frozen.sha256()
    for n in range(60, 120):
        learner.learn(judged(n, fold=1 + n % 4, scores={A: 0.1, B: 0.9, C: 0.5}))
    assert frozen.sha256() == before
    assert learner.frozen().sha256() != before


def test_effective_counts_forget() -> None:
    """With one label a step and forgetting ρ, evidence stays under 1 / (1 − ρ)."""
    learner = OnlineLearner(CENTROIDS, SETTINGS)
    for n in range(1_500):
        learner.learn(judged(n % 50, fold=1, scores={A: 1.0 if n < 300 else 0.0}))
    model = learner.frozen()
    expected = (1.0 - FORGETTING**1_500) / (1.0 - FORGETTING)
    assert model.evidence[0, 0] == pytest.approx(expected)
    assert model.evidence[1, 0] == 0.0
    assert np.all(model.table[0, :, 0] < 0.25)


def test_an_expert_without_labels_has_no_score() -> None:
    model = taught([judged(n, fold=1 + n % 4, scores={A: 0.9, B: 0.4}) for n in range(60)])
    found = score(model, judged(1, fold=1, scores={}).request.embedding[None], excluded=0)
    assert np.isnan(found.quality[0, 2])
    assert np.all(np.isfinite(found.quality[0, :2]))
