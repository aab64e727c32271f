"""Recorded experts on recorded prompts, each prompt with its kind and its fold.

The rule that picks a pool reads only the file, so that any file of this format gives one: the
reference is the best expert on average, the others are the best among those that cost at most half
of it. No answer is imputed: a prompt counts if every expert of the pool answered it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow.parquet

from online.folds import fold_of, group_of
from store.records import DEFAULT_TENANT, ExpertId, Float32Array, FloatArray

Rows = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
SETS = ("llmrouter14", "mmlupro", "paretobandit4", "routerdc7")
CHEAP = (1, 3)
"""Experts beside the reference: the smallest pool, and one that is judged whole."""
COVERAGE = 0.95
"""Share of the prompts that an expert must have answered to be picked."""
AT_MOST = 0.5
"""Of the reference's mean cost."""
THIRD = 1.0 / 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """What M experts made of n prompts; the reference is the last column."""

    name: str
    embeddings: Float32Array
    """float32[n, d], unit rows."""
    folds: Rows
    """int64[n], the router's own."""
    experts: tuple[ExpertId, ...]
    quality: FloatArray
    """float64[n, M] in [0, 1]."""
    cost: FloatArray
    """float64[n, M] over the reference's mean cost; NaN where the set knows no costs."""
    easy: Rows
    """int64[≈ n/3]: prompts of the kinds on which the others most often do."""
    hard: Rows
    """int64[≈ n/3]: of those on which they least often do."""

    @property
    def relative_costs(self) -> FloatArray:
        """Return float64[M]: mean cost over the reference's; 1 where the set knows none."""
        return np.asarray(np.nan_to_num(self.cost.mean(axis=0), nan=1.0))


def files(name: str) -> tuple[str, str]:
    """Return the files of a set, below the directory of all of them."""
    return f"{name}.parquet", f"embeddings/{name}.npz"


def read(folder: Path, name: str, *, margin: float) -> list[Pool]:
    """Return a set's pools, the smallest first."""
    answers, vectors = (folder / file for file in files(name))
    columns = ["prompt_id", "prompt", "task", "model", "score", "cost"]
    held = pyarrow.parquet.read_table(answers, columns=columns).to_pydict()
    prompts, at = np.unique(held["prompt_id"], return_index=True)
    models, column = np.unique(held["model"], return_inverse=True)
    row = np.searchsorted(prompts, held["prompt_id"])
    quality, cost = (np.full((len(prompts), len(models)), np.nan) for _ in range(2))
    quality[row, column] = held["score"]
    cost[row, column] = [np.nan if one is None else one for one in held["cost"]]
    texts = [held["prompt"][i] for i in at]
    folds = np.array([fold_of(group_of(t, None, tenant=DEFAULT_TENANT)) for t in texts])
    kinds = np.array([held["task"][i] for i in at])
    embeddings = _vectors(vectors, prompts.tolist())
    ranked = _ranked(quality, cost)
    made = []
    for cheap in CHEAP:
        chosen = [*ranked[1 : cheap + 1], ranked[0]]
        kept = np.isfinite(quality[:, chosen]).all(axis=1)
        ours = quality[kept][:, chosen]
        easy, hard = thirds(ours, kinds[kept], margin=margin)
        paid = cost[kept][:, chosen]
        made.append(
            Pool(
                name=f"{name}, {cheap} + reference",
                embeddings=embeddings[kept],
                folds=folds[kept],
                experts=tuple(ExpertId(str(models[i])) for i in chosen),
                quality=ours,
                cost=paid / paid[:, -1].mean(),
                easy=easy,
                hard=hard,
            )
        )
    return made


def acceptable(quality: FloatArray, *, margin: float) -> BoolArray:
    """Return bool[n, M]: judged quality at least the reference's, in the last column, less margin.

    As ``stream_facts.is_worse`` has it.
    """
    return ~(quality < quality[:, [-1]] - margin - 1e-9)


def thirds(quality: FloatArray, kinds: npt.NDArray[np.str_], *, margin: float) -> tuple[Rows, Rows]:
    """Return the prompts of the easiest and of the hardest kinds, about a third of all for each.

    Whole kinds, by how often some expert is unacceptable: the sharpest change that a mix of these
    prompts can make. It is a choice of the stream, made before any method sees it.
    """
    bad = ~acceptable(quality, margin=margin).all(axis=1)
    names, kind = np.unique(kinds, return_inverse=True)
    sizes = np.bincount(kind)
    order = np.argsort(np.bincount(kind, weights=bad) / sizes, kind="stable")
    before = np.cumsum(sizes[order]) - sizes[order]
    place = np.empty(len(names))
    place[order] = (before + sizes[order] / 2.0) / len(kind)
    return np.flatnonzero(place[kind] <= THIRD), np.flatnonzero(place[kind] >= 1.0 - THIRD)


def _ranked(quality: FloatArray, cost: FloatArray) -> list[int]:
    """Return the reference, then the experts that may stand beside it, the best first."""
    means = np.nanmean(quality, axis=0)
    known = np.isfinite(quality).mean(axis=0) >= COVERAGE
    order = [int(i) for i in np.argsort(-means, kind="stable") if known[i]]
    if not np.isfinite(cost).any():
        return order
    paid = np.nanmean(cost, axis=0)
    return [order[0], *(i for i in order[1:] if paid[i] <= AT_MOST * paid[order[0]])]


def _vectors(path: Path, prompts: list[str]) -> Float32Array:
    with np.load(path) as held:
        at = {str(p): i for i, p in enumerate(held["ids"])}
        found = held["e"][[at[p] for p in prompts]].astype(np.float32)
    return np.asarray(found / np.linalg.norm(found, axis=1, keepdims=True))
