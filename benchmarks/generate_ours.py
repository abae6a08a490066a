"""Burnish's native engine on the sampling workload; prints one JSON object."""

from __future__ import annotations

import argparse
import json
import resource
import time

import torch
from prompts import batch

from burnish.generation.base import Request, SamplingParams
from burnish.generation.native import NativeEngine
from burnish.models.backbone import load_backbone
from burnish.models.roles import View


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(2)
    backbone = load_backbone(options.model)
    engine = NativeEngine(View(backbone), end_tokens=frozenset({backbone.tokenizer.eos_token_id}))

    def write(rows: int, temperature: float) -> tuple[float, list[list[int]]]:
        requests = [
            Request(tuple(backbone.tokenizer(text)["input_ids"]), seed) for seed, text in enumerate(batch(rows))
        ]
        began = time.perf_counter()
        completions = engine.generate(requests, SamplingParams(64, temperature=temperature, min_new_tokens=64))
        return rows * 64 / (time.perf_counter() - began), [list(c.tokens) for c in completions]

    rates = {}
    for rows in (1, 8, 32):
        write(rows, 1.0)
        rates[str(rows)] = sorted(write(rows, 1.0)[0] for _ in range(options.repeats))[options.repeats // 2]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(json.dumps({"rates": rates, "peak_gb": peak, "greedy": write(8, 0.0)[1]}))


if __name__ == "__main__":
    main()
