"""Budgets of money, and what was spent, in memory."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime

from store.judging import VERIFIED
from store.memory_tables import Journal
from store.money import Budget, Spent
from store.records import TRAFFIC, RequestId


class MemoryMoney:
    """``store.money.Money``."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._tables = journal.tables
        self._held = journal.tables.budgets
        self._reserved = journal.tables.reservations

    def reserve(self, budgets: Sequence[Budget], *, day: str, amount: int) -> bool:
        if any(self._held.get((b.kind, day), 0) + amount > b.limit for b in budgets):
            return False
        for budget in budgets:
            self._change(budget.kind, day, used=amount, reserved=amount)
        return True

    def settle(self, kinds: Collection[str], *, day: str, reserved: int, cost: int) -> None:
        for kind in kinds:
            if (kind, day) in self._held:
                self._change(kind, day, used=cost - reserved, reserved=-reserved)

    def _change(self, kind: str, day: str, *, used: int, reserved: int) -> None:
        for table, change in ((self._held, used), (self._reserved, reserved)):
            held = table.get((kind, day), 0)
            self._journal.put(table, (kind, day), max(0, held + change))

    def used(self, kinds: Collection[str], *, day: str) -> dict[str, int]:
        return {kind: self._held.get((kind, day), 0) for kind in kinds}

    def under_way(self, kinds: Collection[str], *, day: str) -> dict[str, int]:
        return {kind: self._reserved.get((kind, day), 0) for kind in kinds}

    def spent(self, versions: Collection[str], *, since: datetime) -> list[Spent]:
        judged: dict[str, dict[RequestId, bool]] = {}
        for label in self._tables.labels.values():
            decision = self._tables.decisions.get(label.request_id)
            is_meant = label.purpose == TRAFFIC and label.labelled_at >= since
            if is_meant and decision is not None:
                of_tenant = judged.setdefault(decision.tenant, {})
                is_verified = label.judge_version.startswith(VERIFIED)
                of_tenant[label.request_id] = of_tenant.get(label.request_id, False) or is_verified
        return [self._spent(tenant, judged[tenant], versions) for tenant in sorted(judged)]

    def _spent(
        self, tenant: str, judged: dict[RequestId, bool], versions: Collection[str]
    ) -> Spent:
        every = self._tables.verdicts.items()
        said = [(key, v) for key, v in every if key[0] in judged and key[1] in versions]
        shadows = [a for key, a in self._tables.shadows.items() if key[0] in judged]
        costs = [a.cost_usd for a in shadows if a.cost_usd is not None]
        tokens = [a.input_tokens for a in shadows if a.input_tokens is not None]
        return Spent(
            tenant=tenant,
            requests=len(judged),
            verified=sum(judged.values()),
            asked=len({key[0] for key, _ in said}),
            pairs=len({(key[0], key[2], key[3]) for key, _ in said}),
            calls=len(said),
            verdicts_usd=sum(v.cost_usd for _, v in said),
            shadow_answers=len(shadows),
            shadow_stated=len(costs),
            shadow_usd=sum(costs),
            shadow_counted=len(tokens),
            shadow_input_tokens=sum(tokens),
        )
