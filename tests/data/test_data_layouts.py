"""Data in the layouts of other tools, read into the same records as our own columns would be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import datasets
import pytest

from burnish.data.catalogue import entry_of, holds_catalogue
from burnish.data.columns import demonstrations, preference_pairs, prompts
from burnish.data.feedback import preference_groups
from burnish.data.parts import SourceOptions, read_parts
from burnish.data.render import render_demonstration
from burnish.data.sources import Row, read_rows
from burnish.errors import UserError
from burnish.records import TEXT, Demonstration, Message

HI, YO = {"role": "user", "content": "hi"}, {"role": "assistant", "content": "yo"}
MORE, END = {"role": "user", "content": "more"}, {"role": "assistant", "content": "end"}
BE = {"role": "system", "content": "Be brief."}
CALL = {"type": "function", "function": {"name": "f", "arguments": {"x": 1}}}


def rows(*values: Any) -> list[Row]:
    return [
        Row("d/data.jsonl", n, value, f"data.jsonl:{n}") for n, value in enumerate(values, start=1)
    ]


def said(speaker: str, text: str) -> dict[str, str]:
    return {"from": speaker, "value": text}


@pytest.mark.parametrize(
    ("row", "messages"),
    [
        ({"instruction": "hi", "input": "", "output": "yo"}, (HI, YO)),
        ({"instruction": "hi", "output": "yo"}, (HI, YO)),
        (
            {"instruction": "a", "input": "b", "output": "yo"},
            ({"role": "user", "content": "a\nb"}, YO),
        ),
        (
            {"instruction": "a", "context": "b", "response": "yo"},
            ({"role": "user", "content": "a\nb"}, YO),
        ),
        (
            {
                "instruction": "more",
                "input": None,
                "output": "end",
                "system": "Be brief.",
                "history": [["hi", "yo"]],
            },
            (BE, HI, YO, MORE, END),
        ),
        ({"conversations": [said("human", "hi"), said("gpt", "yo")]}, (HI, YO)),
        (
            {
                "conversations": [
                    said("system", "Be brief."),
                    said("user", "hi"),
                    said("assistant", "yo"),
                ]
            },
            (BE, HI, YO),
        ),
        (
            {"conversations": [said("human", "hi"), said("gpt", "yo")], "system": "Be brief."},
            (BE, HI, YO),
        ),
        ({"conversation": [said("human", "hi"), said("chatgpt", "yo")], "id": "x"}, (HI, YO)),
        ({"conversations": [HI, YO, MORE, END]}, (HI, YO, MORE, END)),
        ({"text": "Once upon a time."}, ({"role": TEXT, "content": "Once upon a time."},)),
    ],
)
def test_demonstrations_of_other_tools(row: dict[str, Any], messages: tuple[Any, ...]):
    (found,) = demonstrations(rows(row)).items
    assert found.messages == messages


def test_calls_of_tools_in_sharegpt():
    talk = [said("human", "hi"), said("function_call", '{"name": "f", "arguments": {"x": 1}}')]
    row = {"conversations": [*talk, said("observation", "3"), said("gpt", "yo")], "tools": "[]"}
    (found,) = demonstrations(rows(row)).items
    assert [m["role"] for m in found.messages] == ["user", "assistant", "tool", "assistant"]
    assert found.messages[1]["tool_calls"] == [CALL]
    bad = {
        "conversations": [
            *talk[:1],
            said("function_call", "f(1)"),
            said("observation", "3"),
            said("gpt", "yo"),
        ]
    }
    with pytest.raises(
        UserError, match=r'row 1, field "conversations\[1\]\.value": must be the JSON of a call'
    ):
        demonstrations(rows(bad))


def test_prompts_keep_the_other_columns_of_alpaca():
    (found,) = prompts(
        rows({"instruction": "What is 1 + 1?", "input": "", "output": "2", "level": 3})
    ).items
    assert found.messages == ({"role": "user", "content": "What is 1 + 1?"},)
    assert (found.columns["output"], found.columns["level"]) == ("2", 3)


@pytest.mark.parametrize(
    "row",
    [
        {"instruction": "hi", "input": "", "chosen": "yo", "rejected": "no"},
        {
            "conversations": [said("human", "hi")],
            "chosen": said("gpt", "yo"),
            "rejected": said("gpt", "no"),
        },
    ],
)
def test_comparisons_of_other_tools(row: dict[str, Any]):
    (group,) = preference_pairs(rows(row)).items
    assert (group.prompt.messages, group.responses) == ((HI,), ("yo", "no"))


@pytest.mark.parametrize(
    "row",
    [
        {"instruction": "hi", "output": "yo", "kto_tag": True},
        {"conversations": [said("human", "hi"), said("gpt", "yo")], "kto_tag": True},
    ],
)
def test_single_judgements_of_other_tools(row: dict[str, Any]):
    (group,) = preference_groups(rows(row)).items
    assert (group.prompt.messages, group.responses, group.labels) == ((HI,), ("yo",), (1.0,))


@pytest.mark.parametrize(
    ("row", "place"),
    [
        ({"instruction": 3, "output": "yo"}, "instruction"),
        ({"instruction": "hi", "output": ""}, "output"),
        ({"instruction": "hi", "output": "yo", "history": [["a"]]}, "history[0]"),
        ({"conversations": [said("alien", "hi"), said("gpt", "yo")]}, "conversations[0].from"),
        ({"conversations": [said("human", "hi"), said("gpt", " ")]}, "conversations[1].value"),
        ({"conversations": [said("human", "hi"), {"from": "gpt"}]}, "conversations[1].role"),
        ({"conversations": "hi"}, "conversations"),
        ({"conversations": [said("gpt", "yo")]}, "conversations[0]"),
        ({"text": ""}, "text"),
    ],
)
def test_errors_name_the_field_as_the_row_has_it(row: dict[str, Any], place: str):
    with pytest.raises(UserError) as caught:
        demonstrations(rows({"prompt": "hi", "completion": "yo"}, row))
    assert (caught.value.file, caught.value.row, caught.value.field) == ("d/data.jsonl", 2, place)


def test_what_is_dropped_is_said_and_what_is_not_named_is_an_error():
    row, empty, null = ({"prompt": "hi", "completion": text} for text in ("yo", "", None))
    loaded = demonstrations(rows(row, row, empty, null), drop=("duplicate", "empty"))
    assert (len(loaded.items), loaded.dropped) == (1, {"duplicate": 1, "empty": 2})
    assert len(demonstrations(rows(row, row), drop=()).items) == 2
    with pytest.raises(UserError, match=r"row 2, field \"completion\": is empty\. .*data\.drop"):
        demonstrations(rows(row, empty))
    pair = {"prompt": "hi", "chosen": "yo", "rejected": ""}
    kept = preference_groups(rows({**pair, "rejected": "no"}, pair), drop=("empty",))
    assert (len(kept.items), kept.dropped) == (1, {"empty": 1})
    judged = [{"prompt": "hi", "completion": text, "label": True} for text in ("yo", "")]
    assert preference_groups(rows(*judged), drop=("empty",)).dropped == {"empty": 1}


def test_text_is_trained_as_it_stands_with_its_end(tokenizer: Any):
    (plain,) = render_demonstration(tokenizer, _text("a b"), max_tokens=99)
    assert tokenizer.decode(plain.tokens) == "a b<|im_end|>"
    assert plain.response_mask == (False, *[True] * (len(plain.tokens) - 1))
    (closed,) = render_demonstration(tokenizer, _text("a b<|im_end|>\n"), max_tokens=99)
    assert tokenizer.decode(closed.tokens) == "a b<|im_end|>\n"
    assert closed.tokens.count(tokenizer.eos_token_id) == 1
    tokenizer.bos_token = "<|im_start|>"
    (begun,) = render_demonstration(tokenizer, _text("<|im_start|>a"), max_tokens=99)
    assert begun.tokens.count(tokenizer.bos_token_id) == 1
    assert begun.response_mask == (False, True, True)
    with pytest.raises(UserError, match="has 4 tokens; at most 3 fit"):
        render_demonstration(tokenizer, _text("abc"), max_tokens=3)


def _text(content: str) -> Demonstration:
    return Demonstration("t", (Message(role=TEXT, content=content),))


# ------------------------------------------------------------------------------------------------
# files


def test_csv_keeps_text_as_it_is_and_numbers_as_numbers(tmp_path: Path):
    path = tmp_path / "d.csv"
    path.write_text(
        'prompt,completion,score\n"a, ""b""",NA,1\n"two\nlines",007x,\n', encoding="utf-8"
    )
    first, second = read_rows(path)
    assert dict(first.values) == {"prompt": 'a, "b"', "completion": "NA", "score": 1.0}
    assert dict(second.values) == {"prompt": "two\nlines", "completion": "007x", "score": None}
    assert (first.number, second.key) == (1, "d.csv:2")
    (tmp_path / "d.tsv").write_text("prompt\tcompletion\na,b\tc\n")
    assert dict(read_rows(tmp_path / "d.tsv")[0].values) == {"prompt": "a,b", "completion": "c"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a,a\n1,2\n", "two columns have this name"),
        ("a,\n1,2\n", "must name every column"),
        ("a,b\n1,2\n3,4,5\n", "line 3"),
        ("\xff\xfe,b\n1,2\n", "Save it as UTF-8"),
    ],
)
def test_csv_that_is_broken(text: str, words: str, tmp_path: Path):
    path = tmp_path / "d.csv"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(UserError, match=words) as caught:
        read_rows(path)
    assert str(caught.value.file) == str(path)


