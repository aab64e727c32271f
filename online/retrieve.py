"""Cost-aware retrieval of experts by descriptor (CSCR, arXiv 2508.12491).

The rule is ``argmax cos - cost_weight * c``: eq. 9 of its first version has the sign reversed and
picks the least similar expert; the third version and the authors' code agree with ours. The home
of faiss: an exact inner-product index over ``[d_m, -c_m]`` queried with ``[q, cost_weight]``.
"""

from __future__ import annotations

import faiss
import numpy as np
import numpy.typing as npt

from store.records import FloatArray

TOP_K = 16
_LARGEST_WEIGHT = 1e20
"""Above it the index's single precision would overflow; the order is by cost long before."""


class DescriptorIndex:
    """A flat inner-product index with ids. Immutable once built: joining makes a copy."""

    def __init__(self, index: faiss.Index, costs: FloatArray) -> None:
        self._index = index
        self.costs = costs

    @classmethod
    def build(
        cls, descriptors: FloatArray, costs: FloatArray, *, routable: npt.NDArray[np.bool_]
    ) -> DescriptorIndex:
        """Return an index of the routable rows of float64[M, K] descriptors.

        Raises
        ------
        ValueError
            A cost is zero, negative or not finite, or the shapes do not fit.
        """
        check_costs(costs, len(descriptors))
        flat = faiss.IndexIDMap2(faiss.IndexFlatIP(descriptors.shape[1] + 1))
        rows = np.flatnonzero(routable)
        if len(rows):
            flat.add_with_ids(_augmented(descriptors[rows], costs[rows]), rows)
        return cls(flat, costs)

    def __len__(self) -> int:
        return int(self._index.ntotal)

    def inserted(self, row: int, descriptor: FloatArray, cost: float) -> DescriptorIndex:
        """Return a copy with one more expert; this index goes on serving meanwhile.

        Raises
        ------
        ValueError
            The cost is zero, negative or not finite, or the dimension is another.
        """
        check_costs(np.array([cost]), 1)
        if descriptor.shape != (self._index.d - 1,):
            raise ValueError(
                f"descriptor has {descriptor.shape[0]} dimensions, the index {self._index.d - 1}"
            )
        copy = faiss.clone_index(self._index)
        copy.add_with_ids(_augmented(descriptor[None], np.array([cost])), np.array([row]))
        return DescriptorIndex(copy, np.append(self.costs, cost))

    def search(self, queries: FloatArray, *, cost_weight: float, k: int = TOP_K) -> list[list[int]]:
        """Return, for each unit query of float64[n, K], the expert rows, best first.

        ``cost_weight`` 0 returns the nearest (it is not taken as "unset"); a very large one the
        cheapest. Pools of up to ``k`` experts come back whole.
        """
        if not len(self):
            return [[] for _ in queries]
        weight = min(cost_weight, _LARGEST_WEIGHT)
        asked = np.column_stack([queries, np.full(len(queries), weight)]).astype(np.float32)
        # One thread: the index is small, and threads that meet after each of its loops wait
        # milliseconds for each other on a busy machine. The setting is the calling thread's own.
        faiss.omp_set_num_threads(1)
        _, ids = self._index.search(np.ascontiguousarray(asked), min(k, len(self)))
        return [[int(i) for i in row if i >= 0] for row in ids]


def check_costs(costs: FloatArray, count: int) -> None:
    """Raise ``ValueError`` unless each of ``count`` experts has one positive, finite cost."""
    if costs.shape != (count,) or not np.all(np.isfinite(costs) & (costs > 0.0)):
        raise ValueError("every expert needs one positive, finite cost")


def _augmented(descriptors: FloatArray, costs: FloatArray) -> npt.NDArray[np.float32]:
    return np.ascontiguousarray(np.column_stack([descriptors, -costs]), dtype=np.float32)
