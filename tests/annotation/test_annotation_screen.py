"""What a task looks like: the choice in sight beside long answers, texts in their own direction,
taps, dimensions, edits, traces."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from annotation_bench import Bench, Served, pair_row

from burnish.annotation.service import people
from burnish.annotation.store import Store

CALL = {"type": "function", "function": {"name": "weather", "arguments": {"city": "<Oslo>"}}}
TRACE = [
    {"role": "assistant", "content": "", "tool_calls": [CALL]},
    {"role": "tool", "name": "weather", "content": "<b>-3</b>"},
    {"role": "assistant", "content": "Cold."},
]


@pytest.fixture
def opened(chromium: Any, tmp_path: Path) -> Iterator[Any]:
    """Opens a task of a project with the given rows and settings, on a desktop or a phone."""
    left: list[Any] = []

    def open_task(rows: list[dict], *, phone: bool = False, **settings: Any) -> tuple[Any, Served]:
        served = Served(str(tmp_path / "a.sqlite"))
        bench = Bench(served.database, annotators=0, rows=rows, overlap=1, **settings)
        secret = people.invite(served.database, bench.owner, bench.project)
        size = {"width": 390, "height": 844} if phone else {"width": 1280, "height": 860}
        context = chromium.new_context(viewport=size, has_touch=phone)
        page = context.new_page()
        page.set_default_timeout(15_000)
        page.failures = []
        page.on("pageerror", lambda error: page.failures.append(str(error)))
        page.goto(f"{served.url}/join/{secret}")
        page.get_by_label("Name").fill("Ann")
        page.get_by_label("Password").fill("correct horse battery")
        page.keyboard.press("Enter")
        page.wait_for_selector("dialog#guidelines[open]")
        page.keyboard.press("Enter")
        page.wait_for_selector("dialog#guidelines", state="hidden")
        left.append((page, context, served))
        return page, served

    yield open_task
    for page, context, served in left:
        assert page.failures == []
        context.close()
        served.stop()


def _done(page: Any, served: Served) -> Any:
    page.wait_for_selector("text=All done for now")
    return Store(served.place).labelled("p")[0].answer


@pytest.mark.parametrize("phone", [False, True])
def test_the_choice_stays_in_sight_beside_long_answers(opened: Any, phone: bool):
    long = "\n\n".join("words and more words " * 30 for _ in range(12))
    page, _ = opened([pair_row(1, candidates=[long, f"{long} again"])], phone=phone)
    height = page.viewport_size["height"]
    box = page.locator("fieldset.scale").bounding_box()
    bar = page.locator(".bar").bounding_box()
    assert box["y"] > 0
    assert box["y"] + box["height"] <= bar["y"] + 8 <= height
    text = page.locator(".answer > .text").first
    scrolls = text.evaluate("node => node.scrollHeight > node.clientHeight + 1")
    assert scrolls is (not phone)  # on a phone the page scrolls, and the choice stands over it
    assert text.evaluate("node => node.tabIndex") == (-1 if phone else 0)


def test_each_text_runs_in_its_own_direction(opened: Any):
    page, _ = opened(
        [pair_row(1, prompt="ما هي عاصمة فرنسا؟", candidates=["שלום\n\nplain English", "Paris."])]
    )
    runs = "node => getComputedStyle(node).direction"
    assert page.locator(".turn .text").first.evaluate(runs) == "rtl"
    sides = sorted(page.locator(".answer .text").nth(n).evaluate(runs) for n in range(2))
    assert sides == ["ltr", "rtl"]
    english = page.locator(".answer .text p", has_text="plain English")
    mixed = "node => [getComputedStyle(node).unicodeBidi, getComputedStyle(node).textAlign]"
    assert english.evaluate(mixed) == ["plaintext", "start"]


def test_answers_are_ranked_by_tapping_on_a_phone(opened: Any):
    rows = [{"id": "r", "prompt": "?", "kind": "ranking", "candidates": ["one", "two", "three"]}]
    page, served = opened(rows, phone=True)
    chip = lambda text: page.locator(".chip", has_text=text)  # noqa: E731
    for text in ("three", "one", "two"):
        chip(text).tap()
    assert page.locator(".tier").nth(1).inner_text().endswith("one")
    chip("three").tap()  # a second tap takes it out again, and those below move up
    assert page.locator(".tier").nth(0).inner_text().endswith("one")
    chip("three").tap()
    page.get_by_role("button", name="Submit").tap()
    assert _done(page, served).ranks == (1, 2, 3)


def test_the_whole_the_dimensions_and_an_edit_by_keyboard(opened: Any):
    dimensions = [{"name": "helpful"}, {"name": "harmless"}]
    page, served = opened([pair_row(1)], dimensions=dimensions, edit_winner="required", steps=4)
    page.keyboard.press("1")  # the whole: A is much better; then each dimension
    page.keyboard.press("Enter")
    assert "Compare by each" in page.inner_text(".bar .status")
    for key in ("2", "t"):
        page.keyboard.press(key)
    page.keyboard.press("Enter")
    assert "Edit the better answer" in page.inner_text(".bar .status")
    page.keyboard.press("e")
    page.keyboard.type(" Better.")
    page.get_by_label("Why, by harmless").fill("gentler")
    page.get_by_role("button", name="Submit").click()
    said = _done(page, served)
    sign = 1 if said.presented[0] == 0 else -1
    assert (said.strength, dict(said.preferences)) == (2 * sign, {"helpful": sign, "harmless": 0})
    assert dict(said.reasons) == {"harmless": "gentler"}
    assert said.corrected == said.presented[0]
    assert said.text == f"{('first', 'second')[said.corrected]} 1 Better."


def test_a_trace_is_shown_turn_by_turn_as_text(opened: Any):
    page, served = opened(
        [pair_row(1, candidates=[{"messages": TRACE}, "Sunny."])], edit_winner="optional"
    )
    trace = page.locator(".trace")
    assert trace.locator(".turn").count() == 3
    assert trace.locator(".call").inner_text() == '→ weather({"city": "<Oslo>"})'
    assert trace.locator(".result").inner_text() == "<b>-3</b>"
    left = page.locator(".answer").first.locator(".trace").count()
    page.keyboard.press("1" if left else "4")
    assert page.locator(
        "textarea[data-field=text]"
    ).is_hidden()  # such an answer is not edited as a text
    page.keyboard.press("Enter")
    assert _done(page, served).strength == 2
