"""Whose answers a stage learns from."""

from __future__ import annotations

from burnish.stages.context import Step


def compares_own_answers(step: Step) -> bool:
    """Whether the compared answers are all of the policy that the reward model starts from."""
    compared = step.parent("comparisons")
    answers = None if compared is None else compared.input("answers")
    if answers is None or answers.stage is None:
        return False
    return step.run.graph[answers.stage].inputs["models"] == step.node.inputs["start"]
