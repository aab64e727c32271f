"""One run: the learn role's cycle over one stream, for every method at once.

The scorer, the labels and the times of publication do not depend on λ (every expert of a sampled
request is judged), so that all methods share them and differ in nothing but λ. Left out are served
exploration, the comparator and the ramp's quota: ``worst_in_set`` holds for any choice inside C_λ.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from benchmarks.drift.cuts import cuts
from benchmarks.drift.labels import Publication, publications, sampled
from benchmarks.drift.learning import judged_requests, scored
from benchmarks.drift.methods import ALPHA, METHODS, Seen
from benchmarks.drift.pools import BoolArray, Pool, Rows
from benchmarks.drift.streams import CHANGE, POLICY, REQUESTS, WARM, Scenario, Stream, dearest
from online.admission import eligible, preference
from online.learn import JudgedRequest, OnlineLearner
from online.route import jittered
from recalibrate.controller import Window
from recalibrate.losses import worst_in_set
from recalibrate.rolling import FLOOR, RollingCrc
from store.records import FloatArray

INTEREST = 0.05
"""Distance from λ, in score, at which an active slice is less keen by a factor e."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Path:
    """What was in force when each of the T requests was decided."""

    quality: FloatArray
    """float64[T, M], with jitter."""
    members: BoolArray
    """bool[T, M]: C_λ at λ = 0."""
    utility: FloatArray
    """float64[T, M]"""
    points: FloatArray
    """float64[T]: λ from which on nobody unacceptable is in C_λ."""
    thresholds: dict[str, FloatArray]
    """float64[T] by method."""


