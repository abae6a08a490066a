"""The layouts of other tools, each read from rows as its documentation shows them, and their
mistakes."""

from __future__ import annotations

from typing import Any

import pytest

from burnish.data.labelled import layout_of, read_labelled
from burnish.data.sources import Row
from burnish.errors import UserError
from burnish.records import LabelledItem

ASKED = [{"role": "user", "content": "q"}]
FIELDS = {"instruction": "q", "response-1": "a", "response-2": "b"}
PICKED = [{"type": "pairwise", "value": {"selected": "left"}}]


def rows(*values: dict[str, Any]) -> tuple[Row, ...]:
    return tuple(Row("f.jsonl", i, v, f"f.jsonl:{i}") for i, v in enumerate(values, start=1))


def one(*values: dict[str, Any], **options: Any) -> LabelledItem:
    (item,) = read_labelled(rows(*values), **options).items
    return item


def test_hh_transcripts_are_pairs():
    start = "\n\nHuman: Hi\n\nAssistant: Hello\n\nHuman: And?\n\nAssistant: "
    item = one({"chosen": start + "good", "rejected": start + "bad"}, annotator="hh")
    assert [m["content"] for m in item.prompt.messages] == ["Hi", "Hello", "And?"]
    assert item.candidates == ("good", "bad")
    assert (item.opinions[0].ranks, item.opinions[0].payload, item.opinions[0].annotator) == (
        (1, 2),
        {"strength": 1},
        "hh",
    )


def test_unpaired_is_a_yes_or_no():
    item = one({"prompt": "q", "completion": "a", "label": False})
    assert item.opinions[0].payload == {"ratings": {"desirable": (0,)}}
    assert item.kind == "likert"


def test_a_ranking_names_its_annotator_and_two_rows_make_one_item():
    row = {"id": "x", "prompt": "q", "responses": ["a", "b", "c"], "sources": ["m", "n", "o"]}
    item = one(
        row | {"ranks": [2, 1, 2], "annotator": "ann"},
        row | {"ranks": [1, 2, 3], "annotator": "bob"},
    )
    assert [(o.annotator, o.ranks) for o in item.opinions] == [
        ("ann", (2, 1, 2)),
        ("bob", (1, 2, 3)),
    ]
    assert item.sources == ("m", "n", "o")
    assert one(row).opinions == ()  # candidates without a label
    with pytest.raises(UserError, match='"ann" has labelled'):
        one(
            row | {"ranks": [1, 1, 1], "annotator": "ann"},
            row | {"ranks": [1, 2, 3], "annotator": "ann"},
        )


def test_ultrafeedback_has_text_ratings_and_open_ones():
    item = one(
        {
            "instruction": "q",
            "completions": [
                {"model": "m1", "response": "a", "critique": "fine",
                    "annotations": {"honesty": {"Rating": "4"}, "helpfulness": [{"Rating": "5"}]}},
                {"model": "m2", "response": "b",
                    "annotations": {"honesty": {"Rating": "N/A"}, "helpfulness": {"Rating": 2}}},
            ],
        }
    )  # fmt: skip
    (said,) = item.opinions
    assert said.annotator_kind == "ai"
    assert said.payload == {
        "ratings": {"honesty": (4, None), "helpfulness": (5, 2)},
        "critique": "fine",
    }
    assert item.sources == ("m1", "m2")


def test_helpsteer_joins_the_responses_to_a_prompt():
    def row(text: str, helpful: int) -> dict[str, Any]:
        rest = {"correctness": 3, "coherence": 4, "complexity": 1, "verbosity": 2}
        return {"prompt": "q", "response": text, "helpfulness": helpful, **rest}

    item = one(row("a", 1), row("b", 4))
    assert item.candidates == ("a", "b")
    assert item.opinions[0].payload["ratings"]["helpfulness"] == (1, 4)
    assert item.opinions[0].payload["ratings"]["verbosity"] == (2, 2)


def test_helpsteer2_counts_the_other_way_round():
    row = {"prompt": "q", "response_1": "a", "response_2": "b", "preference_strength": -2}
    assert one(row).opinions[0].payload == {
        "strength": 2
    }  # −2: response 1 is better, ours is positive for the first
    assert one(row).opinions[0].ranks == (1, 2)
    single = [{"strength": 3, "statement": "b is right"}, {"strength": 0}]
    item = one(row | {"all_preferences_unprocessed": single}, annotator="h")
    assert [(o.annotator, o.payload.get("strength"), o.ranks) for o in item.opinions] == [
        ("h-1", -3, (2, 1)),
        ("h-2", 0, (1, 1)),
    ]
    assert item.opinions[0].payload["critique"] == "b is right"
    with pytest.raises(
        UserError, match=r'row 1, field "preference_strength": must lie between -3 and 3'
    ):
        one(row | {"preference_strength": 5})


