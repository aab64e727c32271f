"""Experts split into seen and unseen, and what their probes say of the unseen ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

import numpy as np
from sklearn.cluster import KMeans

from benchmarks.areas import Pool, areas, choices
from benchmarks.newcomer_sets import TRAIN, VALIDATION, Recorded, Rows
from online.categories import UNKNOWN
from online.clusters import CLUSTERS, fit_centroids, membership, unit_rows
from online.cost_spectrum import Descriptor, Head, Spectrum, place, project, train
from online.learn import SHRINKAGE, JudgedRequest, LearnSettings, OnlineLearner
from online.scorer import ScorerModel
from store.records import ExpertId, Float32Array, FloatArray, RequestId, SampledRequest

PROBES = (0, 16, 64, 192)
SEEN = 2 / 3
TRAINED_ON = 1_500
"""Prompts that a head is trained on at most."""
ACCEPTABLE = 0.5
"""Quality from which an answer counts as correct."""
MAP_SIZES = (5, 10, 20, 40)
START = Spectrum(epochs=20)
GRID: dict[str, tuple[Any, ...]] = {
    "bands": (1, 2),
    "tau_min": (0.1, 0.2),
    "gamma_neg": (-0.5, -0.2, 0.0, 0.5),
    "epochs": (10, 60),
    "tau_slope": (0.0, 0.5),
}
"""Tried one after the other beside the value held, each kept where it is better."""
HIDDEN, HIDDEN_PROBES = 2, 64
"""How often a third of the seen experts plays newcomer, and with how many probes."""
COST_WEIGHT, MARGIN = 0.1, 0.05
"""Of the router's learner; neither touches its scores."""
_WHEN = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Maps:
    """Clusters of a set's training prompts, one fit for all splits of its experts."""

    product: Float32Array
    """float32[5, 16, d]: the router's, for each excluded fold."""
    hard: dict[int, FloatArray]
    """UniRoute's, by how many there are."""


def clustered(data: Recorded) -> Maps:
    """Return the clusters of the training prompts."""
    rows = data.rows(TRAIN)
    vectors = data.embeddings[rows]
    hard = {k: KMeans(k, n_init=2, random_state=0).fit(vectors).cluster_centers_ for k in MAP_SIZES}
    return Maps(fit_centroids(vectors, data.folds[rows].tolist()), hard)


def drawn(data: Recorded, maps: Maps, seed: int) -> Split:
    """Return a random split of the experts, and the probes that are drawn with it."""
    random = np.random.default_rng(seed)
    experts = random.permutation(len(data.experts))
    cut = round(SEEN * len(experts))
    rows = random.permutation(data.rows(TRAIN))
    return Split(
        data=data,
        maps=maps,
        seen=np.sort(experts[:cut]),
        unseen=np.sort(experts[cut:]),
        probes=rows[: PROBES[-1]],
        trained_on=rows[:TRAINED_ON],
        seed=seed,
    )


