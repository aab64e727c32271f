"""Judged pairs that a person could look at: whose prompt and both answers are still there."""

from __future__ import annotations

from sqlalchemy import Connection, FromClause, RowMapping, and_, func, select, union_all
from sqlalchemy.sql.elements import ColumnElement

from store.judging import LOOK_BACK, VERIFIED, AuditCandidate
from store.postgres.labels import IS_LEFT_OUT
from store.postgres.rows import utc
from store.postgres.tables import decisions, labels, prompts, responses, shadow_answers
from store.records import TRAFFIC, ExpertId, RequestId

_BY_A_JUDGE = and_(
    labels.c.purpose == TRAFFIC,
    ~labels.c.judge_version.startswith(VERIFIED, autoescape=True),
    ~IS_LEFT_OUT,
)


def newest_version(connection: Connection) -> str | None:
    """Return the judge version of the traffic label that came last."""
    newest = (
        select(labels.c.xact, labels.c.judge_version, _BY_A_JUDGE.label("counts"))
        .order_by(labels.c.xact.desc())
        .limit(LOOK_BACK)
        .subquery()
    )
    last = select(newest.c.judge_version).where(newest.c.counts).order_by(newest.c.xact.desc())
    return connection.scalar(last.limit(1))


def auditable(connection: Connection, judge_version: str, *, limit: int) -> list[AuditCandidate]:
    """Return the newest pairs; sizes come from the rows' heads, no text is read."""
    theirs, references = _texts("theirs"), _texts("references")
    name = labels.c.request_id.collate("C"), labels.c.expert.collate("C")
    found = (
        select(
            labels,
            decisions.c.reference,
            decisions.c.inclusion_probability,
            decisions.c.details["category"].astext.label("category"),
            (theirs.c.bytes - references.c.bytes).label("longer_by"),
        )
        .join(decisions, _same_request(decisions))
        .join(prompts, and_(_same_request(prompts), prompts.c.text_utf8.is_not(None)))
        .join(theirs, and_(_same_request(theirs), theirs.c.expert == labels.c.expert))
        .join(
            references,
            and_(_same_request(references), references.c.expert == decisions.c.reference),
        )
        .where(
            _BY_A_JUDGE,
            labels.c.judge_version == judge_version,
            labels.c.expert != decisions.c.reference,
        )
        .order_by(labels.c.labelled_at.desc(), *name)
        .limit(limit)
    )
    return [_candidate(row) for row in connection.execute(found).mappings()]


def _texts(name: str) -> FromClause:
    """Return how long the answers of each request are, served and shadow ones; a served expert's
    answer is never asked for again.
    """
    each = [
        select(
            table.c.day,
            table.c.request_id,
            table.c.expert,
            func.octet_length(table.c.text_utf8).label("bytes"),
        ).where(table.c.text_utf8.is_not(None))
        for table in (responses, shadow_answers)
    ]
    return union_all(*each).subquery(name)


def _same_request(other: FromClause) -> ColumnElement[bool]:
    return and_(other.c.day == labels.c.day, other.c.request_id == labels.c.request_id)


def _candidate(row: RowMapping) -> AuditCandidate:
    return AuditCandidate(
        request_id=RequestId(row["request_id"]),
        expert=ExpertId(row["expert"]),
        reference=ExpertId(row["reference"]),
        judge_version=row["judge_version"],
        outcome=row["outcome"],
        inclusion_probability=row["inclusion_probability"],
        category=row["category"],
        longer_by=row["longer_by"],
        judged_at=utc(row["labelled_at"]),
    )
