"""Calls of experts on PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, Table, delete, func, select, union_all
from sqlalchemy.dialects.postgresql import distinct_on, insert

from store.facts import FailedCall
from store.health import CallError
from store.postgres.rows import UNDATED, utc
from store.postgres.tables import failed_calls, responses, shadow_answers
from store.records import ExpertId, RequestId, day_of

DECIDED_BEFORE = timedelta(days=1)
"""An answer lies in the day of its decision: this much earlier is still looked for."""


class PostgresCalls:
    """``store.facts.Calls``."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def record(self, failed: Sequence[FailedCall]) -> list[bool]:
        if not failed:
            return []
        rows = [
            {
                "request_id": call.request_id,
                "expert": call.expert,
                "source": call.source,
                "error": call.error,
                "failed_at": call.failed_at,
            }
            for call in failed
        ]
        added = insert(failed_calls).values(rows).on_conflict_do_nothing()
        keys = (failed_calls.c.request_id, failed_calls.c.expert, failed_calls.c.source)
        new = {tuple(row) for row in self._connection.execute(added.returning(*keys))}
        found = []
        for call in failed:
            key = (call.request_id, call.expert, call.source)
            found.append(key in new)
            new.discard(key)  # told twice: the second is not
        return found

    def suspects(self, *, after: datetime, at_least: int) -> set[ExpertId]:
        found = (
            select(failed_calls.c.expert)
            .where(_counted(after))
            .group_by(failed_calls.c.expert)
            .having(func.count(failed_calls.c.request_id.distinct()) >= at_least)
        )
        return {ExpertId(name) for name in self._connection.scalars(found)}

    def failures(self, expert: ExpertId, *, after: datetime, limit: int) -> list[FailedCall]:
        of_each = (
            select(failed_calls)
            .where(_counted(after), failed_calls.c.expert == expert)
            .ext(distinct_on(failed_calls.c.request_id))
            .order_by(failed_calls.c.request_id, failed_calls.c.failed_at.desc())
            .subquery("of_each")
        )
        newest = select(of_each).order_by(of_each.c.failed_at.desc()).limit(limit)
        return [
            FailedCall(
                request_id=RequestId(row["request_id"]),
                expert=ExpertId(row["expert"]),
                source=row["source"],
                error=CallError(row["error"]),
                failed_at=utc(row["failed_at"]),
            )
            for row in self._connection.execute(newest).mappings()
        ]

    def answered(self, expert: ExpertId, *, after: datetime, limit: int) -> int:
        both = union_all(
            select(_answers(responses, expert, after=after, limit=limit).subquery("served")),
            select(_answers(shadow_answers, expert, after=after, limit=limit).subquery("shadow")),
        ).subquery("both")
        return min(limit, self._connection.scalar(select(func.count()).select_from(both)) or 0)

    def forget(self, *, before: datetime) -> int:
        gone = delete(failed_calls).where(failed_calls.c.failed_at < before)
        return self._connection.execute(gone).rowcount


def _counted(after: datetime) -> ColumnElement[bool]:
    return (failed_calls.c.failed_at > after) & (failed_calls.c.error != CallError.REFUSED)


def _answers(table: Table, expert: ExpertId, *, after: datetime, limit: int) -> Select[Any]:
    """Select an expert's answers since, off the block-range index, at most so many."""
    first = day_of(after - DECIDED_BEFORE)
    return (
        select(table.c.received_at)
        .where(
            table.c.expert == expert,
            table.c.received_at > after,
            (table.c.day >= first) | (table.c.day == UNDATED),
        )
        .limit(limit)
    )
