"""The dashboard's figures against counts made by hand, and its HTML against markup in names."""

from __future__ import annotations

import json
import math
import time
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path

import pytest

from burnish.annotation.dashboard import FLIPPED, dashboard, summary_lines
from burnish.annotation.dashboard_page import cached_fragment, fragment, page
from burnish.annotation.records import Answer, Labelled
from burnish.annotation.settings import Settings
from burnish.annotation.snapshot import Entry, Snapshot, add_labelled
from burnish.annotation.store import Store
from burnish.records import LabelledItem, Opinion, Prompt

START = datetime(2030, 1, 1, 9, tzinfo=UTC)
PROMPT = ({"role": "user", "content": "one two"},)


def _entry(name: str, *, gold: dict | None = None, part: str = "work") -> Entry:
    texts = ("a b c d e f g", "a b c")  # 7 and 3 words: log2(8/4) = 1
    return Entry(name, Prompt(name, PROMPT), texts, ("big", "small"), "pairwise", part, gold)


def _said(
    item: str,
    who: str,
    strength: int,
    *,
    day: int = 0,
    first: int = 0,
    seconds: float = 10.0,
    **more: object,
) -> Labelled:
    ranks = (1, 2) if strength > 0 else (2, 1) if strength < 0 else (1, 1)
    answer = Answer(
        "pairwise",
        (first, 1 - first),
        strength=strength,
        ranks=ranks,
        critique=str(more.get("critique", "")),
    )
    kind, gold = str(more.get("kind", "person")), bool(more.get("gold", False))
    return Labelled(item, who, kind, answer, seconds, START + timedelta(days=day), gold)


def _snapshot(answers: list[Labelled], entries: list[Entry], **settings: object) -> Snapshot:
    given = Settings(
        kind="pairwise", overlap=2, price_per_task=0.5, price_per_hour=36.0, **settings
    )  # type: ignore[arg-type]
    return Snapshot("project <b>", "", given, tuple(entries), tuple(answers))


