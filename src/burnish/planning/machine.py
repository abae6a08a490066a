"""What the machine can do: memory that is free, and the rates that time follows from."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

_GROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True, slots=True)
class Machine:
    """Rates of one device (all its cores together).

    Args:
        name: for people.
        memory: bytes that a run may take.
        flops: multiply-adds count two; of large products in the precision that is trained in, per second.
        bandwidth: bytes read from memory per second.
        devices: how many there are.
        weight_bytes: of one weight in that precision.
    """

    name: str
    memory: float
    flops: float
    bandwidth: float
    devices: int = 1
    weight_bytes: int = 4

    @property
    def is_cpu(self) -> bool:
        """Whether this is no accelerator: weights are float32 on a CPU, and shorter elsewhere."""
        return self.weight_bytes == 4


def free_memory() -> float:
    """Bytes that this process could still take: what the system calls available, or what its control group leaves."""
    free = float("inf")
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                free = 1024.0 * int(line.split()[1])
    except OSError:
        free = float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    return min(free, _group_leaves())


def _group_leaves() -> float:
    """What a container's limit leaves; pages of files count as free, for they are given back."""
    try:
        limit = (_GROUP / "memory.max").read_text().strip()
        if limit == "max":
            return float("inf")
        stat = dict(line.split() for line in (_GROUP / "memory.stat").read_text().splitlines())
        used = int((_GROUP / "memory.current").read_text()) - int(stat.get("inactive_file", 0))
        return float(int(limit) - used)
    except (OSError, ValueError):
        return float("inf")


def this_machine(*, seconds: float = 0.3) -> Machine:
    """The CPU that this runs on, measured for about `seconds` each: a product of training's shape, and a sum over 256 MB."""
    import torch

    from burnish.models.matmul import use_fast_exact_matmul

    use_fast_exact_matmul()
    a, b = torch.ones(1024, 1024), torch.ones(1024, 4096)  # no random numbers: a run's must not depend on this
    wide = torch.ones(1 << 26)
    with torch.no_grad():
        flops = 2.0 * 1024 * 1024 * 4096 / _best(lambda: a @ b, seconds)
        bandwidth = wide.nbytes / _best(wide.sum, seconds)
    name = f"this CPU, {torch.get_num_threads()} threads"
    return Machine(name, free_memory(), flops, bandwidth)


def bfloat16_speed(*, seconds: float = 0.2) -> float:
    """How much faster training's products are in bfloat16 than in float32, measured: what a processor says it has tells
    too little. With AVX-512's bfloat16 alone one processor takes half of float32's time and another twice as long."""
    import torch

    from burnish.models.matmul import use_fast_exact_matmul

    use_fast_exact_matmul()
    a, b = torch.ones(512, 1024), torch.ones(1024, 2048)
    narrow_a, narrow_b = a.bfloat16(), b.bfloat16()
    with torch.no_grad():
        return _best(lambda: a @ b, seconds) / _best(lambda: narrow_a @ narrow_b, seconds)


def _best(call: Callable[[], object], seconds: float) -> float:
    """The shortest of as many calls as fit: what the machine can do, not what it is disturbed in doing."""
    call()
    best, end = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end:
        began = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - began)
    return best
