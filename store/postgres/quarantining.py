"""Quarantines of judges on PostgreSQL: labels that go out, tasks that are done anew, and back."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime

from sqlalchemy import (
    ColumnElement,
    Connection,
    Subquery,
    and_,
    delete,
    func,
    literal,
    or_,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import insert

from store.judging import Quarantine
from store.postgres.judging_tables import kept_verdicts, quarantines
from store.postgres.labels import IS_LEFT_OUT, left_out, stands_on
from store.postgres.locks import QUARANTINE
from store.postgres.tables import awaited_labels, decisions, judge_tasks, labels, request_keys
from store.records import TRAFFIC, TaskStatus

_task = judge_tasks.c


def impose(connection: Connection, quarantine: Quarantine) -> int:
    """Hold a version and reopen its tasks; return how many labels are out by it."""
    connection.execute(select(func.pg_advisory_xact_lock(QUARANTINE)))
    version = quarantine.judge_version
    since = _held_since(connection, quarantine)
    theirs = and_(stands_on(labels, literal(version)), labels.c.labelled_at >= since)
    count = connection.scalar(select(func.count()).select_from(labels).where(theirs)) or 0
    _reopen(connection, quarantine, _of(and_(theirs, ~_is_labelled_otherwise())))
    kept = kept_verdicts.c
    connection.execute(
        delete(kept_verdicts).where(kept.judge_version == version, kept.kept_at >= since)
    )
    return count


def lift(connection: Connection, judge_version: str) -> bool:
    """Hold a version no longer, and close the tasks whose labels count again."""
    gone = (
        delete(quarantines)
        .where(quarantines.c.judge_version == judge_version)
        .returning(quarantines.c.since)
    )
    since = connection.scalar(gone)
    if since is None:
        return False
    theirs = and_(stands_on(labels, literal(judge_version)), labels.c.labelled_at >= since)
    closed = (
        update(judge_tasks)
        .where(_task.status == TaskStatus.PENDING, _brought(_of(and_(theirs, ~IS_LEFT_OUT))))
        .values(status=TaskStatus.DONE, last_error=None)
        .returning(_task.request_id, _task.purpose)
        .cte("closed")
    )
    of_traffic = select(closed.c.request_id).where(closed.c.purpose == TRAFFIC)
    connection.execute(delete(awaited_labels).where(awaited_labels.c.request_id.in_(of_traffic)))
    return True


def _held_since(connection: Connection, quarantine: Quarantine) -> datetime:
    """Store a quarantine; return since when it holds, which is never later than before."""
    imposed = insert(quarantines).values(asdict(quarantine))
    stored = imposed.on_conflict_do_update(
        index_elements=[quarantines.c.judge_version],
        set_={
            "since": func.least(quarantines.c.since, imposed.excluded.since),
            "reason": imposed.excluded.reason,
            "imposed_at": imposed.excluded.imposed_at,
        },
    )
    since: datetime = connection.execute(stored.returning(quarantines.c.since)).scalar_one()
    return since


def _reopen(connection: Connection, quarantine: Quarantine, unsaid: Subquery) -> None:
    """Have the tasks of these labels done again, and awaited as when they were made."""
    reopened = (
        update(judge_tasks)
        .where(_task.status.in_([TaskStatus.DONE, TaskStatus.DEAD]), _brought(unsaid))
        .values(
            status=TaskStatus.PENDING,
            attempts=0,
            due_at=quarantine.imposed_at,
            last_error=f"judged by {quarantine.judge_version}, which is in quarantine",
        )
        .returning(_task.request_id, _task.purpose)
        .cte("reopened")
    )
    decided = (
        select(decisions.c.request_id, decisions.c.seq, decisions.c.decided_at)
        .join(request_keys, request_keys.c.request_id == decisions.c.request_id)
        .where(
            decisions.c.day == request_keys.c.day,
            decisions.c.is_sampled,
            decisions.c.request_id.in_(
                select(reopened.c.request_id).where(reopened.c.purpose == TRAFFIC)
            ),
        )
    )
    awaited = insert(awaited_labels).from_select(["request_id", "seq", "decided_at"], decided)
    connection.execute(awaited.on_conflict_do_nothing())


def _of(wanted: ColumnElement[bool]) -> Subquery:
    found = select(labels.c.request_id, labels.c.purpose, labels.c.expert).where(wanted)
    return found.subquery("theirs")


def _is_labelled_otherwise() -> ColumnElement[bool]:
    """Hold for labels beside one of the same answer that counts: nobody need judge it again."""
    other = labels.alias("other")
    same = (other.c[name] == labels.c[name] for name in ("day", "request_id", "expert", "purpose"))
    return select(1).where(*same, ~left_out(other)).correlate(labels).exists()


def _brought(theirs: Subquery) -> ColumnElement[bool]:
    """Hold for tasks that brought such labels; one without experts brings the reference's."""
    is_asked = or_(
        _task.experts.has_key(theirs.c.expert),
        func.jsonb_array_length(_task.experts) == 0,
    )
    return (
        select(1)
        .where(theirs.c.request_id == _task.request_id, theirs.c.purpose == _task.purpose, is_asked)
        .correlate(judge_tasks)
        .exists()
    )
