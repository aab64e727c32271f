"""Perplexity fingerprints: how an expert's answers read (CSCR, arXiv 2508.12491, eq. 4-5).

Coordinate i is the mean loss in nats (the log-perplexity) of the answer to probe i under a small
public language model, the scorer, standardised over the probes and of unit length. Only texts are
needed. Departures from the paper:

- The scorer is SmolLM2-135M-Instruct or any other (the paper's is GPT-2); fingerprints compare
  only under one scorer. The first token is conditioned on the begin of a text, so that an answer
  of one token has a loss.
- Answers are read up to ``LONGEST`` tokens: a rambling expert costs no more than a brief one.
- An empty or missing answer says nothing about how an expert writes: its coordinate is the mean
  of the others (0 once standardised). At least half of the probes need an answer.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from online.descriptors import unit
from store.records import FloatArray

LONGEST = 128
"""Tokens of an answer that are read."""
BATCH = 8
LEAST_ANSWERED = 0.5
"""Share of the probes that need an answer."""
_ALIKE = 1e-6
"""Nats: a spread of losses below it is rounding."""


class TextScorer(Protocol):
    """A language model that says how likely a text is; ``local_lm.LocalModel`` is one."""

    def log_losses(self, texts: Sequence[str], *, at_most: int) -> list[FloatArray]:
        """Return ``-log p`` in nats of each token of each text, of at most so many tokens."""
        ...


def fingerprint(
    answers: Sequence[str | None],
    scorer: TextScorer,
    *,
    batch: int = BATCH,
    progress: Callable[[int], None] | None = None,
) -> FloatArray:
    """Return an expert's perplexity fingerprint, float64[N] of unit length and mean 0.

    Parameters
    ----------
    answers
        The answers to N probes in the probes' order (``online.probes.texts()``), asked for at
        temperature 0; None where the call failed.
    scorer
        ``LocalModel.load(place)``, the same for every expert of a pool.
    progress
        Called after each pass with the number of answers read.

    Raises
    ------
    ValueError
        Fewer than half of the answers hold text, or all read the same: no direction.
    """
    return fingerprint_of(mean_losses(answers, scorer, batch=batch, progress=progress))


def mean_losses(
    answers: Sequence[str | None],
    scorer: TextScorer,
    *,
    batch: int = BATCH,
    progress: Callable[[int], None] | None = None,
) -> FloatArray:
    """Return float64[N]: each answer's mean loss in nats under the scorer (eq. 5), NaN for none."""
    losses = np.full(len(answers), np.nan)
    for start in range(0, len(answers), batch):
        some = [text or "" for text in answers[start : start + batch]]
        for at, lost in enumerate(scorer.log_losses(some, at_most=LONGEST), start=start):
            if len(lost):
                losses[at] = lost.mean()
        if progress is not None:
            progress(start + len(some))
    return losses


def fingerprint_of(losses: FloatArray) -> FloatArray:
    """Return the fingerprint of float64[N] mean losses in nats; NaN for no answer (eq. 4).

    Raises
    ------
    ValueError
        As ``fingerprint`` does.
    """
    answered = ~np.isnan(losses)
    if answered.sum() < max(2, LEAST_ANSWERED * len(losses)):
        raise ValueError(
            f"{answered.sum()} of {len(losses)} probes have an answer, a fingerprint needs half"
        )
    spread = float(losses[answered].std())
    if spread < _ALIKE:
        raise ValueError("all answers read the same to the scorer: they give no fingerprint")
    standard = np.where(answered, (losses - losses[answered].mean()) / spread, 0.0)
    return unit(standard, dimension=len(losses))


def identity(probes: Sequence[str], scorer: str) -> str:
    """Return the name of what is measured, from the probes and the scorer's identity:
    fingerprints compare only under the same one.
    """
    parts = [f"fingerprint-1;{LONGEST}", scorer, *probes]
    return "fingerprint-" + hashlib.sha256("\x1f".join(parts).encode()).hexdigest()[:16]
