"""The tables of the annotation store, and opening a database at their present revision."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import JSON, DateTime, Double, Engine, ForeignKey, String, Text, UniqueConstraint, create_engine, event
from sqlalchemy.exc import DatabaseError
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from burnish.errors import UserError


class Base(DeclarativeBase):
    """All tables."""


def _now() -> datetime:
    return datetime.now(UTC)


class Project(Base):
    """A body of items that are labelled by the same guidelines."""

    __tablename__ = "projects"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(200), unique=True)
    guidelines: Mapped[str] = mapped_column(Text, default="")
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), default=_now)


class Item(Base):
    """A prompt whose candidates are to be ranked. `external_id` is the prompt's id where it came from."""

    __tablename__ = "items"
    __table_args__ = (UniqueConstraint("project_id", "external_id"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    project_id: Mapped[int] = mapped_column(ForeignKey("projects.id", ondelete="CASCADE"), index=True)
    external_id: Mapped[str] = mapped_column(String(500))
    messages: Mapped[list[Any]] = mapped_column(JSON)
    columns: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)
    candidates: Mapped[list[Candidate]] = relationship(order_by="Candidate.position", lazy="selectin")


class Candidate(Base):
    """One response to an item. Who wrote it (`source`) is never shown to annotators."""

    __tablename__ = "candidates"
    __table_args__ = (UniqueConstraint("item_id", "position"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    item_id: Mapped[int] = mapped_column(ForeignKey("items.id", ondelete="CASCADE"), index=True)
    position: Mapped[int]
    text: Mapped[str] = mapped_column(Text)
    source: Mapped[str] = mapped_column(String(200), default="")


class Annotator(Base):
    """A person, a simulated person or a model that ranks. `kind` says which."""

    __tablename__ = "annotators"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(200), unique=True)
    kind: Mapped[str] = mapped_column(String(20))


class Annotation(Base):
    """One annotator's answer to one item: ranks by candidate position, 1 the best, equal ranks ties.

    `presented` is the order in which the candidates were shown. An item that was skipped has a reason and no ranks.
    """

    __tablename__ = "annotations"
    __table_args__ = (UniqueConstraint("item_id", "annotator_id"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    item_id: Mapped[int] = mapped_column(ForeignKey("items.id", ondelete="CASCADE"), index=True)
    annotator_id: Mapped[int] = mapped_column(ForeignKey("annotators.id"), index=True)
    presented: Mapped[list[int]] = mapped_column(JSON)
    ranks: Mapped[list[int] | None] = mapped_column(JSON)
    skipped: Mapped[str | None] = mapped_column(Text)
    seconds: Mapped[float | None] = mapped_column(Double)
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), default=_now)


def open_database(place: str | Path) -> Engine:
    """An engine on the database at a path or SQLAlchemy URL, created or brought to the present revision.

    SQLite runs with a write-ahead log and full synchronisation: what was committed survives a crash.
    Raises UserError if the file is no database, or was written by a newer Burnish.
    """
    url = str(place) if "://" in str(place) else f"sqlite:///{Path(place).resolve()}"
    if url.startswith("sqlite:///"):
        Path(url.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(url)
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _prepare_sqlite)
    try:
        migrate(engine)
    except DatabaseError as error:
        raise UserError(f"this is not a database that can be opened ({error.orig}).", file=str(place)) from error
    except CommandError as error:
        raise UserError(
            "this database was written by a newer version of Burnish.", file=str(place), hint="Upgrade Burnish."
        ) from error
    return engine


def migrate(engine: Engine, revision: str = "head") -> None:
    """Bring the database to a revision; a lower one than it has takes tables (and their rows) away."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        script = ScriptDirectory.from_config(config)
        down = revision == "base" or (revision != "head" and _is_below(script, revision, connection))
        (command.downgrade if down else command.upgrade)(config, revision)


def _is_below(script: ScriptDirectory, revision: str, connection: Any) -> bool:
    from alembic.runtime.migration import MigrationContext

    current = MigrationContext.configure(connection).get_current_revision()
    return current is not None and revision in {r.revision for r in script.iterate_revisions(current, "base")} - {
        current
    }


def _prepare_sqlite(connection: Any, _: Any) -> None:
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "busy_timeout=10000"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()
