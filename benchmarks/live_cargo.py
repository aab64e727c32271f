"""``python -m benchmarks.live_cargo --data DIR``: CARGO's regressors, label by label.

Whether learning label by label is the fit to all labels, what a label takes, whose scores it moves,
what the maps weigh, and what they predict.
"""

from __future__ import annotations

import copy

import numpy as np

from benchmarks.cargo_streams import Stream, refitted, streams
from benchmarks.cargo_worth import kinds, worth
from benchmarks.given import recorded_in
from benchmarks.live_gap import asked as request_of
from benchmarks.newcomer_sets import FILES, MMLU, PARETO, TRAIN, Recorded, read
from benchmarks.pools import CACHE, sentence_encoder
from benchmarks.timing import interleaved, mean_with_interval, ms, table, timed, verdict
from online.categories import NAMES, UNKNOWN, from_examples
from online.clusters import CLUSTERS, fit_centroids
from online.encode import CachedEncoder
from online.learn import JudgedRequest, LearnSettings, OnlineLearner
from online.regress import Regressors, score
from store.records import FOLDS, ExpertId, FloatArray

SETS = (MMLU, PARETO)
RUNS = 5
SEED = 47
COUNTS = (100, 300, 1_000, 3_000)
SCORED = 500
"""Prompts that must be left to be scored."""
JUDGED, LEAST_PI = 0.6, 0.2
"""Share of the pairs of prompt and expert that are judged, and the least π, for exactness."""
PROBED = 60
"""Single labels whose effect is measured, in each run."""
LOCAL_AFTER = (300, 1_000)
WORTH_AFTER = 1_000
TENTH = 0.1
EXPERTS = (3, 10, 31)
TIMED_FROM, TIMED = 300, 1_500
EXACT, LABEL_MS, LOCAL, BYTES = 0.01, 1.0, 5.0, 16 * 2**20
"""The targets: points of score (%), ms, ratio, bytes."""


def main() -> None:
    """Print the tables, or why there are none."""
    data = recorded_in("live_cargo", __doc__, (f for name in SETS for f in FILES[name]))
    if data is None:
        return
    encoder = CachedEncoder(sentence_encoder(), CACHE)
    categories = from_examples(encoder)
    drawn = {n: streams(read(data, n), categories, RUNS, SEED) for n in SETS}
    print(exact(drawn))
    print(cost(drawn[MMLU][0]))
    print(learner(read(data, MMLU)))
    print(locality(drawn))
    print(weight(drawn[MMLU][0].embeddings.shape[1]))
    print(worth(drawn, WORTH_AFTER))
    print(kinds(data, encoder, categories))


def _counts(stream: Stream) -> list[int]:
    return [count for count in COUNTS if count + SCORED <= len(stream.quality)]


def exact(drawn: dict[str, list[Stream]]) -> str:
    """Compare the maps learnt label by label with the fit to the same labels."""
    rows = []
    for name, (stream, *_) in drawn.items():
        for count in _counts(stream):
            away = _difference(stream, count)
            rows.append(
                (
                    f"`{name}`",
                    f"{count:,}",
                    f"{100 * away.mean():.1e} %",
                    f"{100 * away.max():.1e} %",
                    verdict(100 * away.mean(), EXACT),
                )
            )
    columns = ("set", "judged prompts", "mean", "most", f"target {EXACT:g} %")
    return (
        f"\nScores of label-by-label maps less those of a refit, in points of score; {JUDGED:.0%}"
        f" of the experts judged on each prompt at random, π from {LEAST_PI:g} to 1, labels"
        " forgotten:\n" + table(columns, rows)
    )


def _difference(stream: Stream, count: int) -> FloatArray:
    """Return float64[n, M]: absolute differences on the prompts that were not learnt."""
    rng = np.random.default_rng((SEED, count))
    judged = rng.random((count, stream.quality.shape[1])) < JUDGED
    weights = 1.0 / rng.uniform(LEAST_PI, 1.0, count)
    made = stream.empty(stream.quality.shape[1])
    for row in range(count):
        known = {int(m): float(stream.quality[row, m]) for m in np.flatnonzero(judged[row])}
        category = int(stream.categories[row])
        made.learn(stream.features[row], category, known, weight=weights[row])
    rest = stream.embeddings[count:], stream.categories[count:]
    ours, theirs = made.frozen(), refitted(stream, judged, weights)
    return np.abs(score(ours, *rest) - score(theirs, *rest))


def cost(stream: Stream) -> str:
    """Time a label against a bare rank-one update of one matrix of the same size."""
    rows = []
    for experts in EXPERTS:
        for name, apart, fresh in (
            ("judged together", False, False),
            ("and the map solved anew", False, True),
            ("never judged together", True, False),
        ):
            made = _parted(stream, experts) if apart else stream.empty(experts)
            for row in range(TIMED_FROM):
                stream.teach(made, row, experts=experts)
            ours, bare = _timings(stream, made, experts, fresh=fresh)
            rows.append(
                (
                    f"{experts} experts, {name}",
                    ms(ours),
                    ms(bare),
                    f"{ours / bare:.1f}",
                    verdict(1e3 * ours, LABEL_MS),
                )
            )
    columns = ("one judged prompt", "median", "rank-one update", "ratio", f"target {LABEL_MS:g} ms")
    return (
        f"\nOne judged prompt, with the label of every expert, into the sums of one excluded fold"
        f" (a prompt goes into those of four), {TIMED:,} interleaved pairs; solving makes all"
        " experts' maps of the prompt's category:\n" + table(columns, rows)
    )


