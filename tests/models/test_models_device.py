"""Devices by name, and attention as GPUs run it."""

from __future__ import annotations

import random

import pytest
import torch

import burnish
from burnish.batch import Batch, TokenSequence
from burnish.errors import UserError
from burnish.models.device import resolve
from burnish.models.packed_attention import _Core, _in_few_calls, _OnCpu
from burnish.models.pieces import cut_into_pieces


def test_names(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert resolve("auto") == resolve("cpu") == torch.device("cpu")
    with pytest.raises(UserError, match=r"model\.device is cuda, but .* Set model\.device: cpu"):
        resolve("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert resolve("cuda") == torch.device("cuda", 0)
    assert resolve("cuda:1") == torch.device("cuda", 1)
    with pytest.raises(UserError, match="there is no GPU 2; the last is cuda:1"):
        resolve("cuda:2")


def test_a_gpu_that_cannot_be_used_is_left_alone(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    """One that is too old for this torch, say, or full: auto says so and takes the CPU."""
    made = []

    def ones(*_: object, device: torch.device) -> torch.Tensor:
        made.append(device)
        if len(made) == 1:
            raise RuntimeError(
                "CUDA error: no kernel image is available for execution on the device\nmore"
            )
        return torch.zeros(1)

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch, "ones", ones)
    assert resolve("auto") == torch.device("cpu")
    assert (
        "no kernel image is available for execution on the device): running on the CPU"
        in caplog.text
    )
    assert resolve("auto") == torch.device("cuda", 0)
    assert made == [torch.device("cuda", 0)] * 2


@pytest.mark.parametrize("name", ["gpu", "cuda:", "cuda:x", "cuda1", "mps"])
def test_other_names_are_refused_with_the_recipe(name: str):
    with pytest.raises(UserError, match=r"model\.device"):
        burnish.load(None, f"model.device={name}")


@pytest.mark.parametrize("seed", range(4))
def test_padded_calls_give_what_a_call_for_each_segment_gives(seed: int):
    draw = random.Random(seed)
    sequences = []
    for _ in range(draw.randint(1, 6)):
        prompt = tuple(range(1, draw.randint(2, 60)))
        for _ in range(draw.randint(1, 4)):
            sequences.append(TokenSequence(prompt, tuple(range(draw.randint(0, 30)))))
    layout = Batch(tuple(sequences)).layout
    generator = torch.Generator().manual_seed(seed)
    shape = (len(layout.tokens_T), 8)
    q, k, v = (
        torch.randn(1, heads, *shape, dtype=torch.float64, generator=generator).requires_grad_()
        for heads in (6, 2, 2)
    )
    one_by_one = _OnCpu.apply(q, k, v, cut_into_pieces(layout.segments, None), 0.3).transpose(1, 2)
    together = _in_few_calls(q, k, v, layout.segments, None, _Core(0.3, 0.0, None, None))
    torch.testing.assert_close(together, one_by_one)
    weights = torch.randn(one_by_one.shape, dtype=torch.float64, generator=generator)
    expected, found = (
        torch.autograd.grad((x * weights).sum(), (q, k, v)) for x in (one_by_one, together)
    )
    for near, exact in zip(found, expected, strict=True):
        torch.testing.assert_close(near, exact)
