"""How a training step's time and memory grow with length, batch and model size: measured, beside
the plan; and on paper to 7 B."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from functools import partial

import torch
from work import LORA_ALPHA, LORA_RANK, report

from burnish.batch import Batch, TokenSequence, cut
from burnish.config.sections import Optimizer
from burnish.models.adapters import LoraSpec, add_adapter
from burnish.models.backbone import load_backbone
from burnish.models.roles import View
from burnish.models.sources import resolve
from burnish.planning import memory
from burnish.planning.estimate import TRAINING_SHARE
from burnish.planning.machine import this_machine
from burnish.planning.shape import ModelShape
from burnish.trainers.learner import Learner
from burnish.trainers.sft import nll_term

PROMPT = 32
# sequences, completion tokens
POINTS = (
    (8, 64),
    (8, 128),
    (8, 256),
    (8, 512),
    (8, 1024),
    (2, 256),
    (32, 256),
)
PAPER = {
    "SmolLM2-135M": ModelShape(30, 576, 1536, 9, 3, 64, 49152, True, 8192),
    "SmolLM2-360M": ModelShape(32, 960, 2560, 15, 5, 64, 49152, True, 8192),
    "SmolLM2-1.7B": ModelShape(24, 2048, 8192, 32, 32, 64, 49152, True, 8192),
    "Mistral-7B": ModelShape(32, 4096, 14336, 32, 8, 128, 32000, False, 32768),
}


def one(model: str, sequences: int, length: int, *, recompute: bool) -> None:
    """A LoRA step of SFT on random tokens; prints one JSON object."""
    torch.set_num_threads(2)
    backbone, spec = load_backbone(model), LoraSpec(LORA_RANK, float(LORA_ALPHA))
    backbone.freeze()
    add_adapter(backbone, "policy", spec, seed=0)
    view = View(backbone, "policy", spec)
    settings = Optimizer(gradient_checkpointing=recompute)
    learner = Learner(view, settings, total_steps=3)
    generator = torch.Generator().manual_seed(0)
    draw = lambda count: tuple(torch.randint(5, 40_000, (count,), generator=generator).tolist())  # noqa: E731
    batch = Batch(tuple(TokenSequence(draw(PROMPT), draw(length)) for _ in range(sequences)))
    pieces = [batch.select(rows) for rows in batch.micro_batches(settings.micro_batch_tokens)]
    for _ in range(2):
        began = time.perf_counter()
        learner.update(
            partial(nll_term, view, piece, denominator=batch.trained_tokens) for piece in pieces
        )
    report(step_s=time.perf_counter() - began)


def planned(shape: ModelShape, sequences: int, length: int, *, recompute: bool) -> float:
    """Bytes, as `burnish plan` counts them."""
    costs = [PROMPT + length] * sequences
    runs = cut(costs, Optimizer().micro_batch_tokens)
    micro = max(map(len, runs)) * (PROMPT + length) * (memory.HEAP if len(runs) > 1 else 1.0)
    scored = micro * length / (PROMPT + length)
    parts = [
        memory.program(),
        *memory.training(shape, micro, scored, rank=LORA_RANK, recompute=recompute),
    ]
    return memory.total(parts)


def seconds(
    shape: ModelShape, sequences: int, length: int, flops: float, *, recompute: bool = False
) -> float:
    """Of a step, as `burnish plan` estimates them."""
    tokens = sequences * (PROMPT + length)
    context = (PROMPT + length) / 2
    work = shape.training_flops(
        tokens, sequences * length, lora=True, recompute=recompute, context=context
    )
    return work / (TRAINING_SHARE * flops)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--one", nargs=2, type=int, metavar=("SEQUENCES", "LENGTH"), help="measure this point alone"
    )
    parser.add_argument("--recompute", action="store_true", help="with gradient checkpointing")
    options = parser.parse_args()
    model = str(resolve("smollm2-135m").folder)
    if options.one:
        one(model, *options.one, recompute=options.recompute)
        return
    flops = this_machine(seconds=1.0).flops
    shape = PAPER["SmolLM2-135M"]
    print("SmolLM2-135M, LoRA r = 16, one step; measured and planned")
    print(f"{'sequences × tokens':>20}{'s':>8}{'planned':>9}{'GB':>8}{'planned':>9}")
    for recompute in (False, True):
        for sequences, length in POINTS if not recompute else POINTS[4:5]:
            flags = ["--one", str(sequences), str(length), *(["--recompute"] if recompute else [])]
            with tempfile.TemporaryFile("w+") as out:
                subprocess.run([sys.executable, __file__, *flags], check=True, stdout=out)
                out.seek(0)
                row = json.loads(out.read().strip().splitlines()[-1])
            name = f"{sequences} × {PROMPT + length}{' again' if recompute else ''}"
            size = planned(shape, sequences, length, recompute=recompute) / 1e9
            time_s = seconds(shape, sequences, length, flops, recompute=recompute)
            print(
                f"{name:>20}{row['step_s']:8.2f}{time_s:9.2f}{row['peak_gb']:8.2f}{size:9.2f}",
                flush=True,
            )
    print("\non paper, 8 × 288 tokens on this machine, float32, LoRA")
    for name, other in PAPER.items():
        time_s, size = seconds(other, 8, 256, flops), planned(other, 8, 256, recompute=False) / 1e9
        print(f"{name:>20}{'':8}{time_s:9.1f}{'':8}{size:9.1f}")


if __name__ == "__main__":
    main()
