"""A policy whose adapter does something, for tests of what stands below adapters."""

from __future__ import annotations

import torch

from burnish.models.adapters import LoraSpec, add_adapter
from burnish.models.backbone import Backbone
from burnish.models.roles import View


def adapted_policy(backbone: Backbone, spec: LoraSpec) -> View:
    """The role of a new adapter over the frozen backbone, away from the nothing that it begins
    as."""
    backbone.freeze()
    add_adapter(backbone, "policy", spec, seed=0)
    view = View(backbone, "policy", spec)
    for name, parameter in view.parameters().items():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.3, generator=torch.Generator().manual_seed(0))
    return view
