"""What owners and reviewers do: projects, members, invitations, items, progress, decisions on disagreements."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any, Literal

from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.orm import Session

from burnish.annotation.assignment import agreement, slots_left
from burnish.annotation.records import Answer, Kind, answer_from
from burnish.annotation.service import changes, webhooks
from burnish.annotation.service.accounts import (
    Caller,
    account_of,
    add_account,
    clean_name,
    digest,
    open_session,
    record,
)
from burnish.annotation.service.changes import readers as guidelines_readers
from burnish.annotation.service.database import Database
from burnish.annotation.service.refusals import ConflictError, ForbiddenError, NotFoundError
from burnish.annotation.service.submission import Submission, answer_of
from burnish.annotation.settings import read_settings, settings_of
from burnish.annotation.tables import (
    Account,
    Annotation,
    Annotator,
    Audit,
    Candidate,
    Event,
    Invitation,
    Item,
    Lease,
    Member,
    Project,
    Version,
    Webhook,
    now,
)
from burnish.annotation.versions import Renames, renew, scale_of
from burnish.errors import UserError

_RANK = {"annotator": 0, "reviewer": 1, "owner": 2}


def role_in(session: Session, caller: Caller, project_id: int, *, least: str, scope: str = "manage") -> Project:
    """The project, if the caller's role in it is at least `least`. Members of a lower role learn that they may not; others
    learn nothing."""
    caller.needs(scope)
    row = session.execute(
        select(Project, Member.role)
        .join(Member, Member.project_id == Project.id)
        .where(Project.id == project_id, Member.annotator_id == caller.annotator_id)
    ).first()
    if row is None:
        raise NotFoundError("there is no such project, or you are not a member of it.")
    if _RANK[row.role] < _RANK[least]:
        raise ForbiddenError(f"this is for the project's {least}{'s' if least != 'owner' else ''}.")
    return row.Project


def name_of(session: Session, project_id: int) -> str:
    """A project's name."""
    return session.scalar(select(Project.name).where(Project.id == project_id)) or ""


def member_role(session: Session, caller: Caller, project_id: int) -> str:
    """The caller's role. Raises NotFoundError if there is none."""
    found = session.scalar(
        select(Member.role).where(Member.project_id == project_id, Member.annotator_id == caller.annotator_id)
    )
    if found is None:
        raise NotFoundError("there is no such project, or you are not a member of it.")
    return found


def create(database: Database, caller: Caller, name: str, *, guidelines: str, settings: Mapping[str, Any]) -> int:
    """A new project with the caller as its owner; returns its id. Raises UserError for settings or a name that do not do."""
    caller.needs("manage")
    if not caller.creates_projects:
        raise ForbiddenError("you may not create projects; ask who runs this server.")
    checked, name = read_settings(dict(settings)), clean_name(name)
    with database.write() as session:
        if session.scalar(select(Project.id).where(func.lower(Project.name) == name.lower())) is not None:
            raise UserError(f'there is a project "{name}" already.', field="name")
        project = Project(name=name, guidelines=_lines(guidelines), settings=checked.model_dump())
        session.add(project)
        renew(session, project)
        session.add(Member(project_id=project.id, annotator_id=caller.annotator_id, role="owner", state="active"))
        record(session, "project created", caller=caller, project_id=project.id, subject=name)
        return project.id


def change(
    database: Database,
    caller: Caller,
    project_id: int,
    *,
    guidelines: str | None = None,
    settings: Mapping[str, Any] | None = None,
    renames: Renames | None = None,
    open_tasks: Literal["finish", "renew"] = "finish",
) -> None:
    """New guidelines or settings. With another overlap, items that are done open again, or open ones close.

    Answers stay what they are: they belong to the version under which they were given. `renames` says which flags and
    attributes go on under another name. Tasks in people's hands are finished as they were begun, or, with
    `open_tasks="renew"`, asked anew under the new version, their drafts mapped to it.
    """
    with database.write() as session:
        project = role_in(session, caller, project_id, least="owner")
        if guidelines is not None:
            project.guidelines = _lines(guidelines)
        if settings is not None:
            before, after = settings_of(project.settings), read_settings({**project.settings, **settings})
            project.settings = after.model_dump()
            if after.overlap != before.overlap:
                _reslot(session, project_id, after.overlap)
        left = project.version_id
        version = changes.renew_version(session, project, renames or {})
        if open_tasks == "renew" and version.id != left:
            changes.renew_open_tasks(session, project)
        record(
            session, "project changed", caller=caller, project_id=project_id, settings=sorted(settings or ()),
            guidelines=guidelines is not None, version=version.number,
        )  # fmt: skip


