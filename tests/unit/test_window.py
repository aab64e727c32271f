"""Which judged requests calibrate λ: by their place in the ledger, never by their prompt."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

import numpy as np

from online.learn import JudgedRequest
from recalibrate.controller import Threshold
from recalibrate.guard import recompute
from recalibrate.window import RescoredLabels, able, absent, complete
from store.needs import Capabilities, Needs
from store.policy import PolicySettings
from store.records import ExpertId
from tests.factories import STRONG, sampled

A, X = ExpertId("a"), ExpertId("x")
COLUMNS = (STRONG, A, X)
LONG = Needs(input_tokens=4_000)
SHORT = Capabilities(context_tokens=1_000)


def row(
    seq: int, *due: ExpertId, probed: Collection[ExpertId] = (), needs: Needs | None = None
) -> JudgedRequest:
    """One judged request of fold 1 that says a label of whom it was due for or probed with."""
    request = sampled(seq, due_experts=due, fold=1, needs=needs or Needs())
    labels = dict.fromkeys((*due, *probed), 1)
    return JudgedRequest(request=request, outcomes=labels, probed=set(probed))


def seqs_of(
    rows: Sequence[JudgedRequest],
    *certified: ExpertId,
    declared: Mapping[ExpertId, Capabilities] | None = None,
    absences: Mapping[ExpertId, Sequence[tuple[int, int]]] | None = None,
) -> list[int]:
    """Return the sequences of the rows that are kept."""
    judged = np.array([[name in r.outcomes for name in COLUMNS] for r in rows])
    labels = RescoredLabels(
        rows=tuple(rows),
        columns=COLUMNS,
        relative_costs=np.array([1.0, 0.2, 0.1]),
        scores=np.full(judged.shape, 0.5),
        acceptable=judged,
        judged=judged,
        able=able(rows, COLUMNS, declared or {}),
        absent=absent(rows, COLUMNS, absences or {}),
    )
    kept = complete(labels, set(certified), reference=STRONG, from_seq=0)
    return [rows[i].request.seq for i in kept]


def probed_then_joined(needs: Needs) -> list[JudgedRequest]:
    """Probes of X at 1 and 4, joined at 8; every other row has these needs and no label of X."""
    at = {1: row(1, A, probed={X}), 4: row(4, A, probed={X}), 8: row(8, A, X)}
    return [at.get(seq, row(seq, A, needs=needs)) for seq in range(12)]


def test_rows_around_the_probes_stay_or_go_alike_whether_the_expert_has_room() -> None:
    for needs in (Needs(), LONG):
        rows = probed_then_joined(needs)
        assert seqs_of(rows, A, X, declared={X: SHORT}) == [2, 3, 9, 10, 11]


def test_fold_zero_says_nothing_before_an_expert_joined() -> None:
    rows = probed_then_joined(LONG)
    rows[2] = JudgedRequest(request=replace(rows[2].request, fold=0))
    assert seqs_of(rows, X, declared={X: SHORT}) == [3, 9, 10, 11]


def test_what_the_narrowed_reference_refuses_is_no_calibration_row() -> None:
    rows = [row(seq, A, needs=LONG if seq % 2 else None) for seq in range(6)]
    assert seqs_of(rows, A) == [1, 2, 3, 4, 5]
    assert seqs_of(rows, A, declared={STRONG: SHORT}) == [2, 4]


def test_between_a_recovery_and_the_swap_nobody_asks_for_the_expert() -> None:
    """It is back at 4, and served from 7 on: rows without it until then are no losses."""
    due = {seq: (A, X) if seq < 2 or seq >= 7 else (A,) for seq in range(10)}
    rows = [row(seq, *names) for seq, names in due.items()]
    assert seqs_of(rows, A, X, absences={X: ((1, 4),)}) == [1, 8, 9]
    assert seqs_of(rows[:7], A, X, absences={X: ((1, 4),)}) == [1], "not in force yet"


def drifted(absences: Mapping[ExpertId, Sequence[tuple[int, int]]]) -> Threshold:
    """λ after A grew worse in the 400 requests of X's absence; X is good. 700 labels."""
    rng = np.random.default_rng(3)
    rows = [row(seq, A, X) for seq in range(1, 701)]
    good = rng.random((700, 3)) >= np.array([0.0, 0.06, 0.03])
    good[300:, 1] = rng.random(400) >= 0.3
    judged = np.ones((700, 3), dtype=bool)
    judged[300:, 2] = False
    labels = RescoredLabels(
        rows=tuple(rows),
        columns=COLUMNS,
        relative_costs=np.array([1.0, 0.1, 0.2]),
        scores=np.column_stack([np.full(700, 0.99), rng.random((700, 2)) * 0.9]),
        acceptable=good & judged,
        judged=judged,
        able=np.ones((700, 3), dtype=bool),
        absent=absent(rows, COLUMNS, absences),
    )
    policy = PolicySettings(reference=STRONG, label_rate=1.0, policy="cheapest", cost_weight=0.0)
    pool = {A, X} if absences else {A}
    return recompute(policy, labels, pool, last_seq=700, from_seq=0, is_ramping=False)


def test_an_experts_return_does_not_throw_away_newer_evidence_about_the_others() -> None:
    alone, both = drifted({}), drifted({X: ((300, 700),)})
    assert alone.value > 0.3
    assert both.value >= alone.value
