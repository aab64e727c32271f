"""The ledger: every fact once.

Plain SQL on purpose: a migration must not change when ``store/postgres/tables.py`` does.

Revision ID: 0001
Revises:
"""

from __future__ import annotations

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

KEY_PARTITIONS = 8
UNDATED = ("shadow_answers", "verdicts", "labels")  # kept even when nobody decided the request

TABLES = """
CREATE SEQUENCE decision_seq;
CREATE SEQUENCE outbox_seq;
CREATE TABLE request_keys (
    request_id TEXT NOT NULL,
    day DATE NOT NULL,
    prompt_sha256 BYTEA NOT NULL,
    seq BIGINT NOT NULL,
    CONSTRAINT pk_request_keys PRIMARY KEY (request_id)
) PARTITION BY HASH (request_id);
CREATE TABLE prompts (
    day DATE NOT NULL,
    request_id TEXT NOT NULL,
    text_utf8 BYTEA,
    received_at TIMESTAMP WITH TIME ZONE NOT NULL,
    tenant TEXT NOT NULL,
    session_id TEXT,
    allowed_experts JSONB,
    pinned_expert TEXT,
    CONSTRAINT pk_prompts PRIMARY KEY (day, request_id)
) PARTITION BY RANGE (day);
CREATE TABLE decisions (
    day DATE NOT NULL,
    request_id TEXT NOT NULL,
    seq BIGINT NOT NULL,
    tenant TEXT NOT NULL,
    decided_at TIMESTAMP WITH TIME ZONE NOT NULL,
    expert TEXT NOT NULL,
    reason TEXT NOT NULL,
    policy TEXT NOT NULL,
    propensity DOUBLE PRECISION NOT NULL,
    inclusion_probability DOUBLE PRECISION NOT NULL,
    is_sampled BOOLEAN NOT NULL,
    reference TEXT NOT NULL,
    threshold DOUBLE PRECISION NOT NULL,
    risk_target DOUBLE PRECISION NOT NULL,
    effective_labels DOUBLE PRECISION NOT NULL,
    state_version BIGINT NOT NULL,
    fold SMALLINT NOT NULL,
    details JSONB NOT NULL,
    CONSTRAINT pk_decisions PRIMARY KEY (day, request_id)
) PARTITION BY RANGE (day);
CREATE INDEX ix_decisions_sampled ON decisions (seq) WHERE is_sampled;
CREATE INDEX ix_decisions_seq ON decisions (seq DESC);
CREATE TABLE embeddings (
    day DATE NOT NULL,
    request_id TEXT NOT NULL,
    encoder_hash TEXT NOT NULL,
    vector_fp16 BYTEA NOT NULL,
    CONSTRAINT pk_embeddings PRIMARY KEY (day, request_id)
) PARTITION BY RANGE (day);
CREATE TABLE awaited_labels (
    request_id TEXT NOT NULL,
    seq BIGINT NOT NULL,
    decided_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_awaited_labels PRIMARY KEY (request_id)
);
CREATE INDEX ix_awaited_labels_decided_at_seq ON awaited_labels (decided_at, seq);
CREATE TABLE responses (
    day DATE NOT NULL,
    request_id TEXT NOT NULL,
    expert TEXT NOT NULL,
    received_at TIMESTAMP WITH TIME ZONE NOT NULL,
    text_utf8 BYTEA,
    text_sha256 BYTEA,
    cost_usd DOUBLE PRECISION,
    input_tokens INTEGER,
    output_tokens INTEGER,
    latency_ms DOUBLE PRECISION,
    CONSTRAINT pk_responses PRIMARY KEY (day, request_id)
) PARTITION BY RANGE (day);
CREATE INDEX ix_responses_output_tokens ON responses (expert, received_at DESC)
    WHERE output_tokens IS NOT NULL;
CREATE TABLE shadow_answers (
    day DATE NOT NULL,
    request_id TEXT NOT NULL,
    expert TEXT NOT NULL,
    received_at TIMESTAMP WITH TIME ZONE NOT NULL,
    text_utf8 BYTEA,
    text_sha256 BYTEA,
    cost_usd DOUBLE PRECISION,
    input_tokens INTEGER,
    output_tokens INTEGER,
    latency_ms DOUBLE PRECISION,
    CONSTRAINT pk_shadow_answers PRIMARY KEY (day, request_id, expert)
) PARTITION BY RANGE (day);
CREATE INDEX ix_shadow_answers_output_tokens ON shadow_answers (expert, received_at DESC)
    WHERE output_tokens IS NOT NULL;
CREATE TABLE parked_responses (
    request_id TEXT NOT NULL,
    expert TEXT NOT NULL,
    received_at TIMESTAMP WITH TIME ZONE NOT NULL,
    text_utf8 BYTEA,
    text_sha256 BYTEA,
    cost_usd DOUBLE PRECISION,
    input_tokens INTEGER,
    output_tokens INTEGER,
    latency_ms DOUBLE PRECISION,
    original BYTEA NOT NULL,
    parked_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_parked_responses PRIMARY KEY (request_id, expert)
);
CREATE INDEX ix_parked_responses_parked_at ON parked_responses (parked_at);
CREATE TABLE judge_tasks (
    task_id BIGINT GENERATED ALWAYS AS IDENTITY,
    request_id TEXT NOT NULL,
    purpose TEXT NOT NULL,
    experts JSONB NOT NULL,
    experts_key TEXT NOT NULL,
    status TEXT NOT NULL,
    attempts INTEGER NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    due_at TIMESTAMP WITH TIME ZONE NOT NULL,
    leased_by TEXT,
    leased_until TIMESTAMP WITH TIME ZONE,
    last_error TEXT,
    CONSTRAINT pk_judge_tasks PRIMARY KEY (task_id),
    CONSTRAINT uq_judge_tasks_request_id_purpose_experts_key
        UNIQUE (request_id, purpose, experts_key),
    CONSTRAINT ck_judge_tasks_status CHECK (status IN ('pending', 'leased', 'done', 'dead')),
    CONSTRAINT ck_judge_tasks_lease CHECK ((status = 'leased') = (leased_by IS NOT NULL))
);
CREATE INDEX ix_judge_tasks_open ON judge_tasks (created_at, task_id)
    WHERE status IN ('pending', 'leased');
CREATE TABLE verdicts (
    day DATE NOT NULL,
    request_id TEXT NOT NULL,
    judge_version TEXT NOT NULL,
    expert_low TEXT NOT NULL,
    expert_high TEXT NOT NULL,
    call SMALLINT NOT NULL,
    is_low_first BOOLEAN NOT NULL,
    preference DOUBLE PRECISION NOT NULL,
    grade_a DOUBLE PRECISION,
    grade_b DOUBLE PRECISION,
    judged_at TIMESTAMP WITH TIME ZONE NOT NULL,
    cost_usd DOUBLE PRECISION NOT NULL,
    CONSTRAINT pk_verdicts
        PRIMARY KEY (day, request_id, judge_version, expert_low, expert_high, call)
) PARTITION BY RANGE (day);
CREATE TABLE labels (
    day DATE NOT NULL,
    request_id TEXT NOT NULL,
    expert TEXT NOT NULL,
    judge_version TEXT NOT NULL,
    outcome SMALLINT NOT NULL,
    score DOUBLE PRECISION,
    purpose TEXT NOT NULL,
    labelled_at TIMESTAMP WITH TIME ZONE NOT NULL,
    xact BIGINT NOT NULL DEFAULT (pg_current_xact_id()::text::bigint),
    CONSTRAINT pk_labels PRIMARY KEY (day, request_id, expert, judge_version),
    CONSTRAINT ck_labels_outcome CHECK (outcome IN (0, 1))
) PARTITION BY RANGE (day);
CREATE INDEX ix_labels_xact ON labels (xact);
CREATE TABLE experts (
    name TEXT NOT NULL,
    status TEXT NOT NULL,
    input_usd_per_mtok DOUBLE PRECISION NOT NULL,
    output_usd_per_mtok DOUBLE PRECISION NOT NULL,
    request_usd DOUBLE PRECISION NOT NULL,
    client JSONB NOT NULL,
    added_at TIMESTAMP WITH TIME ZONE NOT NULL,
    status_changed_at TIMESTAMP WITH TIME ZONE NOT NULL,
    baseline_floor DOUBLE PRECISION,
    baseline_seq BIGINT NOT NULL,
    baseline_reference TEXT,
    CONSTRAINT pk_experts PRIMARY KEY (name),
    CONSTRAINT ck_experts_status
        CHECK (status IN ('registered', 'described', 'shadow', 'ramping', 'certified', 'paused',
        'retired'))
);
CREATE TABLE routing_states (
    version BIGINT NOT NULL,
    parent BIGINT NOT NULL,
    payload BYTEA NOT NULL,
    sha256 TEXT NOT NULL,
    threshold DOUBLE PRECISION NOT NULL,
    risk_target DOUBLE PRECISION NOT NULL,
    effective_labels DOUBLE PRECISION NOT NULL,
    cause TEXT NOT NULL,
    note TEXT NOT NULL,
    published_at TIMESTAMP WITH TIME ZONE NOT NULL,
    is_active BOOLEAN NOT NULL,
    CONSTRAINT pk_routing_states PRIMARY KEY (version)
);
CREATE UNIQUE INDEX ux_routing_states_active ON routing_states (is_active) WHERE is_active;
CREATE TABLE state_acks (
    version BIGINT NOT NULL,
    replica TEXT NOT NULL,
    acknowledged_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_state_acks PRIMARY KEY (version, replica)
);
CREATE TABLE calibrations (
    calibration_id BIGINT GENERATED ALWAYS AS IDENTITY,
    state_version BIGINT,
    threshold DOUBLE PRECISION NOT NULL,
    risk_target DOUBLE PRECISION NOT NULL,
    effective_labels DOUBLE PRECISION NOT NULL,
    labels BIGINT NOT NULL,
    new_labels BIGINT NOT NULL,
    weighted_risk DOUBLE PRECISION,
    reason TEXT NOT NULL,
    loss TEXT NOT NULL,
    calibrated_at TIMESTAMP WITH TIME ZONE NOT NULL,
    took_ms DOUBLE PRECISION NOT NULL,
    CONSTRAINT pk_calibrations PRIMARY KEY (calibration_id)
);
CREATE TABLE snapshots (
    snapshot_id BIGINT GENERATED ALWAYS AS IDENTITY,
    kind TEXT NOT NULL,
    sha256 TEXT NOT NULL,
    payload BYTEA NOT NULL,
    saved_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_snapshots PRIMARY KEY (snapshot_id),
    CONSTRAINT uq_snapshots_kind_sha256 UNIQUE (kind, sha256)
);
CREATE TABLE policies (
    version BIGINT NOT NULL,
    settings JSONB NOT NULL,
    actor TEXT NOT NULL,
    set_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_policies PRIMARY KEY (version)
);
CREATE TABLE outbox (
    message_id BIGINT NOT NULL,
    topic TEXT NOT NULL,
    key TEXT NOT NULL,
    value BYTEA NOT NULL,
    written_at TIMESTAMP WITH TIME ZONE NOT NULL,
    published_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT pk_outbox PRIMARY KEY (message_id)
);
CREATE INDEX ix_outbox_unmarked ON outbox (message_id) WHERE published_at IS NULL;
CREATE TABLE budgets (
    kind TEXT NOT NULL,
    day TEXT NOT NULL,
    used BIGINT NOT NULL,
    granted BIGINT NOT NULL,
    CONSTRAINT pk_budgets PRIMARY KEY (kind, day)
);
CREATE TABLE feedback (
    idempotency_key TEXT NOT NULL,
    request_id TEXT NOT NULL,
    rating DOUBLE PRECISION NOT NULL,
    source TEXT NOT NULL,
    received_at TIMESTAMP WITH TIME ZONE NOT NULL,
    comment TEXT,
    CONSTRAINT pk_feedback PRIMARY KEY (idempotency_key)
);
CREATE TABLE alerts (
    alert_id BIGINT GENERATED ALWAYS AS IDENTITY,
    kind TEXT NOT NULL,
    subject TEXT NOT NULL,
    message TEXT NOT NULL,
    guarantee TEXT NOT NULL,
    evidence JSONB NOT NULL,
    raised_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_alerts PRIMARY KEY (alert_id)
);
CREATE TABLE api_keys (
    key_hash TEXT NOT NULL,
    name TEXT NOT NULL,
    scopes TEXT[] NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_api_keys PRIMARY KEY (key_hash)
);
CREATE TABLE decision_conflicts (
    conflict_id BIGINT GENERATED ALWAYS AS IDENTITY,
    request_id TEXT NOT NULL,
    detail TEXT NOT NULL,
    noted_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_decision_conflicts PRIMARY KEY (conflict_id)
);
CREATE TABLE audit (
    entry_id BIGINT GENERATED ALWAYS AS IDENTITY,
    actor TEXT NOT NULL,
    action TEXT NOT NULL,
    detail JSONB NOT NULL,
    at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_audit PRIMARY KEY (entry_id)
)
"""

