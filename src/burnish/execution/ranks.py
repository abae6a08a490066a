"""Ranks over torch's process groups: what `burnish.ranks` asks of a group, between processes."""

from __future__ import annotations

import os
import pickle
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed import TCPStore  # pyright: ignore[reportPrivateImportUsage]

from burnish import ranks

_LOOPBACK = {"linux": "lo", "darwin": "lo0"}


class TorchGroup:
    """The default process group; what is told and gathered goes through the CPU (gloo)."""

    def __init__(self) -> None:
        self.rank, self.world = dist.get_rank(), dist.get_world_size()

    def tell(self, value: Any) -> Any:
        """Rank 0's value, on every rank."""
        box = [pickle.dumps(value) if self.rank == 0 else None]
        dist.broadcast_object_list(box, src=0, device=torch.device("cpu"))
        return value if self.rank == 0 else pickle.loads(box[0])  # type: ignore[arg-type]

    def gather(self, value: Any) -> list[Any]:
        """Every rank's value, in the order of ranks."""
        data = torch.frombuffer(bytearray(pickle.dumps(value)), dtype=torch.uint8)
        sizes = [torch.zeros(1, dtype=torch.int64) for _ in range(self.world)]
        dist.all_gather(sizes, torch.tensor([len(data)]))
        room = max(int(size) for size in sizes)
        padded = torch.cat([data, data.new_zeros(room - len(data))])
        parts = [torch.empty(room, dtype=torch.uint8) for _ in range(self.world)]
        dist.all_gather(parts, padded)
        pairs = zip(parts, sizes, strict=True)
        return [pickle.loads(part[: int(size)].numpy().tobytes()) for part, size in pairs]


@contextmanager
def joined(
    rank: int, world: int, *, port: int, start: float, train: float, device: str = "cpu"
) -> Iterator[None]:
    """Be rank `rank` of `world` processes on this machine, whose driver's store listens at `port`.

    Args:
        start: seconds until all must have come.
        train: seconds that one may wait for another afterwards; then a RuntimeError says so.
        device: cpu, or cuda, where rank r has GPU r.
    """
    if sys.platform in _LOOPBACK:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", _LOOPBACK[sys.platform])
    backend = "gloo"
    if device == "cuda":
        torch.cuda.set_device(rank)
        backend = "cpu:gloo,cuda:nccl"
    store = TCPStore("127.0.0.1", port, is_master=False, timeout=timedelta(seconds=start))
    dist.init_process_group(
        backend, store=store, rank=rank, world_size=world, timeout=timedelta(seconds=train)
    )
    with ranks.joined(TorchGroup()):
        yield
        dist.barrier()
    dist.destroy_process_group()
