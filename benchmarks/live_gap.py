"""``python -m benchmarks.live_gap --data DIR``: the gap confidence, and what the comparator adds.

Prequential: every prompt is scored by the newest frozen state without its own fold, as served
traffic is; then its labels are learnt. The pair is the best two of all experts by utility: the
search among descriptors, which serves only with many experts, is left out. All experts are judged
on every prompt, and every prompt counts but those that the clusters were fitted on and a start-up.
The number of clusters and the sharpness were chosen on `mmlupro` among others (DESIGN.md, decision
7); the gap confidence itself has chosen nothing on either set.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from benchmarks.given import recorded_in
from benchmarks.newcomer_sets import FILES, MMLU, PARETO, TRAIN, Recorded, Rows, read
from benchmarks.pools import CACHE, sentence_encoder
from benchmarks.timing import mean_with_interval, table, verdict
from online.cargo import confidence, within
from online.categories import Categories, from_examples
from online.clusters import fit_centroids
from online.comparator import features, probability
from online.encode import CachedEncoder
from online.gap import gap_of
from online.learn import JudgedRequest, LearnSettings, OnlineLearner
from online.scorer import ScorerModel, excluded_fold, score
from store.policy import PolicySettings
from store.records import (
    DEFAULT_TENANT,
    ExpertId,
    FloatArray,
    RequestId,
    SampledRequest,
)

SETS = (MMLU, PARETO)
ORDERS = 4
MOST = 3_000
"""Prompts of a set, at most."""
START = 200
EVERY = 16
"""Labels between two states."""
COST_WEIGHTS = (1.0, 0.1)
"""The default, and one by which the two best are of almost the same utility."""
BINS = 10
TARGET = 0.05
SEED = 20_261_201
POLICY = PolicySettings(reference=ExpertId("any"))
NOW = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Seen:
    """What was said of n prompts before their labels, and what the labels say."""

    confidence: FloatArray
    reversed: FloatArray
    """The confidence with the gap's sign turned round."""
    holds: FloatArray
    """1 where the first was acceptable against the second."""
    asked: FloatArray
    """1 where the comparator is asked."""
    changed: FloatArray
    """1 where it prefers the second."""
    quality: FloatArray
    """By which the second is better, judged."""
    cost: FloatArray
    """By which it is dearer, over the reference's cost."""

    def gain(self, cost_weight: float) -> tuple[float, float, float]:
        """Return what its changes add per prompt: quality, cost, and quality minus cost."""
        quality = float(np.mean(self.changed * self.quality))
        cost = float(np.mean(self.changed * self.cost))
        return quality, cost, quality - cost_weight * cost


def main() -> None:
    """Print the tables."""
    folder = recorded_in("live_gap", __doc__, (f for name in SETS for f in FILES[name]))
    if folder is None:
        return
    categories = from_examples(CachedEncoder(sentence_encoder(), CACHE))
    runs = {
        (f"{name}, {pool}", cost_weight): [
            watched(data, categories, columns, order, cost_weight) for order in range(ORDERS)
        ]
        for name in SETS
        for data in [read(folder, name)]
        for pool, columns in pools(len(data.experts)).items()
        for cost_weight in COST_WEIGHTS
    }
    print(calibration(runs))
    print(reliability(runs))
    print(comparison(runs))


def pools(experts: int) -> dict[str, Rows]:
    """Return the columns of each pool; the last, the dearest, is the reference."""
    spaced = np.unique(np.linspace(0, experts - 1, 4).round().astype(np.int64))
    whole = np.arange(experts)
    return {f"{len(each)} experts": each for each in (spaced, whole)}


def watched(
    data: Recorded, categories: Categories, columns: Rows, order: int, cost_weight: float
) -> Seen:
    """Return one stream's prompts after the start, in a random order."""
    rng = np.random.default_rng((SEED, order))
    fitted = data.rows(TRAIN)[:400]
    centroids = fit_centroids(data.embeddings[fitted], data.folds[fitted].tolist())
    rows = rng.permutation(np.setdiff1d(np.arange(len(data.folds)), fitted))[:MOST]
    names = tuple(ExpertId(data.experts[i]) for i in columns)
    costs = data.expected[columns] / data.expected[columns[-1]]
    settings = LearnSettings(
        columns=names,
        relative_costs=tuple(costs.tolist()),
        cost_weight=cost_weight,
        margin=POLICY.margin,
    )
    learner = OnlineLearner(centroids, settings)
    model, found = learner.frozen(), []
    named = categories.names(data.embeddings[rows])
    for seq, (row, category) in enumerate(zip(rows, named, strict=True)):
        quality = data.quality[row, columns]
        if seq % EVERY == 0:
            model = learner.frozen()
        request = asked(data, int(row), seq, names, category)
        said = before_label(model, request, settings, quality)
        if said is not None and seq >= START:
            found.append(said)
        scores = dict(zip(names, quality.tolist(), strict=True))
        learner.learn(JudgedRequest(request=request, scores=scores))
    return Seen(*np.array(found).T)


