"""Versions of what a project asks: schema and guidelines as they were when an answer was given, and
who read which.

What is there belongs to version 1, the schema that the project has now. Items keep the kind that
they have now. The new columns have no foreign keys, since SQLite could not take them away again in
place.
"""

import json

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_DEFAULTS = {
    "kind": "ranking", "steps": 4, "tie": True, "both_bad": True,
    "attributes": [{"name": name, "low": 1, "high": 5, "help": ""} for name in ("helpful", "honest",
            "harmless")],
    "flags": ["fails the instruction", "makes things up", "unsafe", "private information",
        "wrong language"],
    "critique": "optional", "turns": 3,
}  # fmt: skip
"""What a project's settings left out meant before this revision."""


def upgrade() -> None:
    op.create_table(
        "versions",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column(
            "project_id",
            sa.Integer,
            sa.ForeignKey("projects.id", ondelete="CASCADE"),
            nullable=False,
            index=True,
        ),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("schema", sa.JSON, nullable=False),
        sa.Column("renames", sa.JSON, nullable=False),
        sa.Column("guidelines", sa.Text, nullable=False),
        sa.Column("guidelines_number", sa.Integer, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.UniqueConstraint("project_id", "number"),
    )
    op.create_table(
        "readings",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column(
            "project_id",
            sa.Integer,
            sa.ForeignKey("projects.id", ondelete="CASCADE"),
            nullable=False,
            index=True,
        ),
        sa.Column(
            "annotator_id",
            sa.Integer,
            sa.ForeignKey("annotators.id", ondelete="CASCADE"),
            nullable=False,
        ),
        sa.Column("guidelines_number", sa.Integer, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.UniqueConstraint("project_id", "annotator_id", "guidelines_number"),
    )
    for table in ("projects", "annotations", "leases"):
        op.add_column(table, sa.Column("version_id", sa.Integer))
    _first_versions()


def _first_versions() -> None:
    connection = op.get_bind()
    versions = sa.table(
        "versions", sa.column("project_id"), sa.column("number"), sa.column("schema", sa.JSON),
        sa.column("renames", sa.JSON), sa.column("guidelines"), sa.column("guidelines_number"),
        sa.column("created_at", sa.DateTime(timezone=True)),
    )  # fmt: skip
    projects = sa.table(
        "projects", sa.column("id"), sa.column("settings", sa.JSON), sa.column("guidelines"),
        sa.column("created_at", sa.DateTime(timezone=True)),
    )  # fmt: skip
    for row in connection.execute(sa.select(projects)).all():
        settings = json.loads(row.settings) if isinstance(row.settings, str) else row.settings or {}
        schema = {name: settings.get(name, value) for name, value in _DEFAULTS.items()}
        connection.execute(
            versions.insert().values(
                project_id=row.id,
                number=1,
                schema=schema,
                renames={},
                guidelines=row.guidelines or "",
                guidelines_number=1,
                created_at=row.created_at,
            )
        )
        kind = sa.text("UPDATE items SET kind = :kind WHERE project_id = :project AND kind = ''")
        connection.execute(kind, {"kind": schema["kind"], "project": row.id})
    op.execute(
        "UPDATE projects SET version_id = (SELECT id FROM versions WHERE project_id = projects.id)"
    )
    for table in ("annotations", "leases"):
        op.execute(
            f"UPDATE {table} SET version_id = (SELECT versions.id FROM versions JOIN items"
            f" ON items.project_id = versions.project_id WHERE items.id = {table}.item_id)"
        )


def downgrade() -> None:
    for table in ("leases", "annotations", "projects"):
        op.drop_column(table, "version_id")
    op.drop_table("readings")
    op.drop_table("versions")
