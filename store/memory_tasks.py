"""Judge tasks in memory."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from store.errors import LeaseLost
from store.facts import PutOff
from store.memory_tables import HeldTask, Journal
from store.records import OPEN, TRAFFIC, AuditEntry, JudgeTask, TaskStatus
from store.turns import in_turn
from store.upkeep import RETRIED


class MemoryTasks:
    """``store.ledger.Tasks``."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._tables = journal.tables

    def add(self, tasks: Sequence[JudgeTask]) -> int:
        new = 0
        for task in tasks:
            key = (task.request_id, task.purpose, frozenset(task.experts))
            if key in self._tables.task_keys:
                continue
            task_id = self._journal.next("task")
            self._journal.put(self._tables.task_keys, key, task_id)
            pending = replace(task, task_id=task_id, status=TaskStatus.PENDING, attempts=0)
            self._put(HeldTask(pending, due_at=task.created_at))
            new += 1
        if new:
            self._journal.heard.add("tasks")
        return new

    def _put(self, held: HeldTask) -> None:
        self._journal.put(self._tables.tasks, held.task.task_id or 0, held)

    def lease(
        self, *, worker: str, now: datetime, lease_s: float, limit: int, after: str = ""
    ) -> list[JudgeTask]:
        ready = [held.task for held in self._tables.tasks.values() if _is_ready(held, now)]
        leased = []
        for waiting in in_turn(ready, after=after)[:limit]:
            attempts = waiting.attempts + 1
            task = replace(waiting, status=TaskStatus.LEASED, attempts=attempts)
            due_at = self._tables.tasks[task.task_id or 0].due_at
            self._put(HeldTask(task, due_at, worker, now + timedelta(seconds=lease_s)))
            leased.append(task)
        return leased

    def renew(self, task_id: int, *, worker: str, now: datetime, lease_s: float) -> None:
        self._owned(task_id, worker)
        held = self._tables.tasks[task_id]
        self._put(replace(held, expires_at=now + timedelta(seconds=lease_s)))

    def finish(self, task_id: int, *, worker: str) -> None:
        self._settle(replace(self._owned(task_id, worker), status=TaskStatus.DONE))

    def give_back(
        self, task_id: int, *, worker: str, due_at: datetime, error: str, counts: bool
    ) -> None:
        task = self._owned(task_id, worker)
        attempts = task.attempts if counts else task.attempts - 1
        pending = replace(task, status=TaskStatus.PENDING, attempts=attempts, last_error=error)
        self._put(HeldTask(pending, due_at=due_at))

    def put_off(self, tasks: Sequence[PutOff], *, worker: str) -> set[int]:
        mine = [one for one in tasks if self._is_owned(one.task_id, worker)]
        for one in mine:
            self.give_back(
                one.task_id, worker=worker, due_at=one.due_at, error=one.error, counts=False
            )
        return {one.task_id for one in mine}

    def bury(self, task_id: int, *, worker: str, error: str) -> None:
        task = self._owned(task_id, worker)
        self._settle(replace(task, status=TaskStatus.DEAD, last_error=error))

    def _owned(self, task_id: int, worker: str) -> JudgeTask:
        if not self._is_owned(task_id, worker):
            raise LeaseLost(task_id=task_id, worker=worker)
        return self._tables.tasks[task_id].task

    def _is_owned(self, task_id: int, worker: str) -> bool:
        held = self._tables.tasks.get(task_id)
        return held is not None and (held.task.status, held.worker) == (TaskStatus.LEASED, worker)

    def _settle(self, task: JudgeTask) -> None:
        self._put(HeldTask(task, due_at=task.created_at))
        if task.purpose == TRAFFIC:
            self._journal.drop(self._tables.awaited, task.request_id)

    def counts(self) -> dict[str, int]:
        totals = {str(status): 0 for status in TaskStatus}
        for held in self._tables.tasks.values():
            totals[held.task.status] += 1
        return totals

    def oldest(self) -> datetime | None:
        tasks = (held.task for held in self._tables.tasks.values())
        return min((one.created_at for one in tasks if one.status in OPEN), default=None)

    def listed(
        self, *, status: TaskStatus | None, limit: int, purpose: str | None = None
    ) -> list[JudgeTask]:
        tasks = [held.task for _, held in sorted(self._tables.tasks.items(), reverse=True)]
        meant = [task for task in tasks if status in {None, task.status}]
        return [task for task in meant if purpose in {None, task.purpose}][:limit]

    def retry(self, task_ids: Collection[int], *, actor: str, now: datetime) -> list[int]:
        held = self._tables.tasks
        dead = [x for x in sorted(task_ids) if x in held and held[x].task.status is TaskStatus.DEAD]
        for task_id in dead:
            pending = replace(held[task_id].task, status=TaskStatus.PENDING, attempts=0)
            self._put(HeldTask(pending, due_at=now))
        if dead:
            self._journal.heard.add("tasks")
            entry = AuditEntry(actor=actor, action=RETRIED, detail={"tasks": dead}, at=now)
            self._journal.append(self._tables.audit, entry)
        return dead


def _is_ready(held: HeldTask, now: datetime) -> bool:
    if held.task.status is TaskStatus.PENDING:
        return held.due_at <= now
    is_leased = held.task.status is TaskStatus.LEASED
    return is_leased and held.expires_at is not None and held.expires_at <= now
