"""Logit footprints: what an open-weight expert is about to say (CSCR, arXiv 2508.12491, eq. 1-2).

The mean probability that the expert gives to K common strings over the first T greedy tokens of
its answers to N probes, of unit length. Departures from the paper and its code, which make the
vectors of different models comparable:

- The K coordinates are *strings*, not token ids: the paper's ids are those of each tokenizer, so
  that one coordinate means other text in another family. The mass of every token that adds the
  string to a text is summed; a string that no token of a tokenizer adds is 0.
- Batches are padded on the left and masked; the official code pads on the tokenizer's default
  side, so that a footprint changes with the batch.
- Nothing is counted after an answer's end (the official code goes on). The division by N·T is
  left out: the vector is scaled to unit length.
- Probes are asked as a conversation, under the expert's system prompt: the expert is a model with
  its prompt, as it is called.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from online.clients import Message
from online.descriptors import unit
from online.footprint_strings import STRINGS
from store.records import FloatArray

DIMENSION = 256
"""K: strings (paper, section 4.1)."""
STEPS = 10
"""T: greedy tokens of each answer (paper, section 4.1)."""
BATCH = 8
"""Probes in one pass: twice as fast as one by one on a CPU, and 16 are hardly faster."""
LEAST_KNOWN = DIMENSION // 2
"""Strings that must be tokens of a model, or its footprint says too little to compare."""

Progress = Callable[[int], None]


class OpenModel(Protocol):
    """A model whose probabilities can be read; ``local_lm.LocalModel`` is one."""

    def vocabulary(self) -> list[str]:
        """Return the string that each token id adds to a text."""
        ...

    def string_mass(
        self, talks: Sequence[Sequence[Message]], *, columns: Sequence[Sequence[int]], steps: int
    ) -> FloatArray:
        """Return float64[n, K]: probability of groups of tokens, summed over greedy steps until
        the answer ends.
        """
        ...


def footprint(
    model: OpenModel,
    probes: Sequence[str],
    *,
    system: str | None = None,
    batch: int = BATCH,
    progress: Progress | None = None,
) -> FloatArray:
    """Return an expert's logit footprint, float64[256] of unit length.

    Parameters
    ----------
    model
        The open weights: ``LocalModel.load(place)``.
    probes
        N prompts; ``online.probes.texts()`` for a footprint that compares with others.
    system
        The system prompt under which the expert is called; None for none.
    batch
        Probes in one pass. The result does not depend on it, nor on the probes' order, beyond
        the arithmetic of 32-bit weights (cosine above 0.9999 between batches of 1, 8 and 32).
    progress
        Called after each pass with the number of probes done.

    Raises
    ------
    ValueError
        No probes, or the model's tokens write fewer than half of the strings.
    """
    if not probes:
        raise ValueError("a footprint needs at least one probe")
    columns = columns_of(model.vocabulary())
    total = np.zeros(DIMENSION)
    for start in range(0, len(probes), batch):
        talks = [conversation(text, system) for text in probes[start : start + batch]]
        total += model.string_mass(talks, columns=columns, steps=STEPS).sum(axis=0)
        if progress is not None:
            progress(start + len(talks))
    return unit(total, dimension=DIMENSION)


def identity(probes: Sequence[str]) -> str:
    """Return the name of what is measured: footprints compare only under the same one."""
    parts = [f"footprint-1;{STEPS}", *STRINGS, *probes]
    return "footprint-" + hashlib.sha256("\x1f".join(parts).encode()).hexdigest()[:16]


def columns_of(vocabulary: Sequence[str]) -> list[list[int]]:
    """Return the ids of the tokens that write each of the K strings, some of them none.

    Raises
    ------
    ValueError
        Fewer than half of the strings are tokens.
    """
    ids: dict[str, list[int]] = {string: [] for string in STRINGS}
    for token, string in enumerate(vocabulary):
        if string in ids:
            ids[string].append(token)
    known = sum(map(bool, ids.values()))
    if known < LEAST_KNOWN:
        raise ValueError(
            f"the model's tokens write {known} of {DIMENSION} common strings, a footprint needs"
            f" {LEAST_KNOWN}: describe this expert by a fingerprint of its answers"
        )
    return list(ids.values())


def conversation(text: str, system: str | None) -> tuple[Message, ...]:
    """Return the messages in which an expert is asked a probe."""
    asked = Message("user", text)
    return (asked,) if system is None else (Message("system", system), asked)
