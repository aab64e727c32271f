"""Judged pairs that a person could look at: whose prompt and both answers are still there."""

from __future__ import annotations

from sqlalchemy import (
    Connection,
    FromClause,
    RowMapping,
    Table,
    and_,
    func,
    select,
    true,
    union_all,
)
from sqlalchemy.sql.elements import ColumnElement
from sqlalchemy.sql.selectable import LateralFromClause

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
    """Return the newest pairs, by one index probe a fact; sizes come from the rows' heads, no text
    is read.
    """
    theirs = (
        select(labels)
        .where(_BY_A_JUDGE, labels.c.judge_version == judge_version)
        .order_by(labels.c.xact.desc())
        .limit(limit)
        .subquery("theirs")
    )
    decided = _probed(decisions, theirs, "decided")
    prompt = _probed(prompts, theirs, "prompt", prompts.c.text_utf8.is_not(None))
    answer = _size(theirs, theirs.c.expert, "answer")
    reference = _size(theirs, decided.c.reference, "reference_answer")
    found = (
        select(
            theirs,
            decided.c.reference,
            decided.c.inclusion_probability,
            decided.c.details["category"].astext.label("category"),
            (answer.c.bytes - reference.c.bytes).label("longer_by"),
        )
        .join_from(theirs, decided, true())
        .join(prompt, true())
        .join(answer, true())
        .join(reference, true())
        .where(theirs.c.expert != decided.c.reference)
        .order_by(
            theirs.c.labelled_at.desc(),
            theirs.c.request_id.collate("C"),
            theirs.c.expert.collate("C"),
        )
    )
    return [_candidate(row) for row in connection.execute(found).mappings()]


def _probed(
    table: Table, source: FromClause, name: str, *only: ColumnElement[bool]
) -> LateralFromClause:
    """Return a day table's row of each label; ``lookups.py`` says why it is fenced."""
    is_its = (table.c.day == source.c.day, table.c.request_id == source.c.request_id)
    return select(table).where(*is_its, *only).offset(0).correlate(source).lateral(name)


def _size(source: FromClause, expert: ColumnElement[str], name: str) -> LateralFromClause:
    """Return how long an expert's answer is, served or else shadow, where its text is there."""
    each = [
        select(func.octet_length(table.c.text_utf8).label("bytes")).where(
            table.c.day == source.c.day,
            table.c.request_id == source.c.request_id,
            table.c.expert == expert,
            table.c.text_utf8.is_not(None),
        )
        for table in (responses, shadow_answers)
    ]
    return union_all(*each).limit(1).lateral(name)


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