def learner(data: Recorded) -> str:
    """Time everything that a judged request teaches the router, per label."""
    rows = []
    half = data.rows(TRAIN)
    centroids = fit_centroids(data.embeddings[half], data.folds[half].tolist())
    asked = np.flatnonzero(data.part != TRAIN)[: TIMED_FROM + TIMED]
    for experts in EXPERTS:
        columns = np.linspace(0, len(data.experts) - 1, experts).round().astype(np.int64)
        names = tuple(ExpertId(data.experts[i]) for i in columns)
        costs = tuple((data.expected[columns] / data.expected[columns[-1]]).tolist())
        settings = LearnSettings(columns=names, relative_costs=costs, cost_weight=1.0, margin=0.0)
        made = OnlineLearner(centroids, settings)
        judged = [
            JudgedRequest(
                request=request_of(data, int(row), seq, names, UNKNOWN),
                scores=dict(zip(names, data.quality[row, columns].tolist(), strict=True)),
            )
            for seq, row in enumerate(asked)
        ]
        for one in judged[:TIMED_FROM]:
            made.learn(one)
        found = timed(made.learn, judged[TIMED_FROM:])
        label = found.seconds.mean() / experts
        mean = ms(float(found.seconds.mean()))
        shown = (f"{experts} experts", ms(found.p50), mean, ms(label))
        rows.append((*shown, verdict(1e3 * label, LABEL_MS)))
    columns_shown = ("one judged prompt", "median", "mean", "mean a label")
    return (
        f"\nEverything that a judged prompt teaches: tables, isotonic maps, regressors, gap and"
        f" comparator of all excluded folds, all maps solved every 16th time; {TIMED:,} prompts:\n"
        + table((*columns_shown, f"target {LABEL_MS:g} ms"), rows)
    )


def _timings(stream: Stream, made: Regressors, experts: int, *, fresh: bool) -> tuple[float, float]:
    gram, x = np.zeros((CLUSTERS, CLUSTERS)), np.full(CLUSTERS, 1.0 / CLUSTERS)

    def learn(row: int) -> None:
        stream.teach(made, row, experts=experts)
        if fresh:
            made.weights([int(stream.categories[row])])

    def bare(_: int) -> None:
        np.add(gram, np.outer(x, x), out=gram)

    ours, theirs = interleaved(learn, bare, range(TIMED_FROM, TIMED_FROM + TIMED))
    return ours.p50, theirs.p50


def _parted(stream: Stream, experts: int) -> Regressors:
    """Return regressors whose experts were each judged alone once, so that they share nothing."""
    made = stream.empty(experts)
    for m in range(experts):
        made.learn(stream.features[m], 0, {m: 0.5}, weight=1.0)
    return made


def locality(drawn: dict[str, list[Stream]]) -> str:
    """Compare what one label does to the tenth of prompts nearest to it and to the farthest."""
    rows = []
    for name, runs in drawn.items():
        for after in LOCAL_AFTER:
            moved = np.array([_moved(stream, after) for stream in runs])
            ratios = moved[:, 0] / moved[:, 1]
            mean, low, high = mean_with_interval(ratios)
            near, far, signed_near, signed_far = moved.mean(axis=0)
            rows.append(
                (
                    f"`{name}`",
                    f"{after:,}",
                    f"{near:.5f}",
                    f"{far:.5f}",
                    f"{mean:.1f} ({low:.1f} to {high:.1f})",
                    verdict(mean, LOCAL, at_least=True),
                    f"{signed_near:+.5f}",
                    f"{signed_far:+.5f}",
                )
            )
    columns = ("set", "labels before", "nearest", "farthest", "ratio (95 %)", f"target {LOCAL:g}")
    return (
        f"\nMean absolute change of a score after one more judged prompt, among the tenth of the"
        f" other prompts nearest to it by cosine and the farthest; {PROBED} prompts in each of"
        f" {RUNS} orders, intervals over these. Signed: towards the label is positive:\n"
        + table((*columns, "signed, nearest", "farthest"), rows)
    )


def _moved(stream: Stream, after: int) -> FloatArray:
    """Return float64[4]: absolute and signed change, nearest and farthest."""
    made, experts = stream.learnt(after), stream.quality.shape[1]
    model, start = made.frozen(), after + PROBED
    others = stream.embeddings[start:], stream.categories[start:]
    before = score(model, *others)
    found = []
    for row in range(after, start):
        after_one = copy.deepcopy(made)
        stream.teach(after_one, row, experts=experts)
        change = score(after_one.frozen(), *others) - before
        own = score(model, stream.embeddings[[row]], stream.categories[[row]])[0]
        towards = change * np.sign(stream.quality[row] - own)
        order = np.argsort(-(others[0] @ stream.embeddings[row]), kind="stable")
        tenth = round(TENTH * len(order))
        near, far = order[:tenth], order[-tenth:]
        found.append([np.abs(change[near]).mean(), np.abs(change[far]).mean()])
        found[-1] += [towards[near].mean(), towards[far].mean()]
    return np.asarray(np.mean(found, axis=0))


def weight(dimension: int) -> str:
    """Print what the maps of a state would weigh."""
    maps = FOLDS * len(NAMES) * CLUSTERS * EXPERTS[-1] * 8
    centroids = FOLDS * CLUSTERS * dimension * 4
    row = (f"{maps:,}", f"{centroids:,}", verdict(maps + centroids, BYTES))
    columns = ("bytes of maps", "of clusters", f"target {BYTES // 2**20} MiB")
    return (
        f"\n{EXPERTS[-1]} experts, {FOLDS} excluded folds, {len(NAMES)} categories, {CLUSTERS}"
        " features, computed:\n" + table(columns, [row])
    )


if __name__ == "__main__":
    main()