NAMES = (
    "request_keys",
    "prompts",
    "decisions",
    "embeddings",
    "awaited_labels",
    "responses",
    "shadow_answers",
    "parked_responses",
    "judge_tasks",
    "verdicts",
    "labels",
    "experts",
    "routing_states",
    "state_acks",
    "calibrations",
    "snapshots",
    "policies",
    "outbox",
    "budgets",
    "feedback",
    "alerts",
    "api_keys",
    "decision_conflicts",
    "audit",
)


def upgrade() -> None:
    for statement in TABLES.strip().split(";\n"):
        op.execute(statement)
    for number in range(KEY_PARTITIONS):
        op.execute(
            f"CREATE TABLE request_keys_h{number} PARTITION OF request_keys"
            f" FOR VALUES WITH (MODULUS {KEY_PARTITIONS}, REMAINDER {number})"
        )
    for name in UNDATED:
        op.execute(
            f"CREATE TABLE {name}_undated PARTITION OF {name}"
            " FOR VALUES FROM (MINVALUE) TO ('1970-01-02')"
        )


def downgrade() -> None:
    for name in NAMES:
        op.execute(f"DROP TABLE {name}")
    op.execute("DROP SEQUENCE decision_seq")
    op.execute("DROP SEQUENCE outbox_seq")
