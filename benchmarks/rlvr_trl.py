"""TRL's GRPOTrainer on the RLVR benchmark's task: `rlvr_trl.py TASK.json OUT.json`."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"

import torch
from datasets import Dataset
from peft import LoraConfig
from rlvr_task import Curve, correct, messages
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback, set_seed
from trl import GRPOConfig, GRPOTrainer
from work import scratch


def reward(completions: list[Any], answer: list[str], **_: Any) -> list[float]:
    """Verifiable: the last number."""
    return [correct(c[0]["content"], a) for c, a in zip(completions, answer, strict=True)]


class Watch(TrainerCallback):
    """Measures held-out accuracy now and then."""

    curve: Curve

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.curve.tick(0)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.curve.tick(state.global_step, last=state.global_step == args.max_steps)


def main() -> None:
    task, out = json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2])
    how = task["how"]
    torch.set_num_threads(how["threads"])
    set_seed(task["seed"])
    tokenizer = AutoTokenizer.from_pretrained(task["model"], padding_side="left")
    model = AutoModelForCausalLM.from_pretrained(task["model"], dtype=torch.float32)
    rows = [{"prompt": messages(row), "answer": row["answer"]} for row in task["train"]]
    config = GRPOConfig(
        output_dir=str(scratch()),
        max_steps=how["steps"],
        per_device_train_batch_size=how["prompts"] * how["group"],
        num_generations=how["group"],
        max_completion_length=how["new_tokens"],
        temperature=1.0,
        beta=0.0,
        epsilon=0.2,
        loss_type="grpo",
        scale_rewards="group",
        learning_rate=how["learning_rate"],
        lr_scheduler_type="linear",
        warmup_steps=how["warmup_steps"],
        adam_beta2=0.95,
        weight_decay=0.0,
        max_grad_norm=1.0,
        gradient_checkpointing=False,
        bf16=False,
        use_cpu=True,
        logging_steps=1,
        report_to=[],
        save_strategy="no",
        seed=task["seed"],
        disable_tqdm=True,
    )
    lora = LoraConfig(
        r=16, lora_alpha=32, lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM"
    )
    watch = Watch()
    trainer = GRPOTrainer(
        model=model,
        reward_funcs=reward,
        args=config,
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
        peft_config=lora,
        callbacks=[watch],
    )

    @torch.no_grad()
    def measure() -> list[float]:
        policy = trainer.model
        was_training, before = policy.training, torch.get_rng_state()
        policy.eval()
        torch.manual_seed(0)
        chats = [messages(row) for row in task["heldout"]]
        inputs = tokenizer.apply_chat_template(
            chats, add_generation_prompt=True, padding=True, return_tensors="pt", return_dict=True
        )
        written = policy.generate(
            **inputs,
            do_sample=True,
            temperature=1.0,
            top_k=0,
            top_p=1.0,
            max_new_tokens=how["new_tokens"],
            num_return_sequences=how["heldout_samples"],
        )
        texts = tokenizer.batch_decode(
            written[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True
        )
        torch.set_rng_state(before)
        policy.train(was_training)
        answers = [row["answer"] for row in task["heldout"] for _ in range(how["heldout_samples"])]
        return [correct(text, answer) for text, answer in zip(texts, answers, strict=True)]

    watch.curve = Curve(measure, every=how["every"])
    trainer.train()
    watch.curve.write(out)


if __name__ == "__main__":
    main()
