"""Who may judge in a watch, and what it needs: looked at before anything runs."""

from __future__ import annotations

import json
from pathlib import Path

from burnish.config.graph import Node
from burnish.config.kinds import Input
from burnish.config.rewards import PythonReward
from burnish.config.watch import (
    EndpointWatch,
    PeopleWatch,
    RewardWatch,
    TasteWatch,
    VerifierWatch,
    Watch,
)
from burnish.errors import UserError
from burnish.rewards.functions import check_function
from burnish.stages.artifacts import require_reward_model
from burnish.stages.context import Step
from burnish.stages.judged import reads_labels, trained
from burnish.stages.people import check_people
from burnish.trainers.online_settings import resolve_settings

_SHAPE = ("model_type", "hidden_size", "num_hidden_layers")
"""What two models of one kind have in common."""
_SAME_KIND = (
    "A second reward model of the same base makes the same mistakes, however much data it has"
    " (docs/watch.md): name people's verifiers, an endpoint, the taste, or a reward model of"
    " another base or size."
)


def check_watch(step: Step) -> None:
    """Raise UserError where a stage's watch cannot do its work; say where it will hardly."""
    config: Watch | None = step.settings.watch
    if config is None:
        return
    _action(step, config)
    match config.judge:
        case TasteWatch():
            _taste(step)
        case RewardWatch():
            _reward_model(step)
        case EndpointWatch():
            _endpoint(step, config.judge)
        case VerifierWatch():
            _verifier(step, config.judge)
        case PeopleWatch():
            check_people(config.judge, field=f"{step.name}.watch.judge.store")


def check_watch_prompts(step: Step) -> None:
    """Raise UserError where a stage has a watch and no prompt is held out for it."""
    if getattr(step.settings, "watch", None) is not None and not step.prompts.heldout:
        raise UserError(
            f"the watch of {step.name} asks held-out prompts, and none are held out.",
            field=f"{step.name}.watch",
            hint="Set data.heldout above 0, or name prompts that have a held-out split.",
        )


def _action(step: Step, config: Watch) -> None:
    if config.action != "raise_beta":
        return
    field = f"{step.name}.watch.action"
    if not resolve_settings(step.settings).algorithm.needs_reference:
        raise UserError(
            "raise_beta raises the penalty's weight, and this algorithm has no penalty.",
            field=field,
            hint="Set algorithm.kl and algorithm.beta, or another action.",
        )
    if step.settings.kl_target is not None:
        raise UserError(
            "raise_beta raises a β that kl_target would lower again.",
            field=field,
            hint="Drop kl_target, or choose another action.",
        )


def _taste(step: Step) -> None:
    """It is an invented one: where people labelled, it says nothing of what they like."""
    before = trained(step)
    judges = [one for node in before if node.kind == "compare" for one in node.settings.by]
    if any(one.panel is None for one in judges) or any(reads_labels(node) for node in before):
        raise UserError(
            "the taste is that of simulated annotators, and others compared what this policy's"
            " reward was learnt from.",
            field=f"{step.name}.watch.judge",
            hint="Name an endpoint, a verifier, or a reward model of another base or size.",
        )


def _reward_model(step: Step) -> None:
    field = f"{step.name}.watch.judge.model"
    own = step.node.inputs["watch.judge.model"][0]
    rewarded = [
        one
        for key, inputs in step.node.inputs.items()
        if key == "reward" or key.startswith("rewards.")
        for one in inputs
    ]
    if own in rewarded:
        problem = (
            f"the watch's judge is the reward model that {step.name} is trained on, which sees no"
            " mistake of its own."
        )
        raise UserError(problem, field=field, hint=_SAME_KIND)
    if own.stage is None:
        require_reward_model(Path(step.run.reference(own)), field=field)
    if any(_of_one_kind(step, own, other) for other in rewarded):
        step.say_once(
            f"{step.name}: the watch's judge is a reward model of the same kind as the one it"
            f" watches. {_SAME_KIND}"
        )


def _of_one_kind(step: Step, first: Input, second: Input) -> bool:
    """Whether two reward models stand on base models of one shape; those of one run do."""
    shapes = [_shape(Path(step.run.reference(one))) for one in (first, second)]
    both_made = first.stage is not None and second.stage is not None
    return both_made or (None not in shapes and shapes[0] == shapes[1])


def _shape(folder: Path) -> tuple[object, ...] | None:
    try:
        config = json.loads((folder / "config.json").read_text())
    except (OSError, ValueError):
        return None
    return tuple(config.get(name) for name in _SHAPE)


def _endpoint(step: Step, judge: EndpointWatch) -> None:
    """Not the model whose verdicts training learnt from."""
    asked = [_judge_of(node) for node in trained(step)]
    if (judge.endpoint, judge.model) in [one for several in asked for one in several]:
        raise UserError(
            f"{judge.model} compared what this policy's reward was learnt from, so it does not"
            " watch over it.",
            field=f"{step.name}.watch.judge",
            hint="Name another model.",
        )


def _judge_of(node: Node) -> list[tuple[str | None, str | None]]:
    by = getattr(node.settings, "by", ()) if node.kind == "compare" else ()
    judges = [one.judge for one in by if one.judge is not None]
    judges += [node.settings] if node.kind == "revise" else []
    return [(one.endpoint, one.model) for one in judges]


def _verifier(step: Step, judge: VerifierWatch) -> None:
    field = f"{step.name}.watch.judge.rewards"
    trained_on = {one.model_dump_json() for one in step.settings.rewards if one.weight}
    if {one.model_dump_json() for one in judge.rewards if one.weight} == trained_on:
        raise UserError(
            f"the watch's judge is the very rewards that {step.name} is trained on, which see no"
            " mistake of their own.",
            field=field,
            hint="Name others, or those of them that check what is meant.",
        )
    for one in judge.rewards:
        if isinstance(one, PythonReward):
            check_function(one.function)
