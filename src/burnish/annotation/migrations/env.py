"""Alembic's environment: runs on the connection that `burnish.annotation.db.migrate` hands it."""

from alembic import context

from burnish.annotation.db import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
