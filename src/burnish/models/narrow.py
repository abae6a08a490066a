"""Weights that stay as narrow in memory as they are stored, and are widened where they are used.

A model that is stored in bfloat16 loses nothing by standing in memory so. What would be lost is
what is computed in it: sums over thousands of channels, logits. So matrices are frozen in the
precision they came in and widened a matrix at a time; norms, biases and everything else that is
small, all that flows between layers and all that learns are in float32.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from types import MethodType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from burnish.algorithms.logprobs import by_rows
from burnish.system import page_out

_ROWS = 8192  # of a head that are compared at once


def hold_narrow(model: Any) -> None:
    """Widen what is small in a model that was loaded in its own precision, and leave the matrices
    of its linear maps, embedding and head as they are, to be widened at each use."""
    ends = _ends(model)
    held = {id(m.weight) for m in model.modules() if type(m) is nn.Linear}
    held |= {id(module.weight) for module in ends}
    for parameter in model.parameters():
        if id(parameter) not in held:
            parameter.data = parameter.data.float()
    for module in model.modules():
        if module in ends:
            continue
        if type(module) is nn.Linear:  # what is derived from it computes more
            module.forward = MethodType(_exact, module)
    for module in ends:
        _use_wide(module)


def narrow_ends(model: Any) -> None:
    """Hold embedding and head in bfloat16, where no number in them changes by that."""
    ends = _ends(model)
    shared: dict[int, nn.Parameter] = {}
    for module in ends:
        weight = module.weight
        if weight.dtype != torch.float32:
            continue
        if id(weight) not in shared:
            narrow = _lossless(weight.detach())
            if narrow is None:
                return
            shared[id(weight)] = nn.Parameter(narrow, requires_grad=False)
        module.weight = shared[id(weight)]
    for module in ends:
        _use_wide(module)


def rows_of(weight_VD: Tensor, hidden_XD: Tensor) -> Tensor:
    """[X, V]: hidden · Wᵀ in the precision of `hidden_XD`, with as few rows of W widened at a time
    as there are."""
    if weight_VD.dtype == hidden_XD.dtype:
        return hidden_XD @ weight_VD.T
    flat_XD = hidden_XD.flatten(0, -2)
    logits_XV = flat_XD.new_empty(len(flat_XD), len(weight_VD))
    return by_rows(flat_XD, weight_VD, logits_XV).unflatten(0, hidden_XD.shape[:-1])


_scratch: dict[tuple[torch.dtype, torch.device], Tensor] = {}


def borrowed(shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Memory for a matrix that is used at once and not kept: whoever borrows next of this dtype
    writes over it. Matrices that come and go by the hundred leave a heap full of holes."""
    size, known = math.prod(shape), _scratch.get((dtype, device))
    if known is None or known.numel() < size:
        known = _scratch[dtype, device] = torch.empty(size, dtype=dtype, device=device)
    return known[:size].view(*shape)


def _ends(model: Any) -> list[Any]:
    """The embedding and the head, where they are of the plain classes: others scale what they
    look up."""
    found = (model.get_input_embeddings(), model.get_output_embeddings())
    plain = [module for module in found if type(module) in (nn.Embedding, nn.Linear)]
    tied = len(found) == 2 and found[1] is not None and found[0].weight is found[1].weight
    return [] if tied and len(plain) < 2 else plain


def _lossless(weight: Tensor) -> Tensor | None:
    narrow = weight.to(torch.bfloat16)
    for wide, piece in zip(weight.split(_ROWS), narrow.split(_ROWS), strict=True):
        if not torch.equal(piece.to(weight.dtype), wide):
            return None
    return narrow


def _use_wide(module: Any) -> None:
    lookup = isinstance(module, nn.Embedding)
    module.forward = MethodType(_looked_up if lookup else _head, module)


def _looked_up(embedding: nn.Embedding, tokens: Tensor) -> Tensor:
    return F.embedding(tokens, embedding.weight).float()


def _head(linear: nn.Linear, x: Tensor) -> Tensor:
    logits = rows_of(linear.weight, x)
    return logits if linear.bias is None else logits + linear.bias.to(logits.dtype)


@torch.no_grad()
def _exact(linear: nn.Linear, x: Tensor) -> Tensor:
    bias = None if linear.bias is None else linear.bias.to(x.dtype)
    wide = borrowed(tuple(linear.weight.shape), x.dtype, x.device).copy_(linear.weight)
    if linear.weight.device.type == "cpu":  # of a mapped file: it is read once more, to be held
        page_out(linear.weight.data_ptr(), linear.weight.nbytes)
    return F.linear(x, wide, bias)