def _lines(text: str) -> str:
    """With plain ends of lines: what a browser's form sends back unchanged is the same text."""
    return text.replace("\r\n", "\n")


def _reslot(session: Session, project_id: int, overlap: int) -> None:
    answers = _counts(session, project_id, Annotation, Annotation.skipped.is_(None), Annotation.source == "label")
    leases = _counts(session, project_id, Lease)
    work = select(Item.id).where(Item.project_id == project_id, Item.part == "work", Item.gold.is_(None))
    changes = [
        {
            "id": item_id,
            "slots": slots_left(overlap=overlap, answers=answers.get(item_id, 0), leases=leases.get(item_id, 0)),
        }
        for item_id in session.scalars(work.with_for_update())
    ]
    if changes:
        session.execute(update(Item), changes)


def _counts(session: Session, project_id: int, table: Any, *conditions: Any) -> dict[int, int]:
    rows = session.execute(
        select(table.item_id, func.count())
        .join(Item, Item.id == table.item_id)
        .where(Item.project_id == project_id, *conditions)
        .group_by(table.item_id)
    )
    return {item_id: count for item_id, count in rows}


def mine(database: Database, caller: Caller) -> list[dict[str, Any]]:
    """The projects that the caller is a member of."""
    with database.read() as session:
        rows = session.execute(
            select(Project.id, Project.name, Member.role, Member.state, Member.answered)
            .join(Member, Member.project_id == Project.id)
            .where(Member.annotator_id == caller.annotator_id)
            .order_by(Project.name)
        )
        return [dict(row._mapping) for row in rows]


def describe(database: Database, caller: Caller, project_id: int) -> dict[str, Any]:
    """A project as its members may see it."""
    with database.read() as session:
        project = role_in(session, caller, project_id, least="annotator", scope="read")
        return {
            "id": project.id,
            "name": project.name,
            "guidelines": project.guidelines,
            "settings": settings_of(project.settings).model_dump(),
            "created_at": project.created_at,
        }


