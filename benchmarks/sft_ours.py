"""Burnish's SFT on tokenised demonstrations; prints one JSON object."""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from itertools import pairwise
from pathlib import Path

import torch

from burnish.batch import TokenSequence
from burnish.config.schema import Checkpointing, Optimiser, Sft
from burnish.models.adapters import LoraSpec, add_adapter
from burnish.models.backbone import load_backbone
from burnish.models.roles import View
from burnish.trainers.sft import train_sft


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("rows", type=Path)
    parser.add_argument("--lora", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(2)
    rows = json.loads(options.rows.read_text())
    examples = [TokenSequence(tuple(row["prompt_ids"]), tuple(row["completion_ids"])) for row in rows]
    backbone, spec = load_backbone(options.model), LoraSpec(16, 32.0)
    if options.lora:
        backbone.freeze()
        add_adapter(backbone, "policy", spec, seed=0)
    view = View(backbone, "policy", spec) if options.lora else View(backbone)
    optimiser = Optimiser(learning_rate=1e-6, schedule="constant", warmup=0.0)
    config = Sft(epochs=1, batch_size=8, eval_every=1000, optimiser=optimiser, checkpoint=Checkpointing(every=1000))
    ends: list[float] = []
    losses: list[float] = []

    def progress(done: int, total: int, tokens: int, values: dict[str, float]) -> None:
        ends.append(time.perf_counter())
        losses.append(values["loss"])

    train_sft(view, examples, examples[:1], config=config, seed=0, folder=Path(tempfile.mkdtemp()), progress=progress)
    steps = sorted(b - a for a, b in pairwise(ends[:-1]))  # the last step ends with evaluation and a checkpoint
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    result = {"step_s": steps[len(steps) // 2], "peak_gb": peak, "loss": sum(losses) / len(losses)}
    print(json.dumps(result | {"tokens": sum(len(e) for e in examples) // len(losses)}))


if __name__ == "__main__":
    main()
