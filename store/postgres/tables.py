"""The schema as SQLAlchemy Core metadata; a test compares it with what ``migrations/`` builds.

Every fact of a request lies in the day partition of its *decision*: the day is looked up in
``request_keys``, so a key that is unique within its partition is unique altogether, whenever the
fact itself arrives.
"""

from __future__ import annotations

from sqlalchemy import (
    ARRAY,
    TIMESTAMP,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Date,
    Double,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Sequence,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    desc,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    }
)

Instant = TIMESTAMP(timezone=True)
BY_DAY = "RANGE (day)"
NOW_XACT = text("(pg_current_xact_id()::text::bigint)")

decision_seq = Sequence("decision_seq", metadata=metadata)
outbox_seq = Sequence("outbox_seq", metadata=metadata)


def _answer() -> list[Column[object]]:
    """Columns of an expert's answer. Text is UTF-8 bytes: a ``text`` column refuses U+0000."""
    return [
        Column("received_at", Instant, nullable=False),
        Column("text_utf8", LargeBinary),
        Column("text_sha256", LargeBinary),
        Column("cost_usd", Double),
        Column("input_tokens", Integer),
        Column("output_tokens", Integer),
        Column("latency_ms", Double),
    ]


request_keys = Table(
    "request_keys",
    metadata,
    Column("request_id", Text, primary_key=True),
    Column("day", Date, nullable=False),
    Column("prompt_sha256", LargeBinary, nullable=False),
    Column("seq", BigInteger, nullable=False),
    postgresql_partition_by="HASH (request_id)",
)
prompts = Table(
    "prompts",
    metadata,
    Column("day", Date, primary_key=True),
    Column("request_id", Text, primary_key=True),
    Column("text_utf8", LargeBinary),
    Column("received_at", Instant, nullable=False),
    Column("tenant", Text, nullable=False),
    Column("session_id", Text),
    Column("allowed_experts", JSONB),
    Column("pinned_expert", Text),
    Column("check_utf8", LargeBinary),
    postgresql_partition_by=BY_DAY,
)
decisions = Table(
    "decisions",
    metadata,
    Column("day", Date, primary_key=True),
    Column("request_id", Text, primary_key=True),
    Column("seq", BigInteger, nullable=False),
    Column("tenant", Text, nullable=False),
    Column("decided_at", Instant, nullable=False),
    Column("expert", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("policy", Text, nullable=False),
    Column("propensity", Double, nullable=False),
    Column("inclusion_probability", Double, nullable=False),
    Column("is_sampled", Boolean, nullable=False),
    Column("reference", Text, nullable=False),
    Column("threshold", Double, nullable=False),
    Column("risk_target", Double, nullable=False),
    Column("effective_labels", Double, nullable=False),
    Column("state_version", BigInteger, nullable=False),
    Column("fold", SmallInteger, nullable=False),
    Column("details", JSONB, nullable=False),
    Index("ix_decisions_seq", desc("seq")),
    Index("ix_decisions_sampled", "seq", postgresql_where=text("is_sampled")),
    postgresql_partition_by=BY_DAY,
)
embeddings = Table(
    "embeddings",
    metadata,
    Column("day", Date, primary_key=True),
    Column("request_id", Text, primary_key=True),
    Column("encoder_hash", Text, nullable=False),
    Column("vector_fp16", LargeBinary, nullable=False),
    postgresql_partition_by=BY_DAY,
)
awaited_labels = Table(  # sampled requests without a finished traffic task: the watermark's table
    "awaited_labels",
    metadata,
    Column("request_id", Text, primary_key=True),
    Column("seq", BigInteger, nullable=False),
    Column("decided_at", Instant, nullable=False),
    Index(None, "decided_at", "seq"),
)
responses = Table(
    "responses",
    metadata,
    Column("day", Date, primary_key=True),
    Column("request_id", Text, primary_key=True),
    Column("expert", Text, nullable=False),
    *_answer(),
    Index("ix_responses_received_at", "received_at", postgresql_using="brin"),
    Index(
        "ix_responses_output_tokens",
        "expert",
        desc("received_at"),
        postgresql_where=text("output_tokens IS NOT NULL"),
    ),
    postgresql_partition_by=BY_DAY,
)
shadow_answers = Table(
    "shadow_answers",
    metadata,
    Column("day", Date, primary_key=True),
    Column("request_id", Text, primary_key=True),
    Column("expert", Text, primary_key=True),
    *_answer(),
    Index("ix_shadow_answers_received_at", "received_at", postgresql_using="brin"),
    Index(
        "ix_shadow_answers_output_tokens",
        "expert",
        desc("received_at"),
        postgresql_where=text("output_tokens IS NOT NULL"),
    ),
    postgresql_partition_by=BY_DAY,
)
parked_responses = Table(  # not by day: rows live ten minutes, and have no decision to go by
    "parked_responses",
    metadata,
    Column("request_id", Text, primary_key=True),
    Column("expert", Text, primary_key=True),
    *_answer(),
    Column("original", LargeBinary, nullable=False),
    Column("parked_at", Instant, nullable=False),
    Index(None, "parked_at"),
)
failed_calls = Table(
    "failed_calls",
    metadata,
    Column("request_id", Text, primary_key=True),
    Column("expert", Text, primary_key=True),
    Column("source", Text, primary_key=True),
    Column("error", Text, nullable=False),
    Column("failed_at", Instant, nullable=False),
    Index(None, "failed_at"),
)
judge_tasks = Table(
    "judge_tasks",
    metadata,
    Column("task_id", BigInteger, Identity(always=True), primary_key=True),
    Column("request_id", Text, nullable=False),
    Column("purpose", Text, nullable=False),
    Column("experts", JSONB, nullable=False),
    Column("experts_key", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("due_at", Instant, nullable=False),
    Column("leased_by", Text),
    Column("leased_until", Instant),
    Column("last_error", Text),
    Column("tenant", Text),
    UniqueConstraint("request_id", "purpose", "experts_key"),
    CheckConstraint("status IN ('pending', 'leased', 'done', 'dead')", name="status"),
    CheckConstraint("(status = 'leased') = (leased_by IS NOT NULL)", name="lease"),
    Index(
        "ix_judge_tasks_open",
        "created_at",
        "task_id",
        postgresql_where=text("status IN ('pending', 'leased')"),
    ),
)
verdicts = Table(
    "verdicts",
    metadata,
    Column("day", Date, primary_key=True),
    Column("request_id", Text, primary_key=True),
    Column("judge_version", Text, primary_key=True),
    Column("expert_low", Text, primary_key=True),  # the pair in alphabetical order
    Column("expert_high", Text, primary_key=True),
    Column("call", SmallInteger, primary_key=True, autoincrement=False),
    Column("is_low_first", Boolean, nullable=False),
    Column("preference", Double, nullable=False),
    Column("grade_a", Double),
    Column("grade_b", Double),
    Column("judged_at", Instant, nullable=False),
    Column("cost_usd", Double, nullable=False),
    postgresql_partition_by=BY_DAY,
)
labels = Table(
    "labels",
    metadata,
    Column("day", Date, primary_key=True),
    Column("request_id", Text, primary_key=True),
    Column("expert", Text, primary_key=True),
    Column("judge_version", Text, primary_key=True),
    Column("outcome", SmallInteger, nullable=False),
    Column("score", Double),
    Column("purpose", Text, nullable=False),
    Column("labelled_at", Instant, nullable=False),
    Column("xact", BigInteger, nullable=False, server_default=NOW_XACT),
    CheckConstraint("outcome IN (0, 1)", name="outcome"),
    Index("ix_labels_xact", "xact"),
    postgresql_partition_by=BY_DAY,
)
experts = Table(
    "experts",
    metadata,
    Column("name", Text, primary_key=True),
    Column("status", Text, nullable=False),
    Column("input_usd_per_mtok", Double, nullable=False),
    Column("output_usd_per_mtok", Double, nullable=False),
    Column("request_usd", Double, nullable=False),
    Column("client", JSONB, nullable=False),
    Column("added_at", Instant, nullable=False),
    Column("status_changed_at", Instant, nullable=False),
    Column("baseline_floor", Double),
    Column("baseline_seq", BigInteger, nullable=False),
    Column("baseline_reference", Text),
    Column("capabilities", JSONB),
    Column("health", JSONB),
    CheckConstraint(
        "status IN ('registered', 'described', 'shadow', 'ramping', 'certified', 'paused',"
        " 'retired')",
        name="status",
    ),
)
routing_states = Table(
    "routing_states",
    metadata,
    Column("version", BigInteger, primary_key=True, autoincrement=False),
    Column("parent", BigInteger, nullable=False),
    Column("payload", LargeBinary, nullable=False),
    Column("sha256", Text, nullable=False),
    Column("threshold", Double, nullable=False),
    Column("risk_target", Double, nullable=False),
    Column("effective_labels", Double, nullable=False),
    Column("cause", Text, nullable=False),
    Column("note", Text, nullable=False),
    Column("published_at", Instant, nullable=False),
    Column("is_active", Boolean, nullable=False),
    Index("ux_routing_states_active", "is_active", unique=True, postgresql_where=text("is_active")),
)
state_acks = Table(
    "state_acks",
    metadata,
    Column("version", BigInteger, primary_key=True, autoincrement=False),
    Column("replica", Text, primary_key=True),
    Column("acknowledged_at", Instant, nullable=False),
)
calibrations = Table(
    "calibrations",
    metadata,
    Column("calibration_id", BigInteger, Identity(always=True), primary_key=True),
    Column("state_version", BigInteger),
    Column("threshold", Double, nullable=False),
    Column("risk_target", Double, nullable=False),
    Column("effective_labels", Double, nullable=False),
    Column("labels", BigInteger, nullable=False),
    Column("new_labels", BigInteger, nullable=False),
    Column("weighted_risk", Double),
    Column("reason", Text, nullable=False),
    Column("loss", Text, nullable=False),
    Column("calibrated_at", Instant, nullable=False),
    Column("took_ms", Double, nullable=False),
)
snapshots = Table(
    "snapshots",
    metadata,
    Column("snapshot_id", BigInteger, Identity(always=True), primary_key=True),
    Column("kind", Text, nullable=False),
    Column("sha256", Text, nullable=False),
    Column("payload", LargeBinary, nullable=False),
    Column("saved_at", Instant, nullable=False),
    UniqueConstraint("kind", "sha256"),
)
policies = Table(
    "policies",
    metadata,
    Column("version", BigInteger, primary_key=True, autoincrement=False),
    Column("settings", JSONB, nullable=False),
    Column("actor", Text, nullable=False),
    Column("set_at", Instant, nullable=False),
)
outbox = Table(
    "outbox",
    metadata,
    Column("message_id", BigInteger, primary_key=True, autoincrement=False),
    Column("topic", Text, nullable=False),
    Column("key", Text, nullable=False),
    Column("value", LargeBinary, nullable=False),
    Column("written_at", Instant, nullable=False),
    Column("published_at", Instant),
    Index("ix_outbox_unmarked", "message_id", postgresql_where=text("published_at IS NULL")),
)
budgets = Table(
    "budgets",
    metadata,
    Column("kind", Text, primary_key=True),
    Column("day", Text, primary_key=True),
    Column("used", BigInteger, nullable=False),
    Column("granted", BigInteger, nullable=False),  # by the last call: RETURNING cannot subtract
)
feedback = Table(  # not by day: its key is unique over all requests and days
    "feedback",
    metadata,
    Column("idempotency_key", Text, primary_key=True),
    Column("request_id", Text, nullable=False),
    Column("rating", Double, nullable=False),
    Column("source", Text, nullable=False),
    Column("received_at", Instant, nullable=False),
    Column("comment", Text),
)
alerts = Table(
    "alerts",
    metadata,
    Column("alert_id", BigInteger, Identity(always=True), primary_key=True),
    Column("kind", Text, nullable=False),
    Column("newer_kind", Text),
    Column("subject", Text, nullable=False),
    Column("message", Text, nullable=False),
    Column("guarantee", Text, nullable=False),
    Column("evidence", JSONB, nullable=False),
    Column("raised_at", Instant, nullable=False),
)
api_keys = Table(
    "api_keys",
    metadata,
    Column("key_hash", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("scopes", ARRAY(Text), nullable=False),
    Column("created_at", Instant, nullable=False),
)
decision_conflicts = Table(
    "decision_conflicts",
    metadata,
    Column("conflict_id", BigInteger, Identity(always=True), primary_key=True),
    Column("request_id", Text, nullable=False),
    Column("detail", Text, nullable=False),
    Column("noted_at", Instant, nullable=False),
)
audit = Table(
    "audit",
    metadata,
    Column("entry_id", BigInteger, Identity(always=True), primary_key=True),
    Column("actor", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("detail", JSONB, nullable=False),
    Column("at", Instant, nullable=False),
)

DAY_TABLES = (prompts, decisions, embeddings, responses, shadow_answers, verdicts, labels)