def test_what_datasets_saved_is_read_by_its_splits(tmp_path: Path):
    both = {
        name: datasets.Dataset.from_list([{"prompt": f"{name} {i}"} for i in range(3)])
        for name in ("train", "test")
    }
    datasets.DatasetDict(both).save_to_disk(tmp_path / "two")
    parts = read_parts(str(tmp_path / "two"), prompts, SourceOptions())
    assert [p.messages[0]["content"] for p in parts.train] == ["train 0", "train 1", "train 2"]
    assert len(parts.heldout) == 3
    both["train"].save_to_disk(tmp_path / "one")
    assert len(read_rows(tmp_path / "one")) == 3
    (arrow,) = (tmp_path / "one").glob("*.arrow")
    assert [row.values["prompt"] for row in read_rows(arrow)] == ["train 0", "train 1", "train 2"]
    arrow.write_bytes(arrow.read_bytes()[:40])
    with pytest.raises(UserError, match="cannot be read"):
        read_rows(tmp_path / "one")


# ------------------------------------------------------------------------------------------------
# options of a source


def test_columns_are_called_what_the_recipe_says(jsonl: Any):
    source = jsonl({"q": "hi", "a": "yo", "note": 1}, {"q": "more", "a": "end"})
    options = SourceOptions(columns={"prompt": "q", "completion": "a"}, share=0.0)
    parts = read_parts(str(source), demonstrations, options)
    assert [d.messages for d in parts.train] == [(HI, YO), (MORE, END)]
    assert parts.notes == ('passed over: column "note" (1 row)',)
    broken = jsonl({"q": "hi", "a": ""}, name="b.jsonl")
    with pytest.raises(UserError) as caught:
        read_parts(str(broken), demonstrations, options)
    assert caught.value.field == "a"
    with pytest.raises(
        UserError, match=r'field "question": is said to be the column "prompt", and no row has it'
    ):
        read_parts(str(source), demonstrations, SourceOptions(columns={"prompt": "question"}))


