"""Prompt clusters: fitted once per excluded fold, frozen, and read as a soft membership."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from store.records import FOLDS, Float32Array, FloatArray

CLUSTERS = 16
SHARPNESS = 15.0
"""Inverse temperature of the membership softmax over cosines. Both numbers were chosen on other
traffic than the demo's (DESIGN.md)."""


def fit_centroids(
    embeddings: Float32Array, folds: Sequence[int], *, clusters: int = CLUSTERS
) -> Float32Array:
    """Return float32[5, k, d]: unit centroids, entry e fitted without fold e and without fold 0.

    Entry 0 excludes fold 0 alone; it is the one that serves. k-means (Lloyd, ten starts would
    change little; two are used) on unit vectors, then the centroids are normalised. Where there
    are fewer distinct prompts than clusters (one session, a template), the rest are zero rows.

    Parameters
    ----------
    embeddings
        float32[n, d], unit rows, in ledger order.
    folds
        The fold of each row.
    """
    from sklearn.cluster import KMeans  # noqa: PLC0415  slow to import, needed once

    fold = np.asarray(folds)
    fitted = []
    for excluded in range(FOLDS):
        rows = embeddings[(fold != 0) & (fold != excluded)]
        k = min(clusters, len(np.unique(rows, axis=0)))
        centres = np.zeros((clusters, rows.shape[1]))
        if k:
            centres[:k] = KMeans(k, n_init=2, random_state=excluded).fit(rows).cluster_centers_
        fitted.append(unit_rows(centres))
    return np.stack(fitted).astype(np.float32)


def membership(
    embeddings: npt.NDArray[np.floating], centroids: Float32Array, *, sharpness: float = SHARPNESS
) -> FloatArray:
    """Return float64[..., k]: softmax of ``sharpness`` times the cosine to each centroid.

    ``embeddings`` is [n, d] with centroids [k, d], or [d] with centroids [5, k, d] (all folds'
    memberships of one prompt).
    """
    if embeddings.ndim == 1:
        cosines = centroids.astype(np.float64) @ embeddings.astype(np.float64)
    else:
        cosines = embeddings.astype(np.float64) @ centroids.astype(np.float64).T
    weights = np.exp(sharpness * (cosines - cosines.max(axis=-1, keepdims=True)))
    return np.asarray(weights / weights.sum(axis=-1, keepdims=True))


def unit_rows(rows: FloatArray) -> FloatArray:
    """Return rows scaled to unit length; a zero row stays zero."""
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=-1, keepdims=True), 1e-12))
