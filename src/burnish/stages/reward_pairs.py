"""Reward models held to a file of preferences: every answer scored, how often the better one scores
higher."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from burnish.atomic import write_json
from burnish.data.render import render_prompt
from burnish.data.sources import open_source
from burnish.errors import UserError
from burnish.evaluation.suites.items import Row
from burnish.evaluation.suites.pairs import Pairs, accuracies, pairs_of
from burnish.jsonio import dumps, undefined_as_null
from burnish.models.contents import local_files
from burnish.models.weights import load_reward_model
from burnish.records import Completion, Message, Prompt, Rollout
from burnish.rewards.model import RewardModelScorer
from burnish.runs.contents import contents_hash
from burnish.stages.artifacts import require_reward_model
from burnish.stages.evaluated import read_rows, write_rows
from burnish.stages.sampling import end_tokens_of

SCORES = "scores.jsonl"
_CHUNK, _MICRO_BATCH_TOKENS = 64, 2048


def examine_rewards(
    models: Mapping[str, str], source: str, out: Path, *, say: Callable[[str], None]
) -> list[dict[str, Any]]:
    """Score the pairs of a source with every model, keep the scores in `out`, and return the rows
    of result.json. What an earlier start has scored is taken over.

    Raises UserError for a source without pairs and for a folder without a reward model.
    """
    rows = [row for portion in open_source(source).items for row in portion.rows()]
    items = pairs_of([Row(row.values, row.file, row.number) for row in rows])
    if not items:
        raise UserError("holds no rows.", file=source)
    for folder in models.values():
        require_reward_model(Path(folder))
    scored = {name: _scored(folder, items, out, name) for name, folder in models.items()}
    write_rows(
        out / SCORES,
        (
            {"model": name, "item": item.id, "subset": item.subset, "chosen": chosen,
                "rejected": rejected}
            for name, own in scored.items()
            for item, (chosen, rejected) in zip(items, own, strict=True)
        ),
    )  # fmt: skip
    found = accuracies(items, scored)
    write_json(out / "result.json", undefined_as_null({"pairs": source, "subsets": found}))
    say(f"scores: {out / SCORES}")
    return found


def _scored(
    folder: str, items: Sequence[Pairs], out: Path, name: str
) -> list[tuple[list[float], list[float]]]:
    """The scores of each item's answers, part by part. A part is named by the model's contents and
    its items, so that a model that was trained anew is scored anew."""
    contents = contents_hash(local_files(folder), known=out / "known_files.json")
    found, score = list[tuple[list[float], list[float]]](), None
    for start in range(0, len(items), _CHUNK):
        chunk = items[start : start + _CHUNK]
        text = dumps(
            [contents, [[one.id, *one.messages, *one.chosen, *one.rejected] for one in chunk]]
        )
        mark = hashlib.sha256(text.encode()).hexdigest()[:12]
        part = out / "parts" / f"{name}-{mark}.jsonl"
        if not part.is_file():
            score = score or _scorer(folder)
            write_rows(part, ({"scores": one} for one in score(chunk)))
        for item, row in zip(chunk, read_rows(part), strict=True):
            better = len(item.chosen)
            found.append((row["scores"][:better], row["scores"][better:]))
    return found


def _scorer(folder: str) -> Callable[[Sequence[Pairs]], list[list[float]]]:
    view = load_reward_model(Path(folder))
    backbone = view.backbone
    ends = end_tokens_of(backbone)
    scorer = RewardModelScorer(view, end_tokens=ends, max_tokens=_MICRO_BATCH_TOKENS)

    def rollout(item: Pairs, text: str) -> Rollout:
        messages = tuple(Message(role=one["role"], content=one["content"]) for one in item.messages)
        prompt = Prompt(item.id, messages)
        tokens = tuple(backbone.tokenizer(text, add_special_tokens=False)["input_ids"])
        room = backbone.context - len(tokens) - 1
        return Rollout(
            prompt,
            render_prompt(backbone.tokenizer, prompt, max_tokens=room),
            Completion(text, tokens, (), "stop"),
            0,
        )

    def score(chunk: Sequence[Pairs]) -> list[list[float]]:
        rollouts = [
            rollout(item, text) for item in chunk for text in (*item.chosen, *item.rejected)
        ]
        values = iter(reward.value for reward in scorer.score(rollouts))
        return [[next(values) for _ in (*item.chosen, *item.rejected)] for item in chunk]

    return score
