"""Routing states of any size over real prompts, for timing: the tables are drawn, not learnt.

Recorded traffic knows three experts; what a decision costs depends on shapes and not on values.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np

from ingest.demo_traffic import DemoPrompt, load_prompts
from online.categories import NAMES
from online.clusters import fit_centroids, unit_rows
from online.encode import CachedEncoder, SentenceEncoder
from online.folds import fold_of, group_of
from online.isotonic import KNOTS
from online.scorer import ScorerModel
from online.state import PoolMember, RoutingState
from store.policy import PolicySettings
from store.records import FOLDS, ExpertId, ExpertStatus, Float32Array, Price

CACHE = Path(".run") / "cache"
FITTED_ON = 400
REFERENCE = ExpertId("expert-0")


@cache
def prompts() -> list[DemoPrompt]:
    """Return the demo's prompts."""
    return load_prompts()


@cache
def sentence_encoder() -> SentenceEncoder:
    """Return the real encoder."""
    return SentenceEncoder()


def embeddings(count: int) -> Float32Array:
    """Return the first prompts' vectors, from the cache that the demo and the tests share."""
    encoder = CachedEncoder(sentence_encoder(), CACHE)
    return encoder.encode([p.text for p in prompts()[:count]])


@cache
def centroids() -> Float32Array:
    """Return the clusters of the first prompts."""
    first = prompts()[:FITTED_ON]
    folds = [fold_of(group_of(p.text, None, tenant="default")) for p in first]
    return fit_centroids(embeddings(FITTED_ON), folds)


def drawn_state(experts: int, *, threshold: float = 0.5, version: int = 1) -> RoutingState:
    """Return a state whose experts are all certified, the reference the dearest."""
    rng = np.random.default_rng(experts)
    names = tuple(ExpertId(f"expert-{i}") for i in range(experts))
    clusters = centroids().shape[1]
    mean = rng.uniform(0.3, 0.9, experts)
    table = np.clip(mean + rng.normal(0.0, 0.15, (FOLDS, clusters, experts)), 0.0, 1.0)
    costs = np.concatenate([[1.0], rng.uniform(0.02, 0.95, experts - 1)])
    model = ScorerModel(
        columns=names,
        relative_costs=costs,
        centroids=centroids(),
        table=table,
        evidence=np.full((FOLDS, experts), 200.0),
        descriptors=unit_rows(np.swapaxes(table - table.mean(axis=1, keepdims=True), 1, 2)),
        calibration=np.sort(rng.random((FOLDS, experts, len(KNOTS))), axis=2),
        gap=np.tile([0.1, 0.5], (FOLDS, 1)),
        comparator=rng.normal(size=(FOLDS, 4)),
        regressors=np.repeat(table[:, None], len(NAMES), axis=1),
    )
    pool = tuple(
        PoolMember(name=name, status=ExpertStatus.CERTIFIED, price=Price(request_usd=float(cost)))
        for name, cost in zip(names, costs, strict=True)
    )
    return RoutingState(
        version=version,
        parent=version - 1,
        policy=PolicySettings(reference=REFERENCE, cost_weight=0.3),
        policy_version=1,
        encoder=sentence_encoder().identity,
        pool=pool,
        model=model,
        threshold=threshold,
        safe_reason=None,
        effective_labels=200.0,
    )
