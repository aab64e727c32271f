"""Verdicts and labels on PostgreSQL: append-only, read by transaction id."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import cache
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    FromClause,
    RowMapping,
    ScalarSelect,
    Table,
    Text,
    and_,
    cast,
    exists,
    func,
    literal,
    or_,
    select,
    tuple_,
)
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.sql.dml import ReturningInsert

from store.facts import Arrived, SettledLabels
from store.judging import MARK_CHARACTERS, PANEL, VERIFIED
from store.postgres.batch import Row, arrays, given, value
from store.postgres.judging_tables import quarantines
from store.postgres.lookups import has_vector
from store.postgres.notify import announce
from store.postgres.rows import UNDATED, utc
from store.postgres.tables import decisions, feedback, request_keys
from store.postgres.tables import labels as held
from store.postgres.tables import verdicts as held_verdicts
from store.records import TRAFFIC, ExpertId, Label, RequestId, Verdict, day_of

# Written as text first: there is no cast from xid8 to a number.
_OLDEST_RUNNING = cast(cast(func.pg_snapshot_xmin(func.pg_current_snapshot()), Text), BigInteger)


def stands_on(label: FromClause, judge_version: ColumnElement[str]) -> ColumnElement[bool]:
    """Hold for labels that ``store.judging.stands_on`` says stand on a judge version."""
    sha256 = func.sha256(func.convert_to(judge_version, "UTF8"))
    mark = func.left(func.encode(sha256, "hex"), MARK_CHARACTERS)
    theirs = label.c.judge_version
    is_member = func.strpos(theirs, func.concat("-", mark)) > 0
    return or_(theirs == judge_version, and_(theirs.startswith(PANEL, autoescape=True), is_member))


def left_out(label: FromClause) -> ColumnElement[bool]:
    """Hold for labels given while a judge that they stand on was in quarantine."""
    return (
        exists()
        .where(
            stands_on(label, quarantines.c.judge_version),
            label.c.labelled_at >= quarantines.c.since,
        )
        .correlate(label)
    )


IS_LEFT_OUT = left_out(held)


class PostgresLabels:
    """``store.ledger.Labels``."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def add(self, verdicts: Sequence[Verdict], labels: Sequence[Label]) -> int:
        if verdicts:
            self._insert(held_verdicts, [_verdict_row(verdict) for verdict in verdicts])
        new = self._insert(held, [_label_row(label) for label in labels]) if labels else 0
        if new:
            announce(self._connection, "labels")
        return new

    def _insert(self, table: Table, rows: Sequence[Row]) -> int:
        names = tuple(rows[0])
        sent = arrays(rows, [table.c[name] for name in names])
        return len(self._connection.execute(_insert_dated(table, names), sent).all())

    def settled_since(self, cursor: int, *, limit: int = 50_000) -> SettledLabels:
        """Read whole transactions, so up to ``limit`` labels and the rest of the last one's.

        The cursor is the transaction id. One below the oldest running transaction can gain no
        more labels, so nothing is skipped and nothing comes twice.
        """
        settled = (
            select(held)
            .where(held.c.xact > cursor, held.c.xact < _OLDEST_RUNNING, ~IS_LEFT_OUT)
            .order_by(held.c.xact)
            .fetch(limit, with_ties=True)
        )
        rows = self._connection.execute(settled).mappings().all()
        return SettledLabels(
            tuple(_label(row) for row in rows), rows[-1]["xact"] if rows else cursor
        )

    def count(self) -> int:
        return self._connection.scalar(select(func.count()).select_from(held)) or 0

    def arrived(self, *, since: datetime, encoder: str) -> Arrived:
        """Only partitions of days that may hold such labels are read: there is no index on time."""
        recent = (
            held.c.day >= day_of(since - timedelta(days=1)),
            held.c.purpose == TRAFFIC,
            held.c.labelled_at >= since,
            ~IS_LEFT_OUT,
            has_vector(held, encoder),
        )
        counts = (
            select(
                held.c.expert,
                func.count().label("labels"),
                func.count(held.c.request_id.distinct()).label("requests"),
                func.min(held.c.labelled_at).label("first_at"),
            )
            .where(*recent)
            .group_by(func.grouping_sets(tuple_(held.c.expert), tuple_()))
        )
        labels = {row.expert: row for row in self._connection.execute(counts)}
        total = labels.pop(None)  # over all experts
        return Arrived(
            requests=total.requests,
            first_at=None if total.first_at is None else utc(total.first_at),
            by_expert={ExpertId(name): row.labels for name, row in labels.items()},
        )

    def verdicts_of(self, request_id: RequestId) -> list[Verdict]:
        day = select(request_keys.c.day).where(request_keys.c.request_id == request_id)
        found = select(held_verdicts).where(
            held_verdicts.c.day == func.coalesce(day.scalar_subquery(), literal(UNDATED)),
            held_verdicts.c.request_id == request_id,
        )
        rows = self._connection.execute(found).mappings().all()
        order = ("judge_version", "expert_low", "expert_high", "call")
        return [_verdict(row) for row in sorted(rows, key=lambda row: [row[n] for n in order])]


