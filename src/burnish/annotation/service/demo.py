"""A project to look at: 60 items of all kinds, and a simulated day of labels given through the
service itself."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import numpy as np
from sqlalchemy import select, update

from burnish.annotation.service import accounts, people, projects, work
from burnish.annotation.service.accounts import Caller
from burnish.annotation.service.database import Database
from burnish.annotation.service.showing import Held
from burnish.annotation.service.submission import Submission
from burnish.annotation.tables import Annotation, Item, Lease, Project, now
from burnish.errors import UserError

GUIDELINES = """# What a good answer is

- **Helpful**: it answers what was asked, at once.
- **Honest**: it makes nothing up.
- **Harmless**: it hurts nobody.

A short answer that says everything beats a long one. Ignore small slips of spelling. If both answers are equally good, say so.
"""  # noqa: E501
PROJECT = "demo"
_QUALITY = {"careful": 1.0, "chatty": 0.65, "hasty": 0.35, "empty": 0.0}
_PEOPLE = (("Ada", 0.08), ("Ben", 0.12), ("Cleo", 0.15), ("Dov", 0.3), ("Eve", 0.2))
_KINDS = (
    ("pairwise",) * 26
    + ("ranking",) * 14
    + ("likert",) * 10
    + ("correction",) * 5
    + ("demonstration",) * 5
)


def demo_rows(dialogues: Sequence[tuple[str, str]]) -> list[dict[str, Any]]:
    """60 items from 62 pairs of a question and a good answer, with worse answers made from the good
    one; two more to train on."""
    if len(dialogues) < 62:
        raise UserError("the demo needs 62 dialogues.")
    rows = [_row(n, kind, *dialogues[n]) for n, kind in enumerate(_KINDS)]
    for n, (question, reply) in enumerate(dialogues[60:62]):
        good, bad = (
            {"text": reply, "source": "careful"},
            {"text": "I cannot help with that.", "source": "empty"},
        )
        rows.append(
            {
                "id": f"training-{n + 1}",
                "prompt": question,
                "kind": "pairwise",
                "part": "training",
                "gold": {"strength": 2},
                "candidates": [good, bad],
                "explanation": (
                    "The first **answers the question**; the other refuses for no reason."
                ),
            }
        )
    return rows


def _row(number: int, kind: str, question: str, reply: str) -> dict[str, Any]:
    variants = {
        "careful": reply,
        "chatty": (
            f"Certainly! That is a great question. Let me tell you: {reply} Is there anything else"
            " you would like to know?"
        ),
        "hasty": " ".join(reply.split()[: max(2, len(reply.split()) // 3)]) + " …",
        "empty": "It depends.",
    }
    wanted = {
        "pairwise": (("careful", "chatty"), ("careful", "hasty"), ("chatty", "hasty"))[number % 3],
        "ranking": tuple(variants)[: 3 + number % 2],
        "likert": ("careful", "hasty"),
        "correction": ("hasty",),
        "demonstration": (),
    }[kind]
    return {
        "id": f"item-{number + 1:02}",
        "prompt": question,
        "kind": kind,
        "candidates": [{"text": variants[source], "source": source} for source in wanted],
    }


def is_there(database: Database) -> bool:
    """Whether the database has the demo's project."""
    with database.read() as session:
        return session.scalar(select(Project.id).where(Project.name == PROJECT)) is not None


def make_demo(
    database: Database, dialogues: Sequence[tuple[str, str]], *, password: str, seed: int = 0
) -> str:
    """Fill the database; returns an invitation's secret. The owner is "owner", with the password
    given."""
    accounts.create_user(database, "owner", password, creates_projects=True)
    owner = _caller(database, "owner")
    settings = {
        "kind": "pairwise",
        "steps": 4,
        "overlap": 3,
        "price_per_task": 0.4,
        "pass_mark": 0.5,
    }
    project = projects.create(database, owner, PROJECT, guidelines=GUIDELINES, settings=settings)
    projects.add_items(database, owner, project, demo_rows(dialogues))
    rng = np.random.default_rng(seed)
    invitation = people.invite(database, owner, project, uses=len(_PEOPLE) + 20)
    panel = []
    for name, noise in _PEOPLE:
        accounts.create_user(database, name, None, kind="simulated")
        panel.append((_caller(database, name), noise))
        people.join(database, invitation, panel[-1][0])
    _label(database, project, panel, rng)
    _spread_over_a_day(database, project, rng)
    return invitation


def _label(
    database: Database, project: int, panel: list[tuple[Caller, float]], rng: np.random.Generator
) -> None:
    """In turns, until each has done three quarters of what there is to do."""
    for _ in range(29):
        for caller, noise in panel:
            held = work.take(database, caller, project)
            if held is None:
                continue
            with database.read() as session:
                item = session.get_one(Item, held.item_id)
                quality = [_QUALITY[c.source] for c in item.candidates]
            said = _opinion(held, quality, noise, rng)
            with (
                database.write() as session
            ):  # taken so long ago as the work is said to have lasted
                lease = session.get_one(Lease, held.lease)
                lease.taken_at -= timedelta(seconds=said.seconds or 0.0)
            work.answer(database, caller, held.lease, said)


def _opinion(
    held: Held, quality: list[float], noise: float, rng: np.random.Generator
) -> Submission:
    seen = [quality[p] + noise * float(rng.gumbel()) for p in held.presented]
    seconds = float(rng.gamma(4.0, 6.0) + sum(len(t.split()) for t in held.texts) / 4)
    if rng.random() < 0.02:
        return Submission(skipped="I do not know the subject", seconds=seconds)
    if held.kind == "pairwise":
        gap = seen[0] - seen[1]
        strength = 0 if abs(gap) < 0.03 else int(np.sign(gap)) * (1 if abs(gap) < 0.35 else 2)
        return Submission(strength=strength, seconds=seconds)
    if held.kind == "ranking":
        order = sorted(seen, reverse=True)
        return Submission(ranks=[1 + order.index(value) for value in seen], seconds=seconds)
    if held.kind == "likert":
        names = [attribute.name for attribute in held.settings.attributes]
        ratings = {
            n: [int(np.clip(round(1 + 4 * value + rng.normal(0, 0.5)), 1, 5)) for value in seen]
            for n in names
        }
        return Submission(ratings=ratings, seconds=seconds)  # type: ignore[arg-type]
    if held.kind == "correction":
        return Submission(
            text=held.texts[0].removesuffix(" …") + ", and that is all there is to it.",
            seconds=seconds,
        )
    return Submission(
        text="Look it up in a book you trust, then ask somebody who has done it.", seconds=seconds
    )


def _spread_over_a_day(database: Database, project: int, rng: np.random.Generator) -> None:
    """Give the answers the times of a working day that ends now."""
    with database.write() as session:
        ids = list(
            session.scalars(
                select(Annotation.id)
                .join(Item, Item.id == Annotation.item_id)
                .where(Item.project_id == project)
                .order_by(Annotation.id)
            )
        )
        start, offsets = (
            now() - timedelta(hours=9),
            np.sort(rng.uniform(0, 9 * 3600, size=len(ids))),
        )
        changes = [
            {"id": i, "created_at": start + timedelta(seconds=float(o))}
            for i, o in zip(ids, offsets, strict=True)
        ]
        session.execute(update(Annotation), changes)


def _caller(database: Database, name: str) -> Caller:
    with database.write() as session:
        secret = accounts.open_session(session, accounts.account_of(session, name), address="demo")
    found = accounts.caller_of_session(database, secret)
    assert found is not None
    return found
