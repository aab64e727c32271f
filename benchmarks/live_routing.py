"""One recipe for every kind of descriptor: a head places prompts among experts, the nearest serves.

The head is ``online/cost_spectrum.py``'s with one band and no cost, for costs are another question;
its temperature is the paper's, nothing is chosen. Prompts are split by wording: two of a task's
three wordings train, the third is routed, and each wording has its turn.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from benchmarks.live_answers import CONTESTANTS
from benchmarks.live_tasks import WORDINGS, Task
from benchmarks.timing import table
from online.clusters import fit_centroids, membership
from online.cost_spectrum import Descriptor, Spectrum, place, project, train
from online.descriptors import profile, unit
from store.records import Float32Array, FloatArray

PLAIN = Spectrum(bands=1, gamma_neg=0.0, tau_min=0.05, tau_slope=0.0, epochs=120)
"""One band without costs is plain InfoNCE; an epoch is one step here, so there are more of them."""
DRAWS = 5
"""Pools of random descriptors that are averaged."""
RESAMPLES = 2_000
SEED = 7
_FLAT = np.ones(len(CONTESTANTS))

Bools = npt.NDArray[np.bool_]
Pool = Callable[[Bools], list[Descriptor]]
"""The contestants' descriptors, from the rows whose labels may be seen."""


@dataclass(frozen=True, slots=True)
class Field:
    """What is routed: n prompts, M contestants."""

    tasks: list[Task]
    embeddings: Float32Array
    right: Bools
    """bool[n, M]"""

    @property
    def wordings(self) -> npt.NDArray[np.int64]:
        return np.array([task.wording for task in self.tasks])


def fixed_pool(field: Field, footprints: FloatArray, fingerprints: FloatArray) -> str:
    """Route among the contestants that the head was trained on."""
    pools = _pools(field, footprints, fingerprints)
    hits = {name: _routed(field, pool) for name, pool in pools.items()}
    hits["random"] = np.mean([_routed(field, _random(d)) for d in range(DRAWS)], axis=0)
    best = _best_single(field)
    rows: list[tuple[str, ...]] = [
        (
            name,
            f"{100 * found.mean():.1f} %",
            "" if name == "random" else _difference(field, found - hits["random"]),
            _difference(field, found - best),
        )
        for name, found in hits.items()
    ]
    rows += [
        ("best single on training prompts", f"{100 * best.mean():.1f} %", "", ""),
        ("any, by chance", f"{100 * field.right.mean():.1f} %", "", ""),
        ("oracle", f"{100 * field.right.any(axis=1).mean():.1f} %", "", ""),
    ]
    columns = ("descriptors", "right", "less random", "less best single")
    return (
        "\nThe fixed pool, prompts of wordings that the head has not seen (differences in points,"
        " 95 % paired bootstrap by wording of a task):\n" + table(columns, rows)
    )


def newcomers(field: Field, footprints: FloatArray, fingerprints: FloatArray) -> str:
    """Route one contestant by its descriptor alone; the head was trained on the other three."""
    pools = _pools(field, footprints, fingerprints)
    found = {
        name: [_joined(field, pool, who) for who in range(len(CONTESTANTS))]
        for name, pool in pools.items()
    }
    drawn = [
        [_joined(field, _random(draw), who) for draw in range(DRAWS)]
        for who in range(len(CONTESTANTS))
    ]
    found["random"] = [
        (np.mean([hit for hit, _ in some], axis=0), float(np.mean([auc for _, auc in some])))
        for some in drawn
    ]
    base = np.mean([hit for hit, _ in found["random"]], axis=0)
    rows = []
    for name, each in found.items():
        hits = np.mean([hit for hit, _ in each], axis=0)
        rows.append(
            (
                name + (" (needs labels)" if name == "profile" else ""),
                f"{100 * hits.mean():.1f} %",
                "" if name == "random" else _difference(field, hits - base),
                *(f"{auc:.2f}" for _, auc in each),
            )
        )
    columns = ("descriptors", "right", "less random", *(f"AUC, {c.name}" for c in CONTESTANTS))
    return (
        "\nOne contestant unseen by the head, the mean over who it is; AUC: how well the cosine of"
        " the unseen one tells prompts that it answers right from others (0.5 is chance):\n"
        + table(columns, rows)
    )


