"""The review desk: what comes to it, accepting, sending back, deciding again; notes; erasing a
person."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from annotation_bench import Bench, Served, add_caller, pair_row
from sqlalchemy import select

from burnish.annotation.service import (
    accounts,
    erasure,
    notes,
    people,
    projects,
    reviews,
    views,
    work,
)
from burnish.annotation.service.database import Database
from burnish.annotation.service.refusals import ConflictError, ForbiddenError, NotFoundError
from burnish.annotation.service.submission import Submission
from burnish.annotation.store import Store
from burnish.annotation.tables import Annotation, Annotator, Audit, Item, Member, Note
from burnish.errors import UserError


def _say(bench: Bench, who: int, favours: int, **more: Any) -> Any:
    """An answer that favours the candidate at a position."""
    person = bench.people[who]
    held = work.take(bench.database, person, bench.project)
    assert held is not None
    strength = 2 if held.presented[0] == favours else -2
    work.answer(bench.database, person, held.lease, Submission(strength=strength, **more))
    return held


def _more(bench: Bench, *names: str) -> list[accounts.Caller]:
    """Further members of the project."""
    callers = [add_caller(bench.database, name) for name in names]
    secret = people.invite(bench.database, bench.owner, bench.project, uses=len(callers))
    for caller in callers:
        people.join(bench.database, secret, caller)
    return callers


def _desk(bench: Bench, **more: Any) -> Any:
    return reviews.waiting(bench.database, bench.owner, bench.project, **more)


def _talked(bench: Bench) -> int:
    """The id of a chat at the desk: of its two answers the second was shown first, and chosen."""
    row = {"id": "talk", "kind": "chat", "prompt": "Say something."}
    projects.add_items(bench.database, bench.owner, bench.project, [row])
    turn = {
        "user": "", "candidates": ["**Yes.**", "No."], "presented": [1, 0], "strength": -2,
        "chosen": 1,
        "both_bad": False,
    }  # fmt: skip
    turns = [
        turn,
        turn | {"user": "Why?", "candidates": ["So.", "Because."], "chosen": 0, "strength": 1},
    ]
    with bench.database.write() as session:
        item = session.scalars(select(Item).where(Item.external_id == "talk")).one()
        item.sampled, item.slots = True, 0
        about = {"item_id": item.id, "annotator_id": bench.people[0].annotator_id, "kind": "chat"}
        session.add(Annotation(**about, presented=[], payload={"turns": turns}, lease="x"))
        return item.id


def _judged(bench: Bench) -> int:
    """The id of a rubric item at the desk, on whose second criterion two people differ."""
    rubric = [{"criterion": "Short."}, {"criterion": "Right."}]
    row = {"id": "judged", "kind": "rubric", "prompt": "?", "candidates": ["x"], "rubric": rubric}
    row |= {"scenario": "You are **tired**."}
    projects.add_items(bench.database, bench.owner, bench.project, [row])
    with bench.database.write() as session:
        item = session.scalars(select(Item).where(Item.external_id == "judged")).one()
        item.disputed, item.slots = True, 0
        for person, right in zip(bench.people, (True, False), strict=True):
            about = {"item_id": item.id, "annotator_id": person.annotator_id, "kind": "rubric"}
            verdicts = {"verdicts": [[True], [right]], "weights": [1.0, 1.0]}
            session.add(Annotation(**about, presented=[0], payload=verdicts, lease=person.name))
        return item.id


@pytest.fixture
def bench(database: Database) -> Bench:
    rows = [pair_row(n, priority=-n) for n in range(2)]
    return Bench(database, annotators=2, rows=rows, overlap=2, flags=["unsafe"])


def test_disagreements_and_a_share_of_agreed_items_come_one_at_a_time(database: Database):
    rows = [pair_row(n, priority=-n) for n in range(40)]
    bench = Bench(database, annotators=2, rows=rows, overlap=2, review_share=0.5)
    for n in range(40):
        _say(bench, 0, 0)
        _say(bench, 1, 1 if n == 7 else 0)
    first = _desk(bench)
    with database.read() as session:
        waiting = session.scalars(select(Item).where(Item.sampled | Item.disputed)).all()
        disputed = {item.external_id for item in waiting if item.disputed}
    assert disputed == {"7"}
    assert first["left"] == len(waiting)
    assert 10 <= len(waiting) - 1 <= 29  # half of 39: the chance of less or more is below 0.1 %
    met, after = [], 0
    for _ in waiting:
        item = _desk(bench, after=after)["item"]
        met.append(item["item_id"])
        after = item["item_id"]
    assert met == [item.id for item in sorted(waiting, key=lambda one: one.id)]
    assert _desk(bench, after=after)["item"]["item_id"] == met[0]  # and from the start again


def test_accepting_leaves_the_votes_as_the_label(bench: Bench):
    _say(bench, 0, 0), _say(bench, 1, 1)
    item = _desk(bench)["item"]
    assert (item["why"], len(item["answers"]), len(item["ids"])) == ("disputed", 2, 2)
    reviews.accept(bench.database, bench.owner, bench.project, item["item_id"])
    assert _desk(bench) == {"left": 0, "item": None}
    with pytest.raises(NotFoundError):
        reviews.accept(bench.database, bench.owner, bench.project, item["item_id"])
    assert len(Store(bench.database.place).labelled("p")) == 2


def test_an_answer_sent_back_lies_with_its_annotator_as_it_was(bench: Bench):
    _say(bench, 0, 0, flags={"unsafe": [1]}, seconds=5.0)
    _say(bench, 1, 1)
    item = _desk(bench)["item"]
    send = (bench.database, bench.owner, bench.project, item["item_id"])
    with pytest.raises(UserError, match="whose"):
        reviews.send_back(*send, "look again", [])
    with pytest.raises(ConflictError):
        reviews.send_back(*send, "look again", [10**6])
    with pytest.raises(UserError, match="1 to 4,000"):
        reviews.send_back(*send, "  ", item["ids"][:1])
    reviews.send_back(*send, "Is A unsafe?", item["ids"][:1])
    held = work.take(bench.database, bench.people[0], bench.project)
    assert held is not None
    assert held.item_id == item["item_id"]
    assert held.draft is not None
    assert held.draft["answer"]["flags"] == {"unsafe": [1]}
    assert [(one["text"], one["mine"]) for one in held.notes] == [("Is A unsafe?", False)]
    assert work.take(bench.database, bench.people[1], bench.project).item_id != item["item_id"]
    favours = 2 if held.presented[0] == 1 else -2
    work.answer(bench.database, bench.people[0], held.lease, Submission(strength=favours))
    assert _desk(bench)["left"] == 0  # they agree now
    with bench.database.read() as session:
        member = session.scalar(
            select(Member).where(Member.annotator_id == bench.people[0].annotator_id)
        )
        assert member is not None
        assert (member.met, member.answered) == (1, 1)
    assert len(Store(bench.database.place).labelled("p")) == 2


def test_only_answers_that_stand_at_the_desk_are_sent_back(database: Database):
    bench = Bench(database, annotators=3, rows=[pair_row(0)], overlap=2)
    held = work.take(database, bench.people[2], bench.project)
    assert held is not None
    work.answer(database, bench.people[2], held.lease, Submission(skipped="other"))
    _say(bench, 0, 0), _say(bench, 1, 1)
    item = _desk(bench)["item"]
    with database.read() as session:
        query = select(Annotation.id).where(Annotation.skipped.is_not(None))
        skipped = session.scalars(query).one()
    send = (database, bench.owner, bench.project, item["item_id"], "look again")
    with pytest.raises(ConflictError):
        reviews.send_back(*send, [*item["ids"], skipped])
    assert _desk(bench)["item"]["ids"] == item["ids"]
    reviews.send_back(*send, [*item["ids"], item["ids"][0]])
    for person, lies_there in zip(bench.people, (True, True, False), strict=True):
        assert (work.take(database, person, bench.project) is not None) == lies_there


def test_sending_back_locks_in_the_order_of_work(bench: Bench):
    _say(bench, 0, 0), _say(bench, 1, 1)
    item = _desk(bench)["item"]
    send = (bench.database, bench.owner, bench.project, item["item_id"], "again", item["ids"])
    locked = (
        select(Member).where(Member.annotator_id == bench.people[0].annotator_id),
        select(Item.id).where(Item.id == item["item_id"]),
    )
    with ThreadPoolExecutor(1) as pool:
        with bench.database.write() as session:
            session.scalars(locked[0].with_for_update()).one()
            sent = pool.submit(reviews.send_back, *send)
            time.sleep(0.3)  # by now it waits for the member, and holds no item
            session.scalars(locked[1].with_for_update()).one()
        sent.result(timeout=20)
    assert _desk(bench)["left"] == 0


def test_a_reviewer_sees_the_turns_of_a_chat_by_candidate_position(bench: Bench):
    shown = views.desk_view(_desk(bench, item_id=_talked(bench)), html=True)["item"]
    assert (shown["why"], shown["answers"]) == ("sampled", [])
    first, second = shown["said"][0]["turns"]
    assert [one["html"] for one in first["answers"]] == [
        "<p><strong>Yes.</strong></p>\n",
        "<p>No.</p>\n",
    ]
    assert (first["user"]["text"], first["chosen"], first["strength"]) == ("", 1, -2)
    assert (second["user"]["text"], second["chosen"], second["strength"]) == ("Why?", 0, 1)


def test_a_decision_can_be_revised_and_taken_back(bench: Bench):
    _say(bench, 0, 0), _say(bench, 1, 1)
    item_id = _desk(bench)["item"]["item_id"]
    decide = (bench.database, bench.owner, bench.project, item_id)
    reviews.decide(*decide, Submission(strength=2))
    assert _desk(bench)["left"] == 0
    assert _desk(bench, item_id=item_id)["item"]["decision"].strength == 2
    reviews.decide(*decide, Submission(strength=-1))

    def decisions() -> list[int]:
        with bench.database.read() as session:
            query = select(Annotation.payload).where(Annotation.source == "adjudication")
            return [payload["strength"] for payload in session.scalars(query)]

    assert decisions() == [-1]
    reviews.withdraw(*decide)
    assert decisions() == []
    assert _desk(bench)["item"]["why"] == "disputed"
    with bench.database.read() as session:
        kept = session.scalars(
            select(Audit.detail).where(Audit.action == "decision withdrawn")
        ).one()
    assert kept["before"]["strength"] == -1


def test_who_labelled_an_item_does_not_meet_it_at_the_desk(bench: Bench):
    with bench.database.write() as session:
        for person in bench.people:
            member = select(Member).where(Member.annotator_id == person.annotator_id)
            session.scalars(member).one().role = "reviewer"
    _say(bench, 0, 0), _say(bench, 1, 1)
    own = reviews.waiting(bench.database, bench.people[0], bench.project)
    assert own == {"left": 0, "item": None}
    item_id = _desk(bench)["item"]["item_id"]
    with pytest.raises(ConflictError):
        reviews.accept(bench.database, bench.people[0], bench.project, item_id)


def test_notes_go_between_one_annotator_and_the_owners(bench: Bench):
    ann, ben = bench.people
    held = work.take(bench.database, ann, bench.project)
    assert held is not None
    asked = (bench.database, ann, held.lease)
    notes.about_task(*asked, "What is a tie?")
    with pytest.raises(NotFoundError):
        notes.about_task(bench.database, ben, held.lease, "mine?")
    (note,) = notes.listed(bench.database, bench.owner, bench.project)
    assert (note["annotator"], note["text"], note["new"]) == ("ann0", "What is a tie?", True)
    assert notes.listed(bench.database, bench.owner, bench.project)[0]["new"] is False
    write = (bench.database, bench.owner, bench.project, "Say 'the same'.")
    notes.write(*write, item_id=held.item_id, to=ann.annotator_id)
    with bench.database.read() as session:
        assert notes.unread(session, ann, bench.project, "annotator") == 1
    mine = notes.listed(bench.database, ann, bench.project)
    assert [(one["mine"], one["author"]) for one in mine] == [(False, None), (True, None)]
    assert notes.listed(bench.database, ben, bench.project) == []
    again = work.take(bench.database, ann, bench.project)
    assert again is not None
    assert [one["text"] for one in again.notes] == ["What is a tie?", "Say 'the same'."]
    with pytest.raises(NotFoundError):
        notes.write(bench.database, ben, bench.project, "hi", to=ann.annotator_id)
    with pytest.raises(NotFoundError):
        notes.write(bench.database, ben, bench.project, "hi", item_id=held.item_id)


def test_notes_ask_the_scopes_of_a_token(bench: Bench):
    ann = bench.people[0]
    for caller in (ann, bench.owner):
        for scopes in ({"export"}, {"read"}, {"read", "export", "import"}):
            token = replace(caller, scopes=frozenset(scopes))
            with pytest.raises(ForbiddenError, match="label"):
                notes.listed(bench.database, token, bench.project)
            with pytest.raises(ForbiddenError, match="label"):
                notes.write(bench.database, token, bench.project, "hi")
    label = replace(bench.owner, scopes=frozenset({"label"}))
    notes.write(bench.database, label, bench.project, "hi", to=label.annotator_id)
    with pytest.raises(ForbiddenError, match="manage"):
        notes.write(bench.database, label, bench.project, "hi", to=ann.annotator_id)
    assert len(notes.listed(bench.database, label, bench.project)) == 1


def test_what_is_counted_as_unread_is_what_is_marked_new(bench: Bench):
    other, ann = bench.people
    with bench.database.write() as session:
        member = select(Member).where(Member.annotator_id == other.annotator_id)
        session.scalars(member).one().role = "owner"
    write = (bench.database, bench.owner, bench.project)
    notes.write(*write, "from owner to owner", to=other.annotator_id)
    notes.write(*write, "to an annotator", to=ann.annotator_id)
    notes.write(*write, "to the owners")
    notes.write(bench.database, ann, bench.project, "from an annotator")
    for caller, role, waiting in (
        (bench.owner, "owner", ["from an annotator"]),
        (other, "owner", ["to the owners", "from owner to owner"]),
        (ann, "annotator", ["to an annotator"]),
    ):
        with bench.database.read() as session:
            count = notes.unread(session, caller, bench.project, role)
        found = notes.listed(bench.database, caller, bench.project)
        assert [note["text"] for note in found if note["new"]] == waiting
        assert count == len(waiting)


def test_a_person_is_erased_and_the_answers_stay_or_go(bench: Bench):
    _say(bench, 0, 0), _say(bench, 0, 0), _say(bench, 1, 0)
    notes.write(bench.database, bench.people[0], bench.project, "I am Ann, ann@example.com")
    work.take(bench.database, bench.people[1], bench.project)
    erase = (bench.database, bench.owner, bench.project)
    with pytest.raises(ConflictError):
        erasure.of_member(*erase, bench.owner.annotator_id)
    assert erasure.of_member(*erase, bench.people[0].annotator_id) == {"answers": 0, "notes": 1}
    said = {one.annotator for one in Store(bench.database.place).labelled("p")}
    assert "ann0" not in said
    assert len(said) == 2
    with bench.database.read() as session:
        everything = [
            *session.scalars(select(Audit.subject)),
            *session.scalars(select(Annotator.name)),
        ]
        assert not any("ann0" in text for text in everything)
    assert erasure.by_name(bench.database, "ann1", keep_answers=False)["answers"] == 1
    with bench.database.read() as session:
        assert [item.slots for item in session.scalars(select(Item).order_by(Item.id))] == [1, 1]
    with pytest.raises(ConflictError, match="only owner"):
        erasure.by_name(bench.database, "olga")
    with pytest.raises(NotFoundError):
        erasure.by_name(bench.database, "ann1")


def test_erasing_a_reviewer_or_who_skipped_leaves_the_dispute(bench: Bench):
    _say(bench, 0, 0), _say(bench, 1, 1)
    item_id = _desk(bench)["item"]["item_id"]
    ann, reviewer, skipper = (bench.people[0], *_more(bench, "rita", "sam"))
    with bench.database.write() as session:
        session.add(
            Annotation(
                item_id=item_id,
                annotator_id=skipper.annotator_id,
                presented=[0, 1],
                kind="pairwise",
                skipped="other",
            )
        )
        member = select(Member).where(Member.annotator_id == reviewer.annotator_id)
        session.scalars(member).one().role = "reviewer"
    assert erasure.by_name(bench.database, "sam", keep_answers=False)["answers"] == 1
    assert _desk(bench)["item"]["why"] == "disputed"
    reviews.decide(bench.database, reviewer, bench.project, item_id, Submission(strength=2))
    assert _desk(bench) == {"left": 0, "item": None}
    notes.write(bench.database, ann, bench.project, "mine")
    with bench.database.write() as session:
        thread = {"item_id": item_id, "thread": ann.annotator_id}
        notes.add(session, bench.project, reviewer, "look again", **thread)
    gone = erasure.by_name(bench.database, "rita", keep_answers=False)
    assert gone == {"answers": 1, "notes": 1}
    assert _desk(bench)["item"]["why"] == "disputed"
    with bench.database.read() as session:
        assert session.get_one(Item, item_id).slots == 0
        assert session.scalars(select(Note.text)).all() == ["mine"]


def test_nobody_is_erased_by_an_owner_of_less_than_all_they_are_in(bench: Bench):
    with bench.database.write() as session:
        accounts.account_of(session, "ann0").creates_projects = True
    with pytest.raises(ForbiddenError):
        erasure.of_member(bench.database, bench.owner, bench.project, bench.people[0].annotator_id)


def test_a_reviewer_s_hour_by_keyboard(chromium: Any, tmp_path: Path):
    served = Served(str(tmp_path / "a.sqlite"))
    rows = [pair_row(n, priority=-n) for n in range(3)]
    bench = Bench(served.database, annotators=2, rows=rows, overlap=2)
    for _ in range(3):
        _say(
            bench,
            0,
            0,
            critique="It is **right**",
            spans=[{"place": 0, "start": 0, "end": 5, "note": "here"}],
        )
        _say(bench, 1, 1)
    with served.database.write() as session:
        cookie = accounts.open_session(session, accounts.account_of(session, "olga"), address="")
    context = chromium.new_context(viewport={"width": 1200, "height": 900})
    context.add_cookies([{"name": "burnish_session", "value": cookie, "url": served.url}])
    page = context.new_page()
    page.set_default_timeout(15_000)
    failures: list[str] = []
    page.on("pageerror", lambda error: failures.append(str(error)))
    try:
        page.goto(f"{served.url}/projects/1/review")
        page.wait_for_selector("text=3 items wait")
        assert page.locator(".said-list li .marked").first.inner_text() in ("first", "secon")
        page.keyboard.press("1")
        page.keyboard.press("Enter")
        page.wait_for_selector("text=2 items wait")
        page.keyboard.press("a")
        page.wait_for_selector("text=1 item waits")
        page.keyboard.press("r")
        page.keyboard.type("Please look again")
        page.keyboard.press("Control+Enter")
        page.wait_for_selector("text=Nothing waits for a reviewer.")
        held = work.take(served.database, bench.people[0], bench.project)
        assert held is not None
        assert held.notes[0]["text"] == "Please look again"
        page.goto(f"{served.url}/projects/1/review?item=1")
        page.wait_for_selector("text=Decided; you may decide otherwise")
        page.keyboard.press("4")
        page.keyboard.press("Enter")
        page.wait_for_selector("text=Nothing waits for a reviewer.")
        decided = [one for one in Store(served.place).labelled("p") if one.source == "adjudication"]
        assert [one.answer.strength for one in decided] == [-2]
        page.goto(f"{served.url}/projects/1/items/{_talked(bench)}")
        page.get_by_text("2 turns").click()
        framed = page.locator("td details .answer.favoured .text").all_inner_texts()
        assert framed == ["No.", "So."]
        page.locator("a[href*='review?item=']").click()
        page.wait_for_selector("text=Agreed, drawn for a look")
        framed = page.locator("details[open] .answer.favoured .text").all_inner_texts()
        assert framed == ["No.", "So."]
        page.keyboard.press("a")
        page.wait_for_selector("text=Nothing waits for a reviewer.")
        page.goto(f"{served.url}/projects/1/review?item={_judged(bench)}")
        page.wait_for_selector(".scenario strong")
        assert page.locator(".tally tbody tr").all_inner_texts() == [
            "1. Short.\t✓ ✓",
            "2. Right.\t✓ ✗",
        ]
        assert page.locator(".tally .differ").all_inner_texts() == ["✓ ✗"]
        assert failures == []
        assert served.failures == []
    finally:
        context.close()
        served.stop()
