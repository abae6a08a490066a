"""Burnish's reward trainer on tokenised HH pairs; prints one JSON object with the held-out score differences."""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from pathlib import Path

import torch

from burnish.batch import TokenSequence
from burnish.config.schema import Checkpointing, Optimiser, RewardModel
from burnish.models.adapters import LoraSpec, add_adapter
from burnish.models.backbone import load_backbone
from burnish.models.heads import ScalarHead
from burnish.models.roles import View
from burnish.records import Comparison
from burnish.trainers.reward_model import RankedGroup, score_sequences, train_reward_model


def group(row: dict[str, list[int]]) -> RankedGroup:
    prompt = tuple(row["prompt_ids"])
    answers = (tuple(row[side][len(prompt) :]) for side in ("chosen_ids", "rejected_ids"))
    return RankedGroup(tuple(TokenSequence(prompt, answer) for answer in answers), (Comparison(0, 1, 1.0),))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("pairs", type=Path)
    parser.add_argument("--learning-rate", type=float, required=True)
    parser.add_argument("--batch-size", type=int, required=True)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(2)
    data = json.loads(options.pairs.read_text())
    train, heldout = ([group(row) for row in data[part]] for part in ("train", "heldout"))
    backbone = load_backbone(options.model)
    backbone.freeze()
    spec = LoraSpec(16, 32.0)
    add_adapter(backbone, "reward", spec, seed=options.seed)
    view = View(backbone, "reward", spec, ScalarHead(backbone.width, seed=options.seed))
    config = RewardModel(
        batch_size=options.batch_size,
        optimiser=Optimiser(learning_rate=options.learning_rate, schedule="linear", warmup=0.0),
        checkpoint=Checkpointing(every=1000),
    )
    curve: list[float] = []
    began = time.perf_counter()
    train_reward_model(
        view, train, [], config=config, seed=options.seed, folder=Path(tempfile.mkdtemp()),
        progress=lambda done, total, tokens, values: curve.append(values["loss"]),
    )  # fmt: skip
    seconds = time.perf_counter() - began
    scores = score_sequences(view, [s for g in heldout for s in g.sequences], max_tokens=2048).reshape(-1, 2)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    result = {"train_s": seconds, "peak_gb": peak, "steps": len(curve), "first_loss": curve[0]}
    print(json.dumps(result | {"differences": (scores[:, 0] - scores[:, 1]).tolist()}))


if __name__ == "__main__":
    main()
