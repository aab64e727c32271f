"""Recorded experts on recorded prompts, split so that near-duplicates stay together.

Reads ``mmlupro``, ``routerbench_subset``, ``paretobandit4`` and ``alpacaeval_*`` (Parquet; not part
of this repository) with their vectors in ``embeddings/*.npz``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow.compute
import pyarrow.parquet
from datasketch import MinHash, MinHashLSH

from online.folds import fold_of, group_of, sketch
from store.records import Float32Array, FloatArray

MMLU, ALPACA, ROUTERBENCH = "mmlupro", "alpacaeval", "routerbench_subset"
PARETO = "paretobandit4"
FILES = {
    MMLU: ("mmlupro.parquet", "embeddings/mmlupro.npz"),
    ALPACA: (
        "alpacaeval_pairs.parquet",
        "alpacaeval_responses.parquet",
        "embeddings/alpacaeval_pairs.npz",
    ),
    ROUTERBENCH: ("routerbench_subset.parquet", "embeddings/routerbench_subset.npz"),
    PARETO: ("paretobandit4.parquet", "embeddings/paretobandit4.npz"),
}
JUDGE, BASELINE = "gpt4", "text_davinci_003"
DUPLICATE = 0.8
SKETCH = 64
TRAIN, VALIDATION, TEST = 0, 1, 2
SHARES = (0.5, 0.15, 0.35)
SEED = 23
Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """What M experts made of n prompts, every one of them: nothing is imputed."""

    name: str
    embeddings: Float32Array
    """float32[n, 384], unit rows."""
    experts: tuple[str, ...]
    """In order of cost, the cheapest first."""
    quality: FloatArray
    """float64[n, M]: right or wrong; of AlpacaEval the preference over the baseline's answer."""
    cost: FloatArray
    """float64[n, M] in USD, of each answer."""
    expected: FloatArray
    """float64[M]: mean cost on training prompts over the dearest expert's, ascending."""
    groups: Rows
    """int64[n]: the group of near-duplicates."""
    folds: Rows
    """int64[n]: the fold that the router gives the prompt."""
    part: Rows
    """int64[n]: TRAIN, VALIDATION or TEST, by group."""

    def rows(self, part: int) -> Rows:
        """Return the rows of one part."""
        return np.flatnonzero(self.part == part)


def read(data: Path, name: str) -> Recorded:
    """Return a set: its experts with costs, its prompts that all of them answered."""
    found = _judged(data) if name == ALPACA else _scored(data / FILES[name][0])
    experts = sorted({e for _, e in found})
    texts = {p: text for (p, _), (text, _, _) in found.items()}
    prompts = [p for p in sorted(texts) if all((p, e) in found for e in experts)]
    numbers = np.array([[found[p, e][1:] for e in experts] for p in prompts], dtype=np.float64)
    with np.load(data / FILES[name][-1]) as held:
        at = {str(p): i for i, p in enumerate(held["ids"])}
        vectors = held["e"][[at[p] for p in prompts]].astype(np.float32)
    groups = near_duplicates([texts[p] for p in prompts])
    part = parts(groups)
    expected = numbers[part == TRAIN, :, 1].mean(axis=0)
    order = np.argsort(expected, kind="stable")
    return Recorded(
        name=name,
        embeddings=vectors / np.linalg.norm(vectors, axis=1, keepdims=True),
        experts=tuple(experts[i] for i in order),
        quality=numbers[:, order, 0],
        cost=numbers[:, order, 1],
        expected=expected[order] / expected.max(),
        groups=groups,
        folds=np.array([fold_of(group_of(texts[p], None, tenant="default")) for p in prompts]),
        part=part,
    )


def near_duplicates(texts: list[str]) -> Rows:
    """Return int64[n]: the group of each text, joined where shingles are alike by ``DUPLICATE``."""
    index = MinHashLSH(threshold=DUPLICATE, num_perm=SKETCH)
    leader = np.arange(len(texts))
    sketches: list[MinHash] = []
    for i, text in enumerate(texts):
        one = sketch(text, size=SKETCH)
        alike = [j for j in index.query(one) if one.jaccard(sketches[j]) >= DUPLICATE]
        for other in {int(leader[j]) for j in alike}:
            leader[leader == other] = i
        sketches.append(one)
        index.insert(i, one)
    return np.unique(leader, return_inverse=True)[1].astype(np.int64)


def parts(groups: Rows) -> Rows:
    """Draw whole groups into the parts."""
    place = np.random.default_rng(SEED).permutation(int(groups.max()) + 1) / (groups.max() + 1)
    return np.asarray(np.searchsorted(np.cumsum(SHARES)[:-1], place[groups], side="right"))


def _scored(path: Path) -> dict[tuple[str, str], tuple[str, float, float]]:
    """Return text, score and cost by prompt and expert."""
    columns = ["prompt_id", "model", "prompt", "score", "cost"]
    rows = pyarrow.parquet.read_table(path, columns=columns).to_pydict()
    keys = zip(rows["prompt_id"], rows["model"], strict=True)
    return dict(zip(keys, zip(*(rows[c] for c in columns[2:]), strict=True), strict=True))


def _judged(data: Path) -> dict[tuple[str, str], tuple[str, float, float]]:
    """Return text, preference and cost of AlpacaEval's experts that have a price."""
    pairs = pyarrow.parquet.read_table(
        data / FILES[ALPACA][0],
        columns=["prompt_id", "prompt", "model_a", "preference"],
        filters=[("judge", "=", JUDGE), ("model_b", "=", BASELINE)],
    ).to_pylist()
    answers = pyarrow.parquet.read_table(
        data / FILES[ALPACA][1],
        columns=["prompt_id", "model", "cost"],
        filters=pyarrow.compute.field("cost") > 0.0,
    ).to_pylist()
    cost = {(row["prompt_id"], row["model"]): row["cost"] for row in answers}
    return {
        key: (row["prompt"], row["preference"], cost[key])
        for row in pairs
        if (key := (row["prompt_id"], row["model_a"])) in cost
    }
