"""Days, retention and erasure on PostgreSQL. Days go as partitions, never row by row.

What is not partitioned by day (ids, messages, feedback) goes in bounded batches, so that no
transaction holds many rows and autovacuum keeps up.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import date, datetime

from sqlalchemy import Connection, TextClause, func, select, text

from store.postgres.dropping import DROP_AGED, DROP_KEYS, WITHOUT_TEXT, drop_day, drop_texts
from store.postgres.erasing import erase_user
from store.postgres.operations import PostgresOperations
from store.postgres.partitions import DayPartitions, described, listed
from store.postgres.tables import audit
from store.records import AuditEntry, JsonObject, RequestId
from store.upkeep import (
    DROPPED,
    ERASED,
    UNLEARNT,
    DroppedKeys,
    Erased,
    KeptDay,
    erasure,
    revision_of,
)

_TEXT_TABLES = {"prompts", "responses", "shadow_answers"}
_OPEN_TASKS = text(
    "SELECT day, count(*) AS n FROM judge_tasks JOIN request_keys USING (request_id)"
    " WHERE status IN ('pending', 'leased') GROUP BY day"
)
_UNPUBLISHED = text(
    "SELECT day, count(*) AS n FROM outbox JOIN request_keys ON key = request_id"
    " WHERE published_at IS NULL GROUP BY day"
)
_JUDGED = text("SELECT day, count(DISTINCT request_id) AS n FROM labels GROUP BY day")
# Keys go in the order of ids: while that of the last one is there, the day is not through.
_HAS_KEYS = text(
    "SELECT EXISTS (SELECT FROM request_keys k WHERE k.day = :day AND k.request_id ="
    " (SELECT request_id FROM decisions WHERE day = :day AND NOT is_sampled"
    " ORDER BY request_id DESC LIMIT 1))"
)
_DROP_ACKS = text("DELETE FROM state_acks WHERE version = ANY(:versions)")
_DROP_STATES = text(
    "DELETE FROM routing_states WHERE version = ANY(:versions) AND NOT is_active RETURNING version"
)


class PostgresUpkeep:
    """``store.upkeep.Upkeep``."""

    def __init__(self, connection: Connection, partitions: DayPartitions) -> None:
        self._connection = connection
        self._partitions = partitions

    def prepare_days(self, days: Collection[date]) -> list[date]:
        self._partitions.look_again(days)
        return self._partitions.ensure(days)

    def days(self) -> list[date]:
        return listed(self._connection)

    def survey(self) -> list[KeptDay]:
        found = described(self._connection)
        bare = {day for _, day, _, comment in found if comment == WITHOUT_TEXT}
        judged, open_tasks, unpublished = map(self._by_day, (_JUDGED, _OPEN_TASKS, _UNPUBLISHED))
        return [
            KeptDay(
                day=day,
                facts_bytes=sum(size for _, d, size, _ in found if d == day),
                text_bytes=sum(n for name, d, n, _ in found if d == day and name in _TEXT_TABLES),
                has_text=day not in bare,
                has_keys=bool(self._connection.scalar(_HAS_KEYS, {"day": day})),
                judged=judged.get(day, 0),
                open_tasks=open_tasks.get(day, 0),
                unpublished=unpublished.get(day, 0),
            )
            for day in self.days()
        ]

    def _by_day(self, counting: TextClause) -> dict[date, int]:
        return {row.day: row.n for row in self._connection.execute(counting)}

    def _size(self, day: date, tables: Collection[str] | None = None) -> int:
        found = described(self._connection)
        return sum(n for name, d, n, _ in found if d == day and (not tables or name in tables))

    def drop_facts(self, day: date, *, actor: str, now: datetime) -> bool:
        open_tasks, unpublished = self._by_day(_OPEN_TASKS), self._by_day(_UNPUBLISHED)
        if day not in self.days() or day in open_tasks or day in unpublished:
            return False
        detail: JsonObject = {"day": str(day), "bytes": self._size(day)}
        drop_day(self._connection, day)
        self._partitions.look_again([day])
        self._audit(DROPPED, detail, actor=actor, now=now)
        return True

    def drop_text(self, day: date, *, actor: str, now: datetime) -> bool:
        attached = [(d, comment) for _, d, _, comment in described(self._connection)]
        if (day, None) not in attached or (day, WITHOUT_TEXT) in attached:
            return False
        if day in self._by_day(_OPEN_TASKS):
            return False
        before = self._size(day, _TEXT_TABLES)
        drop_texts(self._connection, day)
        freed = before - self._size(day, _TEXT_TABLES)
        self._audit("text.dropped", {"day": str(day), "bytes": freed}, actor=actor, now=now)
        return True

    def drop_keys(self, day: date, *, after: RequestId | None, limit: int) -> DroppedKeys:
        bounds = {"day": day, "after": after or "", "limit": limit}
        looked, count, last = self._connection.execute(DROP_KEYS, bounds).one()
        return DroppedKeys(count=count, last=RequestId(last) if looked == limit else None)

    def drop_states(self, versions: Collection[int], *, actor: str, now: datetime) -> int:
        asked = {"versions": sorted(versions)}
        gone = sorted(self._connection.scalars(_DROP_STATES, asked))
        if gone:
            self._connection.execute(_DROP_ACKS, {"versions": gone})
            self._audit("states.dropped", {"versions": gone}, actor=actor, now=now)
        return len(gone)

    def drop_aged(self, *, before: datetime, limit: int) -> int:
        bounds = {"before": before, "limit": limit}
        return sum(self._connection.execute(gone, bounds).rowcount for gone in DROP_AGED)

    def erase(
        self, day: date, *, tenant: str, session_id: str | None, actor: str, now: datetime
    ) -> Erased:
        erased = erase_user(self._connection, day, tenant=tenant, session_id=session_id)
        if erased != Erased():
            self._audit(ERASED, erasure(day, tenant, session_id, erased), actor=actor, now=now)
        return erased

    def revision(self) -> int:
        told = select(func.count(), func.max(audit.c.at)).where(audit.c.action.in_(UNLEARNT))
        count, newest = self._connection.execute(told).one()
        return revision_of(count, newest)

    def _audit(self, action: str, detail: JsonObject, *, actor: str, now: datetime) -> None:
        entry = AuditEntry(actor=actor, action=action, detail=detail, at=now)
        PostgresOperations(self._connection).audit(entry)
