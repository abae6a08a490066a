"""Conversations with a model, two candidates at each turn. They lie in the lease, so a restart
loses no turn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import select

from burnish.annotation.assignment import shuffled
from burnish.annotation.service.accounts import Caller
from burnish.annotation.service.choosing import desk
from burnish.annotation.service.database import Database
from burnish.annotation.service.refusals import ConflictError, NotFoundError
from burnish.annotation.service.showing import Held, held_of
from burnish.annotation.service.work import gone, locked
from burnish.annotation.settings import settings_of
from burnish.annotation.tables import Item, Lease, Project
from burnish.errors import UserError
from burnish.records import Message

Generate = Callable[[Sequence[Message], int], Sequence[str]]
"""(conversation that waits for the assistant, how many candidates) -> their texts. Handed in; the
service runs no model."""

CANDIDATES = 2
_MOST_TURNS = 40


def say(
    database: Database, caller: Caller, lease_id: str, text: str, generate: Generate | None
) -> Held:
    """Add the person's turn and the model's candidates for the answer. Where the item's
    conversation waits for the assistant already, the model answers that first: `text` is then
    empty.

    Raises UserError where no model is served or the turn is not the person's, ConflictError while
    the last turn waits for a choice.
    """
    caller.needs("label")
    if generate is None:
        raise UserError(
            "this server serves no model to chat with.", hint="Start it with --chat-model."
        )
    messages, turns = _conversation(database, caller, lease_id)
    waits = bool(messages) and messages[-1]["role"] in ("user", "tool")
    if waits == bool(text.strip()):
        problem = (
            "the model answers the conversation first: send no text." if waits else "say something."
        )
        raise UserError(problem, field="text")
    asked: list[Message] = messages if waits else [*messages, {"role": "user", "content": text}]
    candidates = list(generate(asked, CANDIDATES))
    with database.write() as session:
        found = locked(session, caller, lease_id)
        if found is None:
            raise gone(session, caller, lease_id)
        at, lease, _ = found
        chat = list(lease.chat or ())
        if len(chat) != turns:
            raise ConflictError("the conversation has gone on meanwhile; load the page again.")
        order = shuffled(len(candidates), lease.id, turns)
        new = {
            "user": "" if waits else text,
            "candidates": candidates,
            "presented": list(order),
            "chosen": None,
        }
        lease.chat = [*chat, {**new, "strength": 0, "both_bad": False}]
        session.flush()
        return held_of(session, at, lease)


def choose(
    database: Database,
    caller: Caller,
    lease_id: str,
    *,
    strength: int,
    both_bad: bool,
    go_on_with: int | None,
) -> Held:
    """The choice between the last turn's candidates, by place: strength above 0 favours place 0.

    `go_on_with` is the place whose answer the conversation goes on with; without it, the favoured
    one.
    """
    caller.needs("label")
    with database.write() as session:
        found = locked(session, caller, lease_id)
        if found is None:
            raise gone(session, caller, lease_id)
        at, lease, _ = found
        chat = [dict(turn) for turn in lease.chat or ()]
        if not chat:
            raise ConflictError("there is nothing to choose from yet.")
        if abs(strength) > at.settings.strength or (
            strength == 0 and not (both_bad or at.settings.ties)
        ):
            raise UserError(
                f"strength goes from {-at.settings.strength} to {at.settings.strength}.",
                field="strength",
            )
        if both_bad and (strength != 0 or not at.settings.both_bad):
            raise UserError(
                "both bad is not offered here, or goes with no preference.", field="both_bad"
            )
        turn = chat[-1]
        place = go_on_with if go_on_with is not None else int(strength < 0)
        if not 0 <= place < len(turn["presented"]):
            raise UserError("there is no such answer.", field="go_on_with")
        first_shown = turn["presented"][0]
        turn |= {"strength": strength if first_shown == 0 else -strength, "both_bad": both_bad}
        turn["chosen"] = turn["presented"][place]
        lease.chat = chat
        session.flush()
        return held_of(session, at, lease)


def _conversation(database: Database, caller: Caller, lease_id: str) -> tuple[list[Message], int]:
    with database.read() as session:
        row = session.execute(
            select(Lease.chat, Item.messages, Item.kind, Item.project_id, Project.settings)
            .join(Item, Item.id == Lease.item_id)
            .join(Project, Project.id == Item.project_id)
            .where(Lease.id == lease_id, Lease.annotator_id == caller.annotator_id)
        ).first()
        if row is None:
            raise NotFoundError("there is no such task in your hands.")
        desk(session, caller, row.project_id)
    if (row.kind or settings_of(row.settings).kind) != "chat":
        raise ConflictError("this task is no conversation.")
    chat: list[dict[str, Any]] = row.chat or []
    if chat and chat[-1]["chosen"] is None:
        raise ConflictError("choose between the answers first.")
    if len(chat) >= _MOST_TURNS:
        raise ConflictError("the conversation is long enough; finish it.")
    messages: list[Message] = list(row.messages)
    for turn in chat:
        if turn["user"]:
            messages.append({"role": "user", "content": turn["user"]})
        messages.append({"role": "assistant", "content": turn["candidates"][turn["chosen"]]})
    return messages, len(chat)
