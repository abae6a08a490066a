"""Drafts that survive the lease, and the time of work as the server has seen it."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "drafts",
        sa.Column("lease", sa.String(64), primary_key=True),
        sa.Column(
            "item_id",
            sa.Integer,
            sa.ForeignKey("items.id", ondelete="CASCADE"),
            nullable=False,
            index=True,
        ),
        sa.Column(
            "annotator_id",
            sa.Integer,
            sa.ForeignKey("annotators.id", ondelete="CASCADE"),
            nullable=False,
            index=True,
        ),
        sa.Column("presented", sa.JSON, nullable=False),
        sa.Column("content", sa.JSON),
        sa.Column("chat", sa.JSON),
        sa.Column("version_id", sa.Integer),
        sa.Column("worked", sa.Double, nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=False),
        sa.UniqueConstraint("item_id", "annotator_id"),
    )
    op.add_column("leases", sa.Column("seen_at", sa.DateTime(timezone=True)))
    op.add_column("leases", sa.Column("worked", sa.Double, nullable=False, server_default="0"))


def downgrade() -> None:
    op.drop_column("leases", "worked")
    op.drop_column("leases", "seen_at")
    op.drop_table("drafts")
