"""TRL 1.16's RewardTrainer on the same tokenised HH pairs; prints one JSON object with the held-out score differences."""

from __future__ import annotations

import argparse
import json
import os
import resource
import tempfile
import time
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoModelForSequenceClassification, AutoTokenizer, set_seed
from trl import RewardConfig, RewardTrainer


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("pairs", type=Path)
    parser.add_argument("--learning-rate", type=float, required=True)
    parser.add_argument("--batch-size", type=int, required=True)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(2)
    set_seed(options.seed)
    data = json.loads(options.pairs.read_text())
    columns = ("chosen_ids", "rejected_ids")
    train = Dataset.from_list([{name: row[name] for name in columns} for row in data["train"]])
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    model = AutoModelForSequenceClassification.from_pretrained(options.model, num_labels=1, dtype=torch.float32)
    model.config.pad_token_id = tokenizer.pad_token_id
    config = RewardConfig(
        output_dir=tempfile.mkdtemp(), per_device_train_batch_size=options.batch_size, num_train_epochs=1, max_length=None,
        learning_rate=options.learning_rate, lr_scheduler_type="linear", warmup_steps=0, weight_decay=0.0, max_grad_norm=1.0,
        gradient_checkpointing=False, bf16=False, use_cpu=True, logging_steps=1, report_to=[], save_strategy="no",
        seed=options.seed, disable_tqdm=True,
    )  # fmt: skip
    lora = LoraConfig(
        r=16,
        lora_alpha=32,
        lora_dropout=0.0,
        target_modules="all-linear",
        task_type="SEQ_CLS",
        modules_to_save=["score"],
    )
    trainer = RewardTrainer(model=model, args=config, processing_class=tokenizer, train_dataset=train, peft_config=lora)
    began = time.perf_counter()
    trainer.train()
    seconds = time.perf_counter() - began
    losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    model = trainer.model.eval()
    differences = []
    with torch.no_grad():
        for row in data["heldout"]:  # one sequence at a time: no padding, nothing to get wrong
            chosen, rejected = (float(model(torch.tensor([row[name]])).logits[0, 0]) for name in columns)
            differences.append(chosen - rejected)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    result = {"train_s": seconds, "peak_gb": peak, "steps": len(losses), "first_loss": losses[0]}
    print(json.dumps(result | {"differences": differences}))


if __name__ == "__main__":
    main()