def test_openai_comparisons_group_by_what_was_compared():
    row = {
        "info": {"id": "t3_1", "post": "long text", "title": "T", "subreddit": "r"},
        "summaries": [{"text": " s0", "policy": "sup2"}, {"text": " s1", "policy": "ref"}],
    }
    item = one(row | {"choice": 1, "worker": "w1"}, row | {"choice": 0, "worker": "w2"})
    assert item.prompt.messages[0]["content"] == "T\n\nlong text"
    assert item.candidates == ("s0", "s1")
    assert [(o.annotator, o.ranks) for o in item.opinions] == [("w1", (2, 1)), ("w2", (1, 2))]
    with pytest.raises(UserError, match='row 1, field "choice": must be 0 or 1, not 2'):
        one(row | {"choice": 2, "worker": "w1"})


def test_label_studio_pairs_rankers_and_ratings():
    pair = one(
        {
            "id": 7,
            "data": {"prompt": "q", "answer1": "a", "answer2": "b", "topic": "x"},
            "annotations": [
                {"completed_by": {"id": 3, "email": "ann@x"}, "lead_time": 12.5,
                    "created_at": "2030-01-02T03:04:05Z",
                 "result": [{"type": "pairwise", "from_name": "pw", "to_name": "answer1,answer2",
                         "value": {"selected": "right"}},
                            {"type": "textarea", "value": {"text": ["b cites"]}},
                            {"type": "rating", "from_name": "helpful", "to_name": "answer2",
                                "value": {"rating": 4}}]},
                {"completed_by": 4, "was_cancelled": True, "result": []},
            ],
        }
    )  # fmt: skip
    (said,) = pair.opinions
    assert (said.annotator, said.ranks, said.seconds) == ("ann@x", (2, 1), 12.5)
    assert said.payload == {
        "strength": -1,
        "critique": "b cites",
        "ratings": {"helpful": (None, 4)},
    }
    assert said.created_at is not None
    assert said.created_at.isoformat() == "2030-01-02T03:04:05+00:00"
    assert pair.prompt.id == "7"
    assert pair.prompt.columns == {"topic": "x"}
    ranker = {
        "data": {
            "text": "q",
            "items": [
                {"id": "i1", "body": "a"},
                {"id": "i2", "body": "b"},
                {"id": "i3", "body": "c"},
            ],
        },
        "annotations": [
            {
                "completed_by": 1,
                "result": [{"type": "ranker", "value": {"ranker": {"_": ["i3", "i1", "i2"]}}}],
            }
        ],
    }
    assert one(ranker).opinions[0].ranks == (2, 3, 1)
    ranker["annotations"][0]["result"][0]["value"] = {"ranker": {"_": ["i3", "i1"]}}
    with pytest.raises(UserError, match=r"must order i1, i2, i3, not i3, i1"):
        one(ranker)


