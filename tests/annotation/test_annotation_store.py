"""The store: what goes in comes out, mistakes are refused, migrations go both ways with data in
them."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import create_engine, inspect, text

from burnish.annotation.db import Base, migrate, open_database
from burnish.annotation.store import Ranking, Store
from burnish.errors import UserError
from burnish.records import Prompt


def _prompt(name: str) -> Prompt:
    return Prompt(name, ({"role": "user", "content": f"Say {name}"},), {"tag": name})


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "a.sqlite")
    store.add_project("p")
    store.add_items("p", [(_prompt("one"), ["x", "y", "z"]), (_prompt("two"), ["u", "v"])])
    store.add_annotator("ann", kind="person")
    return store


def test_what_goes_in_comes_out(store: Store):
    store.submit("p", Ranking("one", "ann", (2, 0, 1), (1, 2, 2)), seconds=3.5)
    assert [(t.item_id, t.candidates, t.prompt) for t in store.tasks("p")] == [
        ("one", ("x", "y", "z"), _prompt("one")),
        ("two", ("u", "v"), _prompt("two")),
    ]
    assert store.rankings("p") == [Ranking("one", "ann", (2, 0, 1), (1, 2, 2))]
    assert store.answered("p", "ann") == {"one"}


def test_adding_again_changes_nothing(store: Store):
    store.add_project("p")
    store.add_annotator("ann", kind="person")
    store.add_items("p", [(_prompt("one"), ["other", "texts"])])
    assert store.tasks("p")[0].candidates == ("x", "y", "z")


@pytest.mark.parametrize(
    ("ranking", "said"),
    [
        (Ranking("one", "ann", (0, 1), (1, 2, 3)), "presented must name each once"),
        (Ranking("one", "ann", (0, 1, 1), (1, 2, 3)), "presented must name each once"),
        (Ranking("one", "ann", (0, 1, 2), (1, 2)), "each needs a rank"),
        (Ranking("one", "ann", (0, 1, 2), (0, 1, 2)), "each needs a rank"),
        (Ranking("nowhere", "ann", (0, 1, 2), (1, 2, 3)), 'no item "nowhere"'),
        (Ranking("one", "nobody", (0, 1, 2), (1, 2, 3)), 'no annotator "nobody"'),
    ],
)
def test_a_ranking_that_does_not_fit_is_refused(store: Store, ranking: Ranking, said: str):
    with pytest.raises(UserError, match=said):
        store.submit("p", ranking)
    assert store.rankings("p") == []


def test_nobody_answers_twice(store: Store):
    store.submit("p", Ranking("two", "ann", (0, 1), (1, 2)))
    with pytest.raises(UserError, match="already"):
        store.submit("p", Ranking("two", "ann", (0, 1), (2, 1)))
    assert len(store.rankings("p")) == 1


def test_an_unknown_project_names_the_known_ones(store: Store):
    with pytest.raises(UserError, match="Projects here: p"):
        store.tasks("q")


def test_one_candidate_cannot_be_ranked(store: Store):
    with pytest.raises(UserError, match="needs at least two"):
        store.add_items("p", [(_prompt("three"), ["alone"])])
    assert len(store.tasks("p")) == 2


def test_sqlite_is_set_to_survive_a_crash(tmp_path: Path):
    with open_database(tmp_path / "a.sqlite").connect() as connection:
        values = [
            connection.execute(text(f"PRAGMA {name}")).scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys")
        ]
    assert values == ["wal", 2, 1]


def test_the_migrations_make_the_tables_that_the_code_has(tmp_path: Path):
    migrated = inspect(open_database(tmp_path / "a.sqlite"))
    plain = create_engine("sqlite://")
    Base.metadata.create_all(plain)
    expected = inspect(plain)
    assert set(migrated.get_table_names()) == set(expected.get_table_names()) | {"alembic_version"}
    for table in expected.get_table_names():
        columns = [
            {(c["name"], str(c["type"]), c["nullable"]) for c in side.get_columns(table)}
            for side in (migrated, expected)
        ]
        assert columns[0] == columns[1], table
        unique = [
            {tuple(u["column_names"]) for u in side.get_unique_constraints(table)}
            for side in (migrated, expected)
        ]
        assert unique[0] == unique[1], table


def test_migrations_go_down_and_up_with_data_in_them(store: Store, tmp_path: Path):
    store.submit("p", Ranking("two", "ann", (0, 1), (1, 2)))
    store.close()
    engine = create_engine(f"sqlite:///{tmp_path / 'a.sqlite'}")
    migrate(engine, "base")
    assert inspect(engine).get_table_names() == ["alembic_version"]
    migrate(engine)
    assert "annotations" in inspect(engine).get_table_names()


def test_a_file_that_is_no_database_is_refused(tmp_path: Path):
    (tmp_path / "a.sqlite").write_text("these are not the bytes of a database at all\n" * 20)
    with pytest.raises(UserError, match=r"a\.sqlite: this is not a database"):
        Store(tmp_path / "a.sqlite")


def test_a_database_of_a_newer_version_is_refused(tmp_path: Path):
    Store(tmp_path / "a.sqlite").close()
    with sqlite3.connect(tmp_path / "a.sqlite") as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    with pytest.raises(UserError, match="newer version"):
        Store(tmp_path / "a.sqlite")


@pytest.mark.parametrize("tables", [1, 4])
def test_a_kill_while_the_tables_are_made_leaves_nothing_half_made(tmp_path: Path, tables: int):
    code = (
        "import os, signal, sys\n"
        "from sqlalchemy import Engine, event\n"
        "made = [0]\n"
        "@event.listens_for(Engine, 'after_cursor_execute')\n"
        "def after(connection, cursor, statement, *rest):\n"
        "    made[0] += statement.lstrip().upper().startswith('CREATE TABLE')\n"
        "    if made[0] == int(sys.argv[2]):\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "from burnish.annotation.store import Store\n"
        "Store(sys.argv[1])\n"
    )
    place = tmp_path / "killed.sqlite"
    died = subprocess.run(
        [sys.executable, "-c", code, str(place), str(tables)], capture_output=True
    )
    assert died.returncode == -signal.SIGKILL, died.stderr
    store = Store(place)
    store.add_project("p")
    assert store.tasks("p") == []
