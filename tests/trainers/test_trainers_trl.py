"""On one batch of the real model, loss and gradient norm beside those that TRL 1.16 computed
(recorded/trl_1_16.json).

TRL has no conservative DPO (1.16 reads `label_smoothing` for other losses only). Where it differs
from the paper, our option for its form is used here: IPO averages over tokens; CPO's and ORPO's NLL
average over the batch, ORPO's with the prompt.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from burnish.batch import TokenSequence
from burnish.config.preference import PreferenceTraining
from burnish.data.render import render_response
from burnish.models.backbone import Backbone, load_backbone
from burnish.models.roles import View
from burnish.records import Comparison, Prompt
from burnish.trainers.groups import RankedGroup
from burnish.trainers.preference import Example, prepare, terms
from scripts import load_script

pytestmark = pytest.mark.real
RECORD = Path(__file__).parent / "recorded" / "trl_1_16.json"

# By TRL's run: our loss.
OURS: dict[str, dict[str, Any]] = {
    "dpo": {"name": "dpo", "beta": 0.1},
    "rdpo": {"name": "rdpo", "beta": 0.1, "label_noise": 0.2},
    "dpo_norm": {"name": "dpo_norm", "beta": 5.0},
    "ipo": {"name": "ipo", "tau": 0.25, "average": True},
    "hinge": {"name": "hinge", "beta": 0.1},
    "dpo+sft": {"name": "dpo", "beta": 0.1, "sft": {"weight": 0.5, "average": "batch"}},
    "simpo": {"name": "simpo", "beta": 2.0, "gamma": 0.5},
    "cpo": {"name": "cpo", "beta": 0.1, "sft": {"weight": 1.0, "average": "batch"}},
    "cpo smoothed": {
        "name": "cpo",
        "beta": 0.1,
        "sft": {"weight": 1.0, "average": "batch"},
    },  # and p = 0.8
    "orpo": {
        "name": "orpo",
        "beta": 0.3,
        "sft": {"weight": 1.0, "average": "batch", "prompt": True},
    },
    "kto": {"name": "kto", "beta": 0.1, "desirable_weight": 1.5, "undesirable_weight": 1.0},
}


@pytest.fixture(scope="module")
def record() -> dict[str, Any]:
    return json.loads(RECORD.read_text())


@pytest.fixture(scope="module")
def script() -> Any:
    return load_script(RECORD.with_suffix(".py"))


@pytest.fixture(scope="module")
def policy(smollm: Backbone, script: Any) -> View:
    """The model with its weights moved as the recording moved them."""
    backbone = load_backbone(smollm.reference)
    script.moved(backbone.model)
    return View(backbone)


def sequences(row: dict[str, list[int]]) -> tuple[TokenSequence, TokenSequence]:
    prompt = tuple(row["prompt_ids"])
    return TokenSequence(prompt, tuple(row["chosen_ids"])), TokenSequence(
        prompt, tuple(row["rejected_ids"])
    )


def examples(
    record: dict[str, Any],
    reference: View,
    config: PreferenceTraining,
    desirable: tuple[bool, ...],
    probability: float,
) -> list[Example]:
    pairs = [sequences(row) for row in record["rows"]]
    if config.loss.name != "kto":
        groups = [RankedGroup(pair, (Comparison(0, 1, probability),)) for pair in pairs]
        return prepare(reference, groups, config=config, seed=0, cache=None)
    from burnish.trainers.reference import answer_logprobs

    single = [pair[0 if good else 1] for pair, good in zip(pairs, desirable, strict=True)]
    strangers = [
        TokenSequence(s.prompt, single[i - 1].response) for i, s in enumerate(single)
    ]  # as TRL pairs them
    own, other = (
        answer_logprobs(reference, s, max_tokens=1024).tolist() for s in (single, strangers)
    )
    return [
        Example(RankedGroup((s,), (), (float(good),)), (own[i],), strangers[i], other[i])
        for i, (s, good) in enumerate(zip(single, desirable, strict=True))
    ]


def test_the_tokens_are_ours_too(smollm: Backbone, record: dict[str, Any], script: Any):
    for (question, chosen, rejected), row in zip(script.PAIRS, record["rows"], strict=True):
        for side, answer in (("chosen_ids", chosen), ("rejected_ids", rejected)):
            prompt = Prompt("p", ({"role": "user", "content": question},))
            ours = render_response(smollm.tokenizer, prompt, answer, max_tokens=512)
            assert list(ours.prompt_tokens) == row["prompt_ids"]
            assert list(ours.response_tokens) == row[side]


@pytest.mark.parametrize("run", list(OURS))
def test_loss_and_gradient_norm_are_trls(
    run: str, smollm: Backbone, policy: View, record: dict[str, Any], script: Any
):
    config = PreferenceTraining.model_validate(
        {"loss": OURS[run], "lora": None, "batch_size": len(record["rows"])}
    )
    batch = examples(
        record, View(smollm), config, script.DESIRABLE, 0.8 if run == "cpo smoothed" else 1.0
    )
    parameters = policy.train_mode()
    for parameter in parameters:
        parameter.grad = None
    loss = 0.0
    for term_of in terms(policy, batch, config=config):
        term = term_of()
        term.loss.backward()
        loss += float(term.loss.detach())
    norm = math.sqrt(
        sum(float(p.grad.double().pow(2).sum()) for p in parameters if p.grad is not None)
    )
    expected = record["found"][run]
    assert loss == pytest.approx(expected["loss"], rel=1e-4)
    assert norm == pytest.approx(expected["grad_norm"], rel=1e-4)
    assert torch.isfinite(torch.tensor(norm))
