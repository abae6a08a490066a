"""Looking through a project's items: search and filters, and an item's page with all that was said
of it and when."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, Text, cast, exists, func, or_, select
from sqlalchemy.orm import Session

from burnish.annotation.assignment import agreement
from burnish.annotation.records import answer_from
from burnish.annotation.service.accounts import Caller
from burnish.annotation.service.database import Database
from burnish.annotation.service.projects import role_in
from burnish.annotation.service.refusals import NotFoundError
from burnish.annotation.settings import settings_of
from burnish.annotation.tables import (
    Account,
    Annotation,
    Annotator,
    Audit,
    Candidate,
    Event,
    Item,
    Lease,
    Version,
)
from burnish.errors import UserError

STATES = (
    "open",
    "begun",
    "done",
    "disputed",
    "sampled",
    "decided",
    "known answer",
    "training",
    "qualification",
    "retired",
)
"""What an item can be looked for as; one may be several of them."""
_CHUNK = 200


@dataclass(frozen=True, slots=True)
class Wanted:
    """What items are looked for; an empty field asks for nothing.

    Args:
        text: in the conversation, in a candidate or in the id; case does not matter (of ASCII
            letters).
        state: one of `STATES`.
        annotator: somebody who has answered it, by name.
        model: who wrote one of its candidates.
        column: `name` (it is there) or `name=value`.
        agreement: at most this much, of items that two people have answered at least.
    """

    text: str = ""
    state: str = ""
    annotator: str = ""
    model: str = ""
    column: str = ""
    agreement: float | None = None


def search(
    database: Database,
    caller: Caller,
    project_id: int,
    wanted: Wanted,
    *,
    after: int = 0,
    limit: int = 50,
) -> list[dict[str, Any]]:
    """The items that fit, in the order they came, those with an id above `after`; for owners.
    Raises UserError for an unknown state."""
    with database.read() as session:
        project = role_in(session, caller, project_id, least="owner", scope="read")
        kind = settings_of(project.settings).kind
        query = _fitting(project_id, wanted)
        found: list[dict[str, Any]] = []
        for item, share in _agreeing(session, query, wanted.agreement, after=after):
            found.append(row_of(item, kind) | {"agreement": share})
            if len(found) == limit:
                break
        return found


def row_of(item: Item, kind: str) -> dict[str, Any]:
    """An item as lists have it; `kind` is its project's."""
    return {
        "id": item.id,
        "external_id": item.external_id,
        "kind": item.kind or kind,
        "part": item.part,
        "messages": item.messages,
        "candidates": [_candidate(candidate) for candidate in item.candidates],
        "gold": item.gold,
        "priority": item.priority,
        "slots": item.slots,
        "disputed": item.disputed,
        "sampled": item.sampled,
    }


def _candidate(candidate: Candidate) -> dict[str, Any]:
    """As it was uploaded."""
    turns = {"messages": candidate.messages} if candidate.messages else {}
    return {"text": candidate.text, "source": candidate.source, **turns}


def choices(database: Database, caller: Caller, project_id: int) -> dict[str, list[str]]:
    """What can be chosen in the filters: annotators who have answered, and models that wrote
    candidates."""
    with database.read() as session:
        role_in(session, caller, project_id, least="owner", scope="read")
        names = (
            select(Annotator.name)
            .join(Annotation, Annotation.annotator_id == Annotator.id)
            .join(Item, Item.id == Annotation.item_id)
        )
        models = (
            select(Candidate.source)
            .join(Item, Item.id == Candidate.item_id)
            .where(Candidate.source != "")
        )
        return {
            "annotators": sorted(
                session.scalars(names.where(Item.project_id == project_id).distinct().limit(500))
            ),
            "models": sorted(
                session.scalars(models.where(Item.project_id == project_id).distinct().limit(500))
            ),
        }


def _fitting(project_id: int, wanted: Wanted) -> Select[Item]:
    query = select(Item).where(Item.project_id == project_id)
    if wanted.text:
        inside, plain = _like(json.dumps(wanted.text)[1:-1]), _like(wanted.text)
        written = exists().where(
            Candidate.item_id == Item.id, Candidate.text.ilike(plain, escape="!")
        )
        asked = cast(Item.messages, Text).ilike(inside, escape="!")
        query = query.where(or_(written, asked, Item.external_id.ilike(plain, escape="!")))
    if wanted.state:
        query = query.where(*_in_state(wanted.state))
    if wanted.annotator:
        named = func.lower(Annotator.name) == wanted.annotator.lower()
        theirs = (
            select(Annotation.id)
            .join(Annotator, Annotator.id == Annotation.annotator_id)
            .where(named)
        )
        query = query.where(theirs.where(Annotation.item_id == Item.id).exists())
    if wanted.model:
        query = query.where(
            exists().where(Candidate.item_id == Item.id, Candidate.source == wanted.model)
        )
    if wanted.column:
        query = query.where(
            or_(*(cast(Item.columns, Text).like(p, escape="!") for p in _in_columns(wanted.column)))
        )
    return query


