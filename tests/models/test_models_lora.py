"""The lean LoRA layer against PEFT's own."""

from __future__ import annotations

import pytest
import torch

from burnish.batch import Batch, TokenSequence
from burnish.models.adapters import LoraSpec, _layers, _LoraLinear, add_adapter
from burnish.models.backbone import Backbone
from burnish.models.roles import View

SPEC = LoraSpec(4, 8.0)
BATCH = Batch((TokenSequence((258, 5, 6), (20, 21, 256)), TokenSequence((258, 9), (30, 31))))


@pytest.fixture
def view(tiny: Backbone) -> View:
    tiny.freeze()
    add_adapter(tiny, "policy", SPEC, seed=0)
    view = View(tiny, "policy", SPEC)
    for name, parameter in view.parameters().items():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.3, generator=torch.Generator().manual_seed(0))
    return view


def _gradients(view: View) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    view.train_mode()
    logprobs = view.logprobs(BATCH).logprobs_P
    (logprobs * torch.arange(1.0, len(logprobs) + 1)).sum().backward()
    gradients = {}
    for name, parameter in view.parameters().items():
        assert parameter.grad is not None
        gradients[name] = parameter.grad.clone()
        parameter.grad = None
    return logprobs.detach(), gradients


def test_outputs_and_gradients_are_pefts(view: View):
    lean, lean_gradients = _gradients(view)
    for layer in _layers(view.backbone):
        del layer.forward  # what remains is PEFT's
    peft, peft_gradients = _gradients(view)
    torch.testing.assert_close(lean, peft, atol=1e-5, rtol=1e-5)
    for name, gradient in lean_gradients.items():
        torch.testing.assert_close(gradient, peft_gradients[name], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("bias", [False, True])
def test_the_layer_passes_gradcheck(bias: bool):
    generator = torch.Generator().manual_seed(0)
    draw = lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)  # noqa: E731
    x, a, b = (draw(*shape).requires_grad_(True) for shape in ((2, 3, 5), (2, 5), (4, 2)))
    weight, offset = draw(4, 5), draw(4) if bias else None
    assert torch.autograd.gradcheck(
        lambda x, a, b: _LoraLinear.apply(x, weight, offset, a, b, 1.5), (x, a, b)
    )


def test_a_backbone_that_learns_too_gets_its_gradient(view: View):
    """Not lean: PEFT's forward, whose weight below the adapter has a gradient."""
    view.backbone.model.requires_grad_(True)
    view.logprobs(BATCH).logprobs_P.sum().backward()
    assert all(layer.get_base_layer().weight.grad is not None for layer in _layers(view.backbone))
