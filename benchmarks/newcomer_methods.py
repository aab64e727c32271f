"""Ways to score experts that nobody trained on, from the same few probes of each.

Each takes a split, the columns of experts, the rows of prompts and the number of probes, and
returns float64[n, m], larger for better.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from benchmarks.newcomer_sets import VALIDATION, Rows
from benchmarks.newcomer_split import MAP_SIZES, Split
from online.scorer import score
from store.records import FloatArray

NEIGHBOURS = (5, 10, 20, 40, 80)
Method = Callable[[Split, Rows, Rows, int], FloatArray]


def cscr(split: Split, columns: Rows, rows: Rows, count: int) -> FloatArray:
    """Cosines of the trained head with the experts' profiles."""
    return split.cosines(split.heads["profile"], split.profiles(columns, count), rows)


def random_descriptors(split: Split, columns: Rows, rows: Rows, count: int) -> FloatArray:
    """Cosines of a head trained on random descriptors; probes cannot help them."""
    del count
    return split.cosines(split.heads["random"], split.random(columns), rows)


def profile_table(split: Split, columns: Rows, rows: Rows, count: int) -> FloatArray:
    """Return the very profile that CSCR is given, read without a head."""
    return np.asarray(split.weights(rows) @ split.table(columns, count))


def product(split: Split, columns: Rows, rows: Rows, count: int) -> FloatArray:
    """Return the router's scores: tables and calibrated cosine; 0 without evidence."""
    del columns
    scores = score(split.learnt[count], split.data.embeddings[rows], excluded=0)
    return np.nan_to_num(scores.quality, nan=0.0)


def cluster_map(split: Split, columns: Rows, rows: Rows, count: int) -> FloatArray:
    """UniRoute's: accuracy of the probes in a prompt's cluster; an empty one has the expert's."""
    sizes = MAP_SIZES if count else MAP_SIZES[:1]
    return _chosen(split, columns, rows, count, [partial(_mapped, clusters=k) for k in sizes])


def neighbours(split: Split, columns: Rows, rows: Rows, count: int) -> FloatArray:
    """Return the mean of the nearest probes."""
    sizes = [k for k in NEIGHBOURS if k <= count] or [1]
    return _chosen(split, columns, rows, count, [partial(_nearest, k=k) for k in sizes])


def best_single(split: Split, columns: Rows, rows: Rows, count: int) -> FloatArray:
    """Return each expert's mean over the probes, whatever the prompt."""
    said = split.probed(columns, count)
    return np.tile(said.mean(axis=0) if count else np.zeros(len(columns)), (len(rows), 1))


def price_line(split: Split, columns: Rows, rows: Rows, count: int) -> FloatArray:
    """Return each expert's level by price and probes, whatever the prompt."""
    return np.tile(split.level(columns, count), (len(rows), 1))


def cheapest(split: Split, columns: Rows, rows: Rows, count: int) -> FloatArray:
    """Nobody is better than another."""
    del split, count
    return np.zeros((len(rows), len(columns)))


def oracle(split: Split, columns: Rows, rows: Rows, count: int) -> FloatArray:
    """Return what the answers turned out to be worth."""
    del count
    return np.asarray(split.pool(columns, rows).quality)


def _mapped(split: Split, columns: Rows, rows: Rows, count: int, *, clusters: int) -> FloatArray:
    centres = split.maps.hard[clusters]

    def cluster(of: Rows) -> FloatArray:
        vectors = split.data.embeddings[of]
        nearest = np.argmax(vectors @ centres.T - (centres**2).sum(axis=1) / 2.0, axis=1)
        return np.asarray(np.eye(clusters)[nearest])

    said, member = split.probed(columns, count), cluster(split.probes[:count])
    held = member.sum(axis=0)[:, None]
    own = said.mean(axis=0) if count else np.zeros(len(columns))
    return np.asarray(cluster(rows) @ np.where(held > 0.0, member.T @ said / held.clip(1.0), own))


def _nearest(split: Split, columns: Rows, rows: Rows, count: int, *, k: int) -> FloatArray:
    if not count:
        return np.zeros((len(rows), len(columns)))
    vectors = split.data.embeddings
    cosines = vectors[rows] @ vectors[split.probes[:count]].T
    found = np.argpartition(-cosines, k - 1, axis=1)[:, :k]
    return np.asarray(split.probed(columns, count)[found].mean(axis=1))


def _chosen(
    split: Split, columns: Rows, rows: Rows, count: int, ways: Sequence[Method]
) -> FloatArray:
    """Score by the way that does best for the seen experts on validation prompts."""
    held = split.data.rows(VALIDATION)
    best = max(ways, key=lambda w: split.area(w(split, split.seen, held, count), split.seen, held))
    return np.asarray(best(split, columns, rows, count))


METHODS: dict[str, Method] = {
    "CSCR": cscr,
    "the router's own path": product,
    "cluster map (UniRoute)": cluster_map,
    "kNN": neighbours,
    "profile as a table": profile_table,
    "price and mean of probes": price_line,
    "best single by probes": best_single,
    "random descriptors": random_descriptors,
    "always the cheapest": cheapest,
    "oracle": oracle,
}
FIXED = ("random descriptors", "always the cheapest", "oracle")
"""Those that no probe changes."""
