"""The annotation store: what is to be ranked, and how it was ranked. Every method is one
transaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from burnish.annotation.db import Annotation, Annotator, Candidate, Item, Project, open_database
from burnish.annotation.records import Labelled, answer_from
from burnish.annotation.settings import settings_of
from burnish.annotation.versions import renew
from burnish.errors import UserError
from burnish.records import Prompt


@dataclass(frozen=True, slots=True)
class Task:
    """An item as an annotator meets it: candidates by position."""

    item_id: str
    prompt: Prompt
    candidates: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Ranking:
    """One answer: `ranks[i]` is the place of candidate i, 1 the best, equal ranks ties; `presented`
    the order of showing."""

    item_id: str
    annotator: str
    presented: tuple[int, ...]
    ranks: tuple[int, ...]


class Store:
    """A database of annotations, opened at a path or SQLAlchemy URL."""

    def __init__(self, place: str | Path) -> None:
        self._engine: Engine = open_database(place)

    @property
    def engine(self) -> Engine:
        """The database, for modules that read or write it in ways of their own."""
        return self._engine

    def close(self) -> None:
        """Let go of the database."""
        self._engine.dispose()

    def add_project(self, name: str, *, guidelines: str = "") -> None:
        """Make sure that there is a project of this name."""
        with Session(self._engine) as session, session.begin():
            if session.scalar(select(Project).where(Project.name == name)) is None:
                project = Project(name=name, guidelines=guidelines)
                session.add(project)
                renew(session, project)

    def add_items(
        self, project: str, items: Sequence[tuple[Prompt, Sequence[str]]], *, source: str = ""
    ) -> None:
        """Put prompts with their candidates into a project; one whose prompt id is there already is
        left as it is.

        Raises UserError if an item has fewer than two candidates.
        """
        with Session(self._engine) as session, session.begin():
            found = _project(session, project)
            project_id, settings = found.id, settings_of(found.settings)
            known = set(
                session.scalars(select(Item.external_id).where(Item.project_id == project_id))
            )
            for prompt, texts in items:
                if len(texts) < 2:
                    raise UserError(
                        f"prompt {prompt.id!r} has {len(texts)} candidates; ranking needs at least"
                        " two."
                    )
                if prompt.id in known:
                    continue
                candidates = [
                    Candidate(position=i, text=text, source=source) for i, text in enumerate(texts)
                ]
                row = Item(
                    project_id=project_id,
                    external_id=prompt.id,
                    messages=[dict(m) for m in prompt.messages],
                    columns=dict(prompt.columns),
                    kind=settings.kind,
                    slots=settings.overlap,
                )
                row.candidates = candidates
                session.add(row)

    def add_annotator(self, name: str, *, kind: str) -> None:
        """Make sure that there is an annotator of this name."""
        with Session(self._engine) as session, session.begin():
            if session.scalar(select(Annotator).where(Annotator.name == name)) is None:
                session.add(Annotator(name=name, kind=kind))

    def kind_of(self, annotator: str) -> str | None:
        """An annotator's kind: "person", "simulated" or "ai"; None for a name that is unknown."""
        with Session(self._engine) as session:
            return session.scalar(select(Annotator.kind).where(Annotator.name == annotator))

    def tasks(self, project: str) -> list[Task]:
        """All items of a project, in the order they came."""
        with Session(self._engine) as session:
            items = session.scalars(
                select(Item)
                .where(Item.project_id == _project(session, project).id)
                .order_by(Item.id)
            )
            return [_task(item) for item in items]

    def answered(self, project: str, annotator: str) -> set[str]:
        """Ids of the items this annotator has ranked or skipped."""
        with Session(self._engine) as session:
            query = (
                select(Item.external_id)
                .join(Annotation, Annotation.item_id == Item.id)
                .join(Annotator, Annotation.annotator_id == Annotator.id)
            )
            return set(
                session.scalars(
                    query.where(
                        Item.project_id == _project(session, project).id,
                        Annotator.name == annotator,
                    )
                )
            )

    def submit(self, project: str, ranking: Ranking, *, seconds: float | None = None) -> None:
        """Record a ranking. Raises UserError if it does not fit the item, or the annotator has
        answered the item before."""
        with Session(self._engine) as session, session.begin():
            item = session.scalar(
                select(Item).where(
                    Item.project_id == _project(session, project).id,
                    Item.external_id == ranking.item_id,
                )
            )
            if item is None:
                raise UserError(f'there is no item "{ranking.item_id}" in project "{project}".')
            _check(ranking, len(item.candidates))
            annotator = session.scalar(select(Annotator).where(Annotator.name == ranking.annotator))
            if annotator is None:
                raise UserError(f'there is no annotator "{ranking.annotator}".')
            if (
                session.scalar(
                    select(Annotation.id).where(
                        Annotation.item_id == item.id, Annotation.annotator_id == annotator.id
                    )
                )
                is not None
            ):
                raise UserError(
                    f'annotator "{ranking.annotator}" has answered item "{ranking.item_id}"'
                    " already."
                )
            session.add(
                Annotation(
                    item_id=item.id,
                    annotator_id=annotator.id,
                    presented=list(ranking.presented),
                    ranks=list(ranking.ranks),
                    seconds=seconds,
                    version_id=_project(session, project).version_id,
                )
            )

    def rankings(self, project: str) -> list[Ranking]:
        """Every ranking of a project's work, by item and then by annotator's name.

        Skipped items have none. Items with a known answer and reviewers' decisions are left out:
        see `labelled`.
        """
        query = (
            select(Item.external_id, Annotator.name, Annotation.presented, Annotation.ranks)
            .join(Annotation, Annotation.item_id == Item.id)
            .join(Annotator, Annotation.annotator_id == Annotator.id)
            .where(Item.part == "work", Item.gold.is_(None), Annotation.source == "label")
            .order_by(Item.id, Annotator.name)
        )
        with Session(self._engine) as session:
            rows = session.execute(
                query.where(
                    Item.project_id == _project(session, project).id, Annotation.skipped.is_(None)
                )
            )
            return [
                Ranking(item, name, tuple(presented), tuple(ranks))
                for item, name, presented, ranks in rows
                if ranks is not None
            ]

    def labelled(self, project: str) -> list[Labelled]:
        """Every answer of a project with all it holds, by item and then by annotator's name: skips,
        gold, decisions too."""
        query = (
            select(
                Annotation, Item.external_id, Item.gold, Item.part, Annotator.name, Annotator.kind
            )
            .join(Item, Annotation.item_id == Item.id)
            .join(Annotator, Annotation.annotator_id == Annotator.id)
            .order_by(Item.id, Annotator.name, Annotation.id)
        )
        with Session(self._engine) as session:
            rows = session.execute(query.where(Item.project_id == _project(session, project).id))
            return [
                Labelled(
                    item_id=item_id,
                    annotator=name,
                    annotator_kind=kind,
                    answer=answer_from(
                        row.kind,
                        row.payload,
                        presented=row.presented,
                        ranks=row.ranks,
                        skipped=row.skipped,
                    ),
                    seconds=row.seconds,
                    created_at=row.created_at,
                    gold=gold is not None,
                    source=row.source,  # type: ignore[arg-type]
                    part=part,  # type: ignore[arg-type]
                )
                for row, item_id, gold, part, name, kind in rows
            ]


def _project(session: Session, name: str) -> Project:
    found = session.scalar(select(Project).where(Project.name == name))
    if found is None:
        known = ", ".join(session.scalars(select(Project.name))) or "none"
        raise UserError(f'there is no project "{name}".', hint=f"Projects here: {known}.")
    return found


def _task(item: Item) -> Task:
    prompt = Prompt(item.external_id, tuple(item.messages), dict(item.columns))
    return Task(item.external_id, prompt, tuple(c.text for c in item.candidates))


def _check(ranking: Ranking, candidates: int) -> None:
    if sorted(ranking.presented) != list(range(candidates)):
        raise UserError(
            f'item "{ranking.item_id}" has {candidates} candidates; presented must name each once.',
            field="presented",
        )
    if len(ranking.ranks) != candidates or any(
        type(rank) is not int or rank < 1 for rank in ranking.ranks
    ):
        raise UserError(
            f'item "{ranking.item_id}" has {candidates} candidates; each needs a rank of 1 or'
            " more.",
            field="ranks",
        )
