"""Where a run's models live: the processor, or one CUDA GPU; and what only a GPU has, a decode step as one launch."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

import torch

from burnish.errors import UserError

AUTO = "auto"


def resolve(name: str) -> torch.device:
    """The device called `name`: cpu, cuda, cuda:N, or auto, which is cuda where torch finds a GPU and cpu elsewhere.

    Raises UserError where there is no such GPU.
    """
    if name == AUTO:
        return torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
    device = torch.device(name)
    if device.type != "cuda":
        return device
    if not torch.cuda.is_available():
        built = "this torch is built without CUDA" if torch.version.cuda is None else "torch finds no GPU"
        raise UserError(
            f"model.device is {name}, but {built}.",
            field="model.device",
            hint="Set model.device: cpu (or auto), or install a torch with CUDA (https://pytorch.org/get-started/locally).",
        )
    if (device.index or 0) >= torch.cuda.device_count():
        last = torch.cuda.device_count() - 1
        raise UserError(f"there is no GPU {device.index}; the last is cuda:{last}.", field="model.device")
    return torch.device("cuda", device.index or 0)


def reset_peak(device: torch.device) -> None:
    """Start measuring `peak_gb` anew."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def peak_gb(device: torch.device) -> float | None:
    """The most memory, in 10⁹ bytes, that torch has taken of a GPU since `reset_peak`; None on the CPU."""
    return torch.cuda.max_memory_reserved(device) / 1e9 if device.type == "cuda" else None


class Graphs:
    """Runs steps that read and write the same tensors every time, each as one CUDA graph: a decode step is several hundred
    small kernels, and launching them one by one takes longer than running them.

    A step runs plainly the first time that its key is seen, which also does what must be done once outside of a graph, is
    recorded the second time, and replayed from then on. Graphs share the memory of their intermediate results, so what a
    step gives must be written into tensors of the caller's.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._seen: set[Hashable] = set()
        self._recorded: dict[Hashable, Callable[[], None]] = {}
        self._pool: Any = None

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
                self._pool = torch.cuda.graph_pool_handle()
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, pool=self._pool):
                step()
        return graph.replay
