"""Dropout of adapters: how often, independent of what, and PEFT's numbers under the same masks."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import families
from adapted import adapted_policy
from burnish.batch import Batch, Segment, TokenSequence
from burnish.models.adapters import (
    LoraSpec,
    _layers,
    _LoraLinear,
    activate,
    add_adapter,
    load_adapter,
    save_adapter,
)
from burnish.models.backbone import Backbone, load_backbone
from burnish.models.dropout import AdapterDropout, Dropping
from burnish.models.roles import View, adapter_roles

P = 0.3
SPEC = LoraSpec(4, 8.0, dropout=P)
PROMPT = (258, 5, 6)
BATCH = Batch((TokenSequence(PROMPT, (20, 21, 256)), TokenSequence(PROMPT, (30, 31))))


def _masks(
    tokens: list[int], *, p: float = P, width: int = 512, layer: str = "a", step: int = 0
) -> Tensor:
    dropping = Dropping()
    with dropping.update(seed=1, step=step):
        row = torch.tensor(tokens)
        dropping.read(row, torch.arange(len(row)), (Segment(0, len(row)),))
        kept = AdapterDropout(p, name=layer, dropping=dropping).kept(torch.zeros(len(row), width))
    assert kept is not None
    return kept


@pytest.mark.parametrize("p", [0.05, 0.5, 0.9])
def test_the_share_of_zeros_is_p_in_every_row_and_channel(p: float):
    zeros = (~_masks(list(range(600)), p=p, width=800)).double()
    error = (p * (1 - p)) ** 0.5
    assert float(zeros.mean()) == pytest.approx(p, abs=5 * error / (600 * 800) ** 0.5)
    for dimension, count in ((1, 800), (0, 600)):
        shares = zeros.mean(dimension)
        assert float((shares - p).abs().max()) < 5 * error / count**0.5
        # neither more alike nor less than independent draws are
        assert 0.85 < float(shares.std()) / (error / count**0.5) < 1.15


def _correlation(one: Tensor, other: Tensor) -> float:
    """Of two masks, in standard deviations of independent ones."""
    a, b = (m.double() - m.double().mean() for m in (one, other))
    return float((a * b).mean() / (a.std() * b.std()) * a.numel() ** 0.5)


def test_layers_updates_and_tokens_draw_independently():
    tokens = list(range(400))
    first = _masks(tokens)
    assert torch.equal(first, _masks(tokens))
    assert abs(_correlation(first, _masks(tokens, layer="b"))) < 5
    assert abs(_correlation(first, _masks(tokens, step=1))) < 5
    assert abs(_correlation(first[1:], first[:-1])) < 5
    assert abs(_correlation(first[:, 1:], first[:, :-1])) < 5
    # one token more at the front, and all behind it draw anew
    assert abs(_correlation(first, _masks([999, *tokens])[1:])) < 5


def test_a_token_that_recurs_draws_anew_and_order_counts():
    recurring = _masks([7] * 300)
    assert abs(_correlation(recurring[1:], recurring[:-1])) < 5
    assert abs(_correlation(_masks([1, 2, 3])[2:], _masks([2, 1, 3])[2:])) < 5


def test_what_is_kept_is_scaled_up_as_nn_dropout_does():
    dropping = Dropping()
    module = AdapterDropout(P, name="a", dropping=dropping)
    x = torch.randn(1, 64, 32)
    assert module(x) is x
    with dropping.update(seed=1, step=0):
        dropping.read(torch.arange(64), torch.arange(64), (Segment(0, 64),))
        dropped = module(x)
    zero = dropped == 0
    torch.testing.assert_close(dropped[~zero], (x / (1 - P))[~zero])
    assert 0.2 < float(zero.float().mean()) < 0.4


@pytest.mark.parametrize("bias", [False, True])
def test_the_layer_passes_gradcheck_with_a_mask(bias: bool):
    generator = torch.Generator().manual_seed(0)
    draw = lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)  # noqa: E731
    x, a, b = (draw(*shape).requires_grad_(True) for shape in ((2, 3, 5), (2, 5), (4, 2)))
    weight, offset = draw(4, 5), draw(4) if bias else None
    kept = draw(6, 5) > -0.5
    layer = lambda x, a, b: _LoraLinear.apply(x, weight, offset, a, b, 1.5, kept, 1.4)  # noqa: E731
    assert torch.autograd.gradcheck(layer, (x, a, b))
    expected = x @ weight.T + (0 if offset is None else offset)
    expected = expected + 1.5 * (1.4 * x * kept.view(x.shape)) @ a.T @ b.T
    torch.testing.assert_close(layer(x, a, b), expected)


def _policy(backbone: Backbone, spec: LoraSpec = SPEC) -> View:
    return adapted_policy(backbone, spec)


@contextmanager
def _update(view: View, step: int = 0) -> Iterator[None]:
    with view.backbone.dropping.update(seed=7, step=step):
        yield


def _gradients(view: View, *batches: Batch) -> tuple[Tensor, dict[str, Tensor]]:
    view.train_mode()
    with _update(view):
        logprobs = [view.logprobs(batch).logprobs_P for batch in batches]
        torch.cat(logprobs).sum().backward()
    gradients = {}
    for name, parameter in view.parameters().items():
        assert parameter.grad is not None, name
        gradients[name] = parameter.grad.clone()
        parameter.grad = None
    return torch.cat(logprobs).detach(), gradients


def _assert_same(one: tuple[Tensor, dict[str, Tensor]], other: Any) -> None:
    torch.testing.assert_close(one[0], other[0], atol=1e-5, rtol=1e-5)
    for name, gradient in one[1].items():
        torch.testing.assert_close(gradient, other[1][name], atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("shape", ["lora", "rslora", "dora"])
def test_outputs_and_gradients_are_pefts_under_the_same_masks(tiny: Backbone, shape: str):
    spec = SPEC if shape == "lora" else replace(SPEC, **{shape: True})
    view = _policy(tiny, spec)
    ours = _gradients(view, BATCH)
    with torch.no_grad():
        whole = view.logprobs(BATCH).logprobs_P
    assert float((whole - ours[0]).abs().max()) > 1e-3  # something was left out
    for layer in _layers(tiny):
        del layer.forward  # what remains is PEFT's
        layer.training = True
    _assert_same(ours, _gradients(view, BATCH))


def test_a_model_of_pefts_own_gives_the_same_under_the_same_masks(tiny: Backbone, tmp_path: Path):
    """Written, read back by PEFT, and run there with its modules of dropout exchanged for ours."""
    from peft import PeftModel

    view = _policy(tiny)
    save_adapter(tiny, "policy", SPEC, tmp_path, base="tiny", task_type="CAUSAL_LM")
    assert json.loads((tmp_path / "adapter_config.json").read_text())["lora_dropout"] == P
    theirs: Any = PeftModel.from_pretrained(load_backbone("tiny").model, str(tmp_path))
    theirs.base_model.model.set_attn_implementation("eager")
    ours = dict(tiny.model.named_modules())
    theirs.eval()  # no dropout of another kind
    for name, module in theirs.base_model.model.named_modules():
        if name.endswith("lora_dropout"):
            assert isinstance(module["default"], torch.nn.Dropout)
            assert module["default"].p == P
            module["default"] = ours[name]["policy"]
    sequence = BATCH.sequences[0]
    tokens = torch.tensor([[*sequence.prompt, *sequence.response]])
    with _update(view):
        expected = view.logprobs(Batch((sequence,))).logprobs_P
        logits = theirs(input_ids=tokens, use_cache=False).logits[0]
    found = logits.log_softmax(-1)[2:-1].gather(1, tokens[0, 3:, None])[:, 0]
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_cutting_and_sharing_prompts_change_nothing(tiny: Backbone):
    view = _policy(tiny)
    whole = _gradients(view, BATCH)
    _assert_same(whole, _gradients(view, replace(BATCH, share_prompts=False)))
    _assert_same(whole, _gradients(view, *(BATCH.select([row]) for row in range(len(BATCH)))))


@pytest.mark.parametrize("family", ["lfm2", "qwen3_next", "granitemoehybrid", "deepseek_v3"])
def test_other_families_drop_and_run_layers_again_with_the_same_masks(family: str, tmp_path: Path):
    """Rows of their own, latents and state spaces: each layer finds the tokens that it is run on,
    also when it is run again."""
    spec = LoraSpec(2, 4.0, dropout=P)
    view = _policy(load_backbone(str(families.save_random_model(family, tmp_path))), spec)
    sequences = (
        TokenSequence((7, 5, 6), (20, 21, 3)),
        TokenSequence((7, 5, 6), tuple(range(9, 25))),
    )
    batch = Batch(sequences)
    kept = _gradients(view, batch)
    view.backbone.recompute_layers(True)
    again = _gradients(view, batch)
    _assert_same(kept, again)
    _assert_same(kept, _gradients(view, *(batch.select([row]) for row in range(2))))


def test_nothing_is_left_out_but_at_an_update(tiny: Backbone):
    view, plain = _policy(tiny), _policy(load_backbone("tiny"), replace(SPEC, dropout=0.0))
    view.train_mode()
    expected = plain.logprobs(BATCH).logprobs_P
    assert torch.equal(view.logprobs(BATCH).logprobs_P, expected)  # a gradient, and no update
    with _update(view):
        with torch.no_grad():  # no gradient, at an update
            assert torch.equal(view.logprobs(BATCH).logprobs_P, expected)
        assert not torch.equal(view.logprobs(BATCH).logprobs_P, expected)
    assert torch.equal(view.logprobs(BATCH).logprobs_P, expected)


def test_roles_on_one_backbone_draw_each_for_themselves(tiny: Backbone):
    roles = adapter_roles(tiny, lora=SPEC, critic=True, reference=True, seed=0)
    assert roles.critic is not None
    assert roles.critic.lora == SPEC
    masks = []
    with tiny.dropping.update(seed=0, step=0):
        layout = BATCH.layout
        tiny.dropping.read(layout.tokens_T, layout.positions_T, layout.segments)
        layer = next(iter(_layers(tiny)))
        x = torch.zeros(1, len(layout.tokens_T), tiny.width)
        for name in ("policy", "critic"):
            masks.append(layer.lora_dropout[name].kept(x))
        activate(tiny, None)
        bare = View(load_backbone("tiny"))
        assert roles.reference is not None  # the bare backbone, that of a gradient too
        torch.testing.assert_close(
            roles.reference.logprobs(BATCH).logprobs_P, bare.logprobs(BATCH).logprobs_P
        )
    assert abs(_correlation(masks[0], masks[1])) < 5
    assert not torch.equal(masks[0], masks[1])


def test_the_critic_has_its_own_recipes_dropout_not_the_reward_models(tiny: Backbone):
    from burnish.models.heads import ScalarHead

    spec = LoraSpec(2, 4.0, dropout=0.5)
    add_adapter(tiny, "reward", spec, seed=3)
    reward = View(tiny, "reward", spec, ScalarHead(tiny.width, seed=1))
    roles = adapter_roles(tiny, lora=SPEC, critic=True, reference=True, reward=reward, seed=0)
    assert roles.critic is not None
    assert roles.critic.lora == replace(spec, dropout=P)


def test_an_adapter_that_is_read_keeps_its_dropout(tiny: Backbone, tmp_path: Path):
    _policy(tiny)
    save_adapter(tiny, "policy", SPEC, tmp_path, base="tiny", task_type="CAUSAL_LM")
    spec = load_adapter(load_backbone("tiny"), "again", tmp_path)
    assert spec == SPEC


def test_a_layer_that_reads_other_rows_is_an_error():
    dropping = Dropping()
    with dropping.update(seed=0, step=0):
        with pytest.raises(ValueError, match="none were read"):
            dropping.kept(1, 4, 8, P)
        dropping.read(torch.arange(4), torch.arange(4), (Segment(0, 4),))
        with pytest.raises(ValueError, match="8 rows of input, where 4 were read"):
            dropping.kept(1, 8, 8, P)
