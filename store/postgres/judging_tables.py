"""The tables of what is known of judges; they join the metadata of ``tables.py``."""

from __future__ import annotations

from sqlalchemy import Boolean, Column, Double, LargeBinary, SmallInteger, Table, Text

from store.postgres.tables import Instant, metadata

kept_verdicts = Table(
    "kept_verdicts",
    metadata,
    Column("key", LargeBinary, primary_key=True),
    Column("judge_version", Text, nullable=False),
    Column("preference", Double, nullable=False),
    Column("grade_a", Double),
    Column("grade_b", Double),
    Column("kept_at", Instant, nullable=False, index=True),
)
canaries = Table(
    "canaries",
    metadata,
    Column("judge_version", Text, primary_key=True),
    Column("ran_at", Instant, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("is_right", Boolean),
    Column("cost_usd", Double, nullable=False),
)
quarantines = Table(
    "quarantines",
    metadata,
    Column("judge_version", Text, primary_key=True),
    Column("since", Instant, nullable=False),
    Column("reason", Text, nullable=False),
    Column("imposed_at", Instant, nullable=False),
)
audited_pairs = Table(
    "audited_pairs",
    metadata,
    Column("request_id", Text, primary_key=True),
    Column("expert", Text, primary_key=True),
    Column("auditor", Text, primary_key=True),
    Column("reference", Text, nullable=False),
    Column("preference", Double, nullable=False),
    Column("judge_version", Text, nullable=False),
    Column("judge_outcome", SmallInteger, nullable=False),
    Column("inclusion_probability", Double, nullable=False),
    Column("category", Text, nullable=False),
    Column("audited_at", Instant, nullable=False),
)
