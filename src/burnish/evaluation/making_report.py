"""What the report says of stages that make answers, demonstrations and averages: a sentence each, and samples. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from burnish.evaluation.stages import Found, ReportData, found_of
from burnish.evaluation.words import count, number, percent, plain, rows_of, several


@dataclass(frozen=True, slots=True)
class Text:
    """A text of a sample, with what it is."""

    label: str
    text: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Made:
    """What one stage made; `samples` are (prompt, texts)."""

    name: str
    sentence: str
    samples: tuple[tuple[str, tuple[Text, ...]], ...] = ()


def made(data: ReportData) -> list[Made]:
    """Of every stage that makes data or weights without training, in the order in which they ran."""
    return [_of(stage) for stage in found_of(data, "sample", "select", "revise", "merge")]


def _of(stage: Found) -> Made:
    result = stage.result
    if stage.kind == "sample":
        return Made(stage.name, _sampled(result))
    if stage.kind == "merge":
        return Made(stage.name, _merged(result))
    if stage.kind == "revise":
        return Made(stage.name, _revised(result), tuple(_revision(row) for row in rows_of(result, "samples")))
    return Made(stage.name, _selected(result), tuple(_best(row) for row in rows_of(result, "samples")))


def _sampled(result: Mapping[str, Any]) -> str:
    prompts, answers = number(result.get("prompts")), number(result.get("responses_per_prompt"))
    words = number(result.get("words"))
    names = result.get("models") or ()
    text = f"{_and(names)}{' together' if len(names) > 1 else ''} wrote {several(answers, 'answer')} to each of {several(prompts, 'prompt')}"
    return f"{text}, {plain(words, 1)} words on average." if words is not None else f"{text}."


def _merged(result: Mapping[str, Any]) -> str:
    models = [f"{row.get('name')} ({percent(number(row.get('weight')))})" for row in rows_of(result, "models")]
    return f"The weights of the {result.get('of')} {_and(models)} were averaged."


def _revised(result: Mapping[str, Any]) -> str:
    prompts, changed = number(result.get("prompts")), number(result.get("changed"))
    rounds, principles = number(result.get("rounds")), number(result.get("principles"))
    text = (
        f"Answers to {several(prompts, 'prompt')} were criticised and rewritten by {several(principles, 'principle')}"
    )
    if rounds is not None and rounds > 1:
        text += f", {count(rounds)} times each"
    return f"{text}: {count(changed)} of them came out different, and all became demonstrations."


def _selected(result: Mapping[str, Any]) -> str:
    kept, answers, prompts = (number(result.get(key)) for key in ("kept", "answers", "prompts"))
    mean, best = (number(result.get(key)) for key in ("mean_score", "best_score"))
    pairs = result.get("make") == "pairs"
    if pairs:
        half = None if kept is None else kept / 2
        text = f"Of {several(answers, 'answer')} to {several(prompts, 'prompt')} the best and the worst became {several(half, 'pair')}"
    else:
        text = f"Of {several(answers, 'answer')} to {several(prompts, 'prompt')} the best {count(kept)} became demonstrations"
    if mean is not None and best is not None:
        text += f"; the mean score is {plain(mean)}, that of each prompt's best answer {plain(best)}"
    without = number(result.get("without_any"))
    return f"{text}. For {several(without, 'prompt')} none was good enough." if without else f"{text}."


def _revision(row: Mapping[str, Any]) -> tuple[str, tuple[Text, ...]]:
    critiques = [
        Text("Critique", str(one.get("critique", "")), f"by: {one.get('principle', '')}")
        for one in rows_of(row, "revisions")
    ]
    before, after = Text("Before", str(row.get("initial", ""))), Text("After", str(row.get("revised", "")))
    return str(row.get("prompt", "")), (before, *critiques, after)


def _best(row: Mapping[str, Any]) -> tuple[str, tuple[Text, ...]]:
    return str(row.get("prompt", "")), (
        Text("Best answer", str(row.get("best", "")), f"score {plain(number(row.get('score')))}"),
    )


def _and(names: Any) -> str:
    *most, last = [str(name) for name in names or ["the policy"]]
    return f"{', '.join(most)} and {last}" if most else last
