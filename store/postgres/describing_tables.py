"""The tables of what describes experts; they join the metadata of ``tables.py``."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Double,
    Identity,
    Index,
    Integer,
    LargeBinary,
    Table,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from store.postgres.tables import Instant, metadata

expert_descriptors = Table(
    "expert_descriptors",
    metadata,
    Column("expert", Text, primary_key=True),
    Column("kind", Text, primary_key=True),
    Column("recipe", Text, primary_key=True),
    Column("dimension", Integer, nullable=False),
    Column("vector_f32", LargeBinary, nullable=False),
    Column("made_at", Instant, nullable=False),
    Column("details", JSONB, nullable=False),
)
probe_answers = Table(
    "probe_answers",
    metadata,
    Column("expert", Text, primary_key=True),
    Column("probe_set", Text, primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("text_utf8", LargeBinary),
    Column("grade", Double),
    Column("cost_usd", Double, nullable=False),
    Column("input_tokens", Integer),
    Column("output_tokens", Integer),
    Column("answered_at", Instant, nullable=False),
    Index("ix_probe_answers_text", "answered_at", postgresql_where=text("text_utf8 IS NOT NULL")),
)
expert_steps = Table(
    "expert_steps",
    metadata,
    Column("step_id", BigInteger, Identity(always=True), primary_key=True),
    Column("expert", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("at", Instant, nullable=False),
    Index("ix_expert_steps_expert", "expert", "step_id"),
)
