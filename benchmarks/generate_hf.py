"""transformers' `generate` on the same prompts; prints one JSON object."""

from __future__ import annotations

import argparse
import json
import os
import resource
import time

os.environ["HF_HUB_OFFLINE"] = "1"

import torch
from prompts import batch
from transformers import AutoModelForCausalLM, AutoTokenizer


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(2)
    tokenizer = AutoTokenizer.from_pretrained(options.model, padding_side="left")
    model = AutoModelForCausalLM.from_pretrained(options.model, dtype=torch.float32).eval()

    @torch.no_grad()
    def write(rows: int, **how: object) -> tuple[float, list[list[int]]]:
        inputs = tokenizer(batch(rows), return_tensors="pt", padding=True)
        began = time.perf_counter()
        tokens = model.generate(
            **inputs, **how, min_new_tokens=64, max_new_tokens=64, pad_token_id=tokenizer.pad_token_id
        )
        return rows * 64 / (time.perf_counter() - began), tokens[:, inputs["input_ids"].shape[1] :].tolist()

    sampled = {"do_sample": True, "temperature": 1.0, "top_k": 0, "top_p": 1.0}
    rates = {}
    for rows in (1, 8, 32):
        write(rows, **sampled)
        rates[str(rows)] = sorted(write(rows, **sampled)[0] for _ in range(options.repeats))[options.repeats // 2]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(json.dumps({"rates": rates, "peak_gb": peak, "greedy": write(8, do_sample=False)[1]}))


if __name__ == "__main__":
    main()
