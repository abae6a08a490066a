"""TRL 1.16 on one workload; prints one JSON object."""

from __future__ import annotations

import json
import os
import time

os.environ["HF_HUB_OFFLINE"] = "1"

import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model, set_peft_model_state_dict
from safetensors.torch import load_file
from torch.utils.data import SequentialSampler
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    TrainerCallback,
    set_seed,
)
from trl import (
    DPOConfig,
    DPOTrainer,
    GRPOConfig,
    GRPOTrainer,
    RewardConfig,
    RewardTrainer,
    SFTConfig,
    SFTTrainer,
)
from work import (
    BATCH,
    BETA_DPO,
    BETA_GRPO,
    GROUP,
    HH_BATCH,
    LORA_ALPHA,
    LORA_RANK,
    NEW_TOKENS,
    PROMPTS,
    Clock,
    arguments,
    mean,
    report,
    reward,
    scratch,
    texts,
)


class Callback(TrainerCallback):
    """Tells the clock of steps and losses."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock

    def on_step_end(self, *_: object, **__: object) -> None:
        self.clock.tick()

    def on_log(
        self, args: object, state: object, control: object, logs: dict[str, float], **_: object
    ) -> None:
        if "loss" in logs:
            self.clock.losses.append(float(logs["loss"]))


class InOrder:
    """A trainer whose rows are not shuffled."""

    def _get_train_sampler(self, *_: object, **__: object) -> SequentialSampler:
        return SequentialSampler(self.train_dataset)


class TokenisedDPOTrainer(InOrder, DPOTrainer):
    """The same trainer on rows that are tokens already."""

    def _prepare_dataset(self, dataset: Dataset, *_: object) -> Dataset:
        return dataset


class RowsInOrder(InOrder, RewardTrainer):
    """The same trainer on rows in their order."""


def main() -> None:
    options = arguments("sft", "reward", "dpo", "grpo", "hh", "hh-dpo")
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    set_seed(options.seed)
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    clock = Clock()
    common = dict(
        output_dir=str(scratch()),
        max_steps=options.steps + (1 if options.workload == "grpo" else 2),
        learning_rate=options.learning_rate,
        lr_scheduler_type="constant",
        warmup_steps=0,
        weight_decay=0.0,
        max_grad_norm=1.0,
        gradient_checkpointing=False,
        bf16=options.products == "bfloat16",
        use_cpu=options.device == "cpu",
        logging_steps=1,
        report_to=[],
        save_strategy="no",
        seed=options.seed,
        disable_tqdm=True,
    )
    lora = LoraConfig(
        r=LORA_RANK,
        lora_alpha=LORA_ALPHA,
        lora_dropout=0.0,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )
    keywords = {"callbacks": [Callback(clock)], "processing_class": tokenizer}
    data = json.loads(options.rows.read_text()) if options.rows else {}
    rows = data.get("train", [])
    causal = lambda: AutoModelForCausalLM.from_pretrained(options.model, dtype=torch.float32)  # noqa: E731
    scalar = lambda: _scalar(options.model, tokenizer.pad_token_id)  # noqa: E731
    keywords["peft_config"] = lora if options.lora else None
    if options.workload in ("hh", "hh-dpo"):  # one pass, falling rate
        common |= {"max_steps": -1, "num_train_epochs": 1, "lr_scheduler_type": "linear"}
    if options.workload == "sft":
        examples = [
            {
                "input_ids": row["prompt_ids"] + row["chosen_ids"],
                "completion_mask": [0] * len(row["prompt_ids"]) + [1] * len(row["chosen_ids"]),
            }
            for row in rows
        ]
        config = SFTConfig(
            **common, per_device_train_batch_size=BATCH, max_length=None, completion_only_loss=True
        )
        trainer = SFTTrainer(
            model=causal(), args=config, train_dataset=Dataset.from_list(examples), **keywords
        )
    elif options.workload in ("dpo", "hh-dpo"):
        names = ("prompt_ids", "chosen_ids", "rejected_ids")
        pairs = Dataset.from_list([{name: row[name] for name in names} for row in rows])
        config = DPOConfig(
            **common, per_device_train_batch_size=BATCH, max_length=None, beta=BETA_DPO
        )
        trainer = TokenisedDPOTrainer(model=causal(), args=config, train_dataset=pairs, **keywords)
    elif options.workload == "grpo":
        prompts = Dataset.from_list(
            [{"prompt": text} for text in texts(PROMPTS * (options.steps + 1))]
        )
        config = GRPOConfig(
            **common,
            per_device_train_batch_size=PROMPTS * GROUP,
            num_generations=GROUP,
            max_completion_length=NEW_TOKENS,
            generation_kwargs={"min_new_tokens": NEW_TOKENS},
            temperature=1.0,
            beta=BETA_GRPO,
            shuffle_dataset=False,
        )
        rewards = lambda completions, **_: [reward(text) for text in completions]  # noqa: E731
        trainer = GRPOTrainer(
            model=causal(), reward_funcs=rewards, args=config, train_dataset=prompts, **keywords
        )
    else:
        sides = [
            {f"{s}_ids": row["prompt_ids"] + row[f"{s}_ids"] for s in ("chosen", "rejected")}
            for row in rows
        ]
        size = HH_BATCH if options.workload == "hh" else BATCH
        config = RewardConfig(**common, per_device_train_batch_size=size, max_length=None)
        if options.lora:
            keywords["peft_config"] = LoraConfig(
                r=LORA_RANK,
                lora_alpha=LORA_ALPHA,
                lora_dropout=0.0,
                target_modules="all-linear",
                task_type="SEQ_CLS",
                modules_to_save=["score"],
            )
        if options.start is not None:
            # This model pads with the token that ends an answer, so TRL reads a score one token
            # before its end; here both sides must read the same.
            tokenizer.pad_token = "<|endoftext|>"
        kind, model = RewardTrainer, scalar()
        if options.start is not None:
            kind = RowsInOrder
            model = get_peft_model(model, keywords.pop("peft_config"))
            weights = load_file(options.start / "adapter_model.safetensors")
            weights["base_model.model.score.weight"] = load_file(
                options.start / "score.safetensors"
            )["score"]
            if set_peft_model_state_dict(model, weights).unexpected_keys:
                raise SystemExit("the other side's start does not fit")
        trainer = kind(model=model, args=config, train_dataset=Dataset.from_list(sides), **keywords)
    began = time.perf_counter()
    trainer.train()
    values = {
        "train_s": time.perf_counter() - began,
        "step_s": clock.step_s,
        "steps": len(clock.losses),
    }
    values |= {"first_loss": clock.losses[0], "loss": mean(clock.losses)}
    if options.workload == "hh":
        values["differences"] = _differences(trainer.model.eval(), data["heldout"])
    if options.workload == "hh-dpo":
        values["differences"] = _implicit_differences(trainer.model.eval(), data["heldout"])
    report(**values)


def _scalar(model: str, pad_token_id: int) -> AutoModelForSequenceClassification:
    scalar = AutoModelForSequenceClassification.from_pretrained(
        model, num_labels=1, dtype=torch.float32
    )
    scalar.config.pad_token_id = pad_token_id
    return scalar


@torch.no_grad()
def _differences(model: torch.nn.Module, rows: list[dict[str, list[int]]]) -> list[float]:
    """Score of the chosen answer minus that of the rejected one; one sequence at a time: no
    padding, nothing to get wrong."""
    score = lambda tokens: float(model(torch.tensor([tokens])).logits[0, 0])  # noqa: E731
    return [
        score(r["prompt_ids"] + r["chosen_ids"]) - score(r["prompt_ids"] + r["rejected_ids"])
        for r in rows
    ]


@torch.no_grad()
def _implicit_differences(model: torch.nn.Module, rows: list[dict[str, list[int]]]) -> list[float]:
    """β of the log-ratio of the chosen answer minus that of the rejected one; one sequence at a
    time, as above."""

    def logprob(row: dict[str, list[int]], side: str) -> float:
        prompt, answer = row["prompt_ids"], row[f"{side}_ids"]
        logits = model(torch.tensor([prompt + answer])).logits[0, len(prompt) - 1 : -1]
        return float(logits.log_softmax(-1).gather(-1, torch.tensor(answer)[:, None]).sum())

    margin = lambda row: logprob(row, "chosen") - logprob(row, "rejected")  # noqa: E731
    learnt = [margin(row) for row in rows]
    with model.disable_adapter():
        return [BETA_DPO * (value - margin(row)) for value, row in zip(learnt, rows, strict=True)]


if __name__ == "__main__":
    main()
