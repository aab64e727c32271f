"""What experts declare that they can do.

Only what the program before it neither reads nor must write is added, so both may run at once:
it leaves the column empty, which reads as "nothing declared".

Revision ID: 0002
Revises: 0001
"""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE experts ADD COLUMN capabilities JSONB")


def downgrade() -> None:
    op.execute("ALTER TABLE experts DROP COLUMN capabilities")
