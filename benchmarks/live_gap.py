"""``python -m benchmarks.live_gap --data DIR``: the gap confidence, and what the comparator adds.

Prequential: every prompt is scored by the newest frozen state without its own fold, as served
traffic is; then its labels are learnt. The pair is the best two of all experts by utility: the
search among descriptors, which serves only with many experts, is left out. All experts are judged
on every prompt. Which gap to take was chosen on the training half of `mmlupro`, so only its other
half is streamed; of `paretobandit4`, which chose nothing, everything but what the clusters were
fitted on. (The number of clusters was chosen on the whole of `mmlupro`: DESIGN.md, decision 7.)
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from benchmarks.gap_tables import Seen, calibration, comparison, draw, reliability
from benchmarks.given import recorded_in
from benchmarks.newcomer_sets import FILES, MMLU, PARETO, TRAIN, Recorded, Rows, read
from benchmarks.pools import CACHE, sentence_encoder
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
CHOSEN_ON = MMLU
MOST = 3_000
"""Prompts of a set, at most."""
START = 200
EVERY = 16
"""Labels between two states."""
COST_WEIGHTS = (1.0, 0.1)
"""The default, and one by which the two best are of almost the same utility."""
SEED = 20_261_201
PICTURE = Path(__file__).parents[1] / "docs" / "reliability.svg"
POLICY = PolicySettings(reference=ExpertId("any"))
NOW = datetime(2026, 1, 1, tzinfo=UTC)


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
    draw(runs, PICTURE)
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
    told = data.rows(TRAIN) if data.name == CHOSEN_ON else fitted
    rows = rng.permutation(np.setdiff1d(np.arange(len(data.folds)), told))[:MOST]
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


if __name__ == "__main__":
    main()
