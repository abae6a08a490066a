"""The 25 kinds of checkable instructions: for each a text that follows it and one that does not;
what is wrong with a row is named; loose is never stricter than strict."""

from __future__ import annotations

import json
from importlib import resources
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from burnish.errors import UserError
from burnish.records import Prompt
from burnish.rewards.constraints import KINDS, ConstraintsReward, follows
from burnish.rewards.text_parts import language_of, sentences

CASES: dict[str, tuple[dict[str, Any], list[str], list[str]]] = {  # arguments, follow it, do not
    "keywords:existence": ({"keywords": ["c++", "Tea"]}, ["tea with C++"], ["tea with c", "c++"]),
    "keywords:frequency": ({"keyword": "go", "frequency": 2, "relation": "less than"}, ["Go!"],
        ["go, go", "let it go and Go"]),
    "keywords:forbidden_words": ({"forbidden_words": ["cat", "a.b"]}, ["a catalogue", "axb"],
        ["My CAT.", "see a.b there"]),
    "keywords:letter_frequency": ({"letter": "!", "let_frequency": 2, "let_relation": "at least"},
        ["ah! oh!"], ["ah!"]),
    "language:response_language": ({"language": "de"}, ["Der Hund ist nicht im Haus."],
        ["The dog is not in the house."]),
    "length_constraints:number_sentences": ({"num_sentences": 2, "relation": "less than"},
        ["Dr. A. Smith paid 3.50 dollars."], ["One. Two.", "One! Two? Three."]),
    "length_constraints:number_paragraphs": ({"num_paragraphs": 2}, ["a\n***\nb", "a *** b ***"],
        ["a", "a *** *** b", "a\n\nb"]),
    "length_constraints:number_words": ({"num_words": 3, "relation": "at least"}, ["one two three"],
        ["one two"]),
    "length_constraints:nth_paragraph_first_word": ({"num_paragraphs": 2, "nth_paragraph": 2,
            "first_word": "weekend"}, ["a\n\nWeekend, at last", 'a\n\n"weekend" b'],
            ["Weekend\n\na", "weekend", "a\n\nweekends"]),
    "detectable_content:number_placeholders": ({"num_placeholders": 2}, ["[a] and [b]"], ["[a] b"]),
    "detectable_content:postscript": ({"postscript_marker": "P.P.S"},
        ["Hi\nP.P.S more", "p. p. s. x"], ["P.S. more"]),
    "detectable_format:number_bullet_lists": ({"num_bullets": 2}, ["* a\n* b", "- a\n* b"],
        ["* a", "* a\n* b\n* c", "** a **\n* b"]),
    "detectable_format:constrained_response": ({}, ["My answer is maybe."], ["Maybe."]),
    "detectable_format:number_highlighted_sections": ({"num_highlights": 2}, ["*a* and **b**"],
        ["**a**", "* *", "*a*"]),
    "detectable_format:multiple_sections": ({"section_spliter": "Day", "num_sections": 2},
        ["Day 1 a Day 2 b"], ["Day 1 a", "Day one Day two"]),
    "detectable_format:json_format": ({}, ['{"a": 1}', '```json\n{"a": [1]}\n```'],
        ["{a: 1}", 'Here: {"a": 1}']),
    "detectable_format:title": ({}, ["<<Song>>\nla"], ["<Song>", "<< >>"]),
    "combination:two_responses": ({}, ["a ****** b"],
        ["a", "a ****** a", "a ****** ****** b", "a ****** b ****** c"]),
    "combination:repeat_prompt": ({"prompt_to_repeat": "Say A."}, ["say a.\nA"],
        ["A", "Well: Say A. A"]),
    "startend:end_checker": ({"end_phrase": "The end."}, ['Well. "the end."'], ["The end. Or not"]),
    "startend:quotation": ({}, [' "all of it" '], ['"', 'say "a"']),
    "change_case:capital_word_frequency": ({"capital_frequency": 2, "capital_relation": "at least"},
        ["STOP-NOW or GO"], ["STOP-NOW or go"]),
    "change_case:english_capital": ({}, ["STOP AND THINK OF THE SEA."],
        ["Stop.", "DER HUND IST NICHT IM HAUS."]),
    "change_case:english_lowercase": ({}, ["the sea and the sky"],
        ["The sea", "der hund ist nicht im haus"]),
    "punctuation:no_comma": ({}, ["a; b"], ["a, b"]),
}  # fmt: skip


def test_every_kind_has_its_cases():
    assert set(CASES) == set(KINDS)
    assert len(KINDS) == 25


@pytest.mark.parametrize("name", CASES)
def test_a_kind_tells_texts_apart(name: str):
    arguments, good, bad = CASES[name]
    for text in good:
        assert follows(text, [name], [arguments]) == [True], text
    for text in bad:
        assert follows(text, [name], [arguments]) == [False], text
    assert follows("  \n", [name], [arguments]) == [False]