def test_a_system_turn_goes_before_conversations_without_one(jsonl: Any):
    source = jsonl({"messages": [HI, YO]}, {"messages": [BE, MORE, END]}, {"text": "alone"})
    parts = read_parts(str(source), demonstrations, SourceOptions(system="Be kind.", share=0.0))
    roles = [[m["role"] for m in d.messages] for d in parts.train]
    assert roles == [["system", "user", "assistant"], ["system", "user", "assistant"], [TEXT]]
    assert [d.messages[0]["content"] for d in parts.train] == ["Be kind.", "Be brief.", "alone"]
    pairs = jsonl({"prompt": "hi", "chosen": "yo", "rejected": "no"}, name="p.jsonl")
    (group,) = read_parts(
        str(pairs), preference_pairs, SourceOptions(system="Be kind.", share=0.0)
    ).train
    assert group.prompt.messages[0] == {"role": "system", "content": "Be kind."}


def test_a_weight_counts_rows_so_many_times(jsonl: Any):
    source = str(jsonl(*({"prompt": f"q{i}"} for i in range(200))))
    whole = read_parts(source, prompts, SourceOptions(share=0.0))
    half = read_parts(source, prompts, SourceOptions(share=0.0, weight=0.5))
    assert 70 < len(half.train) < 130
    assert {p.id for p in half.train} < {p.id for p in whole.train}
    assert half == read_parts(source, prompts, SourceOptions(share=0.0, weight=0.5))
    more = read_parts(source, prompts, SourceOptions(share=0.0, weight=2.5))
    assert len(more.train) == 400 + len(half.train)
    assert len({p.id for p in more.train}) == len(more.train)
    assert {p.id for p in more.train} == set(more.origins)
    assert more.notes[-1] == f"counts 2.5 times: {len(more.train)} of 200 rows"


