"""What was learnt, frozen: arrays from which any prompt's scores follow.

Leading axis of every array: the excluded fold e. Entry e was trained on labels of folds other than
0 and e. A request of fold f is served by entry f and its label is re-scored by entry f, so no label
calibrates a score that it trained (promise.md section 1), an in-sample path does not exist, and λ
is calibrated on exactly the mixture of scorers that serves (DESIGN.md: the measured difference).
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import dataclass, field, fields

import numpy as np
import numpy.typing as npt

from online.clusters import membership, unit_rows
from online.isotonic import apply_knots
from online.retrieve import DescriptorIndex
from store.records import FOLDS, ExpertId, Float32Array, FloatArray

MIN_EVIDENCE = 8.0
"""Effective labels below which an expert gets no score in a fold."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScorerModel:
    """The frozen scorer. M experts (columns, the reference among them), K clusters, E = 5."""

    columns: tuple[ExpertId, ...]
    relative_costs: FloatArray
    """float64[M]: expected cost over the reference's at the nominal prompt length."""
    centroids: Float32Array
    """float32[E, K, d], unit rows."""
    table: FloatArray
    """float64[E, K, M]: judged quality by cluster, shrunk to the expert's mean."""
    evidence: FloatArray
    """float64[E, M]: effective labels behind an expert's column."""
    descriptors: FloatArray
    """float64[E, M, K]: unit rows, an expert's accuracy profile over the clusters."""
    calibration: FloatArray
    """float64[E, M, 33]: isotonic map from cosine to judged quality."""
    gap: FloatArray
    """float64[E, 2]: slope and intercept of the gap confidence."""
    comparator: FloatArray
    """float64[E, 4]: the comparator's weights."""
    regressors: FloatArray | None = None
    """float64[E, C, K, M]: CARGO's map of each category (``regress``); None in states from before
    they were learnt, whose gap is that of the scores."""
    indexes: dict[int, DescriptorIndex] = field(
        default_factory=dict, compare=False, repr=False, hash=False
    )

    def index(self, excluded: int, costs: FloatArray) -> DescriptorIndex:
        """Return the retrieval index of one excluded fold, built once per price vector."""
        found = self.indexes.get(excluded)
        if found is None or not np.array_equal(found.costs, costs):
            found = DescriptorIndex.build(
                self.descriptors[excluded], costs, routable=self.evidence[excluded] >= MIN_EVIDENCE
            )
            self.indexes[excluded] = found
        return found

    def restricted(self, names: Collection[ExpertId]) -> ScorerModel:
        """Return the model without the experts that are not named (paused or retired since)."""
        kept = [i for i, name in enumerate(self.columns) if name in names]
        return ScorerModel(
            columns=tuple(self.columns[i] for i in kept),
            relative_costs=self.relative_costs[kept],
            centroids=self.centroids,
            table=self.table[:, :, kept],
            evidence=self.evidence[:, kept],
            descriptors=self.descriptors[:, kept],
            calibration=self.calibration[:, kept],
            gap=self.gap,
            comparator=self.comparator,
            regressors=None if self.regressors is None else self.regressors[..., kept],
        )

    def sha256(self) -> str:
        """Return a hash of every array and the columns."""
        digest = hashlib.sha256("\x1f".join(self.columns).encode())
        for item in fields(self):
            value = getattr(self, item.name)
            if isinstance(value, np.ndarray):
                digest.update(f"{item.name}{value.dtype}{value.shape}".encode())
                digest.update(np.ascontiguousarray(value).tobytes())
        return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class Scores:
    """Scores of n prompts for M experts; NaN where an expert has no evidence."""

    cosine: FloatArray
    """float64[n, M]"""
    table: FloatArray
    """float64[n, M]: the cluster tables' part of the score."""
    calibrated: FloatArray
    """float64[n, M]: the calibrated cosine's part."""
    quality: FloatArray
    """float64[n, M] in [0, 1]: their average, before jitter."""
    query: FloatArray
    """float64[n, K]: unit membership vectors, the retrieval queries."""


def score(model: ScorerModel, embeddings: npt.NDArray[np.floating], *, excluded: int) -> Scores:
    """Return the scores of float[n, d] prompts by the entry fitted without one fold."""
    weights = membership(embeddings, model.centroids[excluded])
    query = unit_rows(weights)
    cosine = query @ model.descriptors[excluded].T
    table = weights @ model.table[excluded]
    calibrated = apply_knots(cosine, model.calibration[excluded])
    known = model.evidence[excluded] >= MIN_EVIDENCE
    quality = np.where(known, np.clip((table + calibrated) / 2.0, 0.0, 1.0), np.nan)
    return Scores(cosine, table, calibrated, quality, query)


def excluded_fold(fold: int) -> int:
    """Return the scorer entry that may score a label of this fold: the one without it."""
    if not 0 <= fold < FOLDS:
        raise ValueError(f"fold must be in 0..{FOLDS - 1}, got {fold}")
    return fold
