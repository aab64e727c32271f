"""The transactional outbox on PostgreSQL."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import datetime

from sqlalchemy import ARRAY, BigInteger, Connection, any_, cast, literal, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.sql.dml import ReturningInsert

from store.clock import Clock
from store.postgres.batch import arrays, given, value
from store.postgres.tables import outbox, outbox_seq
from store.records import OutboxMessage

_WRITTEN = (outbox.c.topic, outbox.c.key, outbox.c.value, outbox.c.written_at)


def _add_in_order() -> ReturningInsert[int]:
    rows = given(_WRITTEN)
    in_order = select(*[value(rows, one) for one in _WRITTEN]).order_by(rows.c.ord).subquery()
    return (
        insert(outbox)
        .from_select(
            ["message_id", *[one.name for one in _WRITTEN]],
            select(outbox_seq.next_value(), *in_order.c),
        )
        .returning(outbox.c.message_id)
    )


_ADD = _add_in_order()


class PostgresOutbox:
    """``store.ledger.Outbox``."""

    def __init__(self, connection: Connection, clock: Clock) -> None:
        self._connection = connection
        self._clock = clock

    def add(self, messages: Sequence[OutboxMessage]) -> list[OutboxMessage]:
        if not messages:
            return []
        now = self._clock.now()
        rows = [
            {"topic": one.topic, "key": one.key, "value": one.value, "written_at": now}
            for one in messages
        ]
        numbers = sorted(self._connection.scalars(_ADD, arrays(rows, _WRITTEN)))
        return [replace(m, message_id=n) for m, n in zip(messages, numbers, strict=True)]

    def unmarked(self, *, limit: int, older_than: datetime | None = None) -> list[OutboxMessage]:
        waiting = select(outbox).where(outbox.c.published_at.is_(None))
        if older_than is not None:
            waiting = waiting.where(outbox.c.written_at < older_than)
        rows = self._connection.execute(waiting.order_by(outbox.c.message_id).limit(limit))
        return [
            OutboxMessage(
                topic=row["topic"],
                key=row["key"],
                value=row["value"],
                message_id=row["message_id"],
            )
            for row in rows.mappings()
        ]

    def mark(self, message_ids: Collection[int], *, now: datetime) -> None:
        if not message_ids:
            return
        numbers = cast(literal(sorted(message_ids), ARRAY(BigInteger)), ARRAY(BigInteger))
        marked = update(outbox).where(outbox.c.message_id == any_(numbers))
        self._connection.execute(marked.values(published_at=now))

    def unmark(self, *, since: datetime) -> int:
        sent = update(outbox).where(
            outbox.c.written_at >= since, outbox.c.published_at.is_not(None)
        )
        return self._connection.execute(sent.values(published_at=None)).rowcount
