"""Prompts with their compared answers, as tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from burnish.batch import TokenSequence
from burnish.data.columns import NothingLeft
from burnish.data.preferences import informative
from burnish.data.render_traces import render_answer
from burnish.models.backbone import Backbone
from burnish.models.ensemble import RewardModel
from burnish.records import PreferenceGroup
from burnish.stages.context import Step
from burnish.stages.lengths import render_rows
from burnish.trainers.groups import RankedGroup
from burnish.trainers.reward_model import score_sequences

_MICRO_BATCH_TOKENS = 1024


def telling(
    step: Step, what: str, groups: Sequence[PreferenceGroup], dropped: Mapping[str, int]
) -> tuple[PreferenceGroup, ...]:
    """The groups in which an answer is preferred to another, what is left out counted. None is a
    finding too: a stage that learns from them refuses."""
    try:
        kept = informative(groups)
    except NothingLeft:
        step.count_dropped(what, {**dropped, "nothing is preferred": len(groups)})
        return ()
    step.count_dropped(what, {**dropped, **kept.dropped})
    return kept.items


def compared(step: Step, groups: Sequence[PreferenceGroup]) -> list[PreferenceGroup]:
    """Without the groups whose answers were judged singly and all alike."""
    kept = [group for group in groups if group.comparisons]
    if len(kept) < len(groups):
        step.count_dropped("comparisons", {"nothing is preferred": len(groups) - len(kept)})
    return kept


def ranked(
    step: Step, backbone: Backbone, groups: Sequence[PreferenceGroup], *, required: bool = True
) -> list[tuple[PreferenceGroup, RankedGroup]]:
    """Groups as tokens; a group with a response that does not fit is an error, or dropped and
    counted."""
    rows = rendered(step, backbone, groups, "comparisons", required=required)
    return [
        (group, RankedGroup(sequences, group.comparisons, group.labels))
        for group, sequences in rows
    ]


def rendered(
    step: Step,
    backbone: Backbone,
    groups: Sequence[PreferenceGroup],
    what: str,
    *,
    required: bool = True,
) -> list[tuple[PreferenceGroup, tuple[TokenSequence, ...]]]:
    """Every response of each group as tokens; a group with one that does not fit is an error, or
    dropped and counted."""
    limit = min(step.recipe.model.max_length, backbone.context)

    def render(group: PreferenceGroup) -> tuple[TokenSequence, ...]:
        responses = [
            render_answer(
                backbone.tokenizer, group.prompt, text, group.traces.get(text, ()), max_tokens=limit
            )
            for text in group.responses
        ]
        # The prompt's last tokens are the same in each, whatever the response begins with: one
        # prefix serves all.
        return tuple(
            TokenSequence(r.prompt_tokens, r.response_tokens, r.response_mask) for r in responses
        )

    return render_rows(step, backbone, groups, render, what=what, room=limit, required=required)


def scored(
    step: Step, view: RewardModel, groups: Sequence[PreferenceGroup], what: str
) -> list[tuple[PreferenceGroup, list[float]]]:
    """Each group with a reward model's score of every response, as far as they fit (`rendered`)."""
    rows = rendered(step, view.backbone, groups, what)
    sequences = [sequence for _, own in rows for sequence in own]
    values = iter(
        score_sequences(view, sequences, max_tokens=_MICRO_BATCH_TOKENS).double().tolist()
    )
    return [(group, [next(values) for _ in own]) for group, own in rows]
