"""Drafts that survive the lease, late answers, and time of work that the server has seen."""

from __future__ import annotations

from datetime import timedelta

import pytest
from annotation_bench import Bench, pair_row
from sqlalchemy import select, update

from burnish.annotation.service import work
from burnish.annotation.service.database import Database
from burnish.annotation.service.refusals import ConflictError
from burnish.annotation.service.submission import Submission
from burnish.annotation.tables import Annotation, Draft, Item, Lease, now

SAID = {"answer": {"critique": "an hour of writing"}, "seconds": 3}


def _take(bench: Bench, person: int = 0) -> work.Held:
    held = work.take(bench.database, bench.people[person], bench.project)
    assert held is not None
    return held


def _say(bench: Bench, held: work.Held, person: int = 0, **said: object) -> work.Verdict:
    return work.answer(bench.database, bench.people[person], held.lease, Submission(**said))


def _run_out(bench: Bench) -> None:
    with bench.database.write() as session:
        session.execute(update(Lease).values(expires_at=now() - timedelta(minutes=1)))
    assert work.sweep(bench.database) == 1


def _bench(database: Database, **settings: object) -> Bench:
    return Bench(database, rows=[pair_row(n) for n in range(3)], overlap=1, **settings)  # type: ignore[arg-type]


def test_a_draft_comes_back_with_its_item(database: Database):
    bench = _bench(database)
    held = _take(bench)
    work.draft(database, bench.people[0], held.lease, SAID)
    _run_out(bench)
    again = _take(bench)
    assert again.lease != held.lease
    assert (again.item_id, again.presented, again.draft) == (held.item_id, held.presented, SAID)
    work.release(database, bench.people[0], again.lease)
    assert _take(bench).draft == SAID


def test_a_late_answer_counts(database: Database):
    bench = _bench(database)
    held = _take(bench)
    _run_out(bench)
    assert not _say(bench, held, strength=1).again
    assert _say(bench, held, strength=1).again
    with database.read() as session:
        assert session.scalars(select(Annotation.item_id)).all() == [held.item_id]
        assert session.get_one(Item, held.item_id).slots == 0
        assert session.scalars(select(Draft)).all() == []


def test_a_late_answer_counts_while_another_only_holds_the_item(database: Database):
    bench = Bench(database, rows=[pair_row(1)], overlap=1)
    held = _take(bench)
    _run_out(bench)
    other = _take(bench, 1)
    assert other.item_id == held.item_id
    _say(bench, held, strength=1)
    _say(bench, other, 1, strength=1)  # nobody's work is thrown away
    with database.read() as session:
        assert len(session.scalars(select(Annotation)).all()) == 2
        assert session.get_one(Item, held.item_id).slots == 0


def test_a_late_answer_whose_place_is_filled_is_refused_and_kept(database: Database):
    bench = Bench(database, rows=[pair_row(1)], overlap=1)
    held = _take(bench)
    _run_out(bench)
    _say(bench, _take(bench, 1), 1, strength=1)
    with pytest.raises(ConflictError, match="others have answered"):
        _say(bench, held, strength=1, critique="an hour of writing")
    with pytest.raises(ConflictError):
        work.draft(database, bench.people[0], held.lease, SAID)
    with database.read() as session:
        (kept,) = session.scalars(select(Draft)).all()
        assert kept.content == SAID
        assert len(session.scalars(select(Annotation)).all()) == 1


def test_writing_goes_on_after_the_lease_has_run_out(database: Database):
    bench = _bench(database)
    held = _take(bench)
    _run_out(bench)
    work.draft(database, bench.people[0], held.lease, SAID)
    assert (_take(bench).lease, _take(bench).draft) == (held.lease, SAID)


def test_time_of_work_is_what_the_server_has_seen(database: Database):
    """Asked for a day; taken 30 minutes ago, a sign of life 20 minutes ago, a pause of at most 5
    minutes is paid: 10 minutes."""
    bench = _bench(database, idle_minutes=5)
    held = _take(bench)
    with database.write() as session:
        lease = session.get_one(Lease, held.lease)
        lease.taken_at = now() - timedelta(minutes=30)
    work.draft(database, bench.people[0], held.lease, SAID)
    with database.write() as session:
        session.get_one(Lease, held.lease).seen_at = now() - timedelta(minutes=20)
    _say(bench, held, strength=1, seconds=86400)
    held = _take(bench)
    _say(bench, held, strength=1, seconds=86400)
    with database.read() as session:
        first, second = session.scalars(select(Annotation.seconds).order_by(Annotation.id)).all()
    assert first == pytest.approx(600.0, abs=1.0)
    assert second is not None
    assert second < 60.0
