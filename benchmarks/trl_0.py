"""TRL 0.23.1's PPOTrainer (later releases have none) with four full models; prints one JSON
object."""

from __future__ import annotations

import json
import os
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

import torch
from datasets import Dataset
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    PreTrainedTokenizerFast,
)
from trl import PPOConfig, PPOTrainer
from work import NEW_TOKENS, PPO_PROMPTS, Clock, arguments, report, scratch, texts


def main() -> None:
    options = arguments("ppo")
    torch.set_num_threads(2)
    # transformers 4 does not know the tokenizer class that transformers 5 writes; the file itself
    # is the same.
    names = json.loads((Path(options.model) / "tokenizer_config.json").read_text())
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(Path(options.model) / "tokenizer.json"), padding_side="left",
        eos_token=names["eos_token"], pad_token=names["pad_token"],
    )  # fmt: skip
    policy, reference = (
        AutoModelForCausalLM.from_pretrained(options.model, torch_dtype=torch.float32)
        for _ in range(2)
    )
    reward, critic = (
        AutoModelForSequenceClassification.from_pretrained(
            options.model, num_labels=1, torch_dtype=torch.float32
        )
        for _ in range(2)
    )
    rows = [{"input_ids": tokenizer(text)["input_ids"]} for text in texts(PPO_PROMPTS)]
    config = PPOConfig(
        output_dir=str(scratch()),
        total_episodes=PPO_PROMPTS * (options.steps + 1),
        per_device_train_batch_size=PPO_PROMPTS,
        gradient_accumulation_steps=1,
        num_mini_batches=1,
        num_ppo_epochs=1,
        local_rollout_forward_batch_size=PPO_PROMPTS,
        response_length=NEW_TOKENS,
        learning_rate=options.learning_rate,
        missing_eos_penalty=None,
        num_sample_generations=0,
        report_to=[],
        save_strategy="no",
        use_cpu=options.device == "cpu",
        bf16=options.products == "bfloat16",
    )
    dataset = Dataset.from_list(rows * (options.steps + 1))
    trainer = PPOTrainer(
        args=config,
        processing_class=tokenizer,
        model=policy,
        ref_model=reference,
        reward_model=reward,
        value_model=critic,
        train_dataset=dataset,
        eval_dataset=dataset.select(range(2)),
    )
    clock, log = Clock(), trainer.log

    def timed(*arguments: object, **keywords: object) -> None:
        clock.tick()
        log(*arguments, **keywords)

    trainer.log = timed
    trainer.train()
    report(step_s=clock.step_s)


if __name__ == "__main__":
    main()
