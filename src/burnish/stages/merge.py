"""Stage `merge`: the weighted average of several models' weights, policies or reward models of one
architecture."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from burnish.atomic import atomic_folder
from burnish.errors import UserError
from burnish.models.roles import View
from burnish.models.weights import load_first_member, rule_of, save_model, save_reward_model
from burnish.runs.manifest import release_memory
from burnish.stages.context import Step


def run(step: Step) -> None:
    """Average, one model in memory at a time beside the sum; save under `model`."""
    inputs = step.node.inputs["models"]
    weights = step.settings.weights or tuple(1.0 / len(inputs) for _ in inputs)
    scored = step.node.makes == "RewardModel"
    total: dict[str, Tensor] = {}
    view = None
    for artifact, weight in zip(inputs, weights, strict=True):
        del view
        release_memory()
        reference = step.run.reference(artifact)
        if scored and rule_of(Path(reference)) is not None:
            raise UserError(
                f"{artifact.shown} scores by several members or less their length, and has no"
                " weights that could be averaged.",
                field="models",
                hint="Train it with combine: weights and decorrelate: none.",
            )
        view = (
            load_first_member(Path(reference), step.load)
            if scored
            else View(step.load(reference, exact=True))
        )
        _add(total, _tensors(view), weight, name=artifact.shown)
    assert view is not None
    _take(view, total)
    with atomic_folder(step.folder / "model") as scratch:
        if scored:
            save_reward_model(view, scratch, base=step.recipe.model.name)
        else:
            save_model(view, scratch)
    step.finish(
        {
            "of": "reward models" if scored else "policies",
            "models": [
                {"name": artifact.shown, "weight": weight}
                for artifact, weight in zip(inputs, weights, strict=True)
            ],
        }
    )


def _tensors(view: View) -> dict[str, Tensor]:
    """What is averaged. Of a scalar head that is the map it stands for, gain · weight, so that
    heads of different gains meet."""
    found = {
        name: tensor
        for name, tensor in view.backbone.model.state_dict().items()
        if tensor.is_floating_point()
    }
    if view.head is not None:
        found |= {
            "head.map": view.head.linear.weight.detach() * view.head.gain,
            "head.gain": view.head.gain,
            "head.bias": view.head.bias,
        }
    return found


@torch.no_grad()
def _add(total: dict[str, Tensor], tensors: dict[str, Tensor], weight: float, *, name: str) -> None:
    shapes = {key: tensor.shape for key, tensor in tensors.items()}
    if total and shapes != {key: tensor.shape for key, tensor in total.items()}:
        raise UserError(
            f"{name} is of another architecture than the models before it, so their weights have no"
            " average.",
            field="models",
        )
    for key, tensor in tensors.items():
        part = tensor.double() * weight
        total[key] = part if key not in total else total[key].add_(part)


@torch.no_grad()
def _take(view: View, total: dict[str, Tensor]) -> None:
    """Put the averages into the last model that was loaded."""
    for name, tensor in view.backbone.model.state_dict().items():
        if name in total:
            tensor.copy_(total[name])
    if view.head is not None:
        view.head.gain.copy_(total["head.gain"])
        view.head.bias.copy_(total["head.bias"])
        view.head.linear.weight.copy_(total["head.map"] / total["head.gain"])
