"""Norms and gated activations that keep less: the same numbers as the modules they stand in for."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers.models.llama.configuration_llama import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaMLP, LlamaRMSNorm

from burnish.models.lean import _RmsNorm, _SwiGlu, keep_less


def _modules() -> list[nn.Module]:
    torch.manual_seed(0)
    norm, gated = (
        LlamaRMSNorm(12),
        LlamaMLP(LlamaConfig(hidden_size=12, intermediate_size=20, num_attention_heads=2)),
    )
    nn.init.normal_(norm.weight)
    return [norm, gated]


@pytest.mark.parametrize("which", [0, 1])
def test_the_numbers_are_those_of_the_module(which: int):
    theirs, ours = _modules()[which], _modules()[which]
    keep_less(ours)
    results = []
    for module in (theirs, ours):
        x = torch.randn(2, 5, 12, generator=torch.Generator().manual_seed(1)).requires_grad_(True)
        y = module(x)
        (y * torch.arange(y.numel()).reshape(y.shape)).sum().backward()
        results.append((y.detach(), x.grad, *(p.grad for p in module.parameters())))
    torch.testing.assert_close(results[1][0], results[0][0], atol=0, rtol=0)
    torch.testing.assert_close(results[1], results[0], atol=1e-4, rtol=1e-5)


def test_gradients_are_derivatives():
    x, weight = (
        torch.randn(size, dtype=torch.float64, requires_grad=True) for size in ((3, 7), (7,))
    )
    assert torch.autograd.gradcheck(lambda a, w: _RmsNorm.apply(a, w, 1e-3), (x, weight))
    gate, up = (torch.randn(3, 5, dtype=torch.float64, requires_grad=True) for _ in range(2))
    assert torch.autograd.gradcheck(_SwiGlu.apply, (gate, up))


def test_a_frozen_norm_asks_for_no_gradient_of_its_weight():
    norm = _modules()[0].requires_grad_(False)
    keep_less(norm)
    x = torch.randn(2, 12, requires_grad=True)
    norm(x).sum().backward()
    assert x.grad is not None
    assert norm.weight.grad is None


def test_other_precisions_go_the_modules_own_way():
    theirs, ours = (_modules()[0].to(torch.bfloat16) for _ in range(2))
    keep_less(ours)
    x = torch.randn(2, 12, dtype=torch.bfloat16)
    assert torch.equal(ours(x), theirs(x))


def _replaced(module: nn.Module) -> bool:
    keep_less(module)
    return "forward" in vars(module)


def test_what_computes_something_else_stays_as_it_is():
    from transformers.models.gemma2.modeling_gemma2 import Gemma2RMSNorm
    from transformers.models.gpt_oss.modeling_gpt_oss import GptOssRMSNorm
    from transformers.models.qwen3_5.modeling_qwen3_5 import Qwen3_5RMSNorm, Qwen3_5RMSNormGated

    class Doubled(LlamaRMSNorm):
        def forward(self, hidden_states):
            return super().forward(hidden_states) * 2

    class Clamped(LlamaMLP):
        def forward(self, x):
            return self.down_proj(self.act_fn(self.gate_proj(x)).clamp(max=1.0) * self.up_proj(x))

    config = LlamaConfig(hidden_size=12, intermediate_size=20, num_attention_heads=2)
    gelu = LlamaConfig(
        hidden_size=12, intermediate_size=20, num_attention_heads=2, hidden_act="gelu"
    )
    others = (
        Gemma2RMSNorm(6), Qwen3_5RMSNorm(6), Qwen3_5RMSNormGated(6), Doubled(6), Clamped(config),
        LlamaMLP(gelu),
        nn.LayerNorm(6),
    )  # fmt: skip
    assert not any(_replaced(module) for module in others)
    assert _replaced(GptOssRMSNorm(6))  # the same product, under another name
    assert _replaced(
        LlamaMLP(
            LlamaConfig(hidden_size=12, intermediate_size=20, num_attention_heads=2, mlp_bias=True)
        )
    )


def test_trying_leaves_weights_and_gradients_alone():
    norm = _modules()[0]
    before = norm.weight.detach().clone()
    keep_less(norm)
    assert torch.equal(norm.weight, before)
    assert norm.weight.grad is None
