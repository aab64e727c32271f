"""Cost-spectrum InfoNCE: a head that places prompts among experts' descriptors.

CSCR (arXiv 2508.12491), sections 3.3 and 3.4, eq. 6 to 8: the frozen embedding passes a two-layer
head without biases onto the unit sphere of the descriptors; retrieval is ``retrieve.py``'s.
Departures: ``gamma_neg`` has a sign, for formula and text of the paper contradict each other
(DESIGN.md says what we measured); costs are divided by the dearest expert's, so that none is 0;
prompts that no expert answers right teach nothing. Torch is needed to train only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from online.clusters import unit_rows
from online.retrieve import check_costs
from store.records import Float32Array, FloatArray

if TYPE_CHECKING:
    from torch import Tensor

HIDDEN = 256
BATCH = 512
LEARNING_RATE = 5e-4
"""Appendix D.1; so are the defaults of ``Spectrum``."""
_NEVER = -1e9
"""In place of minus infinity, whose gradient is not a number where a band has no positive."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spectrum:
    """The settings of eq. 7 and 8."""

    bands: int = 5
    gamma_neg: float = 0.2
    """The gamma of eq. 8, per unit of the dearest expert's cost. Positive is the formula as
    printed, where dear experts weigh less in the denominator; negative is what the text says."""
    tau_min: float = 0.05
    tau_slope: float = 0.25
    """The alpha of eq. 7: by how much a band's temperature grows with its mean cost."""
    epochs: int = 10


@dataclass(frozen=True, slots=True)
class Descriptor:
    """What is known of an expert: float64[D], of a type whose D all its experts share."""

    kind: str
    values: FloatArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """What was trained, frozen. H hidden units, K dimensions of the sphere."""

    first: Float32Array
    """float32[d, H]"""
    second: Float32Array
    """float32[H, K]"""
    maps: Mapping[str, Float32Array]
    """By type of descriptor float32[D, K], its linear map onto the sphere. The identity where all
    types have K dimensions: then the sphere is the descriptors' own, as in the paper."""


def project(embeddings: npt.NDArray[np.floating], head: Head) -> FloatArray:
    """Return float64[n, K]: the unit queries of float[n, d] prompts, g_θ(Φ(x)) of section 3.4."""
    hidden = np.maximum(embeddings.astype(np.float64) @ head.first, 0.0)
    return unit_rows(hidden @ head.second)


def place(descriptors: Sequence[Descriptor], head: Head) -> FloatArray:
    """Return float64[M, K]: the experts' points on the sphere. A new one needs no training.

    Raises
    ------
    ValueError
        No expert of this type was trained on, or the dimension is not the type's.
    """
    for one in descriptors:
        if one.kind not in head.maps:
            raise ValueError(f"no map for {one.kind}: trained on {', '.join(sorted(head.maps))}")
        size = len(head.maps[one.kind])
        if one.values.shape != (size,):
            raise ValueError(f"a {one.kind} has {size} dimensions, got {len(one.values)}")
    return np.array([unit_rows(one.values @ head.maps[one.kind]) for one in descriptors])


