"""Decisions on PostgreSQL: ``request_keys`` alone decides who was first."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, RowMapping, ScalarSelect, Select, func, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.sql.dml import ReturningInsert

from store.facts import Decided, Recorded
from store.postgres import locks
from store.postgres.batch import Row, arrays, given, insert_new, value
from store.postgres.labels import IS_LEFT_OUT
from store.postgres.lookups import facts_of, has_vector, with_vectors
from store.postgres.partitions import DayPartitions
from store.postgres.rows import (
    decision_of,
    decision_row,
    decoded,
    embedding_row,
    hashed,
    prompt_row,
    sampled_of,
    utc,
)
from store.postgres.served import served
from store.postgres.tables import (
    awaited_labels,
    decision_seq,
    decisions,
    embeddings,
    labels,
    prompts,
    request_keys,
)
from store.records import TRAFFIC, Decision, ExpertId, RequestId, SampledRequest, day_of
from store.served import Period, ServedGroup

_LAST_VALUE = "SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM decision_seq"
_HOLD_FLOOR = text(f"SELECT pg_advisory_xact_lock_shared(:floor + ({_LAST_VALUE}))")
_OPEN_FLOOR = text(
    "SELECT min(((classid::bigint << 32) | objid::bigint) - :floor) FROM pg_locks"
    " WHERE locktype = 'advisory' AND objsubid = 1 AND classid::bigint >= :floor >> 32"
    " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    " AND pid <> pg_backend_pid()"
)

_CLAIMED = [one for one in request_keys.c if one.name != "seq"]


def _claim_free_keys() -> ReturningInsert[tuple[str, int]]:
    """``seq`` follows the batch; the insert follows the key.

    So two replicas with overlapping batches wait for each other in one order, never in a circle.
    """
    rows = given(_CLAIMED)
    in_order = select(*[value(rows, one) for one in _CLAIMED]).order_by(rows.c.ord).subquery()
    numbered = select(*in_order.c, decision_seq.next_value().label("seq")).cte("numbered")
    source = select(*numbered.c).order_by(numbered.c.request_id)
    return (
        insert(request_keys)
        .from_select([one.name for one in numbered.c], source)
        .on_conflict_do_nothing()
        .returning(request_keys.c.request_id, request_keys.c.seq)
    )


_CLAIM = _claim_free_keys()


class PostgresDecisions:
    """``store.ledger.Decisions``."""

    def __init__(self, connection: Connection, partitions: DayPartitions) -> None:
        self._connection = connection
        self._partitions = partitions

    def record(self, batch: Sequence[Decided]) -> list[Recorded]:
        if not batch:
            return []
        places: dict[RequestId, int] = {}
        for place, decided in enumerate(batch):
            places.setdefault(decided.prompt.request_id, place)
        first = {name: batch[place] for name, place in places.items()}
        hashes = {name: hashed(decided.prompt.text) for name, decided in first.items()}
        stored = self._record_new(first, hashes)
        new = set(stored)
        if earlier := [name for name in first if name not in stored]:
            for row in self._stored(earlier):
                hashes[row["request_id"]] = row["prompt_sha256"]
                stored[row["request_id"]] = decision_of(row)
        answers = []
        for place, decided in enumerate(batch):
            name = decided.prompt.request_id
            clash = hashes[name] != hashed(decided.prompt.text)
            answers.append(
                Recorded(
                    request_id=name,
                    decision=None if clash else stored[name],
                    is_new=name in new and place == places[name],
                    is_conflict=clash,
                )
            )
        return answers

    def _record_new(
        self, first: dict[RequestId, Decided], hashes: dict[RequestId, bytes | None]
    ) -> dict[RequestId, Decision]:
        """Claim the keys and store what was claimed; the rest is someone else's."""
        days = {name: day_of(decided.decision.decided_at) for name, decided in first.items()}
        self._partitions.ensure(days.values())
        self._connection.execute(_HOLD_FLOOR, {"floor": locks.RECORDING})
        seqs = self._claim(
            [
                {"request_id": name, "day": days[name], "prompt_sha256": hashes[name]}
                for name in first
            ]
        )
        new = {
            name: replace(decided.decision, seq=seqs[name])
            for name, decided in first.items()
            if name in seqs
        }
        if new:
            self._store({name: first[name] for name in new}, new, days)
        return new

    def _claim(self, keys: Sequence[Row]) -> dict[RequestId, int]:
        """Insert the keys that are free and return their ``seq``."""
        claimed = self._connection.execute(_CLAIM, arrays(keys, _CLAIMED))
        return {RequestId(row.request_id): row.seq for row in claimed}

    def _store(
        self,
        first: dict[RequestId, Decided],
        new: dict[RequestId, Decision],
        days: dict[RequestId, date],
    ) -> None:
        insert_new(
            self._connection, prompts, [prompt_row(d, days[name]) for name, d in first.items()]
        )
        insert_new(
            self._connection, decisions, [decision_row(d, days[name]) for name, d in new.items()]
        )
        drawn = [decision for decision in new.values() if decision.is_sampled]
        if drawn:
            vectors = [embedding_row(first[d.request_id], days[d.request_id]) for d in drawn]
            insert_new(self._connection, embeddings, vectors)
            awaited = [
                {"request_id": d.request_id, "seq": d.seq, "decided_at": d.decided_at}
                for d in drawn
            ]
            insert_new(self._connection, awaited_labels, awaited)

    def _stored(self, request_ids: Collection[RequestId]) -> Sequence[RowMapping]:
        found = facts_of(decisions, request_ids, request_keys.c.prompt_sha256)
        return self._connection.execute(found).mappings().all()

    def find(self, request_id: RequestId) -> Decision | None:
        return self.find_many([request_id]).get(request_id)

    def find_many(self, request_ids: Collection[RequestId]) -> dict[RequestId, Decision]:
        return {row["request_id"]: decision_of(row) for row in self._stored(request_ids)}

    def prompt_text(self, request_id: RequestId) -> str | None:
        return self.prompt_texts([request_id]).get(request_id)

    def prompt_texts(self, request_ids: Collection[RequestId]) -> dict[RequestId, str]:
        held = self._connection.execute(facts_of(prompts, request_ids)).mappings()
        texts = {RequestId(row["request_id"]): decoded(row["text_utf8"]) for row in held}
        return {name: text for name, text in texts.items() if text is not None}

    def prompt_check(self, request_id: RequestId) -> str | None:
        row = self._connection.execute(facts_of(prompts, [request_id])).mappings().one_or_none()
        return None if row is None else decoded(row["check_utf8"])

    def sampled(self, request_ids: Collection[RequestId], *, encoder: str) -> list[SampledRequest]:
        asked = facts_of(decisions, request_ids).subquery("asked")
        return self._sampled(select(asked).where(asked.c.is_sampled), encoder)

    def first_sampled(
        self, count: int, *, excluding_fold: int, encoder: str
    ) -> list[SampledRequest]:
        outside = select(decisions).where(
            decisions.c.is_sampled,
            decisions.c.fold != excluding_fold,
            has_vector(decisions, encoder),  # a limit must not count what the join leaves out
        )
        return self._sampled(outside.order_by(decisions.c.seq).limit(count), encoder)

    def recent_judged(
        self, count: int, *, excluding_fold: int, without: ExpertId, encoder: str
    ) -> list[SampledRequest]:
        label = select(1).where(
            labels.c.day == decisions.c.day,
            labels.c.request_id == decisions.c.request_id,
            ~IS_LEFT_OUT,
        )
        has_text = select(1).where(
            prompts.c.day == decisions.c.day,
            prompts.c.request_id == decisions.c.request_id,
            prompts.c.text_utf8.is_not(None),
        )
        judged = select(decisions).where(
            decisions.c.is_sampled,
            has_vector(decisions, encoder),
            has_text.exists(),
            decisions.c.fold != excluding_fold,
            label.where(labels.c.purpose == TRAFFIC).exists(),
            ~label.where(labels.c.expert == without).exists(),
        )
        return self._sampled(judged.order_by(decisions.c.seq.desc()).limit(count), encoder)

    def _sampled(self, chosen: Select[Any], encoder: str) -> list[SampledRequest]:
        found = with_vectors(chosen.subquery("chosen"), encoder=encoder)
        return [sampled_of(row) for row in self._connection.execute(found).mappings()]

    def watermark(self, *, now: datetime, timeout_s: float) -> int:
        """Also stay below every ``seq`` that a running transaction may still commit.

        A recorder holds a shared advisory lock that carries the sequence's value from before it
        drew its numbers. Read in this order (sequence, locks, rows), nothing can slip between: a
        recorder that is not in the locks has either committed, and its rows are seen, or begins
        later, above the sequence's value.
        """
        given_out: int = self._connection.scalar(text(_LAST_VALUE)) or 0
        floor: int | None = self._connection.scalar(_OPEN_FLOOR, {"floor": locks.RECORDING})
        oldest = now - timedelta(seconds=timeout_s)
        outstanding = (
            select(func.min(awaited_labels.c.seq))
            .where(awaited_labels.c.decided_at >= oldest)
            .scalar_subquery()
        )
        settled: int = (
            self._connection.scalar(select(func.coalesce(outstanding - 1, _last_seq(), 0))) or 0
        )
        return min(settled, given_out, given_out if floor is None else floor)

    def last_seq(self) -> int:
        return self._connection.scalar(select(func.coalesce(_last_seq(), 0))) or 0

    def newest_at(self) -> datetime | None:
        newest = select(decisions.c.decided_at).order_by(decisions.c.seq.desc()).limit(1)
        found = self._connection.scalar(newest)
        return None if found is None else utc(found)

    def newest_version(self) -> int:
        newest = select(decisions.c.state_version).order_by(decisions.c.seq.desc()).limit(1)
        return self._connection.scalar(newest) or 0

    def served(self, period: Period) -> list[ServedGroup]:
        return served(self._connection, period)


def _last_seq() -> ScalarSelect[int]:
    return select(func.max(decisions.c.seq)).scalar_subquery()