# ------------------------------------------------------------------------------------------------
# LLaMA-Factory's catalogue


@pytest.fixture
def catalogue(tmp_path: Path) -> Path:
    sets = {
        "plain": {"file_name": "a.json"},
        "chat": {
            "file_name": "b.json", "formatting": "sharegpt", "split": "train",
            "columns": {"messages": "talk", "system": "sys"},
            "tags": {"role_tag": "role", "content_tag": "content"},
        },
        "pairs": {"hf_hub_url": "owner/name", "subset": "en", "ranking": True,
            "columns": {"prompt": "q", "chosen": "good"}},
        "old": {"script_url": "x"},
        "odd": {"file_name": "a.json", "formatting": "sharegpt", "tags": {"role_tag": "who"}},
        "more": {"file_name": "a.json", "columns": {"images": "pictures"}},
    }  # fmt: skip
    (tmp_path / "dataset_info.json").write_text(json.dumps(sets))
    return tmp_path


def test_a_catalogue_names_files_columns_and_splits(catalogue: Path):
    assert holds_catalogue(str(catalogue))
    assert entry_of(str(catalogue), "plain").source == str(catalogue / "a.json")
    chat = entry_of(str(catalogue), "chat")
    assert (chat.split, chat.columns) == ("train", {"conversations": "talk", "system": "sys"})
    pairs = entry_of(str(catalogue), "pairs")
    assert (pairs.source, pairs.columns) == (
        "owner/name:en",
        {"instruction": "q", "chosen": "good"},
    )


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (None, "holds 6 datasets: plain, chat"),
        ("none", 'has no dataset "none"; there are plain'),
        ("old", "is no place that is read"),
        ("odd", "role is read|from or role is read"),
        ("more", 'field "more.columns.images": is not read'),
    ],
)
def test_what_a_catalogue_has_not_or_nobody_reads_is_an_error(
    name: str | None, words: str, catalogue: Path
):
    with pytest.raises(UserError, match=words):
        entry_of(str(catalogue), name)


def test_what_datasets_writes_under_the_same_name_is_no_catalogue(tmp_path: Path):
    datasets.Dataset.from_list([{"prompt": "a"}]).save_to_disk(tmp_path / "one")
    assert (tmp_path / "one" / "dataset_info.json").is_file()
    assert not holds_catalogue(str(tmp_path / "one"))
    assert not holds_catalogue("owner/name")
    with pytest.raises(UserError, match=r"has no dataset_info\.json"):
        entry_of(str(tmp_path), "a")