def cost_bands(costs: FloatArray, count: int) -> npt.NDArray[np.int64]:
    """Return int64[M]: the percentile band of each expert, 0 the cheapest (section 3.4).

    By percentile rank, experts of one cost at the middle of theirs: they share a band. With the
    paper's edges in cost, many ties at an edge fall into the band above, among far dearer ones.
    """
    ranked = np.sort(costs)
    below = np.searchsorted(ranked, costs, side="left")
    upto = np.searchsorted(ranked, costs, side="right")
    return np.asarray(count * (below + upto) // (2 * len(costs)), dtype=np.int64)


def temperatures(costs: FloatArray, bands: npt.NDArray[np.int64], settings: Spectrum) -> FloatArray:
    """Return float64[bands]: eq. 7, τ_min + α·(mean cost of the band); NaN for an empty one."""
    count = np.bincount(bands, minlength=settings.bands)
    sums = np.bincount(bands, weights=costs, minlength=settings.bands)
    means = np.divide(sums, count, out=np.full(len(count), np.nan), where=count > 0)
    return np.asarray(settings.tau_min + settings.tau_slope * means)


def loss(cosines: Tensor, correct: Tensor, costs: FloatArray, settings: Spectrum) -> Tensor:
    """Return the mean of eq. 8 over prompts with a correct expert; 0 if there is none.

    Parameters
    ----------
    cosines
        float[n, M]: prompts against experts.
    correct
        bool[n, M]
    costs
        float64[M] in (0, 1].
    """
    import torch  # noqa: PLC0415  slow to import, needed to train only

    bands = cost_bands(costs, settings.bands)
    penalty = settings.gamma_neg * torch.as_tensor(costs, dtype=cosines.dtype)
    total, filled = cosines.new_zeros(len(cosines)), cosines.new_zeros(len(cosines))
    for band, tau in enumerate(temperatures(costs, bands, settings)):
        if np.isnan(tau):
            continue
        positive = correct & torch.as_tensor(bands == band)
        has = positive.any(dim=1)
        numerator = torch.logsumexp((cosines / tau).masked_fill(~positive, _NEVER), dim=1)
        denominator = torch.logsumexp((cosines - penalty) / tau, dim=1)
        total = total + torch.where(has, denominator - numerator, 0.0)
        filled = filled + has
    return (total / filled.clamp(min=1.0)).sum() / (filled > 0.0).sum().clamp(min=1)


def train(
    embeddings: npt.NDArray[np.floating],
    correct: npt.NDArray[np.bool_],
    costs: FloatArray,
    descriptors: Sequence[Descriptor],
    settings: Spectrum,
    *,
    seed: int,
) -> Head:
    """Return the head, and the maps if types differ in dimension, that minimise eq. 8.

    AdamW on batches of ``BATCH`` prompts, on one thread: the same input gives the same bits.

    Parameters
    ----------
    embeddings
        float[n, d], unit rows.
    correct
        bool[n, M]: whether an expert's answer is acceptable.
    costs
        float64[M], of any unit.
    descriptors
        Of the M experts.

    Raises
    ------
    ValueError
        A cost is zero, negative or not finite, shapes do not fit, or experts of one type have
        descriptors of different dimensions.
    """
    import torch  # noqa: PLC0415

    check_costs(costs, len(descriptors))
    if correct.shape != (len(embeddings), len(descriptors)):
        raise ValueError(f"need one label for each prompt and expert, got {correct.shape}")
    prompts = torch.as_tensor(np.asarray(embeddings, dtype=np.float32))
    labels = torch.as_tensor(correct)
    values = [torch.as_tensor(one.values.astype(np.float32)) for one in descriptors]
    relative = costs / costs.max()
    with _one_thread():
        random = np.random.default_rng(seed)
        maps, learnt = _maps(descriptors, random)
        k = next(iter(maps.values())).shape[1]
        first, second = _drawn(prompts.shape[1], HIDDEN, random), _drawn(HIDDEN, k, random)
        learnt = [weights.requires_grad_() for weights in (first, second, *learnt)]
        optimiser = torch.optim.AdamW(learnt, lr=LEARNING_RATE)
        for _ in range(settings.epochs):
            order = torch.as_tensor(random.permutation(len(prompts)))
            for start in range(0, len(order), BATCH):
                rows = order[start : start + BATCH]
                queries = _sphere(torch.relu(prompts[rows] @ first) @ second)
                placed = [v @ maps[d.kind] for d, v in zip(descriptors, values, strict=True)]
                cosines = queries @ _sphere(torch.stack(placed)).T
                optimiser.zero_grad()
                torch.autograd.backward(loss(cosines, labels[rows], relative, settings))
                optimiser.step()
    frozen = {kind: weights.detach().numpy() for kind, weights in maps.items()}
    return Head(first=first.detach().numpy(), second=second.detach().numpy(), maps=frozen)


def _maps(
    descriptors: Sequence[Descriptor], random: np.random.Generator
) -> tuple[dict[str, Tensor], list[Tensor]]:
    """Return each type's map, and those of them that are to be trained."""
    import torch  # noqa: PLC0415

    sizes: dict[str, int] = {}
    for one in descriptors:
        (size,) = one.values.shape
        if sizes.setdefault(one.kind, size) != size:
            raise ValueError(f"a {one.kind} has {sizes[one.kind]} dimensions, got {size} too")
    k = min(sizes.values())
    if k == max(sizes.values()):
        return {kind: torch.eye(k) for kind in sizes}, []
    maps = {kind: _drawn(size, k, random) for kind, size in sizes.items()}
    return maps, [*maps.values()]


def _drawn(rows: int, columns: int, random: np.random.Generator) -> Tensor:
    import torch  # noqa: PLC0415

    drawn = random.normal(scale=rows**-0.5, size=(rows, columns))
    return torch.as_tensor(drawn, dtype=torch.float32)


def _sphere(rows: Tensor) -> Tensor:
    lengths: Tensor = rows.norm(dim=-1, keepdim=True)
    return rows / lengths.clamp(min=1e-12)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Train on one thread: sums then have one order, and a busy machine's cores stay free."""
    import torch  # noqa: PLC0415

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
