"""What a source holds out is never trained on, whatever the reader and however the source says
it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import datasets
import pyarrow
import pytest
from pyarrow import parquet

from burnish.data.code_tasks import code_tasks
from burnish.data.columns import demonstrations, prompts
from burnish.data.feedback import preference_groups
from burnish.data.parts import Parts, SourceOptions, read_parts
from burnish.data.sources import read_rows
from burnish.data.split_names import holds_out_for, part_of, split_of_path
from burnish.errors import UserError

MARK = "MARKER"
Rows = list[dict[str, Any]]


def _chat(question: str, answer: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


# For each reader and layout of columns: the reader, and a row of a question.
READERS: dict[str, tuple[Callable[[Sequence[Any]], Any], Callable[[str], dict[str, Any]]]] = {
    "demonstrations: text": (demonstrations, lambda q: {"prompt": q, "completion": f"yes {q}"}),
    "demonstrations: messages": (demonstrations, lambda q: {"messages": _chat(q, f"yes {q}")}),
    "demonstrations: chosen": (
        demonstrations,
        lambda q: {"prompt": q, "chosen": f"yes {q}", "rejected": "no"},
    ),
    "demonstrations: GSM8K": (demonstrations, lambda q: {"question": q, "answer": f"{q}\n#### 4"}),
    "prompts: text": (prompts, lambda q: {"prompt": q, "answer": q}),
    "prompts: messages": (prompts, lambda q: {"messages": _chat(q, "yes")[:1]}),
    "prompts: GSM8K": (prompts, lambda q: {"question": q, "answer": f"{q}\n#### 4"}),
    "prompts: code": (code_tasks, lambda q: {"prompt": q, "test_list": [f"assert f('{q}') == 1"]}),
    "comparisons: text": (
        preference_groups,
        lambda q: {"prompt": q, "chosen": f"yes {q}", "rejected": "no"},
    ),
    "comparisons: chats": (
        preference_groups,
        lambda q: {"chosen": _chat(q, f"yes {q}"), "rejected": _chat(q, "no")},
    ),
    "comparisons: transcripts": (
        preference_groups,
        lambda q: {name: f"\n\nHuman: {q}\n\nAssistant: {name}" for name in ("chosen", "rejected")},
    ),
    "feedback: judged singly": (
        preference_groups,
        lambda q: {"prompt": q, "completion": f"yes {q}", "label": True},
    ),
    "feedback: ranking": (
        preference_groups,
        lambda q: {"prompt": q, "responses": [f"yes {q}", "no"], "ranks": [1, 2]},
    ),
    "feedback: HelpSteer2": (
        preference_groups,
        lambda q: {
            "prompt": q,
            "response_1": f"yes {q}",
            "response_2": "no",
            "preference_strength": -2,
        },
    ),
}


def _lines(path: Path, rows: Rows) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def _table(path: Path, rows: Rows) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pyarrow.Table.from_pylist(rows), path)


def _hub(monkeypatch: pytest.MonkeyPatch, **splits: Rows) -> None:
    held = datasets.DatasetDict(
        {name: datasets.Dataset.from_list(rows) for name, rows in splits.items()}
    )
    monkeypatch.setattr(
        datasets, "load_dataset", lambda *ref, split=None: held if split is None else held[split]
    )


Made = tuple[str, SourceOptions]


def _hub_layout(folder: Path, train: Rows, out: Rows, monkeypatch: pytest.MonkeyPatch) -> Made:
    _table(folder / "data/train-00000-of-00001.parquet", train)
    _table(folder / "data/test-00000-of-00001.parquet", out)
    return str(folder), SourceOptions()


def _named_files(folder: Path, train: Rows, out: Rows, monkeypatch: pytest.MonkeyPatch) -> Made:
    _lines(folder / "train.jsonl", train)
    _lines(folder / "validation.jsonl", out[:1])
    _lines(folder / "eval_1.jsonl", out[1:])
    (folder / "dataset_infos.json").write_text("{}")
    return str(folder), SourceOptions()


def _folders(folder: Path, train: Rows, out: Rows, monkeypatch: pytest.MonkeyPatch) -> Made:
    _lines(folder / "train/a.jsonl", train)
    _lines(folder / "held-out/a.jsonl", out)
    return str(folder), SourceOptions()


def _beside_unnamed(folder: Path, train: Rows, out: Rows, monkeypatch: pytest.MonkeyPatch) -> Made:
    _lines(folder / "cooking.jsonl", train)
    _lines(folder / "cooking-dev.jsonl", out)
    return str(folder), SourceOptions()


def _hub_set(folder: Path, train: Rows, out: Rows, monkeypatch: pytest.MonkeyPatch) -> Made:
    _hub(monkeypatch, test=out, train=train)
    return "owner/name", SourceOptions()


def _hub_splits_named(
    folder: Path, train: Rows, out: Rows, monkeypatch: pytest.MonkeyPatch
) -> Made:
    _hub(
        monkeypatch,
        train_sft=[{"nothing": "of use"}],
        train_prefs=train,
        test_sft=[],
        test_prefs=out,
    )
    return "owner/name", SourceOptions(split="train_prefs", heldout_split="test_prefs")


def _hub_split_and_its_namesake(
    folder: Path, train: Rows, out: Rows, monkeypatch: pytest.MonkeyPatch
) -> Made:
    _hub(
        monkeypatch,
        train_sft=[{"nothing": "of use"}],
        train_prefs=train,
        test_sft=[{"nothing": "of use"}],
        test_prefs=out,
    )
    return "owner/name", SourceOptions(split="train_prefs")


def _files_and_their_namesakes(
    folder: Path, train: Rows, out: Rows, monkeypatch: pytest.MonkeyPatch
) -> Made:
    for name, rows in (
        ("train_gen", train),
        ("test_gen", out),
        ("train_sft", [{"a": 1}]),
        ("test_sft", [{"a": 1}]),
    ):
        _table(folder / f"data/{name}-00000-of-00001.parquet", rows)
    return str(folder), SourceOptions(split="train_gen")


def _column_of_namesakes(
    folder: Path, train: Rows, out: Rows, monkeypatch: pytest.MonkeyPatch
) -> Made:
    others = [{"split": "train_sft"}, {"split": "test_sft"}]
    _lines(
        folder / "r.jsonl",
        [
            *others,
            *({**r, "split": "test_gen"} for r in out),
            *({**r, "split": "train_gen"} for r in train),
        ],
    )
    return str(folder / "r.jsonl"), SourceOptions(split="train_gen")


def _other_source(folder: Path, train: Rows, out: Rows, monkeypatch: pytest.MonkeyPatch) -> Made:
    _lines(folder / "mine.jsonl", train)
    _lines(folder / "other.jsonl", out)
    return str(folder / "mine.jsonl"), SourceOptions(heldout=str(folder / "other.jsonl"))


def _column(value: str, name: str = "split") -> Callable[..., Made]:
    def make(folder: Path, train: Rows, out: Rows, monkeypatch: pytest.MonkeyPatch) -> Made:
        marked = [{**row, name: value} for row in out]
        _lines(
            folder / "rows.jsonl",
            [*marked[:1], *({**row, name: "train"} for row in train), *marked[1:]],
        )
        return str(folder / "rows.jsonl"), SourceOptions(column=name)

    return make


LAYOUTS = {
    "hub's files": _hub_layout, "files named after splits": _named_files,
    "folders named after splits": _folders,
    "one file named after a split": _beside_unnamed, "hub set": _hub_set,
    "hub splits that are named": _hub_splits_named,
    "a hub split and its namesake": _hub_split_and_its_namesake,
    "files and their namesakes": _files_and_their_namesakes,
    "a column of namesakes": _column_of_namesakes,
    "a source of its own": _other_source,
    **{f"column: {value}": _column(value) for value in ("heldout", "test", "Validation", "val",
            "dev", "EVAL", "test_sft")},
    "another column": _column("test", "fold"),
}  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("reader", READERS)
def test_held_out_rows_are_never_trained_on(
    reader: str, layout: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    read, row = READERS[reader]
    train, out = [row(f"question {i}") for i in range(5)], [row(f"{MARK} {i}") for i in range(3)]
    ref, options = LAYOUTS[layout](tmp_path / "d", train, out, monkeypatch)
    parts: Parts[Any] = read_parts(ref, read, options)
    assert MARK not in repr(parts.train)
    assert len(parts.train) == 5
    assert all(MARK in repr(item) for item in parts.heldout)
    assert len(parts.heldout) == 3
    assert parts.not_evaluated is None


@pytest.mark.parametrize("reader", READERS)
def test_a_prompt_on_both_sides_is_not_trained_on(reader: str, tmp_path: Path):
    read, row = READERS[reader]
    _lines(tmp_path / "train.jsonl", [row("one"), row(f"{MARK}  0"), row("two")])
    _lines(tmp_path / "test.jsonl", [row(f"{MARK} 0")])
    parts: Parts[Any] = read_parts(str(tmp_path), read, SourceOptions())
    assert MARK not in repr(parts.train)
    assert (len(parts.train), len(parts.heldout)) == (2, 1)
    assert parts.dropped == {"the prompt is held out too": 1}


def test_where_all_training_prompts_are_held_out_too_the_source_is_named(tmp_path: Path):
    for name in ("train", "test"):
        _lines(tmp_path / f"{name}.jsonl", [{"prompt": "one"}])
    with pytest.raises(UserError, match="all 1 training prompts are held out too"):
        read_parts(str(tmp_path), prompts, SourceOptions())


def test_equal_ids_in_two_splits_are_two_records(tmp_path: Path):
    _lines(tmp_path / "train.jsonl", [{"id": 0, "prompt": "one"}, {"id": 1, "prompt": "two"}])
    _lines(tmp_path / "test.jsonl", [{"id": 0, "prompt": "three"}])
    parts = read_parts(str(tmp_path), prompts, SourceOptions())
    assert [p.id for p in (*parts.train, *parts.heldout)] == ["0", "1", "heldout/0"]
    assert parts.origins["heldout/0"].file == str(tmp_path / "test.jsonl")


def test_values_of_the_column_that_mean_neither_part_are_listed(tmp_path: Path):
    _lines(
        tmp_path / "r.jsonl",
        [{"prompt": str(i), "split": v} for i, v in enumerate(["train", "gold", 3, "gold"])],
    )
    with pytest.raises(
        UserError,
        match=r'r\.jsonl, row 2, field "split": .*"gold" \(2\), "3" \(1\).*split_column=null',
    ):
        read_parts(str(tmp_path / "r.jsonl"), prompts, SourceOptions())
    assert (
        len(
            read_parts(
                str(tmp_path / "r.jsonl"), prompts, SourceOptions(column=None, share=0.0)
            ).train
        )
        == 4
    )


def test_several_splits_to_train_on_are_asked_about(monkeypatch: pytest.MonkeyPatch):
    rows = [{"prompt": "p"}]
    _hub(monkeypatch, train_sft=rows, train_prefs=rows, test_sft=rows)
    with pytest.raises(
        UserError,
        match=r"several splits to train on: train_sft, train_prefs\. Name one: \{source: owner/",
    ):
        read_parts("owner/name", prompts, SourceOptions())


def test_rows_without_a_value_are_trained_on(tmp_path: Path):
    _lines(
        tmp_path / "r.jsonl",
        [{"prompt": "a"}, {"prompt": "b", "split": None}, {"prompt": "c", "split": "test"}],
    )
    parts = read_parts(str(tmp_path / "r.jsonl"), prompts, SourceOptions())
    assert [p.messages[0]["content"] for p in parts.train] == ["a", "b"]


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.9])
def test_one_or_two_rows_are_trained_on_without_a_held_out_part(
    tmp_path: Path, count: int, share: float
):
    _lines(tmp_path / "r.jsonl", [{"prompt": f"p{i}"} for i in range(count)])
    for seed in range(20):
        parts = read_parts(
            str(tmp_path / "r.jsonl"), prompts, SourceOptions(share=share, seed=seed)
        )
        assert parts.train
        assert len(parts.train) + len(parts.heldout) == count
        assert (parts.not_evaluated is None) == bool(parts.heldout)
        assert count == 2 or not parts.heldout


def test_a_limit_that_reaches_no_held_out_row_holds_a_share_out(tmp_path: Path):
    rows = [{"prompt": f"p{i}", "split": "train" if i < 60 else "test"} for i in range(80)]
    _lines(tmp_path / "r.jsonl", rows)
    parts = read_parts(str(tmp_path / "r.jsonl"), prompts, SourceOptions(limit=50))
    assert len(parts.train) + len(parts.heldout) == 50
    assert 0 < len(parts.heldout) < 15
    assert any("no row that was read is marked as held out" in note for note in parts.notes)


def test_a_limit_counts_for_each_part_where_files_or_tasks_say_the_parts(tmp_path: Path):
    _lines(tmp_path / "train.jsonl", [{"prompt": f"p{i}"} for i in range(80)])
    _lines(tmp_path / "test.jsonl", [{"prompt": f"q{i}"} for i in range(80)])
    for ref in (str(tmp_path), "task:arithmetic?digits=2&train=80&heldout=80"):
        parts = read_parts(ref, prompts, SourceOptions(limit=50))
        assert (len(parts.train), len(parts.heldout)) == (50, 50)


def test_columns_that_nobody_reads_are_named_once_with_their_counts(tmp_path: Path):
    rows = [
        {
            "prompt": f"p{i}",
            "completion": "c",
            "foo": 1,
            "split": "train",
            **({"bar": 2} if i else {}),
        }
        for i in range(4)
    ]
    _lines(tmp_path / "r.jsonl", rows)
    parts = read_parts(str(tmp_path / "r.jsonl"), demonstrations, SourceOptions(share=0.0))
    assert parts.notes == ('passed over: column "foo" (4 rows), column "bar" (3 rows)',)
    _lines(tmp_path / "p.jsonl", [{"prompt": "p", "foo": 1}])
    assert read_parts(str(tmp_path / "p.jsonl"), prompts, SourceOptions()).notes == ()


def test_keys_of_messages_that_nobody_reads_are_named_once_with_a_count(tmp_path: Path):
    asked = {"role": "user", "content": "Hi", "name": "Ann", "id": None}
    said = {"role": "assistant", "content": "Yo", "weight": 1, "created": 5, "thinking": None}
    rows = [{"messages": [{**asked, "content": f"Hi {i}"}, said, asked, said]} for i in range(3)]
    rows.append(
        {"messages": [{"role": "user", "content": "plain"}, {"role": "assistant", "content": "Yo"}]}
    )
    _lines(tmp_path / "rows.jsonl", rows)
    parts = read_parts(str(tmp_path / "rows.jsonl"), demonstrations, SourceOptions(share=0))
    assert sorted(parts.notes[0].split(": ")[1].split(", ")) == [
        'key "created" (3 rows)',
        'key "name" (3 rows)',
    ]


def test_so_are_those_of_compared_messages(tmp_path: Path):
    asked = [{"role": "user", "content": "Hi", "name": "Ann"}]
    said = {"role": "assistant", "content": "a", "model": "x"}
    _lines(tmp_path / "r.jsonl", [{"prompt": asked, "chosen": [said], "rejected": "b"}])
    parts = read_parts(str(tmp_path / "r.jsonl"), preference_groups, SourceOptions(share=0))
    assert sorted(parts.notes[0].split(": ")[1].split(", ")) == [
        'key "model" (1 row)',
        'key "name" (1 row)',
    ]
    _lines(
        tmp_path / "a.jsonl",
        [{"fields": {"chat": asked, "a": "x", "b": "y"}, "responses": {"choice": []}}],
    )
    (row,) = read_rows(tmp_path / "a.jsonl")
    with pytest.raises(UserError):  # nobody has answered it
        preference_groups([row])
    assert row.reading.passed_over == {"name"}


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("train", "train"), ("TRAIN", "train"), ("train_prefs", "train"), ("auxiliary_train", "train"), ("training", "train"),  # noqa: E501
        ("test", "heldout"), ("validation", "heldout"), ("dev-00", "heldout"), ("held out", "heldout"), ("hold-out", "heldout"),  # noqa: E501
        ("test_sft", "heldout"), ("eval", "heldout"), ("val2", "heldout"), ("devops", None), ("testament", None),  # noqa: E501
        ("constrained", None), ("train_test", None), ("", None), ("gold", None),
    ],
)  # fmt: skip
def test_what_a_name_means(name: str, part: str | None):
    assert part_of(name) == part


@pytest.mark.parametrize(
    ("split", "name", "pair"),
    [
        ("train_prefs", "test_prefs", True), ("train_prefs", "test_sft", False), ("train_prefs", "test", False),  # noqa: E501
        ("train", "test", True), ("train", "validation", True), ("train", "test_prefs", False), ("train", "train", False),  # noqa: E501
        ("test_prefs", "test_prefs", False), ("gold", "test", False), ("train_1", "test_1", True), ("train_1", "test_2", False),  # noqa: E501
        ("math-train", "math-dev", True), ("train_gen", "held_out_gen", True), ("train_prefs", "None", False),  # noqa: E501
    ],
)  # fmt: skip
def test_which_split_is_held_out_for_which(split: str, name: str, pair: bool):
    assert holds_out_for(split, name) is pair


@pytest.mark.parametrize(
    ("path", "split"),
    [
        ("data/train-00000-of-00002.parquet", "train"), ("data/test_prefs-00000-of-00001.parquet", "test_prefs"),  # noqa: E501
        ("train_1.jsonl", "train"), ("harmless/train.jsonl.gz", "train"), ("test/part.json", "test"),  # noqa: E501
        ("dev/deep/part.json", "dev"), ("test/train.jsonl", "train"), ("rows.jsonl", None), ("train-test.jsonl", None),  # noqa: E501
    ],
)  # fmt: skip
def test_which_split_a_file_is_of(path: str, split: str | None):
    assert split_of_path(Path(path)) == split
