"""Read-only queries for people: recounts and costs. They see one snapshot each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import text

from store.postgres.connecting import make_engine


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerCount:
    """What the ledger holds, counted by SQL and by nothing else."""

    prompts: frozenset[str]
    decisions: frozenset[str]
    responses: frozenset[str]
    decision_rows: int
    response_hashes: dict[str, int]
    """Distinct answers by request id; each must have exactly one."""
    labels: frozenset[tuple[str, str, str]]
    verdicts: int
    tasks_by_status: dict[str, int]
    sampled: int
    unpublished: int
    shadow_answers: int
    shadow_cost_usd: float
    probe_labels: int


_SETS = {
    "prompts": "SELECT request_id FROM prompts",
    "decisions": "SELECT request_id FROM decisions",
    "responses": "SELECT request_id FROM responses",
}
_ONE_NUMBER = {
    "decision_rows": "SELECT count(*) FROM decisions",
    "verdicts": "SELECT count(*) FROM verdicts",
    "sampled": "SELECT count(*) FROM decisions WHERE is_sampled",
    "unpublished": "SELECT count(*) FROM outbox WHERE published_at IS NULL",
    "shadow_answers": "SELECT count(*) FROM shadow_answers",
    "probe_labels": "SELECT count(*) FROM labels WHERE purpose = 'probe'",
}
_HASHES = """
    SELECT request_id, count(DISTINCT (expert, text_sha256, cost_usd))
    FROM responses GROUP BY request_id
"""


def count_ledger(url: str) -> LedgerCount:
    """Count everything in one repeatable-read snapshot."""
    engine = make_engine(url, pooled=False).execution_options(isolation_level="REPEATABLE READ")
    with engine.connect() as connection:

        def rows(query: str) -> Sequence[Sequence[object]]:
            return [tuple(row) for row in connection.execute(text(query))]

        sets = {name: frozenset(str(r[0]) for r in rows(q)) for name, q in _SETS.items()}
        numbers = {name: int(str(rows(q)[0][0])) for name, q in _ONE_NUMBER.items()}
        cost = rows("SELECT coalesce(sum(cost_usd), 0) FROM shadow_answers")[0][0]
        labels = rows("SELECT request_id, expert, judge_version FROM labels")
        tasks = rows("SELECT status, count(*) FROM judge_tasks GROUP BY status")
        return LedgerCount(
            prompts=sets["prompts"],
            decisions=sets["decisions"],
            responses=sets["responses"],
            response_hashes={str(r[0]): int(str(r[1])) for r in rows(_HASHES)},
            labels=frozenset((str(a), str(b), str(c)) for a, b, c in labels),
            tasks_by_status={str(status): int(str(n)) for status, n in tasks},
            shadow_cost_usd=float(str(cost)),
            **numbers,
        )


def count_responses(url: str) -> int:
    """Return how many requests have their served answer."""
    with make_engine(url, pooled=False).connect() as connection:
        return int(connection.execute(text("SELECT count(*) FROM responses")).scalar_one())
