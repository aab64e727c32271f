"""What is known of judges: kept verdicts, canaries, quarantines, audits; checks with prompts.

Only what the program before it neither reads nor must write is added, so both may run at once: it
leaves the new columns empty, which reads as no check and the default tenant. It knows no quarantine
and no budget of money: both hold once every `judge` and `learn` is this program.

Revision ID: 0003
Revises: 0002
"""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

UP = """
CREATE TABLE kept_verdicts (
    key BYTEA NOT NULL,
    judge_version TEXT NOT NULL,
    preference DOUBLE PRECISION NOT NULL,
    grade_a DOUBLE PRECISION,
    grade_b DOUBLE PRECISION,
    kept_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_kept_verdicts PRIMARY KEY (key)
);
CREATE INDEX ix_kept_verdicts_kept_at ON kept_verdicts (kept_at);
CREATE TABLE canaries (
    judge_version TEXT NOT NULL,
    ran_at TIMESTAMP WITH TIME ZONE NOT NULL,
    name TEXT NOT NULL,
    is_right BOOLEAN,
    cost_usd DOUBLE PRECISION NOT NULL,
    CONSTRAINT pk_canaries PRIMARY KEY (judge_version, ran_at, name)
);
CREATE TABLE quarantines (
    judge_version TEXT NOT NULL,
    since TIMESTAMP WITH TIME ZONE NOT NULL,
    reason TEXT NOT NULL,
    imposed_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_quarantines PRIMARY KEY (judge_version)
);
CREATE TABLE audited_pairs (
    request_id TEXT NOT NULL,
    expert TEXT NOT NULL,
    auditor TEXT NOT NULL,
    reference TEXT NOT NULL,
    preference DOUBLE PRECISION NOT NULL,
    judge_version TEXT NOT NULL,
    judge_outcome SMALLINT NOT NULL,
    inclusion_probability DOUBLE PRECISION NOT NULL,
    category TEXT NOT NULL,
    audited_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_audited_pairs PRIMARY KEY (request_id, expert, auditor)
);
ALTER TABLE prompts ADD COLUMN check_utf8 BYTEA;
ALTER TABLE judge_tasks ADD COLUMN tenant TEXT
"""
DOWN = """
ALTER TABLE judge_tasks DROP COLUMN tenant;
ALTER TABLE prompts DROP COLUMN check_utf8;
DROP TABLE audited_pairs;
DROP TABLE quarantines;
DROP TABLE canaries;
DROP TABLE kept_verdicts
"""


def upgrade() -> None:
    for statement in UP.strip().split(";\n"):
        op.execute(statement)


def downgrade() -> None:
    for statement in DOWN.strip().split(";\n"):
        op.execute(statement)
