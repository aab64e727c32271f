"""The category of a prompt: the nearest centroid of our examples, or ``unknown`` by distance.

CARGO (arXiv 2509.14899) takes a prompt's data set for its category; how to tell the category of a
prompt that comes without one is our own (algorithms.md 1.7, rule 5). It is told from the embedding
that the decision has anyway, so it costs five more dot products and no model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from online.category_examples import EXAMPLES
from online.clusters import unit_rows
from online.encode import Encoder
from store.records import Float32Array, FloatArray

UNKNOWN = "unknown"
NAMES = (*EXAMPLES, UNKNOWN)
"""The categories by number; the last is that of prompts which are near none."""
_NUMBERS = {name: number for number, name in enumerate(NAMES)}
LEFT_OUT = 0.05
"""Share of the examples that the limit would call unknown, each left out of its own centroid."""


@dataclass(frozen=True, slots=True)
class Categories:
    """C centroids and how near a prompt must be to one of them."""

    centroids: Float32Array
    """float32[C, d], unit rows."""
    limit: float
    """The least cosine to the nearest centroid; below it a prompt is unknown."""

    def names(self, embeddings: npt.NDArray[np.floating]) -> list[str]:
        """Return the category of each of float[n, d] unit rows by its name."""
        return [NAMES[number] for number in self.of(embeddings).tolist()]

    def of(self, embeddings: npt.NDArray[np.floating]) -> npt.NDArray[np.int64]:
        """Return int64[n] in 0..C, the category of each of float[n, d] unit rows; C is unknown."""
        cosines = embeddings.astype(np.float64) @ self.centroids.astype(np.float64).T
        nearest = cosines.argmax(axis=1)
        return np.where(cosines.max(axis=1) >= self.limit, nearest, len(self.centroids))


def number_of(name: str) -> int:
    """Return the number of a category; one that nobody knows any more, or yet, is unknown."""
    return _NUMBERS.get(name, _NUMBERS[UNKNOWN])


def from_examples(encoder: Encoder) -> Categories:
    """Return the categories as this encoder sees our examples; another encoder needs its own."""
    groups = [encoder.encode(texts) for texts in EXAMPLES.values()]
    return fit(groups)


def fit(groups: Sequence[npt.NDArray[np.floating]]) -> Categories:
    """Return the categories of examples, float[n_c, d] unit rows for each.

    The limit is the ``LEFT_OUT`` quantile of the examples' cosines to their own centroid, each
    computed without the example. It is chosen on the examples alone, no traffic is looked at.

    Raises
    ------
    ValueError
        A category has fewer than two examples: nothing is left when one is left out.
    """
    if any(len(rows) < 2 for rows in groups):
        raise ValueError("each category needs at least two examples")
    centroids = np.stack([unit_rows(rows.sum(axis=0, dtype=np.float64)) for rows in groups])
    cosines = np.concatenate([left_out(rows) for rows in groups])
    return Categories(centroids.astype(np.float32), float(np.quantile(cosines, LEFT_OUT)))


def left_out(rows: npt.NDArray[np.floating]) -> FloatArray:
    """Return float64[n]: the cosine of each example to the centroid of the others."""
    exact = rows.astype(np.float64)
    others = unit_rows(exact.sum(axis=0) - exact)
    return np.asarray((exact * others).sum(axis=1))
