"""The review desk: agreed items that are looked at, notes between annotators and owners."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def _reference(name: str, target: str, *, nullable: bool = False) -> sa.Column:
    return sa.Column(
        name, sa.Integer, sa.ForeignKey(target, ondelete="CASCADE"), nullable=nullable, index=True
    )


def upgrade() -> None:
    op.add_column(
        "items", sa.Column("sampled", sa.Boolean, nullable=False, server_default=sa.text("false"))
    )
    op.create_table(
        "notes",
        sa.Column("id", sa.Integer, primary_key=True),
        _reference("project_id", "projects.id"),
        _reference("item_id", "items.id", nullable=True),
        _reference("annotator_id", "annotators.id"),
        _reference("author_id", "annotators.id"),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("seen", sa.Boolean, nullable=False, server_default=sa.text("false")),
    )


def downgrade() -> None:
    op.drop_table("notes")
    op.drop_column("items", "sampled")