class Loop:
    """The cycle over one stream.

    Parameters
    ----------
    learner
        As the warm-up left it; it is copied before it goes on learning.
    """

    def __init__(
        self, pool: Pool, scenario: Scenario, stream: Stream, learner: OnlineLearner
    ) -> None:
        self._pool, self._scenario, self._stream = pool, scenario, stream
        self._learner = learner.copy() if scenario.learns else learner
        self._costs = pool.relative_costs
        self._certified = np.ones(len(pool.experts), dtype=bool)
        self._certified[0] = not scenario.joins
        self._since = 1
        """The first judged request that says something about every certified expert: the one after
        the first at which it was due (``recalibrate.window.complete``)."""
        self._quality = self._scores_of(np.arange(len(stream.ids)))
        n = len(stream.ids)
        self._seen_points = np.full(n, -np.inf)
        self._path = Path(
            quality=np.empty_like(self._quality),
            members=np.zeros(self._quality.shape, dtype=bool),
            utility=np.empty_like(self._quality),
            points=np.full(n, -np.inf),
            thresholds={name: np.zeros(n) for name in METHODS},
        )

    def run(self, random: np.random.Generator) -> Path:
        """Return what was in force at each request of the stream."""
        self._labels = sampled(self._scenario, self._interest(), random)
        rows = judged_requests(self._pool, self._stream, self._labels)
        times = publications(self._labels, self._scenario, judged=len(self._pool.experts) - 1)
        starts = self._cut_starts(rows, times)
        methods = {name: make() for name, make in METHODS.items()}
        before = WARM
        for at, start in zip(times, starts, strict=True):
            self._update(at, rows[before : at.known])
            window, fresh = self._window(at), self._labels.positions[before : at.known]
            self._decide(np.arange(at.start, at.end))
            for name, method in methods.items():
                served = self._path.thresholds[name]
                seen = self._seen(at, window, fresh, served, since=max(start - self._since, 0))
                served[at.start : at.end] = method.threshold(seen)
            before = at.known
        return self._served_part()

    def _interest(self) -> FloatArray:
        """Return float64[N]: nearness of the best score to what λ is after the warm-up."""
        if not self._scenario.active:
            return np.ones(len(self._stream.ids))
        warm = np.arange(WARM)
        losses = worst_in_set(self._inside(warm), self._stream.judged[warm])
        middle = float(np.quantile(losses.points[:, 0], 1.0 - ALPHA))
        best = np.nan_to_num(self._inside(np.arange(len(self._stream.ids))), nan=-1.0).max(axis=1)
        return np.asarray(0.1 + np.exp(-np.abs(best - middle) / INTEREST))

    def _cut_starts(self, rows: list[JudgedRequest], times: list[Publication]) -> list[int]:
        """Return for each publication the first judged request that no alarm has cut off."""
        uniform = np.flatnonzero(self._labels.is_uniform)
        known = np.searchsorted(uniform, [at.known for at in times]).tolist()
        *cheap, reference = self._pool.experts
        found = cuts([rows[i] for i in uniform], known, cheap, reference=reference)
        seqs = self._stream.seqs[self._labels.positions]
        firsts = np.zeros(len(times), dtype=np.int64)
        for cut in found:
            firsts[cut.publication :] = np.searchsorted(seqs, cut.from_seq)
        return [int(first) for first in firsts]

    def _update(self, at: Publication, fresh: Sequence[JudgedRequest]) -> None:
        """Learn, take prices over, certify; re-score what the publication needs."""
        scenario = self._scenario
        if at.start >= WARM + CHANGE and scenario.price != 1.0:
            column = dearest(self._pool)
            self._costs = self._pool.relative_costs.copy()
            self._costs[column] *= scenario.price
        if scenario.learns:
            for row in fresh:
                self._learner.learn(row)
            needed = np.concatenate(
                [self._labels.positions[: at.known], np.arange(at.start, at.end)]
            )
            self._quality[needed] = self._scores_of(needed)
        if not self._certified.all():
            self._certify(at)

    def _certify(self, at: Publication) -> None:
        """Admit the new expert once λ is feasible with it, on enough labels of traffic."""
        joined = int(np.searchsorted(self._labels.positions, WARM + CHANGE)) + 1
        if at.known - joined < FLOOR:
            return
        before = self._since
        self._certified[0], self._since = True, joined
        controller = RollingCrc(
            alpha=ALPHA,
            label_discount=POLICY.label_discount,
            age_half_life_requests=POLICY.age_half_life_requests,
        )
        if controller.threshold(self._window(at)).safe_reason is not None:
            self._certified[0], self._since = False, before

    def _window(self, at: Publication) -> Window:
        rows = self._labels.positions[self._since : at.known]
        return Window(
            losses=worst_in_set(self._inside(rows), self._stream.judged[rows]),
            inclusion_probability=self._labels.inclusion[self._since : at.known],
            requests_ago=(self._stream.seqs[at.start] - self._stream.seqs[rows]).astype(float),
            minimum_inclusion=self._labels.minimum_inclusion,
        )

    def _inside(self, rows: Rows) -> FloatArray:
        """Return float64[n, M]: scores of C_λ at λ = 0, NaN outside of it."""
        return np.where(self._members(rows), self._quality[rows], np.nan)

    def _members(self, rows: Rows) -> BoolArray:
        scores = self._quality[rows]
        preferred = preference(
            scores, self._costs, policy=POLICY.policy, cost_weight=POLICY.cost_weight
        )
        return eligible(scores, preferred, self._certified, reference=len(self._costs) - 1)

    def _decide(self, rows: Rows) -> None:
        path, inside = self._path, self._inside(rows)
        path.quality[rows] = self._quality[rows]
        path.members[rows] = np.isfinite(inside)
        path.utility[rows] = self._quality[rows] - POLICY.cost_weight * self._costs
        path.points[rows] = worst_in_set(inside, self._stream.acceptable[rows]).points[:, 0]
        self._seen_points[rows] = worst_in_set(inside, self._stream.judged[rows]).points[:, 0]

    def _seen(
        self, at: Publication, window: Window, fresh: Rows, served: FloatArray, *, since: int
    ) -> Seen:
        """Return what a method may look at; ``served`` holds its own λ by request."""
        points = self._seen_points[fresh]
        inverse = 1.0 / self._labels.inclusion[at.known - len(fresh) : at.known]
        drawn = int(np.searchsorted(self._labels.positions, at.start))
        return Seen(
            window=window,
            since=since,
            losses=(points > served[fresh]).astype(np.float64),
            points=points,
            weights=inverse / float(np.mean(1.0 / window.inclusion_probability)),
            in_flight=drawn - at.known,
        )

    def _scores_of(self, positions: Rows) -> FloatArray:
        quality = scored(self._learner.frozen(), self._pool, self._stream.prompts[positions])
        ids = [self._stream.ids[i] for i in positions.tolist()]
        return jittered(quality, ids, self._pool.experts)

    def _served_part(self) -> Path:
        path, kept = self._path, slice(WARM, WARM + REQUESTS)
        return replace(
            path,
            quality=path.quality[kept],
            members=path.members[kept],
            utility=path.utility[kept],
            points=path.points[kept],
            thresholds={name: one[kept] for name, one in path.thresholds.items()},
        )
