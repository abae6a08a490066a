"""Stage `revise`: a model answers, criticises its answer by a principle, and rewrites it; the
rewritten answers are demonstrations."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from burnish.annotation.ai.judge import principles, read_constitution
from burnish.annotation.ai.revise import revise
from burnish.atomic import write_text
from burnish.config.shipped import located
from burnish.data.prompts import split_or_all
from burnish.jsonio import dumps
from burnish.records import Demonstration, Prompt
from burnish.stages.artifacts import DEMONSTRATIONS, write_demonstrations
from burnish.stages.chat_of import chat_of
from burnish.stages.context import Step

_CHUNK = 16  # prompts revised between two files, so that a killed run loses little


def run(step: Step) -> None:
    """Answer, criticise, revise, part by part."""
    config = step.settings
    rules = principles(read_constitution(located(Path(config.constitution).expanduser())))
    prompts = list({prompt.id: prompt for prompt in step.prompts.train}.values())[: config.count]
    chat = None
    rows: list[dict[str, Any]] = []
    progress = step.progress()
    for start in range(0, len(prompts), _CHUNK):
        part = step.folder / "parts" / f"{start:06d}.jsonl"
        if not part.is_file():
            if chat is None:
                chat = chat_of(
                    step,
                    config.model,
                    config.endpoint,
                    slot="model",
                    max_length=step.recipe.model.max_length,
                    max_tokens=config.sampling.max_new_tokens,
                    temperature=config.sampling.temperature,
                )
            chunk = prompts[start : start + _CHUNK]
            part.parent.mkdir(parents=True, exist_ok=True)
            revised = revise(chunk, chat, rules, rounds=config.rounds, seed=step.seed)
            write_text(part, "".join(dumps(row) + "\n" for row in revised))
            if progress is not None:
                progress(min(start + _CHUNK, len(prompts)), len(prompts), 0, {})
        rows += [json.loads(line) for line in part.read_text(encoding="utf-8").split("\n") if line]
    demonstrations = [
        _demonstration(prompt, row) for prompt, row in zip(prompts, rows, strict=True)
    ]
    write_demonstrations(
        step.folder / DEMONSTRATIONS,
        *split_or_all(
            demonstrations, heldout=step.recipe.data.heldout, seed=step.recipe.seed, salt="made/"
        )[:2],
    )
    changed = sum(row["initial"] != row["messages"][-1]["content"] for row in rows)
    step.finish(
        {
            "prompts": len(prompts),
            "rounds": config.rounds,
            "principles": len(rules),
            "changed": changed,
            "samples": [_sample(row) for row in rows[:4]],
        }
    )


def _demonstration(prompt: Prompt, row: dict[str, Any]) -> Demonstration:
    messages = (*prompt.messages, row["messages"][-1])
    return Demonstration(prompt.id, messages, prompt.tools, prompt.chat_template_kwargs)


def _sample(row: dict[str, Any]) -> dict[str, Any]:
    """The prompt's last turn, the answer before and after, and how it came about."""
    messages: Sequence[dict[str, Any]] = row["messages"]
    return {
        "prompt": messages[-2]["content"],
        "initial": row["initial"],
        "revised": messages[-1]["content"],
        "revisions": row["revisions"],
    }
