"""Records TRL 1.16's loss and gradient norm on one fixed batch, for
tests/trainers/test_trainers_trl.py.

    python -m venv trl && trl/bin/pip install torch==2.13.0 trl==1.16.0
    trl/bin/python tests/trainers/recorded/trl_1_16.py MODEL_FOLDER        # writes trl_1_16.json
        beside this file

The policy is the model with every weight moved a little (`moved`), the reference the model as it
is. Nothing of Burnish is
imported: the tokens are the tokenizer's own, by its chat template.
"""

from __future__ import annotations

import json
import math
import sys
import tempfile
from pathlib import Path
from typing import Any

PAIRS = [
    ("Name a fruit that is yellow.", "A banana is yellow.", "The sky, on some days, is blue."),
    ("How do I boil an egg?", "Put it in boiling water for eight minutes, then cool it.", "No."),
    (
        "Is seven a prime number?",
        "Yes: only 1 and 7 divide it.",
        "Seven is the number that comes after six, so it is even.",
    ),
]
# KTO: the chosen answer of the first and third prompt, the rejected one of the second
DESIRABLE = (
    True,
    False,
    True,
)
OPTIONS = {
    "dpo": {"loss_type": ["sigmoid"], "beta": 0.1},
    "rdpo": {"loss_type": ["robust"], "beta": 0.1, "label_smoothing": 0.2},
    "dpo_norm": {"loss_type": ["sigmoid_norm"], "beta": 5.0},
    "ipo": {"loss_type": ["ipo"], "beta": 0.25},
    "hinge": {"loss_type": ["hinge"], "beta": 0.1},
    "dpo+sft": {"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, 0.5], "beta": 0.1},
    "simpo": {"loss_type": "simpo", "beta": 2.0, "simpo_gamma": 0.5, "cpo_alpha": 0.0},
    "cpo": {"loss_type": "sigmoid", "beta": 0.1, "cpo_alpha": 1.0},
    "cpo smoothed": {"loss_type": "sigmoid", "beta": 0.1, "cpo_alpha": 1.0, "label_smoothing": 0.2},
    "orpo": {"beta": 0.3},
    "kto": {"loss_type": "kto", "beta": 0.1, "desirable_weight": 1.5, "undesirable_weight": 1.0},
}


def moved(model: Any) -> None:
    """Every weight w_i += 0.01 · mean|w| · sin(0.7 i + length of the name): a policy away from its
    reference, on any machine."""
    import torch

    with torch.no_grad():
        for name, p in model.named_parameters():
            wave = torch.sin(
                0.7 * torch.arange(p.numel(), dtype=torch.float64) + len(name)
            ).reshape(p.shape)
            p.add_((0.01 * float(p.abs().double().mean()) * wave).to(p.dtype))


def tokenised(tokenizer: Any) -> list[dict[str, list[int]]]:
    """Prompt up to the assistant's header; answers with their end token."""
    rows = []
    for question, chosen, rejected in PAIRS:
        chat = [{"role": "user", "content": question}]
        text = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
        row = {"prompt_ids": tokenizer(text, add_special_tokens=False)["input_ids"]}
        for side, answer in (("chosen_ids", chosen), ("rejected_ids", rejected)):
            row[side] = tokenizer(answer + "<|im_end|>", add_special_tokens=False)["input_ids"]
        rows.append(row)
    return rows


def main(model_folder: str) -> None:
    import torch
    import trl
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import DPOConfig, DPOTrainer, KTOConfig, KTOTrainer
    from trl.experimental.cpo import CPOConfig, CPOTrainer
    from trl.experimental.orpo import ORPOConfig, ORPOTrainer

    class Dpo(DPOTrainer):
        def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
            return dataset

    class Kto(KTOTrainer):
        def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
            return dataset

    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    rows = tokenised(tokenizer)
    texts = [
        {
            "prompt": tokenizer.decode(row["prompt_ids"]),
            "chosen": tokenizer.decode(row["chosen_ids"]).removesuffix("<|im_end|>"),
            "rejected": tokenizer.decode(row["rejected_ids"]).removesuffix("<|im_end|>"),
        }
        for row in rows
    ]
    answers = [
        row["chosen_ids"] if good else row["rejected_ids"]
        for row, good in zip(rows, DESIRABLE, strict=True)
    ]
    single = [
        {
            "prompt_ids": row["prompt_ids"],
            "completion_ids": answers[i],
            "KL_completion_ids": answers[i - 1],
            "label": DESIRABLE[i],
        }
        for i, row in enumerate(rows)
    ]
    common = {
        "output_dir": tempfile.mkdtemp(), "per_device_train_batch_size": len(PAIRS),
        "max_length": 512, "bf16": False, "use_cpu": True,
        "gradient_checkpointing": False, "report_to": [], "disable_tqdm": True,
    }  # fmt: skip

    def load() -> Any:
        return AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32)

    def build(name: str, options: dict[str, Any], policy: Any) -> Any:
        if name in ("simpo", "orpo") or name.startswith("cpo"):
            config, trainer = (
                (ORPOConfig, ORPOTrainer) if name == "orpo" else (CPOConfig, CPOTrainer)
            )
            return trainer(
                model=policy,
                args=config(**common, **options),
                train_dataset=Dataset.from_list(texts),
                processing_class=tokenizer,
            )
        if name == "kto":
            config = KTOConfig(**common, **options, train_sampling_strategy="sequential")
            return Kto(
                model=policy,
                ref_model=load(),
                args=config,
                train_dataset=Dataset.from_list(single),
                processing_class=tokenizer,
            )
        config = DPOConfig(**common, **options)
        return Dpo(
            model=policy,
            ref_model=load(),
            args=config,
            train_dataset=Dataset.from_list(rows),
            processing_class=tokenizer,
        )

    found: dict[str, dict[str, float]] = {}
    for name, options in OPTIONS.items():
        policy = load()
        moved(policy)
        trainer = build(name, options, policy)
        policy.eval()
        batch = trainer.data_collator([trainer.train_dataset[i] for i in range(len(PAIRS))])
        if name in ("simpo", "orpo") or name.startswith("cpo"):
            loss = trainer.get_batch_loss_metrics(policy, batch, train_eval="train")[0]
        else:
            loss = trainer._compute_loss(policy, batch, False)
        loss.backward()
        norm = math.sqrt(
            sum(
                float(p.grad.double().pow(2).sum())
                for p in policy.parameters()
                if p.grad is not None
            )
        )
        found[name] = {"loss": float(loss.detach()), "grad_norm": norm}
        print(name, found[name], flush=True)
    record = {
        "trl": trl.__version__,
        "torch": torch.__version__,
        "options": OPTIONS,
        "rows": rows,
        "found": found,
    }
    Path(__file__).with_suffix(".json").write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
