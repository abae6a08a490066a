"""What a judge of an evaluation said, and what the evaluated policies learnt from, which decides
who may judge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from burnish.config.graph import Node
from burnish.records import Prompt, Rollout
from burnish.stages.context import Step

Sampled = Mapping[str, Sequence[Rollout]]
Nulls = Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class Judged:
    """What one judge said.

    Args:
        name: the judge's.
        kind: what it is.
        unfit: why it may not give the headline; None: it may.
        wins: (a, b) to (how far a's answers are preferred to b's, each in [0, 1]; their places
            among the answers).
        marks: each model's scores, of a judge that gives scores.
        nulls: by null, how far it is preferred to the reference's answer, one a prompt.
        rows: the verdicts, for the file.
        properties: [N, F] of each model by the names in `names`, of the taste.
        figures: what else is told of the judge.
    """

    name: str
    kind: Literal["people", "judge", "reward", "taste"]
    unfit: str | None
    wins: Mapping[tuple[str, str], tuple[np.ndarray, Sequence[int]]]
    marks: Mapping[str, np.ndarray] = field(default_factory=dict)
    nulls: Mapping[str, Sequence[float]] = field(default_factory=dict)
    rows: Sequence[Mapping[str, Any]] = ()
    properties: Mapping[str, np.ndarray] = field(default_factory=dict)
    names: Sequence[str] = ()
    figures: Mapping[str, Any] = field(default_factory=dict)


def simulated_only(step: Step) -> bool:
    """Whether simulated annotators, and nobody else, compared what the evaluated policies learnt
    from."""
    before = trained(step)
    judges = [one for node in before if node.kind == "compare" for one in node.settings.by]
    if any(node.kind == "revise" for node in before) or any(reads_labels(node) for node in before):
        return False
    return bool(judges) and all(one.panel is not None for one in judges)


def trained(step: Step) -> list[Node]:
    """The stages that the evaluated policies, and what judges them, were made by."""
    graph = step.run.graph
    return [graph[name] for name in graph.ancestors(step.name)]


def reads_labels(node: Node) -> bool:
    """Whether it learns from comparisons that came with their labels."""
    if node.kind not in ("sft", "reward", "preference") or not node.data.labelled:
        return False
    return not node.inputs.get("comparisons") and (
        node.kind != "sft" or node.data.demonstrations is None
    )


def reference_of(step: Step) -> str:
    """The model that the others are measured from, where it is among them; else the first of
    them."""
    models = [one.shown for one in step.node.inputs["models"]]
    wanted = step.node.inputs["reference"][0].shown
    return wanted if wanted in models else models[0]


def prompts_of(sampled: Sampled) -> list[Prompt]:
    """Each once, in order."""
    rollouts = next(iter(sampled.values()))
    return list({one.prompt.id: one.prompt for one in rollouts}.values())


def firsts_of(sampled: Sampled, name: str) -> list[Rollout]:
    """A model's first answer to each prompt."""
    return list({one.prompt.id: one for one in reversed(sampled[name])}.values())[::-1]
