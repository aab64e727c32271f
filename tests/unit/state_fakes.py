"""Random but valid scorers and routing states."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from online.categories import NAMES as CATEGORIES
from online.clusters import unit_rows
from online.isotonic import KNOTS
from online.scorer import ScorerModel
from online.state import PoolMember, RoutingState
from store.policy import PolicySettings
from store.records import FOLDS, ExpertId, ExpertStatus, Price, Reason

STRONG = ExpertId("strong")
NAMES = (STRONG, ExpertId("a"), ExpertId("b"), ExpertId("c"), ExpertId("d"), ExpertId("e"))
DIMENSION = 8


def scorer(names: Sequence[ExpertId] = NAMES, *, k: int = 4, seed: int = 0) -> ScorerModel:
    rng = np.random.default_rng(seed)
    m = len(names)
    rising = np.sort(rng.random((FOLDS, m, len(KNOTS))), axis=2)
    centroids = unit_rows(rng.normal(size=(FOLDS, k, DIMENSION)))
    return ScorerModel(
        columns=tuple(names),
        relative_costs=1.0 / np.arange(1.0, m + 1.0),
        centroids=centroids.astype(np.float32),
        table=rng.random((FOLDS, k, m)),
        evidence=np.full((FOLDS, m), 50.0),
        descriptors=unit_rows(rng.normal(size=(FOLDS, m, k))),
        calibration=rising,
        gap=np.tile([1.0, 0.0], (FOLDS, 1)),
        comparator=rng.normal(size=(FOLDS, 4)),
        regressors=rng.random((FOLDS, len(CATEGORIES), k, m)),
    )


def state(
    *,
    model: ScorerModel | None = None,
    threshold: float = 0.4,
    statuses: Mapping[ExpertId, ExpertStatus] | None = None,
    costs: Mapping[ExpertId, float] | None = None,
    **policy: Any,
) -> RoutingState:
    """All experts certified, the reference dearest; keywords change the policy."""
    model = model or scorer()
    pool = tuple(
        PoolMember(
            name=name,
            status=(statuses or {}).get(name, ExpertStatus.CERTIFIED),
            price=Price(request_usd=(costs or {}).get(name, 1.0 / (1 + i))),
        )
        for i, name in enumerate(model.columns)
    )
    return RoutingState(
        version=7,
        parent=6,
        policy=PolicySettings(**({"reference": STRONG} | policy)),
        policy_version=3,
        encoder="encoder-1",
        pool=pool,
        model=model,
        threshold=threshold,
        safe_reason=Reason.SAFE_INFEASIBLE if threshold >= 2.0 else None,
        effective_labels=150.5 if threshold < 2.0 else 0.0,
    )
