"""A reward model on the answer only, and on the whole text: which tokens it is shown."""

from __future__ import annotations

import pytest
import torch

from burnish.models.backbone import load_backbone
from burnish.models.heads import ScalarHead
from burnish.models.roles import View
from burnish.records import Completion, Prompt, Rollout
from burnish.rewards.model import RewardModelScorer, ScopedModelReward

# Scores of the same text in batches of other shapes: another order of summation, some units in the
# last place.
NEAR = 1e-5


def setup():
    torch.manual_seed(0)
    backbone = load_backbone("tiny")
    view = View(backbone, head=ScalarHead(backbone.width))
    end = (backbone.tokenizer.eos_token_id,)
    return (
        view,
        end,
        lambda text: tuple(backbone.tokenizer(text, add_special_tokens=False)["input_ids"]),
    )


def rollout(encode, text: str) -> Rollout:
    prompt = Prompt("p", ({"role": "user", "content": "ask"},))
    return Rollout(prompt, encode("ask"), Completion(text, encode(text), (), "length"), 0)


def test_scope_answer_scores_as_if_only_the_answer_had_been_written():
    view, end, encode = setup()
    answer = ScopedModelReward(view, scope="answer", end_tokens=end, max_tokens=512)
    full = ScopedModelReward(view, scope="full", end_tokens=end, max_tokens=512)
    alone = (
        RewardModelScorer(view, end_tokens=end, max_tokens=512)
        .score([rollout(encode, "it is 4")])[0]
        .value
    )
    reasoned = [rollout(encode, f"<think>{t}</think>it is 4") for t in ("long thoughts", "others")]
    assert [j.value for j in answer.score(reasoned)] == pytest.approx([alone, alone], abs=NEAR)
    whole = [j.value for j in full.score(reasoned)]
    assert min(abs(whole[0] - whole[1]), abs(whole[1] - alone)) > 100 * NEAR
    tagged = rollout(encode, "<think>a</think><answer>it is 4</answer>")
    assert answer.score([tagged])[0].value == pytest.approx(alone, abs=NEAR)


def test_an_answer_that_is_not_there_is_scored_as_empty():
    view, end, encode = setup()
    answer = ScopedModelReward(view, scope="answer", end_tokens=end, max_tokens=512)
    empty = (
        RewardModelScorer(view, end_tokens=end, max_tokens=512)
        .score([rollout(encode, "")])[0]
        .value
    )
    assert answer.score([rollout(encode, "<think>never closed")])[0].value == pytest.approx(
        empty, abs=NEAR
    )


def test_prompts_are_written_in_the_models_own_tokens_where_those_differ():
    view, end, encode = setup()
    own = ScopedModelReward(
        view, scope="full", end_tokens=end, max_tokens=512, render=lambda prompt: encode("ask")
    )
    foreign = Rollout(Prompt("p", ()), (9, 9, 9), Completion("so", (7, 7), (), "stop"), 0)
    expected = (
        RewardModelScorer(view, end_tokens=end, max_tokens=512)
        .score([rollout(encode, "so")])[0]
        .value
    )
    assert own.score([foreign])[0].value == pytest.approx(expected, abs=NEAR)
