"""What descriptors of every kind share: the unit sphere, one dimension, and accuracy profiles.

CSCR (arXiv 2508.12491, section 3.1) describes an expert by one unit vector. Which kind of vector
is decided by what can be seen of the expert: logits (``footprint.py``), answers
(``fingerprint.py``), or labels (``profile`` here). Vectors of one pool are of one dimension.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from store.records import FloatArray


def unit(values: FloatArray, *, dimension: int) -> FloatArray:
    """Return float64[dimension] of unit length.

    Raises
    ------
    ValueError
        Another dimension, a value that is not finite, or no direction (all zero).
    """
    if values.shape != (dimension,):
        raise ValueError(f"a descriptor needs {dimension} dimensions, this has {values.shape}")
    length = float(np.linalg.norm(values))
    if not np.isfinite(length) or length == 0.0:
        raise ValueError("a descriptor needs finite values that are not all zero")
    return np.asarray(values / length, dtype=np.float64)


def stacked(descriptors: Sequence[FloatArray]) -> FloatArray:
    """Return float64[M, K], a pool's descriptors as unit rows.

    Raises
    ------
    ValueError
        They are not of one dimension: kinds are mixed without a map to a common one.
    """
    sizes = sorted({one.shape for one in descriptors})
    if len(sizes) != 1:
        raise ValueError(f"descriptors of one pool need one dimension, these have {sizes}")
    return np.stack([unit(one, dimension=sizes[0][0]) for one in descriptors])


def profile(outcomes: FloatArray, membership: FloatArray, *, prior: float = 4.0) -> FloatArray:
    """Return an accuracy profile: judged quality by cluster of prompts, of unit length.

    Not CSCR's: the control of its ablations that needs labels. Clusters with few labels are shrunk
    to the expert's mean with the weight of ``prior`` labels, as ``learn.py`` does.

    Parameters
    ----------
    outcomes
        float64[n] in [0, 1]: judged quality on n prompts; NaN where there is no label.
    membership
        float64[n, K], rows that sum to 1: how far each prompt belongs to each cluster. K is the
        profile's dimension: as many clusters as the pool's other descriptors have dimensions.

    Returns
    -------
    float64[K]

    Raises
    ------
    ValueError
        No label, no success at all (no direction), or shapes that do not fit.
    """
    if membership.shape[:1] != outcomes.shape:
        raise ValueError(f"{len(outcomes)} outcomes need as many rows, not {len(membership)}")
    known = ~np.isnan(outcomes)
    if not known.any():
        raise ValueError("a profile needs at least one label")
    mean = float(outcomes[known].mean())
    weights = membership[known]
    rates = (weights.T @ outcomes[known] + prior * mean) / (weights.sum(axis=0) + prior)
    return unit(rates, dimension=membership.shape[1])
