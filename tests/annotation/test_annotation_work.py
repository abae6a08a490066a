"""Taking and answering, on SQLite and PostgreSQL: leases, replays, undo, drafts, tests, gold,
quotas, decisions, and a crowd."""

from __future__ import annotations

import threading
from collections import Counter
from datetime import timedelta

import pytest
from annotation_bench import Bench, add_caller, pair_row
from sqlalchemy import select, update

from burnish.annotation.records import Answer
from burnish.annotation.service import people, projects, reviews, work
from burnish.annotation.service.database import Database
from burnish.annotation.service.refusals import ConflictError, ForbiddenError, NotFoundError
from burnish.annotation.service.submission import Submission
from burnish.annotation.store import Store
from burnish.annotation.tables import Annotation, Event, Item, Lease, now
from burnish.errors import UserError


def _held(bench: Bench, person: int) -> work.Held:
    held = work.take(bench.database, bench.people[person], bench.project)
    assert held is not None
    return held


def _say(bench: Bench, person: int, lease: str, **answer: object) -> work.Verdict:
    return work.answer(bench.database, bench.people[person], lease, Submission(**answer))


def test_what_the_screen_says_is_stored_by_position(database: Database, place: str):
    bench = Bench(database, steps=7, flags=["unsafe"], rows=[pair_row(n) for n in range(12)])
    seen = set()
    for _ in range(12):
        held = _held(bench, 0)
        assert held.texts[held.presented[0]].startswith(("first", "second"))
        spans = [{"place": 0, "start": 1, "end": 4, "note": "here"}]
        _say(bench, 0, held.lease, strength=3, flags={"unsafe": [0]}, spans=spans, seconds=2.5)
        seen.add(held.presented)
    assert seen == {(0, 1), (1, 0)}
    labelled = Store(place).labelled("p")
    for one in labelled:
        favoured = one.answer.presented[0]
        assert one.answer.strength == (3 if favoured == 0 else -3)
        assert one.answer.ranks == ((1, 2) if favoured == 0 else (2, 1))
        assert one.answer.flags == {"unsafe": (favoured,)}
        assert one.answer.spans[0].candidate == favoured
        assert 0.0 <= one.seconds <= 2.5  # no more than the server has seen
    rankings = Store(place).rankings("p")
    assert [r.ranks for r in rankings] == [one.answer.ranks for one in labelled]


def test_nobody_gets_an_item_twice_and_each_has_its_overlap(database: Database):
    bench = Bench(database, annotators=4, overlap=2)
    for person in range(4):
        while (held := work.take(database, bench.people[person], bench.project)) is not None:
            _say(bench, person, held.lease, strength=1)
    with database.read() as session:
        rows = session.execute(select(Annotation.item_id, Annotation.annotator_id)).all()
    assert len(set(rows)) == len(rows) == 8
    assert set(Counter(item for item, _ in rows).values()) == {2}


def test_an_item_in_hand_is_the_same_after_a_restart_with_its_draft(database: Database, place: str):
    bench = Bench(database)
    held = _held(bench, 0)
    work.draft(database, bench.people[0], held.lease, {"answer": {"critique": "half"}})
    again = Database(place)
    found = work.take(again, bench.people[0], bench.project)
    again.close()
    assert found is not None
    assert (found.lease, found.item_id, found.presented) == (
        held.lease,
        held.item_id,
        held.presented,
    )
    assert found.draft == {"answer": {"critique": "half"}}


def test_the_same_answer_again_counts_once_and_another_is_refused(database: Database):
    bench = Bench(database)
    held = _held(bench, 0)
    assert not _say(bench, 0, held.lease, strength=2).again
    assert _say(bench, 0, held.lease, strength=2).again
    with pytest.raises(ConflictError, match="otherwise"):
        _say(bench, 0, held.lease, strength=-2)
    with database.read() as session:
        assert len(session.scalars(select(Annotation)).all()) == 1


