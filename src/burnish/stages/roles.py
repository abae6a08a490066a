"""The models that a stage of the online family trains and asks: on one backbone where they can
stand on one, or as copies."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

from burnish.models.backbone import Backbone
from burnish.models.ensemble import members_of
from burnish.models.heads import ScalarHead
from burnish.models.roles import Roles, View, adapter_roles
from burnish.models.weights import load_first_member, load_reward_adapter, load_reward_model
from burnish.stages.adapters import lora_spec, quantization_of
from burnish.stages.context import Step
from burnish.trainers.online_settings import resolve_settings


def stands_on(step: Step, folder: Path, backbone: Backbone) -> bool:
    """Whether the reward model in a folder is an adapter of the very weights that are in memory.

    A reward model of this run says so by the stage it started from, which a copied run keeps, and
    how that held them; another by the path in its adapter's configuration.
    """
    configuration = folder / "adapter" / "adapter_config.json"
    if not configuration.is_file():
        return False
    maker = next(
        (one for one in step.run.graph if "start" in one.inputs and _makes(step, one.name, folder)),
        None,
    )
    if maker is not None:
        under = quantization_of(getattr(maker.settings, "lora", None))
        if under != backbone.quantization:
            return False
        return step.run.reference(maker.inputs["start"][0]) == backbone.reference
    return backbone.quantization == "none" and (
        json.loads(configuration.read_text()).get("base_model_name_or_path") == backbone.reference
    )


def _makes(step: Step, stage: str, folder: Path) -> bool:
    return (step.run.place(stage) / "model").resolve() == folder.resolve()


def build_roles(step: Step) -> Roles:
    """The policy, on what it starts from; the critic, the reference and the reward model as far as
    the stage needs them.

    Beside a reward model the critic starts as it is, unless the recipe says not to.
    """
    folder = None if step.node.input("reward") is None else Path(step.model("reward"))
    return _adapters(step, folder) if step.settings.share_backbone else _copies(step, folder)


def _adapters(step: Step, folder: Path | None) -> Roles:
    """One frozen backbone, the roles as adapter sets on it; a reward model of other weights stands
    beside it."""
    config = step.settings
    backbone = step.load(step.start, quantization=quantization_of(config.lora))
    row = resolve_settings(config).algorithm
    reward = other = None
    if folder is not None and stands_on(step, folder, backbone):
        reward = load_reward_adapter(backbone, folder)
    elif folder is not None:
        if row.needs_critic and config.critic_from_reward_model:
            step.say(
                f"{step.name}: the reward model stands on other weights than the policy, so the"
                " critic starts with a head that says 0"
            )
        other = load_reward_model(folder, partial(step.load, exact=True))
    first = None if reward is None else members_of(reward)[0]
    roles = adapter_roles(
        backbone,
        lora=lora_spec(config.lora),
        critic=row.needs_critic,
        reference=row.needs_reference,
        moving=config.moving_reference is not None,
        reward=first,
        critic_from_reward_model=config.critic_from_reward_model,
        seed=step.seed,
    )
    return held_to(step, replace(roles, reward=reward if other is None else other))


def _copies(step: Step, folder: Path | None) -> Roles:
    """Full models, every weight of the policy and of the critic trained."""
    config, row = step.settings, resolve_settings(step.settings).algorithm
    trained = partial(step.load, trained=True)
    critic = reference = None
    reward = None if folder is None else load_reward_model(folder, step.load)
    if reward is not None:
        reward.backbone.freeze()
    if row.needs_critic and folder is not None and config.critic_from_reward_model:
        critic = load_first_member(folder, trained)
    elif row.needs_critic:
        backbone = trained(step.start)
        critic = View(backbone, head=ScalarHead(backbone.width, zero=True))
    if row.needs_reference:
        frozen = step.load(step.model("reference"))
        frozen.freeze()
        reference = View(frozen)
    return Roles(
        policy=View(trained(step.start)), critic=critic, reward=reward, reference=reference
    )


def held_to(step: Step, roles: Roles) -> Roles:
    """The roles with the reference that the recipe names, where that is not what the policy starts
    from."""
    if roles.reference is None or step.node.inputs["reference"] == step.node.inputs["start"]:
        return roles
    how = step.settings.lora if step.settings.share_backbone else None
    frozen = step.load(step.model("reference"), quantization=quantization_of(how))
    frozen.freeze()
    return replace(roles, reference=View(frozen))
