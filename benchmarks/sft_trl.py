"""TRL 1.16's SFTTrainer on the same tokens; prints one JSON object."""

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
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from trl import SFTConfig, SFTTrainer


class Clock(TrainerCallback):
    """When each step ended."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_step_end(self, *_: object, **__: object) -> None:
        self.ends.append(time.perf_counter())


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("rows", type=Path)
    parser.add_argument("--lora", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(2)
    rows = json.loads(options.rows.read_text())
    examples = [
        {
            "input_ids": row["prompt_ids"] + row["completion_ids"],
            "completion_mask": [0] * len(row["prompt_ids"]) + [1] * len(row["completion_ids"]),
        }
        for row in rows
    ]
    config = SFTConfig(
        output_dir=tempfile.mkdtemp(), per_device_train_batch_size=8, num_train_epochs=1, max_length=512, completion_only_loss=True,
        learning_rate=1e-6, lr_scheduler_type="constant", warmup_steps=0, weight_decay=0.0, gradient_checkpointing=False, bf16=False,
        use_cpu=True, logging_steps=1, report_to=[], save_strategy="no", seed=0, disable_tqdm=True,
    )  # fmt: skip
    lora = LoraConfig(r=16, lora_alpha=32, lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM")
    clock = Clock()
    trainer = SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(options.model, dtype=torch.float32),
        args=config,
        train_dataset=Dataset.from_list(examples),
        processing_class=AutoTokenizer.from_pretrained(options.model),
        callbacks=[clock],
        peft_config=lora if options.lora else None,
    )
    trainer.train()
    losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    steps = sorted(b - a for a, b in pairwise(clock.ends))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    result = {"step_s": steps[len(steps) // 2], "peak_gb": peak, "loss": sum(losses) / len(losses)}
    print(json.dumps(result | {"tokens": sum(len(e["input_ids"]) for e in examples) // len(losses)}))


if __name__ == "__main__":
    main()
