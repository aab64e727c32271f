"""What a report reads, counted by the database: one row for all requests that are alike."""

from __future__ import annotations

from sqlalchemy import Boolean, Connection, FromClause, cast, func, select, true

from store.judging import VERIFIED
from store.newer import known_or_newer
from store.postgres.labels import IS_LEFT_OUT
from store.postgres.tables import decisions, labels
from store.records import TRAFFIC, ExpertId, Reason, day_of
from store.served import ALIKE, Period, ServedGroup


def served(connection: Connection, period: Period) -> list[ServedGroup]:
    """Return the groups in no particular order; a label is looked up for sampled requests alone."""
    decided = (
        select(
            decisions,
            decisions.c.details["category"].astext.label("category"),
            func.coalesce(cast(decisions.c.details["degraded"].astext, Boolean), False).label(
                "degraded"
            ),
        )
        .where(
            decisions.c.day.between(day_of(period.since), day_of(period.until)),
            decisions.c.decided_at >= period.since,
            decisions.c.decided_at < period.until,
        )
        .subquery("decided")
    )
    verdict = _verdict(decided)
    alike = [decided.c[name] for name in ALIKE]
    readable = verdict.c.score.is_not(None)
    counted = (
        select(
            *alike,
            func.count().label("requests"),
            func.count().filter(decided.c.is_sampled).label("sampled"),
            func.count().filter(readable, verdict.c.outcome == 1).label("acceptable"),
            func.count().filter(readable, verdict.c.outcome == 0).label("unacceptable"),
            func.count()
            .filter(verdict.c.outcome.is_not(None), verdict.c.score.is_(None))
            .label("unreadable"),
        )
        .select_from(decided.outerjoin(verdict, true()))
        .group_by(*alike)
    )
    return [
        ServedGroup(
            **{
                **row,
                "expert": ExpertId(row["expert"]),
                "reference": ExpertId(row["reference"]),
                "reason": known_or_newer(Reason, row["reason"]),
            }
        )
        for row in connection.execute(counted).mappings()
    ]


def _verdict(decided: FromClause) -> FromClause:
    """Return the label of each request's served answer that counts; none for the reference's.

    Fenced like the probes in ``lookups.py``.
    """
    return (
        select(labels.c.outcome, labels.c.score)
        .where(
            decided.c.is_sampled,
            decided.c.expert != decided.c.reference,
            labels.c.day == decided.c.day,
            labels.c.request_id == decided.c.request_id,
            labels.c.expert == decided.c.expert,
            labels.c.purpose == TRAFFIC,
            ~IS_LEFT_OUT,
        )
        .order_by(
            ~labels.c.judge_version.startswith(VERIFIED, autoescape=True),
            labels.c.judge_version.collate("C"),
        )
        .limit(1)
        .correlate(decided)
        .lateral("verdict")
    )
