"""People who come in by the crowd's door."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def _reference(name: str, target: str) -> sa.Column:
    return sa.Column(
        name, sa.Integer, sa.ForeignKey(target, ondelete="CASCADE"), nullable=False, index=True
    )


def upgrade() -> None:
    op.create_table(
        "crowd_entries",
        sa.Column("id", sa.Integer, primary_key=True),
        _reference("project_id", "projects.id"),
        _reference("annotator_id", "annotators.id"),
        sa.Column("person", sa.String(60), nullable=False),
        sa.Column("session", sa.String(60), nullable=False),
        sa.Column("agreed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("code_shown_at", sa.DateTime(timezone=True)),
        sa.UniqueConstraint("project_id", "person"),
        sa.UniqueConstraint("project_id", "annotator_id"),
    )


def downgrade() -> None:
    op.drop_table("crowd_entries")