def outcome_of_served(request_id: ColumnElement[str]) -> ScalarSelect[int]:
    """Return the outcome of a request's served answer, nothing if the reference gave it or no label
    of it counts; of several judge versions a verifier counts, else the lowest.
    """
    return (
        select(held.c.outcome)
        .where(
            request_keys.c.request_id == request_id,
            decisions.c.day == request_keys.c.day,
            decisions.c.request_id == request_keys.c.request_id,
            decisions.c.expert != decisions.c.reference,
            held.c.day == request_keys.c.day,
            held.c.request_id == request_keys.c.request_id,
            held.c.expert == decisions.c.expert,
            ~IS_LEFT_OUT,
        )
        .order_by(
            ~held.c.judge_version.startswith(VERIFIED, autoescape=True),
            held.c.judge_version.collate("C"),
        )
        .limit(1)
        .correlate(feedback)
        .scalar_subquery()
    )


@cache
def _insert_dated(table: Table, names: tuple[str, ...]) -> ReturningInsert[Any]:
    columns = [table.c[name] for name in names]
    rows = given(columns)
    day = func.coalesce(request_keys.c.day, literal(UNDATED))
    key = [rows.c[one.name] for one in table.primary_key if one.name != "day"]
    is_its_key = rows.c.request_id == request_keys.c.request_id
    dated = (
        select(day, *[value(rows, one) for one in columns])
        .join_from(rows, request_keys, is_its_key, isouter=True)
        .order_by(*key, rows.c.ord)
    )
    return (
        insert(table)
        .from_select(["day", *names], dated)
        .on_conflict_do_nothing()
        .returning(table.c.day)
    )


def _label_row(label: Label) -> dict[str, object]:
    return {
        "request_id": label.request_id,
        "expert": label.expert,
        "judge_version": label.judge_version,
        "outcome": label.outcome,
        "score": label.score,
        "purpose": label.purpose,
        "labelled_at": label.labelled_at,
    }


def _label(row: RowMapping) -> Label:
    return Label(
        request_id=RequestId(row["request_id"]),
        expert=ExpertId(row["expert"]),
        judge_version=row["judge_version"],
        outcome=row["outcome"],
        score=row["score"],
        purpose=row["purpose"],
        labelled_at=utc(row["labelled_at"]),
    )


def _verdict_row(verdict: Verdict) -> dict[str, object]:
    low, high = sorted((verdict.expert_a, verdict.expert_b))
    return {
        "request_id": verdict.request_id,
        "judge_version": verdict.judge_version,
        "expert_low": low,
        "expert_high": high,
        "call": verdict.call,
        "is_low_first": verdict.expert_a == low,
        "preference": verdict.preference,
        "grade_a": verdict.grade_a,
        "grade_b": verdict.grade_b,
        "judged_at": verdict.judged_at,
        "cost_usd": verdict.cost_usd,
    }


def _verdict(row: RowMapping) -> Verdict:
    pair = (ExpertId(row["expert_low"]), ExpertId(row["expert_high"]))
    first, second = pair if row["is_low_first"] else pair[::-1]
    return Verdict(
        request_id=RequestId(row["request_id"]),
        expert_a=first,
        expert_b=second,
        judge_version=row["judge_version"],
        call=row["call"],
        preference=row["preference"],
        grade_a=row["grade_a"],
        grade_b=row["grade_b"],
        judged_at=utc(row["judged_at"]),
        cost_usd=row["cost_usd"],
    )
