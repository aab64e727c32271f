"""What experts can do, whether their calls fail, and kinds of alert that are newer than 0001.

Only what the program before it neither reads nor must write is added, so both may run at once: it
leaves the new columns empty, which reads as nothing declared, never failing, and an old kind.
The indexes come first: everybody reads ``experts`` and would wait for it while they are built. Yet
before them every lock is tried, so that a table in use ends the attempt before its work, not after.

Revision ID: 0002
Revises: 0001
"""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

UP = """
LOCK TABLE responses, shadow_answers IN SHARE MODE;
SAVEPOINT tried;
LOCK TABLE alerts, experts IN ACCESS EXCLUSIVE MODE;
ROLLBACK TO SAVEPOINT tried;
CREATE TABLE failed_calls (
    request_id TEXT NOT NULL,
    expert TEXT NOT NULL,
    source TEXT NOT NULL,
    error TEXT NOT NULL,
    failed_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_failed_calls PRIMARY KEY (request_id, expert, source)
);
CREATE INDEX ix_failed_calls_failed_at ON failed_calls (failed_at);
CREATE INDEX ix_responses_received_at ON responses USING brin (received_at);
CREATE INDEX ix_shadow_answers_received_at ON shadow_answers USING brin (received_at);
ALTER TABLE alerts ADD COLUMN newer_kind TEXT;
ALTER TABLE experts ADD COLUMN capabilities JSONB, ADD COLUMN health JSONB
"""
DOWN = """
DROP INDEX ix_shadow_answers_received_at;
DROP INDEX ix_responses_received_at;
DROP TABLE failed_calls;
ALTER TABLE alerts DROP COLUMN newer_kind;
ALTER TABLE experts DROP COLUMN capabilities, DROP COLUMN health
"""


def upgrade() -> None:
    for statement in UP.strip().split(";\n"):
        op.execute(statement)


def downgrade() -> None:
    for statement in DOWN.strip().split(";\n"):
        op.execute(statement)
