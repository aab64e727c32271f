"""Every random choice as a pure function of a seed, a purpose and the request id.

Redelivery therefore draws the same number, and whoever audits a decision can draw it again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from store.records import ExpertId, FloatArray, RequestId

JITTER = 1e-6
"""Width of the tie-breaking jitter: far above rounding, far below any meaningful difference."""
_TWO_64 = float(2**64)
_TWO_53 = float(2**53)


def draw(purpose: str, request_id: RequestId, *, seed: str = "steersman") -> float:
    """Return a uniform number in [0, 1) for this purpose and request."""
    # The upper 53 bits: all 64 would round up to 1.0 once in a very long while.
    return (_word(f"{seed}\x1f{purpose}\x1f{request_id}") >> 11) / _TWO_53


def jitter(request_ids: Sequence[RequestId], experts: Sequence[ExpertId]) -> FloatArray:
    """Return float64[n, m] in [0, ``JITTER``), keyed on (request, expert).

    Isotonic maps and tables have plateaus; without distinct scores the exact-grid risk control
    loses its lower bound (promise.md section 2). Serving and re-scoring get identical values.
    """
    rows = np.array([_word(f"row\x1f{r}") for r in request_ids], dtype=np.uint64)
    return _mixed(rows[:, None] ^ _column_words(tuple(experts))) * (JITTER / _TWO_64)


@lru_cache(maxsize=8)  # the pool is the same from one request to the next
def _column_words(experts: tuple[ExpertId, ...]) -> npt.NDArray[np.uint64]:
    return np.array([_word(f"column\x1f{e}") for e in experts], dtype=np.uint64)


def _word(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")


def _mixed(words: npt.NDArray[np.uint64]) -> FloatArray:
    """Scramble 64-bit words (the splitmix64 finaliser), as float64."""
    with np.errstate(over="ignore"):
        words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return (words ^ (words >> np.uint64(31))).astype(np.float64)
