"""axe-core finds nothing on any page: as a guest, an annotator, a reviewer, an owner and somebody
from a crowd platform, on a desk and on a phone, in English and in Arabic, light and dark."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from annotation_bench import Bench, Served, add_caller, echo, pair_row, png

from burnish.annotation.service import (
    accounts,
    browsing,
    crowd,
    images,
    notes,
    people,
    projects,
    resets,
    work,
)
from burnish.annotation.service.accounts import Caller
from burnish.annotation.service.showing import Held
from burnish.annotation.service.submission import Submission

CROWD = {"study": "S1", "completion_code": "C0DE", "consent": "You are **paid**."}
CALL = {"id": "1", "type": "function", "function": {"name": "sum", "arguments": {"a": 1}}}
TRACE = [
    {"role": "assistant", "content": "", "reasoning_content": "I add.", "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "1", "name": "sum", "content": "4 " * 400},
    {"role": "assistant", "content": "It is 4."},
]
LONG = "## Head\n\n" + "\n\n".join(f"{n}. A line with `code` and $x_{n}$." for n in range(60))
TABLE = "| a | b |\n|---|---|\n| 1 | [link](https://example.org) |\n\n> quoted\n\n```py\nx = 1\n```"
RUBRIC = [{"criterion": "Names a river.", "weight": 3}, {"criterion": "اسم", "weight": -1}]
SIZES = {"desk": {"width": 1200, "height": 900}, "phone": {"width": 390, "height": 844}}


def _rows(shows: str) -> list[dict[str, Any]]:
    work = [
        {"kind": "pairwise", "candidates": [LONG, TABLE], "scenario": "You are **tired**."},
        {"kind": "pairwise", "candidates": [{"messages": TRACE}, "no"], "id": "trace"},
        {"kind": "ranking", "candidates": [*"abcd"]},
        {"kind": "best_worst", "candidates": [*"abc"]},
        {"kind": "likert", "candidates": [shows, "b"]},
        {"kind": "rubric", "candidates": ["Rhine", "Paris"], "rubric": RUBRIC},
        {"kind": "correction", "candidates": ["teh", "x"]},
        {"kind": "demonstration"},
        {"kind": "chat"},
    ]
    made = [
        {"id": f"{row['kind']}-{n}", "prompt": f"Task {n}? {shows}", "priority": 20 - n, **row}
        for n, row in enumerate(work)
    ]
    teach = pair_row("t", part="training", gold={"strength": 2}, explanation="It is **so**.")
    return [*made, teach, pair_row("gold", gold={"strength": 1}), pair_row("last", priority=-9)]


SAID: dict[str, Callable[[Held], dict[str, Any]]] = {
    "pairwise": lambda held: {"strength": 1, "preferences": {"harmless": -1}},
    "ranking": lambda held: {"ranks": [1, 2, 3, 4]},
    "best_worst": lambda held: {"best": 0, "worst": 2},
    "likert": lambda held: {"ratings": {"helpful": [1, 5]}},
    "rubric": lambda held: {"verdicts": [[True, False], [False, True]]},
    "correction": lambda held: {"text": "the", "corrected": 0},
    "demonstration": lambda held: {"text": "An **answer**."},
}


class Place:
    """A server with projects in which something has happened."""

    def __init__(self, folder: Path) -> None:
        self.served = Served(str(folder / "a.sqlite"), generate=echo, **_sign_on())
        database = self.served.database
        settings = {
            "dimensions": [{"name": "harmless", "help": "does no harm"}], "overlap": 3,
            "attributes": [{"name": "helpful", "help": "does what was asked"}],
            "step_verdicts": "optional", "edit_winner": "optional", "turns": 1, "review_share": 1.0,
            "price_per_task": 0.5,
        }  # fmt: skip
        self.bench = Bench(database, annotators=4, rows=[], **settings)
        shows = images.add(database, self.bench.owner, self.bench.project, png(40, 30)).markdown
        projects.add_items(database, self.bench.owner, self.bench.project, _rows(shows))
        with database.write() as session:
            from burnish.annotation.tables import Member

            session.query(Member).update({"state": "active"})
        for person in self.bench.people[:3]:
            self._work(person)
        self.reviewer = add_caller(database, "rita")
        secret = people.invite(database, self.bench.owner, self.bench.project, role="reviewer")
        people.join(database, secret, self.reviewer)
        self.invitation = people.invite(database, self.bench.owner, self.bench.project, uses=9)
        accounts.set_password(database, "ann0", "correct horse battery")
        self.reset = resets.for_name(database, "ann0")
        notes.write(database, self.bench.people[0], self.bench.project, "What is **this**?")
        self.door = projects.create(
            database, self.bench.owner, "door", guidelines="# Be fair\n\n- so",
            settings={"kind": "pairwise", "overlap": 9, "quota": 1, **CROWD},
        )  # fmt: skip
        projects.add_items(
            database, self.bench.owner, self.door,
            [pair_row("t", part="training", gold={"strength": 2}, explanation="So."), pair_row(1)],
        )  # fmt: skip
        found = browsing.search(
            database, self.bench.owner, self.bench.project, browsing.Wanted(), limit=99
        )
        self.items = {row["external_id"]: row["id"] for row in found}

    def _work(self, person: Caller) -> None:
        """Answer whatever comes; chats are skipped."""
        while (held := work.take(self.bench.database, person, self.bench.project)) is not None:
            made = SAID.get(held.kind)
            given = Submission(skipped="other") if made is None else Submission(
                **made(held), seconds=5.0, critique="Because.",
                flags={"unsafe": [0]} if held.kind == "ranking" else {},
            )  # fmt: skip
            work.answer(self.bench.database, person, held.lease, given)


def _sign_on() -> dict[str, Any]:
    try:
        from burnish.annotation.sign_on.provider import Provider
        from burnish.annotation.sign_on.rules import read_sign_on

        given = {"issuer": "https://x.org", "client_id": "x", "allow": {"anybody": True}}
        return {"sign_on": Provider(read_sign_on(given))}
    except Exception:  # without Authlib there is no button to look at
        return {}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    made = Place(tmp_path_factory.mktemp("axe"))
    yield made
    made.served.stop()


@pytest.fixture(scope="module")
def axe() -> str:
    """The script of axe-core, from the wheel that carries it."""
    pytest.importorskip("axe_playwright_python", reason="axe-playwright-python is not installed")
    return (resources.files("axe_playwright_python") / "axe.min.js").read_text("utf-8")


class Visitor:
    """Somebody who looks at pages, and what axe says of each."""

    def __init__(self, chromium: Any, place: Place, axe: str, size: str, language: str) -> None:
        # the pages' own policy lets no script of others in
        self.context = chromium.new_context(
            viewport=SIZES[size], locale=language, bypass_csp=True, has_touch=size == "phone",
            color_scheme="light" if language == "en" else "dark", reduced_motion="reduce",
        )  # fmt: skip
        self.page = self.context.new_page()
        self.page.set_default_timeout(20_000)
        self.url, self._axe, self.found = place.served.url, axe, []
        self.looked: list[str] = []

    def is_now(self, place: Place, caller: Caller | None) -> None:
        self.context.clear_cookies()
        if caller is None:
            return
        with place.bench.database.write() as session:
            from burnish.annotation.tables import Account

            account = session.get_one(Account, caller.account_id)
            cookie = accounts.open_session(session, account, address="axe")
        self.context.add_cookies([{"name": "burnish_session", "value": cookie, "url": self.url}])

    def go(self, path: str, wait: str = "main") -> None:
        self.page.goto(f"{self.url}{path}")
        self.page.wait_for_selector(wait)
        self.look(path)

    def look(self, what: str) -> None:
        if not self.page.evaluate("typeof window.axe === 'object'"):
            self.page.evaluate(self._axe)
        run = "axe.run(document, {resultTypes: ['violations']})"
        for one in self.page.evaluate(run)["violations"]:
            nodes = [f"{n['target']} {n['html'][:160]}" for n in one["nodes"][:3]]
            self.found.append(f"{what}: {one['id']} ({one['help']}): {nodes}")
        self.looked.append(what)


@pytest.fixture
def visitor(
    request: pytest.FixtureRequest, chromium: Any, place: Place, axe: str
) -> Iterator[Visitor]:
    made = Visitor(chromium, place, axe, *request.param)
    yield made
    made.context.close()


AND_THESE = pytest.mark.skipif(
    "BURNISH_SLOW" not in os.environ, reason="minutes: set BURNISH_SLOW=1"
)
EVERY_WAY = pytest.mark.parametrize(
    "visitor",
    [("desk", "en"), ("phone", "ar"), pytest.param(("phone", "en"), marks=AND_THESE),
     pytest.param(("desk", "ar"), marks=AND_THESE)],
    indirect=True, ids=lambda way: "-".join(way),
)  # fmt: skip


def _done(visitor: Visitor, least: int) -> None:
    assert visitor.found == [], "\n".join(visitor.found)
    assert len(visitor.looked) >= least


def test_the_script_finds_what_is_wrong(chromium: Any, axe: str):
    page = chromium.new_page()
    page.set_content("<html><body><img src='x.png'><input></body></html>")
    page.evaluate(axe)
    found = {one["id"] for one in page.evaluate("axe.run()")["violations"]}
    page.close()
    assert {"image-alt", "label", "html-has-lang"} <= found


@EVERY_WAY
def test_as_a_guest_and_from_a_platform(visitor: Visitor, place: Place):
    visitor.is_now(place, None)
    for path in ("/login", "/login?out=1&next=/account", f"/join/{place.invitation}",
            f"/reset/{place.reset}", "/nowhere", "/join/none"):  # fmt: skip
        visitor.go(path)
    page = visitor.page
    page.goto(f"{visitor.url}/login")
    page.fill("input[name=name]", "x")
    page.fill("input[name=password]", "y")
    page.keyboard.press("Enter")
    page.wait_for_selector(".error")
    visitor.look("a failed login")
    person = "".join(c for c in f"P{id(visitor)}" if c.isalnum())
    ids = f"PROLIFIC_PID={person}&STUDY_ID=S1&SESSION_ID=X1"
    visitor.go("/start?STUDY_ID=S1")
    visitor.go(f"/start?{ids}")
    page.check("input[name=agreed]")
    page.locator("main form button").click()
    page.wait_for_selector("dialog#guidelines[open]")
    visitor.look("a platform's guidelines")
    page.keyboard.press("Enter")
    page.wait_for_selector(".scale")
    visitor.look("a platform's training")
    page.keyboard.press("1")
    page.keyboard.press("Enter")
    page.wait_for_selector(".feedback")
    visitor.look("what was expected")
    page.keyboard.press("Enter")
    page.wait_for_selector(".feedback", state="detached")
    page.wait_for_selector(".scale")
    page.keyboard.press("1")
    page.keyboard.press("Enter")
    page.wait_for_selector(".narrow h1")
    visitor.look("all is done")
    caller = _caller_of(place, person)
    assert crowd.completion(place.bench.database, caller, place.door)["code"] == "C0DE"
    visitor.go(f"/projects/{place.door}/done")
    visitor.go("/account")
    _done(visitor, 15)


def _caller_of(place: Place, person: str) -> Caller:
    _, secret = crowd.enter(place.bench.database, "S1", person, "X1", address="axe")
    found = accounts.caller_of_session(place.bench.database, secret)
    assert found is not None
    return found


@EVERY_WAY
def test_as_an_annotator(visitor: Visitor, place: Place):
    person = add_caller(place.bench.database, f"axel{id(visitor)}")
    secret = people.invite(place.bench.database, place.bench.owner, place.bench.project)
    people.join(place.bench.database, secret, person)
    with place.bench.database.write() as session:
        from burnish.annotation.tables import Item, Member

        session.query(Member).filter_by(annotator_id=person.annotator_id).update(
            {"state": "active"}
        )
        session.query(Item).filter(Item.part == "work").update({"slots": 9})
    visitor.is_now(place, person)
    page = visitor.page
    for path in ("/projects", "/account", "/api", f"/projects/{place.bench.project}/notes"):
        visitor.go(path)
    visitor.go(f"/projects/{place.bench.project}/label", "dialog#guidelines[open]")
    page.keyboard.press("Enter")
    seen = set()
    for _ in range(len(place.items) + 2):
        page.wait_for_selector(".bar, .narrow h1")
        if page.locator(".narrow h1").count():
            break
        title = page.inner_text("h1")
        visitor.look(title)
        seen.add(title)
        if page.locator("textarea[data-field=say]").count():
            page.fill("textarea[data-field=say]", "Hello")
            page.keyboard.press("Control+Enter")
            page.wait_for_selector(".answers .answer")
            visitor.look("a chat's answers")
        if len(seen) == 1:
            _dialogs(visitor)
        page.locator(".bar .quiet").nth(1).click()
        page.wait_for_selector("dialog#skip[open]")
        before = page.evaluate("document.querySelector('.prompt')?.innerText")
        page.keyboard.press("Enter")
        for _ in range(400):
            if page.locator(".narrow h1").count() or before != page.evaluate(
                "document.querySelector('.prompt')?.innerText"
            ):
                break
            page.wait_for_timeout(25)
    visitor.look("nothing left")
    assert len(seen) >= 8
    _done(visitor, 16)


def _dialogs(visitor: Visitor) -> None:
    page = visitor.page
    page.keyboard.press("m")
    page.wait_for_selector(".marking")
    page.locator(".marking .sentence").first.click()
    visitor.look("marked passages")
    page.keyboard.press("m")
    page.keyboard.press("1")
    if page.locator("button:has(kbd:text-is('e'))").count():
        page.keyboard.press("e")
        visitor.look("the edited winner")
        page.keyboard.press("Escape")
    for key, name in (("?", "keys"), ("n", "note"), ("s", "skip")):
        page.keyboard.press(key)
        page.wait_for_selector(f"dialog#{name}[open]")
        visitor.look(name)
        page.keyboard.press("Escape")
        page.wait_for_selector(f"dialog#{name}", state="hidden")


@EVERY_WAY
def test_as_a_reviewer(visitor: Visitor, place: Place):
    visitor.is_now(place, place.reviewer)
    here = f"/projects/{place.bench.project}"
    for path in ("/projects", here, f"{here}/notes"):
        visitor.go(path)
    for name in place.items:
        if name.split("-")[0] in SAID or name in ("trace",):
            visitor.go(f"{here}/review?item={place.items[name]}", "#desk h1")
    visitor.page.keyboard.press("?")
    visitor.page.wait_for_selector("dialog#keys[open]")
    visitor.look("the desk's keys")
    visitor.go(f"/projects/{place.bench.project}/review", "#desk h1")
    _done(visitor, 12)


@EVERY_WAY
def test_as_an_owner(visitor: Visitor, place: Place):
    visitor.is_now(place, place.bench.owner)
    page, here = visitor.page, f"/projects/{place.bench.project}"
    for path in (
        "/projects", "/projects/new", here, f"/projects/{place.door}", f"{here}/items",
        f"{here}/items?text=nothing", f"{here}/items?state=odd", f"{here}/members", f"{here}/notes",
        f"{here}/export", f"{here}/settings", f"/projects/{place.door}/review",
        *(f"{here}/items/{number}" for name, number in place.items.items() if name != "last"),
    ):  # fmt: skip
        visitor.go(path)
    page.goto(f"{visitor.url}{here}/items/{place.items['rubric-5']}")
    for summary in page.locator("details > summary").all():
        summary.click()
    visitor.look("an item that is corrected")
    page.goto(f"{visitor.url}{here}/settings")
    page.select_option("select[name=steps]", "8")
    page.fill("textarea[name=flags]", "rude")
    page.locator("main form[action$='/settings'] button").last.click()
    page.wait_for_selector("main h1")
    visitor.look("what a change does")
    page.goto(f"{visitor.url}{here}/members")
    for summary in page.locator("details > summary").all():
        summary.click()
    visitor.look("people, all open")
    page.goto(f"{visitor.url}/account")
    page.fill("form[action$='/account/tokens'] input[name=name]", "t")
    page.check("form[action$='/account/tokens'] input[name=scopes] >> nth=0")
    page.locator("form[action$='/account/tokens'] button").click()
    page.wait_for_selector(".secret")
    visitor.look("a fresh token")
    _done(visitor, 22)
