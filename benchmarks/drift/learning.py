"""From a stream's judged requests to a scorer, and its scores: the router's own learner."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from benchmarks.drift.cuts import NOW
from benchmarks.drift.labels import Labels
from benchmarks.drift.pools import Pool, Rows
from benchmarks.drift.streams import POLICY, Stream
from online.categories import UNKNOWN
from online.clusters import fit_centroids
from online.learn import JudgedRequest, LearnSettings, OnlineLearner
from online.scorer import ScorerModel, excluded_fold, score
from store.records import DEFAULT_TENANT, FOLDS, FloatArray, SampledRequest


def judged_requests(pool: Pool, stream: Stream, labels: Labels) -> list[JudgedRequest]:
    """Return what the ledger would give of every judged request."""
    reference = pool.experts[-1]
    made = []
    for position, inclusion in zip(labels.positions.tolist(), labels.inclusion, strict=True):
        row = stream.prompts[position]
        known = np.flatnonzero(np.isfinite(stream.scores[position])).tolist()
        request = SampledRequest(
            request_id=stream.ids[position],
            seq=int(stream.seqs[position]),
            fold=int(pool.folds[row]),
            inclusion_probability=float(inclusion),
            due_experts=tuple(pool.experts[m] for m in known),
            reference=reference,
            served_expert=reference,
            threshold=0.0,
            state_version=1,
            decided_at=NOW,
            tenant=DEFAULT_TENANT,
            embedding=pool.embeddings[row],
            category=UNKNOWN,
        )
        scores = {pool.experts[m]: float(stream.scores[position, m]) for m in known}
        outcomes = {pool.experts[m]: int(stream.judged[position, m]) for m in known}
        made.append(JudgedRequest(request=request, scores=scores, outcomes=outcomes))
    return made


def warmed(pool: Pool, rows: Sequence[JudgedRequest]) -> OnlineLearner:
    """Return a learner that has learnt these labels, its clusters fitted on the first of them."""
    first = [row.request for row in rows[: POLICY.cluster_prompts]]
    centroids = fit_centroids(np.stack([r.embedding for r in first]), [r.fold for r in first])
    settings = LearnSettings(
        columns=pool.experts,
        relative_costs=tuple(pool.relative_costs.tolist()),
        cost_weight=POLICY.cost_weight,
        margin=POLICY.margin,
    )
    learner = OnlineLearner(centroids, settings)
    for row in rows:
        learner.learn(row)
    return learner


def scored(model: ScorerModel, pool: Pool, prompts: Rows) -> FloatArray:
    """Return float64[n, M]: each prompt by the entry that was fitted without its fold."""
    quality = np.empty((len(prompts), len(model.columns)))
    for fold in range(FOLDS):
        rows = np.flatnonzero(pool.folds[prompts] == fold)
        if len(rows):
            entry = excluded_fold(fold)
            quality[rows] = score(model, pool.embeddings[prompts[rows]], excluded=entry).quality
    return quality