def test_anothers_lease_is_like_one_that_never_was(database: Database):
    bench = Bench(database)
    held = _held(bench, 0)
    for lease in (held.lease, "never"):
        for what in (
            lambda: _say(bench, 1, lease, strength=1),  # noqa: B023
            lambda: work.draft(database, bench.people[1], lease, {}),  # noqa: B023
            lambda: work.release(database, bench.people[1], lease),  # noqa: B023
        ):
            with pytest.raises(NotFoundError, match="no such task"):
                what()
    _say(bench, 0, held.lease, strength=1)
    with pytest.raises(NotFoundError):
        _say(bench, 1, held.lease, strength=1)


def _expire(database: Database) -> None:
    with database.write() as session:
        session.execute(update(Lease).values(expires_at=now() - timedelta(seconds=1)))


def test_a_lease_that_runs_out_frees_the_item(database: Database):
    bench = Bench(database, overlap=1, rows=[pair_row(1)])
    held = _held(bench, 0)
    assert work.take(database, bench.people[1], bench.project) is None
    _expire(database)
    other = _held(bench, 1)
    assert other.item_id == held.item_id
    _say(bench, 1, other.lease, strength=1)
    with pytest.raises(ConflictError, match="others have answered"):
        _say(bench, 0, held.lease, strength=1)
    with database.read() as session:
        assert session.scalars(select(Event.what).order_by(Event.id)).all() == [
            "taken",
            "expired",
            "taken",
            "answered",
        ]
        assert session.scalars(select(Item.slots)).all() == [0]


def test_a_late_answer_counts_while_nobody_else_has_the_item(database: Database):
    bench = Bench(database, overlap=1, rows=[pair_row(1)])
    held = _held(bench, 0)
    _expire(database)
    _say(bench, 0, held.lease, strength=1)
    assert work.sweep(database) == 0
    assert work.take(database, bench.people[1], bench.project) is None


def test_skipping_gives_the_place_to_another(database: Database, place: str):
    bench = Bench(database, overlap=1, rows=[pair_row(1)])
    _say(bench, 0, _held(bench, 0).lease, skipped="it disturbs me")
    assert work.take(database, bench.people[0], bench.project) is None
    _say(bench, 1, _held(bench, 1).lease, strength=1)
    assert [one.answer.skipped for one in Store(place).labelled("p")] == ["it disturbs me", None]
    assert len(Store(place).rankings("p")) == 1


def test_undo_brings_the_answer_back_as_it_was_on_the_screen(database: Database):
    bench = Bench(database, flags=["unsafe"])
    with pytest.raises(ConflictError, match="nothing to undo"):
        work.undo(database, bench.people[0], bench.project)
    held = _held(bench, 0)
    _say(bench, 0, held.lease, strength=-2, flags={"unsafe": [1]}, critique="why")
    following = _held(bench, 0)
    back = work.undo(database, bench.people[0], bench.project)
    assert (back.item_id, back.presented) == (held.item_id, held.presented)
    assert back.draft == {
        "answer": {"strength": -2, "both_bad": False, "flags": {"unsafe": [1]}, "critique": "why"}
    }
    assert _held(bench, 0).lease == back.lease
    _say(bench, 0, back.lease, strength=2)
    assert _held(bench, 0).lease == following.lease
    with database.read() as session:
        assert session.scalars(select(Annotation.payload)).one()["strength"] in (2, -2)


@pytest.mark.parametrize(
    ("answer", "field"),
    [
        ({}, "strength"),
        ({"strength": 3}, "strength"),
        ({"strength": 0}, "strength"),
        ({"strength": 1, "both_bad": True}, "both_bad"),
        ({"strength": 1, "flags": {"no such flag": [0]}}, "flags"),
        ({"strength": 1, "flags": {"unsafe": [2]}}, "flags"),
        ({"strength": 1, "spans": [{"place": 0, "start": 0, "end": 500}]}, "spans"),
        ({"strength": 1, "ranks": [1, 2]}, "ranks"),
        ({"strength": 1, "text": "x"}, "text"),
    ],
)
def test_an_answer_that_does_not_fit_is_refused(tmp_path, answer: dict, field: str):
    bench = Bench(Database(tmp_path / "a.sqlite"), tie=False)
    with pytest.raises(UserError) as refused:
        _say(bench, 0, _held(bench, 0).lease, **answer)
    assert refused.value.field == field
    assert _held(bench, 0) is not None


