"""Which of a stage's models can stand on one backbone, and what its policy is held to."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from burnish.models.backbone import Backbone
from burnish.models.roles import Roles, View
from burnish.stages.context import Step


def stands_on(step: Step, folder: Path, backbone: Backbone) -> bool:
    """Whether the reward model in a folder is an adapter of the very weights that are in memory.

    A reward model of this run says so by the stage it started from, which a copied run keeps; another by the path in its
    adapter's configuration.
    """
    configuration = folder / "adapter" / "adapter_config.json"
    if not configuration.is_file():
        return False
    maker = next((one for one in step.run.graph.of_kind("reward") if _makes(step, one.name, folder)), None)
    if maker is not None:
        return step.run.reference(maker.inputs["start"][0]) == backbone.reference
    return json.loads(configuration.read_text()).get("base_model_name_or_path") == backbone.reference


def _makes(step: Step, stage: str, folder: Path) -> bool:
    return (step.run.place(stage) / "model").resolve() == folder.resolve()


def held_to(step: Step, roles: Roles) -> Roles:
    """The roles with the reference that the recipe names, where that is not what the policy starts from."""
    if roles.reference is None or step.node.inputs["reference"] == step.node.inputs["start"]:
        return roles
    frozen = step.load(step.model("reference"))
    frozen.freeze()
    return replace(roles, reference=View(frozen))
