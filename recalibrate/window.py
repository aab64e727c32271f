"""From judged requests to a calibration window: every label scored without its own fold."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np

from online.admission import eligible, preference
from online.learn import JudgedRequest
from online.route import jittered
from online.scorer import ScorerModel, excluded_fold, score
from recalibrate.controller import Window
from recalibrate.losses import BoolArray, worst_in_set
from store.policy import PolicySettings
from store.records import FOLDS, ExpertId, FloatArray


@dataclass(frozen=True, slots=True, kw_only=True)
class RescoredLabels:
    """The window's labels under one scorer."""

    rows: tuple[JudgedRequest, ...]
    columns: tuple[ExpertId, ...]
    relative_costs: FloatArray
    """float64[M]"""
    scores: FloatArray
    """float64[n, M], out of fold, with jitter; NaN without evidence."""
    acceptable: BoolArray
    """bool[n, M]; False where not judged."""
    judged: BoolArray
    """bool[n, M]"""

    def only(self, kept: Sequence[int]) -> RescoredLabels:
        """Return some of the rows, in the order given."""
        at = np.asarray(kept, dtype=np.int64)
        return replace(
            self,
            rows=tuple(self.rows[i] for i in kept),
            scores=self.scores[at],
            acceptable=self.acceptable[at],
            judged=self.judged[at],
        )


def settled(
    rows: Sequence[JudgedRequest], *, watermark: int, reference: ExpertId
) -> list[JudgedRequest]:
    """Return the rows that calibrate: behind the watermark and judged against this reference.

    A label says "acceptable against the reference of its day": another yardstick, no label.
    """
    return [r for r in rows if r.request.seq <= watermark and r.request.reference == reference]


def rescore(rows: Sequence[JudgedRequest], model: ScorerModel) -> RescoredLabels:
    """Score every judged request by the entry that was fitted without its fold."""
    scores = np.full((len(rows), len(model.columns)), np.nan)
    folds = np.array([excluded_fold(row.request.fold) for row in rows], dtype=np.int64)
    for fold in range(FOLDS):
        where: list[int] = np.flatnonzero(folds == fold).tolist()
        if where:
            embeddings = np.stack([rows[i].request.embedding for i in where])
            quality = score(model, embeddings, excluded=fold).quality
            ids = [rows[i].request.request_id for i in where]
            scores[where] = jittered(quality, ids, model.columns)
    outcomes = np.array(
        [[row.outcomes.get(name, -1) for name in model.columns] for row in rows]
    ).reshape(scores.shape)
    return RescoredLabels(
        rows=tuple(rows),
        columns=model.columns,
        relative_costs=model.relative_costs,
        scores=scores,
        acceptable=outcomes == 1,
        judged=outcomes >= 0,
    )


def calibration_window(
    labels: RescoredLabels,
    certified: Collection[ExpertId],
    *,
    last_seq: int,
    from_seq: int,
    policy: PolicySettings,
) -> Window:
    """Return the window for C_λ over these certified experts, with loss ``worst_in_set``.

    A request from before an expert joined says nothing about it and is left out (which depends on
    time alone, not on the prompt), unless the expert was probed there. From then on an expert that
    should have been judged and was not counts as a loss.
    """
    kept = complete(labels, certified, from_seq=from_seq)
    seqs = np.array([labels.rows[i].request.seq for i in kept], dtype=np.float64)
    pi = np.array([labels.rows[i].request.inclusion_probability for i in kept])
    scores = labels.scores[np.asarray(kept, dtype=np.int64)]
    members = eligible(
        scores,
        preference(
            scores, labels.relative_costs, policy=policy.policy, cost_weight=policy.cost_weight
        ),
        np.array([name in certified for name in labels.columns]),
        reference=labels.columns.index(policy.reference),
    )
    acceptable = labels.acceptable[np.asarray(kept, dtype=np.int64)]
    return Window(
        losses=worst_in_set(np.where(members, scores, np.nan), acceptable),
        inclusion_probability=pi,
        requests_ago=last_seq - seqs,
        minimum_inclusion=policy.label_rate or float(pi.min(initial=1.0)),
    )


def traffic_outcomes(
    rows: Sequence[JudgedRequest], expert: ExpertId, *, after_seq: int
) -> list[int]:
    """Return an expert's y on sampled traffic in ledger order, probes left out."""
    return [
        row.outcomes[expert]
        for row in rows
        if row.request.seq > after_seq and expert in row.outcomes and expert not in row.probed
    ]


def complete(
    labels: RescoredLabels, certified: Collection[ExpertId], *, from_seq: int
) -> list[int]:
    """Return the rows that say something about each of these experts."""
    columns = [i for i, name in enumerate(labels.columns) if name in certified]
    joined = {c: _joined_seq(labels.rows, labels.columns[c]) for c in columns}
    return [
        i
        for i, row in enumerate(labels.rows)
        if row.request.seq >= from_seq
        and all(row.request.seq >= joined[c] or labels.judged[i, c] for c in columns)
    ]


def _joined_seq(rows: Sequence[JudgedRequest], expert: ExpertId) -> int:
    """Return the first sequence at which the expert was due to be judged on traffic."""
    return min((r.request.seq for r in rows if expert in r.request.due_experts), default=1 << 62)
