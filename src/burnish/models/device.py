"""Where a run's models live: the processor, or one CUDA GPU; and what only a GPU has, a decode step
as one launch."""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable
from typing import Any

import torch

from burnish.errors import UserError

AUTO = "auto"
_log = logging.getLogger(__name__)


def resolve(name: str) -> torch.device:
    """The device called `name`: cpu, cuda, cuda:N, or auto, which is cuda where torch finds a GPU
    that it can use, else cpu.

    Raises UserError where there is no such GPU.
    """
    if name == AUTO:
        return _first_gpu() or torch.device("cpu")
    device = torch.device(name)
    if device.type != "cuda":
        return device
    if not torch.cuda.is_available():
        built = (
            "this torch is built without CUDA"
            if torch.version.cuda is None
            else "torch finds no GPU"
        )
        raise UserError(
            f"model.device is {name}, but {built}.",
            field="model.device",
            hint=(
                "Set model.device: cpu (or auto), or install a torch with CUDA"
                " (https://pytorch.org/get-started/locally)."
            ),
        )
    if (device.index or 0) >= torch.cuda.device_count():
        last = torch.cuda.device_count() - 1
        raise UserError(
            f"there is no GPU {device.index}; the last is cuda:{last}.", field="model.device"
        )
    return torch.device("cuda", device.index or 0)


def _first_gpu() -> torch.device | None:
    """None where there is none, or one that torch has no code for, or that others have filled."""
    if not torch.cuda.is_available():
        return None
    device = torch.device("cuda", 0)
    try:
        torch.ones(1, device=device).add_(1).item()
    except RuntimeError as error:
        _log.warning("the GPU is left alone (%s): running on the CPU", str(error).splitlines()[0])
        return None
    return device


def reset_peak() -> None:
    """Start measuring `peak_gb` anew."""
    if torch.cuda.is_initialized():
        for number in range(torch.cuda.device_count()):
            torch.cuda.reset_peak_memory_stats(number)


def peak_gb() -> float | None:
    """The most memory, in 10⁹ bytes, that torch has taken of a GPU since `reset_peak`; None where
    it has taken none."""
    if not torch.cuda.is_initialized():
        return None
    most = max(
        torch.cuda.max_memory_reserved(number) for number in range(torch.cuda.device_count())
    )
    return most / 1e9 if most else None


class Graphs:
    """Runs steps that read and write the same tensors every time, each as one CUDA graph: a decode
    step is several hundred small kernels, and launching them one by one takes longer than running
    them.

    A step runs plainly the first time that its key is seen, which also does what must be done once
    outside of a graph, is recorded the second time, and replayed from then on. Graphs share the
    memory of their intermediate results, so what a step gives must be written into tensors of the
    caller's.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._seen: set[Hashable] = set()
        self._recorded: dict[Hashable, Callable[[], None]] = {}
        self._pool: Any = None
        self._stream: Any = None

    def run(self, key: Hashable, step: Callable[[], None]) -> None:
        """Do `step`, which is the same whenever the key is."""
        if key in self._recorded:
            self._recorded[key]()
        elif key in self._seen:
            self._recorded[key] = replay = self._record(step)
            replay()
        else:
            self._seen.add(key)
            step()

    def _record(self, step: Callable[[], None]) -> Callable[[], None]:
        """What repeats the step; recording it does not run it."""
        with torch.cuda.device(self._device):
            if self._pool is None:
                # A stream of our own: torch's default for this is one a process, on whichever GPU
                # came first, and what the library of products keeps for a stream goes with the
                # first graph that dies.
                self._pool, self._stream = (
                    torch.cuda.graph_pool_handle(),
                    torch.cuda.Stream(self._device),
                )
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, pool=self._pool, stream=self._stream):
                step()
        return graph.replay
