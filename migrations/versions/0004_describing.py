"""What describes experts: descriptors, probe answers, and every status they have had.

Only tables are added, so the program before it may run at once: it reads none of them, and a status
that it changes meanwhile has no row of its own; readers add the present one from ``experts``.
Experts that are there get what is known: when they were added, and their present status.

Revision ID: 0004
Revises: 0003
"""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

UP = """
CREATE TABLE expert_descriptors (
    expert TEXT NOT NULL,
    kind TEXT NOT NULL,
    recipe TEXT NOT NULL,
    dimension INTEGER NOT NULL,
    vector_f32 BYTEA NOT NULL,
    made_at TIMESTAMP WITH TIME ZONE NOT NULL,
    details JSONB NOT NULL,
    CONSTRAINT pk_expert_descriptors PRIMARY KEY (expert, kind, recipe)
);
CREATE TABLE probe_answers (
    expert TEXT NOT NULL,
    probe_set TEXT NOT NULL,
    number INTEGER NOT NULL,
    text_utf8 BYTEA,
    grade DOUBLE PRECISION,
    cost_usd DOUBLE PRECISION NOT NULL,
    input_tokens INTEGER,
    output_tokens INTEGER,
    answered_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_probe_answers PRIMARY KEY (expert, probe_set, number)
);
CREATE INDEX ix_probe_answers_text ON probe_answers (answered_at) WHERE text_utf8 IS NOT NULL;
CREATE TABLE expert_steps (
    step_id BIGINT GENERATED ALWAYS AS IDENTITY,
    expert TEXT NOT NULL,
    status TEXT NOT NULL,
    at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_expert_steps PRIMARY KEY (step_id)
);
CREATE INDEX ix_expert_steps_expert ON expert_steps (expert, step_id);
INSERT INTO expert_steps (expert, status, at)
    SELECT name, 'registered', added_at FROM experts WHERE status <> 'registered'
    UNION ALL SELECT name, status, status_changed_at FROM experts
    ORDER BY 3
"""
DOWN = """
DROP TABLE expert_steps;
DROP TABLE probe_answers;
DROP TABLE expert_descriptors
"""


def upgrade() -> None:
    for statement in UP.strip().split(";\n"):
        op.execute(statement)


def downgrade() -> None:
    for statement in DOWN.strip().split(";\n"):
        op.execute(statement)
