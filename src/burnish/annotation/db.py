"""Opening a database at the present revision of its tables. The tables are in `tables`; their names
are handed on here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DatabaseError

from burnish.annotation.tables import Annotation, Annotator, Base, Candidate, Item, Project
from burnish.errors import UserError

__all__ = [
    "Annotation",
    "Annotator",
    "Base",
    "Candidate",
    "Item",
    "Project",
    "migrate",
    "open_database",
]


def open_database(place: str | Path, *, pool_size: int = 5) -> Engine:
    """An engine on the database at a path or SQLAlchemy URL, created or brought to the present
    revision.

    SQLite runs with a write-ahead log and full synchronisation: what was committed survives a
    crash. Raises UserError if the file is no database, or was written by a newer Burnish.
    """
    url = str(place) if "://" in str(place) else f"sqlite:///{Path(place).resolve()}"
    if url.startswith("sqlite:///"):
        Path(url.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
    try:
        engine = create_engine(url, pool_size=pool_size)
    except (ArgumentError, ModuleNotFoundError) as error:
        raise UserError(
            f"this database cannot be opened ({error}).",
            hint=(
                "Give a file's path, or postgresql+psycopg://USER@HOST/NAME with `pip install"
                " 'burnish[postgresql]'`."
            ),
        ) from error
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _prepare_sqlite)
    try:
        migrate(engine)
    except DatabaseError as error:
        raise UserError(
            "this is not a database that can be opened"
            f" ({' '.join(str(error.orig).split())[:300]}).",
            file=hidden(place),
        ) from error
    except CommandError as error:
        raise UserError(
            "this database was written by a newer version of Burnish.",
            file=hidden(place),
            hint="Upgrade Burnish.",
        ) from error
    return engine


def hidden(place: str | Path) -> str:
    """A place as it may be shown: without the password that a URL may hold."""
    return (
        make_url(str(place)).render_as_string(hide_password=True)
        if "://" in str(place)
        else str(place)
    )


def migrate(engine: Engine, revision: str = "head") -> None:
    """Bring the database to a revision; a lower one than it has takes tables (and their rows)
    away."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    with engine.begin() as connection:
        if connection.dialect.name == "sqlite":
            # Its driver begins no transaction before CREATE TABLE: without this a process killed
            # here leaves half the tables.
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        config.attributes["connection"] = connection
        script = ScriptDirectory.from_config(config)
        down = revision == "base" or (
            revision != "head" and _is_below(script, revision, connection)
        )
        (command.downgrade if down else command.upgrade)(config, revision)


def _is_below(script: ScriptDirectory, revision: str, connection: Any) -> bool:
    from alembic.runtime.migration import MigrationContext

    current = MigrationContext.configure(connection).get_current_revision()
    return current is not None and revision in {
        r.revision for r in script.iterate_revisions(current, "base")
    } - {current}


def _prepare_sqlite(connection: Any, _: Any) -> None:
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "busy_timeout=10000"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()
