"""What stages hand to one another besides models: answers, comparisons and demonstrations, one JSON
object a line."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from burnish.atomic import write_text
from burnish.errors import UserError
from burnish.jsonio import dumps
from burnish.records import Comparison, Demonstration, PreferenceGroup, Prompt

ANSWERS, COMPARISONS, DEMONSTRATIONS = "answers.jsonl", "comparisons.jsonl", "demonstrations.jsonl"
Record = TypeVar("Record")


@dataclass(frozen=True, slots=True)
class Answered:
    """A prompt and the answers that were sampled to it; `models` says who wrote each."""

    prompt: Prompt
    responses: tuple[str, ...]
    models: tuple[str, ...]


def require_reward_model(folder: Path, *, field: str | None = None) -> None:
    """Raise UserError where a folder holds no reward model."""
    if not (folder / "head.safetensors").is_file():
        hint = "It is the folder model of a stage of the kind reward, as in runs/NAME/reward/model."
        raise UserError("this folder holds no reward model.", file=folder, field=field, hint=hint)


def write_answers(path: Path, answered: Iterable[Answered]) -> None:
    """To disk, atomically."""
    rows = (
        {**_prompt(one.prompt), "responses": one.responses, "models": one.models}
        for one in answered
    )
    write_text(path, "".join(dumps(row) + "\n" for row in rows))


def read_answers(stage: Path) -> tuple[Answered, ...]:
    """What the stage in this folder sampled."""
    return _read(stage / ANSWERS, _answered)


def write_comparisons(path: Path, groups: Iterable[PreferenceGroup]) -> None:
    """To disk, atomically."""
    rows = (
        {
            **_prompt(group.prompt),
            "responses": group.responses,
            "comparisons": [asdict(one) for one in group.comparisons],
            "labels": group.labels,
            **({"traces": group.traces} if group.traces else {}),
        }
        for group in groups
    )
    write_text(path, "".join(dumps(row) + "\n" for row in rows))


def read_comparisons(stage: Path) -> tuple[PreferenceGroup, ...]:
    """What the stage in this folder compared."""
    return _read(stage / COMPARISONS, _group)


def write_demonstrations(
    path: Path, train: Iterable[Demonstration], heldout: Iterable[Demonstration]
) -> None:
    """To disk, atomically, as any source of demonstrations is read; the column `split` says which
    are held out."""
    rows = [
        {
            "id": one.id,
            "messages": list(one.messages),
            **({"tools": list(one.tools)} if one.tools else {}),
            **(
                {"chat_template_kwargs": dict(one.chat_template_kwargs)}
                if one.chat_template_kwargs
                else {}
            ),
            "split": split,
        }
        for split, part in (("train", train), ("heldout", heldout))
        for one in part
    ]
    write_text(path, "".join(dumps(row) + "\n" for row in rows))


def _prompt(prompt: Prompt) -> dict[str, Any]:
    # through text, since a column may hold a date, which JSON does not have
    columns = json.loads(json.dumps(dict(prompt.columns), default=str))
    return {"id": prompt.id, "messages": list(prompt.messages), "columns": columns}


def _prompt_of(row: Mapping[str, Any]) -> Prompt:
    return Prompt(row["id"], tuple(row["messages"]), row["columns"])


def _answered(row: Mapping[str, Any]) -> Answered:
    return Answered(_prompt_of(row), tuple(row["responses"]), tuple(row["models"]))


def _group(row: Mapping[str, Any]) -> PreferenceGroup:
    comparisons = tuple(Comparison(**one) for one in row["comparisons"])
    traces = {text: tuple(turns) for text, turns in row.get("traces", {}).items()}
    return PreferenceGroup(
        _prompt_of(row), tuple(row["responses"]), comparisons, tuple(row["labels"]), traces
    )


def _read(path: Path, make: Callable[[Mapping[str, Any]], Record]) -> tuple[Record, ...]:
    hint = f"Remove the folder {path.parent} and run the recipe again: the stage is then made anew."
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8"
        raise UserError(f"this file cannot be read ({reason}).", file=path, hint=hint) from None
    found = []
    for number, line in enumerate(text.removesuffix("\n").split("\n") if text else (), start=1):
        try:
            found.append(make(json.loads(line)))
        except (ValueError, KeyError, TypeError) as error:
            raise UserError("this line is damaged.", file=path, row=number, hint=hint) from error
    return tuple(found)
