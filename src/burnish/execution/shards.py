"""Weights dealt among ranks: FSDP2 on each decoder layer, and on the trunk for what stands outside
of layers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

from burnish.errors import UserError
from burnish.models.roles import View
from burnish.ranks import world


def shard(*views: View | None) -> None:
    """Leave each rank its share of the weights of the roles' backbones, heads included; in one
    process nothing changes.

    Adapter sets must be on the backbone by then, and the optimizer is made afterwards. Gradients
    are sums over the ranks, for every term is divided by the whole step's denominator already.
    Raises UserError for weights that cannot be cut.
    """
    if world() == 1:
        return
    roles = [view for view in views if view is not None]
    for backbone in dict.fromkeys(view.backbone for view in roles):
        if backbone.quantised:
            raise UserError(
                f"{backbone.reference} is read from quantized weights, which are not shared out.",
                field="scale.trainers",
                hint="Leave scale.trainers out, or name a model in full precision.",
            )
        if not backbone.trunk.sharded:
            heads = [view.head for view in roles if view.backbone is backbone]
            _shard(backbone, [head for head in dict.fromkeys(heads) if head is not None])


def _shard(backbone: Any, heads: Iterable[Any]) -> None:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import FSDPModule, fully_shard

    trunk = backbone.trunk
    trunk.heads.extend(heads)
    mesh = init_device_mesh(backbone.device.type, (world(),))
    for layer in backbone.model.model.layers:
        fully_shard(layer, mesh=mesh)
    fully_shard(trunk, mesh=mesh)
    for module in trunk.modules():
        if isinstance(module, FSDPModule):
            module.set_gradient_divide_factor(1.0)
            # gloo has no sum with a factor (PREMUL_SUM)
            cast(Any, module).set_force_sum_reduction_for_comms(True)
    trunk.sharded = True