def test_argilla_of_both_generations_and_its_suggestions():
    fields = {"instruction": "q", "response-1": "a", "response-2": "b"}
    newer = one(
        {
            "id": "r1",
            "fields": fields,
            "responses": {"preference": [{"value": ["response-2", "response-1"], "user_id": "u1"}],
                          "helpful_response-2": [{"value": 5, "user_id": "u1"},
                              {"value": 1, "user_id": "u2", "status": "draft"}]},
            "suggestions": {"preference": {"value": [{"value": "response-1", "rank": 1},
                        {"value": "response-2", "rank": 1}], "agent": "judge"}},
        }
    )  # fmt: skip
    person, model = newer.opinions
    assert (person.annotator, person.ranks, person.payload) == (
        "u1",
        (2, 1),
        {"ratings": {"helpful": (None, 5)}},
    )
    assert (model.annotator, model.annotator_kind, model.ranks) == ("judge", "ai", (1, 1))
    older = one(
        {
            "fields": fields,
            "responses": [
                {
                    "user_id": "u",
                    "status": "submitted",
                    "values": {"choice": {"value": "response-1"}},
                }
            ],
            "suggestions": [],
        }
    )
    assert (older.opinions[0].ranks, older.opinions[0].payload) == ((1, 2), {"strength": 1})


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ({"nothing": 1}, r"f.jsonl, row 1: the columns nothing are of no layout"),
        ({"prompt": "q", "completion": "a", "label": 1}, r'row 1, field "label": must be true or false'),  # noqa: E501
        ({"prompt": "q", "responses": ["a"], "ranks": [1]}, r'field "responses": must be a list of at least 2'),  # noqa: E501
        ({"prompt": "q", "responses": ["a", "b"], "ranks": [0, 1]}, r'field "ranks"'),
        ({"instruction": "q", "completions": [{"response": "a", "annotations": {"x": {"Rating": "good"}}}]}, r"completions\[0\].annotations.x.Rating"),  # noqa: E501
        ({"prompt": "q", "response": "a", "helpfulness": 2.5}, r'field "helpfulness": must be a whole number'),  # noqa: E501
        ({"data": {"prompt": "q", "answer1": "a", "answer2": "b"}, "annotations": [{"completed_by": 1, "result": []}]}, r"holds no pairwise choice"),  # noqa: E501
        ({"data": {"prompt": "q"}, "annotations": []}, r"no two candidates"),
        ({"fields": {"response-1": "a"}}, r'field "fields": has no prompt'),
        ({"item_id": "x", "messages": [], "candidates": [], "answers": []}, r'field "messages": is an empty list'),  # noqa: E501
        ({"item_id": "x", "messages": ASKED, "candidates": ["a", "b"], "answers": [{"ranks": "12"}]}, r'answers\[0\].ranks": must be a list of 2'),  # noqa: E501
        ({"item_id": "x", "messages": ASKED, "candidates": [[1], "b"], "answers": []}, r'candidates\[0\]\[-1\]": must be an object, not a number'),  # noqa: E501
        ({"instruction": "q", "completions": [{"response": "a", "annotations": "good"}]}, r'annotations": must be an object, not text'),  # noqa: E501
        ({"instruction": "q", "completions": [{"response": "a", "critique": ["x"]}]}, r'critique": must be text, not a list'),  # noqa: E501
        ({"data": {"prompt": "q", "items": [{"body": "a"}, "b"]}, "annotations": []}, r'data.items\[1\]": must be an object, not text'),  # noqa: E501
        ({"data": {"prompt": "q", "answer1": "a", "answer2": "b"}, "annotations": [{"result": 3}]}, r'result": must be a list of objects'),  # noqa: E501
        ({"data": {"prompt": "q", "answer1": "a", "answer2": "b"}, "annotations": [{"result": PICKED, "lead_time": "x"}]}, r'lead_time": must be a number of seconds'),  # noqa: E501
        ({"fields": FIELDS, "responses": "good"}, r'field "responses": must be a list of objects, not text'),  # noqa: E501
        ({"fields": FIELDS, "responses": [{"values": {"choice": "response-1"}}]}, r'values.choice": must be an object, not text'),  # noqa: E501
        ({"fields": FIELDS, "suggestions": [{"value": 1}], "responses": []}, r"suggestions\[0\].question_name"),  # noqa: E501
        ({"fields": FIELDS, "responses": {"q": [{"value": [["response-1"]]}]}}, r'responses.q": cannot be read'),  # noqa: E501
        ({"fields": FIELDS, "responses": {"q": [{"value": [{"value": "response-1"}, 2]}]}}, r'responses.q\[1\]": must be an object'),  # noqa: E501
    ],
)  # fmt: skip
def test_mistakes_name_file_row_and_field(row, complaint):
    with pytest.raises(UserError, match=complaint):
        one(row)


def test_the_layout_is_told_by_the_first_row_and_can_be_insisted_on():
    assert layout_of(rows({"prompt": "q", "chosen": "a", "rejected": "b"})[0]) == "paired"
    with pytest.raises(UserError, match="which the layout helpsteer needs"):
        read_labelled(rows({"prompt": "q", "response": "b"}), layout="helpsteer")
    with pytest.raises(UserError, match="no layout"):
        read_labelled(rows({"prompt": "q"}), layout="nope")


def test_helpsteer3_and_battles():
    """-2 of HelpSteer3 is two steps of three for the first; battles name models and a winner. Asked
    for as their kin, too."""
    context = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello"},
        {"role": "user", "content": "Name a river"},
    ]
    steer = {
        "context": context,
        "response1": "Rhine",
        "response2": "Paris",
        "overall_preference": -2,
        "domain": "general",
    }
    for layout in (None, "helpsteer3", "helpsteer2-preference"):
        (item,) = read_labelled([Row("f.jsonl", 1, steer, "f:1")], layout=layout).items
        assert (len(item.prompt.messages), item.candidates, item.prompt.columns) == (
            3,
            ("Rhine", "Paris"),
            {"domain": "general"},
        )
        assert [(o.ranks, o.payload["strength"], o.scale) for o in item.opinions] == [
            ((1, 2), 2, 3)
        ]
    alone = {
        **steer,
        "individual_preference": [
            {"score": 1, "reasoning": "because"},
            {"score": 0, "reasoning": ""},
        ],
    }
    (item,) = read_labelled([Row("f.jsonl", 1, alone, "f:1")]).items
    assert [o.payload for o in item.opinions] == [
        {"strength": -1, "critique": "because"},
        {"strength": 0},
    ]

    def side(text: str) -> list[dict[str, str]]:
        return [{"role": "user", "content": "hi"}, {"role": "assistant", "content": text}]

    battle = {
        "question_id": "q",
        "model_a": "m1",
        "model_b": "m2",
        "winner": "model_b",
        "conversation_a": side("hello"),
        "conversation_b": side("yo"),
    }
    for layout in (None, "lmarena", "paired"):
        (item,) = read_labelled([Row("f.jsonl", 1, battle, "f:1")], layout=layout).items
        assert (item.candidates, item.sources, item.opinions[0].ranks) == (
            ("hello", "yo"),
            ("m1", "m2"),
            (2, 1),
        )
    with pytest.raises(UserError, match=r"row 1, field winner|winner.*must be one of"):
        read_labelled([Row("f.jsonl", 1, {**battle, "winner": "nobody"}, "f:1")])