def _tests_and_work(pass_mark: float = 0.5) -> dict:
    rows = [
        pair_row("t", part="training", gold={"strength": 1}, explanation="The first is right."),
        pair_row("q1", part="qualification", gold={"strength": 1}),
        pair_row("q2", part="qualification", gold={"strength": -1}),
        pair_row("w"),
    ]
    return {"rows": rows, "pass_mark": pass_mark}


def _for_candidate(held: work.Held, better: int) -> dict:
    return {"strength": 1 if held.presented[0] == better else -1}


def test_training_teaches_and_the_test_lets_through_who_passes(database: Database, place: str):
    bench = Bench(database, **_tests_and_work(pass_mark=1.0))
    for person, wrong in ((0, False), (1, True)):
        held = _held(bench, person)
        assert held.part == "training"
        verdict = _say(bench, person, held.lease, **_for_candidate(held, 1))
        assert (verdict.score, verdict.explanation) == (0.0, "The first is right.")
        for better in (0, 1):
            held = _held(bench, person)
            assert held.part == "qualification"
            verdict = _say(
                bench, person, held.lease, **_for_candidate(held, 1 - better if wrong else better)
            )
            assert verdict.score is None
            assert verdict.gold is None
    assert _held(bench, 0).part == "work"
    with pytest.raises(ForbiddenError, match="not passed"):
        work.take(database, bench.people[1], bench.project)
    assert Store(place).rankings("p") == []
    found = {m["name"]: m for m in people.members(database, bench.owner, bench.project)}
    assert (found["ann0"]["score"], found["ann1"]["score"]) == (1.0, 0.0)
    people.change_member(
        database, bench.owner, bench.project, found["ann1"]["id"], changes={"state": "training"}
    )
    assert _held(bench, 1).part == "training"


def test_gold_comes_among_the_work_and_takes_no_slot(database: Database, place: str):
    rows = [pair_row(n) for n in range(20)] + [
        pair_row(f"g{n}", gold={"strength": 1}) for n in range(10)
    ]
    bench = Bench(database, rows=rows, gold_rate=0.25)
    for _ in range(20):
        _say(bench, 0, _held(bench, 0).lease, strength=1)
    labelled = Store(place).labelled("p")
    assert len(labelled) == 20
    assert 4 <= sum(one.gold for one in labelled) <= 6
    assert len(Store(place).rankings("p")) == 20 - sum(one.gold for one in labelled)


def test_the_quota_ends_the_work(database: Database):
    bench = Bench(database, quota=2)
    for _ in range(2):
        _say(bench, 0, _held(bench, 0).lease, strength=1)
    assert work.take(database, bench.people[0], bench.project) is None


def test_annotators_who_differ_go_to_a_reviewer(database: Database, place: str):
    bench = Bench(database, overlap=2, rows=[pair_row(1), pair_row(2)], annotators=3)
    by_item: dict[int, int] = {}
    for person, better in ((0, 0), (1, 1)):
        for _ in range(2):
            held = _held(bench, person)
            # On one item they agree, on the other they differ.
            by_item.setdefault(held.item_id, len(by_item))
            _say(
                bench,
                person,
                held.lease,
                **_for_candidate(held, better if by_item[held.item_id] else 0),
            )
    with pytest.raises(ForbiddenError, match="reviewers"):
        reviews.disputes(database, bench.people[2], bench.project)
    (found,) = reviews.disputes(database, bench.owner, bench.project)
    assert found["agreement"] == 0.0
    assert {a.ranks for a in found["answers"]} == {(1, 2), (2, 1)}
    reviews.decide(database, bench.owner, bench.project, found["item_id"], Submission(strength=2))
    assert reviews.disputes(database, bench.owner, bench.project) == []
    decided = [one for one in Store(place).labelled("p") if one.source == "adjudication"]
    assert [(d.annotator, d.answer.ranks) for d in decided] == [("olga", (1, 2))]
    assert len(Store(place).rankings("p")) == 4
    if (
        by_item[found["item_id"]] == 0
    ):  # then the last answer is to the other item, on which they agree
        work.undo(database, bench.people[0], bench.project)
    with pytest.raises(ConflictError, match="settled"):
        work.undo(database, bench.people[0], bench.project)