def _in_state(state: str) -> tuple[Any, ...]:
    work = (Item.part == "work", Item.gold.is_(None))
    said = exists().where(
        Annotation.item_id == Item.id, Annotation.source == "label", Annotation.skipped.is_(None)
    )
    known: dict[str, tuple[Any, ...]] = {
        "open": (*work, Item.slots > 0),
        "begun": (*work, Item.slots > 0, said),
        "done": (*work, Item.slots == 0, ~exists().where(Lease.item_id == Item.id), said),
        "disputed": (Item.disputed,),
        "sampled": (Item.sampled,),
        "decided": (
            exists().where(Annotation.item_id == Item.id, Annotation.source == "adjudication"),
        ),
        "known answer": (Item.part == "work", Item.gold.is_not(None)),
        **{part: (Item.part == part,) for part in ("training", "qualification", "retired")},
    }
    if state not in known:
        raise UserError(f"states are {', '.join(STATES)}.", field="state")
    return known[state]


def _in_columns(asked: str) -> list[str]:
    """Patterns of the column's JSON text: the name alone, or with a value that is text or a
    number."""
    name, has_value, value = asked.partition("=")
    key = json.dumps(name.strip())
    if not has_value:
        return [_like(f"{key}: ")]
    value = value.strip()
    as_text = f"{key}: {json.dumps(value)}"
    as_number = f"{key}: {value}"
    return [_like(as_text), f"%{_escaped(as_number)},%", f"%{_escaped(as_number)}}}%"]


def _like(text: str) -> str:
    return f"%{_escaped(text)}%"


def _escaped(text: str) -> str:
    return text.replace("!", "!!").replace("%", "!%").replace("_", "!_")


def _agreeing(
    session: Session, query: Select[Item], most: float | None, *, after: int
) -> Iterator[tuple[Item, float | None]]:
    """The items of a query with how far their annotators agree, at most `most` where that is
    asked."""
    while True:
        some = session.scalars(query.where(Item.id > after).order_by(Item.id).limit(_CHUNK)).all()
        shares = _agreements(session, [item.id for item in some])
        for item in some:
            share = shares.get(item.id)
            if most is None or (share is not None and share <= most):
                yield item, share
        if len(some) < _CHUNK:
            return
        after = some[-1].id


def _agreements(session: Session, items: list[int]) -> dict[int, float | None]:
    rows = session.execute(
        select(
            Annotation.item_id,
            Annotation.kind,
            Annotation.payload,
            Annotation.presented,
            Annotation.ranks,
        )
        .where(
            Annotation.item_id.in_(items),
            Annotation.source == "label",
            Annotation.skipped.is_(None),
        )
        .order_by(Annotation.id)
    )
    said: dict[int, list[Any]] = {}
    for row in rows:
        answer = answer_from(row.kind, row.payload, presented=row.presented, ranks=row.ranks)
        said.setdefault(row.item_id, []).append(answer)
    return {item: agreement(answers) for item, answers in said.items()}


def item_page(database: Database, caller: Caller, project_id: int, item_id: int) -> dict[str, Any]:
    """An item with all its answers (names, times, versions), the log of who had it, and what owners
    did to it; for owners."""
    with database.read() as session:
        project = role_in(session, caller, project_id, least="owner", scope="read")
        item = item_in(session, project_id, item_id)
        answers = _answers(session, item_id)
        return {
            **row_of(item, settings_of(project.settings).kind),
            "columns": item.columns,
            "explanation": item.explanation,
            "retired_from": item.retired_from,
            "answers": answers,
            "agreement": _agreements(session, [item_id]).get(item_id),
            "held_by": list(
                session.scalars(
                    select(Annotator.name)
                    .join(Lease, Lease.annotator_id == Annotator.id)
                    .where(Lease.item_id == item_id)
                )
            ),
            "history": _history(session, project_id, item),
        }


def item_in(session: Session, project_id: int, item_id: int, *, lock: bool = False) -> Item:
    """An item of a project. Raises NotFoundError if there is none."""
    query = select(Item).where(Item.id == item_id, Item.project_id == project_id)
    found = session.scalar(query.with_for_update(of=Item) if lock else query)
    if found is None:
        raise NotFoundError("there is no such item in this project.")
    return found


def _answers(session: Session, item_id: int) -> list[dict[str, Any]]:
    rows = session.execute(
        select(Annotation, Annotator.name, Annotator.kind, Version.number, Version.schema)
        .join(Annotator, Annotator.id == Annotation.annotator_id)
        .outerjoin(Version, Version.id == Annotation.version_id)
        .where(Annotation.item_id == item_id)
        .order_by(Annotation.id)
    )
    return [
        {
            "id": said.id,
            "annotator": name,
            "annotator_kind": kind,
            "source": said.source,
            "at": said.created_at,
            "seconds": said.seconds,
            "version": number,
            "scale": None if schema is None else int(schema["steps"]) // 2,
            "skipped": said.skipped,
            "presented": said.presented,
            "ranks": said.ranks,
            "kind": said.kind,
            **said.payload,
        }
        for said, name, kind, number, schema in rows
    ]


def _history(session: Session, project_id: int, item: Item) -> list[dict[str, Any]]:
    """Who had the item when, and what owners and reviewers did to it, the latest first."""
    events = session.execute(
        select(Event.at, Event.what, Annotator.name)
        .join(Annotator, Annotator.id == Event.annotator_id)
        .where(Event.item_id == item.id)
    )
    deeds = session.execute(
        select(Audit.at, Audit.action.label("what"), Annotator.name)
        .outerjoin(Account, Account.id == Audit.account_id)
        .outerjoin(Annotator, Annotator.id == Account.annotator_id)
        .where(
            Audit.project_id == project_id,
            Audit.subject == item.external_id[:200],
            Audit.action.like("item %"),
        )
    )
    rows = [dict(row._mapping) for row in (*events, *deeds)]
    return sorted(rows, key=lambda row: row["at"], reverse=True)
