"""The scorer of a cycle: clusters fitted once, then every judged request in ledger order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from safetensors.numpy import load, save

from online.clusters import fit_centroids
from online.costs import NOMINAL_INPUT_TOKENS
from online.learn import LearnSettings
from online.learner import LabelWindow, Learner
from online.scorer import ScorerModel
from online.snapshot import checksum
from online.state import PoolMember, RoutingState, pool_of
from recalibrate.inputs import Inputs
from store.clock import Clock
from store.errors import StateRefused
from store.ledger import Ledger
from store.policy import PolicySettings
from store.records import ExpertId, Float32Array, SampledRequest

AT_ONCE = 1_000
"""Judged requests learnt in one cycle, about a second's worth. A change of pool or prices makes
learning start over, and must not wait for the end of it."""


class ScorerSource:
    """Keeps clusters and learner between cycles; rebuilds them from the ledger when asked anew."""

    def __init__(self, ledger: Ledger, clock: Clock, *, encoder: str) -> None:
        self._ledger = ledger
        self._clock = clock
        self._encoder = encoder
        self._kind = f"clusters:{encoder[:16]}"
        self._centroids: Float32Array | None = None
        self._learner: Learner | None = None
        self.is_behind = False
        """Whether the scorer last returned was the active one, because learning is not done."""

    def scorer(self, inputs: Inputs, window: LabelWindow, touched: set[int]) -> ScorerModel | None:
        """Return the scorer after every judged request; the active one while held, and while
        learning ``is_behind``; None before there are enough sampled prompts to cluster.

        Parameters
        ----------
        touched
            Ledger sequences whose labels changed since the last call.
        """
        self.is_behind = False
        if self._learner is not None:
            self._learner.forget_from(touched)
        pool = pool_of(inputs.experts, output_tokens={})
        if inputs.policy.hold and inputs.active is not None:
            return held(inputs.active, pool, inputs.policy.reference, encoder=self._encoder)
        if self._centroids is None:
            self._centroids = self._clusters(inputs.policy.cluster_prompts)
        if self._centroids is None:
            return None
        settings = _settings(pool, inputs.policy)
        if self._learner is None or not self._learner.uses(self._centroids, settings):
            self._learner = Learner(self._centroids, settings)
        while (learnt := self._learner.replay(window, at_most=AT_ONCE)) is None:
            active = inputs.active
            if active is None:
                continue  # nothing to serve with meanwhile
            kept = held(active, pool, inputs.policy.reference, encoder=self._encoder)
            if kept is not None:
                self.is_behind = True
                return _repriced(kept, settings)
        return learnt

    def _clusters(self, count: int) -> Float32Array | None:
        """Return the stored clusters, or fit them once enough sampled prompts are there.

        Fitted on the first sampled prompts by ledger sequence, labelled or not, so that the
        clusters do not depend on which labels came first.
        """
        with self._ledger.begin() as tx:
            stored = tx.states.newest_snapshot(self._kind)
            if stored is not None:
                return np.asarray(load(stored[1])["centroids"], dtype=np.float32)
            first = tx.decisions.first_sampled(count, excluding_fold=0, encoder=self._encoder)
        if len(first) < count:
            return None
        return self._fitted(first)

    def _fitted(self, first: Sequence[SampledRequest]) -> Float32Array:
        embeddings = np.stack([r.embedding for r in first]).astype(np.float32)
        centroids = fit_centroids(embeddings, [r.fold for r in first])
        payload = save({"centroids": centroids})
        with self._ledger.begin() as tx:
            tx.states.save_snapshot(self._kind, checksum(payload), payload, now=self._clock.now())
        return centroids


def held(
    state: RoutingState, pool: Sequence[PoolMember], reference: ExpertId, *, encoder: str
) -> ScorerModel | None:
    """Return a state's scorer for today's pool; None if it never knew the reference, or scores the
    vectors of another encoder: λ would be for scores that nobody computes.
    """
    model = state.model
    if model is None or state.encoder != encoder or reference not in model.columns:
        return None
    return model.restricted([m.name for m in pool])


def _repriced(kept: ScorerModel, settings: LearnSettings) -> ScorerModel:
    """Return a scorer at today's prices."""
    costs = dict(zip(settings.columns, settings.relative_costs, strict=True))
    return replace(kept, relative_costs=np.array([costs[name] for name in kept.columns]))


def _settings(pool: Sequence[PoolMember], policy: PolicySettings) -> LearnSettings:
    reference = policy.reference
    unit = next((m.cost(NOMINAL_INPUT_TOKENS) for m in pool if m.name == reference), None)
    if unit is None:
        raise StateRefused(f"the reference {reference!r} is paused or retired")
    return LearnSettings(
        columns=tuple(m.name for m in pool),
        relative_costs=tuple(m.cost(NOMINAL_INPUT_TOKENS) / unit for m in pool),
        cost_weight=policy.cost_weight,
        margin=policy.margin,
    )
