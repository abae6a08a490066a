"""The key of a project's pseudonyms."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("projects", sa.Column("pseudonym_key", sa.String(64)))


def downgrade() -> None:
    op.drop_column("projects", "pseudonym_key")