@dataclass(frozen=True, kw_only=True)  # no slots: what is derived is cached in it
class Split:
    """One draw of who is seen, and of the probes: nested, the same for every expert."""

    data: Recorded
    maps: Maps
    seen: Rows
    """Columns, in order of cost as all columns are."""
    unseen: Rows
    probes: Rows
    """int64[192]: training rows."""
    trained_on: Rows
    seed: int

    def pool(self, columns: Rows, rows: Rows) -> Pool:
        """Return what these experts would do on these prompts."""
        at = np.ix_(rows, columns)
        return Pool(self.data.quality[at], self.data.cost[at], self.expected(columns))

    def expected(self, columns: Rows) -> FloatArray:
        """Return float64[m]: expected costs over the dearest of these experts'."""
        return np.asarray(self.data.expected[columns] / self.data.expected[columns].max())

    def probed(self, columns: Rows, count: int) -> FloatArray:
        """Return float64[count, m]: what the first probes say."""
        return np.asarray(self.data.quality[np.ix_(self.probes[:count], columns)])

    def area(self, scores: FloatArray, columns: Rows, rows: Rows) -> float:
        """Return the area that these scores make of these prompts."""
        pool = self.pool(columns, rows)
        return float(areas(pool, choices(scores, pool.expected), np.ones((1, len(rows))))[0])

    @cached_property
    def line(self) -> tuple[FloatArray, float]:
        """Quality in log cost over the seen experts, and how many labels that line is worth:
        variance within an expert over variance about the line.
        """
        quality = self.data.quality[np.ix_(self.data.rows(TRAIN), self.seen)]
        means, logs = quality.mean(axis=0), np.log(self.data.expected[self.seen])
        line = np.polyfit(logs, means, 1)
        about = np.mean((means - np.polyval(line, logs)) ** 2)
        return line, float(quality.var(axis=0).mean() / about)

    @cached_property
    def shape(self) -> FloatArray:
        """float64[K]: mean quality of the seen experts in each cluster, less their mean."""
        rows = self.data.rows(TRAIN)
        weights = self.weights(rows)
        mean = self.data.quality[np.ix_(rows, self.seen)].mean(axis=1)
        return np.asarray(mean @ weights / weights.sum(axis=0) - mean.mean())

    def weights(self, rows: Rows) -> FloatArray:
        """Return float64[n, K]: soft membership in the router's clusters."""
        return membership(self.data.embeddings[rows], self.maps.product[0])

    def level(self, columns: Rows, count: int) -> FloatArray:
        """Return float64[m]: mean quality by price, and by the probes as far as there are any."""
        line, worth = self.line
        prior = np.polyval(line, np.log(self.data.expected[columns]))
        said = self.probed(columns, count).sum(axis=0)
        return np.asarray((worth * prior + said) / (worth + count))

    def table(self, columns: Rows, count: int) -> FloatArray:
        """Return float64[K, m]: quality by cluster as far as the probes say. The level is shrunk to
        the line by price, the clusters to the level and the seen experts' shape.
        """
        said, weights = self.probed(columns, count), self.weights(self.probes[:count])
        expected = self.level(columns, count) + self.shape[:, None]
        sums, counts = weights.T @ said, weights.sum(axis=0)[:, None]
        return np.asarray((sums + SHRINKAGE * expected) / (counts + SHRINKAGE))

    def profiles(self, columns: Rows, count: int) -> list[Descriptor]:
        """Return descriptors float64[K + 1]: by how much an expert is better than the seen ones in
        each cluster, and a constant, so that unit length does not hide by how much.
        """
        base = self.table(self.seen, PROBES[-1])
        away = self.table(columns, count) - base.mean(axis=1, keepdims=True)
        size = float(np.median(np.linalg.norm(base - base.mean(axis=1, keepdims=True), axis=0)))
        rows = unit_rows(np.column_stack([away.T, np.full(len(columns), size)]))
        return [Descriptor("profile", row) for row in rows]

    def random(self, columns: Rows) -> list[Descriptor]:
        """Return unit descriptors that say nothing, each expert's own for all its life."""
        rows = np.random.default_rng(self.seed).normal(size=(len(self.data.experts), CLUSTERS + 1))
        return [Descriptor("random", row) for row in unit_rows(rows[columns])]

    def head(self, descriptors: list[Descriptor], settings: Spectrum, seed: int = 0) -> Head:
        """Return a head trained on the seen experts."""
        at = np.ix_(self.trained_on, self.seen)
        return train(
            self.data.embeddings[self.trained_on],
            self.data.quality[at] >= ACCEPTABLE,
            self.expected(self.seen),
            descriptors,
            settings,
            seed=seed,
        )

    def cosines(self, head: Head, descriptors: list[Descriptor], rows: Rows) -> FloatArray:
        """Return float64[n, m]: of prompts with experts."""
        return np.asarray(project(self.data.embeddings[rows], head) @ place(descriptors, head).T)

    @cached_property
    def settings(self) -> Spectrum:
        """What does best on validation prompts for seen experts that are hidden in training, one
        setting at a time. What does best for experts trained on need not do for newcomers.
        """
        trials = [_hiding(self, number) for number in range(HIDDEN)]
        best, held = _worth(trials, START), START
        for name, values in GRID.items():
            for value in values:
                other = replace(held, **{name: value})
                if (made := _worth(trials, other)) > best:
                    best, held = made, other
        return held

    @cached_property
    def heads(self) -> dict[str, Head]:
        """The heads for profiles and for random descriptors, by the same settings."""
        known = {
            "profile": self.profiles(self.seen, PROBES[-1]),
            "random": self.random(self.seen),
        }
        return {kind: self.head(of, self.settings) for kind, of in known.items()}

    @cached_property
    def learnt(self) -> dict[int, ScorerModel]:
        """The router's own scorer of the unseen experts after each number of probes."""
        names = tuple(ExpertId(self.data.experts[i]) for i in self.unseen)
        settings = LearnSettings(
            columns=names,
            relative_costs=tuple(self.expected(self.unseen).tolist()),
            cost_weight=COST_WEIGHT,
            margin=MARGIN,
        )
        learner, frozen = OnlineLearner(self.maps.product, settings), {}
        for seq, row in enumerate(self.probes.tolist()):
            if seq in PROBES:
                frozen[seq] = learner.frozen()
            scores = dict(zip(names, self.data.quality[row, self.unseen].tolist(), strict=True))
            learner.learn(JudgedRequest(request=self._request(seq, row, names), scores=scores))
        return frozen | {len(self.probes): learner.frozen()}

    def _request(self, seq: int, row: int, names: tuple[ExpertId, ...]) -> SampledRequest:
        return SampledRequest(
            request_id=RequestId(str(row)),
            seq=seq,
            fold=int(self.data.folds[row]),
            inclusion_probability=1.0,
            due_experts=names,
            reference=names[-1],
            served_expert=names[-1],
            threshold=1.0,
            state_version=1,
            decided_at=_WHEN,
            tenant="default",
            embedding=self.data.embeddings[row],
            category=UNKNOWN,
        )


def _hiding(split: Split, number: int) -> Split:
    """Return a split of the seen experts alone."""
    experts = np.random.default_rng((split.seed, number)).permutation(split.seen)
    cut = round(SEEN * len(experts))
    return replace(split, seen=np.sort(experts[:cut]), unseen=np.sort(experts[cut:]))


def _worth(trials: Sequence[Split], settings: Spectrum) -> float:
    """Return the mean area for hidden experts on validation prompts."""
    found = []
    for one in trials:
        head = one.head(one.profiles(one.seen, PROBES[-1]), settings)
        rows = one.data.rows(VALIDATION)
        scores = one.cosines(head, one.profiles(one.unseen, HIDDEN_PROBES), rows)
        found.append(one.area(scores, one.unseen, rows))
    return float(np.mean(found))
