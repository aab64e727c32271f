"""Waiting for what other processes and threads do: with patience, but not for ever."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

from store.clock import SystemClock

LIMIT_S = 120.0
"""When to give up: a bound against hanging, never a measurement."""
_CLOCK = SystemClock()
_NEVER = threading.Event()
Found = TypeVar("Found")


def until(
    found: Callable[[], Found], *, what: str, limit_s: float = LIMIT_S, every_s: float = 0.1
) -> Found:
    """Return the first true value of ``found``."""
    give_up = _CLOCK.monotonic() + limit_s
    while not (value := found()):
        assert _CLOCK.monotonic() < give_up, f"no {what} within {limit_s} s"
        _CLOCK.wait(_NEVER, every_s)
    return value
