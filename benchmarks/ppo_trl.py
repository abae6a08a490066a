"""TRL 0.23.1's PPOTrainer with four full models on the benchmark workload; prints one JSON object."""

from __future__ import annotations

import argparse
import json
import os
import resource
import tempfile
import time
from itertools import pairwise
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

import torch
from datasets import Dataset
from prompts import texts
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, PreTrainedTokenizerFast
from trl import PPOConfig, PPOTrainer


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("--steps", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(2)
    # transformers 4 does not know the tokenizer class that transformers 5 writes; the file itself is the same.
    names = json.loads((Path(options.model) / "tokenizer_config.json").read_text())
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(Path(options.model) / "tokenizer.json"), padding_side="left",
        eos_token=names["eos_token"], pad_token=names["pad_token"],
    )  # fmt: skip
    policy, reference = (
        AutoModelForCausalLM.from_pretrained(options.model, torch_dtype=torch.float32) for _ in range(2)
    )
    reward, critic = (
        AutoModelForSequenceClassification.from_pretrained(options.model, num_labels=1, torch_dtype=torch.float32)
        for _ in range(2)
    )
    rows = [{"input_ids": tokenizer(text)["input_ids"]} for text in texts(32)]
    config = PPOConfig(
        output_dir=tempfile.mkdtemp(), total_episodes=32 * options.steps, per_device_train_batch_size=32, gradient_accumulation_steps=1,
        num_mini_batches=1, num_ppo_epochs=1, local_rollout_forward_batch_size=32, response_length=64, learning_rate=1e-6,
        missing_eos_penalty=None, num_sample_generations=0, report_to=[], save_strategy="no", use_cpu=True, bf16=False,
    )  # fmt: skip
    dataset = Dataset.from_list(rows * (options.steps + 1))
    trainer = PPOTrainer(
        args=config, processing_class=tokenizer, model=policy, ref_model=reference, reward_model=reward, value_model=critic,
        train_dataset=dataset, eval_dataset=dataset.select(range(2)),
    )  # fmt: skip
    ends: list[float] = []
    log = trainer.log

    def timed(*arguments: object, **keywords: object) -> None:
        ends.append(time.perf_counter())
        log(*arguments, **keywords)

    trainer.log = timed
    trainer.train()
    steps = sorted(b - a for a, b in pairwise(ends))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(json.dumps({"step_s": steps[len(steps) // 2], "peak_gb": peak, "tokens": 32 * 64}))


if __name__ == "__main__":
    main()
