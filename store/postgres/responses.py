"""Answers on PostgreSQL, in the day partition of their request's decision."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Double,
    RowMapping,
    Select,
    Table,
    cast,
    delete,
    func,
    literal,
    select,
    true,
    tuple_,
    union_all,
)
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.sql.dml import ReturningInsert

from store.facts import ResponseOutcome
from store.postgres.batch import any_of, arrays, given, insert_new, value
from store.postgres.lookups import facts_of, probe
from store.postgres.rows import UNDATED, answer_of, answer_row, hashed
from store.postgres.tables import experts, parked_responses, request_keys, responses, shadow_answers
from store.records import ExpertId, RequestId, ResponseReceived


def _newest_stating(table: Table) -> Select[Any]:
    """Select an expert's newest answers that state their output tokens, off the partial index."""
    return (
        select(table.c.output_tokens, table.c.received_at)
        .where(table.c.expert == experts.c.name, table.c.output_tokens.is_not(None))
        .order_by(table.c.received_at.desc())
        .limit(1_000)
        .correlate(experts)
    )


_both = union_all(
    select(_newest_stating(responses).subquery("served")),
    select(_newest_stating(shadow_answers).subquery("shadow")),
).subquery("both")
_newest = select(_both).order_by(_both.c.received_at.desc()).limit(1_000).lateral("newest")
_MEAN_OUTPUT_TOKENS = (
    select(experts.c.name, cast(func.avg(_newest.c.output_tokens), Double).label("mean"))
    .join_from(experts, _newest, true())
    .group_by(experts.c.name)
)

_ANSWERED = [one for one in responses.c if one.name != "day"]


def _insert_if_decided() -> ReturningInsert[tuple[str]]:
    rows = given(_ANSWERED)
    dated = (
        select(request_keys.c.day, *[value(rows, one) for one in _ANSWERED])
        .join_from(rows, request_keys, rows.c.request_id == request_keys.c.request_id)
        .order_by(rows.c.request_id)
    )
    return (
        insert(responses)
        .from_select(["day", *[one.name for one in _ANSWERED]], dated)
        .on_conflict_do_nothing()
        .returning(responses.c.request_id)
    )


_INSERT = _insert_if_decided()


class PostgresResponses:
    """``store.ledger.Responses``."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def record(self, batch: Sequence[ResponseReceived]) -> list[ResponseOutcome]:
        if not batch:
            return []
        first: dict[RequestId, int] = {}
        for place, response in enumerate(batch):
            first.setdefault(response.request_id, place)
        new = {first[name] for name in self._insert([batch[place] for place in first.values()])}
        held = self._held(list(first)) if len(new) < len(batch) else {}
        return [
            ResponseOutcome.NEW if place in new else _outcome(one, held.get(one.request_id))
            for place, one in enumerate(batch)
        ]

    def _insert(self, batch: Sequence[ResponseReceived]) -> set[RequestId]:
        sent = arrays([answer_row(response) for response in batch], _ANSWERED)
        return set(self._connection.scalars(_INSERT, sent))

    def _held(self, request_ids: Sequence[RequestId]) -> dict[RequestId, RowMapping]:
        found = self._connection.execute(facts_of(responses, request_ids)).mappings()
        return {row["request_id"]: row for row in found}

    def find(self, request_id: RequestId) -> ResponseReceived | None:
        row = self._held([request_id]).get(request_id)
        return None if row is None else answer_of(row)

    def record_shadow(self, answer: ResponseReceived) -> bool:
        values = answer_row(answer) | {"day": _day_of_request(answer.request_id)}
        added = (
            insert(shadow_answers)
            .values(values)
            .on_conflict_do_nothing()
            .returning(shadow_answers.c.expert)
        )
        return self._connection.scalar(added) is not None

    def find_shadow(self, request_id: RequestId, expert: ExpertId) -> ResponseReceived | None:
        found = select(shadow_answers).where(
            shadow_answers.c.day == _day_of_request(request_id),
            shadow_answers.c.request_id == request_id,
            shadow_answers.c.expert == expert,
        )
        row = self._connection.execute(found).mappings().one_or_none()
        return None if row is None else answer_of(row)

    def mean_output_tokens(self) -> dict[ExpertId, float]:
        means = self._connection.execute(_MEAN_OUTPUT_TOKENS)
        return {ExpertId(row.name): row.mean for row in means}

    def costs(self, request_ids: Collection[RequestId]) -> dict[tuple[RequestId, ExpertId], float]:
        stated: dict[tuple[RequestId, ExpertId], float] = {}
        for table in (shadow_answers, responses):
            held = probe(table, request_keys)
            found = (
                select(held.c.request_id, held.c.expert, held.c.cost_usd)
                .join_from(request_keys, held, true())
                .where(
                    request_keys.c.request_id == any_of(request_ids), held.c.cost_usd.is_not(None)
                )
            )
            stated |= {
                (RequestId(row.request_id), ExpertId(row.expert)): row.cost_usd
                for row in self._connection.execute(found)
            }
        return stated

    def park(self, response: ResponseReceived, original: bytes, *, now: datetime) -> None:
        row = answer_row(response) | {"original": original, "parked_at": now}
        insert_new(self._connection, parked_responses, [row])

    def take_parked(self, *, limit: int) -> list[tuple[ResponseReceived, bytes]]:
        is_visible = (
            select(1).where(request_keys.c.request_id == parked_responses.c.request_id).exists()
        )
        return self._take(is_visible, limit)

    def take_expired(self, *, before: datetime, limit: int) -> list[tuple[ResponseReceived, bytes]]:
        return self._take(parked_responses.c.parked_at < before, limit)

    def _take(
        self, wanted: ColumnElement[bool], limit: int
    ) -> list[tuple[ResponseReceived, bytes]]:
        held = parked_responses.c
        chosen = (
            select(held.request_id, held.expert)
            .where(wanted)
            .order_by(held.parked_at)
            .limit(limit)
            .with_for_update(skip_locked=True)
            .cte("chosen")
        )
        removed = (
            delete(parked_responses)
            .where(tuple_(held.request_id, held.expert).in_(select(chosen)))
            .returning(parked_responses)
        )
        rows = sorted(
            self._connection.execute(removed).mappings(), key=lambda row: row["parked_at"]
        )
        return [(answer_of(row), row["original"]) for row in rows]


def _day_of_request(request_id: RequestId) -> ColumnElement[object]:
    day = select(request_keys.c.day).where(request_keys.c.request_id == request_id)
    return func.coalesce(day.scalar_subquery(), literal(UNDATED))


def _outcome(response: ResponseReceived, held: RowMapping | None) -> ResponseOutcome:
    if held is None:
        return ResponseOutcome.UNKNOWN_REQUEST
    stored = (held["expert"], held["text_sha256"], held["cost_usd"])
    if stored == (response.expert, hashed(response.text), response.cost_usd):
        return ResponseOutcome.DUPLICATE
    return ResponseOutcome.CONFLICT