def add_items(database: Database, caller: Caller, project_id: int, rows: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """Put items in; those whose id is there already are left as they are, and counted. Raises UserError naming the row.

    A row has `id`, `prompt` (text) or `messages`, `candidates` (texts, or {"text", "source"}), and may have `kind`,
    `part`, `gold`, `explanation`, `priority`, `columns`.
    """
    with database.write() as session:
        project = role_in(session, caller, project_id, least="owner")
        counted = insert_items(session, project, rows)
        record(session, "items added", caller=caller, project_id=project_id, counted=counted)
        return counted


def insert_items(session: Session, project: Project, rows: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """`add_items` within a transaction, for callers that have the right already."""
    from burnish.annotation.service.rows import item_of

    settings = settings_of(project.settings)
    known = set(session.scalars(select(Item.external_id).where(Item.project_id == project.id)))
    added = there = 0
    for number, row in enumerate(rows, 1):
        item = item_of(row, number, settings)
        if item.external_id in known:
            there += 1
            continue
        known.add(item.external_id)
        item.project_id = project.id
        session.add(item)
        added += 1
        if added % 500 == 0:
            session.flush()
    session.flush()
    return {"added": added, "there_already": there}


def invite(
    database: Database, caller: Caller, project_id: int, *, role: str = "annotator", uses: int = 1, days: int = 14
) -> str:
    """A secret that lets `uses` people join; it is returned once. Raises UserError for a role that there is not."""
    if role not in _RANK:
        raise UserError(f"roles are {', '.join(_RANK)}.", field="role")
    secret = secrets.token_urlsafe(24)
    with database.write() as session:
        role_in(session, caller, project_id, least="owner")
        expires = now() + timedelta(days=days)
        session.add(
            Invitation(
                project_id=project_id, role=role, digest=digest(secret), uses=uses, expires_at=expires,
                created_by=caller.account_id,
            )
        )  # fmt: skip
        record(session, "invited", caller=caller, project_id=project_id, subject=role, uses=uses)
    return secret


def invitation(database: Database, secret: str) -> dict[str, Any]:
    """The project and role of an invitation that can still be used. Raises NotFoundError otherwise."""
    with database.read() as session:
        found = _invitation(session, secret)
        name = session.scalar(select(Project.name).where(Project.id == found.project_id))
        return {"project_id": found.project_id, "project": name, "role": found.role}


def _invitation(session: Session, secret: str, *, lock: bool = False) -> Invitation:
    query = select(Invitation).where(
        Invitation.digest == digest(secret), Invitation.uses > 0, Invitation.expires_at > now()
    )
    found = session.scalar(query.with_for_update() if lock else query)
    if found is None:
        raise NotFoundError("this invitation is used up, has run out, or never was.")
    return found


def join(database: Database, secret: str, caller: Caller) -> int:
    """Make somebody who has an account a member; returns the project's id. A member joins again without using it up."""
    with database.write() as session:
        found = _invitation(session, secret, lock=True)
        _enter(session, found, caller.annotator_id)
        record(session, "joined", caller=caller, project_id=found.project_id, subject=found.role)
        return found.project_id


def sign_up(database: Database, secret: str, name: str, password: str, *, address: str) -> tuple[int, str]:
    """A new account by an invitation; returns the project's id and the new session's cookie."""
    with database.write() as session:
        found = _invitation(session, secret, lock=True)
        account = add_account(session, name, password)
        _enter(session, found, account.annotator_id)
        record(session, "signed up", project_id=found.project_id, subject=clean_name(name), address=address)
        return found.project_id, open_session(session, account, address=address)


def _enter(session: Session, found: Invitation, annotator_id: int) -> None:
    member = session.scalar(
        select(Member).where(Member.project_id == found.project_id, Member.annotator_id == annotator_id)
    )
    if member is None:
        found.uses -= 1
        add_member(session, found.project_id, annotator_id, role=found.role)


def add_member(session: Session, project_id: int, annotator_id: int, *, role: str) -> Member:
    """A new member. Owners and reviewers need no training; an annotator starts with it."""
    state = "training" if role == "annotator" else "active"
    member = Member(project_id=project_id, annotator_id=annotator_id, role=role, state=state)
    session.add(member)
    session.flush()
    return member


def enrol(database: Database, name: str, project: str, *, role: str) -> None:
    """Give an account a role in a project: what the operator does at the server itself, where a project came without an owner.

    Raises UserError for a role or a project that there is not, NotFoundError for an account.
    """
    if role not in _RANK:
        raise UserError(f"roles are {', '.join(_RANK)}.", field="role")
    with database.write() as session:
        account = account_of(session, name)
        found = session.scalar(select(Project).where(Project.name == project))
        if found is None:
            raise UserError(f'there is no project "{project}".', field="project")
        member = session.scalar(
            select(Member).where(Member.project_id == found.id, Member.annotator_id == account.annotator_id)
        )
        if member is None:
            add_member(session, found.id, account.annotator_id, role=role)
        else:
            member.role = role
        record(session, "enrolled", project_id=found.id, subject=name, role=role)


def members(database: Database, caller: Caller, project_id: int) -> list[dict[str, Any]]:
    """Who takes part, with role, state and counts; for owners."""
    with database.read() as session:
        role_in(session, caller, project_id, least="owner")
        read = guidelines_readers(session, project_id)
        rows = session.execute(
            select(
                Member.id, Annotator.name, Annotator.kind, Member.role, Member.state, Member.quota, Member.score,
                Member.answered, Member.joined_at,
            )
            .join(Annotator, Annotator.id == Member.annotator_id)
            .where(Member.project_id == project_id)
            .order_by(Annotator.name)
        )  # fmt: skip
        return [{**row._mapping, "guidelines_read": read.get(row.name)} for row in rows]


def change_member(
    database: Database, caller: Caller, project_id: int, member_id: int, *, changes: Mapping[str, Any]
) -> None:
    """New `role`, `state` or `quota`. `state: "training"` lets a member start over: the old test answers go.

    Raises ConflictError where the project would be left without an owner.
    """
    with database.write() as session:
        role_in(session, caller, project_id, least="owner")
        member = session.scalar(
            select(Member).where(Member.id == member_id, Member.project_id == project_id).with_for_update()
        )
        if member is None:
            raise NotFoundError("there is no such member.")
        if changes.get("role", "owner") != "owner" and member.role == "owner":
            owners = select(func.count()).where(Member.project_id == project_id, Member.role == "owner")
            if session.scalar(owners) == 1:
                raise ConflictError("a project needs an owner.")
        if changes.get("state") == "training":
            tests = select(Item.id).where(Item.project_id == project_id, Item.part != "work")
            for table in (Annotation, Lease):
                session.execute(
                    delete(table).where(table.annotator_id == member.annotator_id, table.item_id.in_(tests)),
                    execution_options={"synchronize_session": False},
                )
            member.score = None
        for name, value in changes.items():
            setattr(member, name, value)
        name = session.scalar(select(Annotator.name).where(Annotator.id == member.annotator_id)) or ""
        record(session, "member changed", caller=caller, project_id=project_id, subject=name, changes=dict(changes))


def progress(database: Database, caller: Caller, project_id: int) -> dict[str, Any]:
    """How far the project is, for owners and reviewers."""
    with database.read() as session:
        project = role_in(session, caller, project_id, least="reviewer", scope="read")
        settings = settings_of(project.settings)
        parts = dict(
            session.execute(
                select(Item.part, func.count()).where(Item.project_id == project_id).group_by(Item.part)
            ).all()
        )
        answers = session.execute(
            select(func.count(), func.coalesce(func.sum(Annotation.seconds), 0.0))
            .join(Item, Item.id == Annotation.item_id)
            .where(
                Item.project_id == project_id, Item.part == "work", Annotation.source == "label",
                Annotation.skipped.is_(None),
            )
        ).one()  # fmt: skip
        disputed = session.scalar(select(func.count()).where(Item.project_id == project_id, Item.disputed)) or 0
        return {
            "items": parts,
            "answers": answers[0],
            "hours": float(answers[1] or 0.0) / 3600,
            "share_done": webhooks.share_done(session, project_id, settings),
            "disputed": disputed,
            "webhooks": session.scalar(select(func.count()).where(Webhook.project_id == project_id)),
        }


def items(
    database: Database, caller: Caller, project_id: int, *, after: int = 0, limit: int = 50
) -> list[dict[str, Any]]:
    """Items in the order they came, a page at a time, for owners."""
    with database.read() as session:
        project = role_in(session, caller, project_id, least="owner", scope="read")
        kind = settings_of(project.settings).kind
        rows = session.scalars(
            select(Item).where(Item.project_id == project_id, Item.id > after).order_by(Item.id).limit(limit)
        )
        return [
            {
                "id": row.id,
                "external_id": row.external_id,
                "kind": row.kind or kind,
                "part": row.part,
                "messages": row.messages,
                "candidates": [_candidate_row(c) for c in row.candidates],
                "gold": row.gold,
                "priority": row.priority,
                "slots": row.slots,
                "disputed": row.disputed,
            }
            for row in rows
        ]


def _candidate_row(candidate: Candidate) -> dict[str, Any]:
    """As it was uploaded."""
    turns = {"messages": candidate.messages} if candidate.messages else {}
    return {"text": candidate.text, "source": candidate.source, **turns}


def disputes(database: Database, caller: Caller, project_id: int) -> list[dict[str, Any]]:
    """Items on which annotators differ and nobody has decided, for reviewers. Annotators have numbers, not names."""
    with database.read() as session:
        role_in(session, caller, project_id, least="reviewer")
        rows = list(
            session.scalars(
                select(Item).where(Item.project_id == project_id, Item.disputed).order_by(Item.id).limit(200)
            )
        )
        return [dispute_of(session, row) for row in rows]


def dispute_of(session: Session, item: Item) -> dict[str, Any]:
    """A disputed item with its answers, by candidate position."""
    rows = _answers(session, item.id)
    answers = [answer for answer, _ in rows]
    return {
        "item_id": item.id,
        "kind": answers[0].kind if answers else item.kind,
        "messages": item.messages,
        "candidates": [candidate.text for candidate in item.candidates],
        "traces": [candidate.messages for candidate in item.candidates],
        "answers": answers,
        "scales": [scale for _, scale in rows],
        "agreement": agreement(answers),
    }


def _answers(session: Session, item_id: int) -> list[tuple[Answer, int | None]]:
    """The answers to an item, each with k of the scale that it was given on."""
    rows = session.execute(
        select(Annotation.kind, Annotation.payload, Annotation.presented, Annotation.ranks, Version.schema)
        .outerjoin(Version, Version.id == Annotation.version_id)
        .where(Annotation.item_id == item_id, Annotation.source == "label", Annotation.skipped.is_(None))
        .order_by(Annotation.id)
    )
    return [
        (
            answer_from(row.kind, row.payload, presented=row.presented, ranks=row.ranks),
            None if row.schema is None else scale_of(row.schema),
        )
        for row in rows
    ]


def decide(database: Database, caller: Caller, project_id: int, item_id: int, given: Submission) -> None:
    """A reviewer's decision on a disputed item; places are candidate positions. Who labelled an item does not decide on it."""
    with database.write() as session:
        project = role_in(session, caller, project_id, least="reviewer")
        item = session.scalar(
            select(Item).where(Item.id == item_id, Item.project_id == project_id).with_for_update(of=Item)
        )
        if item is None or not item.disputed:
            raise NotFoundError("there is no such item that waits for a decision.")
        own = select(Annotation.id).where(Annotation.item_id == item_id, Annotation.annotator_id == caller.annotator_id)
        if session.scalar(own) is not None:
            raise ConflictError("you have labelled this item yourself: another reviewer must decide.")
        settings = settings_of(project.settings)
        texts = [candidate.text for candidate in item.candidates]
        kind: Kind = item.kind or settings.kind  # type: ignore[assignment]
        said = answer_of(
            given, kind=kind, settings=settings.model_copy(update={"critique": "optional"}),
            presented=range(len(texts)), texts=lambda: texts, chat=(),
        )  # fmt: skip
        session.execute(insert(Annotation).values(_decision(said, item_id, caller, given.seconds, project.version_id)))
        session.execute(
            insert(Event).values(at=now(), what="adjudicated", item_id=item_id, annotator_id=caller.annotator_id)
        )
        item.disputed = False
        record(session, "decided", caller=caller, project_id=project_id, subject=item.external_id)


def _decision(
    said: Answer, item_id: int, caller: Caller, seconds: float | None, version_id: int | None
) -> dict[str, Any]:
    return {
        "item_id": item_id,
        "annotator_id": caller.annotator_id,
        "presented": list(said.presented),
        "ranks": None if said.ranks is None else list(said.ranks),
        "skipped": said.skipped,
        "seconds": seconds,
        "created_at": now(),
        "kind": said.kind,
        "payload": said.payload(),
        "source": "adjudication",
        "version_id": version_id,
    }


def audit(database: Database, caller: Caller, project_id: int, *, limit: int = 200) -> list[dict[str, Any]]:
    """The latest lines of the project's audit log, for owners."""
    with database.read() as session:
        role_in(session, caller, project_id, least="owner")
        rows = session.execute(
            select(Audit.at, Annotator.name, Audit.action, Audit.subject, Audit.address, Audit.detail)
            .outerjoin(Account, Account.id == Audit.account_id)
            .outerjoin(Annotator, Annotator.id == Account.annotator_id)
            .where(Audit.project_id == project_id)
            .order_by(Audit.id.desc())
            .limit(limit)
        )
        return [dict(row._mapping) for row in rows]