def test_both_relations_count_and_another_is_an_error():
    for relation, expected in (("less than", False), ("at least", True)):
        kwargs = {"num_words": 2, "relation": relation}
        assert follows("one two", ["length_constraints:number_words"], [kwargs]) == [expected]
    with pytest.raises(UserError, match='no relation "about"'):
        follows("a", ["length_constraints:number_words"], [{"num_words": 2, "relation": "about"}])


@pytest.mark.parametrize(
    ("names", "kwargs", "problem"),
    [
        (["keywords:magic"], [{}], 'no instruction "keywords:magic"'),
        (["keywords:existence"], [{"keywords": None}], 'lacks the argument "keywords"'),
        (["punctuation:no_comma"], [{"n": 1}], 'does not know the argument "n"'),
        (["punctuation:no_comma"], [{}, {}], "1 instructions have 2 kwargs"),
        ([], [], "0 instructions"),
        (["language:response_language"], [{"language": "xx"}], 'language "xx" cannot be told'),
    ],
)
def test_what_is_wrong_is_named(names: list[str], kwargs: list[Any], problem: str):
    with pytest.raises(UserError, match=problem):
        follows("text", names, kwargs, prompt="Write")


def test_an_instruction_that_stands_twice_is_checked_twice():
    kwargs = [{"keywords": ["a"]}, {"keywords": ["b"]}]
    assert follows("a", ["keywords:existence"] * 2, kwargs) == [True, False]


def test_loose_forgives_a_first_line_a_last_line_and_asterisks():
    name, text = "startend:quotation", 'Sure, here it is:\n"all"\nBye'
    assert follows(text, [name], [{}]) == [False]
    assert follows(text, [name], [{}], loose=True) == [True]
    assert follows('*"all"*', [name], [{}], loose=True) == [True]


_TEXTS = st.text(alphabet='aB, .!\n*"<>-[]1é', max_size=60)


@given(_TEXTS, st.sampled_from(sorted(CASES)))
def test_what_is_strict_is_loose(text: str, name: str):
    arguments = [CASES[name][0]]
    (strict,), (loose,) = (follows(text, [name], arguments, loose=way) for way in (False, True))
    assert loose >= strict


def test_the_items_that_ship_have_every_kind_and_can_be_checked():
    file = resources.files("burnish.evaluation.suites") / "embedded" / "constraints.jsonl"
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    assert {name for row in rows for name in row["instruction_id_list"]} == set(KINDS)
    for row in rows:
        names = row["instruction_id_list"]
        assert len(follows("text", names, row["kwargs"])) == len(names)


def test_the_reward_is_the_share_that_is_followed():
    columns = {
        "instruction_id_list": [["punctuation:no_comma", "detectable_format:title"], []],
        "kwargs": [[{}, {}], []],
    }
    assert ConstraintsReward()(["<<a>>, b", "x"], **columns) == [0.5, None]
    assert ConstraintsReward(partial=False)(["<<a>>, b", "x"], **columns) == [0.0, None]
    with pytest.raises(UserError, match="instruction_id_list"):
        ConstraintsReward()(["a"])
    asked = [
        Prompt(str(i), (), {"instruction_id_list": names, "kwargs": [{}]})
        for i, names in enumerate((["punctuation:no_comma"], [], ["a:b"]))
    ]
    assert [ConstraintsReward().applies_to(prompt) for prompt in asked[:2]] == [True, False]
    assert "instruction_id_list" in ConstraintsReward().why_not(asked)
    with pytest.raises(UserError, match='no instruction "a:b"'):
        ConstraintsReward().applies_to(asked[2])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It is the cat of my sister.", "en"), ("Le chat est dans la maison.", "fr"), ("Кот не в доме, и это хорошо.", "ru"),  # noqa: E501
        ("Кіт у хаті, і це добре.", "uk"), ("Котката е в къщата и това е добре.", "bg"), ("ผมชอบแมว", "th"), ("猫が好きです", "ja"),  # noqa: E501
        ("我喜欢猫", "zh"), ("이것은 고양이입니다", "ko"), ("यह एक बिल्ली है और वह घर में है", "hi"), ("هذه قطة في البيت", "ar"), ("این گربه در خانه است", "fa"),  # noqa: E501
        ("یہ بلی گھر میں ہے", "ur"), ("বিড়াল ঘরে আছে", "bn"), ("Kissa on talossa ja se ei ole ulkona.", "fi"), ("Paka yuko katika nyumba ya watu.", "sw"), ("12 + 3", None),  # noqa: E501
    ],
)  # fmt: skip
def test_languages_are_told(text: str, expected: str | None):
    assert language_of(text) == expected


def test_sentences_end_where_they_do():
    assert len(sentences("Mr. J. Smith said: e.g. this. Was it? Yes!")) == 3
    assert len(sentences("1. Buy milk.\n2. Go home.")) == 2
    assert sentences("") == []
