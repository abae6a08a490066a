"""What the machine would need at least for a workload's step, and what the plan says of its
memory."""

from __future__ import annotations

from dataclasses import dataclass

from work import BATCH, GROUP, MICRO_TOKENS, NEW_TOKENS, PPO_PROMPTS, PROMPTS

from burnish.planning import memory
from burnish.planning.machine import Machine
from burnish.planning.memory import FLOAT32, Part, Precision
from burnish.planning.shape import ModelShape

RANK = 16


@dataclass(frozen=True)
class Training:
    """A row of the table: a workload, how the weights are trained, and what is asked of it (times
    faster, GB)."""

    workload: str
    kind: str
    faster: float
    memory: float
    peer: str = "trl"
    products: str = "float32"
    recompute: bool = False
    sampler: str = "none"
    micro: int = MICRO_TOKENS

    @property
    def flags(self) -> list[str]:
        """For our side."""
        kind = ["--roles", self.kind] if self.workload == "ppo" else ["--lora"] if self.lora else []
        return [
            *kind,
            "--products",
            self.products,
            "--sampler",
            self.sampler,
            "--micro",
            str(self.micro),
            *(["--recompute"] if self.recompute else []),
        ]

    @property
    def name(self) -> str:
        """In the table."""
        how = " bf16" if self.products == "bfloat16" else " again" if self.recompute else ""
        how += " int8" if self.sampler == "int8" else ""
        how += f" {self.micro}" if self.micro != MICRO_TOKENS else ""
        return f"{self.workload}, {self.kind}{how}"

    @property
    def lora(self) -> bool:
        """Whether adapters are trained."""
        return self.kind in ("LoRA", "adapters")


@dataclass(frozen=True)
class Work:
    """Of one step: tokens that a pass over its sequences runs (shared prompts once), and how many
    of them are scored."""

    tokens: float
    scored: float
    sequences: float

    @property
    def context(self) -> float:
        """Mean tokens that a token sees."""
        return self.tokens / self.sequences / 2


def training_limit(
    workload: str, work: Work, shape: ModelShape, machine: Machine, *, lora: bool
) -> float:
    """Seconds of a step at the rate of large products, with nothing computed that need not be."""
    forward = lambda scored: shape.forward_flops(work.tokens, scored, context=work.context)  # noqa: E731

    def train(scored):
        return shape.training_flops(work.tokens, scored, lora=lora, context=work.context)

    flops = {
        "sft": train(work.scored),
        "reward": train(0),
        "dpo": train(work.scored) + forward(work.scored),
        "grpo": train(work.scored) + forward(work.scored),
        # reference, critic and reward model read the rollouts; policy and critic learn
        "ppo": train(work.scored) + train(0) + forward(work.scored) + 2 * forward(0),
    }[workload]
    rows = {"grpo": PROMPTS * GROUP, "ppo": PPO_PROMPTS}.get(workload)
    sampling = NEW_TOKENS * rows / decoding_limit(rows, shape, machine) if rows else 0.0
    return flops / machine.flops + sampling


def decoding_limit(rows: int, shape: ModelShape, machine: Machine, *, matrix: int = 4) -> float:
    """Tokens a second: every step reads all weights once, the decoder's of `matrix` bytes, and
    multiplies them with `rows` rows."""
    read = (matrix * shape.decoder + 4 * shape.head) / machine.bandwidth
    multiply = rows * shape.forward_flops(1, 1, context=NEW_TOKENS / 2) / machine.flops
    return rows / max(read, multiply)


def planned_sampling_memory(shape: ModelShape) -> float:
    """Bytes of the sampling workload, by the same functions that `burnish plan` uses."""
    engine = memory.engine(shape, rows=PROMPTS * GROUP, length=NEW_TOKENS + 16)
    return memory.total([memory.program(), memory.frozen(shape, "model"), engine])


def planned_memory(row: Training, work: Work, shape: ModelShape) -> float:
    """Bytes of a training workload, by the same functions that `burnish plan` uses."""
    rank = RANK if row.lora else None
    precision = Precision(matrix=2) if row.products == "bfloat16" else FLOAT32
    online, ppo = row.workload in ("grpo", "ppo"), row.workload == "ppo"
    micro = memory.micro_batch(work.tokens, row.micro, examples=work.sequences if online else BATCH)
    parts = memory.training(
        shape,
        micro,
        micro * work.scored / work.tokens,
        rank=rank,
        recompute=row.recompute,
        precision=precision,
        roles=("policy", "critic") if ppo else ("model",),
        buffers=2 if online else 1,
    )
    frozen = {"grpo": 1, "ppo": 2}.get(row.workload, 0)
    parts = [
        memory.program(),
        *parts,
        *[memory.frozen(shape, "frozen")] * (0 if row.lora else frozen),
    ]
    parts.append(Part("adapters of frozen roles", 4.0 * shape.adapter(RANK) if row.lora else 0.0))
    if online:
        rows = PPO_PROMPTS if ppo else PROMPTS * GROUP
        narrow = row.sampler == "int8"
        engine = memory.engine(
            shape, rows=rows, length=NEW_TOKENS + 16, precision=precision, int8=narrow
        )
        parts = memory.in_turns(parts, engine)
    return memory.total(parts)
