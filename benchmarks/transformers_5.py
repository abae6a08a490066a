"""transformers' `generate` on the sampling workload; prints one JSON object."""

from __future__ import annotations

import os

os.environ["HF_HUB_OFFLINE"] = "1"

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from work import BATCH, NEW_TOKENS, arguments, batch, median_rate, report


def main() -> None:
    options = arguments("generate")
    torch.set_num_threads(2)
    tokenizer = AutoTokenizer.from_pretrained(options.model, padding_side="left")
    dtype = getattr(torch, options.products)
    model = (
        AutoModelForCausalLM.from_pretrained(options.model, dtype=dtype).to(options.device).eval()
    )

    @torch.no_grad()
    def write(rows: int, **how: object) -> list[list[int]]:
        inputs = tokenizer(batch(rows), return_tensors="pt", padding=True).to(options.device)
        tokens = model.generate(
            **inputs,
            **how,
            min_new_tokens=NEW_TOKENS,
            max_new_tokens=NEW_TOKENS,
            pad_token_id=tokenizer.pad_token_id,
        )
        return tokens[:, inputs["input_ids"].shape[1] :].tolist()

    sampled = {"do_sample": True, "temperature": 1.0, "top_k": 0, "top_p": 1.0}
    rates = median_rate(lambda rows: write(rows, **sampled), options.steps)
    report(rates=rates, greedy=write(BATCH, do_sample=False))


if __name__ == "__main__":
    main()
