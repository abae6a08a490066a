"""What both sides of a benchmark share: arguments, prompts, rows, what is printed. Imports nothing
of either side."""

from __future__ import annotations

import argparse
import atexit
import json
import resource
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

NEW_TOKENS = 64
PROMPTS, GROUP = 4, 8  # GRPO and sampling
PPO_PROMPTS = 32
BATCH = 8  # pairs or conversations in a step of SFT, reward model and DPO
HH_BATCH = 16  # pairs in a step of hh
BETA_GRPO, BETA_DPO = 0.04, 0.1
LEARNING_RATE = 1e-6
LORA_RANK, LORA_ALPHA = 16, 32
MICRO_TOKENS = 1024  # in a micro-batch of ours, as the recipes have it


def arguments(*workloads: str) -> argparse.Namespace:
    """WORKLOAD MODEL [--rows FILE] [--steps N] [--lora] ..."""
    parser = argparse.ArgumentParser()
    parser.add_argument("workload", choices=workloads)
    parser.add_argument("model")
    parser.add_argument("--rows", type=Path, help="tokenised rows, for what trains on fixed data")
    parser.add_argument(
        "--steps",
        type=int,
        default=3,
        help="steps that are timed; one more runs before them, and one after where a pass is made",
    )
    parser.add_argument("--lora", action="store_true")
    parser.add_argument("--roles", choices=["adapters", "copies"], default="adapters")
    parser.add_argument(
        "--micro", type=int, default=MICRO_TOKENS, help="ours: tokens in a micro-batch"
    )
    parser.add_argument("--recompute", action="store_true", help="gradient checkpointing")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N")
    parser.add_argument("--products", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument(
        "--sampler",
        choices=["none", "int8"],
        default="none",
        help="precision of the sampler's products",
    )
    parser.add_argument(
        "--start",
        type=Path,
        help="hh: the weights that Burnish begins with, written there; TRL takes them over",
    )
    parser.add_argument("--learning-rate", type=float, default=LEARNING_RATE)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def texts(count: int) -> list[str]:
    """The first prompts of the quickstart."""
    path = Path(__file__).parents[1] / "src" / "burnish" / "data" / "quickstart" / "prompts.jsonl"
    return [json.loads(line)["prompt"] for line in path.read_text().splitlines()[:count]]


def batch(rows: int) -> list[str]:
    """`rows` prompts: 4 different ones, each as often as it takes (1 for one row)."""
    different = texts(min(rows, PROMPTS))
    return [text for text in different for _ in range(rows // len(different))]


def reward(text: str) -> float:
    """What GRPO is paid for: any reward that differs within a group does."""
    return float(text.count("e"))


def scratch() -> Path:
    """A folder for checkpoints, which are large: it is gone when the program ends."""
    folder = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


@dataclass
class Clock:
    """When steps ended, and their losses."""

    ends: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)

    def tick(self, loss: float | None = None) -> None:
        """A step ended."""
        self.ends.append(time.perf_counter())
        if loss is not None:
            self.losses.append(loss)

    @property
    def step_s(self) -> float:
        """The median of the steps after the first."""
        return statistics.median(b - a for a, b in pairwise(self.ends))


def median_rate(write: Any, repeats: int) -> dict[str, float]:
    """Tokens a second with 1, 8 and 32 sequences: the median of `repeats` calls of `write(rows)`
    after one to warm up."""
    rates = {}
    for rows in (1, BATCH, PROMPTS * GROUP):
        write(rows)
        rates[str(rows)] = statistics.median(_rate(write, rows) for _ in range(repeats))
    return rates


def _rate(write: Any, rows: int) -> float:
    began = time.perf_counter()
    write(rows)
    return rows * NEW_TOKENS / (time.perf_counter() - began)


def mean(values: Sequence[float]) -> float | None:
    """None where there is nothing to average."""
    return statistics.fmean(values) if values else None


def report(**values: object) -> None:
    """One JSON object on the last line: the values, and the peak of this process's memory, or of
    the GPU's that torch took."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    torch = sys.modules["torch"]
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        peak = torch.cuda.max_memory_reserved() / 1e9
    print("\n" + json.dumps({**values, "peak_gb": peak}))
