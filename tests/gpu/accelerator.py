"""A pretended accelerator: memory that only it can read, on the CPU. What mixes its tensors with
the CPU's fails as on a GPU.

torch lets a device be written in Python. This one keeps each tensor's numbers in a CPU tensor that
nobody else sees, and does every operation there: so what code says of devices can be tested without
one, numbers included. It records and replays as a CUDA graph does, on the same memory, and refuses
what a graph may not do.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.backend_registration import (
    _DummyBackendModule,
    _setup_privateuseone_for_python_backend,
)


class _Backend(_DummyBackendModule):
    """What torch asks of every device; other tests of this process are asked about it too."""

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16]


NAME = "pretended"
_setup_privateuseone_for_python_backend(NAME, backend_module=_Backend())
DEVICE = torch.device(NAME, 0)

aten = torch.ops.aten
_CROSSING = {aten.copy_.default, aten._to_copy.default}
_INDEXED = {
    aten.index.Tensor,
    aten.index_put.default,
    aten.index_put_.default,
    aten._index_put_impl_.default,
}
_WAITING = {aten._local_scalar_dense.default, aten.nonzero.default, aten.masked_select.default}
_tape: list[tuple[Any, Any, Any, Any]] | None = None
operations: set[str] = set()
"""The names of what was done on it."""


class Away(torch.Tensor):
    """A tensor on the accelerator; `raw` is where its numbers are."""

    raw: torch.Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, raw: torch.Tensor) -> Away:
        how = {
            "strides": raw.stride(),
            "storage_offset": raw.storage_offset(),
            "dtype": raw.dtype,
            "device": DEVICE,
        }
        made = torch.Tensor._make_wrapper_subclass(cls, raw.shape, **how)
        made.raw = raw
        return made

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        return _run(function, args, kwargs or {})

    def tolist(self):
        return self.raw.tolist()


def _run(function: Any, args: Any, kwargs: Any) -> Any:
    operations.add(str(function))
    known = {id(x.raw): x for x in tree_leaves((args, kwargs)) if isinstance(x, Away)}
    strangers = [
        x
        for x in tree_leaves((args, kwargs))
        if type(x) is not Away and isinstance(x, torch.Tensor) and x.dim()
    ]
    if strangers and function not in _CROSSING and function not in _INDEXED:
        raise RuntimeError(f"{function}: a tensor of the CPU among those of the accelerator")
    leaves = bool(kwargs.get("device")) and torch.device(kwargs["device"]).type == "cpu"
    comes_back = function is aten.copy_.default and not isinstance(args[0], Away)
    if _tape is not None and (strangers or leaves or comes_back or function in _WAITING):
        raise RuntimeError(f"{function}: a recorded step may not wait for the CPU")

    def inside(x: Any) -> Any:
        if isinstance(x, Away):
            return x.raw
        return torch.device("cpu") if isinstance(x, torch.device) else x

    raw_args, raw_kwargs = tree_map(inside, args), tree_map(inside, kwargs)
    with torch._C._AutoDispatchBelowAutograd():
        out = function(*raw_args, **raw_kwargs)
    if _tape is not None:
        _tape.append((function, raw_args, raw_kwargs, out))
    if leaves:
        return out
    if comes_back:
        return args[0]

    def outside(x: Any) -> Any:
        if not isinstance(x, torch.Tensor):
            return x
        return known[id(x)] if id(x) in known else Away(x)

    return tree_map(outside, out)


def record(_: Any, step: Callable[[], None]) -> Callable[[], None]:
    """In the place of `Graphs._record`: the operations of `step`, to be done again on the same
    memory."""
    global _tape
    _tape = tape = []
    try:
        step()
    finally:
        _tape = None

    def replay() -> None:
        with torch._C._AutoDispatchBelowAutograd():
            for function, args, kwargs, out in tape:
                again = function(*args, **kwargs)
                pairs = zip(
                    tree_leaves(out), tree_leaves(again), function._schema.returns, strict=False
                )
                for old, new, how in pairs:
                    if how.alias_info is None:  # neither a view nor made in place
                        old.copy_(new)

    return replay


class Around(TorchFunctionMode):
    """Makes tensors from lists, which a device written in Python cannot: on the CPU, and moved.
    `torch.tensor(…, device=…)` does, and an index that is a list."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if function is torch.tensor and torch.device(kwargs.get("device") or "cpu").type == NAME:
            return function(*args, **{**kwargs, "device": "cpu"}).to(kwargs["device"])
        if function in (torch.Tensor.__getitem__, torch.Tensor.__setitem__) and isinstance(
            args[0], Away
        ):
            index = args[1] if isinstance(args[1], tuple) else (args[1],)
            moved = tuple(
                torch.tensor(one).to(DEVICE) if isinstance(one, list) else one for one in index
            )
            args = (args[0], moved, *args[2:])
        return function(*args, **kwargs)


_library = torch.library.Library("_", "IMPL")
_library.fallback(lambda function, *args, **kwargs: _run(function, args, kwargs), "PrivateUse1")
_ranges = torch.library.Library("aten", "IMPL", "PrivateUse1")
for _overload in (
    "default",
    "start",
    "start_step",
):  # made of others, these would resize a tensor, which ours cannot
    _range = getattr(aten.arange, _overload)
    _ranges.impl(
        _range, partial(lambda function, *args, **kwargs: _run(function, args, kwargs), _range)
    )
