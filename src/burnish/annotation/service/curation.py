"""What owners do to items: retire, bring back, correct, ask again, delete. What depends on an item
is told before, and the audit log has what was done."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import delete, func, insert, select
from sqlalchemy.orm import Session

from burnish.annotation.assignment import slots_left
from burnish.annotation.service import drafts, images
from burnish.annotation.service.accounts import Caller, record
from burnish.annotation.service.browsing import item_in
from burnish.annotation.service.database import Database
from burnish.annotation.service.projects import role_in
from burnish.annotation.service.refusals import ConflictError
from burnish.annotation.service.rows import SCENARIO, item_of
from burnish.annotation.settings import settings_of
from burnish.annotation.tables import Annotation, Candidate, Draft, Item, Lease, Project
from burnish.errors import UserError


def dependents(database: Database, caller: Caller, project_id: int, item_id: int) -> dict[str, Any]:
    """What depends on an item: `answers`, `decisions`, `open` tasks, `drafts`, and the `hours` that
    people worked on it."""
    with database.read() as session:
        role_in(session, caller, project_id, least="owner")
        return _dependents(session, item_in(session, project_id, item_id))


def _dependents(session: Session, item: Item) -> dict[str, Any]:
    def count(table: Any, *conditions: Any) -> int:
        query = select(func.count()).select_from(table).where(table.item_id == item.id, *conditions)
        return session.scalar(query) or 0

    worked = select(func.sum(Annotation.seconds)).where(Annotation.item_id == item.id)
    return {
        "answers": count(Annotation, Annotation.source == "label"),
        "decisions": count(Annotation, Annotation.source == "adjudication"),
        "open": count(Lease),
        "drafts": count(Draft),
        "hours": float(session.scalar(worked) or 0.0) / 3600,
    }


def retire(database: Database, caller: Caller, project_id: int, item_id: int) -> None:
    """Take an item out of use: nobody is asked about it any more, and its answers, which stay, are
    no data."""
    with database.write() as session:
        role_in(session, caller, project_id, least="owner")
        item = item_in(session, project_id, item_id, lock=True)
        if item.part == "retired":
            raise ConflictError("this item is retired already.")
        told = _dependents(session, item)
        _close(session, item)
        item.retired_from, item.part, item.slots = item.part, "retired", 0
        item.disputed = item.sampled = False
        _note(session, "item retired", caller, item, told)


def bring_back(database: Database, caller: Caller, project_id: int, item_id: int) -> None:
    """Put a retired item into use again, as what it was."""
    with database.write() as session:
        project = role_in(session, caller, project_id, least="owner")
        item = item_in(session, project_id, item_id, lock=True)
        if item.retired_from is None:
            raise ConflictError("this item is not retired.")
        item.part, item.retired_from = item.retired_from, None
        item.slots = _places(session, project, item)
        _note(session, "item brought back", caller, item, {})


def reopen(
    database: Database, caller: Caller, project_id: int, item_id: int, *, more: int = 1
) -> None:
    """Ask `more` people about an item, and forget a reviewer's decision: what is said then decides
    whether one is needed."""
    if not 1 <= more <= 100:
        raise UserError("must lie between 1 and 100.", field="more")
    with database.write() as session:
        role_in(session, caller, project_id, least="owner")
        item = item_in(session, project_id, item_id, lock=True)
        if item.part != "work" or item.gold is not None:
            raise ConflictError(
                "items with a known answer are open to everybody, and retired ones to nobody."
            )
        decisions = (Annotation.item_id == item.id, Annotation.source == "adjudication")
        session.execute(
            delete(Annotation).where(*decisions), execution_options={"synchronize_session": False}
        )
        item.slots += more
        item.disputed = item.sampled = False
        _note(session, "item opened again", caller, item, {"more": more})


def correct(
    database: Database,
    caller: Caller,
    project_id: int,
    item_id: int,
    row: Mapping[str, Any],
    *,
    ask_anew: bool = False,
) -> None:
    """Put a row, as of an upload, in an item's place; its id stays.

    Where what people see changes (conversation, candidates, kind, the criteria of a rubric,
    scenario)
    the answers that are there are about something else: they are deleted and the item is asked
    anew, which `ask_anew` must say. Else they stay. Raises UserError for a row that does not do,
    ConflictError where answers would go and `ask_anew` does not say so.
    """
    with database.write() as session:
        project = role_in(session, caller, project_id, least="owner")
        item = item_in(session, project_id, item_id, lock=True)
        if item.part == "retired":
            raise ConflictError("bring the item back before it is corrected.")
        row, pictures = images.lifted(row, 1)
        images.keep(session, project_id, pictures)
        settings = settings_of(project.settings)
        new = item_of({**row, "id": item.external_id}, 1, settings)
        told = _dependents(session, item)
        changed = _seen(new, new.kind or settings.kind) != _seen(item, item.kind or settings.kind)
        if changed and told["answers"] + told["decisions"] + told["open"] and not ask_anew:
            raise ConflictError(
                f"{told['answers']} answers and {told['open']} open tasks are about the text as it"
                " was: say that they go and that the item is asked anew, or leave conversation,"
                " candidates, kind, rubric and scenario as they are."
            )
        if changed:
            _forget(session, item)
            item.messages, item.kind = new.messages, new.kind
            mine = delete(Candidate).where(Candidate.item_id == item.id)
            session.execute(mine, execution_options={"synchronize_session": False})
            values = [
                {
                    "item_id": item.id,
                    "position": c.position,
                    "text": c.text,
                    "source": c.source,
                    "messages": c.messages,
                }
                for c in new.candidates
            ]
            if values:
                session.execute(insert(Candidate), values)
            session.expire(item, ["candidates"])
        else:  # who wrote what may be mended all the same
            for old, given in zip(item.candidates, new.candidates, strict=True):
                old.source = given.source
        item.columns, item.part, item.gold = new.columns, new.part, new.gold
        item.explanation, item.priority = new.explanation, new.priority
        session.flush()
        item.slots = _places(session, project, item)
        _note(session, "item corrected", caller, item, told if changed else {})


def remove(database: Database, caller: Caller, project_id: int, item_id: int) -> dict[str, Any]:
    """Delete an item with everything that depends on it (`dependents`), which is returned and noted
    in the audit log."""
    with database.write() as session:
        role_in(session, caller, project_id, least="owner")
        item = item_in(session, project_id, item_id, lock=True)
        told = _dependents(session, item)
        _note(session, "item deleted", caller, item, told)
        session.flush()
        session.expunge(item)
        session.execute(
            delete(Item).where(Item.id == item_id), execution_options={"synchronize_session": False}
        )
        return told


def remove_answer(
    database: Database, caller: Caller, project_id: int, item_id: int, answer_id: int
) -> None:
    """Delete one answer; its place is open again, to others than who gave it."""
    with database.write() as session:
        role_in(session, caller, project_id, least="owner")
        item = item_in(session, project_id, item_id, lock=True)
        said = session.get(Annotation, answer_id)
        if said is None or said.item_id != item.id:
            raise ConflictError("there is no such answer any more.")
        kept = {
            "annotator": said.annotator_id,
            "kind": said.kind,
            "ranks": said.ranks,
            "payload": said.payload,
        }
        session.delete(said)
        session.flush()
        reopen_place(session, item)
        _note(session, "item answer deleted", caller, item, {"answer": kept})


def _seen(item: Item, kind: str) -> Any:
    """What people see of an item that is asked as a `kind`. The weights of a rubric are not
    shown."""
    rubric = item.columns.get("rubric", ()) if kind == "rubric" else ()
    return (
        item.messages,
        item.kind,
        [(c.text, c.messages) for c in item.candidates],
        [criterion["criterion"] for criterion in rubric],
        item.columns.get(SCENARIO),
    )


def _close(session: Session, item: Item) -> None:
    """Take open tasks out of people's hands; what they wrote is kept."""
    for lease in session.scalars(select(Lease).where(Lease.item_id == item.id).with_for_update()):
        drafts.keep(session, lease)
        session.delete(lease)
    session.flush()


def _forget(session: Session, item: Item) -> None:
    for table in (Lease, Draft, Annotation):
        mine = delete(table).where(table.item_id == item.id)
        session.execute(mine, execution_options={"synchronize_session": False})
    item.disputed = item.sampled = False


def _places(session: Session, project: Project, item: Item) -> int:
    """How many more people may take the item."""
    if item.part != "work" or item.gold is not None:
        return 0
    counted = _dependents(session, item)
    answers = select(func.count(Annotation.id)).where(
        Annotation.item_id == item.id, Annotation.source == "label"
    )
    given = session.scalar(answers.where(Annotation.skipped.is_(None))) or 0
    return slots_left(
        overlap=settings_of(project.settings).overlap, answers=given, leases=counted["open"]
    )


def reopen_place(session: Session, item: Item) -> None:
    """After an answer was deleted: its place is open again, and nothing is at the review desk."""
    project = session.get_one(Project, item.project_id)
    item.slots = _places(session, project, item)
    item.disputed = item.sampled = False


def _note(
    session: Session, action: str, caller: Caller, item: Item, detail: Mapping[str, Any]
) -> None:
    record(
        session,
        action,
        caller=caller,
        project_id=item.project_id,
        subject=item.external_id,
        **detail,
    )
