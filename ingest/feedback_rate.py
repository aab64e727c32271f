"""How much feedback one source may give: a token bucket for each, in this process."""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from dataclasses import dataclass

from store.clock import Clock
from store.errors import TooMany

MOST_SOURCES = 10_000
"""Sources that are remembered; of more, the one that was quiet longest is forgotten."""


@dataclass(slots=True)
class _Bucket:
    tokens: float
    filled_at: float


class FeedbackRate:
    """Lets each source say so much a minute, and as much at once after a quiet minute.

    Parameters
    ----------
    per_minute
        Words of one source a minute; 0: any number.
    """

    def __init__(self, clock: Clock, *, per_minute: int) -> None:
        self._clock = clock
        self._per_minute = per_minute
        self._lock = threading.Lock()
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def take(self, source: str) -> None:
        """Count one word of a source. Raises ``TooMany``: it must wait."""
        if self._per_minute == 0:
            return
        per_second = self._per_minute / 60.0
        with self._lock:
            now = self._clock.monotonic()
            bucket = self._buckets.setdefault(source, _Bucket(float(self._per_minute), now))
            self._buckets.move_to_end(source)
            if len(self._buckets) > MOST_SOURCES:
                self._buckets.popitem(last=False)
            filled = bucket.tokens + per_second * (now - bucket.filled_at)
            bucket.tokens, bucket.filled_at = min(filled, float(self._per_minute)), now
            if bucket.tokens < 1.0:
                raise TooMany(
                    "too_much_feedback",
                    f"a source may give {self._per_minute} words of feedback a minute to one"
                    " process; send later, with the same Idempotency-Key",
                    field="source",
                    retry_after_s=math.ceil((1.0 - bucket.tokens) / per_second),
                )
            bucket.tokens -= 1.0
