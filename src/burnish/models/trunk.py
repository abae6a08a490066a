"""The trunk: a model and the heads on it as one module, inside whose forward every weight is read.

Where each of several ranks holds a shard of every weight (FSDP2), a weight is whole only inside the
forward of the module that it was sharded with: layers gather their own, the trunk gathers what
stands outside of layers (embeddings, language-model head, last norm, scalar heads). So whatever a
role says is said through `Trunk.say`. Where nothing is sharded that is a plain call.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn

T = TypeVar("T")


class Trunk(nn.Module):
    """`model` and the `heads` of the roles on it. `sharded`: every weight is a DTensor."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model, self.heads, self.sharded = model, nn.ModuleList(), False

    def forward(self, compute: Callable[[], T]) -> T:
        """`compute()`, in which every weight of the trunk may be read."""
        return compute()

    def say(self, compute: Callable[[], T]) -> T:
        """`compute()` inside the forward. After a pass without gradients the trunk's own weights,
        which the backward pass would have let go, are let go at once."""
        result = self(compute)
        if self.sharded and not torch.is_grad_enabled():
            cast(Any, self).reshard()
        return result


def full(tensor: Tensor) -> Tensor:
    """The whole of a tensor of which every rank holds a shard, which all ranks must ask for
    together; any other as it is."""
    gather = getattr(tensor, "full_tensor", None)
    return tensor if gather is None else gather()


def part(tensor: Tensor) -> Tensor:
    """What this rank has of a tensor, which of a small one may be nothing; any other as it is."""
    local = getattr(tensor, "to_local", None)
    return tensor if local is None else local()


def cut_alike(tensor: Tensor, like: Tensor) -> Tensor:
    """A whole tensor as this rank's share of it, where `like` is one; else as it is. All ranks call
    it together."""
    if not hasattr(like, "full_tensor") or hasattr(tensor, "full_tensor"):
        return tensor
    from torch.distributed.tensor import distribute_tensor

    shard = cast(Any, like)
    return distribute_tensor(tensor.to(shard.device), shard.device_mesh, shard.placements)