@pytest.fixture
def found() -> dict:
    entries = [_entry(f"i{n:02d}") for n in range(40)]
    entries += [_entry(f"g{n}", gold={"strength": 1}) for n in range(6)]
    answers = []
    for n in range(40):
        answers += [_said(f"i{n:02d}", "ann", 1, day=n // 10, first=n // 4 % 2)]
        answers += (
            [_said(f"i{n:02d}", "bob", 1 if n % 4 else -1, day=n // 10, first=n // 4 % 2)]
            if n < 32
            else []
        )
    answers += [
        _said(f"i{n:02d}", "bot", 1 if n else 0, kind="ai", critique="" if n else FLIPPED)
        for n in range(10)
    ]
    answers += [_said(f"g{n}", "bob", 1 if n < 2 else -1, gold=True) for n in range(6)]
    answers += [
        Labelled("i39", "bob", "person", Answer("pairwise", (0, 1), skipped="other"), 5.0, START)
    ]
    return dashboard(_snapshot(answers, entries), resamples=50)


def test_counts_and_cost(found):
    p = found["progress"]
    # ann's 40 and bob's 32 at an overlap of 2, and bot's ten, which are third answers there
    assert (p["answered"], p["needed"], p["items_done"], p["items"]) == (72, 80, 32, 40)
    # people: 72 answers, 6 gold, 1 skip at 0.50; 78 · 10 s + 5 s at 36 an hour
    assert p["cost"] == pytest.approx(79 * 0.5 + 785 / 100)
    assert (found["human_labels"], found["ai_labels"], found["skips"]) == (72, 10, {"other": 1})
    assert [(d["people"], d["models"]) for d in found["days"]] == [
        (20, 10),
        (20, 0),
        (20, 0),
        (12, 0),
    ]


def test_agreement_by_hand(found):
    choices = found["agreement"]["choices"]
    # ann and bob: 24 of 32 the same. ann and bot: 9 decided, all the same. bob and bot: 0 excepted,
    # 4 and 8 differ: 7 of 9
    assert choices["pairwise"]["value"] == pytest.approx((24 + 9 + 7) / (32 + 9 + 9))
    assert {(p["first"], p["second"]): p["shared"] for p in choices["cohen_pairs"]} == {
        ("ann", "bob"): 32, ("ann", "bot"): 10, ("bob", "bot"): 10,
    }  # fmt: skip
    assert choices["warning"] is None
    # Both ways round chance is ½ for two who never tie: κ of ann and bob is 2 · 24/32 − 1
    kappa = {(p["first"], p["second"]): p["kappa"] for p in choices["cohen_pairs"]}
    assert kappa["ann", "bob"] == pytest.approx(0.5)


def test_models_are_compared_with_most_people(found):
    (bot,) = found["people_and_models"]
    # Where ann and bob differ (items 0, 4, 8) people have no side; the other seven agree with bot
    assert (bot["name"], bot["flips"], bot["agreement"]["value"], bot["agreement"]["n"]) == (
        "bot",
        1,
        1.0,
        7,
    )


def test_annotators_by_hand(found):
    people = {one["name"]: one for one in found["annotators"]}
    # always candidate 0, which is shown first every other time
    assert people["ann"]["position"]["share"] == 0.5
    assert (people["bob"]["gold"]["right"], people["bob"]["gold"]["n"]) == (2, 6)
    assert people["bob"]["skips"] == 1
    assert people["ann"]["length"] is None  # always the longer one: no finite odds
    # bob: the longer one in 24 of 32
    assert people["bob"]["length"]["odds_ratio"] == pytest.approx(3.0, rel=0.05)
    assert people["ann"]["reliability"] > people["bob"]["reliability"]
    assert any("bob passes 2 of 6 gold items" in line for line in found["warnings"])


def test_models_ranked(found):
    first, second = found["models"]["ranking"]
    assert (first["model"], second["model"]) == ("big", "small")
    assert first["comparisons"] == 82
    assert found["models"]["elo"]["big"] > 1000 > found["models"]["elo"]["small"]
    assert found["models"]["cycles"] is None


def test_a_speeder_and_a_first_liker_are_named():
    entries = [_entry(f"i{n:02d}") for n in range(24)]
    answers = [
        _said(f"i{n:02d}", who, 1 if n % 2 else -1, first=n % 2)
        for n in range(24)
        for who in ("ann", "bob")
    ]
    answers += [
        _said(f"i{n:02d}", "hasty", 1 if n % 2 == 0 else -1, first=n % 2, seconds=2.0)
        for n in range(24)
    ]
    found = dashboard(_snapshot(answers, entries), resamples=20)
    assert "hasty answers in 20 % of the usual time" in found["warnings"]
    assert "hasty prefers what is shown first" in found["warnings"]
    # the same choices, always the second
    assert "ann prefers what is shown last" in found["warnings"]


def test_the_page_escapes_names_and_needs_no_script(found):
    evil = "<script>alert(1)</script>"
    found["annotators"][0]["name"] = found["models"]["ranking"][0]["model"] = evil
    found["models"]["elo"][evil] = 1000.0
    html = page(found)
    assert "<script" not in html
    assert "&lt;script&gt;alert(1)" in html
    assert "style=" not in str(fragment(found))  # a page's policy may forbid it
    assert "builtin" not in html.replace("built-in", "builtin")

    class Balanced(HTMLParser):
        open: list[str]

        def handle_starttag(self, tag: str, attrs: object) -> None:
            if tag not in ("meta", "br"):
                self.open.append(tag)

        def handle_startendtag(self, tag: str, attrs: object) -> None:
            pass

        def handle_endtag(self, tag: str) -> None:
            assert self.open.pop() == tag

    parser = Balanced()
    parser.open = []
    parser.feed(html)
    assert parser.open == []


def test_an_empty_project_and_json(found, tmp_path: Path):
    empty = dashboard(_snapshot([], [_entry("i")]))
    assert empty["progress"]["median_seconds"] is None
    assert "0 of 2 answers" in "\n".join(summary_lines(empty))
    assert "0 of 2 answers" in page(empty)
    text = json.dumps(found, allow_nan=False)  # nothing that is not JSON
    assert not math.isnan(json.loads(text)["progress"]["cost"])
    lines = "\n".join(summary_lines(found))
    assert "72 of 80 answers" in lines
    assert "bot (a model) agrees with people on 100 %" in lines


def test_agreement_does_not_depend_on_the_order_in_which_candidates_are_stored():
    """The same choices, once with the better answer always stored first, once with it first in
    every other item."""
    entries = [_entry(f"i{n:02d}") for n in range(40)]
    plain, mixed = [], []
    for n in range(40):
        for who, side in (("ann", 1), ("bob", 1 if n % 5 else -1)):
            plain.append(_said(f"i{n:02d}", who, side))
            mixed.append(_said(f"i{n:02d}", who, side if n % 2 else -side))
    first, second = (
        dashboard(_snapshot(a, entries), resamples=20)["agreement"]["choices"]
        for a in (plain, mixed)
    )
    for name in ("alpha", "fleiss"):
        assert first[name]["value"] == pytest.approx(second[name]["value"])
    assert first["cohen"] == pytest.approx(second["cohen"]) == pytest.approx(2 * 32 / 40 - 1)


def test_a_page_that_takes_long_is_shown_as_it_was_while_a_thread_makes_the_new_one(tmp_path: Path):
    store = Store(tmp_path / "a.sqlite")
    try:
        for count in (3, 5):
            say = Opinion("pairwise", "ann", (1, 2), {"strength": 1})
            items = [
                LabelledItem(Prompt(f"i{n}", PROMPT), ("a", "b"), (), (say,)) for n in range(count)
            ]
            add_labelled(store, "p", items)
            if count == 3:
                first, fresh = cached_fragment(store, "p")
                assert fresh
                assert "3 of " in first
                # nothing came in
                assert cached_fragment(store, "p", patience=-1.0) == (
                    first,
                    True,
                )
        assert cached_fragment(store, "p", patience=-1.0) == (first, False)
        for _ in range(400):
            shown, fresh = cached_fragment(store, "p", patience=-1.0)
            if fresh:
                break
            time.sleep(0.05)
        assert fresh
        assert "5 of " in shown
    finally:
        store.close()
