"""The port to what describes an expert: its descriptors and the probe answers behind them.

Part of ``store.ledger.Transaction`` (``tx.describing``); what is said there holds here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol

import numpy as np

from store.records import ExpertId, Float32Array

_UNIT = 1e-3
"""How far from 1 the length of a stored vector may be."""
_STORED = "<f4"


class DescriptorKind(StrEnum):
    """How an expert was described."""

    FOOTPRINT = "footprint"
    """Mean softmax probabilities of shared tokens: open weights (CSCR section 3.1)."""
    FINGERPRINT = "fingerprint"
    """Log-perplexities of its answers under a shared language model: black boxes (CSCR 3.2)."""
    PROFILE = "profile"
    """Where its answers to the probe set are right, around its own mean."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Descriptor:
    """A unit vector that stands for an expert in the retrieval index."""

    expert: ExpertId
    kind: DescriptorKind
    recipe: str
    """Hash of the probes and of how the vector was made: vectors of two recipes say nothing about
    each other."""
    vector: Float32Array
    """float32[D], unit length."""
    made_at: datetime
    details: Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeAnswer:
    """What an expert said to one probe, paid for once."""

    expert: ExpertId
    probe_set: str
    """Hash of the probes; the same for every expert."""
    number: int
    """Of the probe in its set, from 0."""
    text: str | None
    """Empty where the endpoint refused; None once retention has dropped it."""
    grade: float | None
    """In [0, 1] where the probe can be checked."""
    cost_usd: float
    answered_at: datetime
    input_tokens: int | None = None
    output_tokens: int | None = None


class Describing(Protocol):
    """Descriptors of experts and the answers they are made from."""

    def keep(self, descriptor: Descriptor) -> None:
        """Store a descriptor in place of the expert's earlier one of that kind and recipe.

        Raises ``ValueError`` unless the vector is finite, of one axis and of unit length.
        """
        ...

    def descriptors(self, expert: ExpertId | None = None) -> list[Descriptor]:
        """Return the descriptors of one expert or of all, by expert, kind and recipe."""
        ...

    def answer(self, answer: ProbeAnswer) -> bool:
        """Store an answer; the first stays, unless its text has been dropped. True when stored."""
        ...

    def answers(self, expert: ExpertId, *, probe_set: str) -> list[ProbeAnswer]:
        """Return an expert's answers to a probe set, by number."""
        ...

    def spent(self, expert: ExpertId) -> tuple[int, float]:
        """Return how many probe answers an expert has given, over all sets, and their USD."""
        ...

    def drop_texts(self, *, before: datetime, limit: int) -> int:
        """Drop the texts of up to ``limit`` answers from before that instant; return how many.

        Grades, tokens and costs stay.
        """
        ...

    def forget(self, expert: ExpertId) -> int:
        """Drop an expert's descriptors and answers; return how many rows went."""
        ...


def stored_vector(vector: Float32Array) -> bytes:
    """Return a descriptor's vector as it is kept: little-endian float32.

    Raises ``ValueError`` unless it is finite, of one axis and of unit length.
    """
    if vector.ndim != 1 or not np.all(np.isfinite(vector)):
        raise ValueError("a descriptor is one row of finite numbers")
    if abs(float(np.linalg.norm(vector)) - 1.0) > _UNIT:
        raise ValueError("a descriptor has unit length")
    return vector.astype(_STORED).tobytes()


def loaded_vector(stored: bytes, dimension: int) -> Float32Array:
    """Return the vector in ``stored``. Raises ``ValueError`` if it has another dimension."""
    vector = np.frombuffer(stored, dtype=_STORED).astype(np.float32)
    if len(vector) != dimension:
        raise ValueError(f"a descriptor of {dimension} numbers holds {len(vector)}")
    return vector
