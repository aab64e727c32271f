"""Budgets of money in memory."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from store.memory_tables import Journal
from store.money import Budget


class MemoryMoney:
    """``store.money.Money``."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._held = journal.tables.budgets

    def reserve(self, budgets: Sequence[Budget], *, day: str, amount: int) -> bool:
        if any(self._held.get((b.kind, day), 0) + amount > b.limit for b in budgets):
            return False
        self._add([b.kind for b in budgets], day, amount)
        return True

    def settle(self, kinds: Collection[str], *, day: str, change: int) -> None:
        self._add([kind for kind in kinds if (kind, day) in self._held], day, change)

    def _add(self, kinds: Sequence[str], day: str, change: int) -> None:
        for kind in kinds:
            used = self._held.get((kind, day), 0)
            self._journal.put(self._held, (kind, day), max(0, used + change))

    def used(self, kinds: Collection[str], *, day: str) -> dict[str, int]:
        return {kind: self._held.get((kind, day), 0) for kind in kinds}
