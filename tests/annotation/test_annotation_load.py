"""The load generator at a small size: a crowd against a real server that is killed meanwhile, and
the invariants over the log.

The full size is in benchmarks/annotate_load.py.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from annotation_bench import free_port
from sqlalchemy import delete, select, update

from burnish.annotation.service.database import Database
from burnish.annotation.tables import Annotation, Item
from scripts import load_script

_FILE = Path(__file__).parents[2] / "benchmarks" / "annotate_load.py"


@pytest.fixture(scope="module")
def load() -> Any:
    return load_script(_FILE)


@pytest.mark.slow
def test_a_server_killed_in_mid_load_loses_no_acknowledged_answer(load: Any, place: str):
    found = load.measure(
        place, annotators=8, submissions=200, think=0.02, kills=2, port=free_port()
    )
    assert found["violations"] == []
    assert found["acknowledged"] >= 200
    assert found["kills"] == 2


def test_the_invariants_notice_what_is_wrong(load: Any, tmp_path: Path):
    """Each way of being wrong is made by hand, and must be found."""
    from burnish.annotation.service import accounts, work
    from burnish.annotation.service.submission import Submission

    place = str(tmp_path / "a.sqlite")
    project, people = load.prepare(place, annotators=2, submissions=6)
    database, run = Database(place), load.Run(6)
    for who, token in people:
        caller = accounts.caller_of_token(database, token)
        assert caller is not None
        for n in range(3):
            held = work.take(database, caller, project)
            assert held is not None
            work.answer(database, caller, held.lease, Submission(strength=1, critique=f"{who} {n}"))
            run.sent[held.lease] = load.Sent(who, 1, f"{who} {n}", acknowledged=True)
    assert load.violations(place, run) == []
    with database.write() as session:
        first = session.scalars(select(Annotation)).first()
        assert first is not None
        kept = {c.name: getattr(first, c.name) for c in Annotation.__table__.columns}

    def broken(statement: Any) -> str:
        with database.write() as session:
            session.execute(statement)
        return " ".join(load.violations(place, run))

    assert "lost" in broken(delete(Annotation).where(Annotation.id == kept["id"]))
    with database.write() as session:
        session.add(Annotation(**kept))
    assert load.violations(place, run) == []
    other = next(who for who, _ in people if who != kept["annotator_id"])
    with database.read() as session:
        taken = set(
            session.scalars(select(Annotation.item_id).where(Annotation.annotator_id == other))
        )
    if kept["item_id"] not in taken:
        assert "misassigned" in broken(
            update(Annotation).where(Annotation.id == kept["id"]).values(annotator_id=other)
        )
        broken(
            update(Annotation)
            .where(Annotation.id == kept["id"])
            .values(annotator_id=kept["annotator_id"])
        )
    assert "misassigned or changed" in broken(
        update(Annotation).where(Annotation.id == kept["id"]).values(payload={"strength": 2})
    )
    broken(update(Annotation).where(Annotation.id == kept["id"]).values(payload=kept["payload"]))
    assert "slots" in broken(
        update(Item).where(Item.id == kept["item_id"]).values(slots=Item.slots + 1)
    )
    database.close()
