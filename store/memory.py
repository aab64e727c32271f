"""The ledger in memory: the same promises as PostgreSQL, for tests and trials; gone on exit."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from store.clock import Clock, SystemClock
from store.memory_calls import MemoryCalls
from store.memory_describing import MemoryDescribing, MemoryLives
from store.memory_facts import MemoryDecisions, MemoryResponses
from store.memory_judging import MemoryJudging
from store.memory_labels import MemoryLabels
from store.memory_money import MemoryMoney
from store.memory_pool import (
    MemoryExperts,
    MemoryOperations,
    MemoryOutbox,
    MemoryPolicies,
    MemoryStates,
)
from store.memory_tables import Journal, Tables
from store.memory_tasks import MemoryTasks
from store.memory_upkeep import MemoryUpkeep


class MemoryTransaction:
    """``store.ledger.Transaction``."""

    def __init__(self, journal: Journal, clock: Clock) -> None:
        self.decisions = MemoryDecisions(journal)
        self.responses = MemoryResponses(journal)
        self.calls = MemoryCalls(journal)
        self.tasks = MemoryTasks(journal)
        self.labels = MemoryLabels(journal)
        self.judging = MemoryJudging(journal)
        self.experts = MemoryExperts(journal)
        self.describing = MemoryDescribing(journal)
        self.lives = MemoryLives(journal)
        self.states = MemoryStates(journal)
        self.policies = MemoryPolicies(journal)
        self.outbox = MemoryOutbox(journal, clock)
        self.operations = MemoryOperations(journal)
        self.money = MemoryMoney(journal)
        self.upkeep = MemoryUpkeep(journal)


class MemoryLedger:
    """``store.ledger.Ledger`` for one process; transactions run one after the other.

    A transaction opened inside another one on the same thread raises ``RuntimeError``: on
    PostgreSQL it would be a second connection that does not see the first one's work.
    """

    def __init__(self, *, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._tables = Tables()
        self._lock = threading.Lock()
        self._owner: int | None = None
        self._roles: set[str] = set()
        self._roles_lock = threading.Lock()
        self._listeners: list[MemoryNotifications] = []

    @contextmanager
    def begin(self) -> Iterator[MemoryTransaction]:
        if self._owner == threading.get_ident():
            raise RuntimeError("a transaction is open on this thread already")
        with self._lock:
            self._owner = threading.get_ident()
            journal = Journal(self._tables)
            try:
                yield MemoryTransaction(journal, self._clock)
            except BaseException:
                journal.roll_back()
                raise
            finally:
                self._owner = None
            listeners = tuple(self._listeners)
        for listener in listeners:
            listener.hear(journal.heard)

    @contextmanager
    def lead(self, role: str) -> Iterator[bool]:
        with self._roles_lock:
            leads = role not in self._roles
            self._roles.add(role)
        try:
            yield leads
        finally:
            if leads:
                with self._roles_lock:
                    self._roles.discard(role)

    def notifications(self) -> MemoryNotifications:
        """Return a listener that hears what is committed from now on."""
        listener = MemoryNotifications(self)
        with self._lock:
            self._listeners.append(listener)
        return listener

    def forget(self, listener: MemoryNotifications) -> None:
        """Stop telling a listener."""
        with self._lock:
            if listener in self._listeners:
                self._listeners.remove(listener)

    def close(self) -> None:
        return None


class MemoryNotifications:
    """``store.ledger.Notifications`` of a ``MemoryLedger``."""

    def __init__(self, ledger: MemoryLedger) -> None:
        self._ledger = ledger
        self._heard: set[str] = set()
        self._changed = threading.Condition()

    def hear(self, channels: set[str]) -> None:
        """Remember channels and wake whoever waits."""
        if not channels:
            return
        with self._changed:
            self._heard |= channels
            self._changed.notify_all()

    def wait(self, timeout_s: float) -> set[str]:
        with self._changed:
            self._changed.wait_for(lambda: bool(self._heard), timeout=timeout_s)
            heard, self._heard = self._heard, set()
            return heard

    def close(self) -> None:
        self._ledger.forget(self)
