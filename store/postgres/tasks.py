"""Judge tasks on PostgreSQL, leased with ``FOR UPDATE SKIP LOCKED``."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta

from sqlalchemy import (
    CTE,
    Connection,
    RowMapping,
    and_,
    bindparam,
    delete,
    func,
    or_,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.sql.dml import ReturningInsert, ReturningUpdate

from store.errors import LeaseLost
from store.facts import PutOff
from store.newer import known_or_newer
from store.postgres.batch import arrays, given, value
from store.postgres.notify import announce
from store.postgres.operations import PostgresOperations
from store.postgres.rows import utc
from store.postgres.tables import awaited_labels, judge_tasks
from store.records import (
    DEFAULT_TENANT,
    OPEN,
    TRAFFIC,
    AuditEntry,
    ExpertId,
    JudgeTask,
    RequestId,
    TaskStatus,
)
from store.turns import in_turn
from store.upkeep import RETRIED

AT_THE_SAME_TIME = 16
"""Workers that may lease at the same instant and each find a full batch, of one tenant's tasks."""

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
_PUT_OFF_BY = (_held.task_id, _held.due_at, _held.last_error)


def _put_off() -> ReturningUpdate[tuple[int]]:
    rows = given(_PUT_OFF_BY)
    mine = and_(
        _held.task_id == rows.c.task_id,
        _held.status == TaskStatus.LEASED,
        _held.leased_by == bindparam("worker"),
    )
    return (
        update(judge_tasks)
        .where(mine)
        .values(
            status=TaskStatus.PENDING,
            attempts=_held.attempts - 1,
            due_at=rows.c.due_at,
            last_error=rows.c.last_error,
            leased_by=None,
            leased_until=None,
        )
        .returning(_held.task_id)
    )


_PUT_OFF = _put_off()


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

    def lease(
        self, *, worker: str, now: datetime, lease_s: float, limit: int, after: str = ""
    ) -> list[JudgeTask]:
        leased = (
            update(judge_tasks)
            .where(_held.task_id.in_(select(_chosen(now, limit, after).c.task_id)))
            .values(
                status=TaskStatus.LEASED,
                attempts=_held.attempts + 1,
                leased_by=worker,
                leased_until=now + timedelta(seconds=lease_s),
            )
            .returning(judge_tasks)
        )
        tasks = [_task(row) for row in self._connection.execute(leased).mappings()]
        return in_turn(tasks, after=after)

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

    def put_off(self, tasks: Sequence[PutOff], *, worker: str) -> set[int]:
        if not tasks:
            return set()
        rows = [
            {"task_id": one.task_id, "due_at": one.due_at, "last_error": one.error} for one in tasks
        ]
        sent = arrays(rows, _PUT_OFF_BY)
        returned = self._connection.execute(_PUT_OFF, sent | {"worker": worker})
        return {row.task_id for row in returned}

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

    def listed(
        self, *, status: TaskStatus | None, limit: int, purpose: str | None = None
    ) -> list[JudgeTask]:
        newest = select(judge_tasks).order_by(_held.task_id.desc()).limit(limit)
        if status is not None:
            newest = newest.where(_held.status == status)
        if purpose is not None:
            newest = newest.where(_held.purpose == purpose)
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

    def oldest(self) -> datetime | None:
        found = self._connection.execute(
            select(func.min(_held.created_at)).where(_held.status.in_(OPEN))
        ).scalar_one()
        return None if found is None else utc(found)


def _chosen(now: datetime, limit: int, after: str) -> CTE:
    """Return the ids of tasks locked for one worker, tenants in turn.

    Every open task is read to number those of each tenant: of 100,000 that wait, of 50 tenants, a
    lease takes about 90 ms, half of it to sort them (EXPLAIN ANALYZE on 2 cores).
    """
    is_ready = and_(
        # Repeats the partial index's condition, which the planner cannot infer from the rest.
        _held.status.in_(OPEN),
        or_(
            and_(_held.status == TaskStatus.PENDING, _held.due_at <= now),
            and_(_held.status == TaskStatus.LEASED, _held.leased_until <= now),
        ),
    )
    tenant = func.coalesce(_held.tenant, DEFAULT_TENANT).collate("C")
    turn = func.row_number().over(partition_by=tenant, order_by=(_held.created_at, _held.task_id))
    numbered = select(_held.task_id, tenant.label("tenant"), turn.label("turn")).where(is_ready)
    rows = numbered.subquery("numbered")
    first = select(rows).where(rows.c.turn <= limit * AT_THE_SAME_TIME).cte("first")
    name = first.c.tenant
    return (
        select(_held.task_id)
        .join(first, first.c.task_id == _held.task_id)
        .where(is_ready)  # again: another worker may have leased it since it was numbered
        .order_by(first.c.turn, name <= after, name)
        .limit(limit)
        .with_for_update(skip_locked=True, of=judge_tasks)
        .cte("chosen")
    )


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
