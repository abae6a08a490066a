"""What the machine can do: memory that is free, and the rates that time follows from."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from burnish.system import available_memory

if TYPE_CHECKING:
    import torch

_GROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True, slots=True)
class Machine:
    """Rates of one device (all its cores together).

    Args:
        name: for people.
        memory: bytes that a run may take.
        flops: multiply-adds count two; of large products in the precision that is trained in, per
            second.
        bandwidth: bytes read from memory per second.
        devices: how many there are.
        weight_bytes: of one weight; less than 4 where the optimizer keeps a float32 copy besides.
        is_cpu: whether it is a CPU: its allocator has holes, and it may multiply bytes.
        int8: whether it does, where it is a CPU.
        node: GPUs of one computer.
        inner: bytes a second that a GPU passes to others of its computer.
        link: bytes a second that it passes to other computers.
    """

    name: str
    memory: float
    flops: float
    bandwidth: float
    devices: int = 1
    weight_bytes: int = 4
    is_cpu: bool = True
    int8: bool = True
    node: int = 8
    inner: float = 450e9
    link: float = 50e9


def free_memory() -> float:
    """Bytes that this process could still take: what the system calls available, or what its
    control group leaves."""
    free = float("inf")
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                free = 1024.0 * int(line.split()[1])
    except OSError:
        free = float(available_memory())
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


def this_machine(
    device: torch.device | None = None, *, products: str = "float32", seconds: float = 0.3
) -> Machine:
    """What this runs on (None: the CPU), measured for about `seconds` each: a product of training's
    shape in the precision `products`, and a sum over 256 MB. A CPU's is measured in float32 always:
    what runs there plans with the slower of the two."""
    import torch

    from burnish.models.int8 import available
    from burnish.models.matmul import use_fast_exact_matmul

    device = torch.device("cpu") if device is None else device
    is_cpu = device.type == "cpu"
    if is_cpu:
        use_fast_exact_matmul()
    memory = free_memory() if is_cpu else float(torch.cuda.mem_get_info(device)[0])
    rows = 1024 if is_cpu else 8192
    dtype = torch.float32 if is_cpu else getattr(torch, products)
    # No random numbers: a run's must not depend on this.
    a, b = (
        torch.ones(rows, 1024, dtype=dtype, device=device),
        torch.ones(1024, 4096, dtype=dtype, device=device),
    )
    wide = torch.ones(1 << 26, device=device)
    with torch.no_grad():
        flops = 2.0 * rows * 1024 * 4096 / _best(partial(torch.matmul, a, b), seconds, device)
        bandwidth = wide.nbytes / _best(wide.sum, seconds, device)
    del a, b, wide
    if is_cpu:
        return Machine(
            f"this CPU, {torch.get_num_threads()} threads",
            memory,
            flops,
            bandwidth,
            int8=available(),
        )
    torch.cuda.empty_cache()  # it would count as the first stage's
    name = f"{torch.cuda.get_device_name(device)} ({device}), {products}"
    return Machine(name, memory, flops, bandwidth, is_cpu=False)


def bfloat16_speed(*, seconds: float = 0.2) -> float:
    """How much faster training's products are in bfloat16 than in float32, measured: what a
    processor says it has tells too little. With AVX-512's bfloat16 alone one processor takes half
    of float32's time and another twice as long."""
    import torch

    from burnish.models.matmul import use_fast_exact_matmul

    use_fast_exact_matmul()
    a, b = torch.ones(512, 1024), torch.ones(1024, 2048)
    narrow_a, narrow_b = a.bfloat16(), b.bfloat16()
    with torch.no_grad():
        cpu = torch.device("cpu")
        return _best(lambda: a @ b, seconds, cpu) / _best(lambda: narrow_a @ narrow_b, seconds, cpu)


def _best(call: Callable[[], object], seconds: float, device: torch.device) -> float:
    """The shortest of as many calls as fit: what the machine can do, not what it is disturbed in
    doing."""
    import torch

    wait = partial(torch.cuda.synchronize, device) if device.type != "cpu" else lambda: None
    call()
    best, end = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end:
        wait()
        began = time.perf_counter()
        call()
        wait()
        best = min(best, time.perf_counter() - began)
    return best
