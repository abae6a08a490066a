"""Candidates of several turns."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("candidates", sa.Column("messages", sa.JSON))


def downgrade() -> None:
    op.drop_column("candidates", "messages")
