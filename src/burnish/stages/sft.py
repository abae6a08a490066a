"""Stage `sft`: supervised fine-tuning on demonstrations."""

from __future__ import annotations

import math
from functools import partial

from burnish.atomic import shared_folder
from burnish.batch import TokenSequence
from burnish.data.render import Rendered, render_demonstration
from burnish.execution.shards import shard
from burnish.models.adapters import add_adapter
from burnish.models.backbone import Backbone
from burnish.models.roles import View
from burnish.models.weights import save_policy
from burnish.runs.metrics import read_metrics
from burnish.stages.adapters import lora_spec, quantization_of
from burnish.stages.context import Step
from burnish.stages.lengths import render_rows
from burnish.trainers.sft import train_sft


def run(step: Step) -> None:
    """Train, save the model (adapters merged, and kept beside it) under `model`, report the
    held-out loss."""
    config, folder = step.settings, step.folder
    backbone = step.load(
        step.start, trained=config.lora is None, quantization=quantization_of(config.lora)
    )
    split = step.demonstrations
    train = sequences_of(step, backbone, split.train, "demonstrations")
    heldout = sequences_of(step, backbone, split.heldout, "held-out demonstrations", required=False)
    unmeasured = step.not_evaluated(split, heldout)
    step.say_batch(config.batch_size, len(train), "demonstrations")
    view = View(backbone)
    if config.lora is not None:
        spec = lora_spec(config.lora)
        backbone.freeze()
        add_adapter(backbone, "sft", spec, seed=step.seed)
        view = View(backbone, "sft", spec)
    shard(view)
    train_sft(
        view, train, heldout, config=config, seed=step.seed, folder=folder,
        progress=step.progress(), writers=step.writers(),
    )  # fmt: skip
    with shared_folder(folder / "model") as scratch:
        save_policy(view, scratch, base=step.start)
    rows = read_metrics(folder / "metrics.jsonl")
    evaluated = [row for row in rows if "eval_loss" in row]
    before = rows[0].get("eval_loss_before")
    after = [row["eval_loss"] for row in evaluated if math.isfinite(row["eval_loss"])]
    after = [min(after)] if config.keep == "best" and after else after
    step.finish(
        {
            "examples_train": len(train),
            "examples_heldout": len(heldout),
            "steps": len(rows),
            "sequences_train": sum(map(len, train)),
            "tokens": sum(len(s) for conversation in train for s in conversation),
            "trained_tokens": sum(s.trained for conversation in train for s in conversation),
            "eval_loss_before": before,
            "eval_loss_after": after[-1] if after else None,
            "not_evaluated": unmeasured,
            "curve": [{"step": row["step"], "loss": row["loss"]} for row in rows],
            "eval_curve": [
                *([{"step": 0, "loss": before}] if evaluated else []),
                *({"step": row["step"], "loss": row["eval_loss"]} for row in evaluated),
            ],
            "parameters": backbone.parameter_count,
            "quantised": backbone.quantised,
        },
    )


def sequences_of(
    step: Step, backbone: Backbone, demonstrations: tuple, what: str, *, required: bool = True
) -> list[tuple[TokenSequence, ...]]:
    """Each demonstration as its token sequences, one where the chat template lets it be, with the
    mask of what is trained."""
    room = min(step.recipe.model.max_length, backbone.context)
    render = partial(render_demonstration, backbone.tokenizer, max_tokens=room)
    rows = render_rows(
        step, backbone, demonstrations, render, what=what, room=room, required=required
    )
    conversations = [tuple(sequence_of(part) for part in rendered) for _, rendered in rows]
    count = sum(map(len, conversations))
    if count > len(conversations):
        step.say(
            f"{what}: {len(conversations)} make {count} training sequences, because the chat"
            " template writes earlier turns otherwise once there are later ones"
        )
    return conversations


def sequence_of(rendered: Rendered) -> TokenSequence:
    """A rendered conversation, cut where the first trained token stands."""
    first = rendered.response_mask.index(True)
    return TokenSequence(
        rendered.tokens[:first], rendered.tokens[first:], rendered.response_mask[first:]
    )
