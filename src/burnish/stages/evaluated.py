"""What an evaluation keeps: every answer of every model and every verdict, one JSON object a line.

A row of answers.jsonl: `prompt_id`, `messages`, `model`, `number` (of the answer among those to its
prompt), `text`, `tokens`, `finish` and `seed`; the random numbers of an answer follow from (seed,
prompt_id, number). Further fields make it a rollout again.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from burnish.atomic import write_text
from burnish.errors import UserError
from burnish.jsonio import dumps
from burnish.records import Completion, Prompt, Rollout

VERDICTS = "verdicts.jsonl"
_OPTIONAL = ("response_mask", "sampler_logprobs", "model_logprobs")


def answer_rows(
    model: str, rollouts: Iterable[Rollout], *, seed: int, per_prompt: int
) -> list[dict[str, Any]]:
    """One model's answers; those of a prompt stand side by side, `per_prompt` of each."""
    return [
        _row(model, rollout, seed=seed, number=place % per_prompt)
        for place, rollout in enumerate(rollouts)
    ]


def _row(model: str, rollout: Rollout, *, seed: int, number: int) -> dict[str, Any]:
    completion = rollout.completion
    row: dict[str, Any] = {
        "prompt_id": rollout.prompt.id,
        "messages": list(rollout.prompt.messages),
        "model": model,
        "number": number,
        "text": completion.text,
        "tokens": completion.tokens,
        "finish": completion.finish_reason,
        "seed": seed,
        "prompt_tokens": rollout.prompt_tokens,
    }
    row |= {name: value for name in _OPTIONAL if (value := getattr(completion, name))}
    return row | ({"paid": dict(rollout.paid)} if rollout.paid else {})


def rollouts_of(rows: Iterable[Mapping[str, Any]], prompts: Sequence[Prompt]) -> list[Rollout]:
    """The rollouts that rows of answers were made of; `prompts` hold what each of them asks, with
    its columns."""
    asked = {prompt.id: prompt for prompt in prompts}
    return [
        Rollout(
            asked[row["prompt_id"]],
            tuple(row["prompt_tokens"]),
            Completion(
                text=row["text"],
                tokens=tuple(row["tokens"]),
                finish_reason=row["finish"],
                **{name: tuple(row.get(name, ())) for name in _OPTIONAL},
            ),
            0,
            row.get("paid", {}),
        )
        for row in rows
    ]


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """To disk, atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, "".join(dumps(row) + "\n" for row in rows))


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Rows of answers or of verdicts. Raises UserError naming the line that is damaged."""
    hint = f"Remove the folder {path.parent} and evaluate again."
    try:
        lines = path.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8"
        raise UserError(f"this file cannot be read ({reason}).", file=path, hint=hint) from error
    rows = []
    for number, line in enumerate(filter(None, lines), start=1):
        try:
            rows.append(json.loads(line))
        except ValueError as error:
            raise UserError("this line is damaged.", file=path, row=number, hint=hint) from error
    return rows