def before_label(
    model: ScorerModel,
    request: SampledRequest,
    settings: LearnSettings,
    quality: FloatArray,
) -> tuple[float, ...] | None:
    """Return a prompt's part of ``Seen``, as ``route`` computes it where λ admits both.

    None where fewer than two experts have a score.
    """
    costs, entry = np.array(settings.relative_costs), excluded_fold(request.fold)
    embedding = np.asarray(request.embedding, dtype=np.float32)
    scores = score(model, embedding[None], excluded=entry)
    utility = scores.quality[0] - settings.cost_weight * costs
    ranked = [int(i) for i in np.argsort(-utility, kind="stable") if np.isfinite(utility[i])]
    if len(ranked) < 2:
        return None
    first, second = ranked[:2]
    gap = gap_of(
        model,
        embedding,
        scores.quality[0],
        first,
        second,
        entry=entry,
        category=request.category,
    )
    sure = confidence(gap, model.gap[entry])
    described = features(
        table=scores.table[0],
        calibrated=scores.calibrated[0],
        cosine=scores.cosine[0],
        relative_cost=costs,
    )
    asked = sure < POLICY.tau
    beats = probability(described[first], described[second], model.comparator[entry])
    lead = float(quality[first] - quality[second])
    return (
        sure,
        confidence(-gap, model.gap[entry]),
        float(within(-lead, POLICY.margin)),
        float(asked),
        float(asked and beats < 0.5),
        -lead,
        float(costs[second] - costs[first]),
    )


def asked(
    data: Recorded, row: int, seq: int, names: tuple[ExpertId, ...], category: str
) -> SampledRequest:
    """Return the prompt as learning gets it."""
    return SampledRequest(
        request_id=RequestId(str(row)),
        seq=seq,
        fold=int(data.folds[row]),
        inclusion_probability=1.0,
        due_experts=names,
        reference=names[-1],
        served_expert=names[-1],
        threshold=0.0,
        state_version=1,
        decided_at=NOW,
        tenant=DEFAULT_TENANT,
        embedding=data.embeddings[row],
        category=category,
    )


def bins(said: FloatArray) -> list[Rows]:
    """Return ten groups of as many prompts, by confidence."""
    return [b for b in np.array_split(np.argsort(said, kind="stable"), BINS) if len(b)]


def calibration_error(said: FloatArray, holds: FloatArray) -> float:
    """Return the expected calibration error over ``bins``: mean |share − mean confidence|."""
    off = [len(b) * abs(float(np.mean(holds[b]) - np.mean(said[b]))) for b in bins(said)]
    return sum(off) / len(said)


def floor(said: FloatArray, rng: np.random.Generator, *, times: int = 50) -> float:
    """Return the mean error that a perfect confidence would show on so many prompts."""
    drawn = [(rng.random(len(said)) < said).astype(np.float64) for _ in range(times)]
    return float(np.mean([calibration_error(said, one) for one in drawn]))


Runs = dict[tuple[str, float], list[Seen]]
"""By set with pool, and cost weight."""


def calibration(runs: Runs) -> str:
    """Compare what was said with what came, over the orders."""
    rng = np.random.default_rng(SEED)
    rows = []
    for (where, cost_weight), found in runs.items():
        mean, low, high = mean_with_interval(
            [calibration_error(one.confidence, one.holds) for one in found]
        )
        perfect = np.mean([floor(one.confidence, rng) for one in found])
        control = np.mean([calibration_error(one.reversed, one.holds) for one in found])
        share = np.mean([np.mean(one.holds) for one in found])
        each = (where, f"{cost_weight:g}", f"{len(found[0].holds):,}", f"{share:.3f}")
        errors = (f"{mean:.3f} ({low:.3f} to {high:.3f})", f"{perfect:.3f}", f"{control:.3f}")
        rows.append((*each, *errors, verdict(mean, TARGET)))
    columns = ("set, pool", "cost weight", "prompts an order", "first acceptable", "error (95 %)")
    others = ("a perfect one's", "gap turned round", f"target {TARGET:g}")
    return (
        f"\nExpected calibration error of the gap confidence, {BINS} bins of as many prompts,"
        f" {ORDERS} random orders (intervals over orders):\n" + table((*columns, *others), rows)
    )


def reliability(runs: Runs) -> str:
    """Show the bins of all orders together: what was said, what came."""
    columns, rows = ["set, pool", "cost weight"], []
    for (where, cost_weight), found in runs.items():
        said = np.concatenate([one.confidence for one in found])
        holds = np.concatenate([one.holds for one in found])
        pairs = [f"{np.mean(said[b]):.2f} → {np.mean(holds[b]):.2f}" for b in bins(said)]
        rows.append((where, f"{cost_weight:g}", *pairs))
    columns += [f"bin {i}" for i in range(1, BINS + 1)]
    return "\nReliability, said → came, all orders together:\n" + table(columns, rows)


def comparison(runs: Runs) -> str:
    """Show what the comparator's changes are worth, where λ admits both experts."""
    rows = []
    for (where, cost_weight), found in runs.items():
        asked = 100.0 * np.mean([np.mean(one.asked) for one in found])
        changed = 100.0 * np.mean([np.mean(one.changed) for one in found])
        gains = np.array([one.gain(cost_weight) for one in found])
        shown = [
            "{:+.4f} ({:+.4f} to {:+.4f})".format(*mean_with_interval(column)) for column in gains.T
        ]
        rows.append((where, f"{cost_weight:g}", f"{asked:.0f} %", f"{changed:.1f} %", *shown))
    columns = ("set, pool", "cost weight", "asked", "changes the choice", "judged quality", "cost")
    return (
        "\nThe comparator on against off, per prompt, with both experts admitted (its largest"
        " effect); cost in reference calls:\n" + table((*columns, "quality - cost"), rows)
    )


if __name__ == "__main__":
    main()
