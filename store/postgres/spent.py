"""What judging cost, added up on PostgreSQL."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta

from sqlalchemy import Connection, text

from store.judging import VERIFIED
from store.money import Spent
from store.records import TRAFFIC, day_of

_SPENT = text("""
    WITH judged AS (
        SELECT day, request_id, bool_or(starts_with(judge_version, :verified)) AS is_verified
        FROM labels
        WHERE day >= :day AND labelled_at >= :since AND purpose = :purpose
        GROUP BY day, request_id
    ), said AS (
        SELECT day, request_id, count(DISTINCT (expert_low, expert_high)) AS pairs,
            count(*) AS calls, sum(cost_usd) AS usd
        FROM judged JOIN verdicts USING (day, request_id)
        WHERE day >= :day AND judge_version = ANY(CAST(:versions AS text[]))
        GROUP BY day, request_id
    ), shadow AS (
        SELECT day, request_id, count(*) AS answers, count(cost_usd) AS stated,
            sum(cost_usd) AS usd, count(input_tokens) AS counted, sum(input_tokens) AS tokens
        FROM judged JOIN shadow_answers USING (day, request_id)
        WHERE day >= :day
        GROUP BY day, request_id
    )
    SELECT tenant, count(*) AS requests, count(*) FILTER (WHERE is_verified) AS verified,
        count(said.pairs) AS asked,
        coalesce(sum(said.pairs), 0)::bigint AS pairs,
        coalesce(sum(said.calls), 0)::bigint AS calls,
        coalesce(sum(said.usd), 0)::float8 AS verdicts_usd,
        coalesce(sum(shadow.answers), 0)::bigint AS shadow_answers,
        coalesce(sum(shadow.stated), 0)::bigint AS shadow_stated,
        coalesce(sum(shadow.usd), 0)::float8 AS shadow_usd,
        coalesce(sum(shadow.counted), 0)::bigint AS shadow_counted,
        coalesce(sum(shadow.tokens), 0)::bigint AS shadow_input_tokens
    FROM judged JOIN decisions USING (day, request_id)
        LEFT JOIN said USING (day, request_id)
        LEFT JOIN shadow USING (day, request_id)
    WHERE day >= :day
    GROUP BY tenant ORDER BY tenant COLLATE "C"
""")
"""Only partitions of days that may hold such requests are read."""


def spent(connection: Connection, versions: Collection[str], *, since: datetime) -> list[Spent]:
    """See ``store.money.Money.spent``."""
    sent = {
        "verified": VERIFIED,
        "versions": list(versions),
        "purpose": TRAFFIC,
        "since": since,
        "day": day_of(since - timedelta(days=1)),
    }
    return [Spent(**row) for row in connection.execute(_SPENT, sent).mappings()]