def _pools(field: Field, footprints: FloatArray, fingerprints: FloatArray) -> dict[str, Pool]:
    prints = [Descriptor("footprint", row) for row in footprints]
    reads = [Descriptor("fingerprint", row) for row in fingerprints]
    mixed = [prints[m] if who.model == "smollm2" else reads[m] for m, who in enumerate(CONTESTANTS)]
    return {
        "footprint": lambda _: prints,
        "fingerprint": lambda _: reads,
        "footprint, centred": lambda _: _centred("footprint", footprints),
        "fingerprint, centred": lambda _: _centred("fingerprint", fingerprints),
        "profile": lambda seen: _profiles(field, seen),
        "mixture": lambda _: mixed,
        "one-hot": lambda _: [Descriptor("one-hot", row) for row in np.eye(len(CONTESTANTS))],
    }


def _centred(kind: str, rows: FloatArray) -> list[Descriptor]:
    """Return what sets experts apart: descriptors less the pool's mean."""
    apart = rows - rows.mean(axis=0)
    return [Descriptor(kind, unit(row, dimension=len(row))) for row in apart]


def _random(draw: int) -> Pool:
    rows = np.random.default_rng([SEED, draw]).normal(size=(len(CONTESTANTS), 256))
    return lambda _: [Descriptor("random", unit(row, dimension=256)) for row in rows]


def _profiles(field: Field, seen: Bools) -> list[Descriptor]:
    """Return accuracy profiles over clusters of the prompts whose labels may be seen."""
    rows = field.embeddings[seen]
    centroids = fit_centroids(rows, [1] * len(rows))[0]
    weights = membership(rows, centroids)
    return [
        Descriptor("profile", profile(column.astype(np.float64), weights))
        for column in field.right[seen].T
    ]


def _cosines(
    field: Field, pool: list[Descriptor], seen: Bools, taught: Sequence[int]
) -> FloatArray:
    """Return float64[n, M] after training on the rows seen and the contestants taught."""
    head = train(
        field.embeddings[seen],
        field.right[seen][:, taught],
        _FLAT[taught],
        [pool[m] for m in taught],
        PLAIN,
        seed=SEED,
    )
    return np.asarray(project(field.embeddings, head) @ place(pool, head).T)


def _routed(field: Field, pool: Pool) -> FloatArray:
    """Return float64[n]: whether the contestant nearest to each prompt answers it right."""
    everyone = list(range(len(CONTESTANTS)))
    hits = np.empty(len(field.tasks))
    for held_out in range(WORDINGS):
        seen = field.wordings != held_out
        cosines = _cosines(field, pool(seen), seen, everyone)
        hits[~seen] = _hit(field.right[~seen], cosines[~seen])
    return hits


def _joined(field: Field, pool: Pool, newcomer: int) -> tuple[FloatArray, float]:
    """Return the hits of a pool with one contestant that was not taught, and its own AUC."""
    taught = [m for m in range(len(CONTESTANTS)) if m != newcomer]
    hits, areas = np.empty(len(field.tasks)), []
    for held_out in range(WORDINGS):
        seen = field.wordings != held_out
        cosines = _cosines(field, pool(seen), seen, taught)[~seen]
        hits[~seen] = _hit(field.right[~seen], cosines)
        areas.append(_auc(cosines[:, newcomer], field.right[~seen, newcomer]))
    return hits, float(np.mean(areas))


def _hit(right: Bools, cosines: FloatArray) -> FloatArray:
    return np.asarray(right[np.arange(len(right)), cosines.argmax(axis=1)], dtype=np.float64)


def _auc(scores: FloatArray, is_right: Bools) -> float:
    above = scores[is_right][:, None] - scores[~is_right][None, :]
    return float((above > 0).mean() + 0.5 * (above == 0).mean())


def _best_single(field: Field) -> FloatArray:
    """Return float64[n]: whether the contestant that is best on the other wordings is right."""
    hits = np.empty(len(field.tasks))
    for held_out in range(WORDINGS):
        seen = field.wordings != held_out
        hits[~seen] = field.right[~seen, field.right[seen].mean(axis=0).argmax()]
    return hits


def _difference(field: Field, values: FloatArray) -> str:
    """Return a mean difference in points with its interval, resampled by wording of a task."""
    _, group = np.unique([task.group for task in field.tasks], return_inverse=True)
    sums, sizes = np.bincount(group, weights=values), np.bincount(group)
    drawn = np.random.default_rng(SEED).integers(len(sums), size=(RESAMPLES, len(sums)))
    means = sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return f"{100 * values.mean():+.1f} ({100 * low:+.1f} to {100 * high:+.1f})"
