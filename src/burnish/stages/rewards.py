"""From the recipe's `rewards` to the scorer that the online loop asks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from burnish.config import rewards as spec
from burnish.data.render import render_prompt
from burnish.errors import UserError
from burnish.models.backbone import Backbone
from burnish.models.ensemble import RewardModel
from burnish.models.weights import load_reward_adapter, load_reward_model
from burnish.rewards.code_verifier import CodeReward
from burnish.rewards.compose import Part
from burnish.rewards.constraints import ConstraintsReward
from burnish.rewards.functions import find_function
from burnish.rewards.http import HttpReward
from burnish.rewards.maths import MathsReward
from burnish.rewards.model import ScopedModelReward
from burnish.rewards.rules import FormatReward, LanguageReward, LengthReward, RepetitionReward
from burnish.rewards.scorer import CompositeScorer, Source
from burnish.rewards.task import TaskReward
from burnish.stages.context import Step
from burnish.stages.roles import stands_on
from burnish.stages.sampling import end_tokens_of

_MICRO_BATCH_TOKENS = 4096


def build_scorer(
    step: Step, specs: Sequence[spec.RewardSpec], *, backbone: Backbone | None = None
) -> CompositeScorer:
    """The scorer of a recipe's rewards; `close()` it when done.

    Args:
        step: the stage whose rewards they are.
        specs: the rewards.
        backbone: the policy's. Reward models that are adapters of the same model are put on it
            instead of loaded whole;
            None: every reward model is loaded whole.

    Raises UserError where a reward cannot be made, before anything is trained.
    """
    if not specs:
        raise UserError(
            "there is no reward.",
            field="rewards",
            hint="Add one, for instance `rewards: [{name: maths}]`.",
        )
    labels = [one.called for one in specs]
    twice = next((label for label in labels if labels.count(label) > 1), None)
    if twice is not None:
        raise UserError(
            f'two rewards are called "{twice}".',
            field="rewards",
            hint="Give each a label of its own.",
        )
    rewards = [build_reward(step, one, backbone) for one in specs]
    sources = [
        Source(part_of(one), reward, one.scope, isinstance(one, spec.PythonReward) and one.messages)
        for one, reward in zip(specs, rewards, strict=True)
    ]
    closers: list[Callable[[], None]] = [
        reward.close for reward in rewards if hasattr(reward, "close")
    ]
    return CompositeScorer(sources, on_close=closers)


def part_of(one: spec.RewardBase) -> Part:
    """What of a reward's section is about the sum."""
    return Part(
        name=one.called,
        weight=one.weight,
        tags=frozenset(one.tags),
        gate=one.gate,
        normalize=one.normalize,
        clip=one.clip,
    )


def build_reward(step: Step, one: spec.RewardSpec, backbone: Backbone | None) -> Any:
    """One reward of a recipe; `close()` it when done if it has that. Raises UserError where it
    cannot be made."""
    match one:
        case spec.MathsReward():
            return MathsReward(
                column=one.column,
                values={"correct": one.correct, "wrong": one.wrong, "unparsed": one.unparsed},
                timeout=one.timeout,
                workers=one.workers,
            )
        case spec.TaskReward():
            return TaskReward(partial=one.partial)
        case spec.CodeReward():
            return CodeReward(
                one.tier,
                partial=one.partial,
                seconds=one.seconds,
                memory_mb=one.memory_mb,
                workers=one.workers,
                column=one.column,
            )
        case spec.FormatReward():
            return FormatReward(one.form, one.pattern)
        case spec.LengthReward():
            return LengthReward(least=one.least, free=one.free, limit=one.limit, unit=one.unit)
        case spec.RepetitionReward():
            return RepetitionReward(n=one.n)
        case spec.LanguageReward():
            return LanguageReward(one.language, column=one.column)
        case spec.ConstraintsReward():
            return ConstraintsReward(partial=one.partial, loose=one.loose)
        case spec.ModelReward():
            return _model(step, one, backbone)
        case spec.HttpReward():
            return HttpReward(
                one.url,
                batch_size=one.batch_size,
                timeout=one.timeout,
                retries=one.retries,
                backoff=one.backoff,
                columns=one.columns,
                concurrency=one.concurrency,
                token_variable=one.token_variable,
            )
        case spec.PythonReward():
            return find_function(one.function)


def _model(step: Step, one: spec.ModelReward, backbone: Backbone | None) -> ScopedModelReward:
    position = next(number for number, other in enumerate(step.settings.rewards) if other is one)
    folder = Path(step.model(f"rewards.{position}"))
    if not (folder / "head.safetensors").is_file():
        hint = "It is the folder model of a stage of the kind reward."
        raise UserError(
            f'the reward "{one.called}": this folder holds no reward model.', file=folder, hint=hint
        )
    view = _view(step, folder, one.called, backbone)
    tokenizer = view.backbone.tokenizer
    same = backbone is not None and (
        view.backbone is backbone or tokenizer.get_vocab() == backbone.tokenizer.get_vocab()
    )
    render = (
        None if same else partial(render_prompt, tokenizer, max_tokens=step.recipe.model.max_length)
    )
    ends = end_tokens_of(view.backbone)
    if same and backbone is not None:
        ends = (*ends, *end_tokens_of(backbone))
    return ScopedModelReward(
        view, scope=one.scope, end_tokens=ends, max_tokens=_MICRO_BATCH_TOKENS, render=render
    )


def _view(step: Step, folder: Path, label: str, backbone: Backbone | None) -> RewardModel:
    """On the policy's backbone if the model is an adapter of the same pretrained model, else a
    model of its own."""
    if backbone is not None and stands_on(step, folder, backbone):
        return load_reward_adapter(backbone, folder, name=f"reward_{label}")
    return load_reward_model(folder, partial(step.load, exact=True))
