"""What people chose for themselves: language, and whether single letters are keys."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "accounts", sa.Column("preferences", sa.JSON, nullable=False, server_default="{}")
    )


def downgrade() -> None:
    op.drop_column("accounts", "preferences")
