"""What the ledger's tests do before they look: decide, lease, run threads at once."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from store.ledger import Ledger
from store.records import (
    RequestId,
)
from tests.factories import (
    decided,
)

R1, R2 = RequestId("r1"), RequestId("r2")
T = TypeVar("T")


def at_once(count: int, call: Callable[[int], T]) -> list[T]:
    """Run ``call`` on threads that start together."""
    barrier = threading.Barrier(count)

    def run(number: int) -> T:
        barrier.wait(timeout=30)
        return call(number)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count)))


def decide(ledger: Ledger, *request_ids: str, **changes: Any) -> list[int]:
    with ledger.begin() as tx:
        recorded = tx.decisions.record([decided(name, **changes) for name in request_ids])
    return [r.decision.seq or 0 for r in recorded if r.decision is not None]
