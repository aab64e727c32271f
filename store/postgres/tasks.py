"""Judge tasks on PostgreSQL, leased with ``FOR UPDATE SKIP LOCKED``."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta

from sqlalchemy import Connection, RowMapping, and_, delete, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.sql.dml import ReturningInsert

from store.errors import LeaseLost
from store.newer import known_or_newer
from store.postgres.batch import arrays, given, value
from store.postgres.notify import announce
from store.postgres.operations import PostgresOperations
from store.postgres.rows import utc
from store.postgres.tables import awaited_labels, judge_tasks
from store.records import (
    DEFAULT_TENANT,
    TRAFFIC,
    AuditEntry,
    ExpertId,
    JudgeTask,
    RequestId,
    TaskStatus,
)
from store.upkeep import RETRIED

_held = judge_tasks.c
_WRITTEN = (
    *(_held.request_id, _held.purpose, _held.experts, _held.experts_key, _held.status),
    *(_held.attempts, _held.created_at, _held.due_at, _held.tenant),
)


def _add_in_key_order() -> ReturningInsert[tuple[int]]:
    rows = given(_WRITTEN)
    ordered = select(*[value(rows, one) for one in _WRITTEN]).order_by(
        rows.c.request_id, rows.c.purpose, rows.c.experts_key, rows.c.ord
    )
    return (
        insert(judge_tasks)
        .from_select([one.name for one in _WRITTEN], ordered)
        .on_conflict_do_nothing()
        .returning(_held.task_id)
    )


_ADD = _add_in_key_order()


class PostgresTasks:
    """``store.ledger.Tasks``."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def add(self, tasks: Sequence[JudgeTask]) -> int:
        if not tasks:
            return 0
        sent = arrays([_row(task) for task in tasks], _WRITTEN)
        new = len(self._connection.execute(_ADD, sent).all())
        if new:
            announce(self._connection, "tasks")
        return new

    def lease(self, *, worker: str, now: datetime, lease_s: float, limit: int) -> list[JudgeTask]:
        is_ready = or_(
            and_(_held.status == TaskStatus.PENDING, _held.due_at <= now),
            and_(_held.status == TaskStatus.LEASED, _held.leased_until <= now),
        )
        chosen = (
            select(_held.task_id)
            # Repeats the partial index's condition, which the planner cannot infer from is_ready.
            .where(_held.status.in_([TaskStatus.PENDING, TaskStatus.LEASED]), is_ready)
            .order_by(_held.created_at, _held.task_id)
            .limit(limit)
            .with_for_update(skip_locked=True)
            .cte("chosen")
        )
        leased = (
            update(judge_tasks)
            .where(_held.task_id.in_(select(chosen.c.task_id)))
            .values(
                status=TaskStatus.LEASED,
                attempts=_held.attempts + 1,
                leased_by=worker,
                leased_until=now + timedelta(seconds=lease_s),
            )
            .returning(judge_tasks)
        )
        tasks = [_task(row) for row in self._connection.execute(leased).mappings()]
        return sorted(tasks, key=lambda task: (task.created_at, task.task_id))

    def renew(self, task_id: int, *, worker: str, now: datetime, lease_s: float) -> None:
        self._change(task_id, worker, {"leased_until": now + timedelta(seconds=lease_s)})

    def finish(self, task_id: int, *, worker: str) -> None:
        self._settle(task_id, worker, {"status": TaskStatus.DONE})

    def give_back(
        self, task_id: int, *, worker: str, due_at: datetime, error: str, counts: bool
    ) -> None:
        attempts = _held.attempts if counts else _held.attempts - 1
        pending = {"status": TaskStatus.PENDING, "attempts": attempts, "due_at": due_at}
        self._release(task_id, worker, pending | {"last_error": error})

    def bury(self, task_id: int, *, worker: str, error: str) -> None:
        self._settle(task_id, worker, {"status": TaskStatus.DEAD, "last_error": error})

    def _settle(self, task_id: int, worker: str, changes: dict[str, object]) -> None:
        settled = self._release(task_id, worker, changes)
        if settled["purpose"] == TRAFFIC:
            answered = awaited_labels.c.request_id == settled["request_id"]
            self._connection.execute(delete(awaited_labels).where(answered))

    def _release(self, task_id: int, worker: str, changes: dict[str, object]) -> RowMapping:
        return self._change(task_id, worker, {"leased_by": None, "leased_until": None, **changes})

    def _change(self, task_id: int, worker: str, changes: dict[str, object]) -> RowMapping:
        mine = and_(
            _held.task_id == task_id,
            _held.status == TaskStatus.LEASED,
            _held.leased_by == worker,
        )
        changed = (
            update(judge_tasks)
            .where(mine)
            .values(changes)
            .returning(_held.purpose, _held.request_id)
        )
        row = self._connection.execute(changed).mappings().one_or_none()
        if row is None:
            raise LeaseLost(task_id=task_id, worker=worker)
        return row

    def counts(self) -> dict[str, int]:
        by_status = select(_held.status, func.count()).group_by(_held.status)
        found = {row[0]: row[1] for row in self._connection.execute(by_status)}
        return {str(status): found.get(status, 0) for status in TaskStatus}

    def listed(self, *, status: TaskStatus | None, limit: int) -> list[JudgeTask]:
        newest = select(judge_tasks).order_by(_held.task_id.desc()).limit(limit)
        if status is not None:
            newest = newest.where(_held.status == status)
        return [_task(row) for row in self._connection.execute(newest).mappings()]

    def retry(self, task_ids: Collection[int], *, actor: str, now: datetime) -> list[int]:
        retried = (
            update(judge_tasks)
            .where(_held.task_id.in_(task_ids), _held.status == TaskStatus.DEAD)
            .values(status=TaskStatus.PENDING, attempts=0, due_at=now)
            .returning(_held.task_id)
        )
        tasks = sorted(self._connection.scalars(retried))
        if tasks:
            announce(self._connection, "tasks")
            entry = AuditEntry(actor=actor, action=RETRIED, detail={"tasks": tasks}, at=now)
            PostgresOperations(self._connection).audit(entry)
        return tasks


def _row(task: JudgeTask) -> dict[str, object]:
    return {
        "request_id": task.request_id,
        "purpose": task.purpose,
        "experts": list(task.experts),
        "experts_key": json.dumps(sorted(set(task.experts))),
        "status": TaskStatus.PENDING,
        "attempts": 0,
        "created_at": task.created_at,
        "due_at": task.created_at,
        "tenant": task.tenant,
    }


def _task(row: RowMapping) -> JudgeTask:
    return JudgeTask(
        request_id=RequestId(row["request_id"]),
        experts=tuple(ExpertId(name) for name in row["experts"]),
        purpose=row["purpose"],
        created_at=utc(row["created_at"]),
        task_id=row["task_id"],
        status=known_or_newer(TaskStatus, row["status"]),
        attempts=row["attempts"],
        last_error=row["last_error"],
        tenant=row["tenant"] or DEFAULT_TENANT,  # none was kept before migration 0003
    )
