"""A whole project at one instant, and putting items with their labels into one: what exports,
statistics and trainers read."""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from typing import Any, Protocol

from sqlalchemy import Engine, func, select, update
from sqlalchemy.orm import Session

from burnish.annotation.assignment import is_disputed
from burnish.annotation.records import KINDS, Answer, Labelled, answer_from
from burnish.annotation.settings import Settings, settings_of
from burnish.annotation.tables import (
    Annotation,
    Annotator,
    Candidate,
    Event,
    Item,
    Project,
    Version,
    now,
)
from burnish.annotation.versions import for_scale, renamed_since, renew, scale_of, with_new_names
from burnish.errors import UserError
from burnish.labels.votes import scale_in
from burnish.records import LabelledItem, Message, Opinion, Prompt

WORKERS = "imported:"
"""What goes before the names of a file's annotators."""


class Opened(Protocol):
    """Something that holds an opened database: a `Store`, or the service's `Database`."""

    @property
    def engine(self) -> Engine:
        """The database."""
        ...


@dataclass(frozen=True, slots=True)
class Entry:
    """An item: its candidates and who wrote each. `kind` is never empty; `gold` is the known
    answer, where there is one, as `assignment.grade` takes it. `disputed`: its annotators differ,
    and no reviewer has decided yet. `traces` has, by the candidate's text, the turns of those that
    are more than a text.
    """

    item_id: str
    prompt: Prompt
    candidates: tuple[str, ...]
    sources: tuple[str, ...]
    kind: str
    part: str
    gold: Mapping[str, Any] | None
    disputed: bool = False
    traces: Mapping[str, tuple[Message, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class VersionRecord:
    """What a project asked at some time: see `tables.Version`."""

    number: int
    schema: Mapping[str, Any]
    guidelines: str
    created_at: datetime


@dataclass(frozen=True)
class Snapshot:
    """A project: its items in the order they came, its answers by item and annotator's name, the
    versions they were given under (by id)."""

    project: str
    guidelines: str
    settings: Settings
    entries: tuple[Entry, ...]
    answers: tuple[Labelled, ...]
    key: str = field(repr=False, default="")
    versions: Mapping[int, VersionRecord] = field(default_factory=dict)

    @cached_property
    def by_id(self) -> Mapping[str, Entry]:
        """The items by their ids."""
        return {entry.item_id: entry for entry in self.entries}

    def pseudonym(self, annotator: str) -> str:
        """The annotator's name outside: the first 12 hex digits of HMAC-SHA256 under the project's
        key.

        The same in every export of a project, another in every project, and no way back without the
        key.
        """
        return hmac.new(bytes.fromhex(self.key), annotator.encode(), hashlib.sha256).hexdigest()[
            :12
        ]

    def content_hash(self) -> str:
        """SHA-256 of everything that a trainer or an export reads: items, and who said what of
        them."""
        digest = hashlib.sha256()
        for entry in self.entries:
            parts = [
                entry.item_id,
                [dict(m) for m in entry.prompt.messages],
                dict(entry.prompt.columns),
            ]
            _feed(
                digest,
                [
                    *parts,
                    entry.candidates,
                    entry.sources,
                    entry.kind,
                    entry.part,
                    entry.gold is not None,
                ],
            )
            if entry.traces:
                _feed(digest, dict(entry.traces))
        for one in self.answers:
            said = [
                one.item_id,
                one.annotator,
                one.annotator_kind,
                one.source,
                one.answer.kind,
                one.answer.presented,
            ]
            _feed(digest, [*said, one.answer.ranks, one.answer.skipped, one.answer.payload()])
        return digest.hexdigest()


def take_snapshot(store: Opened, project: str) -> Snapshot:
    """The project as one transaction sees it. Raises UserError if there is none of this name."""
    with Session(store.engine) as session:
        row = _project(session, project)
        settings = settings_of(row.settings)
        items = session.scalars(
            select(Item).where(Item.project_id == row.id).order_by(Item.id)
        ).all()
        entries = tuple(_entry(item, settings) for item in items)
        query = (
            select(Annotation, Annotator.name, Annotator.kind)
            .join(Item, Annotation.item_id == Item.id)
            .join(Annotator, Annotation.annotator_id == Annotator.id)
            .where(Item.project_id == row.id)
            .order_by(Item.id, Annotator.name, Annotation.id)
        )
        versions = session.scalars(
            select(Version).where(Version.project_id == row.id).order_by(Version.number)
        ).all()
        renamed = {known.id: renamed_since(versions, known.id) for known in versions}
        records = {
            v.id: VersionRecord(v.number, v.schema, v.guidelines, v.created_at) for v in versions
        }
        by_row = {item.id: entry for item, entry in zip(items, entries, strict=True)}
        answers = tuple(
            _labelled(
                said,
                by_row[said.item_id],
                name,
                kind,
                records,
                renamed.get(said.version_id or 0, {}),
            )
            for said, name, kind in session.execute(query)
        )
        return Snapshot(
            row.name, row.guidelines, settings, entries, answers, row.pseudonym_key or "", records
        )


def with_key(store: Opened, project: str) -> Snapshot:
    """`take_snapshot` of a project that has a pseudonym key; one is made, and kept, if there is
    none yet."""
    with _writing(store) as session:
        row = _project(session, project)
        if row.pseudonym_key is None:
            fresh = secrets.token_hex(32)
            # Of two exports at once the first to write decides.
            session.execute(
                update(Project)
                .where(Project.id == row.id, Project.pseudonym_key.is_(None))
                .values(pseudonym_key=fresh)
            )
    return take_snapshot(store, project)


def state_of(store: Opened, project: str) -> tuple[int, int, int, str]:
    """(items, answers, greatest answer id, a hash of the settings): cheap to ask, and changed
    whenever an answer came in."""
    with Session(store.engine) as session:
        row = _project(session, project)
        answers = select(func.count(Annotation.id), func.max(Annotation.id)).join(
            Item, Annotation.item_id == Item.id
        )
        count, last = session.execute(answers.where(Item.project_id == row.id)).one()
        items = session.scalar(select(func.count(Item.id)).where(Item.project_id == row.id))
        digest = hashlib.sha256(json.dumps(row.settings, sort_keys=True).encode()).hexdigest()
        return int(items or 0), int(count), int(last or 0), digest


def add_labelled(
    store: Opened,
    project: str,
    items: Sequence[LabelledItem],
    *,
    settings: Settings | None = None,
    workers: str = "",
) -> dict[str, int]:
    """Put items and what was said of them into a project, which is made (with `settings`) if there
    is none of this name.

    An item whose id is there already keeps its candidates and gets the labels of annotators who
    have not answered it. People's labels that disagree are a disagreement like any other. `workers`
    goes before the annotators' names: the names in a file are not those of accounts here. All in
    one transaction. Returns how many "items" and "labels" are new, and how many of either were
    there already ("known").

    Raises UserError for an item that is there with other candidates, and for a label that does not
    fit its item.
    """
    counts = {"items": 0, "labels": 0, "known": 0}
    with _writing(store) as session:
        row = session.scalar(select(Project).where(Project.name == project))
        if row is None:
            row = Project(name=project, settings=(settings or Settings()).model_dump(mode="json"))
            session.add(row)
        own = renew(session, row)
        # of strengths that come without their scale
        unknown = max(scale_in(items), scale_of(own.schema))
        dispute_below = settings_of(row.settings).dispute_below
        touched: dict[int, Item] = {}
        known = {
            item.external_id: item
            for item in session.scalars(select(Item).where(Item.project_id == row.id))
        }
        people = {one.name: one for one in session.scalars(select(Annotator))}
        answered = _answered(session, row.id)
        for one in items:
            item = known.get(one.prompt.id)
            if item is None:
                item = _new_item(session, row, one)
                known[one.prompt.id] = item
                counts["items"] += 1
            elif tuple(c.text for c in item.candidates) != one.candidates:
                raise UserError(
                    f'item "{one.prompt.id}" is in the project "{project}" with other candidates.',
                    hint="Give it another id, or import into another project.",
                )
            else:
                counts["known"] += 1
            for given in one.opinions:
                opinion = replace(given, annotator=f"{workers}{given.annotator}")
                if (item.id, opinion.annotator) in answered:
                    counts["known"] += 1
                    continue
                answered.add((item.id, opinion.annotator))
                if opinion.annotator not in people:
                    people[opinion.annotator] = Annotator(
                        name=opinion.annotator, kind=opinion.annotator_kind
                    )
                    session.add(people[opinion.annotator])
                    session.flush()
                made = _annotation(item.id, people[opinion.annotator].id, one, opinion)
                made.version_id = own.id
                if opinion.kind in ("pairwise", "chat"):
                    made.version_id = for_scale(session, row, opinion.scale or unknown).id
                session.add(made)
                if (
                    opinion.annotator_kind != "ai"
                ):  # models label beside people and take no place of theirs
                    item.slots = max(0, item.slots - 1)
                counts["labels"] += 1
                touched[item.id] = item
        _mark_disagreements(session, touched.values(), dispute_below)
    return counts


def _mark_disagreements(session: Session, items: Iterable[Item], below: float) -> None:
    """Items on which people differ, and on which nobody has decided, wait for a reviewer."""
    session.flush()
    for item in items:
        rows = session.execute(
            select(Annotation, Annotator.kind)
            .join(Annotator, Annotator.id == Annotation.annotator_id)
            .where(Annotation.item_id == item.id, Annotation.skipped.is_(None))
        ).all()
        said = [
            answer_from(row.kind, row.payload, presented=row.presented, ranks=row.ranks)
            for row, kind in rows
            if kind != "ai"
        ]
        if not any(row.source == "adjudication" for row, _ in rows):
            item.disputed = is_disputed(said, below=below)


def add_answers(
    store: Opened, project: str, annotator: str, answers: Sequence[tuple[str, Answer]]
) -> int:
    """Record a known annotator's answers to items (by id) beside the places of others; returns how
    many are new.

    No lease is needed and no place at an item is taken. Answered items are left as they are.
    """
    new = 0
    with _writing(store) as session:
        row = _project(session, project)
        who = session.scalars(select(Annotator).where(Annotator.name == annotator)).one()
        for item_id, said in answers:
            item = session.scalars(
                select(Item).where(Item.project_id == row.id, Item.external_id == item_id)
            ).one()
            mine = select(Annotation.id).where(
                Annotation.item_id == item.id, Annotation.annotator_id == who.id
            )
            if session.scalar(mine) is not None:
                continue
            session.add(
                Annotation(
                    item_id=item.id, annotator_id=who.id, presented=list(said.presented),
                    ranks=None if said.ranks is None else list(said.ranks), skipped=said.skipped,
                    kind=said.kind, payload=said.payload(), version_id=row.version_id,
                )
            )  # fmt: skip
            session.add(Event(what="answered", item_id=item.id, annotator_id=who.id, lease=None))
            new += 1
    return new


@contextmanager
def _writing(store: Opened) -> Iterator[Session]:
    """One transaction that writes. On SQLite it takes the lock at once: begun as a reader it could
    not become a writer once another process had written."""
    with Session(store.engine) as session, session.begin():
        if store.engine.dialect.name == "sqlite":
            session.connection().exec_driver_sql("BEGIN IMMEDIATE")
        yield session


def _annotation(item_id: int, annotator_id: int, one: LabelledItem, opinion: Opinion) -> Annotation:
    if opinion.kind not in KINDS:
        raise UserError(
            f'item "{one.prompt.id}": "{opinion.kind}" is no kind of task.', field="kind"
        )
    if opinion.ranks is not None and len(opinion.ranks) != len(one.candidates):
        problem = (
            f'item "{one.prompt.id}" has {len(one.candidates)} candidates but {len(opinion.ranks)}'
            " ranks."
        )
        raise UserError(problem, field="ranks")
    return Annotation(
        item_id=item_id,
        annotator_id=annotator_id,
        presented=list(
            opinion.presented if opinion.presented is not None else range(len(one.candidates))
        ),
        ranks=None if opinion.ranks is None else list(opinion.ranks),
        skipped=None,
        seconds=opinion.seconds,
        created_at=opinion.created_at or now(),
        kind=opinion.kind,
        payload=dict(opinion.payload),
        source=opinion.source,
    )


def _new_item(session: Session, project: Project, one: LabelledItem) -> Item:
    settings = settings_of(project.settings)
    item = Item(
        project_id=project.id,
        external_id=one.prompt.id,
        messages=[dict(m) for m in one.prompt.messages],
        columns=dict(one.prompt.columns),
        kind=one.kind or settings.kind,
        slots=settings.overlap,
    )
    sources = one.sources or ("",) * len(one.candidates)
    item.candidates = [
        Candidate(position=i, text=text, source=source, messages=_turns_of(one, text))
        for i, (text, source) in enumerate(zip(one.candidates, sources, strict=True))
    ]
    session.add(item)
    session.flush()
    return item


def _turns_of(one: LabelledItem, text: str) -> list[dict[str, Any]] | None:
    return [dict(message) for message in one.traces[text]] if text in one.traces else None


def _answered(session: Session, project_id: int) -> set[tuple[int, str]]:
    query = select(Annotation.item_id, Annotator.name).join(
        Annotator, Annotation.annotator_id == Annotator.id
    )
    query = query.join(Item, Annotation.item_id == Item.id).where(Item.project_id == project_id)
    return {(item, name) for item, name in session.execute(query)}


def _entry(item: Item, settings: Settings) -> Entry:
    kind = item.kind or settings.kind
    prompt = Prompt(item.external_id, tuple(item.messages), dict(item.columns))
    texts, sources = (
        tuple(c.text for c in item.candidates),
        tuple(c.source for c in item.candidates),
    )
    traces = {c.text: tuple(c.messages) for c in item.candidates if c.messages}
    return Entry(
        item.external_id, prompt, texts, sources, kind, item.part, item.gold, item.disputed, traces
    )


def _labelled(
    row: Annotation,
    entry: Entry,
    name: str,
    kind: str,
    versions: Mapping[int, VersionRecord],
    renamed: Mapping[str, Mapping[str, str]],
) -> Labelled:
    payload = with_new_names(row.payload, renamed)
    answer = answer_from(
        row.kind, payload, presented=row.presented, ranks=row.ranks, skipped=row.skipped
    )
    version = versions.get(row.version_id or 0)
    return Labelled(
        entry.item_id,
        name,
        kind,
        answer,
        row.seconds,
        row.created_at,
        entry.gold is not None,
        row.source,  # type: ignore[arg-type]
        entry.part,  # type: ignore[arg-type]
        None if version is None else scale_of(version.schema),
        None if version is None else row.version_id,
    )


def _project(session: Session, name: str) -> Project:
    found = session.scalar(select(Project).where(Project.name == name))
    if found is None:
        known = ", ".join(session.scalars(select(Project.name).order_by(Project.name))) or "none"
        raise UserError(f'there is no project "{name}".', hint=f"Projects here: {known}.")
    return found


def _feed(digest: Any, value: Any) -> None:
    digest.update(
        json.dumps(value, sort_keys=True, ensure_ascii=False, default=str).encode(
            "utf-8", "surrogatepass"
        )
    )
    digest.update(b"\n")
