"""Prompts with their compared answers, as tokens."""

from __future__ import annotations

from collections.abc import Sequence

from burnish.batch import TokenSequence
from burnish.data.render import render_response
from burnish.models.backbone import Backbone
from burnish.pipeline.context import Step
from burnish.pipeline.lengths import render_rows
from burnish.records import PreferenceGroup
from burnish.trainers.groups import RankedGroup


def compared(step: Step, groups: Sequence[PreferenceGroup]) -> list[PreferenceGroup]:
    """Without the groups whose answers were judged singly and all alike."""
    kept = [group for group in groups if group.comparisons]
    if len(kept) < len(groups):
        step.count_dropped("comparisons", {"nothing is preferred": len(groups) - len(kept)})
    return kept


def ranked(
    step: Step, backbone: Backbone, groups: Sequence[PreferenceGroup], *, required: bool = True
) -> list[tuple[PreferenceGroup, RankedGroup]]:
    """Groups as tokens; a group with a response that does not fit is an error, or dropped and counted."""
    limit = min(step.recipe.model.max_length, backbone.context)

    def render(group: PreferenceGroup) -> RankedGroup:
        responses = [
            render_response(backbone.tokenizer, group.prompt, text, max_tokens=limit) for text in group.responses
        ]
        # The prompt's last tokens are the same in each, whatever the response begins with: one prefix serves all.
        return RankedGroup(
            tuple(TokenSequence(r.prompt_tokens, r.response_tokens) for r in responses), group.comparisons, group.labels
        )

    return render_rows(step, backbone, groups, render, what="comparisons", room=limit, required=required)
