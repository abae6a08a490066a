"""What the service's tests build on: accounts, rows, and a project with people in it."""

from __future__ import annotations

from burnish.annotation.service import accounts, projects
from burnish.annotation.service.accounts import Caller
from burnish.annotation.service.database import Database


def add_caller(database: Database, name: str, *, creates_projects: bool = False) -> Caller:
    """An account and its browser session."""
    with database.write() as session:
        account = accounts.add_account(session, name, None, creates_projects=creates_projects)
        secret = accounts.open_session(session, account, address="test")
    found = accounts.caller_of_session(database, secret)
    assert found is not None
    return found


def pair_row(name: object, **more: object) -> dict:
    return {
        "id": str(name),
        "prompt": f"Say {name}",
        "kind": "pairwise",
        "candidates": [f"first {name}", f"second {name}"],
        **more,
    }


class Bench:
    """A project with an owner and annotators, without HTTP."""

    def __init__(
        self, database: Database, *, annotators: int = 3, rows: list[dict] | None = None, **settings: object
    ) -> None:
        self.database = database
        self.owner = add_caller(database, "olga", creates_projects=True)
        self.project = projects.create(
            database, self.owner, "p", guidelines="Be fair.", settings={"kind": "pairwise", **settings}
        )
        projects.add_items(
            database, self.owner, self.project, rows if rows is not None else [pair_row(n) for n in range(4)]
        )
        self.people = [add_caller(database, f"ann{n}") for n in range(annotators)]
        secret = projects.invite(database, self.owner, self.project, uses=100)
        for person in self.people:
            projects.join(database, secret, person)
