"""Telling other programs of milestones. A message is written in the transaction that causes it, so
none is lost or doubled; a thread of the server sends what is due and tries again, later each time,
for some hours."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import httpx
from sqlalchemy import func, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from burnish.annotation.service.database import Database
from burnish.annotation.service.refusals import NotFoundError
from burnish.annotation.settings import Settings
from burnish.annotation.tables import Delivery, Item, Lease, Project, Webhook, now
from burnish.errors import UserError
from burnish.jsonio import dumps, undefined_as_null

_ATTEMPTS = 10
# doubles each time: 10 attempts take about four hours and a quarter
_FIRST_PAUSE = timedelta(seconds=30)


def add(session: Session, project_id: int, url: str) -> Webhook:
    """A new webhook with a secret of its own. Raises UserError if the address is none for HTTP."""
    try:
        parts = urlsplit(url)
        known = bool(parts.hostname) and parts.scheme in ("http", "https")
    except ValueError:
        known = False
    if not known or len(url) > 1000:
        raise UserError("a webhook's address begins with http:// or https://.", field="url")
    webhook = Webhook(project_id=project_id, url=url, secret=secrets.token_hex(24))
    session.add(webhook)
    session.flush()
    return webhook


def remove(session: Session, project_id: int, webhook_id: int) -> None:
    """A project's webhook, with its messages. Raises NotFoundError if there is none."""
    found = session.scalar(
        select(Webhook).where(Webhook.id == webhook_id, Webhook.project_id == project_id)
    )
    if found is None:
        raise NotFoundError("there is no such webhook.")
    session.delete(found)


def announce_completed(session: Session, project_id: int, settings: Settings, item: Item) -> None:
    """After an item has got its last answer: tell of milestones that are reached, and of a
    disagreement."""
    if session.scalar(select(Webhook.id).where(Webhook.project_id == project_id).limit(1)) is None:
        return
    share = share_done(session, project_id, settings)
    for mark in settings.milestones:
        if 100 * share >= mark:
            announce(
                session, project_id, f"milestone:{mark}", {"event": "milestone", "percent": mark}
            )
    if item.disputed:
        body = {"event": "disputed", "item": item.external_id}
        announce(session, project_id, f"disputed:{item.id}", body)


def share_done(session: Session, project_id: int, settings: Settings) -> float:
    """Answers that are there of the answers that are wanted, over items without a known answer."""
    work = (Item.project_id == project_id, Item.part == "work", Item.gold.is_(None))
    items, slots = session.execute(
        select(func.count(Item.id), func.coalesce(func.sum(Item.slots), 0)).where(*work)
    ).one()
    leases = (
        session.scalar(
            select(func.count(Lease.id)).join(Item, Item.id == Lease.item_id).where(*work)
        )
        or 0
    )
    wanted = items * settings.overlap
    return max(0.0, 1.0 - (slots + leases) / wanted) if wanted else 0.0


def announce(session: Session, project_id: int, key: str, body: dict[str, Any]) -> None:
    """Write a message for each webhook of the project; one whose key was written before is not
    written again."""
    name = session.scalar(select(Project.name).where(Project.id == project_id))
    insert = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
    moment = now()
    for webhook_id in session.scalars(select(Webhook.id).where(Webhook.project_id == project_id)):
        values = {
            "webhook_id": webhook_id,
            "key": key[:200],
            "body": {**body, "project": name, "at": moment.isoformat()},
            "created_at": moment,
            "attempts": 0,
            "due_at": moment,
            "status": "",
        }
        session.execute(insert(Delivery).values(values).on_conflict_do_nothing())


def signature(secret: str, body: bytes) -> str:
    """What the header `X-Burnish-Signature` holds: the receiver computes it too and compares."""
    return "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def deliver(database: Database, *, post: Callable[..., httpx.Response] = httpx.post) -> int:
    """Send what is due; returns how many were received (any status of 200 to 299)."""
    with database.read() as session:
        due = session.execute(
            select(Delivery.id, Delivery.body, Webhook.url, Webhook.secret)
            .join(Webhook, Webhook.id == Delivery.webhook_id)
            .where(Delivery.due_at <= now())
            .order_by(Delivery.id)
            .limit(50)
        ).all()
    received = 0
    for row in due:
        body = dumps(undefined_as_null(row.body), sort_keys=True).encode()
        headers = {
            "Content-Type": "application/json",
            "X-Burnish-Signature": signature(row.secret, body),
        }
        try:
            status = str(
                post(
                    row.url, content=body, headers=headers, timeout=10.0, follow_redirects=False
                ).status_code
            )
        except httpx.HTTPError as error:
            status = type(error).__name__
        received += _noted(database, row.id, status)
    return received


def _noted(database: Database, delivery_id: int, status: str) -> bool:
    well = len(status) == 3 and status.startswith("2")
    with database.write() as session:
        row = session.get(Delivery, delivery_id)
        if row is not None:
            row.attempts += 1
            row.status = status[:200]
            again = not well and row.attempts < _ATTEMPTS
            row.due_at = now() + _FIRST_PAUSE * 2 ** (row.attempts - 1) if again else None
    return well


class Background(threading.Thread):
    """Calls a function every few seconds until it is stopped. One that fails is reported and called
    again."""

    def __init__(
        self, work: Callable[[], object], *, every: float, say: Callable[[str], None]
    ) -> None:
        super().__init__(daemon=True)
        self._work, self._every, self._say = work, every, say
        self._ended = threading.Event()

    def run(self) -> None:
        """Until `stop`."""
        while not self._ended.wait(self._every):
            try:
                self._work()
            except Exception as error:  # the server must go on; what failed is tried again
                self._say(f"background work failed and is tried again: {error}")

    def stop(self) -> None:
        """End it, after the call that is under way."""
        self._ended.set()
        self.join(timeout=5)
