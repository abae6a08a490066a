"""Keep the best answers to each prompt.

Example: `burnish select --config recipes/expert-iteration.yaml --out runs/expert-iteration`
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal

from burnish.config.bounds import Count, Finite
from burnish.config.kinds import Artifact, Inputs, Slot, Stage
from burnish.config.rewards import RewardSpec
from burnish.config.sections import Reference, Section
from burnish.evaluation.stages import Found, Text, Told
from burnish.evaluation.words import count, number, plain, rows_of, several

if TYPE_CHECKING:
    from burnish.planning.estimate import Forecast, StagePlan


class Select(Section):
    """The best of several answers to each prompt: rejection sampling, RAFT (arXiv:2304.06767),
    expert iteration."""

    kind: Literal["select"] = "select"
    """The kind of stage."""
    answers: Reference | None = None
    """The stage whose answers are chosen from. None: the newest before it."""
    reward: Reference | None = None
    """The reward model whose score counts. None: the newest before it, unless `rewards` is
    given."""
    rewards: tuple[RewardSpec, ...] = ()
    """Choose by these rewards instead (docs/rewards.md)."""
    top: Count = 1
    """Answers that are kept of each prompt, the best ones; equal texts count once."""
    threshold: Finite | None = None
    """Keep only answers that score at least this. None: no bound."""
    make: Literal["demonstrations", "pairs"] = "demonstrations"
    """demonstrations: the kept answers, to be imitated. pairs: the best answer of each prompt
    against its worst."""


def _made(settings: Select, _inputs: Inputs, _types: Callable[[str], Artifact | None]) -> Artifact:
    return "Comparisons" if settings.make == "pairs" else "Demonstrations"


def _plan(how: Forecast) -> StagePlan:
    """A reward model reads every answer; rules cost next to nothing."""
    prompts, answers = how.answers()
    parts, seconds = [how.program()], 0.0
    if not how.settings.rewards:
        parts.append(how.frozen("reward model", exact=True))
        seconds = how.forward(
            prompts, how.data.prompt_tokens + answers * how.data.answer_tokens, 0.0
        )
    return how.planned(parts, seconds)


def _report(stage: Found) -> Told:
    """What was kept of how much, and a few of the best."""
    result = stage.result
    kept, answers, prompts = (number(result.get(key)) for key in ("kept", "answers", "prompts"))
    mean, best = (number(result.get(key)) for key in ("mean_score", "best_score"))
    pairs = result.get("make") == "pairs"
    if pairs:
        half = None if kept is None else kept / 2
        text = (
            f"Of {several(answers, 'answer')} to {several(prompts, 'prompt')} the best and the"
            f" worst became {several(half, 'pair')}"
        )
    else:
        text = (
            f"Of {several(answers, 'answer')} to {several(prompts, 'prompt')} the best"
            f" {count(kept)} became demonstrations"
        )
    if mean is not None and best is not None:
        text += (
            f"; the mean score is {plain(mean)}, that of each prompt's best answer {plain(best)}"
        )
    without = number(result.get("without_any"))
    sentence = (
        f"{text}. For {several(without, 'prompt')} none was good enough." if without else f"{text}."
    )
    return Told(sentence, tuple(_best(row) for row in rows_of(result, "samples")))


def _best(row: Mapping[str, Any]) -> tuple[str, tuple[Text, ...]]:
    return str(row.get("prompt", "")), (
        Text("Best answer", str(row.get("best", "")), f"score {plain(number(row.get('score')))}"),
    )


STAGE = Stage(
    section=Select,
    run="burnish.stages.select:run",
    plan=_plan,
    slots=(
        Slot("answers", ("Answers",)),
        Slot("reward", ("RewardModel",), "nothing", empty=lambda settings: bool(settings.rewards)),
    ),
    makes="Demonstrations",
    made=_made,
    report=_report,
)
