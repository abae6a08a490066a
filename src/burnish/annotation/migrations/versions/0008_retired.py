"""Items that are out of use."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("items", sa.Column("retired_from", sa.String(20)))


def downgrade() -> None:
    op.execute("UPDATE items SET part = retired_from WHERE retired_from IS NOT NULL")
    op.drop_column("items", "retired_from")