def test_another_overlap_opens_items_again(database: Database):
    bench = Bench(database, overlap=1, rows=[pair_row(1)])
    _say(bench, 0, _held(bench, 0).lease, strength=1)
    assert work.take(database, bench.people[1], bench.project) is None
    projects.change(database, bench.owner, bench.project, settings={"overlap": 2})
    assert _held(bench, 1) is not None
    assert work.take(database, bench.people[2], bench.project) is None


def test_who_is_no_member_sees_no_project(database: Database):
    bench = Bench(database)
    stranger = add_caller(database, "stranger")
    for what in (
        lambda: work.take(database, stranger, bench.project),
        lambda: work.take(database, stranger, 999),
        lambda: projects.describe(database, stranger, bench.project),
        lambda: people.members(database, stranger, bench.project),
    ):
        with pytest.raises(NotFoundError):
            what()


def test_a_crowd_at_once_loses_and_doubles_nothing(database: Database):
    """Twelve threads over forty items with an overlap of three: each item gets exactly three
    answers, by three people."""
    bench = Bench(database, annotators=12, overlap=3, rows=[pair_row(n) for n in range(40)])
    acknowledged: list[tuple[int, int]] = []
    failures: list[BaseException] = []

    def label(person: int) -> None:
        try:
            while (held := work.take(database, bench.people[person], bench.project)) is not None:
                _say(bench, person, held.lease, strength=1)
                acknowledged.append((held.item_id, bench.people[person].annotator_id))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=label, args=(person,)) for person in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    with database.read() as session:
        stored = session.execute(select(Annotation.item_id, Annotation.annotator_id)).all()
        assert sorted(tuple(row) for row in stored) == sorted(acknowledged)
        assert session.scalars(select(Item.slots)).all() == [0] * 40
        assert session.scalars(select(Lease)).all() == []
    assert Counter(Counter(item for item, _ in stored).values()) == {3: 40}


def test_two_presses_at_once_take_one_item_and_count_one_answer(database: Database):
    bench = Bench(database, annotators=1)
    barrier, leases, verdicts = threading.Barrier(4), [], []

    def press() -> None:
        barrier.wait()
        held = work.take(database, bench.people[0], bench.project)
        assert held is not None
        leases.append(held.lease)
        barrier.wait()
        verdicts.append(_say(bench, 0, leases[0], strength=1).again)

    threads = [threading.Thread(target=press) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(leases)) == 1
    assert sorted(verdicts) == [False, True, True, True]


def test_answers_of_other_kinds_keep_what_they_have(database: Database, place: str):
    rows = [
        {"id": "rank", "prompt": "?", "kind": "ranking", "candidates": ["a", "b", "c", "d"]},
        {"id": "rate", "prompt": "?", "kind": "likert", "candidates": ["a", "b"]},
        {"id": "write", "prompt": "?", "kind": "demonstration"},
        {"id": "mend", "prompt": "?", "kind": "correction", "candidates": ["wrong", "worse"]},
    ]
    bench = Bench(
        database, rows=rows, attributes=[{"name": "helpful"}, {"name": "overall", "high": 7}]
    )
    seen = {}
    for _ in rows:
        held = _held(bench, 0)
        said = {
            "ranking": {"ranks": [2, 1, 2, 9]},
            "likert": {"ratings": {"helpful": [1, 5], "overall": [7, 2]}},
            "demonstration": {"text": "An answer."},
            "correction": {"text": "Right.", "corrected": 1},
        }[held.kind]
        _say(bench, 0, held.lease, **said)
        seen[held.kind] = held.presented
    found = {one.item_id: one.answer for one in Store(place).labelled("p")}

    def by_position(kind: str, values: tuple) -> tuple:
        return tuple(values[seen[kind].index(p)] for p in range(len(values)))

    assert found["rank"].ranks == by_position("ranking", (2, 1, 2, 4))
    assert found["rate"].ratings == {
        "helpful": by_position("likert", (1, 5)),
        "overall": by_position("likert", (7, 2)),
    }
    assert found["rate"].ranks == by_position("likert", (1, 2))
    assert found["write"] == Answer("demonstration", text="An answer.")
    assert (found["mend"].text, found["mend"].corrected) == ("Right.", seen["correction"][1])
