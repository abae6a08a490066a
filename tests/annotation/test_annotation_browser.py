"""A day of an annotator and a day of an owner, in Chromium."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from annotation_bench import Bench, Served, echo, pair_row

from burnish.annotation.service import accounts, people
from burnish.annotation.store import Store

PASSWORD = "correct horse battery"
KINDS = ("pairwise", "ranking", "likert", "correction", "demonstration", "chat")


def _rows(each: int) -> list[dict]:
    made: dict[str, Any] = {
        "pairwise": lambda n: {"candidates": [f"**good** {n}", f"`bad` {n}. It is wrong."]},
        "ranking": lambda n: {"candidates": [f"answer {c} {n}" for c in "wxyz"]},
        "likert": lambda n: {"candidates": [f"this {n}", f"that {n}"]},
        "correction": lambda n: {"candidates": [f"Two and two is {n}."]},
        "demonstration": lambda n: {},
        "chat": lambda n: {},
    }
    tests = [
        pair_row("t", part="training", gold={"strength": 2}, explanation="The first is **right**."),
        pair_row("q1", part="qualification", gold={"strength": 2}),
        pair_row("q2", part="qualification", gold={"strength": -2}),
    ]
    work = [
        {
            "id": f"{kind}-{n}",
            "prompt": f"Task {kind} {n}?",
            "kind": kind,
            "priority": -KINDS.index(kind),
            **make(n),
        }
        for kind, make in made.items()
        for n in range(each)
    ]
    return tests + work


@pytest.fixture
def page(chromium: Any) -> Iterator[Any]:
    context = chromium.new_context(viewport={"width": 1200, "height": 900})
    page = context.new_page()
    page.set_default_timeout(15_000)
    page.failures = []
    page.on("pageerror", lambda error: page.failures.append(str(error)))
    page.on(
        "console",
        lambda m: page.failures.append(m.text) if "Content Security Policy" in m.text else None,
    )
    yield page
    assert page.failures == []
    context.close()


def _served(tmp_path: Path, rows: list[dict], **settings: Any) -> tuple[Served, Bench, str]:
    place = str(tmp_path / "a.sqlite")
    served = Served(place, generate=echo)
    bench = Bench(served.database, annotators=0, rows=rows, turns=2, **{"overlap": 1, **settings})
    return served, bench, people.invite(served.database, bench.owner, bench.project, uses=5)


def _join(page: Any, served: Served, secret: str, name: str) -> None:
    page.goto(f"{served.url}/join/{secret}")
    page.get_by_label("Name").fill(name)
    page.get_by_label("Password").fill(PASSWORD)
    page.keyboard.press("Enter")
    page.wait_for_url("**/label")
    page.wait_for_selector("dialog#guidelines[open]")  # shown to who is new
    page.keyboard.press("Enter")
    page.wait_for_selector("dialog#guidelines", state="hidden")


def _until(page: Any, condition: str) -> None:
    """Wait for a condition in the page. The page's policy forbids the evaluation that Playwright's
    own waiting needs."""
    for _ in range(600):
        if page.evaluate(condition):
            return
        page.wait_for_timeout(25)
    pytest.fail(f"never came true: {condition}")


def _title(page: Any) -> str:
    page.wait_for_selector(".bar, .narrow")
    return page.inner_text("h1")


def _press(page: Any, *keys: str) -> None:
    for key in keys:
        page.keyboard.press(key)


def _recorded(page: Any) -> None:
    """Wait until the task that was open has gone."""
    _until(page, "document.querySelector('#live').textContent === 'Recorded'")
    page.evaluate("document.querySelector('#live').textContent = ''")
    page.wait_for_selector(".bar, .narrow")


def _by_keyboard(page: Any) -> str:
    """Do whatever task is there with nothing but keys; returns its title."""
    title = _title(page)
    if title == "Compare two answers":
        good_first = "good" in page.locator(".answer").first.inner_text()
        _press(page, "1" if good_first else "4", "Enter")
    elif title == "Rank the answers":
        texts = page.locator(".answer .text").all_inner_texts()
        _press(
            page,
            *(str(1 + "wxyz".index(re.findall(r"answer (.)", text)[0])) for text in texts),
            "Enter",
        )
    elif title == "Rate the answers":
        _press(page, "5", "1", "4", "2", "3", "3", "Enter")
    elif title == "Correct an answer":
        _press(page, "e", "Control+a")
        page.keyboard.type("Two and two is four.")
        page.keyboard.press("Control+Enter")
    elif title == "Write an answer":
        page.keyboard.press("e")
        page.keyboard.type("A *good* answer.")
        page.keyboard.press("Control+Enter")
    elif title == "Talk with the model":
        for turn in range(2):
            if turn == 0:  # the model answers the item's own prompt first
                page.keyboard.press("Enter")
            else:  # the cursor is there already
                page.keyboard.type(f"Hello {turn}")
                page.keyboard.press("Control+Enter")
            page.wait_for_selector(".scale")
            _press(page, "1", "Enter")
            page.wait_for_selector(".scale", state="detached")
            _until(page, "document.activeElement.tagName === 'TEXTAREA'")
        page.keyboard.press("Control+Enter")
    else:
        return title
    _recorded(page)
    return title


def _training_and_test(page: Any) -> None:
    assert "Training" in page.inner_text(".banner")
    first_is_left = "first" in page.locator(".answer").first.inner_text()
    _press(page, "4" if first_is_left else "1", "Enter")
    page.wait_for_selector(".feedback.wrong")
    assert "The first is right." in page.inner_text(".feedback")
    assert f"Expected: {'A' if first_is_left else 'B'} is much better." in page.inner_text(
        ".feedback"
    )
    page.keyboard.press("Enter")
    for wanted in ("first", "second"):
        _until(page, "document.querySelector('.banner')?.textContent.startsWith('Test')")
        left = wanted in page.locator(".answer").first.inner_text()
        page.evaluate("document.querySelector('#live').textContent = ''")
        _press(page, "1" if left else "4", "Enter")
        _recorded(page)
        assert page.locator(".feedback").count() == 0


def _day(tmp_path: Path, page: Any, each: int) -> None:
    served, bench, secret = _served(tmp_path, _rows(each))
    try:
        _join(page, served, secret, "Ann")
        _training_and_test(page)
        done: Counter[str] = Counter()
        while (title := _by_keyboard(page)) != "All done for now":
            done[title] += 1
            if done.total() == each * 3:  # a break: the browser is closed and opened again
                page.goto("about:blank")
                page.goto(f"{served.url}/projects/{bench.project}/label")
        assert set(done.values()) == {each}
        assert len(done) == 6
        answers = {
            one.item_id: one.answer
            for one in Store(served.place).labelled("p")
            if one.part == "work"
        }
        assert len(answers) == 6 * each
        for n in range(each):
            assert (answers[f"pairwise-{n}"].strength, answers[f"pairwise-{n}"].ranks) == (
                2,
                (1, 2),
            )
            assert answers[f"ranking-{n}"].ranks == (1, 2, 3, 4)
            rated = answers[f"likert-{n}"]
            first = rated.presented.index(0)
            assert rated.ratings["helpful"][0] == (5, 1)[first]
            assert rated.ratings["honest"][0] == (4, 2)[first]
            assert answers[f"correction-{n}"].text == "Two and two is four."
            assert answers[f"demonstration-{n}"].text == "A *good* answer."
            turns = answers[f"chat-{n}"].turns
            assert [turn.user for turn in turns] == ["", "Hello 1"]
            for turn in turns:
                said = turn.user or f"Task chat {n}?"
                assert turn.candidates == (f"Answer 1 to: {said}", f"Answer 2 to: {said}")
                assert turn.chosen == turn.presented[0]
                assert turn.strength == (2 if turn.presented[0] == 0 else -2)
        assert all(
            one.seconds is not None and one.seconds > 0 for one in Store(served.place).labelled("p")
        )
    finally:
        served.stop()


def test_an_annotators_day_by_keyboard(tmp_path: Path, page: Any):
    _day(tmp_path, page, each=2)


@pytest.mark.slow
def test_an_annotators_day_with_twenty_tasks_of_each_kind(tmp_path: Path, page: Any):
    _day(tmp_path, page, each=20)


def test_drafts_marks_flags_skips_undo_and_a_restart_in_mid_task(tmp_path: Path, page: Any):
    served, _, secret = _served(
        tmp_path,
        [pair_row(n, candidates=[f"One. Two {n}.", f"Three. Four {n}."]) for n in range(3)],
    )
    try:
        _join(page, served, secret, "Ann")
        assert _title(page) == "Compare two answers"
        texts = page.locator(".answer .text").all_inner_texts()
        _press(page, "m", "ArrowRight", " ")  # the second sentence of A
        page.get_by_label("Note on the marked part of A").fill("wrong number")
        page.keyboard.press("Escape")
        _press(page, "f", " ", "Escape", "c")
        page.keyboard.type("B is clearer")
        page.keyboard.press("Escape")
        _until(page, "document.querySelector('.status').textContent === 'Draft saved'")
        served.stop()  # the server goes away in mid-task and comes back
        _press(page, "3", "Enter")
        _until(page, "document.querySelector('.status').textContent.includes('trying again')")
        served.start()
        _recorded(page)
        first = Store(served.place).labelled("p")[0].answer
        shown_first = first.presented[0]
        assert first.critique == "B is clearer"
        assert first.flags == {"fails the instruction": (shown_first,)}
        (span,) = first.spans
        assert (span.candidate, texts[0][span.start : span.end], span.note) == (
            shown_first,
            texts[0].split(". ")[1],
            "wrong number",
        )
        assert first.strength == (-1 if shown_first == 0 else 1)
        # Half an answer survives a reload.
        _press(page, "2", "c")
        page.keyboard.type("half of it")
        _until(page, "document.querySelector('.status').textContent === 'Draft saved'")
        page.reload()
        page.wait_for_selector(".bar")
        assert page.input_value("textarea[data-field=critique]") == "half of it"
        assert page.locator(".choice:has(:checked)").inner_text().startswith("A is slightly better")
        # Skip it with a reason, then take that back.
        _press(page, "s")
        page.wait_for_selector("dialog#skip[open]")
        _press(page, "3", "Enter")
        _recorded(page)
        skipped = [
            one.answer.skipped for one in Store(served.place).labelled("p") if one.answer.skipped
        ]
        assert skipped == ["it disturbs me"]
        _press(page, "u")
        _until(page, "document.querySelector('.status')?.textContent.includes('is back')")
        assert [one.answer.skipped for one in Store(served.place).labelled("p")] == [None]
        _press(page, "u")
        _until(
            page, "document.querySelector('textarea[data-field=critique]').value === 'B is clearer'"
        )
        assert page.locator(".choice:has(:checked)").inner_text().startswith("B is slightly better")
        assert page.locator(".flags input:checked").count() == 1
        assert served.failures == []
    finally:
        served.stop()


def test_ranking_by_dragging(tmp_path: Path, page: Any):
    served, _, secret = _served(
        tmp_path, [{"id": "1", "prompt": "?", "kind": "ranking", "candidates": ["w", "x", "y"]}]
    )
    try:
        _join(page, served, secret, "Ann")
        for place, tier in ((0, 1), (1, 0), (2, 1)):
            page.locator(f".chip[data-place='{place}']").drag_to(
                page.locator(f".tier[data-tier='{tier}']")
            )
        page.keyboard.press("Enter")
        _recorded(page)
        (one,) = Store(served.place).labelled("p")
        assert [one.answer.ranks[p] for p in one.answer.presented] == [2, 1, 2]
    finally:
        served.stop()


def test_an_owners_day(tmp_path: Path, page: Any):
    served = Served(str(tmp_path / "a.sqlite"))
    try:
        accounts.create_user(served.database, "olga", PASSWORD, creates_projects=True)
        page.goto(served.url)
        page.get_by_label("Name").fill("olga")
        page.get_by_label("Password").fill("not the password")
        page.keyboard.press("Enter")
        assert "do not fit" in page.inner_text("[role=alert]")
        page.get_by_label("Password").fill(PASSWORD)
        page.keyboard.press("Enter")
        page.get_by_role("link", name="New project").click()
        page.get_by_label("Name").fill("Rivers")
        page.get_by_label("Task").select_option("pairwise")
        page.get_by_label("Annotators per item").fill("2")
        page.get_by_label("Guidelines").fill("# Be fair")
        page.get_by_role("button", name="Create").click()
        rows = tmp_path / "rows.jsonl"
        rows.write_text(
            "\n".join(json.dumps(row) for row in [pair_row(1), pair_row(2), {"id": "broken"}])
        )
        page.get_by_label("File").set_input_files(rows)
        page.get_by_role("button", name="Upload").click()
        assert 'row 3, field "prompt"' in page.inner_text("[role=alert]")
        rows.write_text("\n".join(json.dumps(row) for row in [pair_row(1), pair_row(2)]))
        page.get_by_label("File").set_input_files(rows)
        page.get_by_role("button", name="Upload").click()
        assert "2 added" in page.inner_text("[role=status]")
        page.get_by_role("link", name="People").click()
        page.get_by_label("For how many").fill("2")
        page.get_by_role("button", name="Make a link").click()
        secret = page.inner_text(".secret").rsplit("/", 1)[1]
        for name, better in (("Ann", 0), ("Ben", 1)):
            _, cookie = people.sign_up(served.database, secret, name, PASSWORD, address="")
            _label_all(served, cookie, better)
        page.get_by_role("link", name="Overview").click()
        assert "4 of 4 answers" in page.inner_text("main")
        assert page.locator("progress").count() == 1
        page.get_by_role("link", name="Review").click()
        for left in ("2 items wait", "1 item waits"):
            page.wait_for_selector(f"text={left}")
            page.keyboard.press("1")
            page.keyboard.press("Enter")
        page.wait_for_selector("text=Nothing waits for a reviewer.")
        decided = [
            one.answer.ranks
            for one in Store(served.place).labelled("Rivers")
            if one.source == "adjudication"
        ]
        assert decided == [(1, 2), (1, 2)]
        page.get_by_role("link", name="Export").click()
        with page.expect_download() as waited:
            page.get_by_role("button", name="Download").click()
        rows_out = [json.loads(line) for line in Path(waited.value.path()).read_text().splitlines()]
        assert len(rows_out) == 2
        assert all(
            "first" in str(row["chosen"]) and "second" in str(row["rejected"]) for row in rows_out
        )
        page.get_by_role("link", name="Settings").click()
        page.get_by_label("Annotators per item").fill("200")
        page.get_by_label("Flags").fill("rude\nwrong")
        page.get_by_role("button", name="Save").click()
        assert 'field "overlap"' in page.inner_text("[role=alert]")
        assert page.get_by_label("Flags").input_value() == "rude\nwrong"  # nothing is typed twice
        page.get_by_label("Annotators per item").fill("2")
        page.get_by_label("Offer “both are bad”").uncheck()
        page.get_by_role("button", name="Save").click()
        assert "6 answers keep the version under which they were given" in page.inner_text("main")
        page.get_by_label("unsafe").select_option(label="is now called “rude”")
        page.get_by_role("button", name="Save").click()
        assert page.get_by_label("Flags").input_value().splitlines() == ["rude", "wrong"]
        assert not page.get_by_label("Offer “both are bad”").is_checked()
        log = page.inner_text("main table")
        assert all(
            word in log
            for word in (
                "project created",
                "items added",
                "invited",
                "signed up",
                "decided",
                "exported",
            )
        )
    finally:
        served.stop()


def _label_all(served: Served, cookie: str, better: int) -> None:
    from burnish.annotation.service import work
    from burnish.annotation.service.submission import Submission

    caller = accounts.caller_of_session(served.database, cookie)
    assert caller is not None
    while (held := work.take(served.database, caller, 1)) is not None:
        strength = 1 if held.presented[0] == better else -1
        work.answer(served.database, caller, held.lease, Submission(strength=strength, seconds=1))


CONTRAST = """() => {
  const parse = (c) => { const m = c.match(/[\\d.]+/g).map(Number); return m.length === 3 ? [...m, 1] : m; };
  const lum = ([r, g, b]) => [r, g, b].map((v) => { v /= 255; return v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; })
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = (n) => { for (; n; n = n.parentElement) { const c = parse(getComputedStyle(n).backgroundColor); if (c[3] === 1) return c; } return [255, 255, 255]; };
  const poor = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode.parentElement;
    if (!walker.currentNode.textContent.trim() || !node.checkVisibility() || node.closest(".away, .skip, script, noscript")) continue;
    const style = getComputedStyle(node);
    const [a, b] = [lum(parse(style.color)), lum(ground(node))].sort((x, y) => y - x);
    const large = parseFloat(style.fontSize) >= 24 || (parseFloat(style.fontSize) >= 18.6 && style.fontWeight >= 700);
    if ((a + 0.05) / (b + 0.05) < (large ? 3 : 4.5)) poor.push(`${walker.currentNode.textContent.trim()}: ${((a + 0.05) / (b + 0.05)).toFixed(2)}`);
  }
  return poor;
}"""  # noqa: E501
UNNAMED = """() => [...document.querySelectorAll("input:not([type=hidden]), select, textarea, button, a[href], dialog")]
  .filter((n) => n.checkVisibility() && !(n.labels?.length && [...n.labels].some((l) => l.textContent.trim())) && !n.getAttribute("aria-label")
    && !n.getAttribute("aria-labelledby") && !(n.matches("button, a") && n.textContent.trim())).map((n) => n.outerHTML)"""  # noqa: E501
WIDE = "document.documentElement.scrollWidth > document.documentElement.clientWidth"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_can_be_read_on_a_phone_and_in_the_dark(tmp_path: Path, chromium: Any, scheme: str):
    """WCAG 2.1 AA, as far as a machine sees it: contrast, names, one heading of the first level,
    language, reflow at 320 pixels."""
    served, _, secret = _served(tmp_path, _rows(1))
    context = chromium.new_context(viewport={"width": 320, "height": 640}, color_scheme=scheme)
    page = context.new_page()
    try:

        def examine() -> None:
            assert page.evaluate(CONTRAST) == []
            assert page.evaluate(UNNAMED) == []
            assert page.locator("h1").count() == 1
            assert page.get_attribute("html", "lang") == "en"
            assert not page.evaluate(WIDE), page.url

        page.goto(f"{served.url}/login")
        examine()
        page.goto(f"{served.url}/join/{secret}")
        examine()
        _join(page, served, secret, "Ann")
        _training_and_test(page)
        for _ in KINDS:
            _title(page)
            examine()
            if page.locator(".answer").count() == 2:
                boxes = [box.bounding_box() for box in page.locator(".answer").all()]
                assert boxes[1]["y"] > boxes[0]["y"] + boxes[0]["height"] - 1, (
                    "answers stand one below the other"
                )
            _by_keyboard(page)
        examine()
        context.add_cookies(
            [{"name": "burnish_session", "value": _owner_cookie(served), "url": served.url}]
        )
        for path in (
            "/projects",
            "/projects/new",
            "/account",
            "/api",
            *(f"/projects/1{tab}" for tab in ("", "/items", "/members", "/review", "/settings")),
        ):
            page.goto(served.url + path)
            examine()
    finally:
        context.close()
        served.stop()


def _owner_cookie(served: Served) -> str:
    with served.database.write() as session:
        return accounts.open_session(session, accounts.account_of(session, "olga"), address="")


def test_answers_stand_side_by_side_on_a_desktop(tmp_path: Path, page: Any):
    served, _, secret = _served(tmp_path, [pair_row(1)])
    try:
        _join(page, served, secret, "Ann")
        boxes = [box.bounding_box() for box in page.locator(".answer").all()]
        assert boxes[0]["y"] == boxes[1]["y"]
        assert boxes[0]["x"] + boxes[0]["width"] <= boxes[1]["x"]
    finally:
        served.stop()
