"""Calls of experts in memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime

from store.facts import FailedCall
from store.health import CallError
from store.memory_tables import Journal
from store.records import ExpertId


class MemoryCalls:
    """``store.facts.Calls``."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._tables = journal.tables
        self._held = journal.tables.failed_calls

    def record(self, failed: Sequence[FailedCall]) -> list[bool]:
        return [self._is_new(call) for call in failed]

    def _is_new(self, call: FailedCall) -> bool:
        key = (call.request_id, call.expert, call.source)
        if key in self._held:
            return False
        self._journal.put(self._held, key, call)
        return True

    def suspects(self, *, after: datetime, at_least: int) -> set[ExpertId]:
        failed = {(call.expert, call.request_id) for call in self._counted(after)}
        counts = Counter(expert for expert, _ in failed)
        return {expert for expert, count in counts.items() if count >= at_least}

    def failures(self, expert: ExpertId, *, after: datetime, limit: int) -> list[FailedCall]:
        own = [call for call in self._counted(after) if call.expert == expert]
        own.sort(key=lambda call: call.failed_at)
        newest = {call.request_id: call for call in own}.values()
        return sorted(newest, key=lambda call: call.failed_at, reverse=True)[:limit]

    def answered(self, expert: ExpertId, *, after: datetime, limit: int) -> int:
        answers = (*self._tables.responses.values(), *self._tables.shadows.values())
        return min(limit, sum(a.expert == expert and a.received_at > after for a in answers))

    def forget(self, *, before: datetime) -> int:
        old = [key for key, call in self._held.items() if call.failed_at < before]
        for key in old:
            self._journal.drop(self._held, key)
        return len(old)

    def _counted(self, after: datetime) -> list[FailedCall]:
        return [
            call
            for call in self._held.values()
            if call.failed_at > after and call.error is not CallError.REFUSED
        ]
