"""The service: kinds of task, leases, the log, accounts, members, sessions, tokens, invitations,
audit, webhooks.

Columns are added and taken away in place. A table is never rebuilt: with foreign keys on, SQLite
would empty the tables that hang on it.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_FALSE = sa.text("false")


def _moment(name: str, *, null: bool = False, **options) -> sa.Column:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=null, **options)


def _to(table: str, *, name: str | None = None, **options) -> sa.Column:
    key = sa.ForeignKey(f"{table}.id", ondelete="CASCADE")
    return sa.Column(name or f"{table[:-1]}_id", sa.Integer, key, nullable=False, **options)


def upgrade() -> None:
    op.add_column("projects", sa.Column("settings", sa.JSON, nullable=False, server_default="{}"))
    for column in (
        sa.Column("kind", sa.String(20), nullable=False, server_default=""),
        sa.Column("part", sa.String(20), nullable=False, server_default="work"),
        sa.Column("gold", sa.JSON),
        sa.Column("explanation", sa.Text, nullable=False, server_default=""),
        sa.Column("priority", sa.Integer, nullable=False, server_default="0"),
        sa.Column("score", sa.Double, nullable=False, server_default="0"),
        sa.Column("slots", sa.Integer, nullable=False, server_default="0"),
        sa.Column("disputed", sa.Boolean, nullable=False, server_default=_FALSE),
    ):
        op.add_column("items", column)
    # Three annotators an item is what Settings has where a project says nothing.
    op.execute(
        "UPDATE items SET slots = CASE WHEN (SELECT count(*) FROM annotations WHERE item_id ="
        " items.id) >= 3 THEN 0 ELSE 3 - (SELECT count(*) FROM annotations WHERE item_id ="
        " items.id) END"
    )
    op.create_index(
        "ix_items_open",
        "items",
        ["project_id", sa.text("priority DESC"), sa.text("score DESC"), "id"],
        sqlite_where=sa.text("slots > 0"),
        postgresql_where=sa.text("slots > 0"),
    )
    op.create_index("ix_items_part", "items", ["project_id", "part"])
    for column in (
        sa.Column("kind", sa.String(20), nullable=False, server_default="ranking"),
        sa.Column("payload", sa.JSON, nullable=False, server_default="{}"),
        sa.Column("source", sa.String(20), nullable=False, server_default="label"),
        sa.Column("lease", sa.String(64)),
    ):
        op.add_column("annotations", column)
    op.create_index("ix_annotations_lease", "annotations", ["lease"], unique=True)
    _labelling_tables()
    _account_tables()
    _webhook_tables()


def _labelling_tables() -> None:
    op.create_table(
        "leases",
        sa.Column("id", sa.String(64), primary_key=True),
        _to("items", index=True),
        _to("annotators", index=True),
        sa.Column("presented", sa.JSON, nullable=False),
        _moment("taken_at"),
        _moment("expires_at", index=True),
        sa.Column("draft", sa.JSON),
        sa.Column("chat", sa.JSON),
        sa.UniqueConstraint("item_id", "annotator_id"),
    )
    op.create_table(
        "events",
        sa.Column("id", sa.Integer, primary_key=True),
        _moment("at"),
        sa.Column("what", sa.String(20), nullable=False),
        _to("items", index=True),
        _to("annotators", index=True),
        sa.Column("lease", sa.String(64)),
    )


def _account_tables() -> None:
    op.create_table(
        "accounts",
        sa.Column("id", sa.Integer, primary_key=True),
        _to("annotators", unique=True),
        sa.Column("password", sa.String(200)),
        sa.Column("creates_projects", sa.Boolean, nullable=False),
        sa.Column("active", sa.Boolean, nullable=False),
        _moment("created_at"),
    )
    op.create_table(
        "members",
        sa.Column("id", sa.Integer, primary_key=True),
        _to("projects", index=True),
        _to("annotators", index=True),
        sa.Column("role", sa.String(20), nullable=False),
        sa.Column("state", sa.String(20), nullable=False),
        sa.Column("quota", sa.Integer),
        sa.Column("score", sa.Double),
        sa.Column("met", sa.Integer, nullable=False),
        sa.Column("answered", sa.Integer, nullable=False),
        _moment("joined_at"),
        sa.UniqueConstraint("project_id", "annotator_id"),
    )
    op.create_table(
        "login_sessions",
        sa.Column("id", sa.String(64), primary_key=True),
        _to("accounts", index=True),
        sa.Column("csrf", sa.String(64), nullable=False),
        _moment("created_at"),
        _moment("expires_at"),
    )
    op.create_table(
        "api_tokens",
        sa.Column("id", sa.Integer, primary_key=True),
        _to("accounts", index=True),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False, unique=True),
        sa.Column("scopes", sa.JSON, nullable=False),
        _moment("created_at"),
        _moment("expires_at", null=True),
        sa.Column("revoked", sa.Boolean, nullable=False),
    )
    op.create_table(
        "invitations",
        sa.Column("id", sa.Integer, primary_key=True),
        _to("projects", index=True),
        sa.Column("role", sa.String(20), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False, unique=True),
        sa.Column("uses", sa.Integer, nullable=False),
        _moment("expires_at"),
        _to("accounts", name="created_by"),
    )
    op.create_table(
        "audit",
        sa.Column("id", sa.Integer, primary_key=True),
        _moment("at"),
        sa.Column("account_id", sa.Integer, sa.ForeignKey("accounts.id", ondelete="SET NULL")),
        sa.Column(
            "project_id", sa.Integer, sa.ForeignKey("projects.id", ondelete="SET NULL"), index=True
        ),
        sa.Column("action", sa.String(50), nullable=False),
        sa.Column("subject", sa.String(200), nullable=False),
        sa.Column("address", sa.String(100), nullable=False),
        sa.Column("detail", sa.JSON, nullable=False),
    )
    op.create_index("ix_audit_action", "audit", ["action", "subject", "at"])
    op.create_index("ix_audit_address", "audit", ["action", "address", "at"])


def _webhook_tables() -> None:
    op.create_table(
        "webhooks",
        sa.Column("id", sa.Integer, primary_key=True),
        _to("projects", index=True),
        sa.Column("url", sa.String(1000), nullable=False),
        sa.Column("secret", sa.String(64), nullable=False),
        _moment("created_at"),
    )
    op.create_table(
        "deliveries",
        sa.Column("id", sa.Integer, primary_key=True),
        _to("webhooks", index=True),
        sa.Column("key", sa.String(200), nullable=False),
        sa.Column("body", sa.JSON, nullable=False),
        _moment("created_at"),
        sa.Column("attempts", sa.Integer, nullable=False),
        _moment("due_at", null=True, index=True),
        sa.Column("status", sa.String(200), nullable=False),
        sa.UniqueConstraint("webhook_id", "key"),
    )


def downgrade() -> None:
    """What the older version would misread goes: items that teach and examine, decisions, answers
    that are no ranking."""
    op.execute(
        "DELETE FROM annotations WHERE source <> 'label' OR item_id IN (SELECT id FROM items WHERE"
        " part <> 'work') OR (ranks IS NULL AND skipped IS NULL)"
    )
    tables = (
        "deliveries webhooks audit invitations api_tokens login_sessions members accounts events"
        " leases"
    )
    for table in tables.split():
        op.drop_table(table)
    op.execute(
        "DELETE FROM candidates WHERE item_id IN (SELECT id FROM items WHERE part <> 'work')"
    )
    op.execute("DELETE FROM items WHERE part <> 'work'")
    op.drop_index("ix_annotations_lease", "annotations")
    for column in ("lease", "source", "payload", "kind"):
        op.drop_column("annotations", column)
    op.drop_index("ix_items_part", "items")
    op.drop_index("ix_items_open", "items")
    for column in ("disputed", "slots", "score", "priority", "explanation", "gold", "part", "kind"):
        op.drop_column("items", column)
    op.drop_column("projects", "settings")
