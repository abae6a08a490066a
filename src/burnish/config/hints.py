"""What a key that does not exist may have meant: another tool's word for one, or the nearest right
one. Torch-free."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence

RENAMED = {
    "optimiser": "optimizer", "normalise": "normalize", "normalise_rewards": "normalize_rewards",
    "normalise_advantages": "normalize_advantages", "mini_batches": "num_mini_batches",
    "lam": "gae_lambda",
    "value_clip": "value_clip_range", "value_coefficient": "vf_coef",
    "entropy_coefficient": "ent_coef",
    "ptx_coefficient": "ptx_coef", "missing_end_penalty": "missing_eos_penalty",
    "trackers": "report_to",
}  # fmt: skip
"""Keys by their older names, and what they are called today."""
ALIASES = RENAMED | {
    "per_device_train_batch_size": (
        "batch_size (of sft, reward, dpo and the like) or prompts_per_step (of ppo, grpo and the"
        " like)"
    ),
    "num_train_epochs": "epochs",
    "num_ppo_epochs": "epochs",
    "num_generations": "responses_per_prompt (of ppo, grpo and the like) or responses (of sample)",
    "max_completion_length": "sampling.max_new_tokens",
    "response_length": "sampling.max_new_tokens",
    "kl_coef": "algorithm.beta",
    "init_kl_coef": "algorithm.beta",
    "cliprange": "algorithm.clip_low and clip_high",
    "epsilon": "algorithm.clip_low and clip_high",
    "epsilon_low": "algorithm.clip_low",
    "epsilon_high": "algorithm.clip_high",
    "delta": "algorithm.dual_clip",
    "num_iterations": "epochs",
    "scale_rewards": "algorithm.advantage (group_normalized or group_mean)",
    "mask_truncated_completions": "algorithm.overlong (mask)",
    "reward_funcs": "rewards (of grpo and the like)",
    "reward_weights": "rewards (of grpo and the like; weight, of each)",
    "sync_ref_model": "moving_reference",
    "ref_model_sync_steps": "moving_reference (every)",
    "vllm_importance_sampling_cap": "importance.cap",
    "vllm_importance_sampling_mode": "importance.kind (and level)",
    "cliprange_value": "value_clip_range",
    "whiten_rewards": "algorithm.whiten",
    "lr": "optimizer.learning_rate",
    "lora_r": "lora.r",
    "lora_alpha": "lora.alpha",
    "lora_dropout": "lora.dropout",
    "quantization_config": "lora.quantization (int8, int4 or nf4)",
    "load_in_4bit": "lora.quantization (nf4)",
    "load_in_8bit": "lora.quantization (int8)",
    "quantization_bit": "lora.quantization (int8, int4 or nf4)",
    "bnb_4bit_quant_type": "lora.quantization (nf4 or int4)",
    "gradient_accumulation_steps": (
        "optimizer.micro_batch_tokens (tokens at once; batch_size is the whole batch)"
    ),
    "max_length": "model.max_length",
    "model_name_or_path": "model.name",
    "too_long": "data.drop ([duplicate, too_long])",
    "default_system": "data.system",
    "field_messages": "data.demonstrations.columns ({messages: NAME})",
    "interleave_probs": "data.demonstrations (a list of {source, weight})",
    "max_steps": "steps (max_steps of sft, reward, dpo and the like)",
    "loss_type": "loss.name (sigmoid: dpo; sigmoid_norm: dpo_norm; robust: rdpo)",
    "cpo_alpha": "loss.sft.weight",
    "rpo_alpha": "loss.sft.weight",
    "simpo_gamma": "loss.gamma",
    "label_smoothing": "loss.label_smoothing (of cdpo) or loss.label_noise (of rdpo)",
    "desirable_weight": "loss.desirable_weight (of kto)",
    "undesirable_weight": "loss.undesirable_weight (of kto)",
    "precompute_ref_log_probs": (
        "loss (the reference is always run once and cached: nothing to set)"
    ),
    "padding_free": "optimizer.micro_batch_tokens (batches are always packed: nothing to set)",
    "use_peft": "lora (of sft, reward, dpo and the like)",
    "base_model": "model.name",
    "model_name": "model.name",
    "pretrain": "model.name",
    "tokenizer_name_or_path": "model.name (the tokenizer is the model's own)",
    "torch_dtype": "model.dtype",
    "dtype": "model.dtype",
    "bf16": "model.dtype (bfloat16)",
    "fp16": "model.dtype (float32 or bfloat16)",
    "tf32": "model.dtype",
    "sequence_len": "model.max_length",
    "cutoff_len": "model.max_length",
    "max_seq_length": "model.max_length",
    "max_seq_len": "model.max_length",
    "max_len": "model.max_length",
    "max_prompt_length": "model.max_length (prompt and response together)",
    "prompt_max_len": "model.max_length (prompt and response together)",
    "adapter": "lora (null: every weight is trained)",
    "finetuning_type": "lora (null: every weight is trained)",
    "use_lora": "lora (null: every weight is trained)",
    "peft_config": "lora",
    "lora_rank": "lora.r",
    "dataset": "data.demonstrations, data.comparisons or data.prompts",
    "datasets": "data.demonstrations, data.comparisons or data.prompts",
    "dataset_name": "data.demonstrations, data.comparisons or data.prompts",
    "dataset_path": "data.demonstrations, data.comparisons or data.prompts",
    "train_dataset": "data.demonstrations, data.comparisons or data.prompts",
    "train_file": "data.demonstrations, data.comparisons or data.prompts",
    "prompt_data": "data.prompts",
    "val_set_size": "data.heldout",
    "val_size": "data.heldout",
    "test_size": "data.heldout",
    "eval_dataset": "data.heldout (a share of the data)",
    "max_samples": "data.limit",
    "max_train_samples": "data.limit",
    "train_batch_size": (
        "batch_size (of sft, reward, dpo and the like) or prompts_per_step (of ppo, grpo and the"
        " like)"
    ),
    "global_batch_size": (
        "batch_size (of sft, reward, dpo and the like) or prompts_per_step (of ppo, grpo and the"
        " like)"
    ),
    "micro_batch_size": (
        "optimizer.micro_batch_tokens (tokens at once; batch_size is the whole batch)"
    ),
    "micro_train_batch_size": (
        "optimizer.micro_batch_tokens (tokens at once; batch_size is the whole batch)"
    ),
    "rollout_batch_size": "prompts_per_step (of ppo, grpo and the like)",
    "num_epochs": "epochs",
    "max_epochs": "epochs",
    "total_episodes": "steps (batches of rollouts)",
    "n_samples_per_prompt": (
        "responses_per_prompt (of ppo, grpo and the like) or responses (of sample)"
    ),
    "lr_scheduler": "optimizer.schedule",
    "lr_scheduler_type": "optimizer.schedule",
    "warmup_steps": "optimizer.warmup (a share of the steps)",
    "warmup_ratio": "optimizer.warmup",
    "adam_beta1": "optimizer.betas",
    "adam_beta2": "optimizer.betas",
    "adam_epsilon": "optimizer.eps",
    "gradient_clipping": "optimizer.max_grad_norm",
    "max_norm": "optimizer.max_grad_norm",
    "actor_learning_rate": "optimizer.learning_rate",
    "lambd": "gae_lambda",
    "eps_clip": "algorithm.clip_low and clip_high",
    "advantage_estimator": "algorithm.name",
    "adv_estimator": "algorithm.name",
    "kl_loss_coef": "algorithm.beta",
    "use_kl_loss": "algorithm.kl (loss)",
    "pref_beta": "loss.beta",
    "pref_loss": "loss.name",
    "pref_ftx": "loss.sft.weight",
    "rl": "stages (dpo, kto, grpo and the like)",
    "stage": "stages (sft, reward, dpo, ppo and the like)",
    "do_train": "stages (sft, reward, dpo, ppo and the like)",
    "do_eval": "stages (evaluate)",
    "reward_model_path": "rewards ({name: model, model: FOLDER})",
    "reward_model": "rewards ({name: model, model: FOLDER})",
    "generate_max_len": "sampling.max_new_tokens (of sample, ppo, grpo, evaluate)",
    "max_tokens": "sampling.max_new_tokens (of sample, ppo, grpo, evaluate)",
    "num_gpus": "scale.trainers, or model.device",
    "run_name": "name",
    "eval_steps": "eval_every (of sft, reward, dpo and the like)",
    "evals_per_epoch": "eval_every (of sft, reward, dpo and the like)",
    "eval_strategy": "eval_every (of sft, reward, dpo and the like)",
    "save_steps": "checkpoint.every",
    "saves_per_epoch": "checkpoint.every",
    "save_total_limit": "checkpoint.keep",
    "wandb_project": "report_to (wandb)",
    "use_wandb": "report_to (wandb)",
    "importance_cap": "importance.cap",
    "clip": "algorithm.clip_low and clip_high",
    "tricks": "algorithm.whiten, and else the same words without tricks around them",
    "normalize_advantages": "algorithm.whiten",
    "normalise_advantages": "algorithm.whiten",
    "products": "model.dtype, or sampling.quantization",
    "roles": "share_backbone (true or false)",
    "collect": "sample, which writes answers, and compare, which has them compared",
    "panel": "by.panel (of compare)",
    "judge": "by (of compare)",
    "chat_template_path": "model.chat_template",
    "chat_template_jinja": "model.chat_template",
    "dataset_text_field": "data.demonstrations.columns ({text: NAME})",
    "center_rewards_coefficient": "normalize (of reward: gain and bias are set after training)",
    "loss_weights": "loss.sft.weight",
    "steps_per_generation": "num_mini_batches (of ppo, grpo and the like)",
    "generation_batch_size": "prompts_per_step (of ppo, grpo and the like)",
    "importance_sampling_level": "algorithm.loss (sequence_clip, which is gspo)",
    "entropy_coef": "ent_coef",
    "vllm_importance_sampling_clip_max": "importance.cap",
    "use_bias_correction_kl": "algorithm.kl_ratio_factor",
    "reward_clip_range": "clip_rewards",
    "max_tool_calling_iterations": "environment.max_turns",
    "sft_model_path": "start",
    "ref_model": "reference",
    "test_datasets": (
        "data.heldout (a share of the data), or another source: {source: A, heldout: B}"
    ),
    "dataset_exact_deduplication": "data.drop (duplicate)",
    "excess_length_strategy": "data.drop (too_long)",
    "default_system_message": "data.system",
    "rl_beta": "loss.beta",
    "orpo_alpha": "loss.beta (of orpo)",
    "dpo_label_smoothing": "loss.label_smoothing (of cdpo)",
    "kto_desirable_weight": "loss.desirable_weight (of kto)",
    "kto_undesirable_weight": "loss.undesirable_weight (of kto)",
    "kto_chosen_weight": "loss.desirable_weight (of kto)",
    "kto_rejected_weight": "loss.undesirable_weight (of kto)",
    "mix_strategy": "data.demonstrations (a list of {source, weight})",
    "prompt_probs": "data.prompts (a list of {source, weight})",
    "enable_thinking": "model.chat_template_kwargs ({enable_thinking: false})",
    "ppo_epochs": "epochs",
    "ppo_target": "kl_target",
    "ppo_score_norm": "normalize_rewards",
    "ppo_whiten_rewards": "algorithm.whiten",
    "prompt_dataset": "data.prompts",
    "input_key": "data.prompts.columns ({prompt: NAME})",
    "chosen_key": "data.comparisons.columns ({chosen: NAME})",
    "rejected_key": "data.comparisons.columns ({rejected: NAME})",
    "estimator": "algorithm.name, or algorithm.kl_estimator",
    "policy_loss_type": "algorithm.loss (gspo: sequence_clip)",
    "init_coef": "algorithm.beta",
    "use_loss": "algorithm.kl (loss)",
    "target": "kl_target",
    "horizon": "kl_horizon",
    "no_std_norm": "algorithm.advantage (group_mean)",
    "is_correction_threshold": "importance.cap",
    "is_correction_type": "importance.kind",
    "dynamic_filtering_enable": "algorithm.filter (mixed)",
    "num_episodes": "steps (batches of rollouts)",
    "lr_warmup_ratio": "optimizer.warmup",
    "eps_clip_low_high": "algorithm.clip_low and clip_high",
    "freezing_steps": "critic_warmup_steps",
    "normalize_enable": "normalize_rewards",
    "clip_range": "algorithm.clip_low and clip_high, or clip_rewards",
    "overlong_buffer_len": "overlong_cache",
    "stop_properly_penalty_coef": "missing_eos_penalty",
    "agent_func_path": "environment.name",
    "nll_loss_coef": "loss.sft.weight",
    "ipo_enable": "loss.name (ipo)",
    "rank": "lora.r",
    "lora_target_modules": "lora.targets",
    "early_stopping_patience": "patience",
    "metric_for_best_model": "best_by",
    "lora_target": "lora.targets",
    "target_modules": "lora.targets",
    "use_rslora": "lora.rslora",
    "use_dora": "lora.dora",
    "peft_use_rslora": "lora.rslora",
    "peft_use_dora": "lora.dora",
    "param_dtype": "model.dtype",
    "max_num": "checkpoint.keep",
}
"""Keys that users of other trainers type, and what they are called here."""


ABSENT = {
    "rounds": "Rounds stand around stages: {repeat: 2, stages: {...}}.",
    "output_dir": "The run's folder is given on the command line: --out FOLDER.",
    "save_path": "The run's folder is given on the command line: --out FOLDER.",
    "logging_dir": "The run's folder is given on the command line: --out FOLDER.",
    "overwrite_output_dir": "Nothing is overwritten: give another folder with --out.",
    "resume_from_checkpoint": "Nothing to set: the same command goes on from the last checkpoint.",
    "logging_steps": "Nothing to set: every step is logged.",
    "sample_packing": "Nothing to set: batches are always packed.",
    "packing": "Nothing to set: batches are always packed.",
    "pad_to_sequence_len": "Nothing to set: batches are always packed.",
    "group_by_length": "Nothing to set: batches are always packed.",
    "train_on_inputs": "Nothing to set: the loss counts what the assistant writes.",
    "assistant_only_loss": "Nothing to set: the loss counts what the assistant writes.",
    "completion_only_loss": "Nothing to set: the loss counts what the assistant writes.",
    "per_device_eval_batch_size": (
        "Nothing to set: optimizer.micro_batch_tokens bounds what is run at once."
    ),
    "attn_implementation": "Nothing to set: there is one kind of attention.",
    "flash_attention": "Nothing to set: there is one kind of attention.",
    "flash_attn": "Nothing to set: there is one kind of attention.",
    "xformers_attention": "Nothing to set: there is one kind of attention.",
    "use_vllm": "Nothing to set: completions are sampled by an engine of its own.",
    "template": "Nothing to set: the template is that of the model's tokenizer.",
    "dataset_prepared_path": "Nothing to set: data is read anew by each run.",
    "dataset_dir": (
        "Name the file or folder in data.demonstrations, data.comparisons or data.prompts."
    ),
    "lora_target_linear": (
        "Nothing to set: adapters are on every linear layer unless lora.targets names some."
    ),
    "modules_to_save": (
        "Embeddings and heads are not trained beside adapters: with lora: null every weight is."
    ),
    "lora_modules_to_save": (
        "Embeddings and heads are not trained beside adapters: with lora: null every weight is."
    ),
    "additional_target": (
        "Embeddings and heads are not trained beside adapters: with lora: null every weight is."
    ),
    "lora_model_dir": (
        "Name the adapter's folder as the stage's start: it is merged, and new adapters are trained"
        " on it."
    ),
    "adapter_name_or_path": (
        "Name the adapter's folder as the stage's start: it is merged, and new adapters are trained"
        " on it."
    ),
    "load_best_model_at_end": "Set keep: best.",
    "push_to_hub": "Models stay on this machine here.",
    "hub_model_id": "Models stay on this machine here.",
    "deepspeed": "Set scale.trainers: that many processes train one model together (FSDP2).",
    "fsdp": "Set scale.trainers: that many processes train one model together (FSDP2).",
    "zero_stage": "Set scale.trainers: that many processes train one model together (FSDP2).",
    "pad_to_multiple_of": "Nothing to set: batches are always packed.",
    "packing_samples": "Nothing to set: batches are always packed.",
    "dynamic_batch_enable": (
        "Nothing to set: optimizer.micro_batch_tokens bounds what is run at once."
    ),
    "eos_token": "Nothing to set: end tokens are the model's own, and trained.",
    "pad_token": "Nothing to set: batches are always packed.",
    "train_on_prompt": "Nothing to set: the loss counts what the assistant writes.",
    "mask_history": (
        "Nothing to set: every turn that the assistant wrote is trained; {trainable: false} at a"
        " message leaves it out."
    ),
    "f_divergence_type": "There is one divergence here: leave it out.",
    "ld_alpha": "There is none here; dpo_norm divides by the length.",
    "use_weighting": (
        "There is none here; weight_by_strength weighs pairs by how sure annotators were."
    ),
    "trl": "Its keys stand in the stage: {grpo: {sampling: {max_new_tokens: 256}}} and the like.",
    "label_key": "Rewards are handed the columns as they are called: leave it out.",
    "load_enable": "Nothing to set: the same command goes on from the last checkpoint.",
}
"""Keys that users of other trainers type and that have no counterpart, with what holds here."""

_MOST_PLACES = 5


def suggest(place: tuple[str, ...], known: Sequence[str], aliases: Mapping[str, str]) -> str:
    """What a key that does not exist may have meant.

    In this order: the same word further down in its section; another tool's word; the same word in
    another section; its beginning (responses, of responses_per_prompt); a word that is nearly the
    same, in its section or anywhere; else what there is in its section.
    """
    key = place[-1]
    section = "".join(f"{'*' if part.isdigit() else part}." for part in place[:-1])
    inside = [name for name in known if name.startswith(section)]
    if section and (same := _called(key, inside)):
        return same
    if key in aliases:
        return f"Here it is called {aliases[key]}."
    if key in ABSENT:
        return ABSENT[key]
    if same := _called(key, known):
        return same
    begun = [name for name in inside if key.startswith(f"{name.rpartition('.')[2]}_")]
    if section and begun:
        return f'Did you mean "{begun[0]}"?'
    for candidates in (inside, known):
        by_leaf = {name.rpartition(".")[2]: name for name in reversed(candidates)}
        if near := nearest(key, list(by_leaf)):
            return f'Did you mean "{by_leaf[near]}"?'
    siblings = [
        name.removeprefix(section) for name in inside if "." not in name.removeprefix(section)
    ]
    return f"Known here: {', '.join(dict.fromkeys(siblings))}."


def _called(key: str, names: Sequence[str]) -> str | None:
    """The question whether one of the keys with just this name was meant."""
    same = list(dict.fromkeys(name for name in names if name.rpartition(".")[2] == key))
    # a watch repeats keys of what it watches
    same = [name for name in same if ".watch." not in f".{name}"] or same
    if not same:
        return None
    others = (
        f" (or {', '.join(same[1:_MOST_PLACES])}{', ...' if len(same) > _MOST_PLACES else ''})"
        if same[1:]
        else ""
    )
    return f'Did you mean "{same[0]}"{others}?'


def nearest(word: str, words: Sequence[str]) -> str | None:
    """The one of `words` that is most like `word`, or None where none is."""
    return next(iter(difflib.get_close_matches(word, words, n=1, cutoff=0.7)), None)
